// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes FF-A's calls and answers by registers.

use crate::input::Input;
use ffa_proto::call::{
    DirectMessage, FeaturesAnswer, IdAnswer, MemSendAnswer, NotificationGetAnswer,
    PartitionInfoAnswer, PartitionInfoRegsAnswer,
};
use ffa_proto::notification::{NotificationGetFlags, PendingLists};
use ffa_proto::{EndpointId, Registers, Request, Version, Width, answer};

/// Decodes registers as a call, and as the answer to each call.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let version = input.pick(&[Version::V1_2, Version::V1_1, Version::V1_0]);
    let mut x = [0; Registers::LONG];
    x[0] = u64::from(input.word());
    for register in &mut x[1..] {
        *register = input.double();
    }
    let registers = Registers::from_18(x);
    match Request::decode(&registers, version) {
        Ok(request) => {
            let again = request.encode();
            assert_eq!(Request::decode(&again, version), Ok(request));
            assert!(has_the_same_words(&registers, &again, version));
            if let Request::DirectRequest(message) = request {
                check_message(&message, version);
            }
        }
        Err(error) => {
            let refusal = answer::refusal(registers.id(), error.code());
            assert!(answer::read_success(&refusal, version).is_err());
        }
    }
    check_answers(&registers, version);
}

/// Returns whether no field was lost: the low halves of all registers that the call uses.
fn has_the_same_words(was: &Registers, is: &Registers, version: Version) -> bool {
    let is_long = was.id().width() == Width::Smc64
        && version >= Version::V1_2
        && was
            .id()
            .function()
            .is_some_and(|function| function.is_long());
    let count = if is_long { 18 } else { 8 };
    let (was, is) = (was.to_18(), is.to_18());
    (0..count).all(|n| was[n] as u32 == is[n] as u32) && is[count..].iter().all(|&x| x == 0)
}

/// The answer to a message is accepted, and one of another endpoint is not.
fn check_message(message: &DirectMessage, version: Version) {
    if message.framework.is_some() || message.source == message.destination {
        return;
    }
    let answer = message.answer(None, message.payload);
    assert!(
        message
            .read_answer(&answer.encode_response(), version)
            .is_ok()
    );
    let foreign = DirectMessage {
        source: message.source,
        ..answer
    };
    assert!(
        message
            .read_answer(&foreign.encode_response(), version)
            .is_err()
    );
}

fn check_answers(found: &Registers, version: Version) {
    let same = |again: Registers| {
        let (was, is) = (found.to_8(), again.to_8());
        assert!(
            (1..8).all(|n| was[n] as u32 == is[n] as u32),
            "{found:?}, {again:?}"
        );
    };
    let _ = FeaturesAnswer::read(found, version).map(|read| same(read.encode()));
    let _ = IdAnswer::read(found, version).map(|read| same(read.encode()));
    let _ = PartitionInfoAnswer::read(found, version).map(|read| same(read.encode()));
    if let Ok(read) = MemSendAnswer::read(found, version) {
        same(read.encode());
        if let MemSendAnswer::Done(handle) = read {
            assert!(handle.is_usable());
        }
    }
    // A bitmap that is not asked for is not read.
    let asked = NotificationGetFlags::from_bits_truncate(found.to_8()[7] as u32);
    let _ = NotificationGetAnswer::read(found, version, asked);
    let flags = NotificationGetFlags::all();
    let _ = NotificationGetAnswer::read(found, version, flags).map(|read| same(read.encode()));
    for width in [Width::Smc32, Width::Smc64] {
        if let Ok(read) = PendingLists::read_answer(found, version, width) {
            same(read.encode());
            assert!(read.iter().all(|list| list.contexts().len() <= 3));
        }
    }
    let start = found.to_8()[2] as u16;
    if let Ok(read) = PartitionInfoRegsAnswer::read(found, start) {
        assert_eq!(read.encode().to_18()[2..], found.to_18()[2..]);
    }
    let message = DirectMessage::vm_created(EndpointId::new(0x8001), EndpointId::new(1));
    let _ = message.read_vm_answer(found, version);
    let _ = answer::read_version(found);
}
