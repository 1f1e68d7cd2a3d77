// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The help for commands, and errors for lines that are no command.

use postern_monitor::LifecycleRequest;
use postern_monitor::command::CommandError;
use postern_monitor::specs::{Arguments, SPECS, Spec, Verb};
use serde_json::{Value, json};
use std::fmt::Write;

/// Returns the commands that are offered here: all except those about the line to the monitor
/// itself.
pub fn specs() -> impl Iterator<Item = &'static Spec> {
    SPECS.iter().filter(|spec| instead(spec.verb).is_none())
}

/// Returns why a command is not for users of this end, and what replaces it.
pub const fn instead(verb: Verb) -> Option<&'static str> {
    match verb {
        Verb::Echo => Some("this is a terminal already"),
        // Its answer is events, which do not belong to one client.
        Verb::Stats => Some("the same figures are in `tee stats`, with --json for programs"),
        _ => None,
    }
}

/// Returns the summary of a command in one line.
const fn summary(verb: Verb) -> &'static str {
    match verb {
        Verb::List => "the virtual machines and their states",
        Verb::Info => "the state and counters of one virtual machine",
        Verb::Lifecycle(LifecycleRequest::Start) => "start one that is off",
        Verb::Lifecycle(LifecycleRequest::Stop) => {
            "press its power button, so that the guest shuts down"
        }
        Verb::Lifecycle(LifecycleRequest::Reset) => "end it at once and restart it",
        Verb::Lifecycle(LifecycleRequest::Kill) => "end it at once",
        Verb::Lifecycle(LifecycleRequest::Pause) => "stop its vCPUs",
        Verb::Lifecycle(LifecycleRequest::Resume) => "let its vCPUs run again",
        Verb::VmMemory => "set its RAM from the next start on",
        Verb::TeeStats => "the calls to OP-TEE, and what it holds",
        Verb::Cpu => "what each physical CPU runs",
        Verb::Memory => "the use of the machine's RAM",
        Verb::Log => "the last N log lines and events, 20 by default",
        Verb::Help => "the commands, or the details of one",
        Verb::Echo => "turn the echo of the line, and its prompt, on or off",
        Verb::Stats => "one `stats` event per VM, for programs",
    }
}

/// Returns further details of a command, if there are any.
const fn more(verb: Verb) -> &'static str {
    match verb {
        Verb::Lifecycle(LifecycleRequest::Stop) => {
            "A guest may ignore it; `vm kill` does not ask the guest."
        }
        Verb::Lifecycle(LifecycleRequest::Kill) => "Postern closes what it has open in the TEE.",
        Verb::VmMemory => "SIZE is a multiple of 2 MiB, such as 512M or 1G.",
        Verb::Cpu => {
            "IDLE NOW is the share of the last second or two. LONGEST MASKED is the longest time that EL2 took no\n\
             interrupts, and what it did then."
        }
        _ => "",
    }
}

/// Returns the help for the commands that begin with these words, as whole lines.
///
/// # Errors
/// Fails when no command begins with them.
pub fn help(words: &[&str]) -> Result<String, String> {
    let usage = |spec: &Spec| format!("{}{}", spec.path, spec.arguments.text());
    let found = found(words)?;
    let width = found.iter().map(|spec| usage(spec).len()).max();
    let mut text = String::new();
    for spec in &found {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:2$}  {}",
            usage(spec),
            summary(spec.verb),
            width.unwrap_or(0)
        );
        if found.len() == 1 && !more(spec.verb).is_empty() {
            let _ = writeln!(text, "{}", more(spec.verb));
        }
    }
    if words.is_empty() {
        text += "With --json the answer is one line of JSON.\n";
    }
    Ok(text)
}

/// Returns the same help as one line of JSON.
///
/// # Errors
/// Fails when no command begins with these words.
pub fn json(words: &[&str]) -> Result<Value, String> {
    let commands = found(words)?.into_iter().map(|spec| {
        json!({
            "command": spec.path,
            "arguments": spec.arguments.text().trim_start(),
            "summary": summary(spec.verb),
        })
    });
    let commands: Vec<Value> = commands.collect();
    Ok(json!({"event": "answer", "command": "help", "ok": true, "commands": commands}))
}

fn found(words: &[&str]) -> Result<Vec<&'static Spec>, String> {
    let found: Vec<&Spec> = specs().filter(|spec| spec.begins_with(words)).collect();
    if found.is_empty() {
        let words = words.join(" ");
        return Err(format!(
            "no command begins with `{words}`; `help` lists the commands"
        ));
    }
    Ok(found)
}

/// Explains why a line is no command, and what to write instead.
pub fn explain(error: &CommandError<'_>) -> String {
    match *error {
        CommandError::Nothing => "no command: try help".into(),
        CommandError::Unknown(first, None) if next(first).is_empty() => {
            format!("unknown command `{first}`: try help")
        }
        CommandError::Unknown(first, Some(_)) if next(first).is_empty() => {
            format!("unknown command `{first}`: try help")
        }
        CommandError::Unknown(first, None) => {
            format!("`{first}` is followed by {}", next(first).join(", "))
        }
        CommandError::Unknown(first, Some(second)) => format!(
            "`{first}` is followed by {}, not by `{second}`",
            next(first).join(", ")
        ),
        CommandError::Missing(spec) => {
            let (path, arguments) = (spec.path, spec.arguments.text());
            let needs = match spec.arguments {
                Arguments::VmAndSize => "the name of a virtual machine and a size",
                Arguments::OnOff => "on or off",
                _ => "the name of a virtual machine",
            };
            format!("`{path}` needs {needs}: write `{path}{arguments}`")
        }
        CommandError::TooMany(spec, word) => format!(
            "`{word}` is one word too many: write `{}{}`",
            spec.path,
            spec.arguments.text()
        ),
        CommandError::Wrong(spec, word) => match spec.arguments {
            Arguments::VmAndSize => {
                format!("`{word}` is no size: write a multiple of 2 MiB, such as 512M or 1G")
            }
            Arguments::OnOff => {
                format!("`{}` is followed by on or off, not by `{word}`", spec.path)
            }
            _ => format!("`{word}` is no number of lines: write a number of 1 or more"),
        },
        CommandError::Option(word) => format!("unknown option `{word}`: the only option is --json"),
        CommandError::Tag => "a tag is # and 1 to 16 of A-Z a-z 0-9 _ -, then a blank".into(),
    }
}

/// Returns the words that may follow a first one.
fn next(first: &str) -> Vec<&'static str> {
    let specs = SPECS.iter().filter(|spec| spec.begins_with(&[first]));
    specs
        .filter_map(|spec| spec.path.split(' ').nth(1))
        .collect()
}

/// Returns whether it is the command that [`help`] answers.
pub fn is_help(spec: &Spec) -> bool {
    spec.verb == Verb::Help
}
