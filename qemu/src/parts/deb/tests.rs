// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests packages made here, valid and damaged.

use super::*;
use std::io::Write;

fn tar_of(files: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        // The builder refuses paths that lead out, so the header is written directly.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        let data: &[u8] = match kind {
            tar::EntryType::Regular => text.as_bytes(),
            tar::EntryType::Symlink | tar::EntryType::Link => {
                header.set_link_name(text).unwrap();
                &[]
            }
            _ => &[],
        };
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A member of an archive: its name and its bytes.
type Member<'a> = (&'a str, &'a [u8]);

fn deb_of(members: &[Member<'_>]) -> Vec<u8> {
    let mut builder = ar::Builder::new(Vec::new());
    for (name, data) in members {
        let header = ar::Header::new(name.as_bytes().to_vec(), data.len() as u64);
        builder.append(&header, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn sample() -> Vec<u8> {
    use tar::EntryType as T;
    tar_of(&[
        ("./", T::Directory, ""),
        ("./usr/bin/tool", T::Regular, "#!/bin/sh\n"),
        ("./usr/lib/libx.so.1", T::Symlink, "libx.so.1.2"),
        ("usr/bin/again", T::Link, "./usr/bin/tool"),
        ("./usr/share/doc/skip", T::Regular, "not wanted"),
    ])
}

fn expected() -> Vec<Entry> {
    let link = |path: &str, target: &str, symbolic| Entry {
        path: path.into(),
        content: Content::Link {
            target: target.into(),
            symbolic,
        },
    };
    vec![
        Entry {
            path: "usr/bin/tool".into(),
            content: Content::File {
                mode: 0o644,
                data: b"#!/bin/sh\n".to_vec(),
            },
        },
        link("usr/lib/libx.so.1", "libx.so.1.2", true),
        link("usr/bin/again", "usr/bin/tool", false),
    ]
}

fn xz(data: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    writer.write_all(data).unwrap();
    writer.finish().unwrap()
}

fn gz(data: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(data).unwrap();
    writer.finish().unwrap()
}

fn read_bytes(deb: &[u8]) -> Result<Vec<Entry>> {
    read_from(deb, |path| !path.contains("/doc/"))
}

#[test]
fn files_and_links_read_from_all_compressions() {
    let data = sample();
    let forms: [(&str, Vec<u8>); 3] = [
        ("data.tar", data.clone()),
        ("data.tar.gz", gz(&data)),
        ("data.tar.xz", xz(&data)),
    ];
    for (name, bytes) in forms {
        let deb = deb_of(&[
            ("debian-binary", b"2.0\n"),
            ("control.tar.xz", b"whatever"),
            (name, &bytes),
        ]);
        assert_eq!(read_bytes(&deb).unwrap(), expected(), "{name}");
    }
}

#[test]
fn damaged_packages_are_errors() {
    let good = xz(&sample());
    let cut = &good[..good.len() / 2];
    let outside = tar_of(&[("./../etc/passwd", tar::EntryType::Regular, "x")]);
    let cases: [(&[Member<'_>], &str); 5] = [
        (&[("debian-binary", b"2.0\n")], "no data.tar"),
        (&[("data.tar", b"")], "no debian-binary"),
        (
            &[("debian-binary", b"3.0\n"), ("data.tar", b"")],
            "format 3.0",
        ),
        (
            &[("debian-binary", b"2.0\n"), ("data.tar.lzo", b"")],
            "an unknown format",
        ),
        (
            &[("debian-binary", b"2.0\n"), ("data.tar", &outside)],
            "leads out",
        ),
    ];
    for (members, wanted) in cases {
        let error = format!("{:#}", read_bytes(&deb_of(members)).unwrap_err());
        assert!(error.contains(wanted), "{error:?} is not {wanted:?}");
    }
    assert!(
        read_bytes(&deb_of(&[
            ("debian-binary", b"2.0\n"),
            ("data.tar.xz", cut)
        ]))
        .is_err()
    );
    assert!(read_bytes(b"no archive at all").is_err());
}
