// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The boot path of each pCPU, from its entry to the scheduler.

use super::cpus::{EntryError, check_entry};
use super::vms_up;
use crate::console::output::{self, MachineRegisters, MachineUart};
use crate::exit;
use crate::fatal::fail;
use crate::platform::{self, WALL_CLOCK, machine};
use crate::vm::{pcpu, seed_state};
use aarch64_cpu::registers::{MIDR_EL1, MPIDR_EL1};
use alloc::boxed::Box;
use core::fmt::Write;
use core::sync::atomic::{AtomicUsize, Ordering};
use mediator::addr::Pa;
use postern_arch::gicv3::wait_until;
use postern_arch::{
    self as arch, gic, guest_ram, heap, id_registers, mmu, percpu, psci, smmu, vcpu_context,
    vectors,
};
use postern_base::gic::GicVersion;
use postern_base::ids::PcpuIndex;
use postern_base::range::PaRange;
use postern_boot_tree::seed::{self, BootSeed};
use postern_boot_tree::{
    AssignedDevice, BLOCK_SIZE, BootError, BootPlacement, Conduit, MAX_PARTIAL_TREE, MAX_TREE,
    Machine, Mpidr, VmConfigs, early_psci, early_uart, heap_bytes, total_size,
};
use postern_console::log::Level;
use postern_console::uart::Uart;
use postern_exceptions::decode::SysReg;
use postern_exceptions::registers::features::CpuFeatures;
use tock_registers::interfaces::Readable;

/// The most seconds that a pCPU may take to come up after CPU_ON.
const SECONDS_TO_START: u64 = 10;

static PCPUS_UP: AtomicUsize = AtomicUsize::new(0);

/// Starts the machine on the boot pCPU, which is at EL2 on the boot table. `tree` is x0, and
/// `image` is the address of the image.
pub fn primary(tree: u64, image: u64) -> ! {
    vectors::install();
    heap::init();
    arch::timer::set_frequency(arch::timer::counter_frequency());
    let seed = take_seed(tree);
    let bytes = tree_bytes(tree);
    if let Some((base, layout)) = bytes.and_then(early_uart) {
        // SAFETY: the tree says that it is there, and the boot table maps all devices.
        output::init(unsafe { arch::uart::UartRegisters::new(base, layout) });
    }
    output::log(
        Level::Info,
        format_args!(
            "Postern {} at {image:#x}, device tree at {tree:#x}",
            env!("CARGO_PKG_VERSION")
        ),
    );
    let Some(bytes) = bytes else {
        fail(format_args!(
            "x0 ({tree:#x}) does not point to a device tree: boot with the Linux arm64 protocol"
        ));
    };
    match bring_up(tree, bytes) {
        Ok(vms) => {
            seed_state::init(&seed);
            drop(seed);
            vms_up::start_all(vms);
        }
        Err(error) => fail(format_args!("{error}")),
    }
    vectors::enter_scheduler()
}

/// Reads the tree, maps memory, and starts the interrupt controller and all pCPUs.
// Not inlined: what is read is large, and so are the VMs that are made from it, on the same stack.
#[inline(never)]
fn bring_up(
    tree: u64,
    bytes: &'static [u8],
) -> Result<&'static VmConfigs<'static>, BootError<'static>> {
    let image = mmu::image();
    let found = BootPlacement {
        hypervisor: PaRange::between(Pa::new(image.start), Pa::new(image.end)),
        tree: PaRange::between(Pa::new(tree), Pa::new(tree + bytes.len() as u64)),
        boot_cpu: Mpidr::new(MPIDR_EL1.get()),
    };
    let (mut machine, vms) = postern_boot_tree::machine::read(bytes, found, &module_bytes)?;
    let counter = arch::timer::counter_frequency();
    arch::timer::set_frequency(machine.timers.frequency(counter)?);
    let heap_bytes = heap_bytes(&vms);
    let heap = machine
        .free
        .iter()
        .map(|range| range.aligned_inward(BLOCK_SIZE))
        .find(|range| range.bytes() >= heap_bytes)
        .and_then(|range| PaRange::new(range.start(), heap_bytes))
        .ok_or(BootError::NoMemory)?;
    machine.free.remove(heap)?;

    check_interrupts(&machine);
    let assigned = vms.iter().flat_map(|vm| &vm.devices);
    let root_buses = assigned.filter_map(AssignedDevice::root_bus);
    let device = |range: PaRange| (range.start().page(), page_end(range));
    let devices = machine
        .gic
        .el2_ranges()
        .into_iter()
        .chain([machine.uart.registers])
        .chain(machine.rtc)
        .chain(machine.smmus.iter().map(|smmu| smmu.registers))
        .chain(root_buses)
        .map(device);
    let ram = machine.mapped.iter().map(|range| {
        let range = range.aligned_inward(mediator::addr::PAGE_SIZE);
        (range.start(), range.end())
    });
    if let Err(error) = mmu::activate(ram, devices) {
        fail(format_args!("cannot map the machine's memory: {error}"));
    }
    // Until here devices may access all memory, as firmware has left them.
    if let Err((at, error)) = smmu::abort_all(&machine.smmus) {
        fail(format_args!(
            "the SMMU at {at} {error}, so nothing keeps devices from EL2's memory: check the firmware"
        ));
    }
    // SAFETY: this is free RAM according to the tree, was mapped just now, and has no other owner
    // from here on.
    unsafe { heap::add(heap.start().get(), heap.bytes()) };

    smmu::start(&machine.smmus, |at, error| {
        output::log(
            Level::Warn,
            format_args!("the SMMU at {at} {error}: devices behind it access nothing"),
        );
    });
    let mut ram = machine.free.clone();
    for vm in &vms {
        for (_, range) in vm.modules() {
            ram.insert(range)?;
        }
    }
    // SAFETY: this is free RAM according to the tree, without the heap, and the modules, mapped
    // just now. EL2 accesses it by copies alone.
    unsafe { guest_ram::init(ram) };

    let machine = platform::init(machine);
    if let Some(rtc) = machine.rtc {
        // SAFETY: the tree says that a PL031 is there, and it was mapped just now.
        let seconds = unsafe { arch::rtc::seconds(rtc.start()) };
        WALL_CLOCK.set(seconds, arch::timer::now());
    }
    if let Err(error) = gic::init_distributor(&machine.gic) {
        fail(format_args!("{error}"));
    }
    exit::run::own_interrupts();
    this_pcpu_up(machine);
    start_others(machine);
    Ok(Box::leak(Box::new(vms)))
}

/// Checks the INTIDs of EL2's private interrupts. Every machine that follows the Base System
/// Architecture has the same ones, so they are constants here.
fn check_interrupts(machine: &Machine<'_>) {
    let has = |name, found: u32, known: u32| {
        if found != known {
            fail(format_args!(
                "the {name} interrupt is INTID {found}, not {known}: \
                 Postern runs on machines that follow the Arm Base System Architecture"
            ));
        }
    };
    let timers = &machine.timers;
    has(
        "hypervisor timer's",
        timers.hypervisor.get(),
        arch::timer::HYPERVISOR_TIMER_INTID,
    );
    has(
        "virtual timer's",
        timers.virtual_timer.get(),
        arch::timer::VIRTUAL_TIMER_INTID,
    );
    if let Some(maintenance) = machine.gic.maintenance {
        has("GIC maintenance", maintenance.get(), gic::MAINTENANCE_INTID);
    }
}

fn page_end(range: PaRange) -> Pa {
    let last = range
        .end()
        .get()
        .next_multiple_of(mediator::addr::PAGE_SIZE);
    Pa::new(last)
}

fn start_others(machine: &Machine<'_>) {
    let pcpus = (0..).filter_map(PcpuIndex::new);
    for (pcpu, cpu) in pcpus.zip(machine.cpus.list()).skip(1) {
        let index = pcpu.get();
        let before = PCPUS_UP.load(Ordering::Acquire);
        match psci::start_pcpu(cpu.mpidr, pcpu) {
            // One pCPU at a time: the work of each is short, and the log stays readable.
            Ok(()) => {
                let is_up = || PCPUS_UP.load(Ordering::Acquire) != before;
                let patience = arch::timer::second() * SECONDS_TO_START;
                if !wait_until(arch::timer::now, patience, is_up) {
                    fail(format_args!(
                        "CPU {index} (MPIDR {:#x}) was turned on and has not come up after \
                         {SECONDS_TO_START} s: check the firmware",
                        cpu.mpidr.get()
                    ));
                }
            }
            Err(code) => fail(format_args!(
                "PSCI CPU_ON of CPU {index} (MPIDR {:#x}) failed with {code}: check the firmware",
                cpu.mpidr.get()
            )),
        }
    }
    output::log(
        Level::Info,
        format_args!(
            "{} CPUs, {}, {} MiB free for guests",
            machine.cpus.list().len(),
            match machine.gic.version() {
                GicVersion::V2 => "GICv2",
                GicVersion::V3 => "GICv3",
            },
            machine.free.bytes_in_units(BLOCK_SIZE) >> 20
        ),
    );
    if machine.cpus.ignored > 0 {
        output::log(
            Level::Warn,
            format_args!("{} more CPUs stay off", machine.cpus.ignored),
        );
    }
}

/// Starts another pCPU, which is at EL2 on the final table.
pub fn secondary() -> ! {
    mmu::set_write_implies_execute_never();
    vectors::install();
    this_pcpu_up(machine());
    vectors::enter_scheduler()
}

fn this_pcpu_up(machine: &Machine<'_>) {
    let index = percpu::index();
    let mpidr = machine.cpus.list()[index].mpidr;
    if let Err(error) = gic::init_pcpu(&machine.gic, mpidr, machine.cpus.list().len()) {
        fail(format_args!(
            "CPU {index} (MPIDR {:#x}): {error}",
            mpidr.get()
        ));
    }
    // The pCPU's kind is the boot pCPU's concern, but firmware may start one of another kind.
    let mmfr4 = id_registers::read(SysReg::new(3, 0, 0, 7, 4));
    if let Err(error) = check_entry(2 << 2, mmfr4) {
        fail(format_args!("CPU {index}: {error}"));
    }
    let features = CpuFeatures::new(id_registers::read);
    let lengths = vcpu_context::init_traps(features);
    let model = &platform::PCPU_MODELS[index];
    model.midr.store(MIDR_EL1.get(), Ordering::Relaxed);
    model.sve.store(lengths.to_bits(), Ordering::Relaxed);
    pcpu::init(features);
    #[cfg(debug_assertions)]
    postern_base::lock::check_order_by(|| Some(percpu::id()));
    PCPUS_UP.fetch_add(1, Ordering::Release);
}

/// Returns the bytes of the tree at `address`, if the header is valid.
fn tree_bytes(address: u64) -> Option<&'static [u8]> {
    if address == 0 || !address.is_multiple_of(8) {
        return None;
    }
    // SAFETY: the boot protocol says that a tree is at x0; all of memory is readable through the
    // boot table (or the MMU is off), and nothing writes the tree any more.
    let header = unsafe { core::slice::from_raw_parts(address as *const u8, 40) };
    let size = total_size(header).filter(|size| *size <= MAX_TREE)?;
    // SAFETY: as above, now with the length that the header gives.
    Some(unsafe { core::slice::from_raw_parts(address as *const u8, size) })
}

/// Returns the bytes of a module, which is in RAM that nobody else has, as far as a partial tree may reach; `None` if EL2
/// does not reach it.
fn module_bytes(range: PaRange) -> Option<&'static [u8]> {
    let (start, bytes) = (range.start().get(), range.bytes());
    let bytes = bytes.min(MAX_PARTIAL_TREE as u64);
    (range.end().get() <= mmu::ADDRESS_LIMIT).then(|| {
        // EFI firmware has written it through its caches, and the boot table does not map all of it as cacheable.
        mmu::clean_to_memory(start, bytes);
        // SAFETY: all RAM in the limit is readable through the boot table, and this through the final one, too; both see
        // what is in memory now. The tree says that the boot loader has filled it, and nothing writes it any more: it is
        // neither heap nor in `guest_ram`.
        unsafe { core::slice::from_raw_parts(start as *const u8, bytes as usize) }
    })
}

/// Removes the boot loader's random bytes from the tree and returns them. Called once, before any
/// reference to the tree exists.
fn take_seed(tree: u64) -> BootSeed {
    // The slice is not used after this.
    let (seed, places) = tree_bytes(tree).map(seed::find).unwrap_or_default();
    for place in places {
        for at in place.clone() {
            // SAFETY: the byte is within the tree, where `find` saw it; the boot protocol gives
            // Postern the tree, and no reference to it exists yet.
            unsafe { core::ptr::write_volatile((tree + at as u64) as *mut u8, 0) };
        }
        mmu::clean_to_memory(tree + place.start as u64, place.len() as u64);
    }
    seed
}

/// Checks that EL2 can run on the boot pCPU, by CurrentEL and ID_AA64MMFR4_EL1. The MMU is off: no
/// atomics, no heap, no log.
pub fn check(tree: u64, current_el: u64, mmfr4: u64) {
    if let Err(error) = check_entry(current_el, mmfr4) {
        refuse(tree, error);
    }
}

/// Reports why EL2 cannot run, and powers off. The MMU is off.
fn refuse(tree: u64, error: EntryError) -> ! {
    let bytes = tree_bytes(tree);
    if let Some((base, layout)) = bytes.and_then(early_uart) {
        // SAFETY: the tree says that it is there; the MMU is off.
        let registers = unsafe { arch::uart::UartRegisters::new(base, layout) };
        let mut uart = Raw(Uart::new(MachineRegisters(registers)));
        let _ = write!(
            uart,
            "postern: {error}\r\n@postern {{\"event\":\"boot-error\",\"text\":\"{error}\"}}\r\n"
        );
    }
    let below = matches!(error, EntryError::Level(_));
    psci::off_from_boot_check(below && bytes.and_then(early_psci) == Some(Conduit::Hvc))
}

/// A writer to a UART without a lock.
struct Raw(MachineUart);

impl Write for Raw {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.bytes().for_each(|byte| {
            let _ = self.0.send_within(byte, output::LOOKS);
        });
        Ok(())
    }
}
