// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The attacks over FF-A, and what plays each. Their numbers are their own.

use super::plan::{AttackRow, LOADING, elsewhere, endings, guest};

/// All rows, in order.
pub const FFA_PLAN: &[AttackRow] = &[
    guest(1).quick(),
    guest(2).quick(),
    guest(3).quick(),
    guest(4).quick(),
    guest(5).quick(),
    guest(6).quick(),
    guest(7),
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
    guest(18),
    guest(19).quick(),
    guest(20).quick(),
    guest(21).quick(),
    guest(22),
    guest(23).quick(),
    guest(24).quick(),
    guest(25).quick(),
    guest(26).quick(),
    guest(27).quick(),
    guest(28).quick(),
    endings(29, &[("ffa-sharing", 1)]),
    guest(30).quick(),
    guest(31).quick(),
    guest(32).quick().logging(LOADING),
    guest(33),
    guest(34).quick().logging(LOADING),
    endings(35, &[("ffa-objects", 1)]),
    guest(36).quick(),
    guest(37).quick(),
    guest(38).logging(LOADING),
    guest(39).quick(),
    guest(40).quick().logging(LOADING),
    // The application says so of parameters that it does not know.
    guest(41).quick().logging(&["unexpected parameters"]),
    guest(42).quick().logging(LOADING),
    guest(43).logging(LOADING),
    guest(44),
    guest(45).quick(),
    guest(46).quick(),
    guest(47),
    guest(48).quick(),
    guest(49).quick(),
    endings(
        50,
        &[
            ("ffa-fragments", 1),
            ("ffa-calls", 1),
            ("ffa-notifications", 1),
        ],
    )
    .logging(LOADING),
    elsewhere(
        52,
        "more VMs than OP-TEE has room for",
        "it is refused at boot, before any guest runs",
        &[(
            "tests/tests/boot_errors.rs",
            "more_guests_than_optee_takes_is_reported",
        )],
    ),
    guest(55).quick(),
    guest(56).quick().logging(LOADING),
    guest(57).quick().logging(LOADING),
    guest(58).quick(),
];

#[cfg(test)]
mod tests {
    use super::super::Player;
    use super::*;
    use std::path::Path;

    #[test]
    fn numbers_rise_and_the_tests_that_play_attacks_exist() {
        let numbers = FFA_PLAN.iter().map(|row| row.number);
        assert!(numbers.is_sorted_by(|one, next| one < next));
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for row in FFA_PLAN {
            row.check(&root).expect("the tests that play it");
            let ends = row.player == Player::Ends;
            assert!(!ends || !row.endings.is_empty(), "{}: no ends", row.number);
        }
    }
}
