// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes JSON objects (RFC 8259).

use core::fmt::{self, Display, Write};

/// Writes the members of an object or an array.
///
/// What it writes to takes everything: its errors are ignored.
pub struct Writer<'o> {
    out: &'o mut dyn Write,
    /// A comma stands before the next member.
    begun: bool,
}

impl<'o> Writer<'o> {
    /// Begins an object.
    pub fn object(out: &'o mut dyn Write) -> Self {
        let _ = out.write_char('{');
        Self { out, begun: false }
    }

    /// Ends the object.
    pub fn end(self) {
        let _ = self.out.write_char('}');
    }

    fn name(&mut self, name: &str) {
        if core::mem::replace(&mut self.begun, true) {
            let _ = self.out.write_char(',');
        }
        let _ = write!(self.out, "\"{name}\":");
    }

    /// Writes a number.
    pub fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        let _ = write!(self.out, "{number}");
    }

    /// Writes `true` or `false`.
    pub fn boolean(&mut self, name: &str, value: bool) {
        self.name(name);
        let _ = self.out.write_str(if value { "true" } else { "false" });
    }

    /// Writes a string.
    pub fn text(&mut self, name: &str, text: &dyn Display) {
        self.name(name);
        let _ = write!(self.out, "\"{}\"", Escaped(text));
    }
}

/// Text within the quotes of a JSON string (RFC 8259, section 7).
pub struct Escaped<T>(
    /// What it says, as `Display` has it.
    pub T,
);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl Write for Escaping<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                text.chars().try_for_each(|c| match c {
                    '"' | '\\' => write!(self.0, "\\{c}"),
                    c if c.is_control() => write!(self.0, "\\u{:04x}", u32::from(c)),
                    c => self.0.write_char(c),
                })
            }
        }
        write!(Escaping(f), "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        let text = format!("\"{}\"", Escaped("a\"b\\c\nd\u{7f}ä"));
        assert_eq!(text, r#""a\"b\\c\u000ad\u007fä""#);
        let text = Escaped(format_args!("{}-{}", 1, '"')).to_string();
        assert_eq!(text, "1-\\\"");
    }

    #[test]
    fn members_are_separated() {
        let mut text = String::new();
        let mut json = Writer::object(&mut text);
        json.number("a", 1);
        json.boolean("b", false);
        json.boolean("c", true);
        json.text("d", &"x");
        json.end();
        assert_eq!(text, r#"{"a":1,"b":false,"c":true,"d":"x"}"#);
        let mut text = String::new();
        Writer::object(&mut text).end();
        assert_eq!(text, "{}");
    }
}
