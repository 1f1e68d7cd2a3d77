// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The measurement of the network: the guest connects to the host tool by TCP and moves a number of
//! bytes, whose content the receiving end checks.
//!
//! The guest sends one line, `send BYTES` or `receive BYTES`. Then the bytes follow, from the guest
//! or to it. After the guest's bytes the host answers `ok`, so that the time includes their arrival.

use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The most bytes of one transfer.
pub const MAX_BYTES: u64 = 1 << 30;
/// The bytes of one read or write.
const CHUNK: usize = 64 << 10;
/// The longest time without progress.
const PATIENCE: Duration = Duration::from_secs(60);
/// The host's answer.
const OK: &[u8] = b"ok\n";

/// A direction, seen from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the guest to the host.
    Send,
    /// From the host to the guest.
    Receive,
}

impl Direction {
    fn word(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
        }
    }
}

/// Fills a buffer with the content that begins at `position`. Each 8-byte word of it is different,
/// so that a lost, repeated or moved block is noticed.
pub fn fill(buffer: &mut [u8], position: u64) {
    let (head, words) = buffer.split_at_mut(head(position, buffer.len()));
    for (place, byte) in (position..).zip(head.iter_mut()) {
        *byte = at(place);
    }
    let first = (position + head.len() as u64) >> 3;
    for (number, bytes) in (first..).zip(words.chunks_mut(8)) {
        bytes.copy_from_slice(&word(number)[..bytes.len()]);
    }
}

/// Returns the first place in a buffer that differs from the content that begins at `position`.
pub fn mismatch(buffer: &[u8], position: u64) -> Option<u64> {
    let (head, words) = buffer.split_at(head(position, buffer.len()));
    let first = (position + head.len() as u64) >> 3;
    let mut pairs = (first..).zip(words.chunks(8));
    let same = (position..)
        .zip(head)
        .all(|(place, &byte)| byte == at(place))
        && pairs.all(|(number, bytes)| *bytes == word(number)[..bytes.len()]);
    if same {
        return None;
    }
    (position..)
        .zip(buffer)
        .find_map(|(place, &byte)| (byte != at(place)).then_some(place))
}

/// Returns the number of bytes before the first whole word, at most `length`.
fn head(position: u64, length: usize) -> usize {
    length.min((position.wrapping_neg() & 7) as usize)
}

/// Returns the 8-byte word with a number. The product with an odd number is different for each.
fn word(number: u64) -> [u8; 8] {
    number
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .to_le_bytes()
}

fn at(place: u64) -> u8 {
    word(place >> 3)[(place & 7) as usize]
}

/// Moves `bytes` bytes over a connection to [`serve`].
///
/// # Errors
///
/// Fails when the connection breaks, makes no progress, or delivers other bytes than were sent.
pub fn run(stream: &TcpStream, direction: Direction, bytes: u64) -> Result<()> {
    patient(stream)?;
    let mut to = stream;
    writeln!(to, "{} {bytes}", direction.word())?;
    match direction {
        Direction::Receive => take(stream, bytes),
        Direction::Send => {
            give(stream, bytes)?;
            let mut answer = [0; OK.len()];
            (&mut to).read_exact(&mut answer)?;
            if answer == OK {
                Ok(())
            } else {
                Err(Error::other("the host received other bytes"))
            }
        }
    }
}

/// Serves one connection of [`run`].
///
/// # Errors
///
/// Fails when the request is none, the connection breaks, makes no progress, or delivers other
/// bytes than were sent.
pub fn serve(stream: &TcpStream) -> Result<()> {
    patient(stream)?;
    let mut reader = BufReader::with_capacity(CHUNK, stream);
    let mut line = Vec::new();
    (&mut reader).take(32).read_until(b'\n', &mut line)?;
    let line = String::from_utf8_lossy(&line);
    let (word, bytes) = line
        .trim_end()
        .split_once(' ')
        .and_then(|(word, number)| Some((word, number.parse::<u64>().ok()?)))
        .filter(|(_, bytes)| *bytes <= MAX_BYTES)
        .ok_or_else(|| Error::other(format!("{line:?} is no request")))?;
    if word == Direction::Receive.word() {
        give(stream, bytes)
    } else if word == Direction::Send.word() {
        take(reader, bytes)?;
        let mut to = stream;
        to.write_all(OK)
    } else {
        Err(Error::other(format!("{word:?} is no direction")))
    }
}

fn patient(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn give(mut to: impl Write, bytes: u64) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut position = 0;
    while position < bytes {
        let length = (bytes - position).min(CHUNK as u64) as usize;
        fill(&mut chunk[..length], position);
        to.write_all(&chunk[..length])?;
        position += length as u64;
    }
    to.flush()
}

fn take(mut from: impl Read, bytes: u64) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut position = 0;
    while position < bytes {
        let length = (bytes - position).min(CHUNK as u64) as usize;
        let read = match from.read(&mut chunk[..length]) {
            Err(why) if why.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if read == 0 {
            return Err(Error::other(format!(
                "the connection ended after {position} of {bytes} bytes"
            )));
        }
        if let Some(place) = mismatch(&chunk[..read], position) {
            return Err(Error::other(format!("byte {place} arrived wrong")));
        }
        position += read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn exchange(client: impl FnOnce(TcpStream) -> Result<()>) -> (Result<()>, Result<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let host = std::thread::spawn(move || serve(&listener.accept()?.0));
        let guest = client(TcpStream::connect(address).expect("connected"));
        (guest, host.join().expect("no panic"))
    }

    #[test]
    fn both_directions_arrive() {
        for direction in [Direction::Send, Direction::Receive] {
            for bytes in [0, 1, CHUNK as u64 + 3] {
                let (guest, host) = exchange(|stream| run(&stream, direction, bytes));
                guest.and(host).expect("it arrived");
            }
        }
    }

    #[test]
    fn wrong_requests_and_bytes_are_errors() {
        for request in ["", "send\n", "send x\n", "push 1\n", "send 99999999999\n"] {
            let (guest, host) = exchange(|mut stream| stream.write_all(request.as_bytes()));
            guest.expect("sent");
            host.expect_err(request);
        }
        let (_, host) = exchange(|mut stream| stream.write_all(b"send 3\nabc"));
        assert!(
            host.expect_err("wrong bytes")
                .to_string()
                .contains("byte 0")
        );
        let (_, host) = exchange(|mut stream| stream.write_all(b"send 3\n"));
        assert!(host.expect_err("no bytes").to_string().contains("0 of 3"));
    }

    #[test]
    fn moved_and_repeated_blocks_differ() {
        let mut block = vec![0; 512];
        fill(&mut block, 4096);
        assert_eq!(mismatch(&block, 4096), None);
        for place in [0, 8, 512, 4095, 4104, 1 << 20] {
            assert!(mismatch(&block, place).is_some(), "{place}");
        }
        block[17] ^= 1;
        assert_eq!(mismatch(&block, 4096), Some(4113));
    }

    #[test]
    fn content_does_not_depend_on_pieces() {
        let mut whole = vec![0; 100];
        fill(&mut whole, 0);
        for start in 0..20 {
            for end in start..start + 30 {
                let mut piece = vec![0; end - start];
                fill(&mut piece, start as u64);
                assert_eq!(piece, whole[start..end]);
                assert_eq!(mismatch(&whole[start..end], start as u64), None);
            }
        }
    }
}
