// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is to become of a line: some are answered here, the others are for the monitor.

use crate::editor::MAX_LINE;
use crate::help;
use postern_monitor::command::Request;

/// A command for the monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its words.
    pub line: String,
    /// Whether the user wants the answer as JSON.
    pub json: bool,
}

impl Command {
    /// Returns the line that asks the monitor, without its end. The answer has this tag.
    pub fn tagged(&self, tag: &str) -> String {
        format!("#{tag} {} --json", self.line)
    }

    /// Returns what to show of the answer, a JSON object: whole lines.
    ///
    /// # Errors
    /// Why the command was not executed.
    pub fn show(&self, answer: &str) -> Result<String, String> {
        let text = crate::table::text(answer)?;
        Ok(if self.json {
            format!("{answer}\n")
        } else {
            text
        })
    }
}

/// What is to become of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: it is empty.
    Nothing,
    /// It is answered: whole lines.
    Say(String),
    /// It is wrong, and this is why.
    Refuse(String),
    /// The monitor is to answer it.
    Ask(Command),
}

/// Says what is to become of a line.
pub fn plan(line: &str) -> Plan {
    match decide(line) {
        Ok(plan) => plan,
        Err(why) => Plan::Refuse(why),
    }
}

fn decide(line: &str) -> Result<Plan, String> {
    if !line.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err("a command is plain ASCII".into());
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
        request.command.map_err(|mistake| help::explain(&mistake))?;
        let topic: Vec<&str> = words.skip(1).collect();
        return Ok(Plan::Say(if request.json {
            format!("{}\n", help::json(&topic)?)
        } else {
            help::help(&topic)?
        }));
    }
    request.command.map_err(|mistake| help::explain(&mistake))?;
    Ok(Plan::Ask(Command {
        line: words.collect::<Vec<_>>().join(" "),
        json: request.json,
    }))
}

#[cfg(test)]
mod tests;
