// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests a user's keys, the monitor's answers, and the resulting screen.

use super::*;
use crate::screen::Screen;
use std::fmt::Write;

/// A terminal, its screen, and the commands for the monitor.
struct Desk {
    terminal: Terminal,
    screen: Screen,
    asked: Vec<String>,
}

impl Desk {
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

    fn hears(&mut self, answer: Result<&str, &str>) -> Entered {
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
    let mut desk = Desk::new();
    desk.types(b"vm ki\ta\r");
    assert_eq!(desk.asked, ["vm kill a"]);
    desk.hears(Ok(&done("vm kill")));
    desk.types(b"tee\rhelp mem\r\n\r");
    desk.types(b"cpu\r");
    desk.hears(Err("it has hung up"));
    desk.types(b"cpu");
    assert_eq!(
        desk.screen.text(),
        "postern> vm kill a\n\
         vm a ends\n\
         postern> tee\n\
         monitor: `tee` goes on with stats\n\
         postern> help mem\n\
         mem  where the machine's RAM has gone\n\
         postern> \n\
         postern> cpu\n\
         monitor: it has hung up\n\
         postern> cpu"
    );
}

/// Keys are not lost while an answer is pending, and commands are executed one after the other.
#[test]
fn keys_wait_for_the_answer() {
    let mut desk = Desk::new();
    desk.types(b"vm pause a\rvm resume a\rmem");
    assert_eq!(desk.asked, ["vm pause a"]);
    desk.hears(Ok(&done("vm pause")));
    assert_eq!(desk.asked, ["vm pause a", "vm resume a"]);
    desk.types(b"x");
    desk.hears(Ok(&done("vm resume")));
    // An answer without a command changes nothing.
    desk.hears(Ok(&done("vm kill")));
    assert_eq!(
        desk.screen.text(),
        "postern> vm pause a\nvm a pauses\npostern> vm resume a\nvm a goes on\npostern> memx"
    );
}

#[test]
fn ctrl_c_gives_up_the_answer() {
    let mut desk = Desk::new();
    desk.types(b"cpu\rgone");
    desk.types(b"too\x03mem\r");
    assert_eq!(desk.asked, ["cpu", "mem"]);
    assert_eq!(desk.screen.text(), "postern> cpu\n^C\npostern> mem\n");
    assert_eq!(desk.hears(Ok(&done("vm kill"))), Entered::Nothing);
    assert_eq!(desk.types(b"\x04"), Entered::End);
}

#[test]
fn other_output_appears_above_the_line() {
    let mut desk = Desk::new();
    desk.types(b"vm kill a\x1b[D\x1b[D");
    desk.others_say("[    1.0] info: x\n");
    desk.others_say("one\r\ntwo\r\n");
    assert_eq!(
        desk.screen.text(),
        "[    1.0] info: x\none\ntwo\npostern> vm kill a"
    );
    assert_eq!(desk.screen.line(), ("postern> vm kill a".into(), 16));
    desk.types(b"\r");
    desk.others_say("meanwhile\n");
    desk.hears(Ok(&done("vm kill")));
    assert_eq!(
        desk.screen.text(),
        "[    1.0] info: x\none\ntwo\npostern> vm kill a\nmeanwhile\nvm a ends\npostern> "
    );
}

/// Meanwhile the screen shows something else.
#[test]
fn hidden_line_reappears() {
    let mut desk = Desk::new();
    desk.types(b"vm kill a\rmem");
    desk.terminal.hide(true);
    let mut kept = desk.terminal.above("said\n");
    desk.terminal.answered(Ok(&done("vm kill")), &mut kept);
    kept += &desk.terminal.above("also said\n");
    assert_eq!(kept, "said\r\nvm a ends\r\nalso said\r\n");
    desk.terminal.hide(false);
    assert_eq!(desk.terminal.line(), "postern> ");
    let mut screen = String::new();
    desk.terminal.keys(b"x", &mut screen);
    assert_eq!(screen, "memx");
}
