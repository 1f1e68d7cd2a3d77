//! The command line.

use crate::config::System;
use crate::launch::Machine;
use crate::paths::Paths;
use crate::prepare::{Artifacts, Flavour, PrepareOptions, Suite, prepare};
use crate::progress::Progress;
use crate::report::{Report, picture, table};
use crate::run::{Plan, run};
use crate::selection::{Baseline, Selection};
use crate::{control, shell, signals};
use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};

/// Fetches the parts of a system with Postern, builds it, boots it in QEMU and tells how it went.
#[derive(Parser, Debug)]
#[command(name = "postern-tool", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Boot the system, run xtest in all its guests at once, measure, report.
    Run {
        #[command(flatten)]
        system: SystemArgs,
        /// What xtest runs: `default` (a few minutes), `all`, or xtest's own words, such as
        /// `-t regression 1001 -x 1006`.
        #[arg(long, default_value = "default", allow_hyphen_values = true)]
        xtest: Selection,
        /// Where logs and the report go [default: out/run].
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// The same on the bare machine, without the hypervisor: what the others are compared with.
    RunNative {
        #[command(flatten)]
        system: SystemArgs,
        /// What xtest runs.
        #[arg(long, default_value = "all", allow_hyphen_values = true)]
        xtest: Selection,
        /// Where logs and the report go [default: out/native].
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Boot the system and put its consoles on this terminal.
    Shell {
        #[command(flatten)]
        system: SystemArgs,
        /// The bare machine, without the hypervisor.
        #[arg(long)]
        native: bool,
    },
    /// Fetch and build everything that `run` needs, and start nothing.
    Prepare {
        #[command(flatten)]
        system: SystemArgs,
    },
    /// Have the monitor of a system that runs in this checkout execute a command, such as `vm list`.
    Ctl {
        /// The folder of the system's logs below out/, such as `run` or `shell`; needed when several run.
        #[arg(long)]
        system: Option<String>,
        /// The answer as one line of JSON.
        #[arg(long)]
        json: bool,
        /// The command: `help` tells which there are.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Draw and print the report of an earlier run again.
    Report {
        /// Its `report.json`.
        file: PathBuf,
    },
}

#[derive(Args, Debug)]
struct SystemArgs {
    /// The description of the system [default: guests/two.toml].
    #[arg(long)]
    config: Option<PathBuf>,
    /// The Debian suite that the parts come from: `trixie` or `sid`.
    #[arg(long, default_value = "trixie")]
    suite: Suite,
    /// So many guests instead of those of the description, all like its last one; above two, with an
    /// OP-TEE that is built for them.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=8))]
    guests: Option<u32>,
}

impl Cli {
    /// Does what was asked for; whether it went well.
    ///
    /// # Errors
    ///
    /// Something that is needed is not there or does not work; the message says what.
    pub fn carry_out(self) -> Result<bool> {
        match self.command {
            Command::Run { system, xtest, out } => {
                system.run(Flavour::Shared, xtest, out.as_deref())
            }
            Command::RunNative { system, xtest, out } => {
                system.run(Flavour::Native, xtest, out.as_deref())
            }
            Command::Shell { system, native } => {
                let flavour = if native {
                    Flavour::Native
                } else {
                    Flavour::Shared
                };
                let paths = Paths::discover()?;
                let folder = paths.run("shell");
                let (machine, _) = system.machine(&paths, flavour, &folder, "postern.shell")?;
                signals::catch()?;
                shell::run(&machine, &folder)?;
                Ok(true)
            }
            Command::Prepare { system } => {
                let paths = Paths::discover()?;
                system.machine(&paths, Flavour::Shared, &paths.run("run"), "")?;
                Ok(true)
            }
            Command::Ctl {
                system,
                json,
                command,
            } => {
                let folder = control::find(&Paths::discover()?, system.as_deref())?;
                let (options, words): (Vec<&str>, Vec<&str>) = command
                    .iter()
                    .flat_map(|word| word.split_whitespace())
                    .partition(|word| *word == "--json");
                let json = json || !options.is_empty();
                control::ctl(&folder, &words.join(" "), json, |line| println!("{line}"))?;
                Ok(true)
            }
            Command::Report { file } => {
                let text = std::fs::read_to_string(&file)
                    .with_context(|| format!("cannot read {}", file.display()))?;
                let report = Report::parse(&text)
                    .with_context(|| format!("{} is no report", file.display()))?;
                let svg = file.with_extension("svg");
                std::fs::write(&svg, picture(&report))
                    .with_context(|| format!("cannot write {}", svg.display()))?;
                print!("{}", table(&report));
                Ok(report.passed())
            }
        }
    }
}

impl SystemArgs {
    fn config(&self, paths: &Paths) -> PathBuf {
        self.config
            .clone()
            .unwrap_or_else(|| paths.guests().join("two.toml"))
    }

    /// Prepares the system; `words` are added to every guest's command line.
    fn machine(
        &self,
        paths: &Paths,
        flavour: Flavour,
        folder: &Path,
        words: &str,
    ) -> Result<(Machine, Artifacts)> {
        let mut system = System::load(&self.config(paths))?;
        if let Some(guests) = self.guests {
            system = system.with_guests(guests).map_err(anyhow::Error::msg)?;
        }
        for vm in &mut system.vms {
            vm.cmdline = format!("{} postern.hostname={} {words}", vm.cmdline, vm.name)
                .trim()
                .to_owned();
        }
        let options = PrepareOptions {
            paths: paths.clone(),
            suite: self.suite,
            flavour,
            system: system.clone(),
            folder: folder.to_owned(),
        };
        let artifacts = prepare(&options, &Progress::on_stderr())?;
        let machine = Machine::new(&artifacts, &system, flavour.wiring());
        Ok((machine, artifacts))
    }

    fn run(&self, flavour: Flavour, selection: Selection, out: Option<&Path>) -> Result<bool> {
        let paths = Paths::discover()?;
        let name = if flavour == Flavour::Native {
            "native"
        } else {
            "run"
        };
        let folder = out.map_or_else(|| paths.run(name), Path::to_owned);
        let (machine, artifacts) = self.machine(&paths, flavour, &folder, "")?;
        if let Some(vm) = machine.vms.iter().find(|vm| vm.program) {
            bail!(
                "vm \"{}\" runs a program, and `run` takes Linux guests; try `shell`",
                vm.name
            );
        }
        let native = paths.run("native").join("report.json");
        let config = self.config(&paths);
        let baseline = Baseline::load(&artifacts.versions, &native)?;
        let plan = Plan {
            machine,
            versions: artifacts.versions,
            system: config
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            selection,
            baseline,
            folder,
        };
        signals::catch()?;
        Ok(run(&plan)?.passed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn xtest_s_own_words_may_begin_with_a_dash() {
        let cli = Cli::try_parse_from(["postern-tool", "run", "--xtest", "-t regression 1001"]);
        let Ok(Cli {
            command: Command::Run { xtest, .. },
        }) = cli
        else {
            panic!("{cli:?}")
        };
        assert_eq!(xtest.command(), "xtest -t regression 1001");
        assert!(Cli::try_parse_from(["postern-tool", "run", "--xtest", "1001; x"]).is_err());
        assert!(Cli::try_parse_from(["postern-tool", "run", "--suite", "bullseye"]).is_err());
    }
}
