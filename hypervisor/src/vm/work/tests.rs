// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VMs that start and end on a made-up machine, whose OP-TEE lets go of them or does not.

use super::*;
use crate::vm::frames::Frames;
use crate::vm::guest_memory::GuestMemory;
use crate::vm::lifecycle::{EndReason, Lifecycle, LifecycleRequest, Phase};
use mediator::addr::{Ipa, Pa};
use mediator::fake::{FakeHost, Guest, Machine};
use mediator::{ClientId, Config, CreateError, Mediator, probe};
use optee_proto::smc;
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

/// RAM at the bottom of the machine.
const START: u64 = 0x8000_0000;
/// What each VM has.
const BYTES: u64 = 4 * BLOCK_SIZE;
/// What an OP-TEE says that does not let go.
const BUSY: u64 = 0x4;

/// What VMs share.
struct Ram {
    frames: Frames,
    /// Pieces that hold what some VM has written.
    secrets: BTreeSet<u64>,
}

impl Ram {
    /// Room for `vms` VMs, with what firmware has left everywhere.
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
    /// Steps until all tables are given back.
    tables: Cell<u32>,
    said: RefCell<Vec<DestroyError>>,
    /// Why it got no TEE.
    cannot: RefCell<Vec<CreateError>>,
    can_load: bool,
    vgic: Vgic,
    uart: RefCell<Pl011>,
    /// Whether the UART has room for what the VM's start and end are told with.
    has_room: Cell<bool>,
}

/// What the guest's UART interrupts by.
const UART: IntId = IntId::new(33).unwrap();

/// Nobody listens.
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
            memory: GuestMemory::for_bytes(BYTES).unwrap(),
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
            vgic: Vgic::new(1),
            uart: RefCell::new(Pl011::new()),
            has_room: Cell::new(true),
        }
    }

    fn drive(&self, level: bool) {
        // Nobody runs.
        let _ = self.vgic.set_line(IrqLine::spi(UART).unwrap(), level);
    }

    /// A user types something.
    fn input(&self) {
        let mut uart = self.uart.borrow_mut();
        let _ = uart.receive(b'x');
        self.drive(uart.irq_line());
    }

    /// The guest has its UART interrupt for what is typed.
    fn listen(&self) {
        let mut uart = self.uart.borrow_mut();
        for (register, value) in [(0x2c, 0x70), (0x38, 0x50)] {
            let write = Access::write(register, AccessSize::Word, value);
            uart.access(write, &mut Nowhere);
        }
        self.drive(uart.irq_line());
    }

    /// Whether the guest finds its UART's interrupt pending: GICD_ISPENDR1.
    fn is_pending(&self) -> bool {
        let read = Access::read(0x204, AccessSize::Word);
        match self
            .vgic
            .access(VcpuIndex::BOOT, Window::Distributor, &read)
        {
            MmioOutcome::Done { value, .. } => value & 1 << (33 - 32) != 0,
            MmioOutcome::Retry { .. } => panic!("nobody runs"),
        }
    }

    fn phase(&self) -> Phase {
        self.lifecycle.borrow().phase()
    }

    fn order(&self, order: LifecycleRequest) {
        let action = self.lifecycle.borrow_mut().request(order).unwrap();
        self.carry_out(action);
    }

    /// Does all that is to be done. How many pieces that were.
    fn settle(&self) -> u32 {
        let mut steps = 0;
        while *self.work.borrow() != VmWork::Nothing {
            let mut work = self.work.replace(VmWork::Nothing);
            assert!(step(self, &mut work));
            // An order that came meanwhile counts more.
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

    /// Physical pieces of its memory.
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

impl VmWorkOps for Vm {
    type Loader = u64;

    fn now(&self) -> Ticks {
        Ticks::ZERO
    }

    fn ticks(&self, _: u32) -> Ticks {
        Ticks::ZERO
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

    fn begin_load(&self) -> u64 {
        // The promise: whatever another VM had there is gone.
        let pieces = self.pieces();
        assert_eq!(pieces.len() as u64, BYTES / PIECE_BYTES);
        let mut ram = self.ram.borrow_mut();
        assert!(pieces.iter().all(|piece| !ram.secrets.contains(piece)));
        self.ranges()
            .into_iter()
            .for_each(|range| ram.frames.mark_dirty(range));
        0
    }

    fn load(&self, loader: u64) -> Result<Option<u64>, CannotStart> {
        // Image and guest write everywhere.
        self.ram.borrow_mut().secrets.extend(self.pieces());
        if loader < 3 {
            return Ok(Some(loader + 1));
        }
        if !self.can_load {
            return Err(CannotStart);
        }
        let action = self.transition(LifecycleEvent::Loaded);
        self.carry_out(action);
        Ok(None)
    }

    fn destroy_tee(&self) -> Result<Progress, DestroyError> {
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
            LifecycleAction::TearDown => *self.work.borrow_mut() = VmWork::DestroyTee,
            LifecycleAction::Ended(ending) => self.ended.borrow_mut().push(ending),
            LifecycleAction::Again => {
                self.ended.borrow_mut().push(EndReason::Reset);
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

/// A VM that OP-TEE does not let go of, pinned or not, keeps what it had: nobody else gets it, not even overwritten.
#[test]
fn what_optee_does_not_let_go_of_is_nobody_elses() {
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
        // Neither its memory, nor its tables, nor what OP-TEE may use for its calls.
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

/// What a VM had in its memory is gone before another can have it: after its end, after a start that did not come
/// about, and what it had given back itself.
#[test]
fn what_is_given_back_is_overwritten() {
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

/// Whoever were to give back what is not overwritten, the next VM would clear it: what is zero is known, and what a
/// guest can have written to is not taken for that.
#[test]
fn what_comes_back_as_it_was_is_cleared_by_the_next() {
    let machine = Machine::new();
    let ram = Ram::new(1);
    let [a, b] = [1, 2].map(|client| Vm::new(&machine, client, &ram));
    a.start();
    a.release_memory();
    assert!(!ram.borrow().secrets.is_empty());
    // `begin_load` looks at it.
    b.start();
    assert_eq!(b.phase(), Phase::Running);
}

/// A piece is a piece: nothing is done to all of a VM's memory at once.
#[test]
fn the_end_takes_a_step_for_each_piece() {
    let machine = Machine::new();
    let ram = Ram::new(1);
    let a = Vm::new(&machine, 1, &ram);
    a.order(LifecycleRequest::Start);
    let pieces = (BYTES / PIECE_BYTES) as u32;
    assert!(a.settle() > pieces);
    a.order(LifecycleRequest::Kill);
    assert!(a.settle() > pieces + 3);
}

/// Does one piece. How often OP-TEE was entered for it.
fn piece(vm: &Vm, machine: &Machine) -> usize {
    let before = machine.smcs().len();
    let mut work = vm.work.replace(VmWork::Nothing);
    assert!(step(vm, &mut work));
    if *vm.work.borrow() == VmWork::Nothing {
        vm.work.replace(work);
    }
    machine.smcs().len() - before
}

/// OP-TEE is interrupted again and again while it makes a VM's tables. Each time the start gives way, so that the
/// guest runs whose pCPU does it.
#[test]
fn a_start_gives_way_whenever_optee_is_interrupted() {
    let machine = Machine::new();
    let ram = Ram::new(2);
    let [a, b] = [1, 2].map(|client| Vm::new(&machine, client, &ram));
    b.start();
    machine.interrupt_tables(700);
    let neighbour = Guest::new(&b.host, &b.mediator);
    a.order(LifecycleRequest::Start);
    let mut all = 0;
    while a.phase() == Phase::Starting {
        let entries = piece(&a, &machine);
        assert!(entries <= 1, "{entries} entries in one piece");
        all += entries;
        let uid = neighbour.smc([smc::CALLS_UID.get().into(), 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(uid[0], u64::from(optee_proto::uuid::API_UID[0]));
    }
    assert_eq!(a.phase(), Phase::Running);
    assert!(all > 2 * 700, "{all} entries");
    a.kill();
    b.kill();
    assert_eq!(machine.violations(), [""; 0]);
    assert_eq!(machine.shared_pages(), 0);
}

/// Such a start ends, too, where OP-TEE does not come to an end: with an error that says so, and nothing is left.
#[test]
fn a_start_in_which_optee_hangs_fails() {
    let machine = Machine::new();
    let ram = Ram::new(1);
    let a = Vm::new(&machine, 1, &ram);
    machine.interrupt_tables(10_000);
    a.order(LifecycleRequest::Start);
    let mut all = 0;
    while a.phase() == Phase::Starting {
        all += piece(&a, &machine);
    }
    assert!(all < 5000, "{all} entries");
    a.settle();
    assert_eq!(a.phase(), Phase::Off);
    let said = a.cannot.take();
    assert!(
        matches!(said[..], [CreateError::TablesUnfinished(_)]),
        "{said:?}"
    );
    assert!(said[0].to_string().contains("hangs"));
    assert!(!machine.knows(1));
    assert_eq!(machine.shared_pages(), 0);
    assert_eq!(ram.borrow().frames.free_bytes(), BYTES);
    assert_eq!(machine.violations(), [""; 0]);

    machine.interrupt_tables(0);
    a.start();
    assert_eq!(a.phase(), Phase::Running);
}

/// A VM is killed at each point of its start. OP-TEE ends what it was at before it forgets the VM.
#[test]
fn a_start_can_be_broken_off_anywhere() {
    let machine = Machine::new();
    let ram = Ram::new(1);
    let a = Vm::new(&machine, 1, &ram);
    machine.interrupt_tables(3);
    let mut pieces = 0;
    loop {
        a.order(LifecycleRequest::Start);
        for _ in 0..pieces {
            piece(&a, &machine);
        }
        let ran = a.phase() == Phase::Running;
        let before = machine.smcs().len();
        a.kill();
        assert_eq!(a.phase(), Phase::Off);
        assert!(!machine.knows(1));
        assert_eq!(machine.shared_pages(), 0);
        assert_eq!(machine.violations(), [""; 0]);
        // What is under way has three interrupts at most to go on after. Then OP-TEE is told.
        assert!(machine.smcs().len() - before <= 3 + 1);
        if ran {
            break;
        }
        pieces += 1;
    }
    assert!(pieces > 2 * 4, "{pieces} pieces");
}

/// OP-TEE neither makes the tables nor forgets the VM: the start fails, the VM keeps what it had, and is not created
/// once more.
#[test]
fn a_start_that_optee_does_not_let_go_of_is_not_tried_again() {
    let machine = Machine::new();
    let ram = Ram::new(1);
    let a = Vm::new(&machine, 1, &ram);
    machine.answer_next(smc::CALL_WITH_ARG, [0x6, 0, 0, 0]);
    machine.answer_next(smc::VM_DESTROYED, [BUSY, 0, 0, 0]);
    machine.answer_next(smc::VM_DESTROYED, [BUSY, 0, 0, 0]);
    a.start();
    assert_eq!(a.phase(), Phase::Failed);
    assert_eq!(*a.said.borrow(), [DestroyError::Refused(BUSY as u32)]);
    assert!(machine.shared_pages() > 3);
    assert_eq!(ram.borrow().frames.free_bytes(), 0);
    let created = u64::from(smc::VM_CREATED.get());
    let calls = machine.smcs().into_iter().map(|args| args[0]);
    assert_eq!(calls.filter(|&id| id == created).count(), 1);
    assert_eq!(machine.violations(), [""; 0]);
}

mod restarts;
