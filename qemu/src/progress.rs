// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reports progress of long steps: on a terminal one line that is rewritten, otherwise a line every
//! ten seconds. A step that ends within two seconds prints nothing.

use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The shortest step that prints a line.
const QUIET: Duration = Duration::from_secs(2);
/// The time between two lines of a step when the output is no terminal.
const SLOW: Duration = Duration::from_secs(10);
/// The time between two redraws on a terminal.
const FAST: Duration = Duration::from_millis(250);
/// The number of a failed program's last lines that its error shows.
const TAIL: usize = 15;
/// The most characters of a progress line.
const WIDEST: usize = 160;

/// The output on which steps are announced.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Silent,
    Lines,
    Terminal,
}

impl Progress {
    /// Reports on standard error, whether or not it is a terminal.
    #[must_use]
    pub fn on_stderr() -> Self {
        let how = if std::io::stderr().is_terminal() {
            How::Terminal
        } else {
            How::Lines
        };
        Self { how }
    }

    /// Reports nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self { how: How::Silent }
    }

    /// Begins a step; `what` is a phrase such as "Building TF-A". The step ends when the value is
    /// dropped (silently) or with [`Step::done`].
    #[must_use]
    pub fn step(&self, what: &str) -> Step {
        let shared = Arc::new(Shared {
            what: what.to_owned(),
            how: self.how,
            began: Instant::now(),
            state: Mutex::default(),
            ended: Condvar::new(),
        });
        let ticker = (self.how != How::Silent).then(|| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.tick())
        });
        Step { shared, ticker }
    }
}

/// A step in progress.
#[derive(Debug)]
pub struct Step {
    shared: Arc<Shared>,
    ticker: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    what: String,
    how: How,
    began: Instant,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    detail: String,
    over: bool,
}

impl Step {
    /// Sets the step's detail, for example "3 of 12 packages".
    pub fn detail(&self, detail: impl Into<String>) {
        self.shared.lock().detail = detail.into();
    }

    /// Ends the step. A step that took long leaves one line.
    pub fn done(mut self) {
        self.stop();
        let took = self.shared.began.elapsed();
        if self.shared.how != How::Silent && took >= QUIET {
            eprintln!("  {}: done, {}", self.shared.what, seconds(took));
        }
    }

    /// Runs a program to its end. Its output goes to `log`, and its last line is the step's detail.
    ///
    /// # Errors
    /// Fails when the program is missing or fails, with the end of its output and the path of its
    /// log.
    pub fn run(&self, command: &mut Command, log: &Path) -> Result<()> {
        let (reader, writer) = std::io::pipe().context("no pipe")?;
        command
            .stdin(Stdio::null())
            .stdout(writer.try_clone().context("no pipe")?)
            .stderr(writer);
        let child = spawn(command)?;
        // The command holds the pipe's writing end; without this the reader would not see the end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.follow(&name_of(command), child, reader, log)
    }

    /// Runs a program as [`Step::run`] does, but returns its standard output; only standard error
    /// goes to `log`.
    ///
    /// # Errors
    /// Fails as [`Step::run`] does.
    pub fn run_for_output(&self, command: &mut Command, log: &Path) -> Result<Vec<u8>> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = spawn(command)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (mut stdout, stderr) = (stdout.context("no pipe")?, stderr.context("no pipe")?);
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || {
                let mut output = Vec::new();
                stdout.read_to_end(&mut output).map(|_| output)
            });
            self.follow(&name_of(command), child, stderr, log)?;
            match reading.join() {
                Ok(output) => output.context("its output cannot be read"),
                Err(_) => bail!("its output was lost"),
            }
        })
    }

    /// Copies a program's output to the log until it ends.
    fn follow(&self, name: &str, mut child: Child, from: impl Read, log: &Path) -> Result<()> {
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{} cannot be made", folder.display()))?;
        }
        let mut file =
            File::create(log).with_context(|| format!("{} cannot be written", log.display()))?;
        let mut tail = VecDeque::new();
        for line in BufReader::new(from).split(b'\n') {
            let line = line.with_context(|| format!("the output of {name} cannot be read"))?;
            let text = String::from_utf8_lossy(&line);
            writeln!(file, "{text}")
                .with_context(|| format!("{} cannot be written", log.display()))?;
            // A program that rewrites its line ends each state with a carriage return.
            let text = text.trim_end_matches('\r');
            let last = text.rsplit('\r').next().unwrap_or_default().to_owned();
            self.detail(last.as_str());
            tail.push_back(last);
            if tail.len() > TAIL {
                tail.pop_front();
            }
        }
        let status = child
            .wait()
            .with_context(|| format!("cannot wait for the end of {name}"))?;
        if !status.success() {
            let tail: Vec<String> = tail.into_iter().map(|line| format!("    {line}")).collect();
            bail!(
                "{name} failed ({status}). Its output is in {}; the end of it:\n{}",
                log.display(),
                tail.join("\n")
            );
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.shared.lock().over = true;
        self.shared.ended.notify_all();
        if let Some(ticker) = self.ticker.take() {
            // A ticker that panicked has nothing more to clean up.
            let _ = ticker.join();
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) {
        let mut drawn = false;
        let mut pause = QUIET;
        let mut state = self.lock();
        while !state.over {
            let (next, timeout) = self
                .ended
                .wait_timeout(state, pause)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
            if state.over || !timeout.timed_out() {
                continue;
            }
            let line = format!("  {}, {}", self.what, seconds(self.began.elapsed()));
            let detail = if state.detail.is_empty() {
                String::new()
            } else {
                format!(": {}", state.detail)
            };
            if self.how == How::Terminal {
                pause = FAST;
                drawn = true;
                // Line wrap is off meanwhile, so that a line that is too long is cut.
                eprint!(
                    "\r\x1b[K\x1b[?7l{}\x1b[?7h",
                    fit(&format!("{line}{detail}"))
                );
            } else {
                pause = SLOW;
                eprintln!("{}", fit(&format!("{line}{detail}")));
            }
        }
        if drawn {
            eprint!("\r\x1b[K");
        }
    }
}

fn name_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    name.to_string_lossy().into_owned()
}

fn spawn(command: &mut Command) -> Result<Child> {
    let name = name_of(command);
    command
        .spawn()
        .with_context(|| format!("{name} cannot be run; `make` installs what is missing"))
}

/// Formats a duration for a user.
#[must_use]
pub fn seconds(time: Duration) -> String {
    match time.as_secs() {
        short @ 0..=59 => format!("{short} s"),
        long => format!("{} min {:02} s", long / 60, long % 60),
    }
}

/// Returns at most `WIDEST` characters of a text, without control characters.
fn fit(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(WIDEST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_program_error_has_end_of_output() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("logs/it.log");
        let step = Progress::silent().step("Testing");
        let script = "for i in 1 2 3; do echo line $i; done; echo broken >&2; exit 3";
        let error = step
            .run(Command::new("sh").args(["-c", script]), &log)
            .unwrap_err()
            .to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("    line 3\n    broken"), "{error}");
        assert!(error.contains(&log.display().to_string()), "{error}");
        let all = std::fs::read_to_string(&log).unwrap();
        assert_eq!(all, "line 1\nline 2\nline 3\nbroken\n");
    }

    #[test]
    fn stdout_and_stderr_stay_separate() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let step = Progress::silent().step("Testing");
        let output = step
            .run_for_output(
                Command::new("sh").args(["-c", "echo out; echo err >&2"]),
                &log,
            )
            .unwrap();
        assert_eq!(output, b"out\n");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "err\n");
    }

    #[test]
    fn missing_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let step = Progress::silent().step("Testing");
        let error = step
            .run(
                &mut Command::new("no-such-program"),
                &folder.path().join("log"),
            )
            .unwrap_err()
            .to_string();
        assert!(error.contains("no-such-program cannot be run"), "{error}");
    }

    #[test]
    fn progress_lines_fit_without_control_characters() {
        assert_eq!(fit("ab\x1b[Kc\rd"), "ab[Kcd");
        assert_eq!(fit(&"x".repeat(500)).len(), WIDEST);
        assert_eq!(seconds(Duration::from_secs(61)), "1 min 01 s");
    }
}
