// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line.

use crate::board::{BaseTree, BoardName};
use crate::bundle::args::BundleArgs;
use crate::caller::Caller;
use crate::config::{MAX_VMS, System, TeeAbi, WhenAllOff};
use crate::folder::Claim;
use crate::launch::Machine;
use crate::paths::Paths;
use crate::prepare::{Artifacts, Flavour, PrepareOptions, Suite, prepare};
use crate::progress::Progress;
use crate::report::{Report, picture, table};
use crate::run::{RunPlan, run};
use crate::selection::{Baseline, Selection};
use crate::{control, dist, optee, shell, signals};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Fetches the parts of a system with Postern, builds it, boots it in QEMU and reports the result.
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
    /// Run the same on the bare machine, without the hypervisor: the baseline of comparisons.
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
        /// Boot the bare machine, without the hypervisor.
        #[arg(long)]
        native: bool,
        /// Where logs go [default: out/shell].
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Fetch and build everything that `run` needs, without starting anything.
    Prepare {
        #[command(flatten)]
        system: SystemArgs,
    },
    /// Send a command, such as `vm list`, to the monitor of a system that runs in this checkout.
    Ctl {
        /// Folder of the system's logs: its name below out/, such as `run` or `shell`, or its path;
        /// needed when several systems run.
        #[arg(long)]
        system: Option<String>,
        /// Print the answer as one line of JSON.
        #[arg(long)]
        json: bool,
        /// Command for the monitor; `help` lists all of them.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Build the files of a release: image, ELF file, this tool, SBOMs, checksums.
    Dist {
        /// Folder for the files [default: out/dist].
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Make what U-Boot boots on a board: tree, scripts, FIT, and a page that says what to type.
    Bundle(BundleArgs),
    /// Draw and print the report of an earlier run again.
    Report {
        /// The run's `report.json`.
        file: PathBuf,
    },
}

#[derive(Args, Debug)]
struct SystemArgs {
    /// Description of the system [default: guests/two.toml].
    #[arg(long)]
    config: Option<PathBuf>,
    /// Debian suite that the parts come from: `trixie` or `sid`.
    #[arg(long, default_value = "trixie")]
    suite: Suite,
    /// The board instead of the description's machine.board: `virt`, `virt-gicv2`, `zcu102`,
    /// `imx8mp-evk`.
    #[arg(long)]
    board: Option<BoardName>,
    /// ABI of OP-TEE instead of the description's machine.tee_abi: `smc` or `ffa`.
    #[arg(long)]
    abi: Option<TeeAbi>,
    /// Number of guests instead of the description's, all like its last one; above two, OP-TEE is
    /// built for that number.
    #[arg(long, value_parser = guests)]
    guests: Option<u32>,
}

fn guests(text: &str) -> Result<u32, String> {
    match text.trim().parse() {
        Ok(guests @ 1..) if guests as usize <= MAX_VMS => Ok(guests),
        _ => Err(format!("it must be a number from 1 to {MAX_VMS}")),
    }
}

impl Cli {
    /// Executes the command; returns whether it succeeded.
    ///
    /// # Errors
    ///
    /// Fails when something that is needed is missing or does not work; the message says what.
    pub fn execute(self) -> Result<bool> {
        match self.command {
            Command::Run { system, xtest, out } => {
                system.run(Flavour::Shared, xtest, out.as_deref())
            }
            Command::RunNative { system, xtest, out } => {
                system.run(Flavour::Native, xtest, out.as_deref())
            }
            Command::Shell {
                system,
                native,
                out,
            } => system.shell(native, out.as_deref()),
            Command::Prepare { system } => {
                let paths = Paths::discover()?;
                let described = system.describe(&paths, Flavour::Shared)?;
                // `prepare` has its own folder: another system may be running in the others.
                let folder = paths.run("prepare");
                let _claim = claim(&folder, "prepare")?;
                system.machine(&paths, Flavour::Shared, described, &folder, "")?;
                Ok(true)
            }
            Command::Ctl {
                system,
                json,
                command,
            } => {
                let option = if json { " --json" } else { "" };
                let line = command.join(" ") + option;
                let find = || control::find(&Paths::discover()?, system.as_deref());
                print!("{}", control::ctl(&line, find)?);
                Ok(true)
            }
            Command::Dist { out } => {
                let paths = Paths::discover()?;
                let out = out.unwrap_or_else(|| paths.out().join("dist"));
                dist::build(
                    &dist::ReleasePlan {
                        root: paths.root(),
                        cargo_home: &dist::cargo_home()?,
                        out: &out,
                        date: dist::date(paths.root())?,
                    },
                    &Progress::on_stderr(),
                )?;
                println!("{}", out.display());
                Ok(true)
            }
            Command::Bundle(args) => args.carry_out(),
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

    /// Reads and checks the description: all that can be known before anything is fetched or built.
    fn describe(&self, paths: &Paths, flavour: Flavour) -> Result<System> {
        let system = self.load(paths)?;
        self.check(paths, &system, flavour)?;
        Ok(system)
    }

    /// Reads the description, with the command line's changes.
    fn load(&self, paths: &Paths) -> Result<System> {
        let file = self.config(paths);
        if !file.is_file() {
            bail!(
                "{}: there is no such file; {}",
                Caller::of_this_process().option("config", &file.display().to_string()),
                descriptions(paths)
            );
        }
        let mut system = System::load(&file)?;
        if let Some(board) = self.board {
            system = system.on_board(board).map_err(|why| {
                let option = Caller::of_this_process().option("board", &board.to_string());
                anyhow::anyhow!("{option}: {why}")
            })?;
        }
        if let Some(abi) = self.abi {
            system = system.with_abi(abi).map_err(|why| {
                let option = Caller::of_this_process().option("abi", abi.name());
                anyhow::anyhow!("{option}: {why}")
            })?;
        }
        if let Some(guests) = self.guests {
            system = system.with_guests(guests).map_err(|why| {
                let option = Caller::of_this_process().option("guests", &guests.to_string());
                anyhow::anyhow!("{option}: {why}")
            })?;
        }
        Ok(system)
    }

    /// Checks that a description can run in this flavour.
    fn check(&self, paths: &Paths, system: &System, flavour: Flavour) -> Result<()> {
        let shared = flavour == Flavour::Shared;
        let checked = if shared {
            system.check_room().and_then(|()| system.check_shared_abi())
        } else {
            Ok(())
        };
        checked
            .map_err(anyhow::Error::msg)
            .and_then(|()| system.check_files(&paths.guests()))
            .with_context(|| format!("in {}", self.config(paths).display()))?;
        let board = system.machine.board;
        ensure!(
            shared || matches!(board.board().tree, BaseTree::Qemu(_)),
            "{}: the board {board} boots the hypervisor only; virt and virt-gicv2 boot without it, too",
            Caller::of_this_process().command("run-native")
        );
        optee::check_source()
    }

    /// Prepares the system; `words` are added to every guest's command line.
    fn machine(
        &self,
        paths: &Paths,
        flavour: Flavour,
        mut system: System,
        folder: &Path,
        words: &str,
    ) -> Result<(Machine, Artifacts)> {
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
        if flavour == Flavour::Shared {
            system
                .check_ram(artifacts.modules)
                .with_context(|| format!("in {}", self.config(paths).display()))?;
        }
        let machine = Machine::new(&artifacts, &system, flavour.wiring());
        Ok((machine, artifacts))
    }

    fn shell(&self, native: bool, out: Option<&Path>) -> Result<bool> {
        ensure!(
            std::io::stdin().is_terminal(),
            "`{}` needs a terminal on its standard input; `{}` needs none",
            Caller::of_this_process().command("shell"),
            Caller::of_this_process().command("run"),
        );
        let flavour = if native {
            Flavour::Native
        } else {
            Flavour::Shared
        };
        let paths = Paths::discover()?;
        let system = self.describe(&paths, flavour)?;
        let folder = out.map_or_else(|| paths.run("shell"), Path::to_owned);
        let _claim = claim(&folder, "shell")?;
        let (machine, _) = self.machine(&paths, flavour, system, &folder, "postern.shell")?;
        signals::catch()?;
        shell::run(&machine, &folder)
    }

    fn run(&self, flavour: Flavour, selection: Selection, out: Option<&Path>) -> Result<bool> {
        let paths = Paths::discover()?;
        let (command, name) = if flavour == Flavour::Native {
            ("run-native", "native")
        } else {
            ("run", "run")
        };
        let system = self.describe(&paths, flavour)?;
        for note in can_run(&system, flavour)? {
            eprintln!("  {note}");
        }
        let folder = out.map_or_else(|| paths.run(name), Path::to_owned);
        let _claim = claim(&folder, command)?;
        let (machine, artifacts) = self.machine(&paths, flavour, system, &folder, "")?;
        let native = paths.run("native").join("report.json");
        let config = self.config(&paths);
        let baseline = Baseline::load(&artifacts.versions, &native)?;
        let plan = RunPlan {
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

/// Claims a system's folder for a command.
fn claim(folder: &Path, command: &str) -> Result<Claim> {
    let caller = Caller::of_this_process();
    let another = format!(
        "or give this one a folder of its own, {}",
        caller.option("out", &format!("{}-2", folder.display()))
    );
    Claim::take(folder, &caller.command(command), &another)
}

/// Lists, in a sentence, the descriptions that come with Postern.
fn descriptions(paths: &Paths) -> String {
    let files = std::fs::read_dir(paths.guests());
    let mut names: Vec<String> = files
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    names.sort();
    format!("{} has {}", paths.guests().display(), names.join(", "))
}

/// Checks that `run` can do its work with a system; returns notes for the user.
fn can_run(system: &System, flavour: Flavour) -> Result<Vec<String>> {
    let shell = Caller::of_this_process().command("shell");
    let shared = flavour == Flavour::Shared;
    let vms = &system.vms[..if shared { system.vms.len() } else { 1 }];
    for vm in vms {
        let name = &vm.name;
        ensure!(
            vm.program.is_none(),
            "vm \"{name}\" runs a program, and xtest needs Linux guests: try `{shell}`"
        );
        ensure!(
            vm.autostart || !shared,
            "vm \"{name}\" has autostart = false, and xtest runs in all guests at once: try `{shell}`"
        );
    }
    ensure!(
        !shared || system.machine.when_all_off == WhenAllOff::PowerOff,
        "machine.when_all_off = \"stay\": a run ends when the machine powers off: try `{shell}`"
    );
    let own = vms.iter().filter(|vm| vm.initrd.is_some());
    Ok(own
        .map(|vm| {
            format!(
                "vm \"{}\" has an initrd of its own: without the agent (guests/agent) in it this run will wait \
                 in vain; `{shell}` needs no agent",
                vm.name
            )
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn xtest_arguments_may_begin_with_a_dash() {
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

    #[test]
    fn errors_use_the_words_that_were_typed() {
        let explained = |words: &[&str]| {
            let words = ["postern-tool"].iter().chain(words);
            let error = Cli::try_parse_from(words).expect_err("wrong");
            assert_eq!(Caller::Shell.explain(&error), None);
            Caller::Make.explain(&error).expect("explained")
        };
        for value in ["x", "0", "9", "-1", "4 4", ""] {
            assert_eq!(
                explained(&["run", &format!("--guests={value}")]),
                format!("GUESTS={value}: it must be a number from 1 to 8")
            );
        }
        assert_eq!(
            explained(&["run", "--suite", "bullseye"]),
            "SUITE=bullseye: there is no suite \"bullseye\"; it is trixie or sid"
        );
        assert_eq!(
            explained(&["run", "--board", "zcu"]),
            "BOARD=zcu: there is no board \"zcu\"; the boards are virt, virt-gicv2, zcu102, imx8mp-evk"
        );
        let error = explained(&["run-native", "--xtest", "1001; x"]);
        assert!(
            error.starts_with("XTEST=1001; x: ';' cannot be part of an xtest option"),
            "{error}"
        );
    }

    #[test]
    fn run_that_cannot_end_is_refused() {
        let refusal = |text: &str, flavour| {
            let system = System::parse(text).expect("a system");
            can_run(&system, flavour).map_err(|error| format!("{error:#}"))
        };
        let shared = |text: &str| refusal(text, Flavour::Shared);
        let two = "[[vm]]\nname = \"a\"\n[[vm]]\nname = \"b\"\n";
        assert_eq!(shared(two), Ok(Vec::new()));
        for (key, word) in [
            ("program = \"bench\"", "program"),
            ("autostart = false", "autostart"),
        ] {
            let text = format!("{two}{key}");
            assert!(shared(&text).is_err_and(|why| why.contains("vm \"b\"") && why.contains(word)));
            // The bare machine runs only the first guest.
            assert_eq!(refusal(&text, Flavour::Native), Ok(Vec::new()));
        }
        let stay = format!("machine.when_all_off = \"stay\"\n{two}");
        assert!(shared(&stay).is_err_and(|why| why.contains("when_all_off")));
        let notes = shared(&format!("{two}initrd = \"x\"")).expect("it may have the agent");
        assert!(notes[0].contains("vm \"b\" has an initrd of its own"));
    }
}
