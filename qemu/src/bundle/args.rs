// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line of `bundle`.

use super::board::{Additions, OpteeNodes};
use super::script::{From, Medium};
use super::window::{Range, number};
use super::{Outcome, PAGE, Plan, bundle};
use crate::config::System;
use crate::prepare::Suite;
use crate::progress::Progress;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// What `bundle` is told.
#[derive(Args, Debug)]
pub struct BundleArgs {
    /// The board's device tree: the .dtb that Linux boots with there.
    #[arg(long)]
    board_dtb: PathBuf,
    /// The description of the system: docs/configuration.md. Of [machine] only
    /// when_all_off and optee_spi count.
    #[arg(long)]
    config: PathBuf,
    /// The folder that gets the files.
    #[arg(long)]
    out: PathBuf,
    /// How U-Boot loads the files.
    #[arg(long, value_enum, default_value = "mmc")]
    load: Medium,
    /// Which device and partition of it, DEVICE:PARTITION.
    #[arg(long, default_value = "0:1", value_parser = device)]
    device: (u32, u32),
    /// Where the files go in RAM, a multiple of 2 MiB [default: the first place 128 MiB or more
    /// above the start of RAM that the tree does not reserve].
    #[arg(long, value_parser = address)]
    load_address: Option<u64>,
    /// Who describes OP-TEE: the board's tree, this command, or firmware while the board boots.
    #[arg(long, value_enum, default_value = "tree")]
    optee: OpteeNodes,
    /// With --optee add, the interrupt of OP-TEE's notifications: the three cells of a GIC, such as
    /// "0 187 1".
    #[arg(long, value_parser = interrupt)]
    optee_interrupt: Option<[u32; 3]>,
    /// RAM that the tree does not tell, START:SIZE, such as 0x80000000:2G; as often as needed.
    #[arg(long)]
    memory: Vec<Range>,
    /// RAM of the firmware, of OP-TEE for example, that the tree does not reserve, START:SIZE; as
    /// often as needed.
    #[arg(long)]
    reserve: Vec<Range>,
    /// OP-TEE 4.6 or newer was built with CFG_DYN_CONFIG=n.
    #[arg(long)]
    optee_static_tables: bool,
    /// The hypervisor's image, of a release for example [default: built from this checkout].
    #[arg(long)]
    hypervisor: Option<PathBuf>,
    /// The Debian suite of guests without a kernel or an initrd of their own.
    #[arg(long, default_value = "trixie")]
    suite: Suite,
}

fn device(text: &str) -> Result<(u32, u32), String> {
    let numbers = text
        .split_once(':')
        .and_then(|(device, partition)| Some((device.parse().ok()?, partition.parse().ok()?)));
    numbers.ok_or_else(|| "it must be DEVICE:PARTITION, such as 0:1".to_owned())
}

fn address(text: &str) -> Result<u64, String> {
    number(text).ok_or_else(|| "it must be a number, such as 0x48000000".to_owned())
}

fn interrupt(text: &str) -> Result<[u32; 3], String> {
    let cells: Option<Vec<u32>> = text
        .split_whitespace()
        .map(|word| word.parse().ok())
        .collect();
    cells
        .and_then(|cells| cells.try_into().ok())
        .ok_or_else(|| "it must be three numbers, such as \"0 187 1\"".to_owned())
}

impl BundleArgs {
    /// Makes the bundle; whether there is one.
    ///
    /// # Errors
    /// A file cannot be read, built or written.
    pub fn carry_out(self) -> Result<bool> {
        let plan = Plan {
            system: System::load_for_board(&self.config)?,
            board: self.board_dtb,
            suite: self.suite,
            out: self.out,
            hypervisor: self.hypervisor,
            from: From {
                medium: self.load,
                device: self.device.0,
                partition: self.device.1,
            },
            load_address: self.load_address,
            additions: Additions {
                optee: self.optee,
                optee_interrupt: self.optee_interrupt,
                memory: self.memory,
                reserve: self.reserve,
                static_tables: self.optee_static_tables,
            },
        };
        match bundle(&plan, &Progress::on_stderr())? {
            Outcome::Done(notes) => {
                for note in notes {
                    eprintln!("  note: {note}");
                }
                println!("{}", plan.out.join(PAGE).display());
                Ok(true)
            }
            Outcome::Problems(lines) => {
                for line in lines {
                    eprintln!("{line}");
                }
                Ok(false)
            }
        }
    }
}
