// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests sources as Debian's installer, container images and people write them.

use super::*;

/// Returns the first mirror in a list of sources.
fn debian(sources: Vec<AptSource>) -> Option<(String, Option<PathBuf>)> {
    let found = sources.into_iter().find(AptSource::is_debian)?;
    Some((found.uri, found.signed_by))
}

#[test]
fn one_line_sources_parse() {
    let text = "\
# deb cdrom:[Debian GNU/Linux 12]/ bookworm main
deb cdrom:[Debian]/ bookworm main
deb http://security.example.org/debian-security bookworm-security main
deb-src http://source.example.org/debian bookworm main
deb [arch=amd64] https://other.example.org/apt stable-tools main
deb\t[arch=amd64 signed-by=/usr/share/keyrings/k.gpg] http://mirror.example.org/debian bookworm main non-free # near
deb http://later.example.org/debian bookworm main
debx http://bad.example.org bookworm main
deb http://short.example.org
";
    let sources = parse_lines(text);
    assert_eq!(sources.len(), 5);
    assert_eq!(
        debian(sources),
        Some((
            "http://mirror.example.org/debian".into(),
            Some("/usr/share/keyrings/k.gpg".into())
        ))
    );
}

#[test]
fn deb822_sources_parse() {
    let text = "\
Types: deb
# a comment inside
URIs: http://security.example.org/debian-security
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.example.org/debian
Suites: trixie
Components: main

types: deb deb-src
uris: http://mirror.example.org/debian
 http://second.example.org/debian
suites: trixie trixie-updates
components: main
signed-by:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
";
    let sources = parse_deb822(text);
    assert_eq!(sources.len(), 5);
    assert_eq!(
        debian(sources),
        Some(("http://mirror.example.org/debian".into(), None))
    );
}

#[test]
fn only_debian_main_archive_mirrors_count() {
    let of = |line: &str| debian(parse_lines(line)).is_some();
    assert!(of("deb http://m trixie-updates main"));
    assert!(of("deb http://m sid contrib main"));
    assert!(!of("deb http://m trixie contrib"));
    assert!(!of("deb http://m trixie-security main"));
    assert!(!of("deb http://m noble main"));
    assert!(!of("deb http://m ./"));
    assert!(!of("deb [signed-by=/k http://m trixie main"));
}

#[test]
fn folder_may_mix_both_formats() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sources.list.d")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("sources.list.d/z.list", "deb http://z sid main\n");
    write(
        "sources.list.d/debian.sources",
        "Types: deb\nURIs: http://d\nSuites: bookworm\nComponents: main\n",
    );
    write("sources.list.d/old.list.save", "deb http://save sid main\n");
    let sources = read_all(folder.path()).unwrap();
    let uris: Vec<&str> = sources.iter().map(|source| source.uri.as_str()).collect();
    assert_eq!(uris, ["http://d", "http://z"]);
}
