// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Threads that OP-TEE mixes up.

use super::partition;
use crate::fake::machine::State;
use crate::fake::violation::Violation;
use alloc::string::String;
use optee_proto::rpc::Function;

/// Notes that a thread leaves under the number of another one, if the normal world resumes that one from then on.
pub(super) fn mix_up(state: &mut State, vm: u16, thread: u64, claimed: u64, a0: u64) {
    let functions = [
        Function::ALLOC,
        Function::FREE,
        Function::FOREIGN_INTR,
        Function::CMD,
    ];
    // Over FF-A such an answer asks for nothing.
    let is_request = !state.by_ffa && functions.map(Function::a0).contains(&a0);
    let partition = partition(state, vm);
    // A call whose number changes later is not resumed any more.
    let is_first = partition
        .threads
        .get(&thread)
        .is_some_and(|this| !this.is_resumed);
    if claimed != thread && is_request && is_first {
        partition.mixed_up.extend([thread, claimed]);
    }
}

/// Notes that something is wrong in the answer to a thread, which may be another call's.
pub(super) fn violate_in(state: &mut State, vm: u16, thread: u64, text: String) {
    let from_mixed_threads = partition(state, vm).mixed_up.contains(&thread);
    state.violate(Violation {
        text,
        from_mixed_threads,
    });
}
