//! The books by themselves.

use super::*;
use crate::sessions::Session;

const NONE: Quotas = Quotas {
    buffers: 0,
    pages: 0,
    calls: 0,
    sessions: 0,
    rpc_buffers: 0,
    mapped_pages: 0,
    leftovers: 0,
    address_spaces: 0,
};

/// How many more bytes of the heap a VM may take with more of something.
fn more(change: impl Fn(&mut Quotas)) -> u64 {
    let mut quotas = NONE;
    change(&mut quotas);
    Books::heap_bytes(&quotas) - Books::heap_bytes(&NONE)
}

/// The same for a list of 60, which begins with room for four and doubles.
fn sixty<T>() -> u64 {
    let (entry, room) = (size_of::<T>().next_power_of_two() as u64, 64 - 4);
    entry * room * 3 / 2
}

/// What the mediator promises to make do with follows from each quota, and from nothing else.
#[test]
fn each_quota_has_its_share_of_the_heap() {
    // A word a page, twice where a block is half empty, and a page of a list for 511.
    assert_eq!(more(|quotas| quotas.pages = 2 * 511), 2 * (8 * 511 + 16));
    assert_eq!(more(|quotas| quotas.sessions = 60), sixty::<Session>());
    let rpc = more(|quotas| quotas.rpc_buffers = 60);
    assert_eq!(rpc, table_of_sixty::<Option<RpcBuffer>>());
    let pages = 60 * 2 * 8;
    let buffers = more(|quotas| quotas.buffers = 60);
    assert_eq!(
        buffers,
        table_of_sixty::<Buffer>() + pages + sixty::<Cookie>()
    );
    let call = (size_of::<Call>() as u64).next_power_of_two() + 16;
    let calls = |number| more(|quotas| quotas.calls = number);
    assert_eq!(calls(60), 60 * call + 5 * sixty::<(u64, SharedPage)>());
    assert_eq!(calls(MAX_CALLS + 1), calls(MAX_CALLS));
    assert!(calls(MAX_CALLS - 1) < calls(MAX_CALLS));
}

fn table_of_sixty<T>() -> u64 {
    Table::<T>::heap_bytes(60) - Table::<T>::heap_bytes(0)
}
