// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The 52 attacks of the test plan and those added since, and what plays each.

use anyhow::{Context, Result, ensure};
use std::path::Path;

/// What plays an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Player {
    /// The hostile guest alone.
    Guest,
    /// The hostile guest, by ending repeatedly ([`AttackRow::endings`]).
    Ends,
    /// Other tests, since the guest cannot.
    Elsewhere {
        /// A description of the attack.
        title: &'static str,
        /// Why the guest cannot play it.
        why: &'static str,
        /// The files of the tests and their names.
        tests: &'static [(&'static str, &'static str)],
    },
}

/// An attack's row in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttackRow {
    /// The attack's number.
    pub number: u8,
    /// What plays the attack.
    pub player: Player,
    /// Whether `make test` plays it too: it is important, and does not take long.
    pub quick: bool,
    /// The states in which the VM ends after the attack itself, each with a number of times. The VM
    /// has to restart each time.
    pub endings: &'static [(&'static str, u32)],
    /// Words of error lines that OP-TEE is expected to log because of the attack.
    pub log: &'static [&'static str],
    /// Whether the attack needs a GICv2. Elsewhere the guest says that it does not apply.
    pub gicv2: bool,
}

/// Returns the row of an attack that the guest plays.
pub(super) const fn guest(number: u8) -> AttackRow {
    AttackRow {
        number,
        player: Player::Guest,
        quick: false,
        endings: &[],
        log: &[],
        gicv2: false,
    }
}

/// Returns the row of an attack that other tests play.
pub(super) const fn elsewhere(
    number: u8,
    title: &'static str,
    why: &'static str,
    tests: &'static [(&'static str, &'static str)],
) -> AttackRow {
    AttackRow {
        player: Player::Elsewhere { title, why, tests },
        quick: true,
        ..guest(number)
    }
}

/// Returns the row of an attack that is the VM's end.
pub(super) const fn endings(number: u8, endings: &'static [(&'static str, u32)]) -> AttackRow {
    AttackRow {
        player: Player::Ends,
        endings,
        ..guest(number)
    }
}

impl AttackRow {
    /// Returns the row with words that OP-TEE may log.
    pub(super) const fn logging(self, log: &'static [&'static str]) -> Self {
        Self { log, ..self }
    }

    const fn ending(self, endings: &'static [(&'static str, u32)]) -> Self {
        Self { endings, ..self }
    }

    const fn gicv2(self) -> Self {
        Self {
            gicv2: true,
            ..self
        }
    }

    /// Returns the row of an attack that `make test` plays.
    pub(super) const fn quick(self) -> Self {
        Self {
            quick: true,
            ..self
        }
    }

    /// Checks that the tests that play it exist.
    ///
    /// # Errors
    ///
    /// Fails when one does not.
    pub fn check(&self, root: &Path) -> Result<()> {
        let Player::Elsewhere { tests, .. } = self.player else {
            return Ok(());
        };
        ensure!(
            !tests.is_empty(),
            "attack {}: no test plays it",
            self.number
        );
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

/// OP-TEE's log lines about an application that fails to load in the attack.
pub(super) const LOADING: &[&str] = &[
    "ldelf failed with res: 0x",
    "RPC allocation failed. Non-secure world result",
];

/// Its log lines about applications that are ended while they are opened; one calls a plugin, which
/// does not answer.
const ENDING: &[&str] = &[LOADING[0], LOADING[1], "Failed for TA 380231ac"];

/// Its log lines about applications for which there is no room. OP-TEE 4.5 ends the program that
/// loads one, and dumps it.
const ROOM: &[&str] = &[
    LOADING[0],
    LOADING[1],
    "0xffff000c",
    "exhausted",
    "ldelf",
    "TA panicked with code",
    " region ",
];

/// All rows, in order.
pub const PLAN: &[AttackRow] = &[
    guest(1).quick(),
    guest(2).quick(),
    guest(3).quick(),
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
    guest(16).quick(),
    guest(17).quick(),
    guest(18).quick(),
    guest(19).quick(),
    guest(20),
    guest(21),
    guest(22).quick(),
    // The application does not exist.
    guest(23)
        .quick()
        .logging(&["ldelf failed with res: 0xffff0008"]),
    guest(24).quick(),
    guest(25).quick(),
    guest(26).quick().logging(LOADING),
    guest(27).quick().logging(LOADING),
    guest(28).quick().logging(LOADING),
    guest(29).logging(LOADING),
    guest(30).quick().logging(LOADING),
    guest(31).quick().logging(LOADING),
    guest(32).quick().logging(LOADING),
    guest(33).logging(LOADING),
    guest(34).quick().logging(LOADING),
    guest(35).logging(LOADING),
    guest(36).quick().logging(LOADING),
    guest(37).quick(),
    guest(38).quick(),
    guest(39),
    guest(40).quick(),
    // At a VM's end Postern asks which applications have stayed, but does not provide their code.
    guest(41)
        .ending(&[("enabling-notifications", 3)])
        .logging(LOADING),
    guest(42).quick(),
    endings(
        43,
        &[
            ("running", 1),
            ("running-application", 1),
            ("running-both", 1),
            ("interrupted", 1),
            ("restless", 1),
            ("loading", 1),
            ("alloc", 1),
            ("free", 1),
            ("free-refused", 1),
            ("load-size", 1),
            ("load", 1),
            ("load-rpc-arg", 1),
            ("load-registered", 1),
            ("shm-alloc", 1),
            ("shm-alloc-rpc-arg", 1),
            ("shm-free", 1),
            ("shm-free-rpc-arg", 1),
            ("shm-free-reused", 1),
            ("files-open", 1),
            ("files-by-address", 1),
            ("files-write", 1),
            ("get-time", 1),
            ("get-time-rpc-arg", 1),
            ("suspend", 1),
            ("notification-wait", 1),
            ("notification-send", 1),
            ("socket", 1),
            ("plugin", 1),
            ("registering", 1),
            ("unregistering", 1),
            ("unregistered", 1),
            ("cache", 1),
        ],
    )
    .logging(ENDING),
    endings(44, &[("sessions-applications", 20)]).logging(LOADING),
    elsewhere(
        45,
        "more VMs than OP-TEE has room for",
        "it is refused at boot, before any guest runs",
        &[(
            "tests/tests/boot_errors.rs",
            "more_guests_than_optee_takes_is_reported",
        )],
    ),
    endings(46, &[("all-calls", 3)]).quick().logging(LOADING),
    guest(47),
    elsewhere(
        48,
        "OP-TEE answers with garbage: unknown cookies, functions, threads",
        "the real OP-TEE does not do it; the mediator's tests have a made-up one that does",
        &[
            (
                "mediator/src/tests/rpcs.rs",
                "broken_tee_poisons_only_its_call",
            ),
            (
                "mediator/src/tests/rpcs.rs",
                "garbage_in_a_request_is_contained",
            ),
            ("mediator/src/tests/abi/functions.rs", "rpc_func_unknown"),
        ],
    ),
    elsewhere(
        49,
        "OP-TEE hangs or panics",
        "no guest can have it do so on purpose; the scenario stops a CPU inside OP-TEE by QEMU's debugger",
        &[(
            "tests/tests/stuck_tee.rs",
            "hanging_secure_world_is_reported_and_others_go_on",
        )],
    ),
    guest(50).quick().logging(LOADING),
    guest(51),
    guest(52).quick(),
    guest(53).quick(),
    guest(54).quick().logging(LOADING),
    guest(55).quick(),
    guest(56).quick(),
    guest(57).quick(),
    guest(58).quick(),
    guest(59).quick(),
    guest(60).quick(),
    guest(61).quick(),
    // Applications for which there is no room left.
    guest(62).quick().logging(ROOM),
    guest(63).quick(),
    guest(64).quick(),
    guest(65).quick(),
    guest(66),
    guest(67).quick().logging(LOADING),
    guest(68).quick(),
    guest(69),
    guest(70).quick(),
    guest(71).quick(),
    guest(72).gicv2(),
    guest(73).gicv2(),
    guest(74).gicv2(),
    guest(75).gicv2(),
    guest(76).quick(),
    guest(77).quick(),
    guest(78).quick(),
    guest(79).quick(),
    guest(80).quick(),
    guest(81),
    guest(82).quick(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_covers_all_attacks() {
        let numbers: Vec<u8> = PLAN.iter().map(|row| row.number).collect();
        assert_eq!(numbers, (1..=82).collect::<Vec<_>>());
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for row in PLAN {
            row.check(&root).expect("the tests that play it");
            let ends = row.player == Player::Ends;
            assert!(!ends || !row.endings.is_empty(), "{}: no ends", row.number);
        }
    }
}
