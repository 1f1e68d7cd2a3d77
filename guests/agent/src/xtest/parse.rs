// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses xtest's output as it comes.
//!
//! Its test framework (`adbg`) prints these lines:
//!
//! ```text
//! * regression_1004 Test User Crypt TA        a case begins
//! o regression_1004.1 AES encrypt             a part of it begins (parts may have parts)
//!   regression_1004.1 OK                      a part ends: OK or FAILED
//!   regression_1004 OK                        the case ends
//! +---------------------------------
//! Result of testsuite regression:
//! regression_1004 OK                          or: FAILED first error at file.c:123
//! +---------------------------------
//! 35491 subtests of which 0 failed
//! 112 test cases of which 0 failed
//! 0 test cases were skipped                   those that the filter left out
//! ```

use guest_agent::event::{CaseState, Event, XtestEnd};
use std::collections::VecDeque;

/// The lines of a case's output that are kept for its failure.
const KEPT_LINES: usize = 200;
/// The lines outside any case that are kept: they tell why xtest found nothing to run.
const KEPT_OUTSIDE: usize = 20;
/// The most bytes of a kept line.
const LINE_LENGTH: usize = 400;

/// A case that has begun.
#[derive(Debug)]
struct Case {
    name: String,
    begin_ms: u64,
    subcases: u32,
    failed_subcases: u32,
    skips: bool,
    output: VecDeque<String>,
    dropped: usize,
}

/// The state of parsing one run's output.
#[derive(Debug, Default)]
pub struct Parser {
    current: Option<Case>,
    end: XtestEnd,
    /// Failures that only the closing table reports.
    first_errors: Vec<String>,
    /// The first lines outside any case.
    outside: Vec<String>,
}

impl Parser {
    /// Takes a line of output, without its newline, read at `now_ms`; returns its events.
    pub fn line(&mut self, line: &str, now_ms: u64) -> Vec<Event> {
        let line = line.trim_end();
        if let Some(name) = line
            .strip_prefix("* ")
            .and_then(|rest| rest.split_whitespace().next())
            && is_case_name(name)
        {
            let mut events = self.abandon(now_ms);
            events.push(Event::Case {
                name: name.to_owned(),
                state: CaseState::Start,
                ms: None,
                subcases: None,
                failed_subcases: None,
            });
            self.current = Some(Case {
                name: name.to_owned(),
                begin_ms: now_ms,
                subcases: 0,
                failed_subcases: 0,
                skips: false,
                output: VecDeque::new(),
                dropped: 0,
            });
            return events;
        }
        match self.current.take() {
            Some(mut case) => match case.line(line) {
                Some(failed) => self.finish(case, failed, now_ms),
                None => {
                    self.current = Some(case);
                    Vec::new()
                }
            },
            None => {
                self.table(line);
                if !line.is_empty() && self.outside.len() < KEPT_OUTSIDE {
                    self.outside.push(cut(line));
                }
                Vec::new()
            }
        }
    }

    /// Returns the events that close the run, after xtest has ended. A case that was still running
    /// has failed. When there was no case, xtest's output is the only explanation.
    pub fn finished(mut self, exit: i32, start_ms: u64, end_ms: u64) -> Vec<Event> {
        let mut events = self.abandon(end_ms);
        if self.end.cases == 0 {
            events.extend(self.outside.drain(..).map(|line| Event::Log { line }));
        } else {
            events.extend(self.first_errors.drain(..).map(|line| Event::Log { line }));
        }
        self.end.exit = exit;
        self.end.start_ms = start_ms;
        self.end.end_ms = end_ms;
        self.end.ms = end_ms.saturating_sub(start_ms);
        events.push(Event::XtestEnd(self.end));
        events
    }

    fn abandon(&mut self, now_ms: u64) -> Vec<Event> {
        self.current
            .take()
            .map_or_else(Vec::new, |case| self.finish(case, true, now_ms))
    }

    fn finish(&mut self, case: Case, failed: bool, now_ms: u64) -> Vec<Event> {
        self.end.cases += 1;
        let state = if failed {
            self.end.failed += 1;
            CaseState::Failed
        } else if case.skips && case.subcases == 0 {
            self.end.skipped += 1;
            CaseState::Skipped
        } else {
            CaseState::Ok
        };
        let mut events = vec![Event::Case {
            name: case.name,
            state,
            ms: Some(now_ms.saturating_sub(case.begin_ms)),
            subcases: Some(case.subcases),
            failed_subcases: Some(case.failed_subcases),
        }];
        if failed {
            if case.dropped > 0 {
                events.push(Event::Log {
                    line: format!("({} earlier lines dropped)", case.dropped),
                });
            }
            events.extend(case.output.into_iter().map(|line| Event::Log { line }));
        }
        events
    }

    /// Takes a line outside any case, as in the closing table.
    fn table(&mut self, line: &str) {
        if line.contains(" FAILED first error at ") {
            self.first_errors.push(cut(line));
            return;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [all, "subtest" | "subtests", "of", "which", failed, "failed"] => {
                if let (Ok(all), Ok(failed)) = (all.parse(), failed.parse()) {
                    self.end.subtests = all;
                    self.end.failed_subtests = failed;
                }
            }
            [all, "test", "case" | "cases", "of", "which", _, "failed"] => {
                self.end.table_cases = all.parse().ok();
            }
            _ => {}
        }
    }
}

impl Case {
    /// Takes a line inside the case; returns whether the case failed when the line ends it.
    fn line(&mut self, line: &str) -> Option<bool> {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let (true, [name, verdict @ ("OK" | "FAILED")]) = (line.starts_with("  "), &words[..]) {
            let failed = *verdict == "FAILED";
            if *name == self.name {
                return Some(failed);
            }
            if failed && self.is_part(name) {
                self.failed_subcases += 1;
            }
        } else if let ["o", name, ..] = words[..] {
            self.subcases += u32::from(self.is_part(name));
        } else {
            self.skips |= says_skipped(line);
        }
        if self.output.len() == KEPT_LINES {
            self.output.pop_front();
            self.dropped += 1;
        }
        self.output.push_back(cut(line));
        None
    }

    /// Returns whether `regression_1004.1` is part of `regression_1004`.
    fn is_part(&self, name: &str) -> bool {
        name.strip_prefix(self.name.as_str())
            .is_some_and(|rest| rest.starts_with('.'))
    }
}

/// Returns whether a name has the form `suite_number`, perhaps with a suffix:
/// `regression_4007_rsa`.
fn is_case_name(name: &str) -> bool {
    name.split_once('_').is_some_and(|(suite, number)| {
        !suite.is_empty() && number.starts_with(|first: char| first.is_ascii_digit())
    })
}

/// Returns whether a line says that a case finds nothing to test. (For parts xtest writes
/// "subcase".)
fn says_skipped(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["skip test", "skipping test", "test skipped"]
        .iter()
        .any(|words| line.contains(words))
}

/// Prepares a line for an event: of bounded length, without control characters except those of a
/// line.
fn cut(line: &str) -> String {
    let end = line.floor_char_boundary(LINE_LENGTH);
    line[..end].replace(|letter: char| letter.is_control(), " ")
}

#[cfg(test)]
mod tests;
