//! Bytes typed, or sent by a program, put together to command lines. Nothing is echoed.

/// Puts lines of at most `N` bytes together.
#[derive(Clone, Debug)]
pub struct LineAssembler<const N: usize> {
    bytes: [u8; N],
    len: usize,
    /// What is wrong with the line so far.
    fault: Option<LineError>,
    /// The line was given out: the next byte begins another.
    ended: bool,
}

/// Why a line was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It has more bytes than there is room for.
    #[error("the line is too long")]
    TooLong,
    /// It has control characters, or bytes that are not ASCII.
    #[error("the line is not plain text")]
    NotText,
}

impl<const N: usize> LineAssembler<N> {
    /// Nothing typed yet.
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
            fault: None,
            ended: false,
        }
    }

    /// Takes a byte; gives the line that it ends, without blanks around it, or why that line was
    /// dropped. Lines end with CR, LF or both; empty ones are no lines. Backspace and DEL take
    /// the last character back.
    pub fn push(&mut self, byte: u8) -> Option<Result<&str, LineError>> {
        if self.ended {
            self.ended = false;
            self.len = 0;
            self.fault = None;
        }
        match byte {
            b'\r' | b'\n' => return self.end(),
            0x08 | 0x7f => self.len = self.len.saturating_sub(1),
            b'\t' => self.add(b' '),
            b' '..=b'~' => self.add(byte),
            _ => self.fault = self.fault.or(Some(LineError::NotText)),
        }
        None
    }

    fn add(&mut self, byte: u8) {
        match self.bytes.get_mut(self.len) {
            Some(place) => {
                *place = byte;
                self.len += 1;
            }
            None => self.fault = self.fault.or(Some(LineError::TooLong)),
        }
    }

    fn end(&mut self) -> Option<Result<&str, LineError>> {
        self.ended = true;
        if let Some(fault) = self.fault {
            return Some(Err(fault));
        }
        let line = core::str::from_utf8(&self.bytes[..self.len]).map(str::trim);
        match line {
            Ok("") => None,
            Ok(line) => Some(Ok(line)),
            Err(_) => Some(Err(LineError::NotText)),
        }
    }
}

impl<const N: usize> Default for LineAssembler<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(typed: &[u8]) -> Vec<Result<String, LineError>> {
        let mut assembler = LineAssembler::<8>::new();
        let mut lines = Vec::new();
        for &byte in typed {
            if let Some(line) = assembler.push(byte) {
                lines.push(line.map(String::from));
            }
        }
        lines
    }

    fn text(line: &str) -> Result<String, LineError> {
        Ok(line.into())
    }

    #[test]
    fn what_makes_a_line() {
        for (typed, expected) in [
            (&b"stats\n"[..], vec![text("stats")]),
            (b"stats\r\nhelp\r\n", vec![text("stats"), text("help")]),
            (b"a\rb\nc", vec![text("a"), text("b")]),
            (b"\n\r\n \t\n", vec![]),
            (b"  a\tb  \n", vec![text("a b")]),
            (b"sx\x7ftx\x08ats\n", vec![text("stats")]),
            (b"\x7f\x7fa\n", vec![text("a")]),
            (b"12345678\n", vec![text("12345678")]),
            (
                b"123456789\nok\n",
                vec![Err(LineError::TooLong), text("ok")],
            ),
            (b"a\x00b\nok\n", vec![Err(LineError::NotText), text("ok")]),
            (b"\xc3\xa4\nok\n", vec![Err(LineError::NotText), text("ok")]),
            (b"\x1b[A\n", vec![Err(LineError::NotText)]),
        ] {
            assert_eq!(lines(typed), expected, "{:?}", typed.escape_ascii());
        }
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut typed: Vec<u8> = (0..=255).cycle().take(5000).collect();
        typed.extend(b"\nend\n");
        assert_eq!(lines(&typed).last(), Some(&text("end")));
    }
}
