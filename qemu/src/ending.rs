// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How a machine ended, from what hypervisor and QEMU said, in the words of a user of this tool.

use crate::launch::{Qemu, Wiring};
use postern_ctl::told::{HypervisorEvent, Told, is_panic};
use std::path::Path;
use std::time::Duration;

/// How long QEMU may take to end once it has closed the UART.
const LAST: Duration = Duration::from_secs(5);
/// Lines of QEMU's that are shown.
const TAIL: usize = 10;

/// What the hypervisor said that tells how its machine ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    up: bool,
    all_off: bool,
    death: Option<String>,
    /// The last line of the log about an error.
    error: Option<String>,
    /// VMs that the hypervisor stopped because of an error, and what the log said before.
    stopped: Vec<(String, Option<String>)>,
}

impl Ending {
    /// Hears a line of the hypervisor's or the firmware's; gives what somebody at a guest's console should know.
    pub fn hear(&mut self, line: &str) -> Option<String> {
        if is_panic(line) {
            self.death
                .get_or_insert_with(|| format!("the hypervisor died: {line}"));
        }
        if let Some((_, text)) = line.split_once("] error: ") {
            self.error = Some(text.trim_end().to_owned());
        }
        match Told::find(line) {
            Some(Ok(Told::Event(HypervisorEvent::Up { .. }))) => self.up = true,
            Some(Ok(Told::Event(HypervisorEvent::AllOff))) => self.all_off = true,
            Some(Ok(Told::Event(HypervisorEvent::BootError { text }))) => {
                self.death.get_or_insert_with(|| boot_failed(&text));
            }
            Some(Ok(Told::Event(HypervisorEvent::VmOff { vm, reason }))) if reason == "error" => {
                let about = self.error.take().filter(|text| text.contains(&vm));
                let notice = stopped(&vm, about.as_deref());
                self.stopped.push((vm, about));
                return Some(notice);
            }
            _ => {}
        }
        None
    }

    /// Why a machine that has ended did not end well; `None` where it did.
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
                "the machine ended before Postern was up{}; firmware.log and optee.log have what came before",
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

/// A boot error of the hypervisor's, which speaks to whoever writes a boot tree, in the words of whoever writes a
/// description.
#[must_use]
pub fn boot_failed(text: &str) -> String {
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

/// What QEMU said on its standard error, to stand behind a sentence; empty when it said nothing.
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
    fn boot_errors_name_the_keys_of_the_description() {
        let kernel = boot_failed(
            "vm `a`: no arm64 Image at 0x48000000..0x48000010, where its multiboot,kernel module is said to be: \
             have the boot loader place the kernel's raw Image there",
        );
        assert!(
            kernel.contains("vm `a`: its kernel is no arm64 Image")
                && kernel.contains("`kernel =`")
        );
        assert!(!kernel.contains("boot loader"), "{kernel}");
        let memory = boot_failed(
            "VMs ask for 9 MiB: lower their `memory`, give one manual-start, or give the machine more",
        );
        assert!(
            memory.contains("autostart = false, or raise machine.memory_mib"),
            "{memory}"
        );
        let room = boot_failed(
            "vm `c` has tee = \"required\" and cannot have it: raise CFG_VIRT_GUEST_COUNT",
        );
        assert!(room.contains("machine.optee_guests"), "{room}");
        assert_eq!(boot_failed("no GICv3"), "the boot failed: no GICv3");
    }

    #[test]
    fn a_guest_that_is_stopped_is_worth_a_notice_and_others_are_not() {
        let mut ending = Ending::default();
        for line in [
            "[    1.0] error: vm a: its memory is too small",
            r#"@postern {"event":"vm-off","vm":"b","reason":"off"}"#,
            r#"@postern {"event":"all-off"}"#,
        ] {
            assert_eq!(ending.hear(line), None, "{line}");
        }
        assert_eq!(
            ending.hear(r#"@postern {"event":"vm-off","vm":"a","reason":"error"}"#),
            Some("the hypervisor stopped vm a: vm a: its memory is too small".into())
        );
    }

    #[test]
    fn only_the_end_of_what_qemu_said_is_shown() {
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
