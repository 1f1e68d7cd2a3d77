// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decides about a line: some are answered here, the others go to the monitor.

use crate::editor::MAX_LINE;
use crate::help;
use postern_monitor::command::Request;

/// A command for the monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The command's words.
    pub line: String,
    /// Whether the user wants the answer as JSON.
    pub json: bool,
}

impl Command {
    /// Returns the line for the monitor, without its end. The answer will have this tag.
    pub fn tagged(&self, tag: &str) -> String {
        format!("#{tag} {} --json", self.line)
    }

    /// Returns what to show of the answer, a JSON object, as whole lines.
    ///
    /// # Errors
    /// Fails when the command was not executed; says why.
    pub fn show(&self, answer: &str) -> Result<String, String> {
        let text = crate::table::text(answer)?;
        Ok(if self.json {
            format!("{answer}\n")
        } else {
            text
        })
    }
}

/// What to do about a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The line is empty.
    Nothing,
    /// The answer, as whole lines.
    Say(String),
    /// The line is wrong; the text says why.
    Refuse(String),
    /// The command is for the monitor.
    Ask(Command),
}

/// Decides what to do about a line.
pub fn plan(line: &str) -> Plan {
    match decide(line) {
        Ok(plan) => plan,
        Err(why) => Plan::Refuse(why),
    }
}

fn decide(line: &str) -> Result<Plan, String> {
    if !line.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err("a command must be plain ASCII".into());
    }
    if line.len() > MAX_LINE {
        return Err(format!("a command has at most {MAX_LINE} characters"));
    }
    if line.trim_start().starts_with('#') {
        return Err("this program sets the tag itself".into());
    }
    let Some(request) = Request::parse(line) else {
        return Ok(Plan::Nothing);
    };
    if let Some(instead) = request.spec.and_then(|spec| help::instead(spec.verb)) {
        return Err(instead.into());
    }
    let words = line
        .split_ascii_whitespace()
        .filter(|word| !word.starts_with("--"));
    if request.spec.is_some_and(help::is_help) {
        request.command.map_err(|error| help::explain(&error))?;
        let topic: Vec<&str> = words.skip(1).collect();
        return Ok(Plan::Say(if request.json {
            format!("{}\n", help::json(&topic)?)
        } else {
            help::help(&topic)?
        }));
    }
    request.command.map_err(|error| help::explain(&error))?;
    Ok(Plan::Ask(Command {
        line: words.collect::<Vec<_>>().join(" "),
        json: request.json,
    }))
}

#[cfg(test)]
mod tests;
