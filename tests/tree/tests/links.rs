// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks that the documents' links have targets. Other sites are not asked: the check needs no
//! network.

use postern_tree::markdown::{anchors, links};
use postern_tree::{files, read, top};
use std::path::{Component, Path, PathBuf};

/// Returns the documents that come with the source.
fn documents() -> Vec<PathBuf> {
    let mut files = files();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files
}

/// Appends a relative path to a folder's and resolves `..`; returns `None` when it leaves the tree.
fn join(folder: &Path, relative: &str) -> Option<PathBuf> {
    let mut path = folder.to_path_buf();
    for part in Path::new(relative).components() {
        match part {
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

/// Returns what is wrong with a link in a document, if anything is.
fn mistake(document: &Path, target: &str) -> Option<&'static str> {
    let (path, anchor) = match target.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (target, None),
    };
    if path.starts_with("https://") || path.starts_with("mailto:") {
        return None;
    }
    if path.contains(':') {
        return Some("links to other sites begin with https://");
    }
    let file = if path.is_empty() {
        document.to_path_buf()
    } else {
        let Some(file) = join(document.parent().unwrap_or(Path::new("")), path) else {
            return Some("it leaves the tree");
        };
        file
    };
    if !top().join(&file).exists() {
        return Some("there is no such file");
    }
    let anchor = anchor?;
    if file.extension().is_none_or(|extension| extension != "md") {
        return Some("only documents have anchors");
    }
    let known = anchors(&read(&file)).iter().any(|known| known == anchor);
    (!known).then_some("that document has no such heading")
}

#[test]
fn every_link_has_a_target() {
    let (mut checked, mut mistakes) = (0, Vec::new());
    for document in documents() {
        for link in links(&read(&document)) {
            checked += 1;
            if let Some(why) = mistake(&document, &link.target) {
                mistakes.push(format!(
                    "{}:{}: {}: {why}",
                    document.display(),
                    link.line,
                    link.target
                ));
            }
        }
    }
    assert!(checked > 150, "only {checked} links were found");
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

#[test]
fn every_document_is_linked() {
    let documents = documents();
    let mut linked = Vec::new();
    for document in &documents {
        let folder = document.parent().unwrap_or(Path::new(""));
        for link in links(&read(document)) {
            let path = link.target.split('#').next().unwrap_or_default();
            linked.extend(join(folder, path));
        }
    }
    // A README is found by its folder, and .github is read by the hosting site.
    let lost: Vec<String> = documents
        .iter()
        .filter(|path| !path.ends_with("README.md") && !path.starts_with(".github"))
        .filter(|path| !linked.contains(path))
        .map(|path| path.display().to_string())
        .collect();
    assert!(lost.is_empty(), "no document links to: {}", lost.join(", "));
}

#[test]
fn broken_links_are_reported() {
    let readme = Path::new("README.md");
    assert_eq!(mistake(readme, "docs/architecture.md#boot"), None);
    assert_eq!(mistake(readme, "https://example.com/#x"), None);
    for wrong in [
        "docs/no-such-file.md",
        "docs/architecture.md#no-such-heading",
        "#no-such-heading",
        "../README.md",
        "/README.md",
        "http://example.com/",
        "Makefile#x",
    ] {
        assert!(mistake(readme, wrong).is_some(), "{wrong}");
    }
}
