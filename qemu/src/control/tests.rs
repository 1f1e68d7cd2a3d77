// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sends commands to a machine whose QEMU is a shell script that plays the monitor.

use super::*;
use crate::fake_qemu;
use crate::session::{Session, What};
use postern_ctl::messages::HypervisorEvent;

/// Plays the monitor. The answer to `cpu` has an echo and colours.
const MONITOR: &str = r#"
say() { printf "\\377\\000%s\\n" "$*"; }
say '@postern {"event":"up","version":"0.1.0","cpus":4}'
E=$(printf '\377')
while IFS= read -r line; do
    line=${line#"$E"}
    tag=${line%% *} command=${line#* }
    command=${command% --json}
    answer="@postern {\"event\":\"answer\",\"tag\":\"${tag#\#}\",\"command\":\"$command\""
    case "$command" in
        'vm list') say '[ 0.1] info: meanwhile'; say "$answer,\"ok\":true,\"vms\":[]}" ;;
        'vm stop x') say "$answer,\"ok\":false,\"error\":\"no virtual machine is called x\"}" ;;
        cpu) printf '\377\000postern> %s\r\n\r\033[K' "$line"; say "$answer,\"ok\":true,\"cpus\":[]}" ;;
        mem) exit 0 ;;
        *) say '[ 0.2] info: heard '"$line" ;;
    esac
done
"#;

fn boot(folder: &Path) -> Session {
    let machine = fake_qemu::machine(folder, MONITOR, &[]);
    Session::boot(&machine, folder).unwrap()
}

/// Makes a folder whose path is longer than a socket's path may be.
fn deep() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix(&"x".repeat(120))
        .tempdir()
        .unwrap()
}

fn ask(folder: &Path, command: &str) -> Result<String, String> {
    ctl(command, || Ok(folder.to_owned())).map_err(|why| format!("{why:#}"))
}

#[test]
fn answers_reach_only_the_asking_client() {
    let folder = deep();
    let mut session = boot(folder.path());
    let ask = |command| ask(folder.path(), command);
    let heading = "NAME  STATE     VCPUS      MEMORY  TEE  PRIVILEGED  STARTS  UP\n";
    assert_eq!(ask("vm list"), Ok(heading.into()));
    let json = ask("vm list --json").unwrap();
    let answer: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&answer["ok"], &answer["vms"]),
        (&true.into(), &serde_json::json!([]))
    );
    assert_eq!(json.lines().count(), 1);
    let why = "no virtual machine is called x";
    assert_eq!(ask("vm stop x"), Err(why.into()));
    let heading = "CPU  IDLE NOW  IDLE IN ALL  LONGEST MASKED           RUNS\n";
    assert_eq!(ask("cpu"), Ok(heading.into()));
    // `help` asks no system.
    assert!(ask("help").unwrap().starts_with("vm list "));
    // The session goes on, and does not see the answer.
    session.send(Channel::Hypervisor, "ping").unwrap();
    let mut heard = Vec::new();
    while !matches!(heard.last(), Some(What::Line(line)) if line.contains("heard")) {
        let next = session.next(Duration::from_secs(60)).unwrap();
        heard.push(next.expect("an item").what);
    }
    let line = |text: &str| What::Line(text.into());
    assert!(matches!(
        &heard[0],
        What::Hypervisor(HypervisorEvent::Up { .. })
    ));
    assert_eq!(heard[1], line("[ 0.1] info: meanwhile"));
    assert_eq!(heard.last(), Some(&line("[ 0.2] info: heard ping")));
    assert!(!heard.iter().any(|what| matches!(what, What::Answer(_))));
}

#[test]
fn invalid_commands_are_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let _session = boot(folder.path());
    for (command, why) in [
        ("", "there is no command"),
        ("vm list\nvm kill a", "plain ASCII"),
        ("#x vm list", "sets the tag itself"),
        ("echo on", "a terminal already"),
        ("vm dance", "is followed by"),
        ("stats", "`tee stats`"),
    ] {
        let error = ask(folder.path(), command).unwrap_err();
        assert!(error.contains(why), "{command}: {error}");
    }
    assert!(ask(folder.path(), &"x".repeat(129)).is_err());
}

#[test]
fn ended_machine_removes_socket_and_fails_clients() {
    let folder = tempfile::tempdir().unwrap();
    let session = boot(folder.path());
    let error = ask(folder.path(), "mem").unwrap_err();
    assert!(error.contains("has ended"), "{error}");
    drop(session);
    assert!(!folder.path().join(SOCKET).exists());
    assert!(
        ask(folder.path(), "vm list")
            .unwrap_err()
            .contains("has ended")
    );
}

#[test]
fn ctl_finds_single_system_or_names_several() {
    let top = tempfile::tempdir().unwrap();
    let paths = crate::paths::Paths::at(top.path());
    let out = paths.out();
    let folder = |name: &str| {
        let folder = out.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    };
    let error = |name| format!("{:#}", find(&paths, name).unwrap_err());
    assert!(error(None).contains("no system runs in this checkout"));
    // A socket that a killed tool left behind is not a system.
    let dead = std::os::unix::net::UnixListener::bind(folder("dead").join(SOCKET)).unwrap();
    drop(dead);
    let run = boot(&folder("run"));
    assert_eq!(find(&paths, None).unwrap(), out.join("run"));
    let _test = boot(&folder("tests/short"));
    assert!(error(None).contains("several systems run: run, tests/short"));
    assert_eq!(find(&paths, Some("run")).unwrap(), out.join("run"));
    drop(run);
    assert!(error(Some("run")).contains("no monitor answers in"));
    assert_eq!(find(&paths, None).unwrap(), out.join("tests/short"));
    // The system is also found by its path.
    let path = out.join("tests/short");
    assert_eq!(find(&paths, path.to_str()).unwrap(), path);
}

#[test]
fn system_before_boot_is_named() {
    let top = tempfile::tempdir().unwrap();
    let paths = crate::paths::Paths::at(top.path());
    let folder = paths.out().join("run");
    let _claim = crate::folder::Claim::take(&folder, "make run", "").unwrap();
    let error = format!("{:#}", find(&paths, None).unwrap_err());
    let who = format!("`make run` (process {}) in", std::process::id());
    assert!(
        error.contains(&who) && error.contains("not booted yet"),
        "{error}"
    );
}
