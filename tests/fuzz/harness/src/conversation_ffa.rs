// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes whole conversations over FF-A: two VMs that share memory, call and end in any order, with OP-TEE as SPMC and
//! its faults, or with an SPMC that checks its callers, and an OP-TEE that asks for anything.

use crate::conversation::script;
use crate::input::Input;
use crate::world::{Reach, check, check_end, is_within};
use mediator::fake::play::{Action, PLAY_PAGES, Play, PlayParam, Reply};
use mediator::fake::spmc::Manner;
use mediator::fake::{FakeHost, Guest, Machine};
use mediator::ffa::{ExchangeBuffers, Spmc, probe};
use mediator::{ClientId, Config, Features, Mediator, Quotas, Stats, TeeInfo};
use optee_proto::Uuid;
use optee_proto::msg::login;
use std::num::NonZeroU16;
use std::sync::Arc;

/// The most steps of one conversation.
const STEPS: usize = 120;

/// Runs one conversation: the bytes decide how the VMs are configured, then each step.
pub fn run(data: &[u8]) {
    reach(data);
}

/// Runs one conversation and returns how far it got.
pub(crate) fn reach(data: &[u8]) -> Reach {
    let mut input = Input::new(data);
    let manner = input.pick(&[Manner::OpTee, Manner::Checking]);
    let machine = Machine::new_ffa(manner);
    machine.remember_guesses();
    let threads = 1 + input.below(4) as usize;
    machine.set_tee(optee_proto::uuid::API_UID, 0b111_1101, threads);
    let (tee, spmc) = find(&machine);
    let config = [config(&mut input), config(&mut input)];
    let vms = [1, 2].map(|client| {
        let host = machine.add_vm(client, PLAY_PAGES);
        let number = ClientId::new(NonZeroU16::new(client).expect("not zero"));
        let config = config[usize::from(client) - 1].clone();
        let mediator = Mediator::new_ffa(number, config, tee, Arc::clone(&spmc));
        mediator.create(&host).expect("there is room for it");
        (host, mediator)
    });
    for (host, mediator) in &vms {
        open_session(host, mediator);
    }
    let [a, b] = &vms;
    let mut plays = [a, b].map(|(host, mediator)| Play::new(host, mediator));
    machine.scramble(input.below(8) == 0);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let who = usize::from(input.flag());
        let action = action(&mut input);
        let others = plays[1 - who].handles().to_vec();
        let before = vms[1 - who].1.stats();
        plays[who].act(&action, &others);
        check(&machine);
        let now: [Stats; 2] = [0, 1].map(|n: usize| vms[n].1.stats());
        assert_eq!(now[1 - who], before, "a neighbour notices");
        assert!(is_within(&now[who], &config[who]), "{:?}", now[who]);
        assert!([1, 2].iter().all(|&vm| machine.object_count(vm) < 64));
    }
    machine.scramble(false);
    for play in &mut plays {
        play.finish();
    }
    drop(plays);
    let reach = Reach::of(&machine, &[1, 2]);
    for (host, mediator) in &vms {
        // One that is not created any more has ended before.
        mediator.destroy(host).expect("no vCPU is inside");
        check(&machine);
        if mediator.create(host).is_ok() {
            open_session(host, mediator);
            mediator.destroy(host).expect("no vCPU is inside");
        }
        check(&machine);
    }
    check_end(&machine);
    reach
}

fn find(machine: &Machine) -> (TeeInfo, Arc<Spmc>) {
    let (tx, rx, pages) = Machine::exchange_buffers();
    let read = |offset: usize, into: &mut [u8]| machine.read_rx(offset, into);
    let found = probe(
        &machine.hypervisor(),
        ExchangeBuffers { tx, rx, pages },
        read,
    );
    let (tee, spmc) = found.expect("the made-up SPMC is a good one");
    (tee, Arc::new(spmc))
}

/// Opens a session, if the quotas allow it, so that calls have one to name.
fn open_session(host: &FakeHost, mediator: &Mediator) {
    let guest = Guest::over_ffa(host, mediator);
    // The last page, which nobody else has.
    guest.alloc(PLAY_PAGES - 1);
    let at = guest.alloc(0);
    if guest
        .share(&[at])
        .is_ok_and(|handle| guest.reclaim(handle).is_ok())
    {
        guest.open(Uuid([0xa1; 16]), login::PUBLIC);
    }
}

/// Number of starts of each of the two VMs, of the 24 that both may have.
const STARTS: u32 = 12;

fn config(input: &mut Input<'_>) -> Config {
    let bits = input.byte();
    Config {
        quotas: Quotas {
            buffers: 2 + input.below(60) as u32,
            pages: 1 + input.below(64) as u32,
            calls: 1 + input.below(5) as u32,
            sessions: 1 + input.below(4) as u32,
            mapped_pages: input.below(64) as u32,
            ..Quotas::default()
        },
        features: Features {
            async_notif: bits & 1 == 0,
            ..Features::default()
        },
        // As EL2 does: OP-TEE bears few starts, and each VM has a share of them.
        max_creations: Some(STARTS),
        ..Config::default()
    }
}

fn param(input: &mut Input<'_>) -> PlayParam {
    let attr = match input.below(16) {
        attr @ 0..=11 => attr,
        12..=14 => 5 + input.below(3),
        _ => input.double(),
    };
    let mut word = || match input.below(8) {
        0 => input.double(),
        1..=3 => u64::from(input.half()),
        _ => u64::from(input.byte()),
    };
    let (a, b) = (word(), word());
    (attr, a, b, input.byte())
}

fn action(input: &mut Input<'_>) -> Action {
    match input.below(32) {
        0..=4 => Action::Share {
            pages: (input.byte(), input.byte()),
            damage: (input.below(3) == 0).then(|| (input.half(), input.word())),
            fragment: input.half(),
            only_first: input.below(5) == 0,
        },
        5 => Action::Fragment(input.byte(), input.half()),
        6..=8 => Action::Unregister(input.byte()),
        9..=11 => Action::Reclaim(input.byte()),
        12..=18 => Action::Call {
            command: match input.below(8) {
                command @ 0..=2 => u32::from(input.byte()) % 9 * command as u32,
                _ => 1,
            },
            params: (0..input.below(5)).map(|_| param(input)).collect(),
            steps: script::protocol(input),
            at: (input.below(3) == 0).then(|| {
                let offset = if input.flag() {
                    u32::from(input.half())
                } else {
                    input.word()
                };
                (input.byte(), offset)
            }),
            page: input.byte(),
        },
        19..=26 => Action::Answer(input.byte(), reply(input)),
        27 => Action::Resume(input.word() % 16),
        28 => Action::Buffers(input.flag()),
        29 => {
            let mut regs = [0; 18];
            let base: u64 = input.pick(&[0x8400_0000, 0xc400_0000]);
            regs[0] = base | u64::from(input.byte());
            for reg in &mut regs[1..8] {
                *reg = match input.below(4) {
                    0 => input.double(),
                    1 => u64::from(input.word()),
                    _ => input.below(5),
                };
            }
            Action::Raw(regs)
        }
        30 => Action::Unmap(input.byte()),
        _ => Action::Restart,
    }
}

fn reply(input: &mut Input<'_>) -> Reply {
    match input.below(8) {
        0..=3 => Reply::Well,
        4..=6 => {
            let size = if input.flag() {
                u64::from(input.half())
            } else {
                input.double()
            };
            let internal_offset = if input.flag() { 0 } else { input.half() };
            Reply::Memory(input.byte(), internal_offset, size)
        }
        _ => Reply::Noise(input.bytes(160).to_vec()),
    }
}
