// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tells how a machine ended, from the output of hypervisor and QEMU, in the words of this tool's
//! users.

use crate::launch::{Qemu, Wiring};
use postern_ctl::messages::{HypervisorEvent, MonitorMessage, is_panic};
use std::path::Path;
use std::time::Duration;

/// The most time that QEMU may take to end once it has closed the UART.
const LAST: Duration = Duration::from_secs(5);
/// The number of QEMU's last lines that are shown.
const TAIL: usize = 10;

/// The hypervisor's output that tells how its machine ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    up: bool,
    all_off: bool,
    death: Option<String>,
    /// The last line of the log that reports an error.
    error: Option<String>,
    /// The VMs that the hypervisor stopped because of an error, each with the log's line before
    /// that.
    stopped: Vec<(String, Option<String>)>,
}

impl Ending {
    /// Takes a line of the hypervisor or the firmware; returns a notice for the user at a guest's
    /// console, if it deserves one.
    pub fn take_line(&mut self, line: &str) -> Option<String> {
        if is_panic(line) {
            self.death
                .get_or_insert_with(|| format!("the hypervisor panicked: {line}"));
        }
        if let Some((_, text)) = line.split_once("] error: ") {
            self.error = Some(text.trim_end().to_owned());
        }
        match MonitorMessage::find(line) {
            Some(Ok(MonitorMessage::Event(HypervisorEvent::Up { .. }))) => self.up = true,
            Some(Ok(MonitorMessage::Event(HypervisorEvent::AllOff))) => self.all_off = true,
            Some(Ok(MonitorMessage::Event(HypervisorEvent::BootError { text }))) => {
                self.death.get_or_insert_with(|| explain_boot_error(&text));
            }
            Some(Ok(MonitorMessage::Event(HypervisorEvent::VmOff { vm, reason })))
                if reason == "error" =>
            {
                let about = self.error.take().filter(|text| text.contains(&vm));
                let notice = stopped(&vm, about.as_deref());
                self.stopped.push((vm, about));
                return Some(notice);
            }
            _ => {}
        }
        None
    }

    /// Returns why a machine that has ended did not end well; `None` where it did.
    pub fn why(&self, qemu: &mut Qemu, folder: &Path, wiring: Wiring) -> Option<String> {
        let status = qemu.wait(LAST).ok().flatten();
        if let Some(death) = &self.death {
            return Some(death.clone());
        }
        if let Some(status) = status.filter(|status| !status.success()) {
            return Some(format!("QEMU ended with {status}{}", said(folder)));
        }
        if wiring == Wiring::Plain {
            return None;
        }
        if !self.up {
            return Some(format!(
                "the machine ended before Postern was up{}; firmware.log and optee.log have the earlier output",
                said(folder)
            ));
        }
        if let Some((vm, about)) = self.stopped.last() {
            return Some(stopped(vm, about.as_deref()));
        }
        (!self.all_off).then(|| {
            format!(
                "the machine ended while guests were running{}",
                said(folder)
            )
        })
    }
}

fn stopped(vm: &str, about: Option<&str>) -> String {
    let about = about.map_or_else(String::new, |text| format!(": {text}"));
    format!("the hypervisor stopped vm {vm}{about}")
}

/// Translates a boot error of the hypervisor, which speaks of boot trees, into the words of a
/// description.
#[must_use]
pub fn explain_boot_error(text: &str) -> String {
    let kernel = text.contains("multiboot,kernel");
    let text = text
        .replace("give one manual-start", "give one autostart = false")
        .replace(
            "or give the machine more",
            "or raise machine.memory_mib, in the system's description",
        );
    if kernel {
        let vm = text.split(':').next().unwrap_or_default();
        return format!(
            "the boot failed: {vm}: its kernel is no arm64 Image: correct its `kernel =` in the system's description"
        );
    }
    if text.contains("CFG_VIRT_GUEST_COUNT") {
        return format!(
            "the boot failed: {text}; in the system's description that is machine.optee_guests; \
             or set tee = \"optional\" or \"none\" for some VMs"
        );
    }
    format!("the boot failed: {text}")
}

/// Returns QEMU's standard error as the end of a sentence; empty when QEMU printed nothing.
#[must_use]
pub fn said(folder: &Path) -> String {
    let said = std::fs::read_to_string(folder.join("qemu.log")).unwrap_or_default();
    let lines: Vec<&str> = said.trim().lines().collect();
    match &lines[lines.len().saturating_sub(TAIL)..] {
        [] => String::new(),
        lines => format!("; it said: {}", lines.join("\n  ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_errors_name_description_keys() {
        let kernel = explain_boot_error(
            "vm `a`: no arm64 Image at 0x48000000..0x48000010, where its multiboot,kernel module is said to be: \
             have the boot loader place the kernel's raw Image there",
        );
        assert!(
            kernel.contains("vm `a`: its kernel is no arm64 Image")
                && kernel.contains("`kernel =`")
        );
        assert!(!kernel.contains("boot loader"), "{kernel}");
        let memory = explain_boot_error(
            "VMs ask for 9 MiB: lower their `memory`, give one manual-start, or give the machine more",
        );
        assert!(
            memory.contains("autostart = false, or raise machine.memory_mib"),
            "{memory}"
        );
        let room = explain_boot_error(
            "vm `c` has tee = \"required\" and cannot have it: raise CFG_VIRT_GUEST_COUNT",
        );
        assert!(room.contains("machine.optee_guests"), "{room}");
        assert_eq!(explain_boot_error("no GICv3"), "the boot failed: no GICv3");
    }

    #[test]
    fn only_stopped_guest_gives_notice() {
        let mut ending = Ending::default();
        for line in [
            "[    1.0] error: vm a: its memory is too small",
            r#"@postern {"event":"vm-off","vm":"b","reason":"off"}"#,
            r#"@postern {"event":"all-off"}"#,
        ] {
            assert_eq!(ending.take_line(line), None, "{line}");
        }
        assert_eq!(
            ending.take_line(r#"@postern {"event":"vm-off","vm":"a","reason":"error"}"#),
            Some("the hypervisor stopped vm a: vm a: its memory is too small".into())
        );
    }

    #[test]
    fn qemu_output_is_shown_from_its_end() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(said(folder.path()), "");
        let lines: String = (0..30).map(|line| format!("line {line}\n")).collect();
        std::fs::write(folder.path().join("qemu.log"), lines).expect("written");
        let said = said(folder.path());
        assert!(
            said.starts_with("; it said: line 20\n") && said.ends_with("line 29"),
            "{said}"
        );
    }
}
