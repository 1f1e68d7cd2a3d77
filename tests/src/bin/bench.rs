// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `make bench`, `make bench-check`, `make bench-profile`: see [`postern_tests::bench`].

use anyhow::{Context, Result, bail};
use postern_tests::Lab;
use postern_tests::bench::{check, profile, run};
use std::path::PathBuf;
use std::process::ExitCode;

/// `bench [update] [hypervisor=FILE]`, `bench check`, `bench profile [update] [CALL]...`
fn play() -> Result<bool> {
    let mut words = std::env::args().skip(1).peekable();
    match words.peek().map(String::as_str) {
        Some("check") => check(&Lab::new("bench-check")?),
        Some("profile") => {
            let mut calls: Vec<String> = words.skip(1).collect();
            let all = calls.len();
            calls.retain(|word| word != "update");
            let update = calls.len() < all;
            profile::run(&Lab::new("bench-profile")?, &calls, update)?;
            Ok(true)
        }
        _ => {
            let (mut update, mut hypervisor) = (false, None);
            for word in words {
                match word.split_once('=') {
                    None if word == "update" => update = true,
                    Some(("hypervisor", file)) => hypervisor = Some(PathBuf::from(file)),
                    _ => bail!("{word:?} is neither update nor hypervisor=FILE"),
                }
            }
            if let Some(file) = &hypervisor {
                std::fs::metadata(file).with_context(|| file.display().to_string())?;
            }
            run(&Lab::new("bench")?, hypervisor.as_deref(), update)
        }
    }
}

fn main() -> ExitCode {
    match play() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
