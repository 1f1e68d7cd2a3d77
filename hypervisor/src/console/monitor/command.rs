// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a command line says.

use super::specs::{Arguments, SPECS, Spec, Verb};
use super::system::Order;
use crate::boot::BLOCK_SIZE;
use core::fmt;

/// The most words of a line that are looked at; no command has so many.
const MAX_WORDS: usize = 6;
/// The most characters of a tag.
pub const MAX_TAG: usize = 16;
/// Lines of the log that are shown unless a number is given.
pub const DEFAULT_LOG_LINES: usize = 20;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `vm list`
    List,
    /// `vm info NAME`
    Info(&'a str),
    /// `vm start NAME` and the like
    Order(Order, &'a str),
    /// `vm mem NAME SIZE`, in bytes, a multiple of [`BLOCK_SIZE`] above zero
    VmMemory(&'a str, u64),
    /// `tee stats [NAME]`
    TeeStats(Option<&'a str>),
    /// `cpu`
    Cpu,
    /// `mem`
    Memory,
    /// `log [N]`, at least 1
    Log(usize),
    /// `help [COMMAND]`: the words, for which there is a command
    Help([Option<&'a str>; 2]),
    /// `terminal on`, `terminal off`
    Terminal(bool),
    /// `stats`
    Stats,
}

/// Why a line is no command, and what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mistake<'a> {
    /// A tag or an option, and no word beside it.
    #[error("no command: try help")]
    Nothing,
    /// The first word.
    #[error("unknown command `{0}`: try help")]
    Unknown(&'a str),
    /// The second word.
    #[error("`{first}` goes on with {}, not with `{second}`", Next(.first))]
    UnknownNext {
        /// The first word.
        first: &'a str,
        /// The one that does not fit.
        second: &'a str,
    },
    /// The second word is missing.
    #[error("`{}` goes on with {}", .0, Next(.0))]
    NoNext(&'a str),
    /// A name is missing.
    #[error("`{path}` needs {}: write `{path}{}`", needs(*.arguments), .arguments.text())]
    Missing {
        /// The command's words.
        path: &'static str,
        /// What it takes.
        arguments: Arguments,
    },
    /// A word too many.
    #[error("`{word}` is a word too many: write `{path}{}`", .arguments.text())]
    TooMany {
        /// The word.
        word: &'a str,
        /// The command's words.
        path: &'static str,
        /// What it takes.
        arguments: Arguments,
    },
    /// An option.
    #[error("unknown option `{0}`: there is --json only")]
    Option(&'a str),
    /// A tag.
    #[error("a tag is # and 1 to 16 of A-Z a-z 0-9 _ -, then a blank")]
    Tag,
    /// A size.
    #[error("`{0}` is no size: write a multiple of 2 MiB, such as 512M or 1G")]
    Size(&'a str),
    /// A number.
    #[error("`{0}` is no number of lines: write a number from 1 on")]
    Count(&'a str),
    /// Neither on nor off.
    #[error("`terminal` goes on with on or off, not with `{0}`")]
    OnOff(&'a str),
    /// Help on what does not exist.
    #[error("no command begins with `{}`: `help` lists them", Words(.0))]
    Topic([Option<&'a str>; 2]),
}

/// The words that may follow a first one.
struct Next<'a>(&'a str);

impl fmt::Display for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let specs = SPECS.iter().filter(|spec| spec.begins_with(&[self.0]));
        let words = specs.filter_map(|spec| spec.path.split(' ').nth(1));
        for (index, word) in words.enumerate() {
            write!(f, "{}{word}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Words with a blank between.
struct Words<'a>(&'a [Option<&'a str>]);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.iter().flatten().enumerate() {
            write!(f, "{}{word}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

const fn needs(arguments: Arguments) -> &'static str {
    match arguments {
        Arguments::VmAndSize => "the name of a virtual machine and a size",
        Arguments::OnOff => "on or off",
        _ => "the name of a virtual machine",
    }
}

/// A line: a command, and how it is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What a program wants to find in the answer.
    pub tag: Option<&'a str>,
    /// The answer is to be JSON.
    pub json: bool,
    /// The command's words as far as they were understood; may be empty.
    pub path: &'static str,
    /// What is to be done.
    pub command: Result<Command<'a>, Mistake<'a>>,
}

impl<'a> Request<'a> {
    /// Reads a line of printable ASCII. `None` where there is nothing to answer: no words, or what
    /// the monitor itself says, which a terminal with echo sends back.
    pub fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().peekable();
        let mut request = Self {
            tag: None,
            json: false,
            path: "",
            command: Err(Mistake::Nothing),
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
                // A command of so many words has too many before the last of these.
                let _ = list.push(word);
            }
        }
        let found = find(&list);
        if let Ok((spec, _)) = found {
            request.path = spec.path;
        }
        request.command = match (found, option) {
            _ if wrong_tag => Err(Mistake::Tag),
            (Err(mistake), _) => Err(mistake),
            (Ok(_), Some(option)) => Err(Mistake::Option(option)),
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

/// Whether no line of a user's begins with this word, but some of the monitor's do.
pub fn is_echo(word: &str) -> bool {
    word == "@postern" || word == "monitor:"
}

/// The command, and the words behind it.
fn find<'a, 'w>(words: &'w [&'a str]) -> Result<(&'static Spec, &'w [&'a str]), Mistake<'a>> {
    let &first = words.first().ok_or(Mistake::Nothing)?;
    let fits = |length: usize| {
        let begin = words.get(..length)?;
        let whole =
            |spec: &&Spec| spec.begins_with(begin) && spec.path.split(' ').count() == length;
        Some((SPECS.iter().find(whole)?, &words[length..]))
    };
    fits(1)
        .or_else(|| fits(2))
        .ok_or_else(|| match words.get(1) {
            _ if !SPECS.iter().any(|spec| spec.begins_with(&[first])) => Mistake::Unknown(first),
            Some(second) => Mistake::UnknownNext { first, second },
            None => Mistake::NoNext(first),
        })
}

impl Spec {
    fn command<'a>(&'static self, words: &[&'a str]) -> Result<Command<'a>, Mistake<'a>> {
        let most = match self.arguments {
            Arguments::None => 0,
            Arguments::VmAndSize | Arguments::Command => 2,
            Arguments::Vm | Arguments::AnyVm | Arguments::Count | Arguments::OnOff => 1,
        };
        if let Some(word) = words.get(most) {
            return Err(Mistake::TooMany {
                word,
                path: self.path,
                arguments: self.arguments,
            });
        }
        let missing = Mistake::Missing {
            path: self.path,
            arguments: self.arguments,
        };
        let word = |index: usize| words.get(index).copied();
        let first = word(0).ok_or(missing);
        Ok(match self.verb {
            Verb::List => Command::List,
            Verb::Info => Command::Info(first?),
            Verb::Order(order) => Command::Order(order, first?),
            Verb::VmMemory => Command::VmMemory(first?, size(word(1).ok_or(missing)?)?),
            Verb::TeeStats => Command::TeeStats(word(0)),
            Verb::Cpu => Command::Cpu,
            Verb::Memory => Command::Memory,
            Verb::Log => Command::Log(word(0).map_or(Ok(DEFAULT_LOG_LINES), count)?),
            Verb::Help => {
                let topic = [word(0), word(1)];
                if !SPECS.iter().any(|spec| spec.begins_with(words)) {
                    return Err(Mistake::Topic(topic));
                }
                Command::Help(topic)
            }
            Verb::Terminal => Command::Terminal(match first? {
                "on" => true,
                "off" => false,
                other => return Err(Mistake::OnOff(other)),
            }),
            Verb::Stats => Command::Stats,
        })
    }
}

fn count(word: &str) -> Result<usize, Mistake<'_>> {
    let number = word.parse().ok().filter(|&number| number > 0);
    number.ok_or(Mistake::Count(word))
}

/// Bytes: a number with K, M or G behind it.
fn size(word: &str) -> Result<u64, Mistake<'_>> {
    let shift = match word.as_bytes().last() {
        Some(b'K' | b'k') => 10,
        Some(b'M' | b'm') => 20,
        Some(b'G' | b'g') => 30,
        _ => return Err(Mistake::Size(word)),
    };
    // `parse` takes a sign.
    let digits = word
        .get(..word.len() - 1)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse::<u64>().ok());
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|&bytes| bytes > 0 && bytes.is_multiple_of(BLOCK_SIZE))
        .ok_or(Mistake::Size(word))
}
