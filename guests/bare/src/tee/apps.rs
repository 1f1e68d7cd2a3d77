// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Applications of the packaged OP-TEE and of xtest: UUIDs, functions, and what they do.

use super::client::{Client, Failure};
use super::memory;
use super::message::{PageList, rmem, value};
use super::supplicant::Supplicant;
use crate::pages::Pages;
use optee_proto::Uuid;
use optee_proto::msg::{Attr, Param};

/// Reads a UUID's text at compile time.
const fn uuid(text: &str) -> Uuid {
    let text = text.as_bytes();
    let (mut octets, mut at, mut n) = ([0; 16], 0, 0);
    while n < 16 {
        if text[at] == b'-' {
            at += 1;
        }
        octets[n] = digit(text[at]) << 4 | digit(text[at + 1]);
        at += 2;
        n += 1;
    }
    assert!(at == text.len(), "not a UUID");
    Uuid(octets)
}

const fn digit(c: u8) -> u8 {
    match c {
        b'0'..=b'9' => c - b'0',
        b'a'..=b'f' => c - b'a' + 10,
        _ => panic!("not a UUID"),
    }
}

/// Nobody's: OP-TEE asks the normal world for it (LOAD_TA).
pub const NOBODY: Uuid = uuid("00000000-1111-2222-3333-444444444444");

/// `invoke_tests.pta`, in OP-TEE itself.
pub const TESTS: Uuid = uuid("d96a5b40-c3e5-21e3-8794-1002a5d5c61b");
/// Its `PTA_INVOKE_TESTS_CMD_TRACE`: nothing but a line in OP-TEE's log.
pub const TESTS_TRACE: u32 = 0;
/// Its `PTA_INVOKE_TESTS_CMD_PARAMS`. A value INOUT: a becomes a + b. A memref INOUT: its first
/// byte becomes the sum of all its bytes.
pub const TESTS_PARAMS: u32 = 1;
/// Its `PTA_INVOKE_TESTS_CMD_MUTEX`: value 0: a = 0 writes, 1 reads, b rounds with a mutex held; value 1
/// output.
pub const TESTS_MUTEX: u32 = 7;
/// Its `PTA_INVOKE_TESTS_CMD_MEMREF_NULL`: memref INOUT 0 must be NULL.
pub const TESTS_NULL: u32 = 10;

/// `stats.pta`, in OP-TEE itself.
pub const STATS: Uuid = uuid("d96a5b40-e2c7-b1af-8794-1002a5d5c61b");
/// Its `STATS_CMD_ALLOC_STATS`: value INPUT 0: a = pool; memref OUTPUT 1.
pub const STATS_ALLOC: u32 = 1;
/// Its `STATS_CMD_GET_TIME`: asks the normal world for the time (GET_TIME); values OUTPUT 0, 1.
pub const STATS_TIME: u32 = 4;
/// The VM's own heap in OP-TEE.
pub const POOL_HEAP: u64 = 1;
/// The VM's memory for applications.
pub const POOL_APPS: u64 = 3;
/// The heap of what all VMs share.
pub const POOL_NEXUS: u64 = 4;

/// `device.pta`, in OP-TEE itself.
pub const DEVICES: Uuid = uuid("7011a688-ddde-4053-a5a9-7b3c4ddf13b8");
/// Its `PTA_CMD_GET_DEVICES`: memref OUTPUT 0 gets the UUIDs.
pub const DEVICES_GET: u32 = 0;
/// `system.pta`, in OP-TEE itself, for applications only.
pub const SYSTEM: Uuid = uuid("3a2f8978-5dc0-11e8-9c2d-fa7ae01bbebc");

/// A small application of xtest's: one instance a session, so that each session takes an address
/// space of its own.
pub const SMALL: Uuid = uuid("528938ce-fc59-11e8-8eb2-f2801f1b9fd1");
/// An application of xtest's that panics on [`SIMS_PANIC`]; one instance for all sessions.
pub const SIMS: Uuid = uuid("e6a33ed4-562b-463a-bb7e-ff5e15a493c8");
/// Writes value 0.b into a slot (value 0.a).
pub const SIMS_WRITE: u32 = 2;
/// Panics.
pub const SIMS_PANIC: u32 = 4;
/// A single-instance application that stays after its last session.
pub const KEEP_ALIVE: Uuid = uuid("a4c04d50-f180-11e8-8eb2-f2801f1b9fd1");
/// An application of xtest's with several instances at once, which can be busy for as long as one
/// likes.
pub const CONCURRENT: Uuid = uuid("e13010e0-2ae1-11e5-896a-0002a5d5c51b");
/// Counts value INOUT 1.a down from thousandfold, while memref INOUT 0 says how many do so.
pub const CONCURRENT_BUSY: u32 = 0;
/// An application of xtest's with shared libraries.
pub const OS_TEST: Uuid = uuid("5b9e0e40-2636-11e1-ad9e-0002a5d5c51b");
/// Waits value INPUT 0.a milliseconds.
pub const OS_TEST_WAIT: u32 = 9;
/// An application of xtest's that stores what it is told to.
pub const STORAGE: Uuid = uuid("b689f2a7-8adf-477a-9f99-32e90c0ad0a2");
/// Creates and deletes twenty objects in the storage value INPUT 0.a.
pub const STORAGE_LOOP: u32 = 16;
/// The storage of the application alone (TEE_STORAGE_PRIVATE).
pub const STORAGE_PRIVATE: u64 = 1;
/// An application of xtest's that speaks to the network.
pub const SOCKET: Uuid = uuid("873bcd08-c2c3-11e6-a937-d0bf9c45c61c");
/// Connects: value INPUT 0 IP version and port, memref INPUT 1 address, memref OUTPUT 2 handle, value
/// OUTPUT 3.
pub const SOCKET_TCP: u32 = 0;
/// An application of xtest's that calls a plugin of the supplicant's when it is opened.
pub const PLUGIN: Uuid = uuid("380231ac-fb99-47ad-a689-9e017eb6e78a");

/// A memory pool of OP-TEE's, as `stats.pta` tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolStats {
    /// Bytes in use.
    pub used: u32,
    /// The most there were.
    pub peak: u32,
    /// Bytes in all.
    pub size: u32,
    /// Requests that failed.
    pub failed: u32,
}

impl PoolStats {
    /// Reads what `stats.pta` has written at an address, in `size` bytes.
    #[must_use]
    pub fn read(address: u64, size: u64) -> Self {
        // Behind the name, 32 bytes, are six words. Newer OP-TEEs have put a double word before them.
        let first = size.saturating_sub(6 * 4).clamp(32, 40);
        let word = |index: u64| memory::read_u32(address + first + 4 * index);
        Self {
            used: word(0),
            peak: word(1),
            size: word(2),
            failed: word(3),
        }
    }
}

/// Asks `stats.pta` about a pool, through a buffer registered for it under `cookie`.
///
/// # Errors
/// What failed first.
pub fn pool_stats(
    client: &Client,
    supplicant: &Supplicant,
    cookie: u64,
    pool: u64,
) -> Result<PoolStats, Failure> {
    let buffer = Pages::take(1);
    client.register(supplicant, cookie, &PageList::of(&buffer))?;
    let result = client.open(supplicant, STATS).and_then(|session| {
        let params = [
            value(Attr::VALUE_INPUT, pool, 0),
            rmem(Attr::RMEM_OUTPUT, 0, 4096, cookie),
        ];
        let result = client.invoke(supplicant, session, STATS_ALLOC, params);
        client.close(supplicant, session)?;
        result
    });
    client.unregister(supplicant, cookie)?;
    let [_, told] = result?;
    Ok(PoolStats::read(buffer.address(), told.b.get()))
}

/// Adds two numbers in `invoke_tests.pta`.
///
/// # Errors
/// What failed.
pub fn add(
    client: &Client,
    supplicant: &Supplicant,
    session: u32,
    a: u64,
    b: u64,
) -> Result<u64, Failure> {
    let params: [Param; 1] = [value(Attr::VALUE_INOUT, a, b)];
    let [sum] = client.invoke(supplicant, session, TESTS_PARAMS, params)?;
    Ok(sum.a.get())
}
