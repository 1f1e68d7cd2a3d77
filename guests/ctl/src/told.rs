// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the hypervisor says of itself: lines of its log that start with `@postern `.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

pub use postern_monitor::MARK;

/// Whether a line of the hypervisor's log is its last: it has found itself to be wrong.
pub fn is_panic(line: &str) -> bool {
    line.contains("postern: panic on CPU ")
}

/// An event of the hypervisor.
pub type HypervisorEvent = postern_monitor::Event<String>;

/// What the hypervisor tells programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Something that happens.
    Event(HypervisorEvent),
    /// What was done for one VM: a part of the answer to `stats`.
    Stats(Box<Stats>),
    /// The answer to a command with a tag or `--json`.
    Answer(Box<Answer>),
}

/// The answer to a command of the monitor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What stood before the command as `#TAG`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The command, without its arguments.
    #[serde(default)]
    pub command: String,
    /// Whether it was done, or is being done.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What was asked for.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

/// Counters of one VM, since the machine started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Its name.
    pub vm: String,
    /// Fast calls to the TEE.
    #[serde(default)]
    pub smc_fast: u64,
    /// Yielding calls to the TEE, without those that return from an RPC.
    #[serde(default)]
    pub smc_yielding: u64,
    /// RPCs that the TEE made, by kind.
    #[serde(default)]
    pub rpc: BTreeMap<String, u64>,
    /// Entries to the TEE on the VM's behalf: for calls, for returns from RPCs, and after interrupts.
    #[serde(default)]
    pub smcs: u64,
    /// Times that an interrupt for the normal world took a call out of the TEE. The VM hears of those
    /// only after which it has something else to do.
    #[serde(default)]
    pub foreign_intr: u64,
    /// Guest pages that the TEE may reach now.
    #[serde(default)]
    pub pages_pinned: u64,
    /// The most there were at once.
    #[serde(default)]
    pub pages_pinned_max: u64,
    /// Shared buffers now.
    #[serde(default)]
    pub buffers: u64,
    /// The most there were at once.
    #[serde(default)]
    pub buffers_max: u64,
    /// Requests that were refused.
    #[serde(default)]
    pub denied: u64,
    /// Exits to EL2, by cause.
    #[serde(default)]
    pub exits: BTreeMap<String, u64>,
    /// Counters that this tool does not know.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

impl Told {
    /// Finds the event in a line on the hypervisor channel. Returns `None` if the line has no mark.
    ///
    /// # Errors
    ///
    /// There is a mark and nothing that can be read behind it.
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
    fn the_hypervisor_s_lines_are_understood() {
        let read = |line: &str| Told::find(line).expect("a mark").expect("an event");
        let off = HypervisorEvent::VmOff {
            vm: "a".into(),
            reason: "reset".into(),
        };
        assert_eq!(
            read(r#"@postern {"event":"vm-off","vm":"a","reason":"reset"}"#),
            Told::Event(off)
        );
        assert_eq!(
            read(r#"@postern {"event":"all-off"}"#),
            Told::Event(HypervisorEvent::AllOff)
        );
        assert_eq!(
            read(r#"@postern {"event":"new","x":1}"#),
            Told::Event(HypervisorEvent::Unknown)
        );
        let Told::Answer(answer) = read(
            r#"@postern {"event":"answer","tag":"t1","command":"mem","ok":true,"free_kib":1024}"#,
        ) else {
            panic!("not an answer")
        };
        assert_eq!(answer.tag.as_deref(), Some("t1"));
        assert_eq!((answer.ok, &answer.error), (true, &None));
        assert_eq!(answer.more["free_kib"], 1024);
        let Told::Stats(stats) = read(concat!(
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
        assert!(Told::find("[    0.1] info: up").is_none());
        assert!(
            Told::find("@postern {\"event\":\"st")
                .expect("a mark")
                .is_err()
        );
    }

    /// What one end writes the other one reads.
    #[test]
    fn both_ends_speak_of_the_same_events() {
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
            let read = Told::find(&line).expect("a mark").expect("an event");
            assert_eq!(read, Told::Event(event));
        }
    }
}
