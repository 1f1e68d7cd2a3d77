// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks that each source file names its licence in its first line, so that a single copied file
//! still does.

use postern_tree::{files, read};
use std::path::Path;

/// The text after the comment mark.
const TAG: &str = "SPDX-License-Identifier: Apache-2.0 OR MIT";

/// Returns the required first line of a file of this name, or `None` where no header is required.
fn header(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    match extension {
        "rs" | "S" => Some(format!("// {TAG}")),
        "ld" => Some(format!("/* {TAG} */")),
        "sh" => Some(format!("# {TAG}")),
        _ if name == "Makefile" || path == Path::new(".ci/run") => Some(format!("# {TAG}")),
        _ => None,
    }
}

#[test]
fn every_source_file_names_its_licence() {
    let mut checked = 0;
    let mut without = Vec::new();
    for path in files() {
        let Some(header) = header(&path) else {
            continue;
        };
        checked += 1;
        let text = read(&path);
        // A script's first line names its interpreter.
        let first = text.lines().find(|line| !line.starts_with("#!/"));
        if first != Some(header.as_str()) {
            without.push(format!(
                "{}: its first line is not: {header}",
                path.display()
            ));
        }
    }
    assert!(checked > 500, "only {checked} source files were found");
    assert!(without.is_empty(), "{}", without.join("\n"));
}

#[test]
fn header_comment_fits_the_file_kind() {
    assert_eq!(header(Path::new("a/b.rs")).unwrap(), format!("// {TAG}"));
    assert_eq!(header(Path::new("a/b.ld")).unwrap(), format!("/* {TAG} */"));
    assert_eq!(header(Path::new("Makefile")).unwrap(), format!("# {TAG}"));
    assert_eq!(header(Path::new("README.md")), None);
}
