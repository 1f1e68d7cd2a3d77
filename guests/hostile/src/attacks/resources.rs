// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 61 and 62: exhausting OP-TEE's resources that all VMs share.

use crate::attack::{Attack, Observation, Verdict, holds, same};
use crate::kit::{Got, Kit};
use alloc::format;
use alloc::vec::Vec;
use guest_bare::tee::{Message, apps};
use optee_proto::msg::login;

/// The attacks, in numerical order.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 61,
        title: "applications are opened until there is no more room",
        expected: "OUT_OF_MEMORY from the hypervisor at the VM's share of address spaces; the neighbour opens its own",
        run: address_spaces,
    },
    Attack {
        number: 62,
        title: "applications use up OP-TEE's memory for the VM, and then OP-TEE has to map a large buffer",
        expected: "OP-TEE maps the buffer, or refuses what it has no memory for",
        run: tables,
    },
];

/// The share of OP-TEE's 64 address spaces that one of two VMs gets.
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
    // A pseudo TA takes no address space.
    kit.with_tests(|_| Ok(()))?;
    for session in sessions {
        kit.close(session)?;
    }
    Ok(Observation::denied(
        format!("{opened} applications run; one more: {refused:?}"),
        1,
    ))
}

/// The pages of a buffer that OP-TEE's core may map, and that is larger than all it has mapped
/// before.
const LARGE: usize = 600;

/// OP-TEE allocates translation tables from the memory that applications have left.
fn tables(kit: &Kit) -> Verdict {
    let session = kit.open_tests()?;
    let shared = kit.share(LARGE)?;
    let mut sessions = Vec::new();
    // First an application that takes much, then those that fit into the rest.
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
    Ok(Observation::new(format!(
        "beside {opened} applications it maps {LARGE} pages"
    )))
}
