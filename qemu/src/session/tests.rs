// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use crate::fake_qemu;
use guest_agent::event::CaseState;

/// Returns a machine whose QEMU is a shell script that plays the guests.
fn machine(folder: &Path, script: &str) -> Machine {
    fake_qemu::machine(folder, script, &["a", "b/c"])
}

const SOON: Duration = Duration::from_secs(60);
/// Long enough for a script to start on a very busy host.
const PATIENCE: Duration = Duration::from_secs(60);
const BRIEF: Duration = Duration::from_secs(2);
const A: Channel = Channel::Vm(1);
const B: Channel = Channel::Vm(2);

#[test]
fn output_splits_into_items_and_logs() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = r#"
printf 'NOTICE: BL1\n\377\000@postern {"event":"up","version":"0.1.0","cpus":4}\n'
printf '\377\002from b\n\377\001[ 0.1] Linux\r\n@postern {"event":"case","name":"regression_1","state":"start"}\n'
printf '@postern {"event":"ca\n\377\000@postern {"event":"all-off"}\nlast'
"#;
    let mut session =
        Session::boot(&machine(folder.path(), script), folder.path()).expect("booted");
    let mut items = Vec::new();
    while let Some(item) = session.next(SOON).expect("not interrupted") {
        items.push((item.channel, item.what));
    }
    let line = |text: &str| What::Line(text.into());
    let case = Event::Case {
        name: "regression_1".into(),
        state: CaseState::Start,
        ms: None,
        subcases: None,
        failed_subcases: None,
    };
    assert_eq!(
        items,
        [
            (Channel::Firmware, line("NOTICE: BL1")),
            (
                Channel::Hypervisor,
                What::Hypervisor(HypervisorEvent::Up {
                    version: "0.1.0".into(),
                    cpus: 4
                })
            ),
            (B, line("from b")),
            (A, line("[ 0.1] Linux")),
            (A, What::Guest(case)),
            (A, What::Garbled("@postern {\"event\":\"ca".into())),
            (
                Channel::Hypervisor,
                What::Hypervisor(HypervisorEvent::AllOff)
            ),
            (Channel::Hypervisor, line("last")),
            (Channel::Firmware, What::Closed),
        ]
    );
    assert!(session.is_closed());
    assert!(session.exit(SOON).expect("ended").success());
    let log = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect(name);
    assert_eq!(log("firmware.log"), "NOTICE: BL1\n");
    assert_eq!(log("vm-b_c.log"), "from b\n");
    assert!(log("vm-a.log").starts_with("[ 0.1] Linux\r\n@postern"));
    assert!(log("hypervisor.log").ends_with("last"));
}

#[test]
fn input_reaches_its_channel_and_backlog_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    // The first VM's console prints the bytes that arrive in hexadecimal; the second's has printed
    // before.
    let script = r#"
printf '\377\002early\n\377\001'
head -c 12 | od -An -tx1
"#;
    let mut session =
        Session::boot(&machine(folder.path(), script), folder.path()).expect("booted");
    session.send(Channel::Hypervisor, "st").expect("sent");
    session.send(A, "x").expect("sent");
    session.send_bytes(A, b"\xff").expect("sent");
    session.send(B, "y").expect("sent");
    let wire = session.expect(A, SOON).line("73").expect("the bytes");
    assert_eq!(
        wire.split_whitespace().collect::<String>(),
        "73740aff01780affffff0279"
    );
    // A line that came before the wait is found.
    session.expect(B, SOON).line("early").expect("kept");
    let error = session
        .expect(B, SOON)
        .line("never")
        .expect_err("QEMU ended");
    let error = format!("{error:#}");
    assert!(
        error.contains("b/c: waiting for a line with \"never\": QEMU ended"),
        "{error}"
    );
    assert!(error.contains("    | early"), "{error}");
}

#[test]
fn hopeless_wait_ends_at_once() {
    let wait = |says: &str, within: Duration| {
        let folder = tempfile::tempdir().expect("a folder");
        let script = format!("printf '{says}'\nexec sleep 1000");
        let mut session =
            Session::boot(&machine(folder.path(), &script), folder.path()).expect("booted");
        let begin = Instant::now();
        let error = session.expect(A, within).ready().expect_err("never ready");
        (format!("{error:#}"), begin.elapsed() < within)
    };
    let (error, quick) = wait(r"\377\001Kernel panic - not syncing: no init\n", PATIENCE);
    assert!(
        quick && error.contains("the guest's kernel crashed"),
        "{error}"
    );
    let (error, quick) = wait(
        r#"\377\000@postern {"event":"boot-error","text":"no GICv3"}\n"#,
        PATIENCE,
    );
    assert!(
        quick && error.contains("the boot failed: no GICv3"),
        "{error}"
    );
    let (error, quick) = wait(r"\377\000postern: panic on CPU 0: overflow\n", PATIENCE);
    assert!(
        quick && error.contains("the hypervisor panicked: postern: panic"),
        "{error}"
    );
    let (error, quick) = wait(
        r#"\377\001@postern {"event":"error","text":"no TEE"}\n"#,
        PATIENCE,
    );
    assert!(
        quick && error.contains("the guest reported: no TEE"),
        "{error}"
    );
    // Another guest's death does not end the wait.
    let (error, quick) = wait(r"\377\002Kernel panic - not syncing: b\n", BRIEF);
    assert!(!quick && error.contains("nothing in 2 s"), "{error}");
}

#[test]
fn awaited_event_is_returned() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = r#"printf '\377\001@postern {"event":"pong","text":"x"}\n@postern {"event":"pong","text":"y"}\n'"#;
    let mut session =
        Session::boot(&machine(folder.path(), script), folder.path()).expect("booted");
    let pong = |event: &Event| match event {
        Event::Pong { text } if text == "y" => Some(text.clone()),
        _ => None,
    };
    assert_eq!(
        session
            .expect(A, SOON)
            .event("a pong", pong)
            .expect("a pong"),
        "y"
    );
    assert!(session.vm("b/c").is_ok_and(|channel| channel == B));
    assert!(session.vm("d").is_err());
}

#[test]
fn program_events_may_have_any_form() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = r#"
printf '\377\002@postern {"event":"ready","program":"p"}\n'
printf '\377\001@postern {"event":"ready","program":"p"}\nline\n@postern {"event":\n'
printf '@postern {"event":"attack","name":"17"}\n@postern {"event":"error","text":"no TEE"}\n'
"#;
    let mut machine = machine(folder.path(), script);
    machine.vms[0].program = true;
    let mut session = Session::boot(&machine, folder.path()).expect("booted");
    session.expect(A, SOON).ready().expect("ready");
    session.expect(A, SOON).line("line").expect("a line");
    let garbled = |what: &What| matches!(what, What::Garbled(_)).then_some(());
    session.expect(A, SOON).find("half", garbled).expect("half");
    let name = |event: &serde_json::Value| event["name"].as_str().map(str::to_owned);
    let attack = session.expect(A, SOON).program("an attack", name);
    assert_eq!(attack.expect("an attack"), "17");
    let error = session.expect(A, SOON).program("an attack", name);
    let error = format!("{:#}", error.expect_err("an error"));
    assert!(
        error.contains("the program reported: \"no TEE\""),
        "{error}"
    );
    // The other VM runs Linux, whose agent has no such event.
    session
        .expect(B, SOON)
        .find("half", garbled)
        .expect("garbled");
}
