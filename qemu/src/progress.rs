//! Says what is going on while something takes long: on a terminal one line that is rewritten, else a
//! line every ten seconds. What is done within two seconds says nothing.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is shorter than this is not worth a line.
const QUIET: Duration = Duration::from_secs(2);
/// Between two lines of a step when the output is no terminal.
const SLOW: Duration = Duration::from_secs(10);
/// Between two redraws on a terminal.
const FAST: Duration = Duration::from_millis(250);
/// Lines of a failed program's output that its error shows.
const TAIL: usize = 15;
/// Characters of a progress line at most.
const WIDEST: usize = 160;

/// Where steps are announced.
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
    /// On standard error, as it is: a terminal or not.
    #[must_use]
    pub fn on_stderr() -> Self {
        let how = if std::io::stderr().is_terminal() {
            How::Terminal
        } else {
            How::Lines
        };
        Self { how }
    }

    /// Nowhere.
    #[must_use]
    pub fn silent() -> Self {
        Self { how: How::Silent }
    }

    /// Begins a step; `what` is a phrase such as "Building TF-A". It ends when the value is dropped
    /// (without a word) or with [`Step::done`].
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

/// One step under way.
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
    /// Says where the step is, for example "3 of 12 packages".
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

    /// Runs a program to its end; its output goes to `log`, and its last line is the step's detail.
    ///
    /// # Errors
    /// When the program is not there or fails: the end of its output, and where all of it is.
    pub fn run(&self, command: &mut Command, log: &Path) -> Result<()> {
        let name = command.get_program().to_string_lossy().into_owned();
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{} cannot be made", folder.display()))?;
        }
        let mut file =
            File::create(log).with_context(|| format!("{} cannot be written", log.display()))?;
        let (reader, writer) = std::io::pipe().context("no pipe")?;
        command
            .stdin(Stdio::null())
            .stdout(writer.try_clone().context("no pipe")?)
            .stderr(writer);
        let mut child = command
            .spawn()
            .with_context(|| format!("{name} cannot be run; `make` installs what is missing"))?;
        // The command holds the pipe's writing end, which would keep the reader from its end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut tail = std::collections::VecDeque::new();
        for line in BufReader::new(reader).split(b'\n') {
            let line = line.with_context(|| format!("the output of {name} cannot be read"))?;
            writeln!(file, "{}", String::from_utf8_lossy(&line))
                .with_context(|| format!("{} cannot be written", log.display()))?;
            // A program that rewrites its line ends each state with a carriage return.
            let text = String::from_utf8_lossy(&line);
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
            .with_context(|| format!("{name} was lost sight of"))?;
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
                // Without line wrap for as long as it takes, a line that is too long is cut.
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

/// A duration as people say it.
#[must_use]
pub fn seconds(time: Duration) -> String {
    match time.as_secs() {
        short @ 0..=59 => format!("{short} s"),
        long => format!("{} min {:02} s", long / 60, long % 60),
    }
}

/// At most `WIDEST` characters, none of them a control character.
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
    fn a_failed_program_is_told_with_the_end_of_its_output() {
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
    fn a_missing_program_is_named() {
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
    fn lines_fit_and_carry_no_control_characters() {
        assert_eq!(fit("ab\x1b[Kc\rd"), "ab[Kcd");
        assert_eq!(fit(&"x".repeat(500)).len(), WIDEST);
        assert_eq!(seconds(Duration::from_secs(61)), "1 min 01 s");
    }
}
