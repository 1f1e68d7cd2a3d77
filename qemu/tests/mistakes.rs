// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tool as a process: what a user who made a mistake sees, and that nothing was fetched or built before.

use postern_qemu::folder::Claim;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A checkout with nothing in it but a description, for a tool that make calls.
struct Checkout(tempfile::TempDir);

impl Checkout {
    fn new(description: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["guests", "hypervisor"] {
            std::fs::create_dir(folder.path().join(name)).expect("made");
        }
        std::fs::write(folder.path().join("guests/two.toml"), description).expect("written");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn tool(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_postern-tool"))
            .args(words)
            .current_dir(self.path())
            .env("POSTERN_MAKE", "1")
            .env_remove("POSTERN_OPTEE_SRC")
            .stdin(Stdio::null())
            .output()
            .expect("started")
    }

    /// What the tool has against these words; it must fail without having touched anything.
    fn refusal(&self, words: &[&str]) -> String {
        let output = self.tool(words);
        assert!(!output.status.success(), "{words:?} went well");
        for made in [".cache", "out/images", "target"] {
            assert!(!self.path().join(made).exists(), "{words:?} made {made}");
        }
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn a_kernel_that_is_a_text_file() {
    let checkout = Checkout::new("[[vm]]\nname = \"a\"\nkernel = \"notes.txt\"\n");
    std::fs::write(checkout.path().join("guests/notes.txt"), "to do\n").expect("written");
    for command in ["prepare", "run", "run-native"] {
        let refusal = checkout.refusal(&[command]);
        says(
            &refusal,
            &[
                "guests/two.toml",
                "vm \"a\"",
                "kernel = ",
                "notes.txt",
                "a text file",
                "arch/arm64/boot/Image",
            ],
        );
    }
}

#[test]
fn more_vms_with_the_tee_than_there_is_room_for() {
    let vms: String = ["a", "b", "c"]
        .map(|name| format!("[[vm]]\nname = \"{name}\"\n"))
        .concat();
    let refusal = Checkout::new(&vms).refusal(&["prepare"]);
    says(
        &refusal,
        &[
            "3 VMs",
            "(a, b, c)",
            "room for 2",
            "machine.optee_guests = 3",
            "\"optional\"",
        ],
    );
    let built = format!("machine.optee_guests = 2\n{vms}");
    says(
        &Checkout::new(&built).refusal(&["prepare"]),
        &["raise machine.optee_guests to 3"],
    );
    let plain = format!("machine.optee_virtualised = false\n{vms}");
    says(
        &Checkout::new(&plain).refusal(&["prepare"]),
        &["serves 1", "drop optee_virtualised = false"],
    );
}

#[test]
fn a_shell_without_a_terminal() {
    let refusal = Checkout::new("[[vm]]\nname = \"a\"\n").refusal(&["shell"]);
    says(&refusal, &["`make shell` needs a terminal", "`make run`"]);
}

#[test]
fn a_folder_that_is_in_use() {
    let checkout = Checkout::new("[[vm]]\nname = \"a\"\n");
    let folder = checkout.path().join("out/run");
    let _first = Claim::take(&folder, "make run", "").expect("free");
    let refusal = checkout.refusal(&["run"]);
    let who = format!("in use by `make run` (process {}", std::process::id());
    says(&refusal, &[&who, "OUT=", "run-2"]);
}

#[test]
fn words_that_make_has_passed_on() {
    let checkout = Checkout::new("[[vm]]\nname = \"a\"\n");
    says(
        &checkout.refusal(&["run", "--guests=x"]),
        &["GUESTS=x: it must be a number from 1 to 8"],
    );
    says(
        &checkout.refusal(&["run", "--suite=bookworm"]),
        &["SUITE=bookworm", "trixie or sid"],
    );
    says(
        &checkout.refusal(&["run", "--config=guests/tow.toml"]),
        &["CONFIG=guests/tow.toml", "no such file", "two.toml"],
    );
    says(
        &checkout.refusal(&["ctl", "vm list"]),
        &["no system runs", "`make run`"],
    );
}
