// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 61 on: what OP-TEE has for all VMs is used up.

use crate::attack::{Attack, Seen, Verdict, holds, same};
use crate::kit::{Got, Kit};
use alloc::format;
use alloc::vec::Vec;
use guest_bare::tee::{Message, apps};
use optee_proto::msg::login;

/// In their order.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 61,
        title: "as many applications are opened as there is room for",
        expected: "OUT_OF_MEMORY from the hypervisor at the VM's share of address spaces; the neighbour opens its own",
        run: address_spaces,
    },
    Attack {
        number: 62,
        title: "applications take all memory that OP-TEE has for the VM, and then it has to map a large buffer",
        expected: "it maps the buffer, and what it has no memory for it refuses",
        run: tables,
    },
];

/// The share of OP-TEE's 64 address spaces that one of two VMs has.
const SHARE: usize = 28;

/// Each session takes an address space of its own.
fn address_spaces(kit: &Kit) -> Verdict {
    let mut sessions = Vec::new();
    let refused = loop {
        let message = Message::open(apps::SMALL, login::PUBLIC, &[]);
        match kit.send(&message) {
            got if got.is_success() => sessions.push(message.view().session()),
            got => break got,
        }
        holds(
            sessions.len() <= SHARE,
            &format!("{} applications run", sessions.len()),
        )?;
    };
    same("one more", &refused, &Got::OUT_OF_MEMORY)?;
    let opened = sessions.len();
    // What is in OP-TEE itself has no address space.
    kit.with_tests(|_| Ok(()))?;
    for session in sessions {
        kit.close(session)?;
    }
    Ok(Seen::denied(
        format!("{opened} applications run; one more: {refused:?}"),
        1,
    ))
}

/// Pages of a buffer that OP-TEE's core may map, but has not mapped so many of before.
const LARGE: usize = 600;

/// OP-TEE takes the tables for what it maps of the memory that applications have left.
fn tables(kit: &Kit) -> Verdict {
    let session = kit.open_tests()?;
    let shared = kit.share(LARGE)?;
    let mut sessions = Vec::new();
    // First what takes much, then what fits into the rest.
    for app in [apps::OS_TEST, apps::CONCURRENT, apps::SMALL] {
        loop {
            let message = Message::open(app, login::PUBLIC, &[]);
            if !kit.send(&message).is_success() {
                break;
            }
            sessions.push(message.view().session());
        }
    }
    shared.check(session)?;
    let opened = sessions.len();
    for session in sessions {
        kit.close(session)?;
    }
    shared.unshare()?;
    kit.close(session)?;
    Ok(Seen::new(format!(
        "beside {opened} applications it maps {LARGE} pages"
    )))
}
