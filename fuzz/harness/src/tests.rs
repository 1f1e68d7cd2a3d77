//! The corpus in the repository, without a fuzzer.

use std::path::Path;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 5] = [
    ("message", crate::message::run),
    ("page_list", crate::page_list::run),
    ("conversation", crate::conversation::run),
    ("devices", crate::devices::run),
    ("boot_tree", crate::boot_tree::run),
];

fn replay(name: &str) {
    let target = TARGETS
        .iter()
        .find(|target| target.0 == name)
        .expect(name)
        .1;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../corpus")
        .join(name);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the target's corpus") {
        let path = entry.expect("an entry").path();
        // Where a promise is broken, this is the input.
        println!("{}", path.display());
        target(&std::fs::read(&path).expect("a file"));
        count += 1;
    }
    assert!(count >= 5, "only {count} inputs in {}", folder.display());
}

#[test]
fn message() {
    replay("message");
}

#[test]
fn page_list() {
    replay("page_list");
}

#[test]
fn conversation() {
    replay("conversation");
}

#[test]
fn devices() {
    replay("devices");
}

#[test]
fn boot_tree() {
    replay("boot_tree");
}
