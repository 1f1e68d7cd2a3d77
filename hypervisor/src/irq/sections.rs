// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The sections of the pCPU that this runs on ([`crate::sched::masked`]), by its clock.

use super::owners;
use crate::sched::masked::{self, Cause, Section};
use postern_arch::percpu::{self, PerPcpu};
use postern_arch::timer;
use postern_base::ids::MAX_PCPUS;
use postern_base::ticks::Ticks;

/// What each pCPU is busy with while interrupts wait.
static SECTIONS: PerPcpu<Section> = PerPcpu::new([const { Section::closed() }; MAX_PCPUS]);

/// A section begins, unless it has already.
pub fn open() {
    SECTIONS.this().open(timer::now());
}

/// A section that began at this time, unless it has begun already, was this so far, and goes on.
pub fn open_since(since: Ticks, cause: Cause) {
    let section = SECTIONS.this();
    section.open(since);
    section.end_part(cause, timer::now());
}

/// Ends a part of the open section, which was spent on `cause`.
pub fn end_part(cause: Cause) {
    SECTIONS.this().end_part(cause, timer::now());
}

/// The section is over, if there was one.
pub fn close() {
    close_it(SECTIONS.this());
}

fn close_it(section: &Section) {
    if let Some((ticks, cause)) = section.close(timer::now()) {
        masked::longest(percpu::id()).note(ticks, cause);
    }
}

/// A whole section, which began at this time; or, where one is open, its end: it took interrupts meanwhile.
#[inline]
pub fn note(since: Ticks, cause: Cause) {
    let section = SECTIONS.this();
    if section.is_open() {
        section.end_part(cause, timer::now());
        close_it(section);
        return;
    }
    // The counter is read out of order, so the second look may be the older one.
    let ticks = timer::now().since(since);
    masked::longest(percpu::id()).note(ticks, cause);
}

/// Does something that may take long, as a part of the section that is open, or as one of its own.
pub fn lengthy<T>(cause: Cause, act: impl FnOnce() -> T) -> T {
    let section = SECTIONS.this();
    let is_part = section.is_open();
    section.open(timer::now());
    let result = act();
    section.end_part(cause, timer::now());
    if !is_part {
        close_it(section);
    }
    result
}

/// Enters the secure world, or something that does, between two sections.
pub fn outside<T>(act: impl FnOnce() -> T) -> T {
    let section = SECTIONS.this();
    let is_open = section.is_open();
    close_it(section);
    let result = act();
    if is_open {
        section.open(timer::now());
    }
    result
}

/// Takes the interrupts that are pending: between two sections, and one of its own.
pub fn take_pending() {
    let section = SECTIONS.this();
    let is_open = section.is_open();
    close_it(section);
    section.open(timer::now());
    owners::take_pending();
    section.end_part(Cause::Interrupt, timer::now());
    close_it(section);
    if is_open {
        section.open(timer::now());
    }
}

/// Takes the interrupts that are pending in the midst of something that goes on, which was this so far.
pub fn breathe(cause: Cause) {
    end_part(cause);
    take_pending();
}
