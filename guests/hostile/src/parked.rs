// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls that are left suspended at a chosen RPC, and a call of adjustable length.

use crate::kit::{Got, Kit};
use alloc::format;
use alloc::string::String;
use guest_bare::tee::message::{View, value};
use guest_bare::tee::{Act, Message, Step, Suspended, apps};
use optee_proto::msg::Attr;
use optee_proto::rpc;
use optee_proto::smc::CALL_WITH_ARG;

/// A call that waits for the answer to its RPC.
pub struct Parked {
    /// The call's message.
    pub message: Message,
    /// The suspended call.
    pub call: Suspended,
}

impl Parked {
    /// Begins a call and leaves it at the first RPC that `here` picks.
    ///
    /// # Errors
    /// Fails when the call ends before.
    pub fn at(
        kit: &Kit,
        message: Message,
        here: impl FnMut(&Suspended) -> bool,
    ) -> Result<Self, String> {
        let step = kit.client.begin(CALL_WITH_ARG, &message);
        Self::from(kit, message, step, here)
    }

    /// Continues a call from a step and leaves it at the first RPC that `here` picks.
    ///
    /// # Errors
    /// Fails when the call ends before.
    pub fn from(
        kit: &Kit,
        message: Message,
        step: Step,
        mut here: impl FnMut(&Suspended) -> bool,
    ) -> Result<Self, String> {
        let hook = |call: &Suspended| if here(call) { Act::Park } else { Act::Default };
        match kit.go_on(&message, step, hook) {
            Got::Parked(call) => Ok(Self { message, call }),
            got => Err(format!("a call that should have parked ended: {got:?}")),
        }
    }

    /// Begins a call and leaves it at a command that `here` picks.
    ///
    /// # Errors
    /// Fails when the call ends before.
    pub fn at_command(
        kit: &Kit,
        message: Message,
        here: impl Fn(rpc::Command, View) -> bool,
    ) -> Result<Self, String> {
        let step = kit.client.begin(CALL_WITH_ARG, &message);
        Self::from_command(kit, message, step, here)
    }

    /// Continues a call from a step and leaves it at a command that `here` picks.
    ///
    /// # Errors
    /// Fails when the call ends before.
    pub fn from_command(
        kit: &Kit,
        message: Message,
        step: Step,
        here: impl Fn(rpc::Command, View) -> bool,
    ) -> Result<Self, String> {
        let supplicant = kit.supplicant.with_message(&message);
        Self::from(kit, message, step, |call| {
            match (supplicant.command(call), supplicant.message(call)) {
                (Some(command), Some(view)) => here(command, view),
                _ => false,
            }
        })
    }

    /// Begins a call to `stats.pta` and leaves it at the request for the time.
    ///
    /// # Errors
    /// Fails when the call does not ask for it.
    pub fn at_get_time(kit: &Kit, session: u32) -> Result<Self, String> {
        Self::at_command(kit, time(session), |command, _| {
            command == rpc::Command::GET_TIME
        })
    }

    /// Returns the RPC's message.
    ///
    /// # Errors
    /// Fails when the RPC has none.
    pub fn view(&self, kit: &Kit) -> Result<View, String> {
        kit.supplicant
            .with_message(&self.message)
            .message(&self.call)
            .ok_or_else(|| "an RPC without message".into())
    }

    /// Continues to the end, as Linux would.
    pub fn finish(&self, kit: &Kit) -> Got {
        kit.finish(&self.message, &self.call)
    }
}

/// Returns a call to `stats.pta` that asks for the time.
pub fn time(session: u32) -> Message {
    let none = value(Attr::VALUE_OUTPUT, 0, 0);
    Message::invoke(session, apps::STATS_TIME, &[none, none])
}

/// Returns a call that counts `rounds` rounds in OP-TEE.
pub fn long_call(session: u32, rounds: u64) -> Message {
    let params = [
        value(Attr::VALUE_INPUT, 0, rounds),
        value(Attr::VALUE_OUTPUT, 0, 0),
    ];
    Message::invoke(session, apps::TESTS_MUTEX, &params)
}
