// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks how long EL2 kept interrupts masked.
//!
//! The clock is exact only where QEMU counts instructions, and there with one CPU: with several,
//! QEMU runs one after the other, and the others' instructions count as well. On a busy host any
//! other clock measures the host's load. So the bound applies to counted runs; in others the figure
//! is only printed.

use crate::SOON;
use crate::meter::CLOCK;
use crate::watch::Watch;
use anyhow::{Context, Result, ensure};
use postern_ctl::messages::Answer;
use postern_qemu::config::System;
use postern_qemu::console::Channel;
use postern_qemu::launch::Machine;
use postern_qemu::session::{Session, What};

/// The longest time that EL2 may keep interrupts masked: 250,000 instructions where they are
/// counted.
pub const BOUND_NS: u64 = 500_000;
/// The tag of the question.
const TAG: &str = "masked";

/// The longest masked time of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked {
    /// The time in nanoseconds.
    pub ns: u64,
    /// The work of EL2 at that time.
    pub by: String,
    /// The CPU.
    pub cpu: u64,
}

impl Masked {
    /// Returns what an answer to `cpu` says. Extracts the time from an answer to `cpu`.
    /// # Errors
    ///
    /// Fails when the answer lacks it.
    pub fn of(answer: &Answer) -> Result<Self> {
        let cpus = answer.more.get("cpus").and_then(|cpus| cpus.as_array());
        let each = cpus.into_iter().flatten().map(|cpu| {
            Some(Self {
                ns: cpu["masked_ns"].as_u64()?,
                by: cpu["masked_by"].as_str()?.to_owned(),
                cpu: cpu["cpu"].as_u64()?,
            })
        });
        let all: Option<Vec<_>> = each.collect();
        all.into_iter()
            .flatten()
            .max_by_key(|one| one.ns)
            .with_context(|| format!("the answer of the monitor has no masked time: {answer:?}"))
    }

    /// Asks a machine that is watched.
    ///
    /// # Errors
    ///
    /// Fails when it does not answer.
    pub fn ask(watch: &mut Watch) -> Result<Self> {
        watch.session.send(Channel::Hypervisor, &question())?;
        let answer = watch.wait("the longest masked time", SOON, |item| match &item.what {
            What::Answer(answer) if answer.tag.as_deref() == Some(TAG) => Some((**answer).clone()),
            _ => None,
        })?;
        Self::of(&answer)
    }

    /// Asks a machine.
    ///
    /// # Errors
    ///
    /// Fails when it does not answer.
    pub fn ask_session(session: &mut Session) -> Result<Self> {
        session.send(Channel::Hypervisor, &question())?;
        let answer = session.expect(Channel::Hypervisor, SOON).answer(TAG)?;
        Self::of(&answer)
    }

    /// Prints the time. Where instructions were counted it must be within the bound.
    ///
    /// # Errors
    ///
    /// Fails when it is not.
    pub fn judge(&self, counted: bool) -> Result<()> {
        let Self { ns, by, cpu } = self;
        println!(
            "longest masked time at EL2: {} us ({by}, on CPU {cpu}){}",
            ns / 1000,
            if counted {
                "; QEMU counted instructions"
            } else {
                ", by the host's clock, so not compared with the bound"
            }
        );
        ensure!(
            !counted || *ns < BOUND_NS,
            "EL2 kept interrupts waiting for {ns} ns ({by}), not less than {BOUND_NS} ns"
        );
        Ok(())
    }
}

fn question() -> String {
    format!("#{TAG} cpu --json")
}

/// Changes a system so that its instructions can be counted.
pub const fn one_cpu(system: &mut System) {
    system.machine.cpus = 1;
}

/// Makes QEMU count instructions, two nanoseconds each.
pub fn count(machine: &mut Machine) {
    machine.extra = CLOCK.map(Into::into).into();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(line: &str) -> Result<Masked> {
        Masked::of(&serde_json::from_str(line).expect("an answer"))
    }

    #[test]
    fn longest_time_of_all_cpus_counts() {
        let found = masked(
            r#"{"command":"cpu","ok":true,"cpus":[{"cpu":0,"masked_ns":7,"masked_by":"trap"},
               {"cpu":1,"masked_ns":500000,"masked_by":"unpin"}]}"#,
        )
        .expect("a figure");
        assert_eq!(
            (found.ns, found.by.as_str(), found.cpu),
            (BOUND_NS, "unpin", 1)
        );
        found.judge(false).expect("only told");
        let error = found.judge(true).expect_err("too long");
        assert!(error.to_string().contains("unpin"), "{error}");
        let less = Masked {
            ns: BOUND_NS - 1,
            ..found
        };
        less.judge(true).expect("within the bound");
    }

    #[test]
    fn missing_figure_fails() {
        assert!(masked(r#"{"command":"cpu","ok":true,"cpus":[]}"#).is_err());
        assert!(masked(r#"{"command":"cpu","ok":true,"cpus":[{"cpu":0}]}"#).is_err());
    }
}
