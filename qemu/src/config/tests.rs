// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests which descriptions are valid, and the errors for the others.

use super::*;

fn error(text: &str) -> String {
    format!("{:#}", System::parse(text).unwrap_err())
}

#[test]
fn vm_needs_only_a_name() {
    let system = System::parse("[[vm]]\nname = \"a\"").unwrap();
    assert_eq!(system.machine, MachineConfig::default());
    assert_eq!(
        system.vms,
        [Vm {
            name: "a".into(),
            vcpus: 2,
            memory: Memory(512 << 20),
            kernel: None,
            linux: Linux::Standard,
            program: None,
            initrd: None,
            cmdline: "console=ttyAMA0 earlycon=pl011,0x9000000".into(),
            tee: Tee::Required,
            autostart: true,
            privileged: false,
            watchdog: false,
            rng: false,
            disk: None,
            dma: Dma::Protected,
            tee_policy: TeePolicy::default(),
            tee_quota: TeeQuota::default(),
            affinity: None,
            sve: None,
            devices: Vec::new(),
            partial_tree: None,
        }]
    );
}

#[test]
fn all_keys_parse() {
    let text = r#"
        [machine]
        board = "virt-gicv2"
        cpus = 2
        memory_mib = 2048
        when_all_off = "stay"
        optee_spi = 987
        [[vm]]
        name = "left"
        vcpus = 8
        memory = "1G"
        kernel = "my/Image"
        initrd = "/my/initrd"
        cmdline = "quiet"
        tee = "none"
        affinity = [0, 1]
        sve = 256
        [[vm]]
        name = "right-2"
        tee = "optional"
        memory = "4G"
        linux = "rt"
        autostart = false
        privileged = true
        watchdog = true
    "#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("system.toml");
    std::fs::write(&file, text).unwrap();
    let system = System::load(&file).unwrap();
    assert_eq!((system.machine.cpus, system.machine.memory_mib), (2, 2048));
    assert_eq!(system.machine.board, BoardName::VirtGicv2);
    assert_eq!(system.machine.when_all_off, WhenAllOff::Stay);
    assert_eq!(system.machine.optee_spi, Some(987));
    let [left, right] = &system.vms[..] else {
        panic!("two VMs were described");
    };
    assert_eq!(left.memory.kib(), 1 << 20);
    // A path is relative to the TOML file, whatever the current folder is; an absolute path stays.
    assert_eq!(left.kernel, Some(folder.path().join("my/Image")));
    assert_eq!(left.initrd, Some("/my/initrd".into()));
    assert_eq!((left.vcpus, left.tee), (8, Tee::None));
    assert_eq!(left.affinity, Some(vec![0, 1]));
    assert_eq!(left.sve, Some(256));
    assert_eq!((right.name.as_str(), right.tee), ("right-2", Tee::Optional));
    assert_eq!((left.linux, right.linux), (Linux::Standard, Linux::Rt));
    assert_eq!((left.autostart, left.privileged), (true, false));
    assert_eq!((right.autostart, right.privileged), (false, true));
    assert_eq!((left.watchdog, right.watchdog), (false, true));
}

#[test]
fn invalid_descriptions_name_place_and_fix() {
    let long = format!("[[vm]]\nname=\"a\"\ncmdline=\"{}\"", "x".repeat(1984));
    let applications = format!(
        "[[vm]]\nname=\"a\"\ntee_policy.applications = [{}]",
        "\"8aaaf200-2450-11e4-abe2-0002a5d5c51b\",".repeat(65)
    );
    let many: String = (0..9).map(|i| format!("[[vm]]\nname=\"v{i}\"\n")).collect();
    let cases: &[(&str, &[&str])] = &[
        ("", &["no [[vm]]"]),
        (
            "[hypervisor]\ncmdline = \"\"\n[[vm]]\nname=\"a\"",
            &["line 1", "`cmdline` is gone", "remove it"],
        ),
        ("[[vm]]\nvcpus = 2", &["line 1", "missing key `name`"]),
        (
            "[[vm]]\nname = \"a\"\nvcpu = 2",
            &["line 3", "unknown key `vcpu`", "`vcpus`"],
        ),
        (
            "[machine]\nmemory = 2\n[[vm]]\nname=\"a\"",
            &["line 2", "`memory_mib`"],
        ),
        (
            "[machine]\nboard = \"zcu\"\n[[vm]]\nname=\"a\"",
            &["line 2", "unknown value `zcu`", "`virt`", "`virt-gicv2`"],
        ),
        (
            "[machine]\nboard = 3\n[[vm]]\nname=\"a\"",
            &["line 2", "word in quotes"],
        ),
        ("[[vm]]\nname = 3", &["line 2", "text in quotes"]),
        ("[[vm]]\nname = \"A\"", &["vm \"A\"", "a-z"]),
        ("[[vm]]\nname = \"\"", &["start with a letter"]),
        ("[[vm]]\nname = \"a-name-too-long-\"", &["1 to 15"]),
        (
            "[[vm]]\nname = \"a\"\n[[vm]]\nname = \"a\"",
            &["the name is taken"],
        ),
        (
            "[[vm]]\nname = \"a\"\nvcpus = 9",
            &["vm \"a\": vcpus = 9: it must be 1 to 8"],
        ),
        ("[[vm]]\nname = \"a\"\nvcpus = 0", &["vcpus = 0"]),
        (
            "[[vm]]\nname = \"a\"\nmemory = \"512\"",
            &["line 3", "\"512M\" or \"1G\""],
        ),
        (
            "[[vm]]\nname = \"a\"\nmemory = 512",
            &["line 3", "in quotes, for example \"512M\""],
        ),
        ("[vm]\nname = \"a\"", &["line 1", "double brackets, [[vm]]"]),
        (
            "[[vm]]\nname = \"a\"\nvcpus = \"2\"",
            &["line 3", "a whole number, 0 or more, without quotes"],
        ),
        (
            "[[vm]]\nname = \"a\"\nvcpus = -1",
            &["line 3", "a whole number, 0 or more"],
        ),
        (
            "[[vm]]\nname = \"a\"\naffinity = 3",
            &["line 3", "a list in brackets"],
        ),
        (
            "[[vm]]\nname = \"a\"\nkernel = 5",
            &["line 3", "the path of a file in quotes"],
        ),
        (
            "[[vm]]\nname = \"a\"\nautostart = \"no\"",
            &["line 3", "true or false, without quotes"],
        ),
        (
            "[[vm]]\nname = \"a\"\ntee = true",
            &["line 3", "a word in quotes"],
        ),
        (
            "[[vm]]\nname = \"a\"\ntee_policy = 1",
            &["line 3", "a table, [vm.tee_policy]"],
        ),
        (
            "[[vm]]\nname = \"a\"\nmemory = \"3M\"",
            &["line 3", "multiple of 2 MiB"],
        ),
        (
            "[[vm]]\nname = \"a\"\nmemory = \"99999999999G\"",
            &["no amount of memory"],
        ),
        (
            "[[vm]]\nname = \"a\"\ntee = \"yes\"",
            &["line 3", "`required`, `optional`"],
        ),
        (
            "[[vm]]\nname = \"a\"\naffinity = [0, 4]",
            &["CPU 4; the machine has 0 to 3"],
        ),
        ("[[vm]]\nname = \"a\"\naffinity = []", &["leave it out"]),
        (
            "[[vm]]\nname = \"a\"\nsve = 192",
            &["vm \"a\": sve = 192", "multiple of 128"],
        ),
        ("[[vm]]\nname = \"a\"\nsve = 2176", &["128 to 2048"]),
        ("[[vm]]\nname = \"a\"\nsve = 0", &["leave it out"]),
        (
            "[machine]\ncpu = \"cortex-a75\"\n[[vm]]\nname = \"a\"",
            &["machine.cpu = \"cortex-a75\"", "neoverse-n1"],
        ),
        (
            "[[vm]]\nname = \"a\"\nprogram = \"p\"\nkernel = \"Image\"",
            &["vm \"a\": program and kernel exclude each other"],
        ),
        (
            "[[vm]]\nname = \"a\"\nprogram = \"../p\"",
            &["program = \"../p\"", "a folder in guests/"],
        ),
        (
            "[machine]\ncpus = 5\n[[vm]]\nname=\"a\"",
            &["machine.cpus = 5", "1 to 4"],
        ),
        (
            "[machine]\noptee_flags = [\"CFG_A=1 O=/\"]\n[[vm]]\nname=\"a\"",
            &["optee_flags: \"CFG_A=1 O=/\" is no setting"],
        ),
        (
            "[machine]\noptee_spi = 988\n[[vm]]\nname=\"a\"",
            &["optee_spi = 988", "0 to 987", "GIC_INTID less 32"],
        ),
        (
            "[machine]\noptee_virtualised = false\noptee_flags = [\"CFG_A=1\"]\n[[vm]]\nname=\"a\"",
            &["optee_flags", "drop optee_flags or"],
        ),
        (
            "[machine]\nmemory_mib = 100\n[[vm]]\nname=\"a\"",
            &["memory_mib = 100"],
        ),
        (
            "[[vm]]\nname = \"a\"\n[vm.tee_policy]\npartitions = [1]",
            &["line 4", "0x1 is no partition", "0x8001"],
        ),
        (
            "[[vm]]\nname = \"a\"\n[vm.tee_policy]\npartitions = [\"486178e0-e7f8-11e3-bc5e-0002a5d5c51b\"]",
            &["line 4", "the id of a partition, a number without quotes"],
        ),
        (
            "[[vm]]\nname = \"a\"\n[vm.tee_policy]\napplications = [\"avb\"]",
            &["line 4", "\"avb\" is no UUID", "8aaaf200-"],
        ),
        (
            "[[vm]]\nname = \"a\"\n[vm.tee_policy]\nlogins = [\"root\"]",
            &[
                "line 4",
                "unknown value `root`",
                "`group-application`, `kernel`",
            ],
        ),
        (
            "[[vm]]\nname = \"a\"\n[vm.tee_policy]\ndevices = [\"spi\"]",
            &["line 4", "`rpmb` or `i2c`"],
        ),
        (
            "[[vm]]\nname = \"a\"\n[vm.tee_policy]\nfeatures = [\"rpc\"]",
            &["line 4", "`rpc-arg` or `notifications`"],
        ),
        (
            "[[vm]]\nname = \"a\"\n[vm.tee_policy]\nlogin = []",
            &["line 4", "unknown key `login`", "`logins`"],
        ),
        (
            "[[vm]]\nname = \"a\"\n[vm.tee_quota]\nrpc-buffers = 3",
            &["line 4", "unknown key `rpc-buffers`", "`rpc_buffers`"],
        ),
        (
            "[[vm]]\nname = \"a\"\n[vm.tee_quota]\nleftovers = 24",
            &["line 4", "`leftovers` is called `max_leaked_asids`"],
        ),
        (
            "[[vm]]\nname = \"a\"\n[vm.tee_quota]\nsessions = 0",
            &["vm \"a\": tee_quota.sessions = 0: it must be 1 to 4096"],
        ),
        (
            "[[vm]]\nname = \"a\"\ntee_quota.calls = 65",
            &["tee_quota.calls = 65: it must be 1 to 64"],
        ),
        (
            "[[vm]]\nname = \"a\"\ntee_quota.pages = -1",
            &["line 3", "a whole number"],
        ),
        (
            "[[vm]]\nname = \"a\"\ntee = \"none\"\ntee_quota.pages = 1",
            &["vm \"a\"", "tee = \"none\""],
        ),
        (
            "[[vm]]\nname=\"a\"\ntee_policy.devices = [\"i2c\"]\n\
             [[vm]]\nname=\"b\"\ntee_policy.devices = [\"rpmb\", \"i2c\"]",
            &["vm \"b\": tee_policy.devices: vm \"a\" owns \"i2c\""],
        ),
        (
            "[[vm]]\nname=\"a\"\nautostart = false",
            &["every [[vm]] has autostart = false", "when_all_off"],
        ),
        (
            "[[vm]]\nname=\"a\"\nmemory = \"2G\"\n[[vm]]\nname=\"b\"\nmemory = \"1G\"",
            &["3072 MiB of memory together", "autostart = false"],
        ),
        (
            "[machine]\nwhen_all_off = \"off\"\n[[vm]]\nname=\"a\"",
            &["line 2", "`power-off` or `stay`"],
        ),
        (&applications, &["has 65 UUIDs; it takes 64"]),
        (&long, &["1983"]),
        (
            "[[vm]]\nname = \"a\"\nlinux = \"rt\"\nprogram = \"bench\"",
            &["vm \"a\"", "linux chooses among Debian's kernels"],
        ),
        (&many, &["there are 9 [[vm]]"]),
    ];
    for (text, wanted) in cases {
        let error = error(text);
        for word in *wanted {
            assert!(
                error.contains(word),
                "{text:?} gave {error:?}, not {word:?}"
            );
        }
    }
}

#[test]
fn missing_file_is_named() {
    let error = System::load(Path::new("/no/such.toml")).unwrap_err();
    assert!(error.to_string().contains("/no/such.toml"));
}

#[test]
fn shipped_descriptions_parse() {
    let folder = crate::paths::Paths::discover().unwrap().guests();
    for (name, vms, vcpus) in [
        ("one", 1, 2),
        ("two", 2, 4),
        ("overcommit", 2, 8),
        ("policy", 2, 4),
        ("not-virtualised", 1, 2),
    ] {
        let system = System::load(&folder.join(format!("{name}.toml"))).unwrap();
        assert_eq!(system.vms.len(), vms, "{name}");
        let total: u32 = system.vms.iter().map(|vm| vm.vcpus).sum();
        assert_eq!(total, vcpus, "{name}");
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|ending| ending == "toml") {
            System::load(&file).unwrap();
        }
    }
}

/// Parses the document's examples that are whole descriptions.
#[test]
fn examples_in_the_document_parse() {
    let text = include_str!("../../../docs/configuration.md");
    let examples: Vec<&str> = text
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(examples.len(), 3);
    for example in examples {
        if let Err(why) = System::parse(example) {
            panic!("{why:#}\n{example}");
        }
    }
}
