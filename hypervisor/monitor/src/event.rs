// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Events: what happens to the machine and its VMs, reported as it happens.

use crate::write::Writer;
use core::fmt::{Display, Write};

/// The word in front of a line for programs.
pub const MARK: &str = "@postern ";

/// An event of the hypervisor, with texts of type `S`.
///
/// EL2 writes it with [`Event::write`]. The other end reads it with serde.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(tag = "event", rename_all = "kebab-case")
)]
pub enum Event<S> {
    /// All pCPUs run, and no guest runs yet.
    Up {
        /// The hypervisor's version.
        version: S,
        /// The number of pCPUs.
        cpus: u32,
    },
    /// The first vCPU of a VM is about to run.
    VmStarted {
        /// The VM's name.
        vm: S,
        /// The channel of its console.
        channel: u8,
        /// The number of its vCPUs.
        vcpus: u32,
        /// Its RAM in KiB.
        memory_kib: u64,
        /// Whether the VM exists in OP-TEE.
        tee: bool,
    },
    /// A VM has stopped. It may start again after a reset.
    VmOff {
        /// The VM's name.
        vm: S,
        /// `off`, `reset`, `watchdog`, `killed` or `error`.
        reason: S,
    },
    /// The vCPUs of a VM are paused, all of them outside the secure world.
    VmPaused {
        /// The VM's name.
        vm: S,
    },
    /// The vCPUs of a VM continue.
    VmResumed {
        /// The VM's name.
        vm: S,
    },
    /// No guest can be started; the machine powers off.
    BootError {
        /// What is wrong and what to do.
        text: S,
    },
    /// The last VM has stopped; the machine powers off.
    AllOff,
    /// A pCPU does not return from the secure world.
    TeeStuck {
        /// The pCPU's number.
        cpu: u32,
        /// The name of the VM that it runs; empty where it runs none.
        vm: S,
    },
    /// A pCPU has returned after [`Event::TeeStuck`].
    TeeBack {
        /// The pCPU's number.
        cpu: u32,
        /// The name of the VM that it runs; empty where it runs none.
        vm: S,
    },
    /// An event that is newer than the program that reads it.
    #[cfg(feature = "serde")]
    #[serde(other)]
    Unknown,
}

impl<S> Event<S> {
    /// Returns the event's name: the value of its JSON member `event`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Up { .. } => "up",
            Self::VmStarted { .. } => "vm-started",
            Self::VmOff { .. } => "vm-off",
            Self::VmPaused { .. } => "vm-paused",
            Self::VmResumed { .. } => "vm-resumed",
            Self::BootError { .. } => "boot-error",
            Self::AllOff => "all-off",
            Self::TeeStuck { .. } => "tee-stuck",
            Self::TeeBack { .. } => "tee-back",
            #[cfg(feature = "serde")]
            Self::Unknown => "unknown",
        }
    }
}

impl<S: Display> Event<S> {
    /// Writes the event as one JSON object.
    pub fn write(&self, out: &mut dyn Write) {
        let mut json = Writer::object(out);
        json.text("event", &self.name());
        match self {
            Self::Up { version, cpus } => {
                json.text("version", version);
                json.number("cpus", u64::from(*cpus));
            }
            Self::VmStarted {
                vm,
                channel,
                vcpus,
                memory_kib,
                tee,
            } => {
                json.text("vm", vm);
                json.number("channel", u64::from(*channel));
                json.number("vcpus", u64::from(*vcpus));
                json.number("memory_kib", *memory_kib);
                json.boolean("tee", *tee);
            }
            Self::VmOff { vm, reason } => {
                json.text("vm", vm);
                json.text("reason", reason);
            }
            Self::VmPaused { vm } | Self::VmResumed { vm } => json.text("vm", vm),
            Self::BootError { text } => json.text("text", text),
            Self::TeeStuck { cpu, vm } | Self::TeeBack { cpu, vm } => {
                json.number("cpu", u64::from(*cpu));
                json.text("vm", vm);
            }
            Self::AllOff => {}
            #[cfg(feature = "serde")]
            Self::Unknown => {}
        }
        json.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_documented_json() {
        for (event, expected) in [
            (
                Event::Up {
                    version: "0.1.0",
                    cpus: 4,
                },
                r#"{"event":"up","version":"0.1.0","cpus":4}"#,
            ),
            (
                Event::VmStarted {
                    vm: "a",
                    channel: 1,
                    vcpus: 2,
                    memory_kib: 262_144,
                    tee: true,
                },
                r#"{"event":"vm-started","vm":"a","channel":1,"vcpus":2,"memory_kib":262144,"tee":true}"#,
            ),
            (
                Event::VmOff {
                    vm: "a",
                    reason: "reset",
                },
                r#"{"event":"vm-off","vm":"a","reason":"reset"}"#,
            ),
            (
                Event::VmPaused { vm: "b" },
                r#"{"event":"vm-paused","vm":"b"}"#,
            ),
            (
                Event::VmResumed { vm: "b" },
                r#"{"event":"vm-resumed","vm":"b"}"#,
            ),
            (
                Event::BootError {
                    text: "no \"kernel\"\n",
                },
                r#"{"event":"boot-error","text":"no \"kernel\"\u000a"}"#,
            ),
            (Event::AllOff, r#"{"event":"all-off"}"#),
            (
                Event::TeeStuck { cpu: 3, vm: "" },
                r#"{"event":"tee-stuck","cpu":3,"vm":""}"#,
            ),
            (
                Event::TeeBack { cpu: 3, vm: "a" },
                r#"{"event":"tee-back","cpu":3,"vm":"a"}"#,
            ),
        ] {
            let mut text = String::new();
            event.write(&mut text);
            assert_eq!(text, expected);
        }
    }
}
