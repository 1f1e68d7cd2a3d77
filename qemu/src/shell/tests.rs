// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use crate::fake_qemu;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Makes a QEMU that is a shell script, in this folder, with one guest.
fn machine(folder: &Path, script: &str) -> Machine {
    fake_qemu::machine(folder, script, &["a"])
}

/// Runs a shell script as QEMU for a user who types nothing; returns why the machine did not end
/// well.
fn play(script: &str) -> (Option<String>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("vm-old.log"), "of another system").expect("written");
    let machine = machine(folder.path(), script);
    let (_user, keys) = UnixStream::pair().expect("a pair");
    let (over, failure) = connect(&machine, folder.path(), keys).expect("connected");
    assert_eq!(over, Over::Machine);
    (failure, folder)
}

/// Returns a line of the hypervisor as the script prints it.
fn says(line: &str) -> String {
    format!("printf '\\377\\000%s\\n' '{line}'\n")
}

const UP: &str = r#"@postern {"event":"up","version":"0.1.0","cpus":4}"#;
const ALL_OFF: &str = r#"@postern {"event":"all-off"}"#;

#[test]
fn guest_power_off_is_a_good_end() {
    let (failure, folder) = play(&(says(UP) + &says(ALL_OFF)));
    assert_eq!(failure, None);
    assert!(
        !folder.path().join("vm-old.log").exists(),
        "a log of an earlier system is left"
    );
}

#[test]
fn boot_error_is_reported() {
    let error = r#"@postern {"event":"boot-error","text":"no OP-TEE"}"#;
    let (failure, _folder) = play(&says(error));
    assert_eq!(failure.as_deref(), Some("the boot failed: no OP-TEE"));
    // The event also counts before the hypervisor has switched to its channel.
    let (failure, _folder) = play(&format!("echo '{error}'"));
    assert_eq!(failure.as_deref(), Some("the boot failed: no OP-TEE"));
}

#[test]
fn qemu_error_is_reported() {
    let (failure, _folder) = play("echo 'unable to find CPU model' >&2; exit 1");
    let failure = failure.expect("a failure");
    assert!(
        failure.contains("QEMU ended with exit status: 1"),
        "{failure}"
    );
    assert!(failure.contains("unable to find CPU model"), "{failure}");
}

#[test]
fn hypervisor_panic_is_no_power_off() {
    let (failure, _folder) = play(&says(UP));
    assert!(failure.is_some_and(|why| why.contains("while guests were running")));
    let (failure, _folder) = play("echo NOTICE: BL1");
    assert!(failure.is_some_and(|why| why.contains("before Postern was up")));
    let (failure, _folder) = play(&(says(UP) + &says("postern: panic on CPU 0: overflow")));
    assert!(failure.is_some_and(|why| {
        why.contains("the hypervisor panicked: postern: panic on CPU 0: overflow")
    }));
    let stopped = says("[    1.2] error: vm a: its memory is too small")
        + &says(r#"@postern {"event":"vm-off","vm":"a","reason":"error"}"#);
    let (failure, _folder) = play(&(says(UP) + &stopped + &says(ALL_OFF)));
    assert_eq!(
        failure.as_deref(),
        Some("the hypervisor stopped vm a: vm a: its memory is too small")
    );
}

/// A user at a terminal that `script` makes, on which this test runs again.
struct User {
    script: Child,
    keys: ChildStdin,
    output: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl User {
    /// Runs this shell command on a terminal.
    fn at(command: &str) -> Self {
        let mut script = Command::new("script")
            .args(["-q", "-e", "-c", command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`script` of bsdutils");
        let keys = script.stdin.take().expect("piped");
        let mut stdout = script.stdout.take().expect("piped");
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(length @ 1..) = stdout.read(&mut bytes) {
                if sender.send(bytes[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            script,
            keys,
            output,
            seen: Vec::new(),
        }
    }

    fn times(&self, text: &[u8]) -> usize {
        let places = self.seen.windows(text.len());
        places.filter(|place| *place == text).count()
    }

    /// Waits until the terminal has shown this text.
    fn sees(&mut self, text: &[u8]) {
        self.sees_times(text, 1);
    }

    /// Waits until the terminal has shown this text a number of times.
    fn sees_times(&mut self, text: &[u8], times: usize) {
        while self.times(text) < times {
            let Ok(bytes) = self.output.recv_timeout(Duration::from_secs(60)) else {
                let seen = String::from_utf8_lossy(&self.seen);
                panic!("{:?} is not in {seen:?}", text.escape_ascii().to_string());
            };
            self.seen.extend(bytes);
        }
    }

    fn types(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).expect("typed");
        self.keys.flush().expect("typed");
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // When the test has failed the other end still runs; without its terminal it ends.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

/// The environment variable that tells a test to run on a terminal, in this folder.
const FOLDER: &str = "POSTERN_TEST_SHELL_IN";

/// Runs a test again, on a terminal. At the end the terminal's settings are compared.
fn once_more(test: &str, folder: &Path) -> User {
    let program = std::env::current_exe().expect("this program");
    User::at(&format!(
        "before=$(stty -g)
        {FOLDER}='{}' '{}' --exact shell::tests::{test} --nocapture
        code=$?
        test \"$before\" = \"$(stty -g)\" && echo settings restored
        exit $code",
        folder.display(),
        program.display(),
    ))
}

/// Keys go to the guest as they are, Ctrl-C too, and only the guest echoes them. Ctrl-A x leaves,
/// and the terminal is as it was before.
#[test]
fn typed_line_reaches_guest_and_key_leaves() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folder = Path::new(&folder);
        // The guest echoes: input on its channel is output on it.
        let machine = machine(folder, &(says(UP) + "printf '\\377\\001guest$ '; exec cat"));
        assert!(run(&machine, &folder.join("logs")).expect("a terminal"));
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut user = once_more("typed_line_reaches_guest_and_key_leaves", folder.path());
    user.sees(b"press Ctrl-A");
    user.sees(b"guest$ ");
    user.types(b"echo hello\r");
    user.sees(b"echo hello\r");
    user.types(b"\x03\x04behind it\r");
    user.sees(b"\x03\x04behind it\r");
    user.types(b"\x010");
    user.sees(b"--- the hypervisor; Ctrl-A h for help ---");
    user.types(b"\x011\x01x");
    user.sees(b"Postern: left. Logs: ");
    user.sees(b"settings restored");
    assert!(user.script.wait().expect("it ends").success());
    assert_eq!(
        user.times(b"echo hello"),
        1,
        "the terminal has echoed as well"
    );
}

/// Plays a hypervisor that prints something before it answers a command.
const MONITOR: &str = r#"
say() { printf "\\377\\000%s\\r\\n" "$*"; }
E=$(printf '\377')
while IFS= read -r line; do
    line=${line#"$E"}
    tag=${line%% *} command=${line#* }
    command=${command% --json}
    answer="@postern {\"event\":\"answer\",\"tag\":\"${tag#\#}\",\"ok\":true,\"command\":"
    case "$command" in
        'vm list') say "$answer\"vm list\",\"vms\":[]}" ;;
        'vm stop a') say '[ 0.1] info: meanwhile'; say "$answer\"vm stop\",\"vm\":\"a\"}" ;;
        *) say "[ 0.2] info: heard $line" ;;
    esac
done
"#;

/// Editing, completion, history and tables work in the monitor's terminal, and whole commands go to
/// the hypervisor.
#[test]
fn monitor_commands_are_edited_on_a_terminal() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folder = Path::new(&folder);
        let machine = machine(folder, &(says(UP) + MONITOR));
        assert!(run(&machine, &folder.join("logs")).expect("a terminal"));
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut user = once_more("monitor_commands_are_edited_on_a_terminal", folder.path());
    user.sees(b"press Ctrl-A");
    user.types(b"\x010");
    // The hypervisor's earlier output is shown.
    user.sees(br#"@postern {"event":"up""#);
    user.sees(b"postern> ");
    // The command is completed, from the middle, with a list of candidates, and a name that the
    // tool knows.
    user.types(b"sto\x01\x01vm \x05\t\t");
    user.sees(b"vm stop a");
    user.types(b"\r");
    user.sees(b"[ 0.1] info: meanwhile\r\n");
    user.sees(b"vm a was asked to shut down\r\n");
    user.types(b"vm st\t");
    user.sees(b"start  stop\r\n");
    // A client's command does not wait for the half line, and its answer is not shown here.
    let list = crate::control::ctl("vm list", || Ok(folder.path().join("logs")));
    assert!(list.expect("answered").starts_with("NAME  STATE"));
    user.types(b"x\x15\x1b[A\r");
    user.sees_times(b"vm a was asked to shut down\r\n", 2);
    user.types(b"vm dance\r");
    user.sees(b"monitor: `vm` is followed by list, info, ");
    user.types(b"help vm kill\r");
    user.sees(b"vm kill NAME  end it at once\r\n");
    assert_eq!(user.times(b"NAME  STATE"), 0);
    user.types(b"vm list\r");
    user.sees(b"NAME  STATE     VCPUS");
    user.types(b"\x01x");
    user.sees(b"settings restored");
    assert!(user.script.wait().expect("it ends").success());
    // The half line never left the tool.
    let log = std::fs::read_to_string(folder.path().join("logs/hypervisor.log")).expect("a log");
    assert!(!log.contains("heard"), "{log}");
}

/// A command before the hypervisor is up waits: it would get no answer.
#[test]
fn monitor_commands_wait_for_boot() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folder = Path::new(&folder);
        let machine = machine(folder, "echo NOTICE: BL1; exec cat");
        assert!(run(&machine, &folder.join("logs")).expect("a terminal"));
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut user = once_more("monitor_commands_wait_for_boot", folder.path());
    user.sees(b"NOTICE: BL1");
    user.types(b"\x010vm list\r");
    user.sees(b"monitor: the hypervisor has not booted yet\r\n");
    user.types(b"\x01x");
    user.sees(b"settings restored");
    assert!(user.script.wait().expect("it ends").success());
}
