// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two Debian guests use OP-TEE's PKCS#11 tokens with `pkcs11-tool`. Their tokens have the same label and nothing else in
//! common, and a key survives the reset of its guest, because the storage of the token is on the guest's disk. What
//! docs/devices.md says of the limits is checked, too.

use anyhow::{Result, ensure};
use postern_qemu::console::Channel;
use postern_qemu::session::Session;
use postern_tests::guest_shell::{shell, shell_says};
use postern_tests::{BOOT, Lab, power_off, stats, stopped};
use serde_json::Value;
use std::time::Duration;

/// The most time for the commands of a step: each loads the application anew.
const WORK: Duration = Duration::from_secs(180);
/// OpenSC's tool with OP-TEE's library, as a function of the shell.
const TOOL: &str = "p() { pkcs11-tool --module /usr/lib/aarch64-linux-gnu/libckteec.so.0 \"$@\"; }";
/// Where the supplicant keeps OP-TEE's storage.
const FILES: &str = "/var/lib/optee-client/data/tee";
/// The token's administrator, in both guests.
const SO: &str = "administrator";

/// A guest with its token.
struct User {
    guest: Channel,
    /// The token's PIN.
    pin: &'static str,
}

impl User {
    /// Runs commands, in which `p` is the tool.
    fn run(&self, session: &mut Session, commands: &str) -> Result<()> {
        shell(session, self.guest, WORK, &format!("{TOOL}; {commands}"))
    }

    /// Initialises the token.
    fn init(&self, session: &mut Session) -> Result<()> {
        let pin = self.pin;
        self.run(
            session,
            &format!("p --init-token --slot-index 0 --label token --so-pin {SO}"),
        )?;
        self.run(
            session,
            &format!(
                "p --token-label token --login --login-type so --so-pin {SO} --init-pin --pin {pin}"
            ),
        )
    }

    /// Checks that the token has no private key.
    fn has_no_key(&self, session: &mut Session) -> Result<()> {
        let list = format!("p --login --pin {} --list-objects --type privkey", self.pin);
        self.run(session, &format!("{list} > /list && ! grep . /list"))
    }

    /// Makes a key.
    fn make_key(&self, session: &mut Session, id: &str) -> Result<()> {
        let pin = self.pin;
        self.run(
            session,
            &format!(
                "p --login --pin {pin} --keypairgen --key-type EC:prime256v1 --id {id} --label key"
            ),
        )
    }

    /// Signs with the first key.
    fn sign(&self, session: &mut Session) -> Result<()> {
        let sign = format!(
            "p --login --pin {} --sign --mechanism ECDSA-SHA256 --id 01",
            self.pin
        );
        self.run(
            session,
            &format!("echo contract > /text; {sign} -i /text -o /signature && sync"),
        )
    }

    /// Checks the signature, and that it is none of another text.
    fn verify(&self, session: &mut Session) -> Result<()> {
        let verify = format!(
            "p --login --pin {} --verify --mechanism ECDSA-SHA256 --id 01 --signature-file /signature -i",
            self.pin
        );
        self.run(
            session,
            &format!("{verify} /text | grep 'Signature is valid'"),
        )?;
        self.run(
            session,
            &format!("echo other > /tmp/text; {verify} /tmp/text 2>&1 | grep 'Invalid signature'"),
        )
    }

    /// Checks what this guest can do because it serves the other's disk: its token is the other's once it has the files.
    fn has_token_of(&self, session: &mut Session, other: &Self) -> Result<()> {
        self.run(
            session,
            &format!("mkdir /other && mount -t ext4 -o ro /dev/vda2 /other && rm -r {FILES} && cp -a /other{FILES} {FILES} && sync"),
        )?;
        // The application stays in OP-TEE as long as the VM runs, with what it has read.
        self.reset(session)?;
        let pin = other.pin;
        self.run(
            session,
            &format!("p --login --pin {pin} --list-objects --type privkey | grep 'label: *key'"),
        )
    }

    /// Checks that a PIN is not this token's.
    fn refuses(&self, session: &mut Session, pin: &str) -> Result<()> {
        let list = format!("p --login --pin {pin} --list-objects");
        self.run(session, &format!("{list} 2>&1 | grep CKR_PIN_INCORRECT"))
    }

    /// Returns a digest of a public key.
    fn public_key(&self, session: &mut Session, id: &str) -> Result<String> {
        let read =
            format!("p --read-object --type pubkey --id {id} -o /tmp/key && md5sum < /tmp/key");
        shell_says(session, self.guest, WORK, &format!("{TOOL}; {read}"))
    }

    /// Resets the guest, without an end of its services.
    fn reset(&self, session: &mut Session) -> Result<()> {
        session.send(self.guest, "shell")?;
        session.expect(self.guest, WORK).line("A shell;")?;
        session.send(self.guest, "reboot -f")?;
        let name = session.name(self.guest);
        stopped(session, &name, "reset")?;
        session.expect(self.guest, BOOT).ready()
    }
}

#[test]
fn tokens_are_apart_and_keys_survive_a_reset() -> Result<()> {
    let lab = Lab::new("pkcs11-token")?;
    let mut started = lab.up("devices.toml")?;
    let session = &mut started;
    let io = User {
        guest: session.vm("io")?,
        pin: "pin-of-io",
    };
    let app = User {
        guest: session.vm("app")?,
        pin: "pin-of-app",
    };
    io.init(session)?;
    io.make_key(session, "01")?;
    app.init(session)?;
    app.has_no_key(session)?;
    app.make_key(session, "01")?;
    for user in [&io, &app] {
        user.sign(session)?;
    }
    let keys = (
        io.public_key(session, "01")?,
        app.public_key(session, "01")?,
    );
    ensure!(keys.0 != keys.1, "both guests have the key {}", keys.0);
    for user in [&io, &app] {
        user.verify(session)?;
        // Nothing is synced between this one and the reset but what the supplicant syncs.
        user.make_key(session, "02")?;
        let last = user.public_key(session, "02")?;
        user.reset(session)?;
        user.verify(session)?;
        let found = user.public_key(session, "02")?;
        ensure!(found == last, "the last key is {found}, not {last}");
    }
    let found = (
        io.public_key(session, "01")?,
        app.public_key(session, "01")?,
    );
    ensure!(found == keys, "the keys are {found:?}, not {keys:?}");
    for (user, other) in [(&io, &app), (&app, &io)] {
        user.refuses(session, other.pin)?;
    }
    // The disk of `app` is served by `io`.
    session.send(app.guest, "poweroff")?;
    stopped(session, "app", "off")?;
    io.has_token_of(session, &app)?;
    // OP-TEE keeps the application, and its address space number, at each end of a VM that has used it.
    for vm in ["io", "app"] {
        let stats = stats(session, vm)?;
        let kept = stats.more.get("kept").and_then(Value::as_u64);
        ensure!(
            kept == Some(2),
            "{vm}: {kept:?} applications are kept after two lives"
        );
    }
    power_off(started, &["io"])
}
