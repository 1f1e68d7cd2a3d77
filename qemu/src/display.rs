// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Shows the state of running guests: one line per guest, rewritten in place on a terminal,
//! otherwise printed every ten seconds.

use crate::guest::{Guest, Phase};
use crate::report::clock;
use guest_agent::event::CaseState;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// The time between two redraws on a terminal.
const FAST: Duration = Duration::from_millis(200);
/// The time between two reports elsewhere.
const SLOW: Duration = Duration::from_secs(10);

/// Where and how the state of the guests is shown.
#[derive(Debug)]
pub struct Display {
    terminal: bool,
    drawn: usize,
    last: Option<Instant>,
    width: usize,
}

impl Display {
    /// Shows on standard error, whether or not it is a terminal.
    pub fn on_stderr(guests: &[Guest]) -> Self {
        let width = guests
            .iter()
            .map(|guest| guest.name.len())
            .max()
            .unwrap_or(0)
            .max(4);
        Self {
            terminal: std::io::stderr().is_terminal(),
            drawn: 0,
            last: None,
            width,
        }
    }

    /// Prints a text once, above the guests' lines.
    pub fn say(&mut self, now: Duration, text: &str) {
        self.erase();
        eprintln!("  {} {text}", clock(millis(now)));
        self.last = None;
    }

    /// Shows the guests' state, if it is time to. `expected` is the number of cases that each guest
    /// will run.
    pub fn show(&mut self, now: Duration, guests: &[Guest], expected: Option<usize>) {
        let pause = if self.terminal { FAST } else { SLOW };
        if self.last.is_some_and(|last| last.elapsed() < pause) {
            return;
        }
        if !self.terminal && self.last.is_none() {
            // The text that was just printed is enough for now.
            self.last = Some(Instant::now());
            return;
        }
        self.last = Some(Instant::now());
        if self.terminal {
            let lines = guests
                .iter()
                .map(|guest| line(now, guest, expected, self.width));
            let lines: Vec<String> = lines.collect();
            let mut text = self.erasure();
            // Line wrap is off meanwhile, so that a line that is too long is cut.
            text += "\x1b[?7l";
            for line in &lines {
                text += line;
                text.push('\n');
            }
            text += "\x1b[?7h";
            self.drawn = lines.len();
            // When standard error is closed there is no reader.
            let _ = std::io::stderr().write_all(text.as_bytes());
        } else {
            for guest in guests.iter().filter(|guest| guest.phase != Phase::Off) {
                eprintln!("{}", line(now, guest, expected, self.width));
            }
        }
    }

    /// Removes the guests' lines.
    pub fn erase(&mut self) {
        if self.drawn > 0 {
            eprint!("{}", self.erasure());
            self.drawn = 0;
        }
    }

    fn erasure(&self) -> String {
        if self.drawn == 0 {
            String::new()
        } else {
            format!("\x1b[{}A\x1b[J", self.drawn)
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.erase();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Formats a guest's line: `  a     57/108 ok, 0 failed   1:23  regression_4009 (3 s)`.
fn line(now: Duration, guest: &Guest, expected: Option<usize>, width: usize) -> String {
    let name = &guest.name;
    let state = match (&guest.phase, guest.runs.first()) {
        _ if guest.death.is_some() => "its kernel crashed".to_owned(),
        (Phase::Off, _) => "off".to_owned(),
        (Phase::Booting, _) => format!("booting, {}", clock(millis(now))),
        (Phase::Ready, None) => "ready".to_owned(),
        (phase, Some(run)) => {
            let failed = run.count(CaseState::Failed);
            let of = expected.map_or_else(String::new, |all| format!("/{all}"));
            let ended = run.ended();
            let elapsed = clock(millis(run.end.unwrap_or(now).saturating_sub(run.start)));
            let doing = match (phase, guest.runs.last().and_then(|run| run.current())) {
                (Phase::Testing, Some(case)) => {
                    let seconds = now.saturating_sub(case.start).as_secs();
                    format!("{} ({seconds} s)", case.name)
                }
                (Phase::Testing, None) => "between two cases".into(),
                _ => "done".into(),
            };
            format!("{ended:>3}{of} cases, {failed} failed  {elapsed:>5}  {doing}")
        }
        (Phase::Testing, None) => "xtest".to_owned(),
    };
    format!("    {name:<width$}  {state}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::What;
    use guest_agent::event::Event;

    #[test]
    fn display_line_shows_guest_phase() {
        let mut guest = Guest::new("a");
        let mut at = 0;
        let mut play = |guest: &mut Guest, json: &str| {
            at += 5;
            let event: Event = serde_json::from_str(json).expect("an event");
            guest.take_item(Duration::from_secs(at), &What::Guest(event));
            line(Duration::from_secs(at + 3), guest, Some(108), 4)
        };
        let ready = r#"{"event":"ready","kernel":"6","cpus":2,"tee":true,"xtest":true,"ms":1}"#;
        let start = r#"{"event":"case","name":"regression_1013","state":"start"}"#;
        let table = [
            (ready, "    a     ready"),
            (
                r#"{"event":"xtest-start","suites":"regression"}"#,
                "  0/108 cases, 0 failed   0:03  between two cases",
            ),
            (
                start,
                "  0/108 cases, 0 failed   0:08  regression_1013 (3 s)",
            ),
            (
                &start.replace("start", "failed"),
                "  1/108 cases, 1 failed   0:13  between two cases",
            ),
            (
                r#"{"event":"xtest-end","cases":1,"failed":1,"skipped":0,"subtests":7,"failed_subtests":1,"table_cases":1,"ms":8,"exit":1,"start_ms":1,"end_ms":9}"#,
                "  1/108 cases, 1 failed   0:15  done",
            ),
            (r#"{"event":"bye"}"#, "    a     off"),
        ];
        assert_eq!(
            line(Duration::from_secs(61), &guest, None, 4),
            "    a     booting, 1:01"
        );
        for (json, expected) in table {
            let shown = play(&mut guest, json);
            assert!(
                shown.ends_with(expected),
                "{shown:?} does not end in {expected:?}"
            );
        }
    }
}
