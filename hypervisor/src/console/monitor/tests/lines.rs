// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lines of bytes.

use super::super::plain::{Assembler, LineError, Typed};
use proptest::prelude::*;

fn typed(bytes: &[u8]) -> Vec<Typed> {
    let mut assembler = Assembler::new();
    let typed = bytes.iter().map(|&byte| assembler.push(byte));
    typed.filter(|typed| *typed != Typed::Nothing).collect()
}

#[test]
fn plain_lines() {
    let line = |text: &str| Typed::Line(text.try_into().unwrap());
    let long = "x".repeat(crate::console::monitor::MAX_LINE);
    let too_long = [long.as_bytes(), b"x\nok\n"].concat();
    let long_echo = ["@postern ".as_bytes(), long.as_bytes(), b"\nok\n"].concat();
    for (bytes, expected) in [
        (&b"stats\n"[..], vec![line("stats")]),
        (b"a\rb\nc", vec![line("a"), line("b")]),
        (b"\n \n", vec![]),
        (b"\r \r", vec![Typed::Enter, Typed::Enter]),
        (b" a\tb \n", vec![line(" a b ")]),
        (b"sx\x7ftx\x08ats\n", vec![line("stats")]),
        (b"\x7f\x7fa\n", vec![line("a")]),
        (b"half\x15a\nhalf\x03b\n", vec![line("a"), line("b")]),
        (b"\x1b[A\x15a\n", vec![line("a")]),
        (
            b"a\x00b\nok\n",
            vec![Typed::Wrong(LineError::NotText), line("ok")],
        ),
        (
            b"\xc3\xa4\nok\n",
            vec![Typed::Wrong(LineError::NotText), line("ok")],
        ),
        (b"\x1b[A\n", vec![Typed::Wrong(LineError::NotText)]),
        (b"\x1b\n", vec![Typed::Wrong(LineError::NotText)]),
        (
            &too_long,
            vec![Typed::Wrong(LineError::TooLong), line("ok")],
        ),
        (&too_long[1..], vec![line(&long), line("ok")]),
        (&long_echo, vec![line("ok")]),
    ] {
        assert_eq!(typed(bytes), expected, "{:?}", bytes.escape_ascii());
    }
}

proptest! {
    /// Nothing that is typed makes it stumble.
    #[test]
    fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        bytes.extend(b"\nend\n");
        prop_assert_eq!(typed(&bytes).pop(), Some(Typed::Line("end".try_into().unwrap())));
    }
}
