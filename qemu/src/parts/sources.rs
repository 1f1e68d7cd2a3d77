// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the machine's own apt sources for the mirror that its user chose and the keyring that
//! signs it, in both file formats: one-line and deb822.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// The environment variable with a mirror, for machines whose sources have none.
pub const MIRROR_VARIABLE: &str = "POSTERN_MIRROR";
/// The keyrings of Debian's keyring package, with the keys of all suites.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];
/// The names of suites in Debian's main archive, without an ending such as `-updates`.
const SUITES: &[&str] = &[
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
];

/// A mirror of Debian's archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The mirror's address, as apt writes it.
    pub uri: String,
    /// The keyring that verifies the mirror's release files.
    pub keyring: PathBuf,
}

/// One source of packages, as a file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AptSource {
    /// The source's address.
    uri: String,
    suite: String,
    components: Vec<String>,
    /// The keyring file that the source names, if any.
    signed_by: Option<PathBuf>,
}

/// Returns the mirror that this machine uses, or the one that `POSTERN_MIRROR` names.
///
/// # Errors
/// Fails when there is no mirror or no keyring; says how to name one.
pub fn mirror() -> Result<Mirror> {
    let named = std::env::var(MIRROR_VARIABLE).ok();
    let named = named.filter(|uri| !uri.is_empty());
    let sources = match &named {
        Some(_) => Vec::new(),
        None => read_all(Path::new("/etc/apt"))?,
    };
    let source = sources.into_iter().find(AptSource::is_debian);
    let signed_by = source.as_ref().and_then(|found| found.signed_by.clone());
    let Some(uri) = named.or(source.map(|found| found.uri)) else {
        bail!(
            "this machine's apt sources name no mirror of Debian; \
             name one with `make MIRROR=http://…`"
        );
    };
    let keyring = KEYRINGS
        .iter()
        .map(PathBuf::from)
        .chain(signed_by)
        .find(|file| file.is_file())
        .context("Debian's keyring is missing; install the package debian-archive-keyring")?;
    Ok(Mirror { uri, keyring })
}

fn read_all(folder: &Path) -> Result<Vec<AptSource>> {
    let mut files = vec![folder.join("sources.list")];
    if let Ok(entries) = std::fs::read_dir(folder.join("sources.list.d")) {
        let mut more: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        more.sort();
        files.extend(more);
    }
    let mut sources = Vec::new();
    for file in files {
        let parse = match file.extension().and_then(|ending| ending.to_str()) {
            Some("list") => parse_lines,
            Some("sources") => parse_deb822,
            _ => continue,
        };
        match std::fs::read_to_string(&file) {
            Ok(text) => sources.extend(parse(&text)),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => {}
            Err(why) => {
                return Err(why).with_context(|| format!("{} cannot be read", file.display()));
            }
        }
    }
    Ok(sources)
}

/// Parses the one-line format: `deb [options] uri suite component…`.
#[must_use]
pub fn parse_lines(text: &str) -> Vec<AptSource> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<AptSource> {
    let line = line.split('#').next()?.trim();
    let mut rest = line.strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t']) {
        return None;
    }
    let mut signed_by = None;
    if let Some(options) = rest.trim_start().strip_prefix('[') {
        let (options, after) = options.split_once(']')?;
        signed_by = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .and_then(keyring_file);
        rest = after;
    }
    let mut words = rest.split_whitespace().map(String::from);
    Some(AptSource {
        uri: words.next()?,
        suite: words.next()?,
        components: words.collect(),
        signed_by,
    })
}

/// Parses the deb822 format: paragraphs of `Field: values`.
#[must_use]
pub fn parse_deb822(text: &str) -> Vec<AptSource> {
    let mut sources = Vec::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for paragraph in lines.split(|line| line.trim().is_empty()) {
        let field = |name: &str| -> Vec<&str> {
            let mut values = Vec::new();
            let mut inside = false;
            for line in paragraph {
                if line.starts_with([' ', '\t']) {
                    if inside {
                        values.extend(line.split_whitespace());
                    }
                } else if let Some((key, value)) = line.split_once(':') {
                    inside = key.eq_ignore_ascii_case(name);
                    if inside {
                        values.extend(value.split_whitespace());
                    }
                }
            }
            values
        };
        let off = |word: &&str| ["no", "false", "off", "0"].contains(&word.to_lowercase().as_str());
        if !field("Types").contains(&"deb") || field("Enabled").first().is_some_and(off) {
            continue;
        }
        let signed_by = field("Signed-By")
            .first()
            .and_then(|&file| keyring_file(file));
        for uri in field("URIs") {
            for suite in field("Suites") {
                sources.push(AptSource {
                    uri: uri.into(),
                    suite: suite.into(),
                    components: field("Components").into_iter().map(String::from).collect(),
                    signed_by: signed_by.clone(),
                });
            }
        }
    }
    sources
}

/// Returns the path of a keyring; apt also allows fingerprints and whole keys there.
fn keyring_file(value: &str) -> Option<PathBuf> {
    let first = value.split(',').next()?;
    first.starts_with('/').then(|| first.into())
}

impl AptSource {
    /// Returns whether it is a mirror of Debian's main archive, which has all suites.
    fn is_debian(&self) -> bool {
        let endings = ["-updates", "-proposed-updates", "-backports"];
        let name = endings
            .iter()
            .find_map(|ending| self.suite.strip_suffix(ending))
            .unwrap_or(&self.suite);
        SUITES.contains(&name)
            && self.components.iter().any(|component| component == "main")
            && !self.uri.starts_with("cdrom:")
    }
}
