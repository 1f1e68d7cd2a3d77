// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The calls that are made most, in their usual form: x0 to x7, whose unused bits are zero.
//!
//! [`crate::Request`] and [`crate::Registers`] are for all calls, and take hundreds of instructions to move 18 registers. What
//! is here finds the same, or nothing: then the call is not the usual one, and it is theirs.

use super::{MemReclaim, MemReclaimFlags, MemSend, MemSendKind};
use crate::function::{Function, FunctionId, Width};
use crate::handle::Handle;

const SUCCESS: u64 = FunctionId::new(Function::Success, Width::Smc32).get() as u64;

const fn pair(low: u64, high: u64) -> u64 {
    high << 32 | low & u32::MAX as u64
}

/// Returns the bits that are one in any of some registers. Without a loop that compares and branches.
#[inline]
const fn any_bits<const N: usize>(x: &[u64; N]) -> u64 {
    let (mut all, mut n) = (0, 0);
    while n < N {
        all |= x[n];
        n += 1;
    }
    all
}

/// Reads `FFA_MEM_SHARE` of the descriptor in the TX buffer. The function is `id`, whatever is in x0.
#[inline]
pub fn share(id: FunctionId, x: &[u64; 8]) -> Option<MemSend> {
    let width = id.width();
    let [_, w1, w2, rest @ ..] = x;
    let (total_length, fragment_length) = (*w1 as u32, *w2 as u32);
    let is_usual = id == FunctionId::new(Function::MemShare, width)
        && any_bits(rest) == 0
        && fragment_length <= total_length;
    is_usual.then_some(MemSend {
        kind: MemSendKind::Share,
        width,
        total_length,
        fragment_length,
        buffer: None,
    })
}

/// Reads `FFA_MEM_RECLAIM` without flags. The function is `id`, whatever is in x0.
#[inline]
pub fn reclaim(id: FunctionId, x: &[u64; 8]) -> Option<MemReclaim> {
    let [_, w1, w2, rest @ ..] = x;
    let is_usual = id == FunctionId::new(Function::MemReclaim, Width::Smc32) && any_bits(rest) == 0;
    is_usual.then_some(MemReclaim {
        handle: Handle::new(pair(*w1, *w2)),
        flags: MemReclaimFlags::empty(),
    })
}

/// Returns `FFA_MEM_SHARE` of a descriptor of this many bytes, which is in the TX buffer as a whole.
#[inline]
pub const fn share_request(length: u32) -> [u64; 8] {
    let id = FunctionId::new(Function::MemShare, Width::Smc32).get() as u64;
    [id, length as u64, length as u64, 0, 0, 0, 0, 0]
}

/// Returns `FFA_MEM_RECLAIM` without flags.
#[inline]
pub const fn reclaim_request(handle: Handle) -> [u64; 8] {
    let id = FunctionId::new(Function::MemReclaim, Width::Smc32).get() as u64;
    let handle = handle.get();
    let (low, high) = (handle as u32 as u64, handle >> 32);
    [id, low, high, 0, 0, 0, 0, 0]
}

/// Returns the answer that memory is shared under a handle.
#[inline]
pub const fn share_answer(handle: Handle) -> [u64; 8] {
    let handle = handle.get();
    let (low, high) = (handle as u32 as u64, handle >> 32);
    [SUCCESS, 0, low, high, 0, 0, 0, 0]
}

/// Returns the answer of success without results.
#[inline]
pub const fn success() -> [u64; 8] {
    [SUCCESS, 0, 0, 0, 0, 0, 0, 0]
}

/// Reads the answer that memory is shared. Returns its handle, which is usable.
#[inline]
pub fn shared(answer: &[u64; 8]) -> Option<Handle> {
    let [id, w1, low, high, rest @ ..] = answer;
    let handle = Handle::new(pair(*low, *high));
    // The upper halves of w2 and w3 are zero, too.
    let is_usual = *id == SUCCESS && (low | high) >> 32 == 0 && w1 | any_bits(rest) == 0;
    (is_usual && handle.is_usable()).then_some(handle)
}

/// Returns whether an answer is success without results.
#[inline]
pub fn succeeded(answer: &[u64; 8]) -> bool {
    let [id, rest @ ..] = answer;
    *id == SUCCESS && any_bits(rest) == 0
}
