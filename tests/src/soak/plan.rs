// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Selects the VM's state and its end there: all states in turn, then at random by the seed.

use std::time::Duration;

/// The way in which the VM ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// `vm kill`.
    Kill,
    /// `vm reset`.
    Reset,
    /// `vm pause`, then `vm kill`.
    PauseKill,
    /// `vm pause`, then `vm reset`.
    PauseReset,
    /// `vm pause`, `vm resume`, and the guest goes on; then `vm kill`.
    ResumeKill,
    /// The guest's own SYSTEM_OFF.
    Off,
    /// The guest's own SYSTEM_RESET.
    Restart,
}

impl Ending {
    /// All ways.
    pub const ALL: [Self; 7] = [
        Self::Kill,
        Self::Reset,
        Self::PauseKill,
        Self::PauseReset,
        Self::ResumeKill,
        Self::Off,
        Self::Restart,
    ];

    /// Returns the name for the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Reset => "reset",
            Self::PauseKill => "pause, kill",
            Self::PauseReset => "pause, reset",
            Self::ResumeKill => "resume, kill",
            Self::Off => "off",
            Self::Restart => "restart",
        }
    }

    /// Replaces what the guest cannot do while it boots by a monitor command.
    const fn while_booting(self) -> Self {
        match self {
            Self::Off | Self::ResumeKill => Self::Kill,
            Self::Restart => Self::Reset,
            other => other,
        }
    }

    /// Replaces what restarts the VM by what does not.
    const fn to_off(self) -> Self {
        match self {
            Self::Reset => Self::Kill,
            Self::PauseReset => Self::PauseKill,
            Self::Restart => Self::Off,
            other => other,
        }
    }
}

/// The state of a VM that has not printed anything yet.
pub const BOOTING: &str = "booting";

/// The next state and end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The state, or [`BOOTING`].
    pub state: String,
    /// The way in which it ends there.
    pub ending: Ending,
}

/// All turns, in an order that the seed determines.
pub struct SoakPlan {
    states: Vec<String>,
    random: Random,
    turn: usize,
    /// The number of states at the beginning of the list that come only once.
    once: usize,
}

impl SoakPlan {
    /// Returns a plan for these states and [`BOOTING`].
    pub fn new(mut states: Vec<String>, seed: u64) -> Self {
        states.push(BOOTING.into());
        let mut random = Random::new(seed);
        for last in (1..states.len()).rev() {
            states.swap(last, random.below(last + 1));
        }
        Self {
            states,
            random,
            turn: 0,
            once: 0,
        }
    }

    /// Changes the plan so that each turn takes one life of the VM. `first`, into which the VM can be brought once,
    /// comes first, and the VM is off afterwards. [`BOOTING`] needs a VM that is off, and comes next. Neither comes
    /// again.
    ///
    /// Returns `None` where there is no such state.
    pub fn with_few_lives(mut self, first: &str) -> Option<Self> {
        for (place, name) in [first, BOOTING].into_iter().enumerate() {
            let found = self.states.iter().position(|state| state == name)?;
            self.states[place..=found].rotate_right(1);
        }
        self.once = 2;
        Some(self)
    }

    /// Returns the next turn.
    pub fn take(&mut self) -> Turn {
        let first = self.states.get(self.turn).cloned();
        let state = first.unwrap_or_else(|| {
            let any = self.once + self.random.below(self.states.len() - self.once);
            self.states[any].clone()
        });
        let mut ending = Ending::ALL[self.random.below(Ending::ALL.len())];
        if self.turn == 0 && self.once > 0 {
            ending = ending.to_off();
        }
        self.turn += 1;
        let ending = if state == BOOTING {
            ending.while_booting()
        } else {
            ending
        };
        Turn { state, ending }
    }

    /// Returns a random time.
    pub fn moment(&mut self, most: Duration) -> Duration {
        let most = usize::try_from(most.as_micros()).unwrap_or(usize::MAX - 1);
        Duration::from_micros(self.random.below(most + 1) as u64)
    }

    /// Returns true once in this many times on average.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.random.below(times) == 0
    }
}

/// Pseudo-random numbers from the seed (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // Zero would stay zero, and small seeds would begin alike.
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn states() -> Vec<String> {
        ["one", "two", "three"].map(String::from).to_vec()
    }

    #[test]
    fn plan_takes_all_states_then_random_ones() {
        let turns = |seed| {
            let mut plan = SoakPlan::new(states(), seed);
            (0..40).map(|_| plan.take()).collect::<Vec<_>>()
        };
        let first: BTreeSet<String> = turns(7).into_iter().take(4).map(|t| t.state).collect();
        assert_eq!(first.len(), 4);
        assert_eq!(turns(7), turns(7));
        assert_ne!(turns(7), turns(8));
        let endings: BTreeSet<Ending> = turns(7).into_iter().map(|turn| turn.ending).collect();
        assert_eq!(endings.len(), Ending::ALL.len());
    }

    #[test]
    fn few_lives_begin_with_what_comes_once_and_take_one_each() {
        for seed in 0..50 {
            let plan = SoakPlan::new(states(), seed);
            let mut plan = plan.with_few_lives("two").expect("a state");
            let turns: Vec<_> = (0..20).map(|_| plan.take()).collect();
            let names: Vec<&str> = turns.iter().map(|turn| &*turn.state).collect();
            assert_eq!(names[..2], ["two", BOOTING]);
            assert_eq!(BTreeSet::from_iter(&names[..4]).len(), 4);
            assert!(!names[2..].contains(&"two") && !names[2..].contains(&BOOTING));
            let restarts = [Ending::Reset, Ending::PauseReset, Ending::Restart];
            assert!(!restarts.contains(&turns[0].ending), "{turns:?}");
        }
        assert!(SoakPlan::new(states(), 1).with_few_lives("none").is_none());
    }

    #[test]
    fn booting_guest_gets_monitor_commands_only() {
        let mut plan = SoakPlan::new(Vec::new(), 1);
        for _ in 0..100 {
            let ending = plan.take().ending;
            let own = [Ending::Off, Ending::Restart, Ending::ResumeKill];
            assert!(!own.contains(&ending), "{ending:?}");
        }
    }
}
