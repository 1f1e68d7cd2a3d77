// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cases of a run of xtest in which some fail, as they should.

use crate::WORK;
use anyhow::{Context, Result, ensure};
use guest_agent::event::{CaseState, Event};
use postern_qemu::console::Channel;
use postern_qemu::session::Session;

/// The cases of one run of xtest: name, whether it passed, its output if it did not.
pub type Cases = Vec<(String, bool, String)>;

/// Waits for the end of a run of xtest, and returns its cases.
///
/// # Errors
///
/// Fails when the run does not end.
pub fn end(session: &mut Session, guest: Channel) -> Result<Cases> {
    let mut cases = Cases::new();
    session
        .expect(guest, WORK)
        .event("the end of xtest", |event| match event {
            Event::Case { name, state, .. } if *state != CaseState::Start => {
                cases.push((name.clone(), *state == CaseState::Ok, String::new()));
                None
            }
            Event::Log { line } => {
                if let Some((.., log)) = cases.last_mut() {
                    *log += line;
                    log.push('\n');
                }
                None
            }
            Event::XtestEnd(_) => Some(()),
            _ => None,
        })?;
    Ok(cases)
}

/// Checks that a case passed, or failed with that error in its output.
///
/// # Errors
///
/// Fails when it did neither.
pub fn check(cases: &Cases, name: &str, error: Option<&str>) -> Result<()> {
    let case = cases.iter().find(|(found, ..)| found == name);
    let (_, passed, log) = case.with_context(|| format!("{name} did not run: {cases:?}"))?;
    match error {
        None => ensure!(passed, "{name} failed: {log}"),
        Some(error) => ensure!(
            !passed && log.contains(error),
            "{name} did not fail with {error} ({passed}): {log}"
        ),
    }
    Ok(())
}
