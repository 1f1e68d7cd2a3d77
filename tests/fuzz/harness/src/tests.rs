// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs the targets on the corpus in the repository, without a fuzzer.

use crate::world::Reach;
use std::path::Path;

/// Passes each of its inputs to a target.
fn replay(name: &str, mut target: impl FnMut(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../corpus")
        .join(name);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the target's corpus") {
        let path = entry.expect("an entry").path();
        // When a property is violated, this is the input.
        println!("{}", path.display());
        target(&std::fs::read(&path).expect("a file"));
        count += 1;
    }
    assert!(count >= 5, "only {count} inputs in {}", folder.display());
}

#[test]
fn message() {
    replay("message", crate::message::run);
}

#[test]
fn page_list() {
    let mut reach = Reach::default();
    replay("page_list", |data| reach += crate::page_list::reach(data));
    let least = Reach {
        in_sessions: 40,
        buffers: 5,
        replies: 40,
        allocated: 8,
    };
    assert!(reach.is_at_least(&least), "{reach:?}");
}

#[test]
fn conversation() {
    let mut reach = Reach::default();
    replay("conversation", |data| {
        reach += crate::conversation::reach(data);
    });
    let least = Reach {
        in_sessions: 300,
        buffers: 100,
        replies: 300,
        allocated: 12,
    };
    assert!(reach.is_at_least(&least), "{reach:?}");
}

#[test]
fn conversation_ffa() {
    let mut reach = Reach::default();
    replay("conversation_ffa", |data| {
        reach += crate::conversation_ffa::reach(data);
    });
    let least = Reach {
        in_sessions: 60,
        buffers: 0,
        replies: 40,
        allocated: 20,
    };
    assert!(reach.is_at_least(&least), "{reach:?}");
}

#[test]
fn devices() {
    replay("devices", crate::devices::run);
}

#[test]
fn rings() {
    replay("rings", crate::rings::run);
}

#[test]
fn ffa_descriptor() {
    replay("ffa_descriptor", crate::ffa_memory::descriptor);
}

#[test]
fn ffa_fragments() {
    replay("ffa_fragments", crate::ffa_memory::fragments);
}

#[test]
fn ffa_registers() {
    replay("ffa_registers", crate::ffa_registers::run);
}

#[test]
fn boot_tree() {
    replay("boot_tree", crate::boot_tree::run);
}
