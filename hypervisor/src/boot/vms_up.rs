// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Creates all VMs and requests their start.

use super::cpus::{self, Midr, Model, ModelError};
use super::share::Share;
use super::tee_probe::{self, FoundTee, TeeError};
use crate::console::output;
use crate::control::input;
use crate::fatal::fail;
use crate::lifecycle::{transitions, work_steps};
use crate::platform::{self, machine};
use crate::tee::host::SHARED_PAGES;
use crate::tee::notification;
use crate::vm::frames::{Frames, FramesError, PoolError, SharedPool};
use crate::vm::guest_memory::{GuestMemory, MemoryError};
use crate::vm::instance::{Vm, VmParts};
use crate::vm::lifecycle::LifecycleRequest;
use crate::vm::mapping::Mapping;
use crate::vm::ram_pool::{self, RamError};
use crate::vm::{dma, guest_image, linked_spis, links, registry};
use alloc::vec::Vec;
use core::fmt::Display;
use core::num::NonZeroU16;
use core::sync::atomic::Ordering;
use mediator::addr::{PAGE_SIZE, Pa};
use mediator::{ClientId, CreateError, ProbeError, Progress};
use postern_arch::smmu::{self, StreamsError};
use postern_arch::{entropy, timer};
use postern_base::ids::VmIndex;
use postern_base::range::PaRange;
use postern_base::sve::VectorLengths;
use postern_boot_tree::{BLOCK_SIZE, Tee, VmConfig, VmConfigs};
use postern_console::log::Level;
use postern_guest_tree::layout;
use postern_monitor::Event;
use thiserror::Error;

/// The reason why the VMs cannot be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
enum StartError {
    #[error("vm memory: {0}")]
    Frames(#[from] FramesError),
    #[error("vm memory: {0}")]
    GuestMemory(#[from] MemoryError),
    #[error("vm `{0}`: {1}")]
    NoRam(&'static str, RamError),
    #[error("pages to share with OP-TEE: {0}")]
    Pool(#[from] PoolError),
    #[error("vm `{0}` has tee = \"required\": {1}")]
    NoTee(&'static str, TeeError),
    #[error(
        "vm `{0}`: no arm64 Image at {1}, where its multiboot,kernel module is said to be: \
         have the boot loader place the kernel's raw Image there"
    )]
    NoKernel(&'static str, PaRange),
    #[error("vm `{0}`: device {1}: {2}")]
    Streams(&'static str, &'static str, StreamsError),
    #[error("vm `{0}`: {1}")]
    Cpus(&'static str, ModelError),
    #[error("vm `{0}` has tee = \"required\" and cannot have it: {1}")]
    NoRoom(&'static str, CreateError),
}

/// Creates all VMs and requests their start. Powers off if that is impossible.
pub fn start_all(configs: &'static VmConfigs<'static>) {
    match make_all(configs) {
        Ok(vms) => {
            let vms = registry::init(vms);
            links::init(vms, &machine().links);
            if let Err(error) = allocate_autostart(vms) {
                fail(format_args!("{error}"));
            }
            input::init();
            notification::init();
            dma::init();
            let up = Event::<&dyn Display>::Up {
                version: &env!("CARGO_PKG_VERSION"),
                cpus: machine().cpus.list().len() as u32,
            };
            output::event(None, &up);
            for vm in vms.iter().filter(|vm| vm.autostart) {
                // The VM is off, so the request is not refused.
                let _ = transitions::request(vm, LifecycleRequest::Start);
            }
            // Without a VM that starts, the machine may have nothing to do.
            transitions::on_vm_off();
        }
        Err(error) => fail(format_args!("{error}")),
    }
}

// Not inlined: VMs are large, and the stack is small.
#[inline(never)]
fn make_all(configs: &'static VmConfigs<'static>) -> Result<Vec<Vm>, StartError> {
    let mut frames = Frames::new(&machine().free)?;
    let tee = probe_tee(configs, &mut frames)?;
    let owner = match &tee {
        Some(found) if !found.info.virtualised => only_owner(configs)?,
        _ => None,
    };
    let with_tee = configs.iter().filter(|config| config.tee != Tee::None);
    let max_creations = tee.as_ref().and_then(|found| found.info.max_creations());
    let share = Share::of(with_tee.count() as u32, max_creations);
    let models = models();
    let mut vms = Vec::new();
    let indices = (0..).filter_map(VmIndex::new);
    for (config, index) in configs.iter().zip(indices) {
        // If OP-TEE has VM numbers, each VM may have the TEE.
        let may_have = tee.as_ref();
        let may_have =
            may_have.filter(|found| found.info.virtualised || owner == Some(config.name));
        let vm = make(config, index, &models, may_have, share, &mut frames)?;
        vms.push(vm);
    }
    let shared = vms.iter().filter_map(Vm::mediator);
    let shared = shared.map(|mediator| u64::from(mediator.shared_pages_max()));
    let pool = shared_pool(&mut frames, shared.sum())?;
    SHARED_PAGES.call_once(|| pool);
    ram_pool::init(frames);
    Ok(vms)
}

/// Returns the models of the pCPUs, which are all up. Warns where VMs without an affinity do not use all of them.
fn models() -> Vec<Model> {
    let list = machine().cpus.list();
    let models: Vec<_> = platform::PCPU_MODELS[..list.len()]
        .iter()
        .map(|model| Model {
            midr: Midr::new(model.midr.load(Ordering::Relaxed)),
            sve: VectorLengths::from_bits(model.sve.load(Ordering::Relaxed)),
        })
        .collect();
    for (cpu, model) in list.iter().zip(&models) {
        if *model != models[0] {
            output::log(
                Level::Warn,
                format_args!(
                    "CPU {} has {model}, the boot CPU {}: only VMs with an affinity run on it",
                    cpu.place, models[0]
                ),
            );
        }
    }
    models
}

/// Creates a pool of at least `pages` pages.
#[inline(never)]
fn shared_pool(frames: &mut Frames, pages: u64) -> Result<SharedPool, StartError> {
    let bytes = (pages * PAGE_SIZE).max(1).next_multiple_of(BLOCK_SIZE);
    Ok(SharedPool::new(frames.allocate_whole(bytes, layout::RAM)?)?)
}

/// Returns the TEE, if any VM wants it.
fn probe_tee(
    configs: &VmConfigs<'static>,
    frames: &mut Frames,
) -> Result<Option<FoundTee>, StartError> {
    if configs.iter().all(|config| config.tee == Tee::None) {
        return Ok(None);
    }
    match tee_probe::probe(frames) {
        Ok(found) => Ok(Some(found)),
        Err(error) => match configs.iter().find(|config| config.tee == Tee::Required) {
            Some(config) => Err(StartError::NoTee(config.name, error)),
            None => {
                output::log(Level::Warn, format_args!("no VM has a TEE: {error}"));
                Ok(None)
            }
        },
    }
}

/// Returns the VM that gets an OP-TEE that is not virtualised: the one that requires it, or else
/// the first for which it is optional.
fn only_owner(configs: &VmConfigs<'static>) -> Result<Option<&'static str>, StartError> {
    let names = |tee| {
        let wanting = configs.iter().filter(move |config| config.tee == tee);
        wanting.map(|config| config.name)
    };
    if let Some(second) = names(Tee::Required).nth(1) {
        let error = ProbeError::NotVirtualised;
        return Err(StartError::NoTee(second, error.into()));
    }
    let owner = names(Tee::Required).chain(names(Tee::Optional)).next();
    for name in names(Tee::Optional).filter(|name| Some(*name) != owner) {
        let error = ProbeError::NotVirtualised;
        output::log(
            Level::Warn,
            format_args!("vm {name}: starts without a TEE: {error}"),
        );
    }
    Ok(owner)
}

#[inline(never)]
fn make(
    config: &'static VmConfig<'static>,
    index: VmIndex,
    models: &[Model],
    tee: Option<&FoundTee>,
    share: Share,
    frames: &mut Frames,
) -> Result<Vm, StartError> {
    if !guest_image::is_kernel(config.kernel) {
        return Err(StartError::NoKernel(config.name, config.kernel));
    }
    let affinity = cpus::allowed(config.affinity, config.sve, models)
        .map_err(|error| StartError::Cpus(config.name, error))?;
    for device in &config.devices {
        for streams in &device.streams {
            smmu::reserve(index, *streams)
                .map_err(|error| StartError::Streams(config.name, device.path, error))?;
        }
    }
    let memory = match config.ram_start() {
        Some(start) => GuestMemory::for_bytes(start, config.memory)?,
        None => direct_memory(config, frames)?,
    };
    let vmid = index.get() as u16 + 1;
    let client = NonZeroU16::new(vmid).map(ClientId::new);
    let tee = tee.filter(|_| config.tee != Tee::None).zip(client);
    let mut tee_config = config.tee_config.clone();
    // Linux rejects an OP-TEE that has notifications without an interrupt for them.
    tee_config.features.async_notif &= tee.is_some_and(|(found, _)| found.can_notify());
    let quotas = &mut tee_config.quotas;
    quotas.address_spaces = quotas.address_spaces.min(share.address_spaces);
    quotas.max_leaked_asids = quotas.max_leaked_asids.min(share.max_leaked_asids);
    tee_config.max_creations = share.max_creations;
    report_devices(config);
    if config.rng && !entropy::is_available() {
        output::log(
            Level::Warn,
            format_args!(
                "vm {}: it gets no rng: neither the firmware nor the CPU has true random numbers",
                config.name
            ),
        );
    }
    let mut vm = Vm::new(VmParts {
        config,
        index,
        affinity,
        memory,
        mapping: Mapping::new(index, machine().gic.guest_interface(), &config.devices),
        gic: machine().gic.version(),
        links: links::ends(&machine().links, index),
        mediator: tee.map(|(found, client)| found.mediator(client, tee_config)),
    });
    linked_spis::link(&mut vm, &config.devices);
    Ok(vm)
}

/// Returns the memory of a VM that sees it at its physical addresses: above all that the guest has at fixed addresses,
/// and below the end of the addresses that a guest can have.
fn direct_memory(
    config: &VmConfig<'static>,
    frames: &mut Frames,
) -> Result<GuestMemory, StartError> {
    let (from, end) = (layout::LOW_RAM.get(), 1 << postern_stage2::IPA_BITS);
    let range = frames.take_direct(config.memory, Pa::new(from), Pa::new(end));
    let range = range.map_err(|error| StartError::NoRam(config.name, error.into()))?;
    Ok(GuestMemory::direct(range)?)
}

/// Logs the devices that a VM has for itself, with what its tree does not say of them.
fn report_devices(config: &VmConfig<'static>) {
    for device in &config.devices {
        output::log(
            Level::Info,
            format_args!("vm {}: has {}", config.name, device.path),
        );
        if device.is_unprotected() {
            output::log(
                Level::Warn,
                format_args!(
                    "vm {}: no SMMU is in front of {}, so it can access all memory of the machine",
                    config.name, device.path
                ),
            );
        }
        for property in device.dropped() {
            output::log(
                Level::Info,
                format_args!("vm {}: {} without its {property}", config.name, device.path),
            );
        }
    }
}

/// Allocates the memory of the VMs that start with the machine, and creates them in OP-TEE, before
/// any of them runs. VMs that are started later get what remains.
#[inline(never)]
fn allocate_autostart(vms: &'static [Vm]) -> Result<(), StartError> {
    for vm in vms.iter().filter(|vm| vm.autostart) {
        work_steps::take_memory(vm).map_err(|error| StartError::NoRam(vm.name, error))?;
        match create_tee(vm) {
            Err(error) if vm.needs_tee() => return Err(StartError::NoRoom(vm.name, error)),
            // The VM's start tries again, and logs the result.
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Creates a VM in OP-TEE. The number of OP-TEE's interruptions bounds the time that this takes.
fn create_tee(vm: &'static Vm) -> Result<(), CreateError> {
    loop {
        timer::arm(timer::now() + timer::second() / 100);
        if work_steps::create_tee(vm)? != Progress::More {
            return Ok(());
        }
    }
}
