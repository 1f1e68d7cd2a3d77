// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A writer of members: as one JSON object (RFC 8259) for programs, or as plain text for people.
//!
//! In plain text, a member is `name=value`, and each element of an array of the outermost object is
//! a line.

use core::fmt::{self, Display, Write};

/// A writer of members in sequence.
///
/// It ignores the errors of its output, which accepts everything.
pub struct Writer<'o> {
    out: &'o mut dyn Write,
    json: bool,
    /// Whether an element precedes the next one, so that a separator is needed.
    begun: bool,
    /// Whether nothing was written yet.
    empty: bool,
}

impl<'o> Writer<'o> {
    /// Begins a JSON object.
    pub fn object(out: &'o mut dyn Write) -> Self {
        let _ = out.write_char('{');
        Self {
            out,
            json: true,
            begun: false,
            empty: false,
        }
    }

    /// Begins a plain text.
    pub const fn plain(out: &'o mut dyn Write) -> Self {
        Self {
            out,
            json: false,
            begun: false,
            empty: true,
        }
    }

    /// Returns whether the output is JSON.
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// Ends the object or the text. A text without members is `ok`.
    pub fn end(mut self) {
        if self.json {
            self.put("}");
        } else if self.empty {
            self.put("ok\n");
        } else if self.begun {
            self.put("\n");
        }
    }

    fn put(&mut self, text: &str) {
        let _ = self.out.write_str(text);
    }

    fn separate(&mut self, text: &str) {
        if core::mem::replace(&mut self.begun, true) {
            self.put(if self.json { "," } else { text });
        }
        self.empty = false;
    }

    fn name(&mut self, name: &str) {
        self.separate(" ");
        let quote = if self.json { "\"" } else { "" };
        self.put(quote);
        self.put(name);
        self.put(quote);
        self.put(if self.json { ":" } else { "=" });
    }

    fn string(&mut self, text: &dyn Display) {
        let _ = if self.json {
            write!(self.out, "\"{}\"", Escaped(text))
        } else {
            write!(self.out, "{text}")
        };
    }

    /// Writes a number.
    pub fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        let _ = write!(self.out, "{number}");
    }

    /// Writes `true` or `false`.
    pub fn boolean(&mut self, name: &str, value: bool) {
        self.name(name);
        self.put(if value { "true" } else { "false" });
    }

    /// Writes `null`.
    pub fn null(&mut self, name: &str) {
        self.name(name);
        self.put("null");
    }

    /// Writes a string.
    pub fn text(&mut self, name: &str, text: &dyn Display) {
        self.name(name);
        self.string(text);
    }

    /// Begins a member that is an object.
    pub fn begin_object(&mut self, name: &str) {
        self.name(name);
        self.open("{");
    }

    /// Begins a member that is an array, of an object other than the outermost.
    pub fn begin_array(&mut self, name: &str) {
        self.name(name);
        self.open("[");
    }

    /// Begins an array element that is an object.
    pub fn begin_item(&mut self) {
        self.separate(" ");
        self.open("{");
    }

    /// Writes an array element that is a number.
    pub fn item(&mut self, number: u64) {
        self.separate(" ");
        let _ = write!(self.out, "{number}");
    }

    /// Ends an inner object.
    pub fn end_object(&mut self) {
        self.close("}");
    }

    /// Ends an inner array.
    pub fn end_array(&mut self) {
        self.close("]");
    }

    fn open(&mut self, bracket: &str) {
        self.put(bracket);
        self.begun = false;
    }

    fn close(&mut self, bracket: &str) {
        self.put(bracket);
        self.begun = true;
    }

    /// Begins a member of the outermost object that is an array: a line per element in plain text.
    pub fn begin_lines(&mut self, name: &str) {
        if self.json {
            self.begin_array(name);
        }
    }

    /// Writes a string in an array of the outermost object.
    pub fn line(&mut self, text: &dyn Display) {
        self.separate("\n");
        self.string(text);
    }

    /// Begins an object in an array of the outermost object.
    pub fn begin_line(&mut self) {
        self.separate("\n");
        if self.json {
            self.put("{");
        }
        self.begun = false;
    }

    /// Ends an object in an array of the outermost object.
    pub fn end_line(&mut self) {
        if self.json {
            self.put("}");
        }
        self.begun = true;
    }

    /// Ends an array of the outermost object.
    pub fn end_lines(&mut self) {
        if self.json {
            self.end_array();
        } else if core::mem::replace(&mut self.begun, false) {
            self.put("\n");
        }
    }
}

/// A string escaped for the quotes of a JSON string (RFC 8259 section 7).
pub struct Escaped<T>(
    /// The value whose `Display` text is escaped.
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

    fn written(mut writer: Writer<'_>) {
        writer.number("a", 1);
        writer.begin_object("o");
        writer.null("n");
        writer.begin_array("l");
        writer.item(2);
        writer.item(3);
        writer.end_array();
        writer.begin_array("i");
        for number in 4..6 {
            writer.begin_item();
            writer.number("x", number);
            writer.end_object();
        }
        writer.end_array();
        writer.end_object();
        writer.text("t", &"\"");
        writer.end();
    }

    #[test]
    fn nested_members_in_both_forms() {
        let mut text = String::new();
        written(Writer::object(&mut text));
        assert_eq!(
            text,
            r#"{"a":1,"o":{"n":null,"l":[2,3],"i":[{"x":4},{"x":5}]},"t":"\""}"#
        );
        let mut text = String::new();
        written(Writer::plain(&mut text));
        assert_eq!(text, "a=1 o={n=null l=[2 3] i=[{x=4} {x=5}]} t=\"\n");
        let mut text = String::new();
        Writer::plain(&mut text).end();
        assert_eq!(text, "ok\n");
    }

    fn listed(mut writer: Writer<'_>) {
        writer.begin_lines("rows");
        for number in 0..2 {
            writer.begin_line();
            writer.number("x", number);
            writer.text("y", &"z");
            writer.end_line();
        }
        writer.end_lines();
        writer.begin_lines("texts");
        writer.line(&"one");
        writer.line(&"");
        writer.end_lines();
        writer.number("more", 7);
        writer.end();
    }

    #[test]
    fn lines_in_both_forms() {
        let mut text = String::new();
        listed(Writer::object(&mut text));
        assert_eq!(
            text,
            r#"{"rows":[{"x":0,"y":"z"},{"x":1,"y":"z"}],"texts":["one",""],"more":7}"#
        );
        let mut text = String::new();
        listed(Writer::plain(&mut text));
        assert_eq!(text, "x=0 y=z\nx=1 y=z\none\n\nmore=7\n");
    }
}
