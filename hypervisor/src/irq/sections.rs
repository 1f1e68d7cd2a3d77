// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The open section of this pCPU ([`crate::sched::masked`]), measured with its clock.

use super::owners;
use crate::sched::masked::{self, Cause, Section};
use postern_arch::percpu::{self, PerPcpu};
use postern_arch::timer;
use postern_base::ids::MAX_PCPUS;
use postern_base::ticks::Ticks;

/// The section of each pCPU.
static SECTIONS: PerPcpu<Section> = PerPcpu::new([const { Section::closed() }; MAX_PCPUS]);

/// Opens a section, unless one is open.
pub fn open() {
    SECTIONS.this().open(timer::now());
}

/// Opens a section that began at `since`, unless one is open, and ends a part of it, which was
/// spent on `cause`.
pub fn open_since(since: Ticks, cause: Cause) {
    let section = SECTIONS.this();
    section.open(since);
    section.end_part(cause, timer::now());
}

/// Ends a part of the open section, which was spent on `cause`.
pub fn end_part(cause: Cause) {
    SECTIONS.this().end_part(cause, timer::now());
}

/// Closes the section, if one is open.
pub fn close() {
    close_it(SECTIONS.this());
}

fn close_it(section: &Section) {
    if let Some((ticks, cause)) = section.close(timer::now()) {
        masked::longest(percpu::id()).note(ticks, cause);
    }
}

/// Records a whole section that began at `since`. If a section is open, because interrupts were
/// taken meanwhile, attributes its rest to `cause` and closes it.
#[inline]
pub fn note(since: Ticks, cause: Cause) {
    let section = SECTIONS.this();
    if section.is_open() {
        section.end_part(cause, timer::now());
        close_it(section);
        return;
    }
    // The counter may be read out of order, so the second value may be the older one.
    let ticks = timer::now().since(since);
    masked::longest(percpu::id()).note(ticks, cause);
}

/// Runs an operation that may take long, as a part of the open section or as a section of its own.
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

/// Runs an operation outside sections, such as an entry to the secure world.
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

/// Takes the pending interrupts in a section of their own, between two sections.
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

/// Attributes the time so far to `cause` and takes the pending interrupts, within an operation that
/// continues.
pub fn breathe(cause: Cause) {
    end_part(cause);
    take_pending();
}
