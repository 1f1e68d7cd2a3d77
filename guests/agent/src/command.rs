// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses the host's commands: one command per line, words separated by blanks.

use crate::latency::{Kind, Measurement, WARM_UP};
use guest_agent::transfer::MAX_BYTES;
use std::net::SocketAddrV4;

/// A command of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Run xtest with these arguments.
    Xtest(Vec<String>),
    /// Measure the round trip to the TEE.
    Latency(Measurement),
    /// Measure the disk with this number of bytes.
    Disk(u64),
    /// Measure the network to this address of the host with this number of bytes.
    Network(SocketAddrV4, u64),
    /// Be the far end of other guests' `network` commands, at this TCP port.
    Serve(u16),
    /// Report how often each device interrupted.
    Interrupts,
    /// Ask the hypervisor's monitor through the second UART.
    Monitor(String),
    /// Give the console to a shell until it exits.
    Shell,
    /// Power the guest off.
    PowerOff,
    /// Restart the guest.
    Reboot,
    /// Answer with the text.
    Ping(String),
    /// Make the kernel write the state of its tasks (`/proc/sysrq-trigger`) to the console.
    SysRq(char),
}

/// The most calls that one measurement may time.
pub const MAX_SAMPLES: u32 = 1_000_000;

/// The most MiB that one measurement may move.
const MAX_MIB: u64 = MAX_BYTES >> 20;

impl Command {
    /// Parses a line. A blank line gives `None`.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the line.
    pub fn parse(line: &str) -> Result<Option<Self>, String> {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let bare = |command| {
            if rest.is_empty() {
                Ok(Some(command))
            } else {
                Err(format!("`{word}` takes no argument"))
            }
        };
        match word {
            "" => Ok(None),
            "xtest" => Ok(Some(Self::Xtest(
                rest.split_whitespace().map(str::to_owned).collect(),
            ))),
            "latency" => latency(rest).map(Some),
            "disk" => mebibytes(rest)
                .map(|bytes| Some(Self::Disk(bytes)))
                .ok_or_else(|| format!("usage: disk MIB, 1 to {MAX_MIB}")),
            "network" => rest
                .split_once(char::is_whitespace)
                .and_then(|(host, mib)| {
                    let (host, bytes) = (host.parse().ok()?, mebibytes(mib.trim())?);
                    Some(Some(Self::Network(host, bytes)))
                })
                .ok_or_else(|| format!("usage: network ADDRESS:PORT MIB, 1 to {MAX_MIB}")),
            "serve" => rest
                .parse()
                .map(|port| Some(Self::Serve(port)))
                .map_err(|_| "usage: serve PORT".to_owned()),
            "interrupts" => bare(Self::Interrupts),
            "monitor" if rest.is_empty() => Err("usage: monitor LINE".into()),
            "monitor" => Ok(Some(Self::Monitor(rest.to_owned()))),
            "shell" => bare(Self::Shell),
            "poweroff" => bare(Self::PowerOff),
            "reboot" => bare(Self::Reboot),
            "ping" => Ok(Some(Self::Ping(rest.to_owned()))),
            "sysrq" => {
                let mut letters = rest.chars();
                match (letters.next(), letters.next()) {
                    (Some(letter), None) if letter.is_ascii_lowercase() => {
                        Ok(Some(Self::SysRq(letter)))
                    }
                    _ => Err("`sysrq` takes one letter".into()),
                }
            }
            other => Err(format!(
                "unknown command `{other}`; there are xtest, latency, disk, network, serve, interrupts, monitor, shell, poweroff, reboot, ping, sysrq"
            )),
        }
    }
}

fn mebibytes(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (1..=MAX_MIB).contains(&number).then_some(number << 20)
}

fn latency(rest: &str) -> Result<Command, String> {
    let usage = || "usage: latency LABEL SAMPLES [CALL [WARM-UP]]".to_owned();
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (label, samples, more) = match &words[..] {
        [label, samples, more @ ..] if more.len() <= 2 => (*label, samples, more),
        _ => return Err(usage()),
    };
    let samples: u32 = samples.parse().map_err(|_| usage())?;
    if samples == 0 || samples > MAX_SAMPLES {
        return Err(format!("`latency` times 1 to {MAX_SAMPLES} calls"));
    }
    let kind = more.first().map_or(Ok(Kind::default()), |name| {
        Kind::find(name).ok_or(format!("`latency` has no call `{name}`"))
    })?;
    let warm_up = more
        .get(1)
        .map_or(Ok(WARM_UP), |number| number.parse().map_err(|_| usage()))?;
    Ok(Command::Latency(Measurement {
        label: label.to_owned(),
        samples,
        kind,
        warm_up,
    }))
}

/// The agent's settings on the kernel command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// `postern.shell`: start a shell first.
    pub shell: bool,
    /// `postern.auto=CMD,CMD`: execute these command lines first.
    pub auto: Vec<String>,
    /// `postern.hostname=NAME`: the guest's host name.
    pub hostname: Option<String>,
}

impl Words {
    /// Extracts the agent's settings from the kernel command line. In `postern.auto` a `+` stands
    /// for a blank, which would end the word, and a comma separates commands.
    pub fn parse(command_line: &str) -> Self {
        let mut words = Self::default();
        for word in command_line.split_whitespace() {
            if word == "postern.shell" {
                words.shell = true;
            } else if let Some(commands) = word.strip_prefix("postern.auto=") {
                let commands = commands.split(',').filter(|command| !command.is_empty());
                words
                    .auto
                    .extend(commands.map(|command| command.replace('+', " ")));
            } else if let Some(name) = word.strip_prefix("postern.hostname=") {
                words.hostname = Some(name.to_owned());
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_parse_or_give_a_reason() {
        let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let good = [
            ("", None),
            ("  \r", None),
            ("xtest", Some(Command::Xtest(vec![]))),
            (
                "xtest -t regression  1001 -x 1006\r",
                Some(Command::Xtest(words(&[
                    "-t",
                    "regression",
                    "1001",
                    "-x",
                    "1006",
                ]))),
            ),
            (
                "latency idle 2000",
                Some(Command::Latency(Measurement {
                    label: "idle".into(),
                    samples: 2000,
                    kind: Kind::Values,
                    warm_up: WARM_UP,
                })),
            ),
            (
                "latency x 1 memref 0",
                Some(Command::Latency(Measurement {
                    label: "x".into(),
                    samples: 1,
                    kind: Kind::Memref,
                    warm_up: 0,
                })),
            ),
            ("disk 16", Some(Command::Disk(16 << 20))),
            (
                "network 10.0.2.2:4000  3",
                Some(Command::Network(
                    SocketAddrV4::new([10, 0, 2, 2].into(), 4000),
                    3 << 20,
                )),
            ),
            ("serve 4000", Some(Command::Serve(4000))),
            ("interrupts", Some(Command::Interrupts)),
            ("ping a  b", Some(Command::Ping("a  b".into()))),
            ("ping", Some(Command::Ping(String::new()))),
            (
                "monitor vm stop  b",
                Some(Command::Monitor("vm stop  b".into())),
            ),
            ("sysrq w", Some(Command::SysRq('w'))),
            (" poweroff ", Some(Command::PowerOff)),
        ];
        for (line, command) in good {
            assert_eq!(Command::parse(line), Ok(command), "{line:?}");
        }
        let bad = [
            ("latency idle", "usage"),
            ("latency idle 0", "times 1 to"),
            ("latency idle 1000001", "times 1 to"),
            ("latency idle -1", "usage"),
            ("latency a 1 b", "no call"),
            ("latency a 1 values x", "usage"),
            ("latency a 1 values 1 2", "usage"),
            ("disk", "usage"),
            ("disk 0", "usage"),
            ("disk 1025", "usage"),
            ("network 10.0.2.2 3", "usage"),
            ("network 10.0.2.2:1", "usage"),
            ("network 10.0.2.2:1 x", "usage"),
            ("serve", "usage"),
            ("serve 65536", "usage"),
            ("interrupts now", "no argument"),
            ("reboot now", "no argument"),
            ("monitor ", "usage"),
            ("sysrq", "one letter"),
            ("sysrq bb", "one letter"),
            ("xtestt", "unknown command `xtestt`"),
        ];
        for (line, reason) in bad {
            let error = Command::parse(line).expect_err(line);
            assert!(error.contains(reason), "{line:?}: {error}");
        }
    }

    #[test]
    fn kernel_command_line_gives_commands() {
        let words = Words::parse(
            "console=ttyAMA0 postern.auto=xtest+1001,,poweroff postern.shell postern.hostname=a quiet",
        );
        assert_eq!(words.auto, ["xtest 1001", "poweroff"]);
        assert!(words.shell);
        assert_eq!(words.hostname.as_deref(), Some("a"));
        assert_eq!(Words::parse("console=ttyAMA0"), Words::default());
    }
}
