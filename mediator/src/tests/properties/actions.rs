// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What guests do, and what OP-TEE does meanwhile.

use super::play::PAGES;
use crate::fake::Step;
use alloc::vec::Vec;
use optee_proto::TeeResult;
use optee_proto::msg::{Attr, Param};
use optee_proto::rpc;
use proptest::collection::vec;
use proptest::prelude::*;

/// What OP-TEE does that it must not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Breaks {
    /// It keeps to the protocol.
    Nothing,
    /// Requests that are none, and calls that end at any time.
    Protocol,
    /// Thread numbers, besides.
    Threads,
}

/// Something that a guest does. Small numbers pick from what there is.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// Registers this many pages under one of a few cookies; one entry may be wrong.
    Register {
        pages: u64,
        name: u64,
        wrong: Option<(usize, u64)>,
    },
    Unregister {
        name: u64,
    },
    /// Calls with these parameters and this to happen meanwhile.
    Call {
        command: u32,
        params: Vec<Param>,
        steps: Vec<Step>,
        how: How,
    },
    /// Answers one of the RPCs that wait as Linux does, if well meant.
    Answer {
        which: usize,
        well: bool,
        noise: Vec<u8>,
        regs: [u64; 4],
    },
    Open,
    Close {
        session: u32,
    },
    Fast {
        function: u32,
    },
    Raw {
        regs: [u64; 8],
    },
    /// Takes away a page that is not pinned.
    Unmap {
        page: u64,
    },
}

/// Where a call's message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum How {
    /// In a page.
    Arg,
    /// In a page with room for RPC messages.
    RpcArg,
    /// In the buffer of this name, at this offset.
    Registered(u64, u64),
}

fn names() -> impl Strategy<Value = u64> {
    let few = 0xffff_8000_0000_0000u64..0xffff_8000_0000_0004;
    prop_oneof![4 => few, 1 => Just(0), 1 => any::<u64>()]
}

fn how() -> impl Strategy<Value = How> {
    let offset = prop_oneof![Just(0u64), Just(3800), 0u64..9000];
    prop_oneof![
        2 => Just(How::Arg),
        2 => Just(How::RpcArg),
        2 => (names(), offset).prop_map(|(name, offset)| How::Registered(name, offset & !7)),
    ]
}

fn param() -> impl Strategy<Value = Param> {
    let known = proptest::sample::select(&[0, 1, 2, 3, 5, 6, 7, 9, 10, 11u64][..]);
    let attr = prop_oneof![20 => known, 1 => 0u64..13, 1 => any::<u64>()];
    let word = prop_oneof![3 => 0u64..64, 3 => 0u64..9000, 1 => any::<u64>()];
    (attr, word.clone(), word, names())
        .prop_map(|(attr, a, b, c)| Param::new(Attr(attr), if attr >= 9 { a % 2 } else { a }, b, c))
}

/// What OP-TEE may do. Sizes are no addresses and no cookies, or the check for secrets errs.
fn good_step() -> BoxedStrategy<Step> {
    let request = (0u32..26, vec((0u64..8, 0u64..3), 0..5)).prop_map(|(command, params)| {
        let params = params
            .into_iter()
            .map(|(attr, c)| Param::new(Attr(attr), 3, 5, c))
            .collect();
        // These two have steps of their own.
        Step::Command(
            rpc::Command(if matches!(command, 6 | 7) { 2 } else { command }),
            params,
        )
    });
    prop_oneof![
        3 => Just(Step::ForeignInterrupt),
        4 => request,
        4 => (0u64..4, 1u64..9000).prop_map(|(kind, size)| match kind {
            3 => Step::ShmAllocInterrupted(0, size),
            _ => Step::ShmAlloc(kind, size),
        }),
        4 => (0usize..3).prop_map(|number| Step::ShmFree(0, number)),
        1 => prop_oneof![Just(Step::FreeRpc), any::<bool>().prop_map(Step::UseRoom)],
        1 => Just(Step::Result(TeeResult::BUSY)),
    ]
    .boxed()
}

/// What OP-TEE may not do.
fn bad_step(breaks: Breaks) -> BoxedStrategy<Step> {
    let claimed = if breaks == Breaks::Threads { 3u64 } else { 0 };
    let raw =
        (0u64..7, proptest::option::weighted(0.3, 0..claimed + 1)).prop_map(move |(n, thread)| {
            Step::Raw([0xffff_0000 | n, n, n], thread.filter(|_| claimed > 0))
        });
    prop_oneof![
        Just(Step::Scribble(0xa5)),
        vec(any::<u8>(), 160).prop_map(Step::RawCommand),
        (0u64..9).prop_map(Step::End),
        raw,
    ]
    .boxed()
}

fn step(breaks: Breaks) -> BoxedStrategy<Step> {
    match breaks {
        Breaks::Nothing => good_step(),
        _ => prop_oneof![4 => good_step(), 1 => bad_step(breaks)].boxed(),
    }
}

fn register() -> impl Strategy<Value = Action> {
    let wrong = proptest::option::weighted(0.3, (0usize..6, any::<u64>()));
    (1u64..6, names(), wrong).prop_map(|(pages, name, wrong)| Action::Register {
        pages,
        name,
        wrong,
    })
}

fn call(breaks: Breaks) -> impl Strategy<Value = Action> {
    let command = prop_oneof![6 => Just(1u32), 1 => 0u32..9];
    (command, vec(param(), 0..5), vec(step(breaks), 0..6), how()).prop_map(
        |(command, params, steps, how)| Action::Call {
            command,
            params,
            steps,
            how,
        },
    )
}

fn answer() -> impl Strategy<Value = Action> {
    (
        0usize..4,
        any::<bool>(),
        vec(any::<u8>(), 160),
        any::<[u64; 4]>(),
    )
        .prop_map(|(which, well, noise, regs)| Action::Answer {
            which,
            well,
            noise,
            regs,
        })
}

pub(super) fn action(breaks: Breaks) -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => register(),
        2 => names().prop_map(|name| Action::Unregister { name }),
        6 => call(breaks),
        9 => answer(),
        1 => Just(Action::Open),
        1 => (0u32..6).prop_map(|session| Action::Close { session }),
        1 => prop_oneof![0xb200_0000u32..0xb200_0016, any::<u32>()]
            .prop_map(|function| Action::Fast { function }),
        1 => any::<[u64; 8]>().prop_map(|regs| Action::Raw { regs }),
        1 => (0..PAGES).prop_map(|page| Action::Unmap { page }),
    ]
}
