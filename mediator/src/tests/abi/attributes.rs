// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attributes of parameters: what OP-TEE gets, and what comes back. OP-TEE, here, changes every
//! attribute, complements values, halves the sizes of memory, and adds one to those of NULL.

use super::plain;
use crate::fake::Guest;
use crate::tests::{BAD, SESSION, Vm, some, value};
use alloc::vec::Vec;
use optee_proto::msg::{Attr, Command, Param};

const META: Param = Param::new(Attr::META_VALUE_INPUT, 0, 0, 0);

/// One parameter of an INVOKE, with another behind it: what OP-TEE got, and what the guest has
/// afterwards.
fn invoke(guest: &Guest<'_>, param: Param) -> (Param, Param) {
    let last = value(Attr::VALUE_INPUT);
    let done = guest.run(guest.message(Command::INVOKE, SESSION, &[param, last]));
    assert_eq!((done.header.ret.get(), done.params[1]), (0, last));
    let seen = guest.host.machine().outcomes(1).pop().unwrap();
    assert_eq!(seen.params[1..], [last]);
    (seen.params[0], done.params[0])
}

/// Neither INVOKE nor OPEN_SESSION takes such a parameter, and OP-TEE hears nothing.
fn refused(vm: &Vm, param: Param) {
    let guest = vm.guest();
    let before = vm.baseline();
    let smcs = vm.host.machine().smcs().len();
    let messages: [(Command, Vec<Param>); 4] = [
        (Command::INVOKE, [param].into()),
        (
            Command::INVOKE,
            [value(Attr::VALUE_INOUT), Param::default(), param].into(),
        ),
        (Command::OPEN_SESSION, [META, META, param].into()),
        (Command::OPEN_SESSION, [META, param].into()),
    ];
    for (command, params) in some(messages) {
        let done = guest.run(guest.message(command, 1, &params));
        assert_eq!(done.header.ret.get(), BAD, "{param:?}");
        assert_eq!(done.params, params);
    }
    assert_eq!(vm.host.machine().smcs().len(), smcs);
    assert_eq!(vm.baseline(), before);
}

/// Payload without a meaning does not reach OP-TEE.
#[test]
fn attr_none() {
    let vm = plain();
    let param = Param::new(Attr::NONE, 7, 8, 9);
    let (sent, back) = invoke(&vm.guest(), param);
    assert_eq!((sent, back), (Param::default(), param));
    vm.end();
}

#[test]
fn attr_value_input() {
    let vm = plain();
    let param = value(Attr::VALUE_INPUT);
    assert_eq!(invoke(&vm.guest(), param), (param, param));
    vm.end();
}

fn value_comes_back(attr: Attr) {
    let vm = plain();
    let (sent, back) = invoke(&vm.guest(), value(attr));
    assert_eq!(sent, value(attr));
    assert_eq!(back, Param::new(attr, !0x11, !0x22, 0x33));
    vm.end();
}

#[test]
fn attr_value_output() {
    value_comes_back(Attr::VALUE_OUTPUT);
}

#[test]
fn attr_value_inout() {
    value_comes_back(Attr::VALUE_INOUT);
}

/// OP-TEE gets its own cookie; offset and size pass; the size comes back, or nothing.
fn memory(attr: Attr, size_back: u64) {
    let vm = plain();
    let guest = vm.guest();
    let (cookie, _) = guest.register(2);
    let ours = vm.host.machine().outcomes(1).pop().unwrap().params[0].c;
    let param = Param::new(attr, 0x10, 0x100, cookie);
    let (sent, back) = invoke(&guest, param);
    assert_eq!(sent, Param::new(attr, 0x10, 0x100, ours.get()));
    assert_eq!(back, Param::new(attr, 0x10, size_back, cookie));
    vm.end();
}

#[test]
fn attr_rmem_input() {
    memory(Attr::RMEM_INPUT, 0x100);
}

#[test]
fn attr_rmem_output() {
    memory(Attr::RMEM_OUTPUT, 0x80);
}

#[test]
fn attr_rmem_inout() {
    memory(Attr::RMEM_INOUT, 0x80);
}

/// A NULL reference keeps its size and loses its cookie, even if the guest has a buffer of that
/// name.
fn null(attr: Attr, size_back: u64) {
    let vm = plain();
    let guest = vm.guest();
    let (cookie, _) = guest.register(1);
    let before = vm.baseline();
    let param = Param::new(attr, 0, 0x100, cookie);
    let (sent, back) = invoke(&guest, param);
    assert_eq!(sent, Param::new(attr, 0, 0x100, 0));
    assert_eq!(back, Param::new(attr, 0, size_back, cookie));
    assert_eq!(vm.baseline(), before);
    vm.end();
}

#[test]
fn attr_tmem_input_null() {
    null(Attr::TMEM_INPUT, 0x100);
}

#[test]
fn attr_tmem_output_null() {
    null(Attr::TMEM_OUTPUT, 0x101);
}

#[test]
fn attr_tmem_inout_null() {
    null(Attr::TMEM_INOUT, 0x101);
}

/// No bytes of the buffer with the cookie 0 are the NULL reference for OP-TEE, which has the page of the
/// call's own message under that cookie. One byte of it is nothing that a guest can have.
fn null_of_no_buffer(attr: Attr, for_tee: Attr, size_back: u64) {
    let vm = plain();
    let guest = vm.guest();
    guest.register(1);
    let before = vm.baseline();
    for offset in [0, 0x10, u64::MAX] {
        let (sent, back) = invoke(&guest, Param::new(attr, offset, 0, 0));
        assert_eq!(sent, Param::new(for_tee, 0, 0, 0));
        assert_eq!(back, Param::new(attr, offset, size_back, 0));
    }
    let params = [META, META, Param::new(attr, 0, 0, 0)];
    let done = guest.run(guest.message(Command::OPEN_SESSION, 0, &params));
    assert_eq!(done.header.ret.get(), 0);
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert_eq!(seen.params[2], Param::new(for_tee, 0, 0, 0));
    let session = done.header.session.get();
    guest.run(guest.message(Command::CLOSE_SESSION, session, &[]));
    assert_eq!(vm.baseline(), before);
    for (offset, size) in [(0, 1), (8, 4096), (1, u64::MAX)] {
        refused(&vm, Param::new(attr, offset, size, 0));
    }
    vm.end();
}

#[test]
fn attr_rmem_input_null() {
    null_of_no_buffer(Attr::RMEM_INPUT, Attr::TMEM_INPUT, 0);
}

#[test]
fn attr_rmem_output_null() {
    null_of_no_buffer(Attr::RMEM_OUTPUT, Attr::TMEM_OUTPUT, 1);
}

#[test]
fn attr_rmem_inout_null() {
    null_of_no_buffer(Attr::RMEM_INOUT, Attr::TMEM_INOUT, 1);
}

/// Nothing is named by address: not secure memory, the hypervisor, a device, the reserved shared
/// memory, nor the guest's own.
#[test]
fn attr_tmem_by_address() {
    let vm = plain();
    let own = vm.guest().alloc(1).get();
    let physical = vm.host.physical(crate::addr::Ipa::new(own)).unwrap().get();
    for at in some([
        0x0e10_0000,
        0x4020_0000,
        0x0900_0000,
        0x4200_0000,
        own,
        physical,
        1,
    ]) {
        for attr in [Attr::TMEM_INPUT, Attr::TMEM_OUTPUT, Attr::TMEM_INOUT] {
            refused(&vm, Param::new(attr, at, 8, 0));
        }
    }
    vm.end();
}

/// A page list is for REGISTER_SHM and for the answer to SHM_ALLOC.
#[test]
fn attr_page_list() {
    let vm = plain();
    for attr in [Attr::TMEM_INPUT, Attr::TMEM_OUTPUT, Attr::TMEM_INOUT] {
        let attr = Attr(attr.0 | Attr::NONCONTIG);
        refused(&vm, Param::new(attr, crate::fake::RAM_BASE, 8, 0x77));
        refused(&vm, Param::new(attr, 0, 0, 0));
    }
    let guest = vm.guest();
    let list = guest.page_list(&[guest.alloc(1)]).get();
    let param = Param::new(Attr::PAGE_LIST, list, 8, 0x77);
    let done = guest.run(guest.message(Command::REGISTER_SHM, 0, &[param]));
    assert_eq!(done.header.ret.get(), 0);
    vm.end();
}

#[test]
fn attr_noncontig() {
    let vm = plain();
    let (cookie, _) = vm.guest().register(1);
    for low in some([0, 1, 2, 3, 5, 6, 7]) {
        refused(&vm, Param::new(Attr(low | Attr::NONCONTIG), 0, 0, cookie));
    }
    vm.end();
}

/// Only OPEN_SESSION's first two parameters are OP-TEE's own; see `cmd_open_session`.
#[test]
fn attr_meta() {
    let vm = plain();
    let (cookie, _) = vm.guest().register(1);
    for low in some([0, 2, 3, 5, 6, 7, 9, 10, 11]) {
        refused(&vm, Param::new(Attr(low | Attr::META), 0, 0, cookie));
    }
    let guest = vm.guest();
    let done = guest.run(guest.message(Command::INVOKE, SESSION, &[META]));
    assert_eq!(done.header.ret.get(), BAD);
    vm.end();
}

#[test]
fn attr_cache_bits() {
    let vm = plain();
    let (cookie, _) = vm.guest().register(1);
    for cache in some(1..8u64) {
        for low in [1, 6, 10] {
            refused(&vm, Param::new(Attr(low | cache << 16), 0, 0, cookie));
        }
    }
    vm.end();
}

/// Types and bits without a meaning, all 64 bits of them.
#[test]
fn attr_unknown() {
    let vm = plain();
    let types = [4, 8, 0xc, 0xd, 0xe, 0xf, 0x10, 0x20, 0x40, 0x80, 0xff];
    let bits = (10..16).chain(19..64).map(|bit| 1 | 1 << bit);
    for attr in some(types.into_iter().chain(bits)) {
        refused(&vm, Param::new(Attr(attr), 0, 0, 0));
    }
    vm.end();
}
