// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of VMs that start and end on a fake machine, whose OP-TEE destroys them or does not.

use super::*;
use crate::vm::frames::Frames;
use crate::vm::guest_memory::GuestMemory;
use crate::vm::lifecycle::{EndReason, Lifecycle, LifecycleRequest, Phase};
use mediator::addr::{Ipa, Pa};
use mediator::fake::{FakeHost, Guest, Machine};
use mediator::{ClientId, Config, CreateError, Mediator, probe};
use optee_proto::smc;
use postern_base::gic::GicVersion;
use postern_base::ids::VcpuIndex;
use postern_base::mmio::{Access, AccessSize};
use postern_base::range::PaRange;
use postern_boot_tree::BLOCK_SIZE;
use postern_devices::pl011::{Pl011, TxSink};
use postern_guest_tree::layout;
use postern_vgic::{IntId, IrqLine, MmioOutcome, Vgic, Window};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::rc::Rc;

/// The start of the machine's RAM.
const START: u64 = 0x8000_0000;
/// The RAM of each VM, in bytes.
const BYTES: u64 = 4 * BLOCK_SIZE;
/// The result of an OP-TEE that does not destroy a VM.
const BUSY: u64 = 0x4;

/// The RAM that the VMs share.
struct Ram {
    frames: Frames,
    /// The pieces that may hold data of some VM.
    secrets: BTreeSet<u64>,
}

impl Ram {
    /// Returns RAM for `vms` VMs, which holds firmware's data everywhere.
    fn new(vms: u64) -> Rc<RefCell<Self>> {
        let mut memory = postern_boot_tree::Memory::new();
        let all = PaRange::new(Pa::new(START), vms * BYTES).unwrap();
        memory.insert(all).unwrap();
        Rc::new(RefCell::new(Self {
            frames: Frames::new(&memory).unwrap(),
            secrets: (START..START + vms * BYTES)
                .step_by(PIECE_BYTES as usize)
                .collect(),
        }))
    }
}

struct Vm {
    memory: GuestMemory,
    lifecycle: RefCell<Lifecycle>,
    mediator: Mediator,
    host: FakeHost,
    ram: Rc<RefCell<Ram>>,
    work: RefCell<VmWork<u64>>,
    ended: RefCell<Vec<EndReason>>,
    /// The number of steps until all tables are freed.
    tables: Cell<u32>,
    said: RefCell<Vec<DestroyError>>,
    /// The errors of creating the VM in OP-TEE.
    cannot: RefCell<Vec<CreateError>>,
    can_load: bool,
    vgic: Vgic,
    uart: RefCell<Pl011>,
    /// Whether the console has room to report the VM's start and end.
    has_room: Cell<bool>,
    /// Whether the VM's devices access its memory.
    dma: Cell<bool>,
    /// How many PCI hosts the VM has.
    hosts: Cell<usize>,
    /// Whether they were reset.
    functions_reset: Cell<bool>,
    /// The steps of their reset that were done.
    resets: Cell<u32>,
    /// The time, and the ticks of a millisecond.
    time: Cell<u64>,
    millisecond: Cell<u64>,
    /// Whether the SMMU fails.
    smmu_fails: Cell<bool>,
}

/// The INTID of the guest's UART.
const UART: IntId = IntId::new(33).unwrap();

/// A sink that drops all output.
struct Nowhere;

impl TxSink for Nowhere {
    fn send(&mut self, _: u8) -> bool {
        true
    }
}

impl Vm {
    fn new(machine: &Machine, client: u16, ram: &Rc<RefCell<Ram>>) -> Self {
        let host = machine.add_vm(client, 16);
        let tee = probe(&host).unwrap();
        let client = ClientId::new(NonZeroU16::new(client).unwrap());
        Self {
            memory: GuestMemory::for_bytes(layout::RAM, BYTES).unwrap(),
            lifecycle: RefCell::new(Lifecycle::new()),
            mediator: Mediator::new(client, Config::default(), tee),
            host,
            ram: Rc::clone(ram),
            work: RefCell::new(VmWork::Nothing),
            ended: RefCell::new(Vec::new()),
            tables: Cell::new(0),
            said: RefCell::new(Vec::new()),
            cannot: RefCell::new(Vec::new()),
            can_load: true,
            vgic: Vgic::new(1, GicVersion::V3),
            uart: RefCell::new(Pl011::new()),
            has_room: Cell::new(true),
            dma: Cell::new(false),
            hosts: Cell::new(0),
            functions_reset: Cell::new(false),
            resets: Cell::new(0),
            time: Cell::new(0),
            millisecond: Cell::new(0),
            smmu_fails: Cell::new(false),
        }
    }

    fn drive(&self, level: bool) {
        // No vCPU runs, so none is kicked.
        let _ = self.vgic.set_line(IrqLine::spi(UART).unwrap(), level);
    }

    /// Simulates a user's input.
    fn input(&self) {
        let mut uart = self.uart.borrow_mut();
        let _ = uart.receive(b'x');
        self.drive(uart.irq_line());
    }

    /// Enables the UART's interrupts for input, as a guest does.
    fn listen(&self) {
        let mut uart = self.uart.borrow_mut();
        for (register, value) in [(0x2c, 0x70), (0x38, 0x50)] {
            let write = Access::write(register, AccessSize::Word, value);
            uart.access(write, &mut Nowhere);
        }
        self.drive(uart.irq_line());
    }

    /// Returns whether the UART's interrupt is pending for the guest: GICD_ISPENDR1.
    fn is_pending(&self) -> bool {
        let read = Access::read(0x204, AccessSize::Word);
        match self
            .vgic
            .access(VcpuIndex::BOOT, Window::Distributor, &read)
        {
            MmioOutcome::Done { value, .. } => value & 1 << (33 - 32) != 0,
            MmioOutcome::Retry { .. } => panic!("no vCPU runs"),
        }
    }

    fn phase(&self) -> Phase {
        self.lifecycle.borrow().phase()
    }

    fn order(&self, order: LifecycleRequest) {
        let action = self.lifecycle.borrow_mut().request(order).unwrap();
        self.carry_out(action);
    }

    /// Does all pieces of work. Returns their number.
    fn settle(&self) -> u32 {
        let mut steps = 0;
        while *self.work.borrow() != VmWork::Nothing {
            let mut work = self.work.replace(VmWork::Nothing);
            assert!(step(self, &mut work));
            // A request that came meanwhile takes precedence.
            if *self.work.borrow() == VmWork::Nothing {
                *self.work.borrow_mut() = work;
            }
            steps += 1;
        }
        steps
    }

    fn start(&self) {
        self.order(LifecycleRequest::Start);
        self.settle();
    }

    fn kill(&self) {
        self.order(LifecycleRequest::Kill);
        self.settle();
    }

    /// Returns the physical pieces of the VM's memory.
    fn pieces(&self) -> Vec<u64> {
        let mut pieces = Vec::new();
        let mut offset = 0;
        while let Some((range, at)) = self.memory.piece(offset, PIECE_BYTES) {
            assert_eq!(range.start.get(), layout::RAM.get() + offset);
            assert_eq!(range.bytes, PIECE_BYTES);
            pieces.push(at.get());
            offset += range.bytes;
        }
        pieces
    }

    fn ranges(&self) -> Vec<PaRange> {
        let mappings = self.memory.mappings();
        mappings
            .map(|(range, at)| PaRange::new(at, range.bytes).unwrap())
            .collect()
    }
}

/// A root bus without functions.
struct NoFunctions;

impl pci_reset::ConfigSpace for NoFunctions {
    fn read(&self, _: pci_reset::Function, _: u16) -> u32 {
        u32::MAX
    }

    fn write(&mut self, _: pci_reset::Function, _: u16, _: u32) {
        panic!("no function is there");
    }
}

impl VmWorkOps for Vm {
    type Loader = u64;

    fn now(&self) -> Ticks {
        Ticks::new(self.time.get())
    }

    fn ticks(&self, milliseconds: u32) -> Ticks {
        Ticks::new(u64::from(milliseconds) * self.millisecond.get())
    }

    fn may_start(&self) -> bool {
        self.has_room.get()
    }

    fn take_memory(&self) -> Result<(), CannotStart> {
        if self.memory.bytes() == 0 {
            let chunks = self.ram.borrow_mut().frames.allocate(BYTES, layout::RAM);
            let chunks = chunks.map_err(|_| CannotStart)?;
            self.memory.assign(&chunks).unwrap();
        }
        Ok(())
    }

    fn map(&self, offset: u64) -> Result<Option<u64>, CannotStart> {
        self.tables.set(3);
        let piece = self.memory.piece(offset, 1 << 30);
        Ok(piece.map(|(range, _)| offset + range.bytes))
    }

    fn create_tee(&self) -> Result<bool, CannotStart> {
        let progress = self.mediator.create_step(&self.host);
        progress
            .map(|progress| progress == Progress::Done)
            .map_err(|why| {
                self.cannot.borrow_mut().push(why);
                CannotStart
            })
    }

    fn is_clear(&self) -> bool {
        let ram = self.ram.borrow();
        self.ranges()
            .into_iter()
            .all(|range| ram.frames.is_clear(range))
    }

    fn clear(&self, offset: u64) -> Option<u64> {
        assert!(!self.dma.get(), "devices write what is to be clear");
        let (range, at) = self.memory.piece(offset, PIECE_BYTES)?;
        self.ram.borrow_mut().secrets.remove(&at.get());
        self.memory.restore(range);
        Some(offset + range.bytes)
    }

    fn mark_clear(&self) {
        let mut ram = self.ram.borrow_mut();
        self.ranges()
            .into_iter()
            .for_each(|range| ram.frames.mark_clear(range));
    }

    fn attach_dma(&self) -> Result<(), CannotStart> {
        assert_eq!(self.tables.get(), 3, "mapped");
        assert!(!self.functions_are_unknown(), "firmware's devices go on");
        // An SMMU that fails may do what it was told, or not.
        self.dma.set(true);
        (!self.smmu_fails.get()).then_some(()).ok_or(CannotStart)
    }

    fn detach_dma(&self) -> Result<(), DmaNotStopped> {
        if self.smmu_fails.get() {
            return Err(DmaNotStopped);
        }
        self.dma.set(false);
        Ok(())
    }

    fn functions_are_unknown(&self) -> bool {
        self.hosts.get() > 0 && !self.functions_reset.get()
    }

    fn mark_functions_reset(&self) {
        self.functions_reset.set(true);
    }

    fn reset_functions(&self, host: usize, at: Position) -> Option<pci_reset::Progress> {
        assert!(!self.dma.get(), "a reset comes after the streams abort");
        if host >= self.hosts.get() {
            return None;
        }
        self.resets.set(self.resets.get() + 1);
        Some(pci_reset::step(&mut NoFunctions, at))
    }

    fn begin_load(&self) -> u64 {
        // The guarantee under test: no data of another VM is left.
        let pieces = self.pieces();
        assert_eq!(pieces.len() as u64, BYTES / PIECE_BYTES);
        let mut ram = self.ram.borrow_mut();
        assert!(pieces.iter().all(|piece| !ram.secrets.contains(piece)));
        self.ranges()
            .into_iter()
            .for_each(|range| ram.frames.mark_dirty(range));
        0
    }

    fn load(&self, loader: u64) -> Result<Loaded<u64>, CannotStart> {
        // The image and the guest write everywhere.
        self.ram.borrow_mut().secrets.extend(self.pieces());
        assert!(!self.dma.get(), "devices write what is loaded");
        if loader < 3 {
            return Ok(Loaded::Some(loader + 1));
        }
        if !self.can_load {
            return Err(CannotStart);
        }
        Ok(Loaded::All(loader))
    }

    fn run(&self, _: u64) -> Result<(), CannotStart> {
        assert!(self.dma.get(), "devices have no access");
        let action = self.transition(LifecycleEvent::Loaded);
        self.carry_out(action);
        Ok(())
    }

    fn destroy_tee(&self) -> Result<Progress, DestroyError> {
        assert!(!self.dma.get(), "a VM that fails goes on to access memory");
        self.mediator.destroy_step(&self.host)
    }

    fn reset_devices(&self) {
        self.input();
        *self.uart.borrow_mut() = Pl011::new();
    }

    fn reset_interrupts(&self) {
        self.input();
        self.vgic.reset();
    }

    fn keep_memory(&self, why: DestroyError) {
        self.said.borrow_mut().push(why);
    }

    fn unmap(&self) -> bool {
        assert!(!self.dma.get(), "devices use tables that are freed");
        self.tables.set(self.tables.get().saturating_sub(1));
        self.tables.get() > 0
    }

    fn transition(&self, event: LifecycleEvent) -> LifecycleAction {
        self.lifecycle.borrow_mut().handle(event)
    }

    fn carry_out(&self, action: LifecycleAction) {
        match action {
            LifecycleAction::Start => *self.work.borrow_mut() = VmWork::Prepare,
            LifecycleAction::StopVcpus => {
                let action = self.transition(LifecycleEvent::VcpusStopped);
                self.carry_out(action);
            }
            LifecycleAction::TearDown => *self.work.borrow_mut() = VmWork::DetachDma,
            LifecycleAction::Ended(ending) => self.ended.borrow_mut().push(ending),
            LifecycleAction::Again(ending) => {
                self.ended.borrow_mut().push(ending);
                *self.work.borrow_mut() = VmWork::Prepare;
            }
            LifecycleAction::Nothing
            | LifecycleAction::Run
            | LifecycleAction::PressButton
            | LifecycleAction::Pause
            | LifecycleAction::Resume => {}
        }
    }

    fn release_memory(&self) {
        let chunks = self.memory.release().expect("nothing is pinned");
        for chunk in &chunks {
            self.ram.borrow_mut().frames.free(*chunk).unwrap();
        }
    }
}

/// Checks that a VM that OP-TEE does not destroy, pinned or not, keeps its resources: no other VM
/// gets them, not even overwritten.
#[test]
fn a_vm_that_optee_does_not_destroy_keeps_its_resources() {
    for pins in [0, 3] {
        let machine = Machine::new();
        let ram = Ram::new(2);
        let [a, b, c] = [1, 2, 3].map(|client| Vm::new(&machine, client, &ram));
        a.start();
        let guest = Guest::new(&a.host, &a.mediator);
        if pins > 0 {
            assert_eq!(guest.register(pins).1, 0);
        }
        let had = a.pieces();
        let shared = machine.shared_pages();
        machine.answer_next(smc::VM_DESTROYED, [BUSY, 0, 0, 0]);
        a.kill();
        assert_eq!(a.phase(), Phase::Failed);
        assert_eq!(*a.ended.borrow(), [EndReason::Error]);
        assert_eq!(*a.said.borrow(), [DestroyError::Refused(BUSY as u32)]);
        // The VM keeps its memory, its tables, and the pages that OP-TEE may use for its calls.
        assert_eq!(a.pieces(), had);
        assert_eq!(a.tables.get(), 3);
        assert_eq!(machine.pins(), pins);
        assert_eq!(machine.shared_pages(), shared);
        assert_eq!(ram.borrow().frames.free_bytes(), BYTES);

        b.start();
        assert_eq!(b.phase(), Phase::Running);
        assert!(b.pieces().iter().all(|piece| !had.contains(piece)));
        c.start();
        assert_eq!(c.phase(), Phase::Off, "there is no memory left");
        assert_eq!(*c.ended.borrow(), [EndReason::Error]);
        assert_eq!(machine.violations(), [""; 0]);
    }
}

/// Checks that a VM's data is overwritten before another VM gets the memory: after its end, after a
/// failed start, and in pages that the guest gave back itself.
#[test]
fn returned_memory_is_overwritten() {
    let machine = Machine::new();
    let ram = Ram::new(1);
    let mut a = Vm::new(&machine, 1, &ram);
    let b = Vm::new(&machine, 2, &ram);
    a.start();
    let page = postern_base::range::IpaRange {
        start: Ipa::new(layout::RAM.get() + 0x5000),
        bytes: 0x1000,
    };
    a.memory.withdraw(page).unwrap();
    a.kill();
    assert_eq!(a.phase(), Phase::Off);
    assert_eq!(ram.borrow().secrets, BTreeSet::new());
    b.start();
    assert_eq!(b.phase(), Phase::Running);
    b.kill();

    a.can_load = false;
    a.start();
    assert_eq!(*a.ended.borrow(), [EndReason::Killed, EndReason::Error]);
    b.start();
    assert_eq!(b.phase(), Phase::Running);
    // A reset keeps the memory.
    let had = b.pieces();
    b.order(LifecycleRequest::Reset);
    a.can_load = true;
    b.settle();
    assert_eq!((b.phase(), b.pieces()), (Phase::Running, had));
    assert_eq!(ram.borrow().frames.free_bytes(), 0);
}

/// Checks that a VM clears RAM that was released without being overwritten: RAM that a guest can
/// have written to never counts as clear.
#[test]
fn memory_returned_dirty_is_cleared_by_the_next_start() {
    let machine = Machine::new();
    let ram = Ram::new(1);
    let [a, b] = [1, 2].map(|client| Vm::new(&machine, client, &ram));
    a.start();
    a.release_memory();
    assert!(!ram.borrow().secrets.is_empty());
    // `begin_load` checks the content.
    b.start();
    assert_eq!(b.phase(), Phase::Running);
}

mod dma;
mod restarts;
mod starts;
