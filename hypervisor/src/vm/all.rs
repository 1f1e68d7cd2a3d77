//! All virtual machines, and what they share.

use super::instance::{Ending, Parts, Running, Vm, wants_tee};
use super::layout;
use crate::arch::{id_registers, power, smc};
use crate::boot::start::{fail, machine};
use crate::boot::{BootError, VmConfig, VmConfigs};
use crate::console::output;
use crate::ids::{PcpuIndex, VcpuId, VmIndex};
use crate::services::smccc::{self, Workaround, Workarounds};
use crate::services::tee::VmHost;
use crate::trap::ids::IdValues;
use crate::vm::frames::SharedPool;
use crate::vm::memory::Memory;
use crate::vm::stage2;
use alloc::vec::Vec;
use core::num::NonZeroU16;
use mediator::addr::Pa;
use mediator::{ClientId, Config, Mediator, TeeInfo};
use spin::Once;
use spin::mutex::SpinMutex;

static VMS: Once<Vec<Vm>> = Once::new();
static IDS: Once<IdValues> = Once::new();
static WORKAROUNDS: Once<Workarounds> = Once::new();

/// Pages that the mediators share with OP-TEE.
pub static SHARED_PAGES: Once<SpinMutex<SharedPool>> = Once::new();

/// All VMs; none before [`start_all`].
pub fn all() -> &'static [Vm] {
    VMS.get().map_or(&[], Vec::as_slice)
}

/// A vCPU by its number.
pub fn by_id(id: VcpuId) -> Running {
    let vm = &all()[id.vm.get()];
    Running {
        vm,
        vcpu: &vm.vcpus[id.vcpu.get()],
    }
}

/// The affinity of a pCPU.
pub fn mpidr_of(pcpu: PcpuIndex) -> u64 {
    machine().cpus.list()[pcpu.get()].mpidr.get()
}

/// What guests read in ID registers.
pub fn id_values() -> &'static IdValues {
    IDS.call_once(|| IdValues::new(id_registers::read, stage2::IPA_BITS))
}

/// What firmware has against speculation.
pub fn workarounds() -> &'static Workarounds {
    WORKAROUNDS.call_once(|| {
        let ask = |id: crate::services::call::FunctionId| {
            let features = 0x8000_0001;
            let answer = smc::call([features, u64::from(id.get()), 0, 0, 0, 0, 0, 0]);
            Workaround::from_features(answer[0] as i32)
        };
        Workarounds {
            one: ask(smccc::ARCH_WORKAROUND_1),
            two: ask(smccc::ARCH_WORKAROUND_2),
            three: ask(smccc::ARCH_WORKAROUND_3),
        }
    })
}

/// Makes all VMs and asks for their start.
pub fn start_all(configs: &VmConfigs<'static>) {
    let mut free: Vec<Pa> = Vec::new();
    for range in machine().free.iter() {
        let range = range.aligned_inward(0x20_0000);
        let mut at = range.start().get();
        while at < range.end().get() { free.push(Pa::new(at)); at += 0x20_0000; }
    }
    let pool = free.pop().unwrap();
    SHARED_PAGES.call_once(|| SpinMutex::new(SharedPool((0..512).map(|i| Pa::new(pool.get() + i * 4096)).collect())));
    let mut vms = Vec::new();
    for (i, config) in configs.iter().enumerate() {
        let n = (config.memory >> 21) as usize;
        let blocks: Vec<Pa> = free.drain(..n).collect();
        let root = stage2::build(layout::RAM.get(), &blocks);
        vms.push(Vm::new(Parts { config: config.clone(), index: VmIndex::new(i).unwrap(), memory: Memory::new(blocks), vttbr: root | (i as u64 + 1) << 48, mediator: None }));
    }
    let vms = VMS.call_once(|| vms);
    crate::arch::barrier::dsb();
    crate::arch::gic::enable_spi(machine().uart.interrupt.get(), mpidr_of(PcpuIndex::new(0).unwrap()));
    if let Some(uart) = output::uart() { uart.enable_receive_interrupt(); }
    output::line(format_args!("@postern {{\"event\":\"up\",\"version\":\"{}\",\"cpus\":{}}}", env!("CARGO_PKG_VERSION"), machine().cpus.list().len()));
    for vm in vms { vm.begin_start(); }
}

/// Does a piece of work for some VM; `false` where there is none.
pub fn work_step() -> bool {
    all().iter().any(Vm::step)
}

/// A VM is off for good: the machine's end, if it was the last.
pub fn one_ended() {
    if all().iter().all(Vm::is_off) {
        output::line(format_args!("@postern {{\"event\":\"all-off\"}}"));
        power::off();
    }
}
