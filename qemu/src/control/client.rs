// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The client's side: `postern-tool ctl`.

use super::{Reply, Request, SOCKET, socket};
use crate::caller::Caller;
use crate::folder::Holder;
use crate::paths::Paths;
use anyhow::{Context, Result, bail};
use postern_ctl::{Command, Plan, plan};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Finds the folder of the system that a command is for: the one in `out/NAME`, or the only running
/// one.
///
/// # Errors
/// Fails when none runs, or several do.
pub fn find(paths: &Paths, name: Option<&str>) -> Result<PathBuf> {
    let caller = Caller::of_this_process();
    let how = format!(
        "start one with `{}` or `{}`",
        caller.command("run"),
        caller.command("shell")
    );
    if let Some(name) = name {
        let below = paths.out().join(name);
        let folder = if below.is_dir() { below } else { name.into() };
        if connect(&folder).is_err() {
            bail!(
                "no monitor answers in {}: {}",
                folder.display(),
                busy(&folder).unwrap_or(how)
            );
        }
        return Ok(folder);
    }
    let mut running = Vec::new();
    let mut others = Vec::new();
    // The folders of tests' systems are one level deeper.
    for top in [paths.out(), paths.out().join("tests")] {
        for entry in std::fs::read_dir(&top).into_iter().flatten().flatten() {
            let folder = entry.path();
            if folder.join(SOCKET).exists() && connect(&folder).is_ok() {
                running.push(folder);
            } else if let Some(busy) = busy(&folder) {
                others.push(busy);
            }
        }
    }
    running.sort();
    match &running[..] {
        [] => match others.pop() {
            Some(busy) => bail!("no monitor answers in this checkout: {busy}"),
            None => bail!("no system runs in this checkout: {how}"),
        },
        [only] => Ok(only.clone()),
        several => {
            let out = paths.out();
            let name = |folder: &PathBuf| {
                let name = folder.strip_prefix(&out).unwrap_or(folder);
                name.display().to_string()
            };
            let names: Vec<String> = several.iter().map(name).collect();
            bail!(
                "several systems run: {}; say which one with {}",
                names.join(", "),
                caller.option("system", "NAME")
            )
        }
    }
}

/// Describes, in a sentence, the holder of a folder without a monitor that answers.
fn busy(folder: &Path) -> Option<String> {
    let Holder { what, pid, .. } = Holder::of(folder)?;
    Some(format!(
        "`{what}` (process {pid}) in {} has not booted yet, or boots without Postern",
        folder.display()
    ))
}

fn connect(folder: &Path) -> Result<UnixStream> {
    let (_open, path) = socket(folder)?;
    Ok(UnixStream::connect(path)?)
}

/// Executes a command line, most of which go to the monitor of the running system that `find`
/// returns. Returns whole lines to show.
///
/// # Errors
/// Fails when the command is wrong, the monitor refuses it, or the monitor cannot be reached.
pub fn ctl(line: &str, find: impl FnOnce() -> Result<PathBuf>) -> Result<String> {
    match plan(line) {
        Plan::Nothing => bail!("there is no command; `help` lists them"),
        Plan::Say(text) => Ok(text),
        Plan::Refuse(why) => bail!("{why}"),
        Plan::Ask(command) => {
            let answer = ask(&find()?, &command)?;
            command.show(&answer).map_err(anyhow::Error::msg)
        }
    }
}

/// Asks the monitor of the system in `folder`; returns its answer, a JSON object.
fn ask(folder: &Path, command: &Command) -> Result<String> {
    let mut stream = connect(folder).context("the system has ended")?;
    let request = Request {
        command: command.line.clone(),
    };
    let text = serde_json::to_string(&request)? + "\n";
    stream.write_all(text.as_bytes())?;
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply)?;
    if reply.is_empty() {
        bail!("the system has ended");
    }
    match serde_json::from_str(&reply).context("the running tool is of another version")? {
        Reply::Answer(json) => Ok(json),
        Reply::Failed(why) => bail!("{why}"),
    }
}
