// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests whole runs on a machine whose QEMU is a shell script that plays hypervisor and guests.

use super::*;
use crate::fake_qemu;

/// Plays two guests. Each line is one write, so that two of them stay whole on the pipe. `$CASE` is
/// the result of the second guest's case; `$LONG` is how long each case takes.
const FAKE: &str = r#"
say() { printf "\\377\\00$1%s\\n" "$2"; }
event() { say "$1" "@postern $2"; }
name() { [ "$1" = 1 ] && echo a || echo b; }
xtest() {
    event $1 '{"event":"xtest-start","suites":"regression"}'
    if [ -n "$SAYS" ]; then
        event $1 '{"event":"log","line":"'"$SAYS"'"}'
        event $1 '{"event":"xtest-end","cases":0,"failed":0,"skipped":0,"subtests":0,"failed_subtests":0,"table_cases":null,"ms":9,"exit":255,"start_ms":1,"end_ms":10}'
        return
    fi
    event $1 '{"event":"case","name":"regression_1001","state":"start"}'
    sleep $LONG
    event $1 '{"event":"case","name":"regression_1001","state":"'$2'","ms":9,"subcases":1,"failed_subcases":0}'
    [ $2 = failed ] && event $1 '{"event":"log","line":"why it failed"}'
    event $1 '{"event":"xtest-end","cases":1,"failed":0,"skipped":0,"subtests":5,"failed_subtests":0,"table_cases":1,"ms":9,"exit":'$3',"start_ms":1,"end_ms":10}'
}
printf 'NOTICE: BL31\n'
event 0 '{"event":"up","version":"0.1.0","cpus":4}'
for vm in 1 2; do
    say $vm '[    0.000000] Booting Linux'
    event $vm '{"event":"ready","kernel":"6.12","cpus":2,"tee":true,"xtest":true,"ms":9}'
done
off=0
E=$(printf '\377')
while IFS= read -r line; do
    case "$line" in
        "$E$(printf '\001')"*) vm=1; line=${line#??} ;;
        "$E$(printf '\002')"*) vm=2; line=${line#??} ;;
        "$E"*) vm=0; line=${line#?} ;; # the shell drops the zero byte
    esac
    case "$vm $line" in
        "$DIES "xtest*) say $vm 'Kernel panic - not syncing: Oops' ;;
        *" xtest"*) case $vm in 1) xtest 1 ok 0 & ;; 2) xtest 2 $CASE $EXIT & ;; esac ;;
        *" latency"*) sleep 0.1; set -- $line
            event $vm '{"event":"latency","label":"'$2'","samples":9,"min_ns":1000,"median_ns":2000,"p90_ns":3000,"p99_ns":4000,"max_ns":5000,"mean_ns":2000,"total_ns":9,"what":"x"}' ;;
        "0 stats") for vm in 1 2; do
            event 0 '{"event":"stats","vm":"'$(name $vm)'","smc_fast":1,"smc_yielding":2,"rpc":{"fs":3}}'; done ;;
        *" poweroff") event $vm '{"event":"bye"}'
            event 0 '{"event":"vm-off","vm":"'$(name $vm)'","reason":"off"}'
            off=$((off + 1)); [ $off = 2 ] && { event 0 '{"event":"all-off"}'; exit 0; } ;;
        *) event $vm '{"event":"error","text":"what is '"$line"'?"}' ;;
    esac
done
"#;

/// Runs the script with variables set; returns the report and the folder with the files.
fn play(variables: &str) -> (Report, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let script = format!("CASE=ok EXIT=0 LONG=1 DIES=no SAYS=\n{variables}\n{FAKE}");
    let machine = fake_qemu::machine(folder.path(), &script, &["a", "b"]);
    let plan = RunPlan {
        machine,
        versions: Versions::default(),
        system: "two.toml".into(),
        selection: "1001".parse().expect("a selection"),
        baseline: None,
        folder: folder.path().to_owned(),
    };
    let report = run(&plan).expect("a report");
    (report, folder)
}

#[test]
fn run_measures_and_tests_two_guests() {
    let (report, folder) = play("LONG=4");
    assert_eq!(report.why, [] as [String; 0]);
    assert!(report.passed());
    for guest in &report.guests {
        let labels: Vec<&str> = guest
            .latency
            .iter()
            .map(|latency| latency.label.as_str())
            .collect();
        assert_eq!(labels, ["idle", "busy"], "{}", guest.name);
        assert_eq!(guest.stats.as_ref().map(|stats| stats.rpc["fs"]), Some(3));
        assert_eq!(
            guest
                .xtest
                .as_ref()
                .map(|xtest| (xtest.cases, xtest.subtests)),
            Some((1, 5))
        );
    }
    // The second began while the first ran.
    assert!(report.overlap_ms > 100, "{}", report.overlap_ms);
    let written = std::fs::read_to_string(folder.path().join("report.json")).expect("report.json");
    assert_eq!(Report::parse(&written).expect("a report"), report);
    assert!(folder.path().join("report.svg").exists());
    assert!(folder.path().join("vm-b.log").exists());
}

#[test]
fn figure_without_busy_neighbour_is_discarded() {
    // Cases end before any measurement beside them does, so each measurement is discarded, also
    // those beside a load.
    let (report, _folder) = play("LONG=0");
    assert!(!report.passed());
    let why = report.why.join("\n");
    assert!(
        why.contains("a: the round trip was not measured (busy)"),
        "{why}"
    );
    assert!(
        why.contains("b: the round trip was not measured (busy)"),
        "{why}"
    );
}

#[test]
fn failed_case_fails_run_with_its_output() {
    let (report, _folder) = play("CASE=failed EXIT=1");
    assert_eq!(report.why, ["b: 1 case failed: regression_1001"]);
    assert_eq!(report.guests[1].cases[0].log, ["why it failed"]);
}

#[test]
fn crashed_guest_ends_run_at_once() {
    let (report, _folder) = play("DIES=2");
    let why = report.why.join("\n");
    assert!(
        why.contains("guest b crashed") && why.contains("b: Kernel panic"),
        "{why}"
    );
}

#[test]
fn early_end_of_machine_reports_its_last_output() {
    let (report, _folder) = play("echo 'no such machine' >&2; exit 1");
    let why = report.why.join("\n");
    assert!(
        why.contains("QEMU ended while waiting for all guests to be ready"),
        "{why}"
    );
    assert!(why.contains("no such machine"), "{why}");
}

#[test]
fn rejected_xtest_arguments_end_run_at_once() {
    let begin = Instant::now();
    let (report, _folder) = play("SAYS='No test suite matches'");
    assert_eq!(
        report.why,
        ["--xtest '1001': xtest ran no case in a; it said:\n    No test suite matches"]
    );
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[test]
fn boot_error_uses_description_words() {
    let (report, _folder) = play(concat!(
        r#"printf '\377\000@postern {"event":"boot-error","text":"vm `a`: no arm64 Image at 0x48000000, where its "#,
        r#"multiboot,kernel module is said to be: have the boot loader place it there"}\n'; exit 0"#
    ));
    assert!(!report.passed());
    let why = report.why.join("\n");
    assert!(
        why.contains("the boot failed: vm `a`: its kernel is no arm64 Image")
            && !why.contains("boot loader"),
        "{why}"
    );
}
