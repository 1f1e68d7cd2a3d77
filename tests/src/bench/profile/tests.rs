// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;

#[test]
fn instructions_between_marks_belong_to_the_call() {
    let watch = TraceMarks {
        mark_item: 1,
        mark_call: 2,
        image: 0x1000,
        bytes: 0x100,
    };
    let mut seen = TraceReader::default();
    // An item whose call leaves no trace, and one with two calls; an instruction that restarts
    // counts once.
    for pc in [
        1, 0x1000, 2, 2, 0x1004, 1, 2, 0x1008, 0x1008, 0x100c, 2, 0x1010, 2, 0x1014, 2, 1, 1,
        0x2000,
    ] {
        seen.add(&watch, pc);
    }
    assert_eq!(seen.items, [vec![], vec![0x8, 0xc, 0x14]]);
}

#[test]
fn qemu_trace_line_gives_address() {
    let line = "Trace 0: 0x7f4e4c0 [0000000000000000/0000000040201abc/0000/ff020001] \n";
    assert_eq!(address(line), Some(0x4020_1abc));
    assert_eq!(address("Stopped execution of TB chain"), None);
}

#[test]
fn instruction_belongs_to_innermost_own_function() {
    let text = "0x10\ncore::ptr::read\n/rustc/abc/library/core/src/ptr.rs:1\n\
                <mediator::Books<T> as a::B>::find::<X>\n/x/mediator/src/books.rs:7 (discriminator 2)\n\
                0x14\nvectors\n??:?\n";
    let places = read_places(text);
    assert_eq!(places[&0x10].function, "Books::find");
    assert_eq!(places[&0x10].line, "mediator/src/books.rs:7");
    assert_eq!(places[&0x14].line, "assembly");
    assert_eq!(
        short_name("hypervisor::exit::handler::call"),
        "handler::call"
    );
}
