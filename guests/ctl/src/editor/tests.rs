// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests keys and the resulting screen.

use super::*;
use crate::complete::candidates;
use crate::screen::Screen;
use proptest::prelude::*;

const UP: &[u8] = b"\x1b[A";
const DOWN: &[u8] = b"\x1b[B";
const RIGHT: &[u8] = b"\x1b[C";
const LEFT: &[u8] = b"\x1b[D";
const HOME: &[u8] = b"\x1b[1~";
const END: &[u8] = b"\x1bOF";
const DELETE: &[u8] = b"\x1b[3~";

/// An editor with a screen, and the lines that were entered.
struct TestTerminal {
    editor: Editor,
    screen: Screen,
    entered: Vec<String>,
}

fn names() -> Vec<String> {
    ["a", "builder", "blue-2"].map(str::to_owned).to_vec()
}

/// Takes a byte and does what the editor asks for; returns the line that it ends.
fn press(editor: &mut Editor, screen: &mut Screen, byte: u8) -> Option<String> {
    match editor.receive(byte, screen).unwrap() {
        Edited::Nothing | Edited::End => None,
        Edited::Line(line) => {
            editor.show(screen).unwrap();
            Some(line)
        }
        Edited::Complete => {
            let before = editor.before_cursor().to_owned();
            let names = names();
            editor
                .complete(&candidates(&before, &names), screen)
                .unwrap();
            None
        }
    }
}

impl TestTerminal {
    fn new() -> Self {
        let mut user = Self {
            editor: Editor::new(),
            screen: Screen::new(),
            entered: Vec::new(),
        };
        user.editor.show(&mut user.screen).unwrap();
        user
    }

    fn type_in(&mut self, keys: &[u8]) {
        for &byte in keys {
            let line = press(&mut self.editor, &mut self.screen, byte);
            self.entered.extend(line);
        }
    }

    /// Returns the line on the screen, with a bar for the cursor.
    fn shown(&self) -> String {
        let (mut line, column) = self.screen.line();
        while line.len() < column {
            line.push(' ');
        }
        line.insert(column, '|');
        line.strip_prefix(PROMPT).expect("a prompt").into()
    }
}

fn shown(keys: &[&[u8]]) -> String {
    let mut user = TestTerminal::new();
    user.type_in(&keys.concat());
    user.shown()
}

#[test]
fn keys_edit_the_line() {
    for (keys, expected) in [
        (&[&b""[..]][..], "|"),
        (&[b"cpu"], "cpu|"),
        (&[b"cu", LEFT, b"p"], "cp|u"),
        (&[b"cu", b"\x02", b"p", b"\x06", b"s"], "cpus|"),
        (&[b"cpu", HOME, b"x"], "x|cpu"),
        (&[b"cpu", b"\x01", b"x", END, b"y"], "xcpuy|"),
        (&[b"cpu", b"\x01", b"x", b"\x05", b"y"], "xcpuy|"),
        (
            &[b"cpu", LEFT, LEFT, LEFT, LEFT, LEFT, b"x", RIGHT],
            "xc|pu",
        ),
        (&[b"cpu", RIGHT, RIGHT, b"x"], "cpux|"),
        (&[b"cpu\x7f\x08"], "c|"),
        (&[b"\x7f\x7fa"], "a|"),
        (&[b"cpu", LEFT, b"\x7f"], "c|u"),
        (&[b"cpu", LEFT, DELETE, DELETE], "cp|"),
        (&[b"cpu", LEFT, LEFT, b"\x04"], "c|u"),
        (&[b"vm list", LEFT, LEFT, b"\x0b"], "vm li|"),
        (&[b"vm list", LEFT, LEFT, b"\x15"], "|"),
        (&[b"vm list a  ", b"\x17"], "vm list |"),
        (&[b"vm list a", LEFT, b"\x17"], "vm |a"),
        (&[b"\x17\x17a"], "a|"),
        (&[b"vm \x03a"], "a|"),
        (&[b"vm \x0clist"], "vm list|"),
        // A byte without a meaning changes nothing.
        (&[b"cpu\x00\x07\x12\x80\xff\xc3\xa4"], "cpu|"),
        (&[b"cpu\x1b[5~\x1b[99~\x1bx\x1b[Z\x1b[1;5D"], "cp|u"),
        (&[b"cpu\x1b[15~\x1bOP"], "cpu|"),
    ] {
        assert_eq!(shown(keys), expected, "{:?}", keys.concat().escape_ascii());
    }
}

#[test]
fn entered_lines_return_from_history() {
    let mut user = TestTerminal::new();
    user.type_in(b"one\rtwo\ntwo\r\n  \rthree\r");
    assert_eq!(user.entered, ["one", "two", "two", "  ", "three"]);
    user.type_in(b"draft");
    let mut seen = Vec::new();
    for key in [UP, UP, UP, UP, DOWN, DOWN, DOWN, DOWN] {
        user.type_in(key);
        seen.push(user.shown());
    }
    let expected = [
        "three|", "two|", "one|", "one|", "two|", "three|", "draft|", "draft|",
    ];
    assert_eq!(seen, expected);
    // A line from the history can be changed, and then is a new one.
    user.type_in(&[UP, UP, b"x\r", b"\x10"].concat());
    assert_eq!(user.entered.last().unwrap(), "twox");
    assert_eq!(user.shown(), "twox|");
    user.type_in(b"\x10\x10\x0e\x03");
    assert_eq!(user.shown(), "|");
    for line in 0..30 {
        user.type_in(format!("line {line}\r").as_bytes());
    }
    user.type_in(&UP.repeat(99));
    assert_eq!(user.shown(), "line 14|");
}

#[test]
fn screen_shows_prompt_line_and_lists() {
    let mut user = TestTerminal::new();
    user.type_in(b"cpu\rme\x03log");
    let expected = "postern> cpu\npostern> me^C\npostern> log";
    assert_eq!(user.screen.text(), expected);
    user.type_in(b"\x0c");
    assert_eq!(user.screen.text(), "postern> log");
}

#[test]
fn long_line_scrolls_in_a_window() {
    let mut user = TestTerminal::new();
    let line: String = ('a'..='z').cycle().take(MAX_LINE).collect();
    user.type_in(line.as_bytes());
    assert_eq!(user.shown(), format!("{}|", &line[MAX_LINE - VIEW..]));
    assert_eq!(user.screen.bells(), 0);
    user.type_in(b"x");
    assert_eq!(user.screen.bells(), 1);
    user.type_in(HOME);
    assert_eq!(user.shown(), format!("|{}", &line[..VIEW]));
    user.type_in(b"\r");
    assert_eq!(user.entered, [line]);
}

#[test]
fn tab_completes_the_word_before_the_cursor() {
    for (keys, expected) in [
        (&b"v\t"[..], "vm |"),
        (b"vm l\t", "vm list |"),
        (b"vm re\t", "vm res|"),
        (b"vm rese\t", "vm reset |"),
        (b"vm start b\t", "vm start b|"),
        (b"vm start bu\t", "vm start builder |"),
        (b"vm mem a\t", "vm mem a |"),
        (b"vm mem a \t", "vm mem a |"),
        (b"tee \ta\t", "tee stats a |"),
        (b"help vm inf\t", "help vm info |"),
        (b"help tee\t\t", "help tee stats |"),
        (b"ec\t", "ec|"),
        (b"cpu --\t", "cpu --json |"),
        (b"--json tee st\t", "--json tee stats |"),
        (b"x\t", "x|"),
        (b"vm start nobody\t", "vm start nobody|"),
        (b"a b c d e f\t", "a b c d e f|"),
    ] {
        assert_eq!(shown(&[keys]), expected, "{:?}", keys.escape_ascii());
    }
    // The cursor is in the middle of the line.
    assert_eq!(shown(&[b"vm inf b", LEFT, LEFT, b"\t"]), "vm info| b");
    assert_eq!(shown(&[b"vm infb", LEFT, b"\t"]), "vm info |b");
}

#[test]
fn tab_lists_several_candidates() {
    let mut user = TestTerminal::new();
    user.type_in(b"vm info \tb\t");
    let expected = "postern> vm info \na  builder  blue-2\npostern> vm info b\nbuilder  blue-2\npostern> vm info b";
    assert_eq!(user.screen.text(), expected);
    let mut user = TestTerminal::new();
    user.type_in(b"\t");
    let expected = "postern> \nvm  tee  cpu  mem  log  help\npostern> ";
    assert_eq!(user.screen.text(), expected);
    let mut user = TestTerminal::new();
    user.type_in(b"x\t");
    assert_eq!(user.screen.bells(), 1);
}

#[test]
fn ctrl_d_on_empty_line_ends() {
    let mut editor = Editor::new();
    let mut press = |byte| editor.receive(byte, &mut String::new()).unwrap();
    assert_eq!(press(b'x'), Edited::Nothing);
    assert_eq!(press(0x04), Edited::Nothing);
    assert_eq!(press(0x15), Edited::Nothing);
    assert_eq!(press(0x04), Edited::End);
}

/// Generates keys with a meaning more often than other bytes.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => "[a-z -]{1,12}".prop_map(String::into_bytes),
        2 => prop_oneof!["vm ", "b", "tee ", "help ", "vm start b"].prop_map(String::into_bytes),
        6 => prop::sample::select(vec![UP, DOWN, LEFT, RIGHT, HOME, END, DELETE]).prop_map(<[u8]>::to_vec),
        4 => prop::sample::select(b"\x01\x02\x03\x04\x05\x06\x08\x09\x0b\x0c\x0e\x10\x15\x17\x7f\r\n".to_vec())
            .prop_map(|byte| vec![byte]),
        1 => proptest::collection::vec(any::<u8>(), 1..4),
    ]
}

proptest! {
    /// The screen shows the line around the cursor, and can be redrawn at any time.
    #[test]
    fn screen_shows_the_line_around_the_cursor(keys in proptest::collection::vec(key(), 0..60)) {
        let mut editor = Editor::new();
        let mut screen = Screen::new();
        editor.show(&mut screen).unwrap();
        for &byte in keys.concat().iter() {
            press(&mut editor, &mut screen, byte);
            let (line, cursor) = (editor.line(), editor.before_cursor().len());
            let (text, column) = screen.line();
            let first = cursor + PROMPT.len() - column;
            let end = line.len().min(first + VIEW);
            let expected = format!("{PROMPT}{}", &line[first..end]);
            prop_assert_eq!(text, expected.trim_end());
            prop_assert!(line.len() <= MAX_LINE && (end == line.len() || end - first == VIEW));

            let mut again = Screen::new();
            editor.show(&mut again).unwrap();
            prop_assert_eq!(again.line(), screen.line());
        }
    }
}
