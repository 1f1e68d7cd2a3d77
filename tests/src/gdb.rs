// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A client of GDB's remote protocol that can stop one CPU of QEMU while the others go on.

use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The offsets of PC and CPSR in the answer to `g`, in hexadecimal digits: X0 to X30 and SP come
/// first.
const PC: usize = 32 * 16;
const CPSR: usize = PC + 16;

/// A CPU's position in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuPosition {
    /// The program counter, a virtual address.
    pub pc: u64,
    /// The exception level, 0 to 3.
    pub level: u8,
}

/// A connection to QEMU's `-gdb`. While it exists all CPUs are stopped, except those that were let
/// go on.
pub struct Gdb {
    stream: UnixStream,
}

impl Gdb {
    /// Connects, which stops all CPUs.
    ///
    /// # Errors
    ///
    /// Fails when QEMU does not listen or does not answer.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("cannot connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self { stream })
    }

    /// Returns the numbers of the CPUs in the protocol, in order.
    ///
    /// # Errors
    ///
    /// Fails when QEMU does not answer.
    pub fn cpus(&mut self) -> Result<Vec<u32>> {
        let mut cpus = Vec::new();
        let mut answer = self.ask("qfThreadInfo")?;
        while let Some(list) = answer.strip_prefix('m') {
            for number in list.split(',') {
                cpus.push(u32::from_str_radix(number, 16)?);
            }
            answer = self.ask("qsThreadInfo")?;
        }
        Ok(cpus)
    }

    /// Returns a CPU's position.
    ///
    /// # Errors
    ///
    /// Fails when QEMU does not answer as expected.
    pub fn position(&mut self, cpu: u32) -> Result<CpuPosition> {
        let selected = self.ask(&format!("Hg{cpu:x}"))?;
        ensure!(selected == "OK", "no CPU {cpu}: {selected}");
        let registers = self.ask("g")?;
        let number = |range: std::ops::Range<usize>| -> Result<u64> {
            let digits = registers.get(range).context("too few registers")?;
            // Little endian: the last byte is the highest.
            (0..digits.len()).step_by(2).rev().try_fold(0, |sum, at| {
                Ok(sum << 8 | u64::from_str_radix(&digits[at..at + 2], 16)?)
            })
        };
        Ok(CpuPosition {
            pc: number(PC..PC + 16)?,
            level: (number(CPSR..CPSR + 8)? >> 2 & 3) as u8,
        })
    }

    /// Sets the address at which a CPU will go on.
    ///
    /// # Errors
    ///
    /// Fails when QEMU refuses.
    pub fn jump(&mut self, cpu: u32, to: u64) -> Result<()> {
        let selected = self.ask(&format!("Hg{cpu:x}"))?;
        ensure!(selected == "OK", "no CPU {cpu}: {selected}");
        // QEMU accepts the write of a single register only after a read of all registers.
        let mut registers = self.ask("g")?;
        ensure!(registers.len() >= PC + 16, "too few registers");
        registers.replace_range(PC..PC + 16, &format!("{:016x}", to.swap_bytes()));
        let answer = self.ask(&format!("G{registers}"))?;
        ensure!(
            answer == "OK",
            "QEMU does not write the registers: {answer}"
        );
        Ok(())
    }

    /// Lets these CPUs go on; the others stay stopped.
    ///
    /// # Errors
    ///
    /// Fails when the connection is broken.
    pub fn go_on(&mut self, cpus: &[u32]) -> Result<()> {
        let each: String = cpus.iter().map(|cpu| format!(";c:{cpu:x}")).collect();
        self.send(&format!("vCont{each}"))
    }

    /// Stops all CPUs again.
    ///
    /// # Errors
    ///
    /// Fails when QEMU does not answer.
    pub fn stop(&mut self) -> Result<()> {
        self.stream.write_all(&[3])?;
        while !self.receive()?.starts_with('T') {}
        Ok(())
    }

    /// Lets all CPUs go on and disconnects.
    ///
    /// # Errors
    ///
    /// Fails when QEMU does not answer.
    pub fn leave(mut self) -> Result<()> {
        self.ask("D").map(|_| ())
    }

    fn ask(&mut self, what: &str) -> Result<String> {
        self.send(what)?;
        loop {
            let answer = self.receive()?;
            // QEMU also reports unasked that all CPUs have stopped after a connection.
            if !answer.starts_with('T') {
                return Ok(answer);
            }
        }
    }

    fn send(&mut self, what: &str) -> Result<()> {
        let sum = what.bytes().fold(0_u8, u8::wrapping_add);
        Ok(write!(self.stream, "${what}#{sum:02x}")?)
    }

    /// Returns the next packet, after acknowledging it.
    fn receive(&mut self) -> Result<String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut byte = [0];
        let mut packet: Option<Vec<u8>> = None;
        while Instant::now() < deadline {
            self.stream.read_exact(&mut byte)?;
            match (byte[0], &mut packet) {
                (b'$', _) => packet = Some(Vec::new()),
                (b'#', Some(text)) => {
                    let mut sum = [0; 2];
                    self.stream.read_exact(&mut sum)?;
                    self.stream.write_all(b"+")?;
                    return Ok(String::from_utf8_lossy(text).into_owned());
                }
                (other, Some(text)) => text.push(other),
                // An acknowledgement.
                (_, None) => {}
            }
        }
        bail!("QEMU's gdb server does not answer")
    }
}
