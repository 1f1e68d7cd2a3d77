// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host's end of the guests' network measurement.

use anyhow::{Context, Result};
use guest_agent::transfer;
use std::net::{Ipv4Addr, TcpListener};

/// Serves transfers on a thread of its own for as long as the process lives; returns the port, on
/// the host's loopback interface, which guests reach as QEMU's router.
///
/// # Errors
///
/// Fails when the host has no port left.
pub(super) fn start() -> Result<u16> {
    let failed = "the network measurement has no port to listen on";
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(failed)?;
    let port = listener.local_addr().context(failed)?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A transfer that fails here also fails in the guest, which reports it.
            std::thread::spawn(move || transfer::serve(&stream));
        }
    });
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_agent::transfer::{Direction, run};
    use std::net::TcpStream;

    #[test]
    fn far_end_serves_one_transfer_after_the_other() {
        let port = start().expect("a port");
        for direction in [Direction::Send, Direction::Receive, Direction::Send] {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connected");
            run(&stream, direction, 100_000).expect("moved");
        }
    }
}
