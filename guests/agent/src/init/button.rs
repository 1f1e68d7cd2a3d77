// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The power button: pressing it powers the guest off, as `poweroff` does.

use crate::{console, sys};
use guest_agent::input::{Input, RECORD};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// The folder of the kernel's evdev devices.
const INPUTS: &str = "/dev/input";

/// Watches all input devices, each on a thread of its own. A guest without any has no button.
pub fn watch() {
    for path in devices() {
        match File::open(&path) {
            Ok(device) => {
                std::thread::spawn(move || follow(device));
            }
            Err(why) => console::error(format_args!("{}: {why}", path.display())),
        }
    }
}

fn devices() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(INPUTS) else {
        return Vec::new();
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let is_event = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("event"))
    };
    paths.filter(is_event).collect()
}

fn follow(mut device: File) {
    let mut record = [0; RECORD];
    // The driver delivers whole records. The thread of a device that is removed ends.
    while device.read_exact(&mut record).is_ok() {
        if Input::of(&record).presses_power() {
            super::end(sys::End::Off);
        }
    }
}
