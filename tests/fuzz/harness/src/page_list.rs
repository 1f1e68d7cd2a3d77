// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes page lists of any content and shape, which may change while they are read, registered by
//! the guest or given to OP-TEE at its request.
//!
//! If nothing changes meanwhile, what OP-TEE gets is compared with an independent walk of the list.

use crate::input::Input;
use crate::world::{NAMES, PAGES, Reach, Vm, check, check_end, is_within, message, page, word};
use mediator::addr::{Ipa, PAGE_SIZE};
use mediator::fake::{Machine, Step};
use mediator::{Config, Features, Quotas};
use optee_proto::le::{U32, U64};
use optee_proto::msg::{self, Attr, Command, HEADER_SIZE, Header, Param};
use optee_proto::{Return, smc};
use std::collections::BTreeMap;
use zerocopy::IntoBytes;

/// The quota of pages, more than one step takes in.
const QUOTA: u64 = 4500;
/// The address of the message. Lists may be there as well.
const MESSAGE: Ipa = page(PAGES - 1);
/// The bytes that OP-TEE asks for.
const WANTED: u64 = 100;

/// Runs the target: the bytes decide the shape of the list, then what changes when.
pub fn run(data: &[u8]) {
    reach(data);
}

/// Runs the target and returns how far it got.
pub(crate) fn reach(data: &[u8]) -> Reach {
    let mut input = Input::new(data);
    let machine = Machine::new();
    machine.remember_guesses();
    let config = Config {
        quotas: Quotas {
            pages: QUOTA as u32,
            mapped_pages: QUOTA as u32,
            ..Quotas::default()
        },
        features: Features {
            rpc_arg: true,
            async_notif: false,
        },
        ..Config::default()
    };
    let vm = Vm::new(&machine, 1, config.clone());
    let session = vm.open();
    let other = Vm::new(&machine, 2, Config::default());

    let how = input.byte();
    let asked = how & 1 == 1;
    let attr = if how & 2 == 0 {
        Attr::PAGE_LIST
    } else {
        Attr::TMEM_OUTPUT
    };
    let pointer = word(&mut input, &[&vm.host, &other.host]);
    let size = match how >> 2 & 3 {
        0 => word(&mut input, &[&vm.host]),
        _ => u64::from(input.half()) * PAGE_SIZE / 8 + input.below(8),
    };
    let name = if how & 0x10 == 0 {
        NAMES[0]
    } else {
        input.double()
    };
    let max_pins = if how & 0x20 == 0 {
        u32::MAX
    } else {
        input.below(40) as u32
    };
    machine.limit_pins(max_pins);
    for _ in 0..input.below(6) {
        write_list(&vm, &mut input, &other);
    }
    for _ in 0..input.below(4) {
        vm.host.unmap(page(input.below(PAGES - 1)));
    }
    let quiet = how & 0x40 == 0;
    if !quiet {
        for _ in 0..input.below(8) {
            let at = page(input.byte().into()).get() + input.below(64) * 8;
            let to = word(&mut input, &[&vm.host, &other.host]);
            machine.flip(Ipa::new(at), &to.to_le_bytes());
        }
        machine.scramble(how & 0x80 != 0);
    }

    let param = Param::new(attr, pointer, size, name);
    let single = asked && attr == Attr::TMEM_OUTPUT;
    let (mut regs, expected);
    if asked {
        machine.script(1, [Step::ShmAlloc(0, WANTED)]);
        vm.poke(MESSAGE, &message(Command::CANCEL, session, &[]));
        regs = vm.begin(smc::CALL_WITH_RPC_ARG, MESSAGE.get(), 0);
        answer(&vm, param);
        expected = walk(&vm, param, asked, single, max_pins);
    } else {
        vm.poke(MESSAGE, &message(Command::REGISTER_SHM, 0, &[param]));
        expected = walk(&vm, param, asked, single, max_pins);
        regs = vm.begin(smc::CALL_WITH_ARG, MESSAGE.get(), 0);
    }
    for _ in 0..12 {
        if Return::from_x0(regs[0]).rpc().is_none() {
            break;
        }
        if !quiet {
            write_list(&vm, &mut input, &other);
        }
        regs = vm.resume(regs[3], [0; 4]);
        check(&machine);
        assert!(is_within(&vm.mediator.stats(), &config));
    }
    machine.scramble(false);
    check(&machine);
    let stats = vm.mediator.stats();
    assert_eq!(stats.calls, 0, "{regs:x?}");
    let got = machine.buffers(1);
    let pins: usize = got.iter().map(Vec::len).sum();
    assert_eq!(
        machine.pins(),
        pins as u64,
        "pins are not the buffers' pages"
    );
    assert_eq!(stats.pages_pinned, pins as u64);
    if quiet {
        assert_eq!(got.first(), expected.as_ref(), "{param:x?}");
    }
    vm.end();
    other.end();
    check_end(&machine);
    Reach::of(&machine, &[1, 2])
}

/// Writes a page of a list: some words repeatedly, and a link.
fn write_list(vm: &Vm, input: &mut Input<'_>, other: &Vm) {
    let at = page(input.below(PAGES - 1));
    let hosts = [&vm.host, &other.host];
    let some: Vec<U64> = (0..1 + input.below(6))
        .map(|_| U64::new(word(input, &hosts)))
        .collect();
    let mut words: Vec<U64> = (0..=msg::PAGE_LIST_ENTRIES)
        .map(|at| some[at % some.len()])
        .collect();
    if input.flag() {
        words[msg::PAGE_LIST_ENTRIES] = U64::new(page(input.byte().into()).get());
    }
    vm.poke(at, words.as_bytes());
}

/// Writes the guest's answer to SHM_ALLOC into the memory after its message.
fn answer(vm: &Vm, param: Param) {
    let header = Header {
        num_params: U32::new(1),
        ..Header::default()
    };
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(param.as_bytes());
    vm.poke(Ipa::new(MESSAGE.get() + HEADER_SIZE as u64), &bytes);
}

/// Returns the physical pages of the buffer, if one is to be registered.
fn walk(vm: &Vm, param: Param, asked: bool, single: bool, max_pins: u32) -> Option<Vec<u64>> {
    let (pointer, size, name) = (param.a.get(), param.b.get(), param.c.get());
    let offset = pointer % PAGE_SIZE;
    let bytes = size.checked_add(offset)?;
    let count = bytes.div_ceil(PAGE_SIZE);
    let wrong = size == 0 || pointer == 0 || name == 0 || count > QUOTA;
    if wrong || asked && size < WANTED || !asked && param.attr() != Attr::PAGE_LIST {
        return None;
    }
    let mut list = pointer - offset;
    let mut pages = Vec::new();
    let mut pins: BTreeMap<u64, u32> = BTreeMap::new();
    for number in 0..count {
        let at = number % msg::PAGE_LIST_ENTRIES as u64;
        if at == 0 && number != 0 {
            list = vm.peek_double(Ipa::new(list + PAGE_SIZE - 8))?;
            if !list.is_multiple_of(PAGE_SIZE) {
                return None;
            }
        }
        let entry = if single {
            (count == 1 && offset == 0).then_some(pointer)?
        } else {
            vm.peek_double(Ipa::new(list.checked_add(at * 8)?))?
        };
        if !entry.is_multiple_of(PAGE_SIZE) {
            return None;
        }
        let pa = vm.host.physical(Ipa::new(entry))?.get();
        let pins = pins.entry(pa).or_default();
        *pins += 1;
        if *pins > max_pins {
            return None;
        }
        pages.push(pa);
    }
    Some(pages)
}
