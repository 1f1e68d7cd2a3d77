// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guests that reach OP-TEE over FF-A, both with OP-TEE 4.10 as SPMC and with one that checks its callers.
//!
//! A trap that the SPMC steps on is a violation of the machine's, which every test looks for at its end.

mod answers;
mod calls;
mod handles;
mod identity;
mod life;
mod limits;
mod notifications;
mod probing;
mod properties;
mod services;
mod sharing;
mod teardown;
mod threads;

use super::{SESSION, Vm};
use crate::addr::{Ipa, PAGE_SIZE};
use crate::fake::Machine;
use crate::fake::spmc::Manner;
use crate::ffa::{ExchangeBuffers, Spmc, probe};
use crate::{ClientId, Config, Mediator, TeeInfo};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU16;
use ffa_proto::{EndpointId, ErrorCode, Function, Registers};
use optee_proto::msg::{Attr, Command, Param};

const MANNERS: [Manner; 2] = [Manner::OpTee, Manner::Checking];

/// The pages of a VM: those that the driver takes at the end, and as many as other tests have.
const PAGES: u64 = 500;

/// A machine whose SPMC has been found.
struct Ffa {
    machine: Machine,
    tee: TeeInfo,
    spmc: Arc<Spmc>,
}

impl Ffa {
    fn new(manner: Manner) -> Self {
        let machine = Machine::new_ffa(manner);
        let (tx, rx, pages) = Machine::exchange_buffers();
        let buffers = ExchangeBuffers { tx, rx, pages };
        let found = probe(&machine.hypervisor(), buffers, |offset, into| {
            machine.read_rx(offset, into);
        });
        let (tee, spmc) = found.unwrap();
        assert_eq!(machine.violations(), [""; 0]);
        Self {
            machine,
            tee,
            spmc: Arc::new(spmc),
        }
    }

    /// A VM whose guest has done nothing yet.
    fn bare(&self, client: u16, config: Config) -> Vm {
        self.sized(client, config, PAGES)
    }

    /// The same, of this size.
    fn sized(&self, client: u16, config: Config, pages: u64) -> Vm {
        let host = self.machine.add_vm(client, pages);
        let client = ClientId::new(NonZeroU16::new(client).unwrap());
        let mediator = Mediator::new_ffa(client, config, self.tee, Arc::clone(&self.spmc));
        mediator.create(&host).unwrap();
        Vm { host, mediator }
    }

    /// A VM whose guest has opened [`SESSION`].
    fn vm(&self, client: u16) -> Vm {
        let vm = self.bare(client, Config::default());
        vm.open_session(PAGES);
        vm
    }
}

/// The configuration of a VM that is offered notifications, or not.
fn notifying(async_notif: bool) -> Config {
    let mut config = Config::default();
    config.features.async_notif = async_notif;
    config
}

const VM: EndpointId = EndpointId::new(1);
const OTHER: EndpointId = EndpointId::new(2);
const PARTITION: EndpointId = crate::fake::spmc::PARTITION;
const SPMC: EndpointId = crate::fake::spmc::SPMC;

/// Has a VM work, and its end leave nothing: what a neighbour has done must not matter to it.
#[track_caller]
fn works_and_ends(vm: Vm) {
    works(&vm);
    vm.end_one();
}

/// Checks that a VM can share memory, call with it, and take it back.
#[track_caller]
fn works(vm: &Vm) {
    let guest = vm.guest();
    guest.alloc(200);
    let (buffer, result) = guest.register(2);
    assert_eq!(result, 0);
    let param = Param::new(Attr::RMEM_INOUT, 0, 0x2000, buffer);
    let message = guest.message(Command::INVOKE, SESSION, &[param]);
    assert_eq!(guest.run(message).header.ret.get(), 0);
    assert_eq!(guest.unregister(buffer), 0);
    guest.forget_messages();
}

/// Returns the functions of the calls to the SPMC after the first `from`.
fn functions(machine: &Machine, from: usize) -> Vec<Function> {
    let smcs = machine.smcs();
    let later = smcs.iter().skip(from);
    later
        .filter_map(|&call| Registers::from_8(call).id().function())
        .collect()
}

/// Returns pages next to each other.
fn pages(at: Ipa, count: u64) -> Vec<Ipa> {
    (0..count)
        .map(|n| Ipa::new(at.get() + n * PAGE_SIZE))
        .collect()
}
