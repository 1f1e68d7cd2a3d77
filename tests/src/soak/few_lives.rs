// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lives of the VM where OP-TEE bears few: over FF-A, where the hypervisor counts them.
//!
//! This OP-TEE does not free the translation tables that a VM's start took from the memory of all VMs. Each of them
//! has an entry in the heap that all VMs share, so each start of any VM makes it larger by the same number of bytes,
//! which depends on where OP-TEE has placed itself (ASLR). The test measures that in its first two lives. Whatever
//! else is missing at the end is a leak of another kind.

use super::figures::{Figures, HELD, SHARED_HEAP};
use super::{Soak, SoakOptions, VICTIM};
use anyhow::{Context, Result, ensure};
use postern_qemu::config::TeeAbi;
use std::fs;

/// The lives of all VMs together over FF-A: `MAX_CREATIONS_BY_FFA` of the mediator. [`Soak::use_up_lives`] fails if
/// it is another number.
const LIVES: u32 = 24;
/// The lives of the VM in which it is measured.
const MEASURED: u32 = 2;
/// The state that the VM can be in once: after a life that has enabled notifications it is offered none.
const FIRST: &str = "ffa-notifications";

/// Returns the largest number of cycles beside so many neighbours; `None` where there is no limit.
#[must_use]
pub const fn most_cycles(abi: TeeAbi, neighbours: u32) -> Option<u32> {
    match abi {
        TeeAbi::Smc => None,
        TeeAbi::Ffa => Some(lives(neighbours) - MEASURED),
    }
}

/// Returns the VM's share of the lives.
const fn lives(neighbours: u32) -> u32 {
    LIVES / (neighbours + 1)
}

/// What OP-TEE leaks with each start of a VM.
pub struct Leak {
    /// The bytes of its shared heap in the VM's first life.
    first: u64,
    /// The bytes that each start costs.
    each: u64,
}

impl Soak {
    /// Makes the plan one of few lives, and ends the VM's first one beside neighbours at work. Returns the number of
    /// cycles that this is.
    pub(super) fn first_life(&mut self, options: &SoakOptions) -> Result<u32> {
        let plan = std::mem::replace(&mut self.plan, super::SoakPlan::new(Vec::new(), 0));
        let plan = plan.with_few_lives(FIRST);
        self.plan = plan.with_context(|| format!("there is no state {FIRST}"))?;
        self.on = true;
        // The guest has buffers, and shares a page for its messages.
        self.begins_with = self.counters(VICTIM, &HELD)?;
        let measured = self.victim.ask("measure 0", "measured")?;
        let first = measured["shared_heap"].as_u64();
        self.leak = Some(Leak {
            first: first.context("a measurement")?,
            each: 0,
        });
        self.work(options)?;
        self.turn(1, options)?;
        self.rest()?;
        Ok(1)
    }

    /// Calculates what each start costs: all VMs have started once since the first measurement.
    pub(super) fn cost_of_a_start(&mut self, before: &Figures) -> Result<()> {
        let Some(leak) = &mut self.leak else {
            return Ok(());
        };
        let starts = self.victim.watch.neighbours.len() as u64 + 1;
        let (from, to) = (leak.first, before[SHARED_HEAP]);
        let grown = to.checked_sub(from);
        let grown = grown.filter(|grown| grown.is_multiple_of(starts));
        let grown = grown.with_context(|| format!("{starts} starts: from {from} to {to} bytes"))?;
        leak.each = grown / starts;
        println!(
            "each start of a VM costs OP-TEE {} bytes of the heap of all VMs",
            leak.each
        );
        Ok(())
    }

    /// Subtracts from a figure what the VM's starts since the baseline have cost. A VM that was killed at once may
    /// have cost as much or nothing.
    pub(super) fn subtract_starts(&self, before: &Figures, after: &mut Figures, starts: u32) {
        let (Some(leak), Some(found)) = (&self.leak, after.get_mut(SHARED_HEAP)) else {
            return;
        };
        let least = self.victim.starts - starts;
        let costs =
            (least..=least + self.perhaps_started).map(|starts| leak.each * u64::from(starts));
        let less: Vec<u64> = costs.map(|cost| found.saturating_sub(cost)).collect();
        let same = less.iter().find(|less| **less == before[SHARED_HEAP]);
        if let Some(less) = same.or(less.first()) {
            *found = *less;
        }
    }

    /// Starts and ends the VM until its lives are used up. Then its start must be refused, and its neighbours must go
    /// on with their work.
    pub(super) fn use_up_lives(&mut self, options: &SoakOptions) -> Result<()> {
        let lives = lives(u32::try_from(options.neighbours)?);
        self.work(options)?;
        let mut more = 0;
        loop {
            self.victim.forget();
            self.victim.order("vm start c")?;
            if !self.victim.starts_or_not(VICTIM)? {
                break;
            }
            more += 1;
            self.kill()?;
            self.check_nothing_held()?;
            ensure!(self.victim.starts <= lives, "it has started too often");
        }
        let (least, most) = (
            self.victim.starts,
            self.victim.starts + self.perhaps_started,
        );
        ensure!(
            (least..=most).contains(&lives),
            "its start was refused after {least} to {most} starts, not {lives}"
        );
        let log = self.victim.watch.session.folder().join("hypervisor.log");
        let log = fs::read_to_string(log)?;
        let wanted = format!("after {lives} starts of this VM restart the machine");
        let line = log.lines().rev().find(|line| line.contains(&wanted));
        let line = line.with_context(|| format!("no line says {wanted:?}"))?;
        println!("{more} further lives, then: {}", line.trim_end());
        self.check_nothing_held()?;
        self.work_on(2)?;
        println!("its neighbours went on");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_and_measurements_are_within_the_lives() {
        assert_eq!(most_cycles(TeeAbi::Smc, 1), None);
        assert_eq!(most_cycles(TeeAbi::Ffa, 1), Some(10));
        assert_eq!(most_cycles(TeeAbi::Ffa, 2), Some(6));
    }
}
