// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes a program's parts as an SPDX document (version 2.3, ISO/IEC 5962), from cargo's output.

use super::{hex, text};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Cargo's description of a program.
#[derive(Debug)]
pub struct SbomSource<'a> {
    /// The name of the program's package.
    pub package: &'a str,
    /// The output of `cargo metadata` for the whole workspace.
    pub metadata: &'a Value,
    /// The output of `cargo tree --prefix none --format {p}`: the packages that are compiled for
    /// this program.
    pub tree: &'a str,
    /// The content of `Cargo.lock`.
    pub lock: &'a str,
    /// The output of `rustc --version`.
    pub toolchain: &'a str,
    /// The document's date, in seconds since 1970.
    pub date: u64,
}

/// Returns the SPDX document.
///
/// # Errors
/// Fails when cargo's outputs contradict each other.
pub fn spdx(source: &SbomSource<'_>) -> Result<Value> {
    let compiled: BTreeSet<(&str, &str)> =
        source.tree.lines().filter_map(name_and_version).collect();
    let checksums = checksums(source.lock)?;
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let mut ids = BTreeMap::new();
    let mut root = None;
    let mut packages = Vec::new();
    for package in list(&source.metadata["packages"]) {
        let key = (text(&package["name"]), text(&package["version"]));
        if compiled.contains(&key) {
            let id = identifier(key);
            ids.insert(text(&package["id"]).to_owned(), id.clone());
            let is_program = key.0 == source.package;
            if is_program {
                root = Some(id.clone());
            }
            let checksum = checksums.get(&(key.0.to_owned(), key.1.to_owned()));
            packages.push(one(&package, &id, checksum, is_program));
        }
    }
    anyhow::ensure!(
        packages.len() == compiled.len(),
        "cargo tree names {} packages, of which cargo metadata knows {}",
        compiled.len(),
        packages.len()
    );
    let root = root.context("the program is not among its packages")?;
    packages.push(library(source.toolchain));
    packages.sort_by_key(|package| text(&package["SPDXID"]).to_owned());

    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", &root)];
    relations.push(relation(&root, "DEPENDS_ON", LIBRARY));
    for node in list(&source.metadata["resolve"]["nodes"]) {
        let Some(from) = ids.get(text(&node["id"])) else {
            continue;
        };
        for dependency in list(&node["deps"]) {
            let Some(to) = ids.get(text(&dependency["pkg"])) else {
                continue;
            };
            let kinds = list(&dependency["dep_kinds"]);
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                relations.push(relation(from, "DEPENDS_ON", to));
            } else if kinds.iter().any(|kind| kind["kind"] == "build") {
                relations.push(relation(to, "BUILD_DEPENDENCY_OF", from));
            }
        }
    }
    relations.sort_by_key(Value::to_string);
    let name = root.trim_start_matches("SPDXRef-");
    let digest = hex(&Sha256::digest(json!([packages, relations]).to_string()));
    Ok(json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/{name}-{digest}"),
        "creationInfo": {
            "created": timestamp(source.date),
            "creators": [concat!("Tool: postern-tool-", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages,
        "relationships": relations,
    }))
}

/// The identifier of Rust's own libraries, which cargo does not list.
const LIBRARY: &str = "SPDXRef-rust-library";

fn library(toolchain: &str) -> Value {
    let version = toolchain.split_whitespace().nth(1).unwrap_or("NOASSERTION");
    json!({
        "name": "The Rust libraries core, alloc and, on the host, std",
        "SPDXID": LIBRARY,
        "versionInfo": version,
        "comment": toolchain.trim(),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "MIT OR Apache-2.0",
        "copyrightText": "NOASSERTION",
    })
}

fn one(package: &Value, id: &str, checksum: Option<&String>, is_program: bool) -> Value {
    let (name, version) = (text(&package["name"]), text(&package["version"]));
    let from_registry = !package["source"].is_null();
    let licence = package["license"].as_str().map_or_else(
        || "NOASSERTION".to_owned(),
        // An older way to write it, which SPDX does not have.
        |licence| licence.replace(" / ", " OR ").replace('/', " OR "),
    );
    let mut entry = json!({
        "name": name,
        "SPDXID": id,
        "versionInfo": version,
        // Builders use mirrors. The package URL and the checksum say which crate it is.
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": licence,
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": if is_program { "APPLICATION" } else { "LIBRARY" },
    });
    if from_registry {
        entry["externalRefs"] = json!([{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": format!("pkg:cargo/{name}@{version}"),
        }]);
    }
    if let Some(checksum) = checksum {
        entry["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": checksum }]);
    }
    entry
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

/// Returns a package's identifier in the document: letters, digits, dots and dashes.
fn identifier((name, version): (&str, &str)) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '-'
        }
    };
    format!("SPDXRef-{name}-{version}")
        .chars()
        .map(plain)
        .collect()
}

/// Returns the first two words of a line such as `libc v0.2.1 (*)`.
fn name_and_version(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_whitespace();
    Some((words.next()?, words.next()?.strip_prefix('v')?))
}

/// Returns the checksums in `Cargo.lock`, by crate name and version.
fn checksums(lock: &str) -> Result<BTreeMap<(String, String), String>> {
    let lock: toml::Table = lock.parse().context("Cargo.lock is no TOML")?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let field = |package: &toml::Value, name| Some(package.get(name)?.as_str()?.to_owned());
    Ok(packages
        .into_iter()
        .flatten()
        .filter_map(|package| {
            let key = (field(package, "name")?, field(package, "version")?);
            Some((key, field(package, "checksum")?))
        })
        .collect())
}

/// Formats a time in seconds since 1970 as ISO 8601 in UTC.
fn timestamp(seconds: u64) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + u64::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hours, minutes) = (rest / 3600, rest / 60 % 60);
    format!(
        "{year:04}-{:02}-{:02}T{hours:02}:{minutes:02}:{:02}Z",
        month + 1,
        days + 1,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_iso_8601() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_703_980_800, "2023-12-31T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(seconds), expected);
        }
    }

    fn source<'a>(metadata: &'a Value, tree: &'a str) -> SbomSource<'a> {
        SbomSource {
            package: "app",
            metadata,
            tree,
            lock: "[[package]]\nname = \"lib\"\nversion = \"1.2.3+4\"\nchecksum = \"abcd\"\n",
            toolchain: "rustc 1.2.3 (abc 2026-01-01)\n",
            date: 0,
        }
    }

    fn metadata() -> Value {
        json!({
            "packages": [
                { "id": "a", "name": "app", "version": "0.1.0", "license": "MIT", "source": null },
                { "id": "l", "name": "lib", "version": "1.2.3+4", "license": "MIT/Zlib", "source": "registry" },
                { "id": "b", "name": "builder", "version": "2.0.0", "license": null, "source": "registry" },
                { "id": "n", "name": "app-lib", "version": "0.1.0", "license": "MIT", "source": null },
                { "id": "d", "name": "dev", "version": "3.0.0", "license": "MIT", "source": "registry" },
            ],
            "resolve": { "nodes": [
                { "id": "a", "deps": [
                    { "pkg": "l", "dep_kinds": [{ "kind": null }] },
                    { "pkg": "b", "dep_kinds": [{ "kind": "build" }] },
                    { "pkg": "d", "dep_kinds": [{ "kind": "dev" }] },
                ]},
                { "id": "l", "deps": [] },
            ]},
        })
    }

    #[test]
    fn sbom_lists_exactly_the_compiled_packages() {
        let tree =
            "app v0.1.0 (/x)\nlib v1.2.3+4\nbuilder v2.0.0 (proc-macro)\nlib v1.2.3+4 (*)\n\n";
        let document = spdx(&source(&metadata(), tree)).unwrap();
        let packages = document["packages"].as_array().unwrap();
        let names: Vec<&str> = packages.iter().map(|p| text(&p["SPDXID"])).collect();
        assert_eq!(
            names,
            [
                "SPDXRef-app-0.1.0",
                "SPDXRef-builder-2.0.0",
                "SPDXRef-lib-1.2.3-4",
                LIBRARY
            ]
        );
        assert_eq!(packages[2]["licenseDeclared"], "MIT OR Zlib");
        assert_eq!(packages[2]["checksums"][0]["checksumValue"], "abcd");
        assert_eq!(
            packages[2]["externalRefs"][0]["referenceLocator"],
            "pkg:cargo/lib@1.2.3+4"
        );
        assert_eq!(packages[1]["licenseDeclared"], "NOASSERTION");
        let relations = document["relationships"].as_array().unwrap();
        for expected in [
            relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-app-0.1.0"),
            relation("SPDXRef-app-0.1.0", "DEPENDS_ON", "SPDXRef-lib-1.2.3-4"),
            relation("SPDXRef-app-0.1.0", "DEPENDS_ON", LIBRARY),
            relation(
                "SPDXRef-builder-2.0.0",
                "BUILD_DEPENDENCY_OF",
                "SPDXRef-app-0.1.0",
            ),
        ] {
            assert!(relations.contains(&expected), "{expected}");
        }
        assert_eq!(relations.len(), 4);
    }

    #[test]
    fn package_missing_in_metadata_is_an_error() {
        let wrong = spdx(&source(&metadata(), "app v0.1.0\nother v1.0.0\n"));
        assert!(wrong.unwrap_err().to_string().contains("names 2 packages"));
    }
}
