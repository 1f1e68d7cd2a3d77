// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The check of an answer that OP-TEE gets to a command.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use optee_proto::msg::{Attr, Header, Param};
use optee_proto::rpc::Command;

type Message = (Header, Vec<Param>);

/// Returns what is wrong with an answer: a change to something that is not an output. (OP-TEE itself reads its
/// own copy of most of it; a mediator that changes it has relied on the guest.)
pub(super) fn fault(asked: &Message, reply: &Message) -> Option<String> {
    let frame = |header: &Header| {
        let Header {
            cmd,
            func,
            session,
            cancel_id,
            num_params,
            ..
        } = *header;
        [cmd, func, session, cancel_id, num_params]
    };
    if frame(&asked.0) != frame(&reply.0) || asked.1.len() != reply.1.len() {
        return Some(format!("{:?} is answered by {:?}", asked.0, reply.0));
    }
    // Memory replaces the parameter that requested it, and is checked later.
    if asked.0.cmd.get() == Command::SHM_ALLOC.0 && reply.0.ret.get() == 0 {
        return None;
    }
    let wrong = asked.1.iter().zip(&reply.1).find(|(asked, reply)| {
        let mut expected = **asked;
        match asked.attr() {
            Attr::VALUE_OUTPUT | Attr::VALUE_INOUT => {
                expected = Param {
                    attr: asked.attr,
                    ..**reply
                }
            }
            Attr::RMEM_OUTPUT | Attr::RMEM_INOUT | Attr::TMEM_OUTPUT | Attr::TMEM_INOUT => {
                expected.b = reply.b;
            }
            _ => {}
        }
        expected != **reply
    });
    wrong.map(|(asked, reply)| format!("{asked:?} is answered by {reply:?}"))
}
