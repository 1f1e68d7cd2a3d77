// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests the reading of apt's output. Fetching the parts tests the calls of apt itself.

use super::*;

#[test]
fn print_uris_output_gives_files_and_sizes() {
    let text = "\
Reading package lists...
'http://m/pool/z_1.3+b1_arm64.deb' zlib1g_1%3a1.3+b1_arm64.deb 85116 SHA256:ab
'http://m/pool/t.dsc' arm-trusted-firmware_2.12.1+dfsg-1.dsc 1672 SHA256:cd
Need to get 85.1 kB
";
    let files = wanted(text);
    assert_eq!(
        files,
        [
            Wanted {
                file: "zlib1g_1%3a1.3+b1_arm64.deb".into(),
                size: 85116
            },
            Wanted {
                file: "arm-trusted-firmware_2.12.1+dfsg-1.dsc".into(),
                size: 1672
            },
        ]
    );
    assert_eq!(version_of(&files[0].file), "1:1.3+b1");
    assert_eq!(version_of(&files[1].file), "2.12.1+dfsg-1");
}

#[test]
fn first_alternative_of_each_dependency_counts() {
    let text = "\
Package: x
Depends: libc6 (>= 2.38), libteec2:any, dracut | initramfs-tools, linux-binary-7.2 (= 7.2-1)
Description: Depends: not this
Pre-Depends: libgcc-s1
Suggests: libno
";
    let names: Vec<&str> = dependencies(text).collect();
    assert_eq!(
        names,
        [
            "libc6",
            "libteec2",
            "dracut",
            "linux-binary-7.2",
            "libgcc-s1"
        ]
    );
}

#[test]
fn only_the_named_keyring_verifies() {
    let mirror = Mirror {
        uri: "http://m/debian".into(),
        keyring: "/k.gpg".into(),
    };
    assert_eq!(
        sources_list(
            Suites {
                binaries: Some("sid"),
                sources: "trixie",
                architecture: ARCHITECTURE
            },
            &mirror
        ),
        "deb [signed-by=/k.gpg] http://m/debian sid main\n\
         deb-src [signed-by=/k.gpg] http://m/debian trixie main\n"
    );
    let text = configuration(Path::new("/c"), ARCHITECTURE);
    assert!(text.contains("AllowUnauthenticated \"false\""));
    assert!(text.contains("Dir::State::lists \"/c/apt/lists\""));
}
