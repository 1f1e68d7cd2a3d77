// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Configures network interfaces, by the ioctls of netdevice(7).

use super::check;
use guest_agent::role::Net;
use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

/// Brings an interface up.
///
/// # Errors
///
/// Fails when there is no such interface, or as ioctl(2) does.
pub fn up(interface: &str) -> Result<()> {
    let mut request = request(interface)?;
    ioctl(libc::SIOCGIFFLAGS as _, &mut request)?;
    // SAFETY: the call above filled in this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    ioctl(libc::SIOCSIFFLAGS as _, &mut request)
}

/// Gives an interface its address and brings it up.
///
/// # Errors
///
/// Fails when there is no such interface, or as ioctl(2) does.
pub fn set_address(interface: &str, net: Net) -> Result<()> {
    let mut request = request(interface)?;
    request.ifr_ifru.ifru_addr = socket_address(net.address);
    ioctl(libc::SIOCSIFADDR as _, &mut request)?;
    request.ifr_ifru.ifru_netmask = socket_address(net.mask());
    ioctl(libc::SIOCSIFNETMASK as _, &mut request)?;
    up(interface)
}

/// Makes a router the way to all addresses that no interface has.
///
/// # Errors
///
/// Fails as ioctl(2) does.
pub fn set_gateway(router: Ipv4Addr) -> Result<()> {
    // SAFETY: `rtentry` is a plain C structure for which all zeroes is a valid value.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = socket_address(router);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: SIOCADDRT takes a pointer to an `rtentry`; the one here has no device name, which a
    // null pointer says.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT as _, &raw const route) })
        .map(drop)
}

/// Returns a request about an interface.
fn request(interface: &str) -> Result<libc::ifreq> {
    // SAFETY: `ifreq` is a plain C structure for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    if interface.len() >= request.ifr_name.len() {
        return Err(Error::from(ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn ioctl(number: u32, request: &mut libc::ifreq) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: the numbers that this module passes take a pointer to an `ifreq` with a terminated
    // name, and read or fill in the union.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), number as _, std::ptr::from_mut(request)) })
        .map(drop)
}

/// Returns an IPv4 address as a `sockaddr`, with the layout of `sockaddr_in`.
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    // SAFETY: `sockaddr` is a plain C structure for which all zeroes is a valid value.
    let mut socket: libc::sockaddr = unsafe { std::mem::zeroed() };
    socket.sa_family = libc::AF_INET as libc::sa_family_t;
    // Behind the family: two bytes of port, then the address, in network order.
    for (to, from) in socket.sa_data[2..6].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    socket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_address_has_layout_of_sockaddr_in() {
        let address = socket_address(Ipv4Addr::new(10, 0, 2, 17));
        assert_eq!(i32::from(address.sa_family), libc::AF_INET);
        let data: Vec<u8> = address.sa_data.iter().map(|&byte| byte as u8).collect();
        assert_eq!(data[..7], [0, 0, 10, 0, 2, 17, 0]);
        assert_eq!(size_of::<libc::sockaddr>(), size_of::<libc::sockaddr_in>());
    }

    #[test]
    fn unknown_interfaces_are_errors() {
        up("no-such-one").expect_err("there is none");
        up("a-name-that-is-too-long").expect_err("no room");
    }
}
