// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks that `docs/architecture.md`, "Unsafe code", names exactly the files of EL2 that have any.

use postern_tree::{files, read};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::path::Path;

/// The folders of EL2's code.
const FOLDERS: [&str; 3] = ["hypervisor", "mediator", "optee-proto"];

/// Returns whether the keyword is in the code; attributes such as `#[unsafe(no_mangle)]` do not
/// count.
fn has_unsafe(code: TokenStream) -> bool {
    let mut is_attribute = false;
    code.into_iter().any(|token| match token {
        TokenTree::Punct(punct) => {
            is_attribute = punct.as_char() == '#' || is_attribute && punct.as_char() == '!';
            false
        }
        TokenTree::Group(group) => !std::mem::take(&mut is_attribute) && has_unsafe(group.stream()),
        TokenTree::Ident(ident) => ident == "unsafe",
        TokenTree::Literal(_) => false,
    })
}

fn parse(text: &str) -> TokenStream {
    text.parse().expect("a source file consists of tokens")
}

#[test]
fn document_names_every_file_with_unsafe_code() {
    let sources = files().into_iter().filter(|path| {
        FOLDERS.iter().any(|folder| path.starts_with(folder))
            && path.extension().is_some_and(|extension| extension == "rs")
    });
    let found: BTreeSet<String> = sources
        .filter(|path| has_unsafe(parse(&read(path))))
        .map(|path| path.display().to_string())
        .collect();
    let document = read(Path::new("docs/architecture.md"));
    let section = document
        .split("\n## ")
        .find(|section| section.starts_with("Unsafe code\n"))
        .expect("a section about unsafe code");
    let code = section.split('`').skip(1).step_by(2);
    let named: BTreeSet<String> = code
        .filter(|word| word.ends_with(".rs") && !word.starts_with("tests/"))
        .map(|word| {
            // In the document a file of a crate is written with the crate's name.
            let folder = if word.starts_with("arch/src/") {
                "hypervisor"
            } else {
                "hypervisor/src"
            };
            format!("{folder}/{word}")
        })
        .collect();
    assert_eq!(found, named);
}

#[test]
fn only_the_unsafe_keyword_is_found() {
    assert!(has_unsafe(parse("fn f() { let a = (unsafe { g() }); }")));
    assert!(has_unsafe(parse("#[inline] unsafe fn f() {}")));
    assert!(!has_unsafe(parse(
        "#[unsafe(no_mangle)] fn f() {} // unsafe"
    )));
    assert!(!has_unsafe(parse(
        "#![forbid(unsafe_code)] /// unsafe\nfn f() {}"
    )));
    assert!(!has_unsafe(parse(
        "#![allow(unsafe)] fn f() -> &str { \"unsafe\" }"
    )));
}
