// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Configures the network card and the links, and serves partitions to other guests.

use super::root;
use crate::{console, sys};
use guest_agent::role::{self, Net, Role, Served};
use guest_agent::transfer;
use std::fs;
use std::io::{Error, Result};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

const INTERFACES: &str = "/sys/class/net";
/// The kernel's NVMe target, whose settings are files (configfs).
const TARGET: &str = "/sys/kernel/config/nvmet";

/// Gives the network card and the links their addresses. Returns the errors.
pub fn configure(role: &Role) -> Vec<String> {
    let mut problems = Vec::new();
    let mut keep = |what: &str, done: Result<()>| {
        problems.extend(done.err().map(|why| format!("{what}: {why}")));
    };
    let mut card = None;
    for name in interfaces() {
        let folder = Path::new(INTERFACES).join(&name);
        let mac = fs::read_to_string(folder.join("address")).unwrap_or_default();
        if let Some(net) = link_net(mac.trim()) {
            keep(&name, sys::net::set_address(&name, net));
        } else if fs::canonicalize(folder.join("device")).is_ok_and(|path| is_on_pci(&path)) {
            card.get_or_insert(name);
        }
    }
    if let Some(net) = role.card {
        let done = card.ok_or_else(|| Error::other("there is none"));
        let done = done.and_then(|card| {
            sys::net::set_address(&card, net)?;
            if role.forward {
                forward(&card)?;
            }
            Ok(())
        });
        keep("network card", done);
    }
    if let Some(router) = role.gateway {
        keep("default route", sys::net::set_gateway(router));
    }
    problems
}

/// Makes the kernel pass packets on between the card and the links. On the card's network it answers
/// for the addresses of the links (proxy ARP), so the other end needs no route, and the packets no
/// translation of addresses.
fn forward(card: &str) -> Result<()> {
    let ipv4 = Path::new("/proc/sys/net/ipv4");
    fs::write(ipv4.join("ip_forward"), "1\n")?;
    fs::write(ipv4.join("conf").join(card).join("proxy_arp"), "1\n")
}

fn interfaces() -> Vec<String> {
    let entries = fs::read_dir(INTERFACES).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Returns the address and network of a link, 10.77.LINK.VM with both counted from 1, by the MAC
/// address that Postern gives to the VM's end: 02:70:73:74, then the numbers of the link and of the
/// VM, from 0.
fn link_net(mac: &str) -> Option<Net> {
    let (link, vm) = mac.strip_prefix("02:70:73:74:")?.split_once(':')?;
    let number = |text| u8::from_str_radix(text, 16).ok()?.checked_add(1);
    Some(Net {
        address: Ipv4Addr::new(10, 77, number(link)?, number(vm)?),
        prefix: 24,
    })
}

/// Returns whether the path of a device in `/sys/devices` is below a PCI host bridge.
fn is_on_pci(device: &Path) -> bool {
    device
        .components()
        .any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"pci0"))
}

/// Serves the partitions over NVMe/TCP. Returns the errors. Those at the same address are neighbours
/// in `exports`.
pub fn serve(exports: &[Served]) -> Vec<String> {
    if exports.is_empty() {
        return Vec::new();
    }
    let config = Path::new("/sys/kernel/config");
    if let Err(why) = sys::mount("configfs", config, "")
        && why.raw_os_error() != Some(libc::EBUSY)
    {
        return vec![format!("mounting {}: {why}", config.display())];
    }
    let mut addresses: Vec<Ipv4Addr> = exports.iter().map(|export| export.address).collect();
    addresses.dedup();
    let mut problems = Vec::new();
    let target = Path::new(TARGET);
    for (number, address) in (1_u16..).zip(addresses) {
        let port = target.join("ports").join(number.to_string());
        if let Err(why) = make_port(&port, address) {
            problems.push(format!("serving at {address}: {why}"));
            continue;
        }
        for export in exports.iter().filter(|export| export.address == address) {
            if let Err(why) = serve_one(target, &port, &export.partition) {
                problems.push(format!("serving partition {}: {why}", export.partition));
            }
        }
    }
    problems
}

/// Makes a port, at which only the guests on that address's link reach what is served.
fn make_port(port: &Path, address: Ipv4Addr) -> Result<()> {
    fs::create_dir(port)?;
    for (name, value) in [
        ("addr_adrfam", "ipv4"),
        ("addr_trtype", "tcp"),
        ("addr_traddr", &address.to_string()),
        ("addr_trsvcid", &role::NVME_PORT.to_string()),
    ] {
        fs::write(port.join(name), value)?;
    }
    Ok(())
}

fn serve_one(target: &Path, port: &Path, name: &str) -> Result<()> {
    let partition = root::partition(name)
        .ok_or_else(|| Error::other("no disk has a partition with that name"))?;
    let subsystem = target.join("subsystems").join(role::subsystem(name));
    fs::create_dir(&subsystem)?;
    fs::write(subsystem.join("attr_allow_any_host"), "1")?;
    let namespace = subsystem.join("namespaces/1");
    fs::create_dir(&namespace)?;
    let device = partition.as_os_str().as_encoded_bytes();
    fs::write(namespace.join("device_path"), device)?;
    fs::write(namespace.join("device_uuid"), uuid(name))?;
    fs::write(namespace.join("enable"), "1")?;
    let link = port.join("subsystems").join(role::subsystem(name));
    std::os::unix::fs::symlink(&subsystem, link)
}

/// Returns the UUID of what is served under a name: a guest connects again only to the same disk, and Linux makes up a
/// new one at each start.
fn uuid(name: &str) -> String {
    let mut hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    // A VM's name has 15 bytes at most.
    while hex.len() < 32 {
        hex.push('0');
    }
    let ends = [0, 8, 12, 16, 20, 32];
    let groups: Vec<_> = ends.windows(2).map(|end| &hex[end[0]..end[1]]).collect();
    groups.join("-")
}

/// Serves transfers to other guests, one after the other, on a thread of its own.
pub fn serve_transfers(port: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    std::thread::Builder::new().spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(why) = transfer::serve(&stream) {
                console::error(format_args!("a transfer: {why}"));
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_of_a_name_is_the_same_at_each_start_and_no_other_name_s() {
        assert_eq!(uuid("app"), "61707000-0000-0000-0000-000000000000");
        let longest = uuid("abcdefghijklmno");
        assert_eq!(longest, "61626364-6566-6768-696a-6b6c6d6e6f00");
    }

    #[test]
    fn link_s_address_follows_its_mac() {
        let address = |mac| link_net(mac).map(|net| net.to_string());
        assert_eq!(
            address("02:70:73:74:00:00").as_deref(),
            Some("10.77.1.1/24")
        );
        assert_eq!(
            address("02:70:73:74:03:0a").as_deref(),
            Some("10.77.4.11/24")
        );
        for other in [
            "02:70:73:74:00",
            "52:54:00:12:34:56",
            "02:70:73:74:ff:00",
            "",
        ] {
            assert_eq!(address(other), None);
        }
    }

    #[test]
    fn card_is_what_a_host_bridge_has() {
        let table = [
            ("/sys/devices/platform/a000200.virtio_mmio/virtio2", false),
            (
                "/sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:02.0/virtio1",
                true,
            ),
            ("/sys/devices/virtual/net/lo", false),
        ];
        for (path, expected) in table {
            assert_eq!(is_on_pci(Path::new(path)), expected, "{path}");
        }
    }
}
