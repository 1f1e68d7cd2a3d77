// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lines from bytes, and their echo.

use super::super::session::{Echo, Entered, LineError, MAX_LINE, Session};
use proptest::prelude::*;

/// Returns the entered lines and the echo, where each line is answered by `answer`.
fn typed(bytes: &[u8], answer: &str) -> (Vec<Entered>, String) {
    let (mut session, mut lines, mut shown) = (Session::new(), Vec::new(), String::new());
    for &byte in bytes {
        let mut echo = Echo::new();
        if let Some(line) = session.receive(byte, &mut echo) {
            shown += &echo;
            shown += answer;
            echo.clear();
            lines.push(line);
            session.answered(None, &mut echo);
        }
        shown += &echo;
    }
    (lines, shown)
}

#[test]
fn lines_are_assembled_from_bytes() {
    let line = |text: &str| Ok(text.try_into().unwrap());
    let long = "x".repeat(MAX_LINE);
    let too_long = [long.as_bytes(), b"x\nok\n"].concat();
    let long_echo = ["@postern ".as_bytes(), long.as_bytes(), b"\nok\n"].concat();
    for (bytes, expected) in [
        (&b"stats\n"[..], vec![line("stats")]),
        (b"a\rb\nc", vec![line("a"), line("b")]),
        (
            b"cpu\r\nmem\n\n\n\x15log\r\n",
            vec![line("cpu"), line("mem"), line("log")],
        ),
        (b"\n \n", vec![]),
        (b" a\tb \n", vec![line(" a b ")]),
        (b"sx\x7ftx\x08ats\n", vec![line("stats")]),
        (b"\x7f\x7fa\n", vec![line("a")]),
        (b"half\x15a\nhalf\x03b\n", vec![line("a"), line("b")]),
        (b"\x1b[A\x15a\n", vec![line("a")]),
        (b"a\x00b\nok\n", vec![Err(LineError::NotText), line("ok")]),
        (b"\xc3\xa4\nok\n", vec![Err(LineError::NotText), line("ok")]),
        (b"\x1b[A\n", vec![Err(LineError::NotText)]),
        (b"\x1b\n", vec![Err(LineError::NotText)]),
        (&too_long, vec![Err(LineError::TooLong), line("ok")]),
        (&too_long[1..], vec![line(&long), line("ok")]),
        (&long_echo, vec![line("ok")]),
    ] {
        let said = (expected, String::new());
        assert_eq!(typed(bytes, ""), said, "{:?}", bytes.escape_ascii());
    }
}

#[test]
fn enter_turns_on_the_echo() {
    for (bytes, expected) in [
        (&b"cpu\r\r\n"[..], "A\npostern> "),
        (b"\rcpu\r\n\r", "postern> cpu\nA\npostern> \npostern> "),
        (
            b"\rcx\x7f\x7f\x7fmem\r",
            "postern> cx\x08 \x08\x08 \x08mem\nA\npostern> ",
        ),
        (b"\rhalf\x15mem", "postern> half\r\x1b[Kpostern> mem"),
        (b"\rhalf\x03mem", "postern> half\r\x1b[Kpostern> mem"),
        // A faulty line without text is not Enter, and an LF alone comes from a program.
        (b"\x1b\r", "A\n"),
        (b"\n\n", ""),
        (b" \r", ""),
    ] {
        let shown = typed(bytes, "A\n").1;
        assert_eq!(shown, expected, "{:?}", bytes.escape_ascii());
    }
    let full = [b"\r".as_slice(), "x".repeat(MAX_LINE + 1).as_bytes()].concat();
    let shown = typed(&full, "").1;
    assert_eq!(shown, format!("postern> {}\x07", "x".repeat(MAX_LINE)));
    let mut session = Session::new();
    let mut echo = Echo::new();
    session.answered(Some(true), &mut echo);
    assert_eq!((echo.as_str(), session.has_echo()), ("postern> ", true));
    echo.clear();
    session.answered(Some(false), &mut echo);
    assert_eq!((echo.as_str(), session.has_echo()), ("", false));
}

proptest! {
    /// No sequence of bytes breaks the session, and the echo of each byte has room.
    #[test]
    fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        bytes.extend(b"\nend\n");
        prop_assert_eq!(typed(&bytes, "").0.pop(), Some(Ok("end".try_into().unwrap())));
    }
}
