// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes whole conversations: two VMs with several concurrent calls each, an OP-TEE that asks for
//! anything in any order, memory that changes while it is read, VMs that start and end.

mod play;
pub(crate) mod script;

use crate::input::Input;
use crate::world::{PAGES, Reach, Vm, check, check_end, is_within, page};
use mediator::fake::Machine;
use mediator::{Config, Features, Policy, Quotas, Stats};
use optee_proto::msg::{Attr, Command, Param};
use optee_proto::smc;
use play::Guest;

/// The most steps of one conversation.
const STEPS: usize = 120;

/// Runs one conversation: the bytes decide how the VMs are configured, then each step.
pub fn run(data: &[u8]) {
    reach(data);
}

/// Runs one conversation and returns how far it got.
pub(crate) fn reach(data: &[u8]) -> Reach {
    let mut input = Input::new(data);
    let machine = Machine::new();
    machine.remember_guesses();
    let threads = 1 + input.below(4) as usize;
    machine.set_tee(optee_proto::uuid::API_UID, 0b111_1101, threads);
    let configs = [config(&mut input), config(&mut input)];
    let vms = [
        Vm::new(&machine, 1, configs[0].clone()),
        Vm::new(&machine, 2, configs[1].clone()),
    ];
    for vm in &vms {
        vm.open();
    }
    let hosts = [&vms[0].host, &vms[1].host];
    let mut guests = [Guest::new(&vms[0], hosts), Guest::new(&vms[1], hosts)];

    let promised = vms
        .each_ref()
        .map(|vm| vm.mediator.shared_pages_max() as usize);
    let promised = promised.iter().sum::<usize>();

    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let step = input.byte();
        let who = usize::from(step >> 7);
        let before = vms[1 - who].mediator.stats();
        guests[who].act(step & 0x7f, &mut input);
        check(&machine);
        let now: [Stats; 2] = [0, 1].map(|n| vms[n].mediator.stats());
        assert_eq!(now[1 - who], before, "a neighbour notices");
        assert!(is_within(&now[who], &configs[who]), "{:?}", now[who]);
        // Otherwise a VM could take pages that were promised to the other.
        assert!(machine.shared_pages() <= promised);
    }

    machine.scramble(false);
    machine.limit_shared_pages(100_000);
    machine.limit_pins(u32::MAX);
    for guest in &mut guests {
        guest.end();
    }
    check_end(&machine);
    let reach = Reach::of(&machine, &[1, 2]);
    // Whatever happened, each VM can be created again and served.
    for guest in &mut guests {
        if guest.create() {
            serves(guest.vm);
            guest.end();
        }
    }
    check_end(&machine);
    reach
}

fn config(input: &mut Input<'_>) -> Config {
    let bits = input.byte();
    Config {
        quotas: Quotas {
            buffers: 1 + input.below(8) as u32,
            pages: input.below(64) as u32,
            calls: 1 + input.below(5) as u32,
            sessions: 1 + input.below(4) as u32,
            rpc_buffers: input.below(5) as u32,
            mapped_pages: input.below(64) as u32,
            ..Quotas::default()
        },
        policy: Policy {
            rpmb: bits & 1 != 0,
            i2c: bits & 2 != 0,
            ..Policy::default()
        },
        features: Features {
            rpc_arg: bits & 4 == 0,
            async_notif: bits & 8 == 0,
        },
        ..Config::default()
    }
}

/// Checks that the VM can do what every guest can.
fn serves(vm: &Vm) {
    let at = page(PAGES - 1);
    if !vm.is_mapped(at) || !vm.is_mapped(page(PAGES - 2)) || !vm.is_mapped(page(1)) {
        return;
    }
    let value = Param::new(Attr::VALUE_INOUT, 1, 2, 3);
    let message = crate::world::message(Command::INVOKE, vm.session(0), &[value]);
    vm.poke(at, &message);
    assert_eq!(vm.begin(smc::CALL_WITH_ARG, at.get(), 0)[0], 0);
    assert_eq!(vm.peek_word(mediator::addr::Ipa::new(at.get() + 20)), 0);
    let _ = vm.register(&[page(1)], 100, 0, 7);
    check(vm.host.machine());
}
