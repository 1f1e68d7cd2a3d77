// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The parser of command lines.

use crate::event::MARK;
use crate::lifecycle::LifecycleRequest;
use crate::specs::{Arguments, SPECS, Spec, Verb};
use core::fmt;

/// The most words of a line that are examined. No command has this many.
const MAX_WORDS: usize = 6;
/// The unit of memory sizes in bytes: a block of stage 2.
pub const SIZE_UNIT: u64 = 2 << 20;
/// The most characters of a tag.
pub const MAX_TAG: usize = 16;
/// The number of log lines that are shown if the command gives none.
pub const DEFAULT_LOG_LINES: usize = 20;

/// A parsed command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `vm list`
    List,
    /// `vm info NAME`
    Info(&'a str),
    /// `vm start NAME` and the like
    Lifecycle(LifecycleRequest, &'a str),
    /// `vm mem NAME SIZE`: in bytes, a multiple of [`SIZE_UNIT`] above zero
    VmMemory(&'a str, u64),
    /// `tee stats [NAME]`
    TeeStats(Option<&'a str>),
    /// `cpu`
    Cpu,
    /// `mem`
    Memory,
    /// `log [N]`: at least 1
    Log(usize),
    /// `help [COMMAND]`
    Help,
    /// `echo on`, `echo off`
    Echo(bool),
    /// `stats`
    Stats,
}

/// The reason why a line is not a command. Its text is the answer of EL2; the other end may explain
/// more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError<'a> {
    /// The line has a tag or an option, and no other word.
    #[error("no command: try help")]
    Nothing,
    /// There is no such command. The second word is given if any command begins with the first.
    #[error("unknown command `{0}{behind}`: try help", behind = Behind(.1))]
    Unknown(&'a str, Option<&'a str>),
    /// A word is missing.
    #[error("write `{0}`")]
    Missing(&'static Spec),
    /// There is one word too many.
    #[error("not `{1}`: write `{0}`")]
    TooMany(&'static Spec, &'a str),
    /// A word is not a valid argument.
    #[error("not `{1}`: write `{0}`")]
    Wrong(&'static Spec, &'a str),
    /// The option is unknown.
    #[error("unknown option `{0}`: there is --json only")]
    Option(&'a str),
    /// The tag is malformed.
    #[error("a tag is # and 1 to 16 of A-Z a-z 0-9 _ -, then a blank")]
    Tag,
}

/// A word with a blank in front, or nothing.
struct Behind<'a>(&'a Option<&'a str>);

impl fmt::Display for Behind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(word) => write!(f, " {word}"),
            None => Ok(()),
        }
    }
}

/// A parsed line: a command, and the form of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The tag that the answer repeats, so that a program can find it.
    pub tag: Option<&'a str>,
    /// Whether the answer is JSON.
    pub json: bool,
    /// The command's entry in the table, if the words name a command.
    pub spec: Option<&'static Spec>,
    /// The command, or why there is none.
    pub command: Result<Command<'a>, CommandError<'a>>,
}

impl<'a> Request<'a> {
    /// Parses a line of printable ASCII. Returns `None` if it needs no answer: it has no words, or
    /// it is output of the monitor, which a terminal with echo sends back.
    pub fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().peekable();
        let mut request = Self {
            tag: None,
            json: false,
            spec: None,
            command: Err(CommandError::Nothing),
        };
        let mut wrong_tag = false;
        if let Some(tag) = words.peek().and_then(|word| word.strip_prefix('#')) {
            words.next();
            wrong_tag = !is_tag(tag);
            request.tag = Some(tag).filter(|_| !wrong_tag);
        } else {
            words.peek()?;
        }
        if words.peek().is_some_and(|word| is_echo(word)) {
            return None;
        }
        let mut list = heapless::Vec::<&str, MAX_WORDS>::new();
        let mut option = None;
        for word in words {
            if word == "--json" {
                request.json = true;
            } else if word.starts_with("--") {
                option = option.or(Some(word));
            } else {
                // No command takes as many words as a full list holds, so dropping further words
                // does not hide the error.
                let _ = list.push(word);
            }
        }
        let found = find(&list);
        if let Ok((spec, _)) = found {
            request.spec = Some(spec);
        }
        request.command = match (found, option) {
            _ if wrong_tag => Err(CommandError::Tag),
            (Err(error), _) => Err(error),
            (Ok(_), Some(option)) => Err(CommandError::Option(option)),
            (Ok((spec, arguments)), None) => spec.command(arguments),
        };
        Some(request)
    }
}

fn is_tag(tag: &str) -> bool {
    (1..=MAX_TAG).contains(&tag.len())
        && tag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// Returns whether some lines of the monitor, and no line of a user, begin with this word.
pub fn is_echo(word: &str) -> bool {
    word == MARK.trim_ascii_end() || word == "monitor:"
}

/// Returns the command and the words after it.
fn find<'a, 'w>(words: &'w [&'a str]) -> Result<(&'static Spec, &'w [&'a str]), CommandError<'a>> {
    let &first = words.first().ok_or(CommandError::Nothing)?;
    let fits = |length: usize| {
        let begin = words.get(..length)?;
        let whole =
            |spec: &&Spec| spec.begins_with(begin) && spec.path.split(' ').count() == length;
        Some((SPECS.iter().find(whole)?, &words[length..]))
    };
    fits(1).or_else(|| fits(2)).ok_or_else(|| {
        let known = SPECS.iter().any(|spec| spec.begins_with(&[first]));
        CommandError::Unknown(first, words.get(1).copied().filter(|_| known))
    })
}

impl Spec {
    fn command<'a>(&'static self, words: &[&'a str]) -> Result<Command<'a>, CommandError<'a>> {
        let most = match self.arguments {
            Arguments::None => 0,
            Arguments::VmAndSize | Arguments::Command => 2,
            Arguments::Vm | Arguments::AnyVm | Arguments::Count | Arguments::OnOff => 1,
        };
        if let Some(word) = words.get(most) {
            return Err(CommandError::TooMany(self, word));
        }
        let missing = CommandError::Missing(self);
        let wrong = |word| CommandError::Wrong(self, word);
        let word = |index: usize| words.get(index).copied();
        let first = word(0).ok_or(missing);
        Ok(match self.verb {
            Verb::List => Command::List,
            Verb::Info => Command::Info(first?),
            Verb::Lifecycle(order) => Command::Lifecycle(order, first?),
            Verb::VmMemory => {
                let (name, bytes) = (first?, word(1).ok_or(missing)?);
                Command::VmMemory(name, size(bytes).ok_or(wrong(bytes))?)
            }
            Verb::TeeStats => Command::TeeStats(word(0)),
            Verb::Cpu => Command::Cpu,
            Verb::Memory => Command::Memory,
            Verb::Log => Command::Log(match word(0) {
                Some(word) => count(word).ok_or(wrong(word))?,
                None => DEFAULT_LOG_LINES,
            }),
            Verb::Help => Command::Help,
            Verb::Echo => Command::Echo(match first? {
                "on" => true,
                "off" => false,
                other => return Err(wrong(other)),
            }),
            Verb::Stats => Command::Stats,
        })
    }
}

fn count(word: &str) -> Option<usize> {
    word.parse().ok().filter(|&number| number > 0)
}

/// Parses a size in bytes: a number followed by K, M or G.
fn size(word: &str) -> Option<u64> {
    let shift = match word.as_bytes().last()? {
        b'K' | b'k' => 10,
        b'M' | b'm' => 20,
        b'G' | b'g' => 30,
        _ => return None,
    };
    let digits = word.get(..word.len() - 1)?;
    // `parse` accepts a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let bytes = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    (bytes > 0 && bytes.is_multiple_of(SIZE_UNIT)).then_some(bytes)
}

#[cfg(test)]
mod tests;
