// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What holds whatever guests do and OP-TEE asks, in every order.
//!
//! Two hostile VMs play at once, with an OP-TEE that asks for everything in every order, while a
//! third VM has a buffer registered and does nothing. The fake machine checks at each step that
//! * no address reaches OP-TEE but that of a page shared on behalf of the caller, or of a pinned page
//!   of the caller's, and that it stays so as long as OP-TEE knows it;
//! * no guest sees a physical address or a cookie of the mediator's, in memory or in registers;
//! * of an answer to an RPC nothing reaches OP-TEE but what the request made an output.
//!
//! And after each step, here:
//! * no VM has more than its quotas, nor more shared pages than its share ([`Play::check`]);
//! * as long as OP-TEE has kept to the protocol, nothing is held that OP-TEE does not know: pins,
//!   pages, buffers and sessions agree with OP-TEE's own whenever no call is under way;
//! * of a guest's message only the outputs change ([`play`]).
//!
//! In the end each hostile VM can begin anew with all of its quotas ([`Play::begin_anew`]), and the
//! quiet one has noticed nothing, and gets all that its own quotas promise.

mod actions;
mod play;

use super::{APP, SESSION, Vm, tries};
use crate::fake::{Machine, Step};
use crate::{Config, Features, Quotas};
use actions::{Action, Breaks, How, action};
use alloc::vec::Vec;
use optee_proto::msg::{Attr, Command, Param, login};
use optee_proto::{rpc, uuid};
use play::{PAGES, Play};
use proptest::collection::vec;
use proptest::prelude::*;

/// Few of everything, so that limits are met.
const TIGHT: Quotas = Quotas {
    buffers: 6,
    pages: 20,
    calls: 3,
    sessions: 3,
    rpc_buffers: 3,
    mapped_pages: 12,
    max_leaked_asids: 1000,
    address_spaces: 1002,
};

/// Less of some things.
const TIGHTER: Quotas = Quotas {
    buffers: 3,
    pages: 7,
    calls: 2,
    sessions: 1,
    rpc_buffers: 2,
    mapped_pages: 3,
    max_leaked_asids: 1000,
    address_spaces: 1002,
};

/// Pages of the quiet VM: more than one page of a list, but under Miri, which is slow.
const QUIET_PAGES: u32 = if cfg!(miri) { 8 } else { 600 };

fn config(quotas: Quotas) -> Config {
    Config {
        quotas,
        features: Features {
            rpc_arg: true,
            async_notif: true,
        },
        ..Config::default()
    }
}

/// Returns the machine, whose VMs have ended.
fn conversation(actions: &[(bool, Action)], scramble: bool, breaks: Breaks) -> Machine {
    let machine = Machine::new();
    machine.limit_vms(3);
    machine.set_tee(uuid::API_UID, 0b111_1101, 4);
    let quiet = Quotas {
        pages: QUIET_PAGES,
        buffers: 4,
        sessions: 3,
        ..Quotas::default()
    };
    let a = Vm::with_pages(&machine, 1, config(TIGHT), PAGES);
    let b = Vm::with_pages(&machine, 2, config(TIGHTER), PAGES);
    let c = Vm::with_pages(&machine, 3, config(quiet), PAGES);
    let neighbour = c.guest();
    let (cookie, result) = neighbour.register(3);
    assert_eq!(result, 0);
    let before = c.stats();
    // There are as many pages to share as the VMs can have at most, and no more.
    let all: u32 = [&a, &b, &c]
        .iter()
        .map(|vm| vm.mediator.shared_pages_max())
        .sum();
    machine.limit_shared_pages(all as usize - machine.shared_pages());

    let violations = match breaks {
        Breaks::Threads => Machine::violations_with_mixed_threads,
        _ => Machine::violations,
    };
    machine.scramble(scramble);
    let mut plays = [
        Play::new(&a, TIGHT, scramble),
        Play::new(&b, TIGHTER, scramble),
    ];
    for (first, action) in actions {
        let play = &mut plays[usize::from(!first)];
        play.act(action);
        assert_eq!(violations(&machine), [""; 0], "after {action:?}");
        for play in &plays {
            play.check(breaks);
        }
    }
    machine.scramble(false);

    // The neighbour has noticed nothing, and gets all that it was promised.
    assert_eq!(c.stats(), before);
    let memory = Param::new(Attr::RMEM_INOUT, 0, 100, cookie);
    let done = neighbour.run(neighbour.message(Command::INVOKE, SESSION, &[memory]));
    assert_eq!(done.header.ret.get(), 0);
    assert_eq!(neighbour.open(APP, login::PUBLIC).1, 0);
    assert_eq!(neighbour.open(APP, login::PUBLIC).1, 0);
    assert_eq!(neighbour.register(u64::from(QUIET_PAGES) - 3).1, 0);
    assert_eq!(c.host.pins(), QUIET_PAGES.into());

    // All calls come to an end, and then what is left is what OP-TEE has.
    for play in &mut plays {
        play.finish();
        play.check(breaks);
        if breaks == Breaks::Nothing {
            play.begin_anew();
        }
    }
    let [a_done, b_done] = plays.map(|play| play.is_over());
    assert!(a_done && b_done, "calls that do not end");
    a.end_seen_by(violations);
    assert_eq!((machine.pins() - b.host.pins()), c.host.pins());
    b.end_seen_by(violations);
    c.end_seen_by(violations);
    assert_eq!((machine.pins(), machine.shared_pages()), (0, 0));
    machine
}

/// Sequences of actions, each by one of two VMs; a few under Miri.
fn actions(breaks: Breaks, most: usize) -> impl Strategy<Value = Vec<(bool, Action)>> {
    let most = if cfg!(miri) { 6 } else { most };
    vec((any::<bool>(), action(breaks)), 1..most)
}

proptest! {
    #![proptest_config(tries(150))]

    /// OP-TEE keeps to its protocol.
    #[test]
    fn no_conversation_breaks_a_promise(actions in actions(Breaks::Nothing, 80)) {
        conversation(&actions, false, Breaks::Nothing);
    }

    /// The same while all that is read of guests changes right afterwards.
    #[test]
    fn nor_when_memory_changes_under_the_reader(actions in actions(Breaks::Nothing, 60)) {
        conversation(&actions, true, Breaks::Nothing);
    }

    /// OP-TEE asks for what there is not, scribbles, ends calls in between.
    #[test]
    fn nor_when_optee_breaks_the_protocol(actions in actions(Breaks::Protocol, 60)) {
        conversation(&actions, false, Breaks::Protocol);
    }

    /// OP-TEE gives one thread to several calls.
    #[test]
    fn nor_when_optee_mixes_up_threads(actions in actions(Breaks::Threads, 60)) {
        conversation(&actions, false, Breaks::Threads);
    }
}

/// Thread 0 is said to be thread 1, so that the answers to both calls go to thread 1: one of them succeeds before thread 1
/// reads what it was answered to SHM_ALLOC.
#[test]
fn nor_when_an_allocation_gets_the_answer_to_another_request() {
    let call = |steps| Action::Call {
        command: Command::INVOKE.0,
        params: Vec::new(),
        steps,
        how: How::Arg,
    };
    let command = |number| Step::Command(rpc::Command(number), Vec::new());
    let waits_as_1 = Step::Raw([rpc::Function::FOREIGN_INTR.a0(), 4, 4], Some(1));
    let asks = Vec::from([command(0), command(2), Step::ShmAlloc(0, 1)]);
    let actions = [call(Vec::from([waits_as_1])), call(asks)].map(|action| (true, action));
    let machine = conversation(&actions, false, Breaks::Threads);
    let all = machine.violations();
    assert!(
        all.iter()
            .any(|text| text.starts_with("SHM_ALLOC answered by ")),
        "{all:?}"
    );
    assert_eq!(machine.violations_with_mixed_threads(), [""; 0]);
}
