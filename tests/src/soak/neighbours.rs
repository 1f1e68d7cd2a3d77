// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pauses the neighbours for a moment, and resets the last one, from time to time: in the middle of
//! their work, and while their kernel boots.

use super::Soak;
use crate::neighbour::Neighbour;
use anyhow::Result;
use std::time::Duration;

/// The longest pause of a neighbour: shorter than any time-out in its cases.
const PAUSE: Duration = Duration::from_millis(300);
/// The longest time until a booting neighbour is reset again.
const BOOTS: Duration = Duration::from_secs(4);

/// How many times each was done.
#[derive(Default)]
pub struct Disturbed {
    pauses: u32,
    resets: u32,
    resets_in_boot: u32,
}

impl Disturbed {
    /// Prints the numbers.
    pub fn print(&self) {
        let Self {
            pauses,
            resets,
            resets_in_boot,
        } = self;
        println!(
            "neighbours were paused {pauses} times, and reset {resets} times at work and {resets_in_boot} times in \
             their boot"
        );
    }
}

impl Soak {
    /// Disturbs the neighbours after a cycle, at these intervals.
    pub(super) fn disturb(&mut self, cycle: u32, (pause, reset): (u32, u32)) -> Result<()> {
        let due = |every: u32| every != 0 && cycle.is_multiple_of(every);
        let count = self.victim.watch.neighbours.len();
        if due(pause) {
            let index = (cycle / pause) as usize % count;
            let neighbour = &self.victim.watch.neighbours[index];
            let name = neighbour.name.clone();
            if !neighbour.is_away() {
                self.victim.order(&format!("vm pause {name}"))?;
                self.victim.paused(&name)?;
                let moment = self.plan.moment(PAUSE);
                self.victim.wait_for(moment)?;
                self.victim.order(&format!("vm resume {name}"))?;
                self.victim.resumed(&name)?;
                self.disturbed.pauses += 1;
            }
        }
        if due(reset) && !self.victim.watch.neighbours[count - 1].is_away() {
            self.reset(count - 1)?;
            self.disturbed.resets += 1;
            if self.plan.once_in(2) {
                let moment = self.plan.moment(BOOTS);
                self.victim.wait_for(moment)?;
                if self.victim.watch.neighbours[count - 1].is_away() {
                    self.reset(count - 1)?;
                    self.disturbed.resets_in_boot += 1;
                }
            }
        }
        Ok(())
    }

    fn reset(&mut self, index: usize) -> Result<()> {
        let neighbour: &mut Neighbour = &mut self.victim.watch.neighbours[index];
        neighbour.reset();
        let name = neighbour.name.clone();
        self.victim.order(&format!("vm reset {name}"))?;
        self.victim.off(&name, "reset")?;
        self.victim.started(&name)
    }
}
