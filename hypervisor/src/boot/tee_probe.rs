// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finds the TEE: asks for OP-TEE behind SMCs of its own, and then for OP-TEE behind FF-A.

use crate::console::output;
use crate::platform::machine;
use crate::tee::{exchange, host::secure_call, notification};
use crate::vm::frames::{Frames, FramesError};
use alloc::sync::Arc;
use mediator::addr::{PAGE_SIZE, Pa};
use mediator::ffa::{self, ExchangeBuffers, Spmc};
use mediator::{ClientId, Config, Mediator, SecureMonitor, TeeInfo};
use postern_arch::{gic, guest_ram};
use postern_boot_tree::BLOCK_SIZE;
use postern_console::log::Level;
use postern_guest_tree::layout;
use thiserror::Error;

/// A TEE that VMs can have.
pub struct FoundTee {
    /// What it is.
    pub info: TeeInfo,
    /// The SPMC, if it is reached over FF-A.
    pub spmc: Option<Arc<Spmc>>,
}

impl FoundTee {
    /// Returns whether EL2 owns the interrupt by which OP-TEE announces notifications.
    pub fn can_notify(&self) -> bool {
        match &self.spmc {
            Some(spmc) => spmc
                .schedule_receiver_interrupt()
                .is_some_and(gic::is_donated_sgi),
            None => notification::interrupt().is_some(),
        }
    }

    /// Returns the mediator of a VM that does not run yet.
    pub fn mediator(&self, client: ClientId, config: Config) -> Mediator {
        match &self.spmc {
            Some(spmc) => Mediator::new_ffa(client, config, self.info, Arc::clone(spmc)),
            None => Mediator::new(client, config, self.info),
        }
    }
}

/// The reason why no VM can have a TEE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TeeError {
    /// OP-TEE's own SMCs.
    #[error(transparent)]
    Smc(#[from] mediator::ProbeError),
    /// FF-A.
    #[error(transparent)]
    Ffa(#[from] ffa::ProbeError),
    /// There is no RAM for the buffers that EL2 has with the SPMC.
    #[error("buffers for the SPMC: {0}")]
    NoBuffers(#[from] FramesError),
}

/// The secure world without a VM, for EL2's calls at boot.
struct SecureWorld;

impl SecureMonitor for SecureWorld {
    fn smc(&self, args: [u64; 8]) -> [u64; 8] {
        secure_call(args)
    }
}

/// Asks the firmware for the TEE, and logs what it is.
///
/// # Errors
/// There is none that VMs can have.
pub fn probe(frames: &mut Frames) -> Result<FoundTee, TeeError> {
    let found = match mediator::probe(&SecureWorld) {
        Ok(info) => FoundTee { info, spmc: None },
        Err(mediator::ProbeError::Absent) => over_ffa(frames)?,
        Err(error) => return Err(error.into()),
    };
    let info = TeeInfo {
        static_tables: machine().static_tables,
        ..found.info
    };
    match &found.spmc {
        Some(spmc) => output::log(
            Level::Info,
            format_args!(
                "OP-TEE {}.{} over FF-A {}, virtualised",
                info.major,
                info.minor,
                spmc.version()
            ),
        ),
        None => log_smc(&info),
    }
    Ok(FoundTee { info, ..found })
}

fn log_smc(info: &TeeInfo) {
    let (kind, per_vm) = match info.virtualised {
        true => ("virtualised", " per VM"),
        false => ("not virtualised: one VM can have it", ""),
    };
    output::log(
        Level::Info,
        format_args!(
            "OP-TEE {}.{}, {kind}, {} threads{per_vm}",
            info.major, info.minor, info.threads
        ),
    );
}

/// Asks the SPMC for OP-TEE, and gives it EL2's buffers for ever.
fn over_ffa(frames: &mut Frames) -> Result<FoundTee, TeeError> {
    let memory = frames.allocate_whole(BLOCK_SIZE, layout::RAM)?;
    let pages = ExchangeBuffers::MAX_PAGES;
    let buffers = ExchangeBuffers {
        tx: memory.start(),
        rx: Pa::new(memory.start().get() + u64::from(pages) * PAGE_SIZE),
        pages,
    };
    guest_ram::zero(buffers.tx, 2 * buffers.bytes() as u64);
    let read_rx = |offset, into: &mut [u8]| exchange::read_rx(&buffers, offset, into);
    match ffa::probe(&SecureWorld, buffers, read_rx) {
        Ok((info, spmc)) => {
            exchange::init(buffers);
            let spmc = Some(Arc::new(spmc));
            Ok(FoundTee { info, spmc })
        }
        // The firmware has not seen them.
        Err(ffa::ProbeError::Absent) => {
            frames.free(memory)?;
            Err(mediator::ProbeError::Absent.into())
        }
        // It may keep them.
        Err(error) => Err(error.into()),
    }
}
