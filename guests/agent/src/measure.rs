// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures the throughput of the root file system's disk and of the network. The content is checked
//! where it arrives.

use crate::sys;
use guest_agent::event::Throughput;
use guest_agent::transfer::{self, Direction};
use std::fs::{self, File, OpenOptions};
use std::io::{Error, Read, Result, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// The file that is written and read. Folder `/var` is on the root file system.
const FILE: &str = "/var/postern-disk-test";
/// The bytes of one read or write.
const CHUNK: usize = 256 << 10;
/// The alignment of direct I/O: no disk has larger blocks.
const ALIGNMENT: usize = 4096;
const CONNECT: Duration = Duration::from_secs(30);

/// Writes a file of `bytes` bytes with direct I/O, ends with fsync(2), reads it back with direct I/O
/// and removes it. `bytes` is a multiple of 256 KiB.
///
/// # Errors
///
/// Fails as the system calls do, or when other bytes are read than were written.
pub fn disk(bytes: u64) -> Result<Throughput> {
    disk_at(Path::new(FILE), bytes)
}

fn disk_at(path: &Path, bytes: u64) -> Result<Throughput> {
    let measured = write_then_read(path, bytes);
    // The file is only removed if it was made; the first error counts.
    let removed = fs::remove_file(path);
    let measured = measured?;
    removed?;
    Ok(measured)
}

fn write_then_read(path: &Path, bytes: u64) -> Result<Throughput> {
    let mut memory = vec![0; CHUNK + ALIGNMENT];
    let start = memory.as_ptr().align_offset(ALIGNMENT);
    let chunk = &mut memory[start..start + CHUNK];
    let positions = || (0..bytes).step_by(CHUNK);
    let mut file = direct(OpenOptions::new().write(true).create_new(true), path)?;
    let mut out = Duration::ZERO;
    for position in positions() {
        transfer::fill(chunk, position);
        out += timed(|| file.write_all(chunk))?;
    }
    out += timed(|| file.sync_all())?;
    let mut file = direct(OpenOptions::new().read(true), path)?;
    let mut back = Duration::ZERO;
    for position in positions() {
        back += timed(|| file.read_exact(chunk))?;
        if let Some(place) = transfer::mismatch(chunk, position) {
            return Err(Error::other(format!("byte {place} was read wrong")));
        }
    }
    Ok(throughput(bytes, out, back))
}

fn direct(options: &mut OpenOptions, path: &Path) -> Result<File> {
    options.custom_flags(libc::O_DIRECT).open(path)
}

/// Sends `bytes` bytes to the host and receives as many, over one TCP connection each.
///
/// # Errors
///
/// Fails when a connection cannot be made or breaks, or when other bytes arrive than were sent.
pub fn network(host: SocketAddrV4, bytes: u64) -> Result<Throughput> {
    let one = |direction| {
        let stream = TcpStream::connect_timeout(&host.into(), CONNECT)?;
        timed(|| transfer::run(&stream, direction, bytes))
    };
    let out = one(Direction::Send)?;
    let back = one(Direction::Receive)?;
    Ok(throughput(bytes, out, back))
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begin = sys::raw_time();
    work()?;
    Ok(sys::raw_time().saturating_sub(begin))
}

fn throughput(bytes: u64, out: Duration, back: Duration) -> Throughput {
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Throughput {
        bytes,
        out_ns: ns(out),
        in_ns: ns(back),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn disk_measurement_leaves_no_file() {
        let name = format!("postern-disk-{}", std::process::id());
        let path = Path::new("/var/tmp").join(name);
        let measured = disk_at(&path, 1 << 20).expect("a file system with direct I/O");
        assert_eq!(measured.bytes, 1 << 20);
        assert!(measured.out_ns > 0 && measured.in_ns > 0);
        assert!(!path.exists());
    }

    #[test]
    fn network_measurement_uses_both_directions() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let host = std::thread::spawn(move || -> Result<()> {
            transfer::serve(&listener.accept()?.0)?;
            transfer::serve(&listener.accept()?.0)
        });
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let measured = network(address, 300_000).expect("it arrived");
        assert_eq!(measured.bytes, 300_000);
        host.join().expect("no panic").expect("both served");
        network(address, 1).expect_err("nobody listens");
    }
}
