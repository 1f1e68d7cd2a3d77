//! Attacks 61 on: what OP-TEE has for all VMs is used up.

use crate::attack::{Attack, Seen, Verdict, holds, same};
use crate::kit::{Got, Kit};
use alloc::format;
use alloc::vec::Vec;
use guest_bare::tee::{Message, apps};
use optee_proto::msg::login;

/// In their order.
pub const ATTACKS: &[Attack] = &[Attack {
    number: 61,
    title: "as many applications are opened as there is room for",
    expected: "OUT_OF_MEMORY from the hypervisor at the VM's share of address spaces; the neighbour opens its own",
    run: address_spaces,
}];

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
