// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use std::path::PathBuf;

/// Returns the start of an arm64 `Image` of a kernel of `mib` MiB.
fn image(mib: u64, flags: u64) -> Vec<u8> {
    let mut image = vec![0; 4096];
    image[16..24].copy_from_slice(&(mib << 20).to_le_bytes());
    image[24..32].copy_from_slice(&flags.to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    image
}

fn gzipped(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, data).expect("memory");
    encoder.finish().expect("memory")
}

/// A temporary folder with programs and files.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a folder"));
        place.file(
            "guests/bench/Cargo.toml",
            b"[package]\nname = \"guest-bench\"\n[dependencies]\nguest-bare = {}\n",
        );
        place.file("guests/bench/src/main.rs", b"");
        place.file(
            "guests/bare/Cargo.toml",
            b"[package]\nname = \"guest-bare\"\n",
        );
        place.file(
            "guests/agent/Cargo.toml",
            b"[package]\nname = \"guest-agent\"\n",
        );
        place.file("guests/agent/src/main.rs", b"");
        place
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, bytes).expect("written");
        path
    }

    /// Returns the error for a VM `a` with these keys, in a description in this folder.
    fn complaint(&self, keys: &str) -> Option<String> {
        let file = self.file(
            "system.toml",
            format!("[[vm]]\nname = \"a\"\n{keys}").as_bytes(),
        );
        let system = System::load(&file).expect("a description");
        let checked = system.check_files(&self.0.path().join("guests"));
        checked.err().map(|error| format!("{error:#}"))
    }
}

#[test]
fn invalid_kernel_error_names_key_and_fix() {
    let place = Place::new();
    let mut zimage = vec![0; 100];
    zimage[36..40].copy_from_slice(b"\x18\x28\x6f\x01");
    let mut bzimage = vec![0; 0x300];
    bzimage[0x202..0x206].copy_from_slice(b"HdrS");
    let mut zboot = image(40, 0)[..52].to_vec();
    zboot[..8].copy_from_slice(b"MZ\0\0zimg");
    zboot[8..16].copy_from_slice(&[0, 0x10, 0, 0, 9, 0, 0, 0]);
    zboot[24..32].copy_from_slice(b"gzip\0\0\0\0");
    zboot.resize(100, 0);
    let mut old = image(0, 0);
    old[16] = 0;
    let cases: &[(&[u8], &[&str])] = &[
        (b"", &["it is empty"]),
        (
            b"hello, kernel\n",
            &["a text file", "arch/arm64/boot/Image"],
        ),
        (&zimage, &["32-bit Arm kernel (zImage)", "arm64 Image"]),
        (&bzimage, &["x86 kernel"]),
        (b"\x27\x05\x19\x56....", &["uImage"]),
        (b"\x7fELF\x02", &["vmlinux", "arch/arm64/boot/Image"]),
        (b"07070100000", &["cpio archive", "initrd"]),
        (
            &gzipped(&image(40, 0)),
            &["compressed with gzip", "gunzip -c", "> Image"],
        ),
        (
            &gzipped(b"something else, which is long enough to be looked into: sixty-four bytes"),
            &["a gzip file"],
        ),
        (
            &zboot,
            &["EFI zboot", "tail -c +4097", "head -c 9 | gunzip > Image"],
        ),
        (&[0x91; 300], &["unknown kind"]),
        (&image(40, 1), &["big-endian"]),
        (&old, &["image_size is 0"]),
    ];
    for (bytes, parts) in cases {
        let path = place.file("kernel", bytes);
        let complaint = place.complaint("kernel = \"kernel\"").expect("a complaint");
        let begin = format!("vm \"a\": kernel = \"{}\": ", path.display());
        assert!(complaint.starts_with(&begin), "{complaint}");
        for part in *parts {
            assert!(complaint.contains(part), "{part:?} is not in {complaint}");
        }
    }
    let missing = place
        .complaint("kernel = \"nowhere\"")
        .expect("a complaint");
    assert!(
        missing.contains("No such file") && missing.contains("the description's folder"),
        "{missing}"
    );
    let folder = place.complaint("kernel = \"guests\"").expect("a complaint");
    assert!(folder.contains("it is a folder"), "{folder}");
    place.file("kernel", &image(40, 0));
    assert_eq!(place.complaint("kernel = \"kernel\""), None);
}

#[test]
fn unreadable_initrd_is_an_error() {
    let place = Place::new();
    place.file("kernel", &image(40, 0));
    for (bytes, word) in [
        (&b"text\n"[..], "a text file"),
        (&image(40, 0), "an arm64 kernel"),
        (b"\x7fELF", "an ELF file"),
        (b"", "empty"),
    ] {
        place.file("initrd", bytes);
        let complaint = place.complaint("initrd = \"initrd\"").expect("a complaint");
        assert!(
            complaint.contains("initrd = ") && complaint.contains(word),
            "{complaint}"
        );
    }
    // The check does not apply to a user's own kernel, or to a program.
    place.file("initrd", b"text\n");
    assert_eq!(
        place.complaint("kernel = \"kernel\"\ninitrd = \"initrd\""),
        None
    );
    assert_eq!(
        place.complaint("program = \"bench\"\ninitrd = \"initrd\""),
        None
    );
    for archive in [
        &b"070701"[..],
        &gzipped(b"070701"),
        b"\xfd7zXZ\0",
        b"\x28\xb5\x2f\xfd",
        b"\x02\x21\x4c\x18",
    ] {
        place.file("initrd", archive);
        assert_eq!(place.complaint("initrd = \"initrd\""), None);
    }
}

#[test]
fn memory_below_need_of_boot_files_is_an_error() {
    let place = Place::new();
    place.file("kernel", &image(40, 0));
    place.file("initrd", &[b'0'; 3 << 20]);
    let own = "kernel = \"kernel\"\ninitrd = \"initrd\"\n";
    let complaint = place
        .complaint(&format!("{own}memory = \"44M\""))
        .expect("too little");
    // 40 for the kernel, 4 for the initrd, 2 for the tree.
    assert!(
        complaint.contains("memory = \"44M\"") && complaint.contains("46 MiB"),
        "{complaint}"
    );
    assert_eq!(place.complaint(&format!("{own}memory = \"46M\"")), None);
    let linux = place.complaint("memory = \"64M\"").expect("too little");
    assert!(
        linux.contains("memory = \"64M\"") && linux.contains("raise it"),
        "{linux}"
    );
    assert_eq!(
        place.complaint("program = \"bench\"\nmemory = \"10M\""),
        None
    );
}

#[test]
fn unknown_program_error_lists_programs() {
    let place = Place::new();
    assert_eq!(place.complaint("program = \"bench\""), None);
    for name in ["bnech", "agent", "bare"] {
        let complaint = place
            .complaint(&format!("program = \"{name}\""))
            .expect("none");
        assert!(
            complaint.contains(&format!("program = \"{name}\""))
                && complaint.ends_with("it has bench"),
            "{complaint}"
        );
    }
}

#[test]
fn shipped_descriptions_name_existing_files() {
    let guests = crate::paths::Paths::discover()
        .expect("a checkout")
        .guests();
    for entry in std::fs::read_dir(&guests).expect("guests").flatten() {
        let file = entry.path();
        if file.extension().is_some_and(|ending| ending == "toml") {
            let system = System::load(&file).expect("a description");
            system.check_files(&guests).expect("good files");
            system.check_room().expect("room");
        }
    }
}

#[test]
fn machine_ram_must_hold_guests_and_hypervisor() {
    let two =
        "[[vm]]\nname = \"a\"\n[[vm]]\nname = \"b\"\n[[vm]]\nname = \"later\"\nautostart = false\n";
    let check = |mib: u64| {
        let system =
            System::parse(&format!("machine.memory_mib = {mib}\n{two}")).expect("a system");
        system
            .check_ram(46 << 20)
            .map_err(|error| format!("{error:#}"))
    };
    let why = check(1073).expect_err("too little");
    for part in [
        "machine.memory_mib = 1073",
        "1024 MiB",
        "46 MiB",
        "raise it to 1102",
        "autostart = false",
    ] {
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(check(1074), Ok(()));
}

#[test]
fn disk_is_in_whole_sectors() {
    let place = Place::new();
    place.file("good.img", &[0; 1024]);
    place.file("odd.img", &[0; 1025]);
    let file = |name: &str| place.complaint(&format!("disk = \"{name}\"\n"));
    assert_eq!(file("good.img"), None);
    let odd = file("odd.img").unwrap();
    for word in ["vm \"a\"", "disk = ", "odd.img", "truncate -s %512"] {
        assert!(odd.contains(word), "{odd}");
    }
    assert!(file("none.img").unwrap().contains("cannot be read"));
}
