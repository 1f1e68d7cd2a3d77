// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Counters of a VM's mediator.

use core::sync::atomic::{AtomicU64, Ordering};

/// The kinds of RPC that are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum RpcKind {
    /// Function ALLOC: memory for RPC messages.
    Alloc,
    /// Function FREE.
    Free,
    /// Command LOAD_TA.
    LoadTa,
    /// Commands RPMB, RPMB_PROBE_RESET, RPMB_PROBE_NEXT, RPMB_FRAMES.
    Rpmb,
    /// Command FS.
    Fs,
    /// Command GET_TIME.
    GetTime,
    /// Command NOTIFICATION.
    Notification,
    /// Command SUSPEND.
    Suspend,
    /// Command SHM_ALLOC.
    ShmAlloc,
    /// Command SHM_FREE.
    ShmFree,
    /// Command GPROF.
    Gprof,
    /// Command SOCKET.
    Socket,
    /// Command FTRACE.
    Ftrace,
    /// Command SUPP_PLUGIN.
    Plugin,
    /// Command I2C_TRANSFER.
    I2c,
    /// Anything else; it is answered without the guest.
    Other,
}

impl RpcKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::Alloc,
        Self::Free,
        Self::LoadTa,
        Self::Rpmb,
        Self::Fs,
        Self::GetTime,
        Self::Notification,
        Self::Suspend,
        Self::ShmAlloc,
        Self::ShmFree,
        Self::Gprof,
        Self::Socket,
        Self::Ftrace,
        Self::Plugin,
        Self::I2c,
        Self::Other,
    ];

    /// Returns a name for reports: lower case, words joined by `_`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alloc => "alloc",
            Self::Free => "free",
            Self::LoadTa => "load_ta",
            Self::Rpmb => "rpmb",
            Self::Fs => "fs",
            Self::GetTime => "get_time",
            Self::Notification => "notification",
            Self::Suspend => "suspend",
            Self::ShmAlloc => "shm_alloc",
            Self::ShmFree => "shm_free",
            Self::Gprof => "gprof",
            Self::Socket => "socket",
            Self::Ftrace => "ftrace",
            Self::Plugin => "plugin",
            Self::I2c => "i2c",
            Self::Other => "other",
        }
    }
}

/// A snapshot of a mediator's counters. Counts grow over all creations of the VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Fast calls from the guest.
    pub fast: u64,
    /// Yielding calls from the guest that began, without returns from RPCs.
    pub yielding: u64,
    /// RPCs by kind, in the order of [`RpcKind::ALL`].
    pub rpc: [u64; RpcKind::ALL.len()],
    /// Times that a normal-world interrupt took a call out of OP-TEE.
    pub foreign_intr: u64,
    /// Requests and answers from the guest that were refused, for whatever reason.
    pub denied: u64,
    /// RPCs from OP-TEE that the mediator answered itself, because the VM does not own the device or no VM may
    /// have the answer. They are counted by kind as well.
    pub withheld: u64,
    /// Calls in which OP-TEE broke the protocol. They hold what they held until the VM ends.
    pub poisoned: u64,
    /// Sessions that could not be closed when the VM ended, or whose opening did not end. Each may cost OP-TEE
    /// an ASID until the machine restarts.
    pub leaked: u64,
    /// Applications that OP-TEE kept when the VM ended although no session to them was open: those with
    /// `TA_FLAG_INSTANCE_KEEP_ALIVE`. Each costs OP-TEE an ASID until the machine restarts.
    pub kept: u64,
    /// SMCs to the secure world on the guest's behalf.
    pub smcs: u64,
    /// Pages pinned now, counted once per buffer.
    pub pages_pinned: u64,
    /// The maximum of `pages_pinned`.
    pub pages_pinned_max: u64,
    /// Shared buffers now.
    pub buffers: u64,
    /// The maximum of `buffers`.
    pub buffers_max: u64,
    /// Buffers for RPC messages now.
    pub rpc_buffers: u64,
    /// Sessions open now.
    pub sessions: u64,
    /// Yielding calls in flight now, running or suspended.
    pub calls: u64,
    /// Pages that OP-TEE's core may have mapped now; see [`crate::Quotas::mapped_pages`].
    pub mapped_pages: u64,
}

impl Stats {
    /// Returns the number of RPCs of one kind.
    #[inline]
    pub const fn rpc(&self, kind: RpcKind) -> u64 {
        self.rpc[kind as usize]
    }
}

/// A count that only grows. The accesses are relaxed, since no order depends on it.
#[derive(Default, Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    #[inline]
    pub(crate) fn bump(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds `more`.
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Returns the count.
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counts that only grow.
#[derive(Default, Debug)]
pub(crate) struct Counters {
    pub(crate) fast: Counter,
    pub(crate) yielding: Counter,
    pub(crate) rpc: [Counter; RpcKind::ALL.len()],
    pub(crate) foreign_intr: Counter,
    pub(crate) denied: Counter,
    pub(crate) withheld: Counter,
    pub(crate) poisoned: Counter,
    pub(crate) leaked: Counter,
    pub(crate) kept: Counter,
    pub(crate) smcs: Counter,
}

impl Counters {
    /// Returns the counts so far. Fields that the VM's state counts are zero.
    pub(crate) fn snapshot(&self) -> Stats {
        let mut stats = Stats {
            fast: self.fast.get(),
            yielding: self.yielding.get(),
            foreign_intr: self.foreign_intr.get(),
            denied: self.denied.get(),
            withheld: self.withheld.get(),
            poisoned: self.poisoned.get(),
            leaked: self.leaked.get(),
            kept: self.kept.get(),
            smcs: self.smcs.get(),
            ..Stats::default()
        };
        for (to, from) in stats.rpc.iter_mut().zip(&self.rpc) {
            *to = from.get();
        }
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Reports and the monitor's answers have these names.
    #[test]
    fn each_kind_of_rpc_has_its_name() {
        let names: Vec<_> = RpcKind::ALL.iter().map(|kind| kind.name()).collect();
        let expected = "alloc free load_ta rpmb fs get_time notification suspend shm_alloc shm_free gprof socket \
                        ftrace plugin i2c other";
        assert_eq!(names, expected.split(' ').collect::<Vec<_>>());
    }
}
