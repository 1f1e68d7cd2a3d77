// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the probe at boot makes of an SPMC and an OP-TEE that are not as they should be.

use super::*;
use crate::fake::spmc::SCHEDULE_RECEIVER_SGI;
use crate::ffa::ProbeError;
use ffa_proto::{AnswerError, Version};

const SUCCESS: u64 = 0x8400_0061;
const ERROR: u64 = 0x8400_0060;

/// An error's code in w2.
fn refusal(code: ErrorCode) -> [u64; 8] {
    [ERROR, 0, code.to_w().into(), 0, 0, 0, 0, 0]
}

/// OP-TEE's answer to the probe, which is no VM's.
fn words(w3: u64, w4: u64, w5: u64) -> [u64; 8] {
    [0x8400_0070, 0x8001_7fff, 0, w3, w4, w5, 0, 0]
}

/// Probes an SPMC whose next answers to these functions are others.
fn find(answers: &[(Function, [u64; 8])]) -> (Machine, Result<(TeeInfo, Spmc), ProbeError>) {
    let machine = Machine::new_ffa(Manner::OpTee);
    for &(function, answer) in answers {
        machine.answer_next_ffa(function, answer);
    }
    let (tx, rx, pages) = Machine::exchange_buffers();
    let buffers = ExchangeBuffers { tx, rx, pages };
    let found = probe(&machine.hypervisor(), buffers, |offset, into| {
        machine.read_rx(offset, into);
    });
    (machine, found)
}

#[track_caller]
fn error(answers: &[(Function, [u64; 8])]) -> ProbeError {
    find(answers).1.map(|(tee, _)| tee).unwrap_err()
}

fn version(answer: u64) -> (Function, [u64; 8]) {
    (Function::Version, [answer, 0, 0, 0, 0, 0, 0, 0])
}

#[test]
fn version_is_the_older_of_both() {
    for (theirs, ours) in [
        (0x1_0001, Version::V1_1),
        (0x1_0002, Version::V1_2),
        (0x1_0003, Version::V1_2),
    ] {
        let (_, found) = find(&[version(theirs)]);
        assert_eq!(found.unwrap().1.version(), ours, "{theirs:#x}");
    }
    for old in [0x1_0000, 0x9, 0x2_0000] {
        let found = error(&[version(old)]);
        assert!(matches!(found, ProbeError::Version(_)), "{old:#x}: {found}");
    }
    let absent = ErrorCode::NOT_SUPPORTED.to_w().into();
    assert_eq!(error(&[version(absent)]), ProbeError::Absent);
}

/// The functions are asked for in this order, and each of them is needed.
#[test]
fn each_function_that_vms_need_is_asked_for() {
    let needed = [
        Function::RxtxMap,
        Function::RxRelease,
        Function::PartitionInfoGet,
        Function::MsgSendDirectReq,
        Function::MemShare,
        Function::MemReclaim,
    ];
    let there = (Function::Features, [SUCCESS, 0, 0, 0, 0, 0, 0, 0]);
    let missing = (Function::Features, refusal(ErrorCode::NOT_SUPPORTED));
    for (before, function) in needed.into_iter().enumerate() {
        let mut answers = [there].repeat(before);
        answers.push(missing);
        assert_eq!(error(&answers), ProbeError::Missing(function));
    }
}

#[test]
fn refusals_say_which_call_was_refused() {
    let code = ErrorCode::DENIED;
    let refused = AnswerError::Refused(code);
    for function in [
        Function::SpmIdGet,
        Function::RxtxMap,
        Function::PartitionInfoGet,
        Function::RxRelease,
        Function::MsgSendDirectReq,
    ] {
        let found = error(&[(function, refusal(code))]);
        assert_eq!(found, ProbeError::Answer(function, refused));
    }
}

/// The SPMC's RX buffer is given back, and its partitions are looked at.
#[test]
fn partitions_must_have_optee() {
    let none = [SUCCESS, 0, 0, 24, 0, 0, 0, 0];
    let (machine, found) = find(&[(Function::PartitionInfoGet, none)]);
    // Nothing has taken the buffer.
    let refused = AnswerError::Refused(ErrorCode::DENIED);
    assert_eq!(
        found.map(|(tee, _)| tee),
        Err(ProbeError::Answer(Function::RxRelease, refused))
    );
    let calls = functions(&machine, 0);
    let release = calls.iter().filter(|&&call| call == Function::RxRelease);
    assert_eq!(release.count(), 1);
    let released = (Function::RxRelease, [SUCCESS, 0, 0, 0, 0, 0, 0, 0]);
    let found = error(&[(Function::PartitionInfoGet, none), released]);
    assert_eq!(found, ProbeError::NoOptee);
}

#[test]
fn optee_must_be_one_that_the_mediator_knows() {
    let direct = |answer| (Function::MsgSendDirectReq, answer);
    // VM_CREATED of the prober.
    let created = direct([0x8400_0070, 0x8001_0000, 0x8000_0005, 0, 0, 0, 0, 0]);
    let (api, os) = (direct(words(1, 0, 0)), direct(words(4, 10, 7)));
    let destroyed = direct([0x8400_0070, 0x8001_0000, 0x8000_0007, 0, 0, 0, 0, 0]);
    let found = error(&[created, direct(words(2, 3, 0)), destroyed]);
    assert_eq!(found, ProbeError::Api(2, 3));
    for count in [0, 3, 5, 255] {
        let caps = direct(words(0, count, 0));
        let found = error(&[created, api, os, caps, destroyed]);
        assert_eq!(found, ProbeError::RpcParameters(count as u8));
    }
    let caps = direct(words(0, 4, 0));
    let (_, found) = find(&[created, api, os, caps, destroyed]);
    let (tee, spmc) = found.unwrap();
    assert_eq!((tee.major, tee.minor, tee.build), (4, 10, 7));
    assert_eq!((tee.rpc_params, tee.max_notif), (4, 0));
    assert!(tee.virtualised && tee.over_ffa && !tee.static_tables);
    assert_eq!(
        spmc.schedule_receiver_interrupt(),
        Some(SCHEDULE_RECEIVER_SGI)
    );
}

/// Notifications are announced by an SGI: another INTID would be a device's.
#[test]
fn schedule_receiver_interrupt_is_an_sgi() {
    let there = (Function::Features, [SUCCESS, 0, 0, 0, 0, 0, 0, 0]);
    for (intid, expected) in [
        (0, Some(0)),
        (8, Some(8)),
        (15, Some(15)),
        (16, None),
        (1 << 31, None),
    ] {
        let mut answers = [there].repeat(6);
        answers.push((Function::Features, [SUCCESS, 0, intid, 0, 0, 0, 0, 0]));
        let (_, found) = find(&answers);
        assert_eq!(found.unwrap().1.schedule_receiver_interrupt(), expected);
    }
    let mut answers = [there].repeat(6);
    answers.push((Function::Features, refusal(ErrorCode::NOT_SUPPORTED)));
    let (_, found) = find(&answers);
    assert_eq!(found.unwrap().1.schedule_receiver_interrupt(), None);
}

/// The prober is a VM of the SPMC's for the time of the probe, whatever OP-TEE says of itself.
#[test]
fn probe_leaves_no_vm() {
    for answers in [
        &[][..],
        &[(Function::Features, [SUCCESS, 0, 0, 0, 0, 0, 0, 0])],
    ] {
        let (machine, found) = find(answers);
        found.unwrap();
        assert_eq!(machine.violations(), [""; 0]);
        let direct = functions(&machine, 0);
        let direct = direct
            .iter()
            .filter(|&&call| call == Function::MsgSendDirectReq);
        // VM_CREATED, three services, VM_DESTROYED.
        assert_eq!(direct.count(), 5);
        assert!(!machine.knows(0x7fff));
    }
}
