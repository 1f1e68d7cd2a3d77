// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes one message of any content, through a whole call.
//!
//! What the mediator accepts is compared with an independent implementation of the ABI here.

use crate::input::Input;
use crate::world::{NAMES, PAGES, Vm, check, check_end, is_within, message, page};
use mediator::addr::{Ipa, PAGE_SIZE};
use mediator::fake::{Machine, Outcome};
use mediator::{Config, Features, Quotas};
use optee_proto::msg::{self, Attr, Command, HEADER_SIZE, Header, PARAM_SIZE, Param};
use optee_proto::{Return, smc};
use zerocopy::FromBytes;

/// The two buffers: cookie and bytes.
const BUFFERS: [(u64, u64); 2] = [(NAMES[0], 3 * PAGE_SIZE), (NAMES[1], 5000)];
/// The offset of the second buffer in its first page.
const OFFSET: u64 = 0x123 & !7;

/// Byte 0 decides how the call is made, bytes 1 and 2 the address; the rest is the message.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    let place = input.half();
    let machine = Machine::new();
    machine.remember_guesses();
    let config = Config {
        quotas: Quotas {
            pages: 5000,
            ..Quotas::default()
        },
        features: Features {
            rpc_arg: how & 4 == 0,
            async_notif: how & 8 == 0,
        },
        ..Config::default()
    };
    let vm = Vm::new(&machine, 1, config.clone());
    let first = [page(8), page(9), page(10)];
    assert_eq!(vm.register(&first, BUFFERS[0].1, 0, BUFFERS[0].0), 0);
    let second = [page(20), page(30)];
    assert_eq!(vm.register(&second, BUFFERS[1].1, OFFSET, BUFFERS[1].0), 0);
    let session = vm.open();
    let before = machine.outcomes(1).len();

    // The message's bytes and address. Every other message names the open session.
    let bytes = input.rest();
    let mut bytes = bytes[..bytes.len().min(PAGE_SIZE as usize)].to_vec();
    if let Some(named) = bytes.get_mut(8..12)
        && named[0] & 1 == 0
    {
        named.copy_from_slice(&session.to_le_bytes());
    }
    let bytes = bytes.as_slice();
    let (function, value, a3, at) = match how & 3 {
        0 => (smc::CALL_WITH_ARG, page(0).get(), 0, Some(page(0))),
        1 => (smc::CALL_WITH_RPC_ARG, page(0).get(), 0, Some(page(0))),
        2 => {
            let offset = u64::from(place);
            let inside = OFFSET + offset;
            let at = (offset < BUFFERS[1].1).then(|| {
                let start = second[(inside / PAGE_SIZE) as usize];
                Ipa::new(start.get() + inside % PAGE_SIZE)
            });
            (smc::CALL_WITH_REGD_ARG, BUFFERS[1].0, offset, at)
        }
        // Anywhere, aligned or not, inside and outside.
        _ => (
            smc::CALL_WITH_ARG,
            page(0).get() + u64::from(place) * 16,
            0,
            None,
        ),
    };
    if let Some(at) = at {
        let room = (PAGE_SIZE - at.page_offset()) as usize;
        let (head, tail) = bytes.split_at(room.min(bytes.len()));
        vm.poke(at, head);
        // The part of the message in the second page.
        vm.poke(second[1], tail);
    }
    machine.scramble(how & 0x10 != 0);
    let mut regs = vm.begin(function, value, a3);
    // A long registration returns to the guest in between.
    for _ in 0..8 {
        if Return::from_x0(regs[0]).rpc().is_some() {
            regs = vm.resume(regs[3], [0; 4]);
        }
    }
    machine.scramble(false);
    check(&machine);
    assert!(is_within(&vm.mediator.stats(), &config));
    assert_eq!(vm.mediator.stats().calls, 0, "{regs:x?}");
    let all = machine.outcomes(1);
    let reached = all.get(before);
    let offered = function == smc::CALL_WITH_ARG || config.features.rpc_arg;
    if let (Some(_), true) = (at, function != smc::CALL_WITH_REGD_ARG) {
        let room = function == smc::CALL_WITH_RPC_ARG;
        judge(bytes, session, offered, room, reached);
    }
    if !offered {
        assert_eq!(regs[0], Return::UNKNOWN_FUNCTION.get());
    }
    // The VM is still served.
    let command = message(Command::CLOSE_SESSION, session, &[]);
    vm.poke(page(PAGES - 1), &command);
    assert_eq!(vm.begin(smc::CALL_WITH_ARG, page(PAGES - 1).get(), 0)[0], 0);
    vm.end();
    check_end(&machine);
}

/// Checks that OP-TEE got exactly the message that it should have got, or none.
fn judge(bytes: &[u8], session: u32, offered: bool, room: bool, reached: Option<&Outcome>) {
    let mut page = bytes.to_vec();
    page.resize(PAGE_SIZE as usize, 0);
    let (header, rest) = Header::read_from_prefix(&page).expect("a page");
    let count = header.num_params.get() as usize;
    let params: Vec<Param> = rest
        .chunks_exact(PARAM_SIZE)
        .take(count.min(6))
        .map(|bytes| Param::read_from_bytes(bytes).expect("its size"))
        .collect();
    let application = |first: usize| params[first.min(params.len())..].iter().all(is_allowed);
    let fits = count <= msg::MAX_PARAMS
        && (!room || HEADER_SIZE + PARAM_SIZE * count + HEADER_SIZE + 4 * PARAM_SIZE <= page.len());
    let is_open = header.session.get() == session;
    let good = offered
        && fits
        && match Command(header.cmd.get()) {
            Command::INVOKE => is_open && count <= 4 && application(0),
            Command::OPEN_SESSION => {
                (2..=6).contains(&count)
                    && params[..2]
                        .iter()
                        .all(|param| param.attr() == Attr::META_VALUE_INPUT)
                    && application(2)
            }
            Command::CLOSE_SESSION | Command::CANCEL => is_open && count == 0,
            Command::UNREGISTER_SHM => {
                count == 1
                    && params[0].attr() == Attr::RMEM_INPUT
                    && BUFFERS.iter().any(|known| known.0 == params[0].c.get())
            }
            // The target `page_list` covers the first; the other two depend on what the VM is
            // offered.
            Command::REGISTER_SHM | Command::DO_BOTTOM_HALF | Command::STOP_ASYNC_NOTIF => return,
            _ => false,
        };
    assert_eq!(reached.is_some(), good, "{header:?} {params:?}");
    let Some(outcome) = reached else { return };
    assert_eq!(outcome.header.cmd, header.cmd);
    assert_eq!(outcome.header.func, header.func);
    assert_eq!(outcome.header.session, header.session);
    assert_eq!(outcome.header.cancel_id, header.cancel_id);
    for (at, theirs) in params.iter().enumerate() {
        let ours = outcome.params.get(at).copied().unwrap_or_default();
        // A reference to no bytes of no buffer is the NULL reference.
        if is_null(theirs) && Command(header.cmd.get()) != Command::UNREGISTER_SHM {
            let attr = Attr(theirs.attr().0 + (Attr::TMEM_INPUT.0 - Attr::RMEM_INPUT.0));
            assert_eq!(ours, Param::new(attr, 0, 0, 0));
            continue;
        }
        assert_eq!(ours.attr, theirs.attr);
        match theirs.attr().0 & Attr::TYPE_MASK {
            1..=3 => assert_eq!(ours, *theirs),
            5..=7 => {
                assert_ne!(ours.c.get(), 0);
                if Command(header.cmd.get()) != Command::UNREGISTER_SHM {
                    assert_eq!((ours.a, ours.b), (theirs.a, theirs.b));
                }
            }
            _ => assert_eq!((ours.a.get(), ours.c.get()), (0, 0)),
        }
    }
}

/// Returns whether it refers to no bytes of the buffer with cookie 0.
fn is_null(param: &Param) -> bool {
    (5..=7).contains(&param.attr().0) && (param.b.get(), param.c.get()) == (0, 0)
}

/// Returns whether an application's parameter is valid.
fn is_allowed(param: &Param) -> bool {
    let (a, b, c) = (param.a.get(), param.b.get(), param.c.get());
    match param.attr().0 {
        0..=3 => true,
        5..=7 if is_null(param) => true,
        5..=7 => BUFFERS
            .iter()
            .any(|&(name, size)| name == c && a.checked_add(b).is_some_and(|end| end <= size)),
        9..=0xb => a == 0,
        _ => false,
    }
}
