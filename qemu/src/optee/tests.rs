// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests how OP-TEE is built, and when it is built again.

use super::*;
use crate::board::BoardName;

fn flags(guests: Option<u32>, settings: &[String]) -> Vec<String> {
    super::flags(BoardName::Virt.board(), TeeAbi::Smc, guests, settings)
}

#[test]
fn flags_depend_on_virtualisation() {
    let words = |guests| flags(guests, &[]).join(" ");
    assert!(words(Some(4)).ends_with("CFG_NS_VIRTUALIZATION=y CFG_VIRT_GUEST_COUNT=4"));
    assert!(
        words(None)
            .ends_with("PLATFORM=vexpress-qemu_armv8a CFG_ARM_GICV3=y CFG_NS_VIRTUALIZATION=n")
    );
}

#[test]
fn flags_for_ffa_make_optee_the_spmc_with_and_without_virtualisation() {
    let words = |guests| super::flags(BoardName::Virt.board(), TeeAbi::Ffa, guests, &[]).join(" ");
    let (native, shared) = (words(None), words(Some(2)));
    for words in [&native, &shared] {
        assert!(
            words.contains(" CFG_ARM_GICV3=y CFG_CORE_SEL1_SPMC=y "),
            "{words}"
        );
    }
    assert!(native.ends_with("CFG_NS_VIRTUALIZATION=n"), "{native}");
    assert!(shared.ends_with("CFG_NS_VIRTUALIZATION=y CFG_VIRT_GUEST_COUNT=2"));
    assert!(flags(None, &[]).iter().all(|flag| !flag.contains("SPMC")));
}

#[test]
fn builds_for_ffa_have_names_and_a_source_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::at(folder.path());
    let settings = ["CFG_A=1".to_owned()];
    let names = |abi, guests, settings| {
        let build = Build {
            paths: &paths,
            suite: Suite::Trixie,
            board: BoardName::Virt.board(),
            abi,
            guests,
            settings,
            key: Vec::new(),
            progress: &Progress::silent(),
        };
        (build.ending(), build.what(), build.source_suite())
    };
    let (smc, ffa) = (TeeAbi::Smc, TeeAbi::Ffa);
    let native = ("native".into(), "not virtualised".into(), Suite::Trixie);
    assert_eq!(names(smc, None, &[]), native);
    let native = (
        "ffa-native".into(),
        "not virtualised, for FF-A".into(),
        Suite::Sid,
    );
    assert_eq!(names(ffa, None, &[]), native);
    let shared = ("ffa-4".into(), "for 4 VMs, for FF-A".into(), Suite::Sid);
    assert_eq!(names(ffa, Some(4), &[]), shared);
    assert_ne!(names(ffa, None, &settings), names(smc, None, &settings));
}

#[test]
fn board_has_its_own_port_and_uart() {
    let words = super::flags(BoardName::Zcu102.board(), TeeAbi::Smc, Some(2), &[]).join(" ");
    assert!(words.contains("PLATFORM=zynqmp-zcu102"), "{words}");
    assert!(
        !words.contains("qemu") && !words.contains("GICV3"),
        "{words}"
    );
    // The first UART is the console's.
    assert!(words.contains("CFG_UART_BASE=UART1_BASE"), "{words}");
    assert!(words.ends_with("CFG_VIRT_GUEST_COUNT=2"), "{words}");
}

#[test]
fn setting_replaces_flag_of_same_name() {
    let settings = ["CFG_TEE_CORE_LOG_LEVEL=1", "CFG_CORE_HEAP_SIZE=262144"].map(String::from);
    let words = flags(Some(2), &settings).join(" ");
    assert!(!words.contains("LOG_LEVEL=3") && words.contains("LOG_LEVEL=1"));
    assert!(words.ends_with("CFG_CORE_HEAP_SIZE=262144"));
    assert!(words.contains("CFG_TEE_BENCHMARK=n"));
}

#[test]
fn panic_halts_only_cpus_in_optee() {
    let words = flags(Some(2), &[]);
    assert!(words.iter().any(|flag| flag == "CFG_HALT_CORES_ON_PANIC=n"));
    // A user's setting wins.
    let words = flags(Some(2), &["CFG_HALT_CORES_ON_PANIC=y".into()]);
    assert!(words.iter().all(|flag| flag != "CFG_HALT_CORES_ON_PANIC=n"));
}

#[test]
fn version_is_read_from_config_mk() {
    let text = "A = 1\nCFG_OPTEE_REVISION_MAJOR ?= 4\nCFG_OPTEE_REVISION_MINOR ?= 10\n\
                CFG_OPTEE_REVISION_EXTRA ?= -rc1\n";
    assert_eq!(version(text).as_deref(), Some("4.10.0-rc1"));
    assert_eq!(version("CFG_OPTEE_REVISION_MAJOR ?= 4"), None);
}

#[test]
fn firmware_depends_on_image_content() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::at(folder.path());
    let build = Build {
        paths: &paths,
        suite: Suite::Sid,
        board: BoardName::Virt.board(),
        abi: TeeAbi::Smc,
        guests: Some(4),
        settings: &[],
        key: Vec::new(),
        progress: &Progress::silent(),
    };
    let made = |header: &str| {
        for image in IMAGES {
            stamp::write(&folder.path().join(image), image.as_bytes()).unwrap();
        }
        stamp::write(&folder.path().join(IMAGES[0]), header.as_bytes()).unwrap();
        build
            .optee("own-4".into(), "4.9".into(), folder.path().into())
            .unwrap()
    };
    let (one, two) = (made("1"), made("2"));
    assert_ne!(one.made_of(), two.made_of());
    assert_eq!(two.made_of(), made("2").made_of());
    let into = folder.path().join("into");
    two.put(&into).unwrap();
    assert_eq!(std::fs::read(into.join(IMAGES[0])).unwrap(), b"2");
    assert_eq!(
        std::fs::read(into.join(IMAGES[2])).unwrap(),
        IMAGES[2].as_bytes()
    );
}

#[test]
fn folder_without_optee_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let build = Build {
        paths: &Paths::at(folder.path()),
        suite: Suite::Sid,
        board: BoardName::Virt.board(),
        abi: TeeAbi::Smc,
        guests: None,
        settings: &[],
        key: Vec::new(),
        progress: &Progress::silent(),
    };
    let error = format!("{:#}", build.own(folder.path()).unwrap_err());
    assert!(error.contains("is no source tree of OP-TEE OS"), "{error}");
}
