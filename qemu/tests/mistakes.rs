// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests the tool as a process: a user's mistake gives an error before anything is fetched or
//! built.

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

    /// Returns the tool's error for these words; the tool must fail without having changed
    /// anything.
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
fn text_file_as_kernel_is_an_error() {
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
fn native_run_on_a_board_without_one_is_an_error() {
    let checkout = Checkout::new("[[vm]]\nname = \"a\"\n");
    says(
        &checkout.refusal(&["run-native", "--board=zcu102"]),
        &[
            "make run-native: ",
            "zcu102 boots the hypervisor only",
            "virt-gicv2",
        ],
    );
    let own_cpu = Checkout::new("machine.cpu = \"max\"\n[[vm]]\nname = \"a\"\n");
    says(
        &own_cpu.refusal(&["prepare", "--board=zcu102"]),
        &["BOARD=zcu102: machine.cpu = \"max\"", "remove machine.cpu"],
    );
}

#[test]
fn too_many_tee_vms_are_an_error() {
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
fn ffa_that_vms_cannot_share_is_an_error() {
    let one_line = |checkout: &Checkout, words: &[&str], parts: &[&str]| {
        let refusal = checkout.refusal(words);
        says(&refusal, parts);
        assert_eq!(refusal.trim_end().lines().count(), 1, "{refusal}");
    };
    let bare = Checkout::new("machine.optee_virtualised = false\n[[vm]]\nname = \"a\"\n");
    let alone = [
        "two.toml: machine.optee_virtualised = false",
        "drop optee_virtualised",
    ];
    for command in ["run", "prepare"] {
        one_line(&bare, &[command, "--abi=ffa"], &alone);
    }
    let policy = Checkout::new(
        "machine.tee_abi = \"ffa\"\n[[vm]]\nname = \"a\"\ntee_policy.features = []\n",
    );
    let feature = ["vm \"a\": tee_policy.features", "add \"rpc-arg\""];
    one_line(&policy, &["run"], &feature);
    let many: String = ["a", "b", "c"]
        .map(|name| format!("[[vm]]\nname = \"{name}\"\n"))
        .concat();
    let room = ["is built for 2", "set machine.optee_guests = 3"];
    one_line(&Checkout::new(&many), &["run", "--abi=ffa"], &room);
}

#[test]
fn unknown_abi_or_board_without_it_is_an_error() {
    let checkout = Checkout::new("[[vm]]\nname = \"a\"\n");
    says(
        &checkout.refusal(&["run-native", "--abi=hvc"]),
        &["ABI=hvc: there is no ABI \"hvc\"; it is smc or ffa"],
    );
    says(
        &checkout.refusal(&["prepare", "--abi=ffa", "--board=virt-gicv2"]),
        &["ABI=ffa: ", "virt-gicv2 has no firmware for FF-A", "virt"],
    );
    let spelt = Checkout::new("machine.tee_abi = \"ff-a\"\n[[vm]]\nname = \"a\"\n");
    says(&spelt.refusal(&["prepare"]), &["tee_abi", "`smc` or `ffa`"]);
}

#[test]
fn shell_without_terminal_is_an_error() {
    let refusal = Checkout::new("[[vm]]\nname = \"a\"\n").refusal(&["shell"]);
    says(&refusal, &["`make shell` needs a terminal", "`make run`"]);
}

#[test]
fn folder_in_use_is_an_error() {
    let checkout = Checkout::new("[[vm]]\nname = \"a\"\n");
    let folder = checkout.path().join("out/run");
    let _first = Claim::take(&folder, "make run", "").expect("free");
    let refusal = checkout.refusal(&["run"]);
    let who = format!("in use by `make run` (process {}", std::process::id());
    says(&refusal, &[&who, "OUT=", "run-2"]);
}

#[test]
fn make_variables_are_named_in_errors() {
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
