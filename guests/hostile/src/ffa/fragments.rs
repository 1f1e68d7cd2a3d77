// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Descriptors in fragments: attack 26, and a VM that ends between two of them.

use super::kit::{FfaKit, answers};
use crate::attack::{Observation, Verdict, holds, same};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use guest_bare::ffa::{self, Answer, Descriptor, Function};
use guest_bare::pages::Pages;

const INVALID: &str = "INVALID_PARAMETERS";
const MEM_SHARE: Function = Function::MemShare;

/// Sends a fragment with FRAG_TX.
fn more(kit: &FfaKit, handle: u64, bytes: &[u8], sender: u64) -> Answer {
    let (low, high) = (handle & 0xffff_ffff, handle >> 32);
    let w = [low, high, bytes.len() as u64, sender << 16];
    kit.endpoint.send_bytes(Function::MemFragTx, bytes, w)
}

/// Returns the handle and the offset of FRAG_RX.
fn wants_more(answer: Answer) -> Option<(u64, u32)> {
    let is = u64::from(answer.w(0)) == ffa::id(Function::MemFragRx);
    is.then(|| {
        (
            u64::from(answer.w(2)) << 32 | u64::from(answer.w(1)),
            answer.w(3),
        )
    })
}

/// Plays attack 26.
pub fn fragments(kit: &FfaKit) -> Verdict {
    let pages = Pages::take(16);
    let ranges: Vec<(u64, u32)> = (0..8).map(|page| (pages.page(2 * page), 1)).collect();
    let bytes = Descriptor::new(kit.endpoint.id, &ranges).bytes();
    let total = bytes.len() as u64;
    let begin = |length: usize| {
        let w = [total, length as u64, 0, 0];
        kit.endpoint.send_bytes(MEM_SHARE, &bytes[..length], w)
    };
    let mut shared = 0;
    let mut cut = 0;
    for first in (1..bytes.len()).step_by(7) {
        let answer = begin(first);
        let Some((handle, offset)) = wants_more(answer) else {
            // What is cut where nothing can be cut is refused.
            answers(
                &format!("a first fragment of {first} bytes"),
                answer,
                INVALID,
            )?;
            continue;
        };
        same("bytes so far", &(offset as usize), &first)?;
        let rest = &bytes[first..];
        answers("another handle", more(kit, handle ^ 1, rest, 0), INVALID)?;
        answers(
            "another sender",
            more(kit, handle, rest, kit.neighbour().into()),
            INVALID,
        )?;
        answers(
            "RECLAIM of an unfinished one",
            kit.endpoint.reclaim(handle),
            INVALID,
        )
        .or_else(|_| {
            answers(
                "RECLAIM of an unfinished one",
                kit.endpoint.reclaim(handle),
                "DENIED",
            )
        })?;
        let mut too_long = Vec::from(rest);
        too_long.extend_from_slice(&[0; 16]);
        let long = more(kit, handle, &too_long, 0).to_string();
        holds(
            long == INVALID || long == "ABORTED",
            &format!("too long: {long}"),
        )?;
        let done = more(kit, handle, rest, 0);
        if let Some(handle) = done.handle() {
            answers("RECLAIM", kit.endpoint.reclaim(handle), "SUCCESS")?;
            shared += 1;
        } else {
            holds(
                long == "ABORTED" || first % 16 != 0,
                &format!("the rest: {done}"),
            )?;
            cut += 1;
        }
    }
    holds(shared > 0, "no descriptor in two fragments was taken")?;
    // In pieces of 16 bytes.
    let mut answer = begin(96);
    for piece in bytes[96..].chunks(16) {
        let (handle, _) = wants_more(answer).ok_or_else(|| format!("in pieces: {answer}"))?;
        answer = more(kit, handle, piece, 0);
    }
    let handle = answer
        .handle()
        .ok_or_else(|| format!("the last piece: {answer}"))?;
    answers("RECLAIM", kit.endpoint.reclaim(handle), "SUCCESS")?;
    // Announced, and never sent.
    let mut last = None;
    for _ in 0..1000 {
        last = wants_more(begin(96));
        holds(last.is_some(), "a new transaction is not taken")?;
    }
    let huge = [0xffff_fff0, 96, 0, 0];
    let huge = kit.endpoint.send_bytes(MEM_SHARE, &bytes[..96], huge);
    holds(
        huge.error().is_some(),
        &format!("4 GiB of descriptor: {huge}"),
    )?;
    let longer = [96, 112, 0, 0];
    let longer = kit.endpoint.send_bytes(MEM_SHARE, &bytes[..112], longer);
    answers("a fragment longer than all", longer, INVALID)?;
    let nothing = kit.endpoint.send_bytes(MEM_SHARE, &[], [total, 0, 0, 0]);
    answers("an empty fragment", nothing, INVALID)?;
    // What is open may still be finished, or not.
    if let Some((handle, _)) = last {
        let done = more(kit, handle, &bytes[96..], 0);
        match done.handle() {
            Some(handle) => answers("RECLAIM", kit.endpoint.reclaim(handle), "SUCCESS")?,
            None => holds(done.error().is_some(), &format!("the last one: {done}"))?,
        }
        answers(
            "FRAG_TX of what is over",
            more(kit, handle, &bytes[96..], 0),
            INVALID,
        )?;
    }
    kit.alive()?;
    Ok(Observation::new(format!(
        "{shared} shared in two fragments, {cut} cut wrongly"
    )))
}

/// Leaves a descriptor half sent.
pub fn leave_fragments(kit: &FfaKit) -> Result<(), String> {
    let pages = Pages::take(4);
    let ranges: Vec<(u64, u32)> = (0..2).map(|page| (pages.page(2 * page), 1)).collect();
    let bytes = Descriptor::new(kit.endpoint.id, &ranges).bytes();
    let w = [bytes.len() as u64, 96, 0, 0];
    let answer = kit.endpoint.send_bytes(MEM_SHARE, &bytes[..96], w);
    holds(wants_more(answer).is_some(), &format!("{answer}"))
}
