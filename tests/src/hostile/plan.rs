//! The 52 attacks of the test plan: who plays each.

use anyhow::{Context, Result, ensure};
use std::path::Path;

/// Who plays an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Player {
    /// The hostile guest, alone.
    Guest,
    /// The hostile guest, which ends in these states, each so often.
    Endings(&'static [(&'static str, u32)]),
    /// Tests elsewhere: the guest cannot.
    Elsewhere {
        /// What the attack is.
        title: &'static str,
        /// Why the guest cannot.
        why: &'static str,
        /// Files and what must be in them: the tests' names.
        tests: &'static [(&'static str, &'static str)],
    },
}

/// An attack's row in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub number: u8,
    /// Who plays it.
    pub player: Player,
    /// Whether `make test` plays it too: it is important, and does not take long.
    pub quick: bool,
    /// Besides what the guest itself sees, what OP-TEE logs as an error because of it: words that
    /// make a line expected.
    pub log: &'static [&'static str],
}

const fn guest(number: u8) -> Row {
    Row {
        number,
        player: Player::Guest,
        quick: false,
        log: &[],
    }
}

impl Row {
    const fn logging(self, log: &'static [&'static str]) -> Self {
        Self { log, ..self }
    }

    const fn quick(self) -> Self {
        Self {
            quick: true,
            ..self
        }
    }

    /// Fails unless the tests that are said to play it exist.
    ///
    /// # Errors
    ///
    /// One does not.
    pub fn check(&self, root: &Path) -> Result<()> {
        let Player::Elsewhere { tests, .. } = self.player else {
            return Ok(());
        };
        ensure!(!tests.is_empty(), "attack {}: nobody plays it", self.number);
        for (file, test) in tests {
            let path = root.join(file);
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("attack {}: {}", self.number, path.display()))?;
            ensure!(
                text.contains(&format!("fn {test}(")),
                "attack {}: there is no test {test} in {file}",
                self.number
            );
        }
        Ok(())
    }
}

/// All of them, in order.
pub const PLAN: &[Row] = &[
    guest(1).quick(),
    guest(2).quick(),
    guest(3),
    guest(4).quick(),
    guest(5),
    guest(6).quick(),
    guest(7).quick(),
    guest(8).quick(),
    guest(9).quick(),
    guest(10).quick(),
    guest(11).quick(),
    guest(12).quick(),
    guest(13).quick(),
    guest(14).quick(),
    guest(15),
    guest(16),
    guest(17).quick(),
    guest(18).quick(),
    guest(19).quick(),
    guest(20),
    guest(21),
    guest(22).quick(),
    // An application that is not there.
    guest(23).logging(&["ldelf failed with res: 0xffff0008"]),
    guest(24).quick(),
    guest(25).quick(),
];
