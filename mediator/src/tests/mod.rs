// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mediator against the fake machine.

mod abi;
mod address_spaces;
mod allocations;
mod backoff;
mod buffers;
mod calls;
mod concurrent_smc;
mod ffa;
mod leaks;
mod lifecycle;
mod mapping_quota;
mod mixed_threads;
#[cfg(shuttle)]
mod models;
#[cfg(shuttle)]
mod models_ffa;
#[cfg(not(shuttle))]
mod over_ffa;
mod page_lists;
mod probing;
mod properties;
mod rpc_arg;
mod rpcs;
mod steps;
mod table_creation;
mod teardown;
mod threads;
mod user_tas;
mod vm_shares;
mod waits;

use crate::fake::{FakeHost, Guest, Machine};
use crate::transport::MemoryNames;
use crate::{ClientId, Config, Mediator, Stats, TeeInfo, probe};
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU16;
use optee_proto::msg::{Attr, Param, login};
use optee_proto::{TeeResult, Uuid};
use proptest::test_runner::Config as ProptestConfig;

/// Returns the configuration for a property: `cases` cases, or a few under Miri, which is slow.
pub(crate) fn tries(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 2 } else { cases },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// All of many cases, or a few of them under Miri.
pub(crate) fn some<T>(cases: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    cases.into_iter().step_by(if cfg!(miri) { 9 } else { 1 })
}

/// What a guest hears of most of its mistakes.
pub(crate) const BAD: u32 = TeeResult::BAD_PARAMETERS.0;

/// A value parameter that is recognised.
pub(crate) fn value(attr: Attr) -> Param {
    Param::new(attr, 0x11, 0x22, 0x33)
}

pub(crate) const APP: Uuid = Uuid([0xa1; 16]);

/// The session that each guest has open, to [`APP`]: the first of its VM's.
pub(crate) const SESSION: u32 = 1;

/// One VM with its mediator in a machine.
pub(crate) struct Vm {
    pub(crate) host: FakeHost,
    pub(crate) mediator: Mediator,
}

/// What must be as before once everything is given back.
#[derive(PartialEq, Debug)]
pub(crate) struct Baseline {
    pins: u64,
    pages: u64,
    buffers: u64,
    rpc_buffers: u64,
    sessions: u64,
    calls: u64,
}

impl Vm {
    pub(crate) fn new(machine: &Machine, client: u16, config: Config) -> Self {
        Self::with_pages(machine, client, config, 400)
    }

    /// A VM of this size whose guest has opened [`SESSION`], and has done nothing else.
    pub(crate) fn with_pages(machine: &Machine, client: u16, config: Config, pages: u64) -> Self {
        let vm = Self::without_session(machine, client, config, pages);
        vm.open_session(pages);
        vm
    }

    /// A VM whose guest has done nothing yet.
    pub(crate) fn bare(machine: &Machine, client: u16, config: Config) -> Self {
        Self::without_session(machine, client, config, 400)
    }

    /// A VM of this size whose guest has done nothing yet.
    pub(crate) fn without_session(
        machine: &Machine,
        client: u16,
        config: Config,
        pages: u64,
    ) -> Self {
        let host = machine.add_vm(client, pages);
        let tee: TeeInfo = probe(&host).unwrap();
        let client = ClientId::new(NonZeroU16::new(client).unwrap());
        let mediator = Mediator::new(client, config, tee);
        mediator.create(&host).unwrap();
        Self { host, mediator }
    }

    /// Opens [`SESSION`], with its message in the last of the VM's pages. The test sees nothing of that
    /// but the session.
    pub(crate) fn open_session(&self, pages: u64) {
        let guest = self.guest();
        guest.alloc(pages - 1);
        assert_eq!(guest.open(APP, login::PUBLIC), (SESSION, 0));
        self.host.machine().forget_outcomes(self.host.vm());
    }

    pub(crate) fn guest(&self) -> Guest<'_> {
        match self.mediator.memory_names() {
            MemoryNames::Guest => Guest::new(&self.host, &self.mediator),
            MemoryNames::Spmc => Guest::over_ffa(&self.host, &self.mediator),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.mediator.stats()
    }

    pub(crate) fn baseline(&self) -> Baseline {
        let stats = self.stats();
        Baseline {
            pins: self.host.machine().pins(),
            pages: stats.pages_pinned,
            buffers: stats.buffers,
            rpc_buffers: stats.rpc_buffers,
            sessions: stats.sessions,
            calls: stats.calls,
        }
    }

    /// Ends one VM of several.
    pub(crate) fn end_one(self) {
        self.end_seen_by(Machine::violations);
    }

    /// Ends one VM of several; `violations` says what has been wrong.
    pub(crate) fn end_seen_by(self, violations: fn(&Machine) -> Vec<String>) {
        let machine = self.host.machine().clone();
        self.mediator.destroy(&self.host).unwrap();
        assert_eq!(violations(&machine), [""; 0]);
        assert!(!machine.knows(self.host.vm()));
    }

    /// Ends the VM, and everything must be as if it had never been.
    pub(crate) fn end(self) {
        self.mediator.destroy(&self.host).unwrap();
        self.end_after_destroy();
    }

    /// What must hold when the only VM has ended.
    pub(crate) fn end_after_destroy(self) {
        let machine = self.host.machine();
        assert_eq!(machine.violations(), [""; 0]);
        assert_eq!(machine.pins(), 0);
        assert_eq!(machine.shared_pages(), 0);
        assert!(!machine.knows(self.host.vm()));
    }
}

pub(crate) fn vm() -> Vm {
    Vm::new(&Machine::new(), 1, Config::default())
}

/// A VM whose guest has done nothing yet.
pub(crate) fn bare() -> Vm {
    Vm::bare(&Machine::new(), 1, Config::default())
}
