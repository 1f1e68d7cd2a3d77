// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OP-TEE's steps in a call.

use crate::input::Input;
use mediator::fake::Step;
use optee_proto::TeeResult;
use optee_proto::le::U32;
use optee_proto::msg::{Attr, Header, Param};
use optee_proto::rpc::Command;
use zerocopy::IntoBytes;

/// Generates a few steps that keep to the protocol.
pub(crate) fn protocol(input: &mut Input<'_>) -> Vec<Step> {
    let mut steps = script(input);
    steps.retain(|step| {
        !matches!(
            step,
            Step::Raw(..) | Step::RawCommand(_) | Step::Scribble(_) | Step::End(_)
        )
    });
    steps
}

/// Generates a few steps.
pub(super) fn script(input: &mut Input<'_>) -> Vec<Step> {
    match input.below(64) {
        // More foreign interrupts than the mediator handles in one entry.
        63 => vec![Step::ForeignInterrupt; 70],
        count => (0..count % 6).map(|_| step(input)).collect(),
    }
}

/// Generates one step. Its numbers have 16 bits at most, so that they do not equal a secret by
/// chance.
fn step(input: &mut Input<'_>) -> Step {
    match input.below(20) {
        0 => Step::ForeignInterrupt,
        1..=4 => {
            let command = match input.byte() {
                // These two have steps of their own.
                6 | 7 => 2,
                command => u32::from(command) % 32,
            };
            let params = (0..input.below(6)).map(|_| param(input)).collect();
            Step::Command(Command(command), params)
        }
        5..=7 => Step::ShmAlloc(input.below(4), input.half().into()),
        8 => Step::ShmAllocInterrupted(input.below(3), input.half().into()),
        9 | 10 => Step::ShmFree(input.below(3), input.below(4) as usize),
        11 => Step::UseRoom(input.flag()),
        12 => Step::FreeRpc,
        13 => Step::Raw(
            [
                // All RPC functions, undefined ones too.
                0xffff_0000 | u64::from(input.byte()),
                input.below(4),
                input.half().into(),
            ],
            input.flag().then(|| input.below(5)),
        ),
        14 => Step::RawCommand(raw(input)),
        15 if input.flag() => Step::Scribble(input.byte()),
        // The UUID of one of the applications to which guests open sessions.
        15 => {
            let app = Param::new(Attr::VALUE_INPUT, input.below(32), 2, 0);
            Step::Command(Command::LOAD_TA, vec![app])
        }
        16 => Step::End(input.below(12)),
        17 => Step::End(u64::from(input.word())),
        _ => Step::Result(TeeResult(input.word())),
    }
}

fn param(input: &mut Input<'_>) -> Param {
    let attr = match input.below(16) {
        attr @ 0..=11 => attr,
        12 => u64::from(input.half()),
        13 => Attr::PAGE_LIST.0,
        14 => u64::from(input.byte()) << 32,
        _ => Attr::META_VALUE_INPUT.0,
    };
    let [a, b] = [input.half(), input.half()].map(u64::from);
    Param::new(Attr(attr), a, b, input.below(4))
}

/// Generates an invalid request: too many parameters, or none where some are required.
fn raw(input: &mut Input<'_>) -> Vec<u8> {
    let header = Header {
        cmd: U32::new(input.below(32) as u32),
        num_params: U32::new(if input.flag() {
            input.below(7) as u32
        } else {
            input.word()
        }),
        ..Header::default()
    };
    let mut bytes = header.as_bytes().to_vec();
    for _ in 0..input.below(5) {
        bytes.extend_from_slice(param(input).as_bytes());
    }
    bytes
}
