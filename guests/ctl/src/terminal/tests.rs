// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests a user's keys, the monitor's answers, and the resulting screen.

use super::*;
use crate::screen::Screen;
use std::fmt::Write;

/// A terminal, its screen, and the commands for the monitor.
struct TestTerminal {
    terminal: Terminal,
    screen: Screen,
    asked: Vec<String>,
}

impl TestTerminal {
    fn new() -> Self {
        let terminal = Terminal::new(vec!["a".into(), "builder".into()]);
        let mut screen = Screen::new();
        screen.write_str(&terminal.line()).unwrap();
        Self {
            terminal,
            screen,
            asked: Vec::new(),
        }
    }

    fn then(&mut self, entered: Entered, screen: &str) -> Entered {
        self.screen.write_str(screen).unwrap();
        if let Entered::Command(command) = &entered {
            self.asked.push(command.line.clone());
        }
        entered
    }

    fn types(&mut self, keys: &[u8]) -> Entered {
        let mut screen = String::new();
        let entered = self.terminal.keys(keys, &mut screen);
        self.then(entered, &screen)
    }

    fn takes_answer(&mut self, answer: Result<&str, &str>) -> Entered {
        let mut screen = String::new();
        let entered = self.terminal.answered(answer, &mut screen);
        self.then(entered, &screen)
    }

    fn others_say(&mut self, text: &str) {
        let screen = self.terminal.above(text);
        self.screen.write_str(&screen).unwrap();
    }
}

fn done(command: &str) -> String {
    format!(r#"{{"event":"answer","command":"{command}","ok":true,"vm":"a"}}"#)
}

#[test]
fn commands_and_answers_appear_in_order() {
    let mut user = TestTerminal::new();
    user.types(b"vm ki\ta\r");
    assert_eq!(user.asked, ["vm kill a"]);
    user.takes_answer(Ok(&done("vm kill")));
    user.types(b"tee\rhelp mem\r\n\r");
    user.types(b"cpu\r");
    user.takes_answer(Err("it has hung up"));
    user.types(b"cpu");
    assert_eq!(
        user.screen.text(),
        "postern> vm kill a\n\
         vm a ends\n\
         postern> tee\n\
         monitor: `tee` is followed by stats\n\
         postern> help mem\n\
         mem  the use of the machine's RAM\n\
         postern> \n\
         postern> cpu\n\
         monitor: it has hung up\n\
         postern> cpu"
    );
}

/// Keys are not lost while an answer is pending, and commands are executed one after the other.
#[test]
fn keys_wait_for_the_answer() {
    let mut user = TestTerminal::new();
    user.types(b"vm pause a\rvm resume a\rmem");
    assert_eq!(user.asked, ["vm pause a"]);
    user.takes_answer(Ok(&done("vm pause")));
    assert_eq!(user.asked, ["vm pause a", "vm resume a"]);
    user.types(b"x");
    user.takes_answer(Ok(&done("vm resume")));
    // An answer without a command changes nothing.
    user.takes_answer(Ok(&done("vm kill")));
    assert_eq!(
        user.screen.text(),
        "postern> vm pause a\nvm a pauses\npostern> vm resume a\nvm a goes on\npostern> memx"
    );
}

#[test]
fn ctrl_c_gives_up_the_answer() {
    let mut user = TestTerminal::new();
    user.types(b"cpu\rgone");
    user.types(b"too\x03mem\r");
    assert_eq!(user.asked, ["cpu", "mem"]);
    assert_eq!(user.screen.text(), "postern> cpu\n^C\npostern> mem\n");
    assert_eq!(user.takes_answer(Ok(&done("vm kill"))), Entered::Nothing);
    assert_eq!(user.types(b"\x04"), Entered::End);
}

#[test]
fn other_output_appears_above_the_line() {
    let mut user = TestTerminal::new();
    user.types(b"vm kill a\x1b[D\x1b[D");
    user.others_say("[    1.0] info: x\n");
    user.others_say("one\r\ntwo\r\n");
    assert_eq!(
        user.screen.text(),
        "[    1.0] info: x\none\ntwo\npostern> vm kill a"
    );
    assert_eq!(user.screen.line(), ("postern> vm kill a".into(), 16));
    user.types(b"\r");
    user.others_say("meanwhile\n");
    user.takes_answer(Ok(&done("vm kill")));
    assert_eq!(
        user.screen.text(),
        "[    1.0] info: x\none\ntwo\npostern> vm kill a\nmeanwhile\nvm a ends\npostern> "
    );
}

/// Meanwhile the screen shows something else.
#[test]
fn hidden_line_reappears() {
    let mut user = TestTerminal::new();
    user.types(b"vm kill a\rmem");
    user.terminal.hide(true);
    let mut kept = user.terminal.above("said\n");
    user.terminal.answered(Ok(&done("vm kill")), &mut kept);
    kept += &user.terminal.above("also said\n");
    assert_eq!(kept, "said\r\nvm a ends\r\nalso said\r\n");
    user.terminal.hide(false);
    assert_eq!(user.terminal.line(), "postern> ");
    let mut screen = String::new();
    user.terminal.keys(b"x", &mut screen);
    assert_eq!(screen, "memx");
}
