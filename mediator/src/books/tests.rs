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

/// OP-TEE is asked to forget what it knows, what the guest registered, and what no call uses.
#[test]
fn only_what_is_registered_live_and_not_in_use_is_unregistered_at_the_end() {
    for state in [State::Coming, State::Live, State::Going, State::Gone] {
        for provenance in [Provenance::Registered, Provenance::Allocated] {
            for users in [0, 1] {
                let mut books = Books::new(Quotas::default());
                let cookie = books.reserve(GuestCookie(7), provenance, 4096, 0, 1);
                let cookie = cookie.unwrap();
                let buffer = books.buffers.get(cookie).unwrap().1;
                (buffer.state, buffer.users) = (state, users);
                let is_fit = (state, provenance, users) == (State::Live, Provenance::Registered, 0);
                assert_eq!(books.begin_own_unregister(cookie), is_fit);
                let after = books.buffers.get(cookie).unwrap().1.state;
                assert_eq!(after, if is_fit { State::Going } else { state });
            }
        }
    }
    let mut books = Books::new(Quotas::default());
    let gone = books.reserve(GuestCookie(7), Provenance::Registered, 4096, 0, 1);
    let gone = gone.unwrap();
    books.remove(gone).unwrap();
    assert!(!books.begin_own_unregister(gone));
}
