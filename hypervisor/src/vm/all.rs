// SPDX-License-Identifier: Apache-2.0 OR MIT
//! All virtual machines, and what they share.

use super::frames::{Frames, FramesError, PoolError, SharedPool};
use super::instance::{Parts, Running, Vm};
use super::life::{Order, Phase};
use super::mapping::Mapping;
use super::memory::{Memory, MemoryError};
use super::ram::{self, TakeError};
use super::{guest_image, layout};
use crate::arch::{id_registers, smc, timer};
use crate::console::{input, output};
use crate::fatal::{fail, power_off};
use crate::platform::{WALL_CLOCK, machine};
use crate::services::notification;
use crate::services::smccc::{self, Workaround, Workarounds};
use crate::services::tee::SecureWorld;
use alloc::vec::Vec;
use core::fmt::Display;
use core::num::NonZeroU16;
use mediator::addr::PAGE_SIZE;
use mediator::{ClientId, CreateError, Mediator, ProbeError, Progress, TeeInfo};
use postern_base::ids::{VcpuId, VmIndex};
use postern_base::range::PaRange;
use postern_boot_tree::{BLOCK_SIZE, Tee, VmConfig, VmConfigs};
use postern_exceptions::ids::IdValues;
use postern_monitor::Event;
use spin::Once;
use thiserror::Error;

/// What each VM with the TEE may have of what OP-TEE has for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    /// Address space numbers, for applications that run for the VM and for those that its earlier lives left
    /// behind.
    address_spaces: u32,
    /// Of these, the most that it may leave behind.
    leftovers: u32,
    lives: Option<u32>,
}

impl Share {
    /// Address space numbers of OP-TEE's. Each VM with the TEE takes one for itself.
    const ADDRESS_SPACES: u32 = 64;
    /// Those that are nobody's share: for applications that applications open.
    const RESERVE: u32 = 6;
    /// Of a share, what leftovers leave for applications that run.
    const LIVE: u32 = 4;

    /// One of so many, where all VMs together may be created so often.
    fn of(sharers: u32, lives: Option<u32>) -> Self {
        let sharers = sharers.max(1);
        let spaces = Self::ADDRESS_SPACES.saturating_sub(sharers + Self::RESERVE);
        let address_spaces = (spaces / sharers).max(1);
        Self {
            address_spaces,
            leftovers: address_spaces.saturating_sub(Self::LIVE).max(1),
            lives: lives.map(|lives| (lives / sharers).max(1)),
        }
    }
}

static VMS: Once<Vec<Vm>> = Once::new();
static IDS: Once<IdValues> = Once::new();
static WORKAROUNDS: Once<Workarounds> = Once::new();

/// Pages that the mediators share with OP-TEE: shadows of messages and page lists. As many as all
/// VMs together can have, so that none can take another's.
pub static SHARED_PAGES: Once<SharedPool> = Once::new();

/// Lets the time of day of all VMs pass: what their clocks have to do with it.
pub fn pass_time() {
    if WALL_CLOCK.is_set() {
        all().iter().for_each(Vm::pass_time);
    }
}

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

/// What guests read in ID registers.
pub fn id_values() -> &'static IdValues {
    IDS.call_once(|| IdValues::new(id_registers::read, postern_stage2::IPA_BITS))
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

/// Why the VMs cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
enum StartError {
    #[error("vm memory: {0}")]
    Frames(#[from] FramesError),
    #[error("vm memory: {0}")]
    Memory(#[from] MemoryError),
    #[error("vm `{0}`: {1}")]
    NoRam(&'static str, TakeError),
    #[error("pages to share with OP-TEE: {0}")]
    Pool(#[from] PoolError),
    #[error("vm `{0}` has tee = \"required\": {1}")]
    NoTee(&'static str, ProbeError),
    #[error(
        "vm `{0}`: no arm64 Image at {1}, where its multiboot,kernel module is said to be: \
         have the boot loader place the kernel's raw Image there"
    )]
    NoKernel(&'static str, PaRange),
    #[error("vm `{0}` has tee = \"required\" and cannot have it: {1}")]
    NoRoom(&'static str, CreateError),
}

/// Makes all VMs and asks for their start. Powers off where that is impossible.
pub fn start_all(configs: &VmConfigs<'static>) {
    match make_all(configs) {
        Ok(vms) => {
            let vms = VMS.call_once(|| vms);
            if let Err(error) = equip(vms) {
                fail(format_args!("{error}"));
            }
            input::init();
            notification::init();
            let up = Event::<&dyn Display>::Up {
                version: &env!("CARGO_PKG_VERSION"),
                cpus: machine().cpus.list().len() as u32,
            };
            output::event(None, &up);
            for vm in vms.iter().filter(|vm| vm.autostart) {
                // It is off, so there is nothing to refuse.
                let _ = vm.order(Order::Start);
            }
            // Without any the machine may have nothing to do.
            one_ended();
        }
        Err(error) => fail(format_args!("{error}")),
    }
}

// Not inlined: VMs are large, and the stack is not.
#[inline(never)]
fn make_all(configs: &VmConfigs<'static>) -> Result<Vec<Vm>, StartError> {
    let mut frames = Frames::new(&machine().free)?;
    let tee = probe_tee(configs)?;
    let owner = match tee {
        Some(info) if !info.virtualised => only_owner(configs)?,
        _ => None,
    };
    let with_tee = configs.iter().filter(|config| config.tee != Tee::None);
    let lives = tee.and_then(|info| info.lives());
    let share = Share::of(with_tee.count() as u32, lives);
    let mut vms = Vec::new();
    let indices = (0..).filter_map(VmIndex::new);
    for (config, index) in configs.iter().zip(indices) {
        // With numbers for VMs each may have the TEE.
        let may_have = tee.filter(|info| info.virtualised || owner == Some(config.name));
        let vm = make(config, index, may_have, share)?;
        vms.push(vm);
    }
    let shared = vms.iter().filter_map(Vm::mediator);
    let shared = shared.map(|mediator| u64::from(mediator.shared_pages_max()));
    let pool = shared_pool(&mut frames, shared.sum())?;
    SHARED_PAGES.call_once(|| pool);
    ram::init(frames);
    Ok(vms)
}

/// A pool of at least so many pages.
#[inline(never)]
fn shared_pool(frames: &mut Frames, pages: u64) -> Result<SharedPool, StartError> {
    let bytes = (pages * PAGE_SIZE).max(1).next_multiple_of(BLOCK_SIZE);
    let chunks = frames.allocate(bytes, layout::RAM)?;
    let whole = chunks.iter().find(|chunk| chunk.bytes() == bytes);
    let range = whole.ok_or(PoolError::OutOfMemory)?;
    Ok(SharedPool::new(*range)?)
}

/// What the TEE is, if any VM wants it.
fn probe_tee(configs: &VmConfigs<'static>) -> Result<Option<TeeInfo>, StartError> {
    if configs.iter().all(|config| config.tee == Tee::None) {
        return Ok(None);
    }
    match mediator::probe(&SecureWorld) {
        Ok(info) => {
            let info = TeeInfo {
                static_tables: machine().static_tables,
                ..info
            };
            crate::info!(
                "OP-TEE {}.{}, {}, {} threads{}",
                info.major,
                info.minor,
                if info.virtualised {
                    "virtualised"
                } else {
                    "not virtualised: one VM can have it"
                },
                info.threads,
                if info.virtualised { " a VM" } else { "" },
            );
            Ok(Some(info))
        }
        Err(error) => match configs.iter().find(|config| config.tee == Tee::Required) {
            Some(config) => Err(StartError::NoTee(config.name, error)),
            None => {
                crate::warn!("no TEE for anybody: {error}");
                Ok(None)
            }
        },
    }
}

/// Which VM has an OP-TEE that is not virtualised: the one that cannot do without, else the first
/// that would like to have it.
fn only_owner(configs: &VmConfigs<'static>) -> Result<Option<&'static str>, StartError> {
    let names = |tee| {
        let wanting = configs.iter().filter(move |config| config.tee == tee);
        wanting.map(|config| config.name)
    };
    if let Some(second) = names(Tee::Required).nth(1) {
        return Err(StartError::NoTee(second, ProbeError::NotVirtualised));
    }
    let owner = names(Tee::Required).chain(names(Tee::Optional)).next();
    for name in names(Tee::Optional).filter(|name| Some(*name) != owner) {
        let error = ProbeError::NotVirtualised;
        crate::warn!("vm {name}: starts without a TEE: {error}");
    }
    Ok(owner)
}

#[inline(never)]
fn make(
    config: &VmConfig<'static>,
    index: VmIndex,
    tee: Option<TeeInfo>,
    share: Share,
) -> Result<Vm, StartError> {
    if !guest_image::is_kernel(config.kernel) {
        return Err(StartError::NoKernel(config.name, config.kernel));
    }
    let memory = Memory::for_bytes(config.memory)?;
    let vmid = index.get() as u16 + 1;
    let client = NonZeroU16::new(vmid).map(ClientId::new);
    let tee = tee.filter(|_| config.tee != Tee::None).zip(client);
    let mut tee_config = config.tee_config.clone();
    // Linux refuses an OP-TEE that has notifications and no interrupt for them.
    tee_config.offer.async_notif &= notification::interrupt().is_some();
    let quotas = &mut tee_config.quotas;
    quotas.address_spaces = quotas.address_spaces.min(share.address_spaces);
    quotas.leftovers = quotas.leftovers.min(share.leftovers);
    tee_config.lives = share.lives;
    Ok(Vm::new(Parts {
        config: config.clone(),
        index,
        memory,
        mapping: Mapping::new(vmid),
        mediator: tee.map(|(info, client)| Mediator::new(client, tee_config, info)),
    }))
}

/// Gives the VMs that start with the machine their memory and makes them known to OP-TEE, before
/// any of them runs: they have it before those that are started later.
#[inline(never)]
fn equip(vms: &'static [Vm]) -> Result<(), StartError> {
    for vm in vms.iter().filter(|vm| vm.autostart) {
        vm.take_memory()
            .map_err(|error| StartError::NoRam(vm.name, error))?;
        match create_tee(vm) {
            Err(error) if vm.needs_tee() => return Err(StartError::NoRoom(vm.name, error)),
            // Its start tries again, and logs what comes of it.
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Makes a VM known to OP-TEE. How long that takes is bounded by how often OP-TEE is interrupted.
fn create_tee(vm: &'static Vm) -> Result<(), CreateError> {
    loop {
        timer::arm(timer::now() + timer::frequency() / 100);
        if vm.create_tee()? != Progress::More {
            return Ok(());
        }
    }
}

/// Whether some VM waits to be loaded or destroyed.
pub fn has_work() -> bool {
    all().iter().any(Vm::has_work)
}

/// Does a piece of work for some VM, a block of memory or so; `false` where there is none.
pub fn work_step() -> bool {
    all().iter().any(Vm::step)
}

/// A VM is off: the machine's end, if it was the last and nothing else is asked of the machine.
pub fn one_ended() {
    let over = |vm: &Vm| matches!(vm.phase(), Phase::Off | Phase::Failed);
    if all().iter().all(over) && !machine().stay {
        output::event(None, &Event::AllOff);
        output::flush();
        power_off();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shares_together_are_what_there_is() {
        for sharers in 1..=8 {
            let share = Share::of(sharers, Some(40));
            assert!(sharers * (share.address_spaces + 1) + Share::RESERVE <= 64);
            assert!((1..share.address_spaces).contains(&share.leftovers));
            assert!(sharers * share.lives.unwrap() <= 40);
        }
        assert_eq!(Share::of(2, None).address_spaces, 28);
        assert_eq!(Share::of(2, None).leftovers, 24);
        assert_eq!(Share::of(0, None), Share::of(1, None));
    }
}
