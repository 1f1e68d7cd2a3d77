// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses the hypervisor's messages for programs: lines of its log that start with `@postern `.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

pub use postern_monitor::MARK;

/// Returns whether a line of the hypervisor's log reports its panic, after which it stops.
pub fn is_panic(line: &str) -> bool {
    line.contains("postern: panic on CPU ")
}

/// An event of the hypervisor.
pub type HypervisorEvent = postern_monitor::Event<String>;

/// A message of the hypervisor for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonitorMessage {
    /// An event.
    Event(HypervisorEvent),
    /// The counters of one VM: a part of the answer to `stats`.
    Stats(Box<Stats>),
    /// The answer to a command with a tag or `--json`.
    Answer(Box<Answer>),
}

/// The answer to a command of the monitor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The tag that the command had, as `#TAG`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The command's words without its arguments.
    #[serde(default)]
    pub command: String,
    /// Whether the command was executed, or is being executed.
    pub ok: bool,
    /// Why it was not executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The command's results.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

/// The counters of one VM since the machine's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The VM's name.
    pub vm: String,
    /// Fast calls to the TEE.
    #[serde(default)]
    pub smc_fast: u64,
    /// Yielding calls to the TEE, without those that return from an RPC.
    #[serde(default)]
    pub smc_yielding: u64,
    /// RPCs of the TEE, by kind.
    #[serde(default)]
    pub rpc: BTreeMap<String, u64>,
    /// Entries to the TEE on the VM's behalf: calls, returns from RPCs, and resumptions after
    /// interrupts.
    #[serde(default)]
    pub smcs: u64,
    /// How many times an interrupt for the normal world suspended a call in the TEE. The VM notices
    /// only those after which other work waits for it.
    #[serde(default)]
    pub foreign_intr: u64,
    /// Guest pages that the TEE may access now.
    #[serde(default)]
    pub pages_pinned: u64,
    /// The largest number of pinned pages so far.
    #[serde(default)]
    pub pages_pinned_max: u64,
    /// Shared buffers now.
    #[serde(default)]
    pub buffers: u64,
    /// The largest number of shared buffers so far.
    #[serde(default)]
    pub buffers_max: u64,
    /// Requests that the mediator denied.
    #[serde(default)]
    pub denied: u64,
    /// Exits to EL2, by cause.
    #[serde(default)]
    pub exits: BTreeMap<String, u64>,
    /// Counters that this tool does not know.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

impl MonitorMessage {
    /// Finds the message in a line of the hypervisor's channel. Returns `None` when the line has no
    /// mark.
    ///
    /// # Errors
    ///
    /// Fails when there is a mark but nothing readable after it.
    pub fn find(line: &str) -> Option<Result<Self, serde_json::Error>> {
        let (_, json) = line.split_once(MARK)?;
        Some(Self::read(json.trim_end()))
    }

    fn read(json: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Kind<'a> {
            #[serde(borrow)]
            event: Cow<'a, str>,
        }
        let kind: Kind = serde_json::from_str(json)?;
        Ok(match &*kind.event {
            "stats" => Self::Stats(serde_json::from_str(json)?),
            "answer" => Self::Answer(serde_json::from_str(json)?),
            _ => Self::Event(serde_json::from_str(json)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypervisor_lines_parse() {
        let read = |line: &str| {
            MonitorMessage::find(line)
                .expect("a mark")
                .expect("an event")
        };
        let off = HypervisorEvent::VmOff {
            vm: "a".into(),
            reason: "reset".into(),
        };
        assert_eq!(
            read(r#"@postern {"event":"vm-off","vm":"a","reason":"reset"}"#),
            MonitorMessage::Event(off)
        );
        assert_eq!(
            read(r#"@postern {"event":"all-off"}"#),
            MonitorMessage::Event(HypervisorEvent::AllOff)
        );
        assert_eq!(
            read(r#"@postern {"event":"new","x":1}"#),
            MonitorMessage::Event(HypervisorEvent::Unknown)
        );
        let MonitorMessage::Answer(answer) = read(
            r#"@postern {"event":"answer","tag":"t1","command":"mem","ok":true,"free_kib":1024}"#,
        ) else {
            panic!("not an answer")
        };
        assert_eq!(answer.tag.as_deref(), Some("t1"));
        assert_eq!((answer.ok, &answer.error), (true, &None));
        assert_eq!(answer.more["free_kib"], 1024);
        let MonitorMessage::Stats(stats) = read(concat!(
            r#"@postern {"event":"stats","vm":"a","smc_fast":7,"smc_yielding":40000,"rpc":{"shm_alloc":3,"load_ta":1},"#,
            r#""foreign_intr":9,"pages_pinned":2,"pages_pinned_max":80,"buffers":1,"buffers_max":5,"denied":0,"#,
            r#""exits":{"smc":1,"wfx":2},"slices":12}"#
        )) else {
            panic!("not stats")
        };
        assert_eq!(
            (stats.smc_yielding, stats.rpc["load_ta"], stats.exits["wfx"]),
            (40_000, 1, 2)
        );
        assert_eq!(stats.more["slices"], 12);
        assert!(is_panic(
            "postern: panic on CPU 2: attempt to add with overflow"
        ));
        assert!(!is_panic("[    0.1] error: vm a: Kernel panic"));
        assert!(MonitorMessage::find("[    0.1] info: up").is_none());
        assert!(
            MonitorMessage::find("@postern {\"event\":\"st")
                .expect("a mark")
                .is_err()
        );
    }

    /// Each end reads what the other one writes.
    #[test]
    fn events_of_both_ends_match() {
        let text = |text: &str| text.to_owned();
        for event in [
            HypervisorEvent::Up {
                version: text("0.1.0"),
                cpus: 4,
            },
            HypervisorEvent::VmStarted {
                vm: text("a"),
                channel: 1,
                vcpus: 2,
                memory_kib: u64::MAX,
                tee: false,
            },
            HypervisorEvent::VmOff {
                vm: text("a"),
                reason: text("killed"),
            },
            HypervisorEvent::VmPaused { vm: text("a") },
            HypervisorEvent::VmResumed { vm: text("a") },
            HypervisorEvent::BootError {
                text: text("vm \"ä\u{7f}\n\\\": no kernel"),
            },
            HypervisorEvent::AllOff,
            HypervisorEvent::TeeStuck {
                cpu: 7,
                vm: text(""),
            },
            HypervisorEvent::TeeBack {
                cpu: 0,
                vm: text("b"),
            },
        ] {
            let mut line = text(MARK);
            event.write(&mut line);
            let read = MonitorMessage::find(&line)
                .expect("a mark")
                .expect("an event");
            assert_eq!(read, MonitorMessage::Event(event));
        }
    }
}
