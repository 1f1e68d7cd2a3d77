// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes the bench's figures into `docs/performance.md`, where they are not edited by hand.

use crate::Lab;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

/// The folder of the pictures.
pub const PICTURES: &str = "docs/performance";

fn file(lab: &Lab) -> PathBuf {
    lab.paths.root().join("docs/performance.md")
}

/// Replaces the text between the marks of `part` by `new`.
fn replace(text: &str, part: &str, new: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- {part} -->\n"),
        format!("<!-- end of {part} -->"),
    );
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{}\n\n{end}{after}", new.trim()))
}

/// Writes figures into the document.
///
/// # Errors
/// Fails when the document has no such part.
pub fn write(lab: &Lab, part: &str, new: &str) -> Result<()> {
    let file = file(lab);
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let text = replace(&text, part, new);
    let text = text.with_context(|| format!("{} has no part {part:?}", file.display()))?;
    std::fs::write(&file, text).with_context(|| file.display().to_string())
}

/// Writes pictures beside the document.
///
/// # Errors
/// Fails when they cannot be written.
pub fn keep(lab: &Lab, pictures: &[(&str, String)]) -> Result<()> {
    let folder = lab.paths.root().join(PICTURES);
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    for (name, text) in pictures {
        ensure!(text.ends_with("</svg>\n"), "{name} is no picture");
        let file = folder.join(name);
        std::fs::write(&file, text).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_between_marks_is_replaced() {
        let text = "a\n<!-- x -->\nold\n<!-- end of x -->\nb\n";
        let new = replace(text, "x", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- x -->\n\nnew\n\n<!-- end of x -->\nb\n");
        assert_eq!(replace(&new, "x", "new").unwrap(), new);
        assert_eq!(replace(text, "y", "new"), None);
    }
}
