// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What holds whatever guests do and OP-TEE asks, in every order.
//!
//! Two hostile VMs play beside one that is not. The machine finds what no mediator may do: a trap of the SPMC's, memory
//! that is not pinned while OP-TEE may use it, a secret that a guest sees.

use super::*;
use crate::fake::Step;
use crate::fake::play::{Action, PLAY_PAGES, Play, PlayParam, Reply};
use crate::tests::tries;
use crate::{Features, Quotas};
use alloc::vec;
use optee_proto::{TeeResult, rpc};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Few of everything, so that limits are met.
const TIGHT: Quotas = Quotas {
    buffers: 10,
    pages: 24,
    calls: 3,
    sessions: 3,
    rpc_buffers: 3,
    mapped_pages: 16,
    max_leaked_asids: 1000,
    address_spaces: 1002,
};

fn param() -> impl Strategy<Value = PlayParam> {
    let attr =
        prop_oneof![20 => select(&[0, 1, 2, 3, 5, 6, 7][..]), 1 => 0u64..13, 1 => any::<u64>()];
    let word = prop_oneof![3 => 0u64..64, 3 => 0u64..9000, 1 => any::<u64>()];
    (attr, word.clone(), word, any::<u8>())
}

fn step() -> impl Strategy<Value = Step> {
    let request = (0u32..26, vec((0u64..8, 0u64..3), 0..5)).prop_map(|(command, params)| {
        let params = params
            .into_iter()
            .map(|(attr, c)| Param::new(Attr(attr), 3, 5, c))
            .collect();
        // These two have steps of their own.
        let command = if matches!(command, 6 | 7) { 2 } else { command };
        Step::Command(rpc::Command(command), params)
    });
    prop_oneof![
        3 => Just(Step::ForeignInterrupt),
        3 => request,
        4 => (0u64..3, 1u64..9000).prop_map(|(kind, size)| Step::ShmAlloc(kind, size)),
        1 => (1u64..9000).prop_map(|size| Step::ShmAllocInterrupted(0, size)),
        4 => (0usize..3).prop_map(|number| Step::ShmFree(0, number)),
        1 => Just(Step::Result(TeeResult::BUSY)),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let internal = prop_oneof![4 => Just(0u16), 1 => any::<u16>()];
    let size = prop_oneof![4 => 1u64..30_000, 1 => any::<u64>()];
    prop_oneof![
        4 => Just(Reply::Well),
        2 => (any::<u8>(), internal, size).prop_map(|(pick, at, size)| Reply::Memory(pick, at, size)),
        1 => vec(any::<u8>(), 160).prop_map(Reply::Noise),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let damage = proptest::option::weighted(0.3, (any::<u16>(), any::<u32>()));
    let share = (
        any::<(u8, u8)>(),
        damage,
        any::<u16>(),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(pages, damage, fragment, only_first)| Action::Share {
            pages,
            damage,
            fragment,
            only_first,
        });
    let offset = prop_oneof![Just(0u32), Just(3800), 0u32..9000, any::<u32>()];
    let at = proptest::option::weighted(0.3, (any::<u8>(), offset));
    let command = prop_oneof![6 => Just(1u32), 1 => 0u32..9];
    let call = (
        command,
        vec(param(), 0..5),
        vec(step(), 0..6),
        at,
        any::<u8>(),
    )
        .prop_map(|(command, params, steps, at, page)| Action::Call {
            command,
            params,
            steps,
            at,
            page,
        });
    let raw = (
        select(&[0x8400_0000u64, 0xc400_0000][..]),
        0x60u64..0x90,
        any::<[u64; 17]>(),
        any::<bool>(),
    )
        .prop_map(|(base, number, rest, is_small)| {
            let mut regs = [0; 18];
            regs[0] = base | number;
            for (reg, value) in regs[1..].iter_mut().zip(rest) {
                *reg = if is_small { value % 5 } else { value };
            }
            Action::Raw(regs)
        });
    prop_oneof![
        4 => share,
        1 => any::<(u8, u16)>().prop_map(|(pick, length)| Action::Fragment(pick, length)),
        2 => any::<u8>().prop_map(Action::Unregister),
        2 => any::<u8>().prop_map(Action::Reclaim),
        6 => call,
        9 => (any::<u8>(), reply()).prop_map(|(which, reply)| Action::Answer(which, reply)),
        1 => any::<u32>().prop_map(|token| Action::Resume(token % 9)),
        1 => any::<bool>().prop_map(Action::Buffers),
        1 => raw,
        1 => any::<u8>().prop_map(Action::Unmap),
        1 => Just(Action::Restart),
    ]
}

fn conversation(manner: Manner, actions: &[(bool, Action)], scramble: bool) {
    let ffa = Ffa::new(manner);
    ffa.machine.limit_vms(3);
    ffa.machine
        .set_tee(optee_proto::uuid::API_UID, 0b111_1101, 4);
    let features = Features {
        async_notif: true,
        ..Features::default()
    };
    let config = Config {
        quotas: TIGHT,
        features,
        ..Config::default()
    };
    let vms = [1, 2].map(|client| ffa.sized(client, config.clone(), PLAY_PAGES));
    let quiet = ffa.vm(3);
    let neighbour = quiet.guest();
    let (buffer, _) = neighbour.register(3);
    let before = quiet.stats();
    ffa.machine.remember_guesses();
    for vm in &vms {
        vm.open_session(PLAY_PAGES);
    }
    let [a, b] = &vms;
    let mut plays = [a, b].map(|vm| Play::new(&vm.host, &vm.mediator));
    ffa.machine.scramble(scramble);
    for (is_first, action) in actions {
        let who = usize::from(!is_first);
        let others = plays[1 - who].handles().to_vec();
        plays[who].act(action, &others);
        assert_eq!(ffa.machine.violations(), [""; 0], "after {action:?}");
        for vm in &vms {
            let stats = vm.stats();
            assert!(stats.buffers <= TIGHT.buffers.into() && stats.calls <= TIGHT.calls.into());
            assert!(stats.pages_pinned <= TIGHT.pages.into(), "{stats:?}");
            assert!(stats.sessions <= TIGHT.sessions.into());
            assert!(stats.mapped_pages <= TIGHT.mapped_pages.into());
            assert!(ffa.machine.object_count(vm.host.vm()) < 64);
        }
        assert_eq!(quiet.stats(), before);
    }
    ffa.machine.scramble(false);
    // The neighbour has noticed nothing.
    let memory = Param::new(Attr::RMEM_INOUT, 0, 100, buffer);
    let done = neighbour.run(neighbour.message(Command::INVOKE, SESSION, &[memory]));
    assert_eq!(done.header.ret.get(), 0);
    for play in &mut plays {
        play.finish();
        assert!(play.is_over(), "calls that do not end");
    }
    drop(plays);
    for vm in vms {
        vm.end_one();
    }
    quiet.end_one();
    assert_eq!((ffa.machine.pins(), ffa.machine.shared_pages()), (0, 0));
}

fn actions(most: usize) -> impl Strategy<Value = Vec<(bool, Action)>> {
    let most = if cfg!(miri) { 6 } else { most };
    vec((any::<bool>(), action()), 1..most)
}

proptest! {
    #![proptest_config(tries(100))]

    #[test]
    fn no_conversation_breaks_a_promise(actions in actions(80)) {
        conversation(Manner::OpTee, &actions, false);
    }

    #[test]
    fn nor_with_an_spmc_that_checks(actions in actions(60)) {
        conversation(Manner::Checking, &actions, false);
    }

    #[test]
    fn nor_when_memory_changes_under_the_reader(actions in actions(60)) {
        conversation(Manner::OpTee, &actions, true);
    }
}
