// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A description that is for a real board. The board's device tree says what `[machine]` says of
//! QEMU's machine: of that table only `when_all_off` and `optee_spi` count.

use super::System;
use anyhow::Result;
use postern_boot_tree::MAX_CPUS;
use std::path::Path;

impl System {
    /// Reads and checks a file for a board.
    ///
    /// # Errors
    /// Names the file, the key and what would be right.
    pub fn load_for_board(file: &Path) -> Result<Self> {
        Self::load_with(file, Self::parse_for_board)
    }

    /// Reads and checks the text of a file for a board; relative paths stay as they are.
    ///
    /// # Errors
    /// Names the key and what would be right.
    pub fn parse_for_board(text: &str) -> Result<Self> {
        let system = Self::parse_unchecked(text)?;
        system.check_board_abi().map_err(anyhow::Error::msg)?;
        let cpus = u32::try_from(MAX_CPUS)?;
        system.check_vms(cpus, None).map_err(anyhow::Error::msg)?;
        Ok(system)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_qemu_s_machine_do_not_hold_for_a_board() {
        let text = "[machine]\ncpus = 6\n[[vm]]\nname = \"a\"\nmemory = \"6G\"\naffinity = [5]\n";
        assert!(System::parse(text).is_err());
        let system = System::parse_for_board(text).expect("a board may be larger");
        assert_eq!(system.vms[0].memory.kib(), 6 << 20);
        let error = System::parse_for_board(&text.replace("[5]", "[8]")).expect_err("beyond 8");
        assert!(error.to_string().contains("the machine has 0 to 7"));
    }
}
