// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest does with disk, network card and links: words on the kernel's command line, which
//! the host tool writes and the guest's first process reads.
//!
//! | Word | Meaning |
//! |---|---|
//! | `postern.root=PARTITION` | the root file system is the partition with that name on a disk of the guest |
//! | `postern.root=PARTITION@ADDRESS` | it is the partition that another guest serves over NVMe/TCP at that address |
//! | `postern.card=ADDRESS/PREFIX` | the address of the network card |
//! | `postern.forward` | the guest passes packets on between its links and its card |
//! | `postern.gateway=ADDRESS` | the default route |
//! | `postern.export=PARTITION@ADDRESS` | the guest serves the partition at its own address |

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// The TCP port of NVMe/TCP (NVM Express TCP Transport Specification 1.0c, 3.1.1).
pub const NVME_PORT: u16 = 4420;
/// The longest name of a guest.
const LONGEST_NAME: usize = 15;

/// Returns the NVMe Qualified Name of the subsystem that serves a guest's partition.
pub fn subsystem(partition: &str) -> String {
    format!("postern-{partition}")
}

/// The use that a guest makes of its devices and links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// The root file system.
    pub root: Root,
    /// The address of the network card.
    pub card: Option<Net>,
    /// Whether the guest passes packets on between its links and its card.
    pub forward: bool,
    /// The default route.
    pub gateway: Option<Ipv4Addr>,
    /// The partitions that the guest serves.
    pub exports: Vec<Served>,
}

/// A root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Root {
    /// The initramfs.
    #[default]
    Ram,
    /// The partition with this name on the guest's own disk.
    Disk(String),
    /// A partition that another guest serves.
    Served(Served),
}

/// An address and the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    /// The address.
    pub address: Ipv4Addr,
    /// The prefix in bits, 1 to 32.
    pub prefix: u8,
}

/// A partition that a guest serves to another over NVMe/TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The partition's name.
    pub partition: String,
    /// The address of the serving guest on the link to the other one.
    pub address: Ipv4Addr,
}

impl FromStr for Served {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once('@')
            .filter(|(partition, _)| is_name(partition))
            .and_then(|(partition, address)| {
                Some(Self {
                    partition: partition.to_owned(),
                    address: address.parse().ok()?,
                })
            })
            .ok_or_else(|| format!("{text:?} is no PARTITION@ADDRESS"))
    }
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.address)
    }
}

impl Net {
    /// Returns the network's mask.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX << (32 - u32::from(self.prefix)))
    }
}

impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no ADDRESS/PREFIX");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let net = Self {
            address: address.parse().map_err(|_| wrong())?,
            prefix: prefix.parse().map_err(|_| wrong())?,
        };
        if (1..=32).contains(&net.prefix) {
            Ok(net)
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Role {
    /// Extracts the role from a kernel command line.
    ///
    /// # Errors
    ///
    /// Says which word is wrong.
    pub fn parse(command_line: &str) -> Result<Self, String> {
        let mut role = Self::default();
        for word in command_line.split_whitespace() {
            let Some(setting) = word.strip_prefix("postern.") else {
                continue;
            };
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            let wrong = |why: String| format!("{word}: {why}");
            match key {
                "root" if is_name(value) => role.root = Root::Disk(value.to_owned()),
                "root" => role.root = Root::Served(value.parse().map_err(wrong)?),
                "card" => role.card = Some(value.parse().map_err(wrong)?),
                "forward" => role.forward = true,
                "gateway" => {
                    let parsed = value.parse();
                    role.gateway = Some(parsed.map_err(|_| wrong("it is no address".into()))?);
                }
                "export" => role.exports.push(value.parse().map_err(wrong)?),
                _ => {}
            }
        }
        Ok(role)
    }

    /// Returns the words for the kernel command line; empty for a guest without devices.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        match &self.root {
            Root::Ram => {}
            Root::Disk(partition) => words.push(format!("postern.root={partition}")),
            Root::Served(served) => words.push(format!("postern.root={served}")),
        }
        words.extend(self.card.map(|net| format!("postern.card={net}")));
        words.extend(self.forward.then(|| "postern.forward".into()));
        words.extend((self.gateway).map(|address| format!("postern.gateway={address}")));
        let exports = self.exports.iter();
        words.extend(exports.map(|served| format!("postern.export={served}")));
        words
    }
}

/// Returns whether a text can be the name of a guest, and so of a file in `/sys`.
fn is_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=LONGEST_NAME).contains(&text.len()) && text.chars().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Net {
        text.parse().expect(text)
    }

    #[test]
    fn role_survives_the_command_line() {
        let served = Served {
            partition: "app".into(),
            address: Ipv4Addr::new(10, 77, 1, 1),
        };
        let io = Role {
            root: Root::Disk("io".into()),
            card: Some(net("10.0.2.15/24")),
            forward: true,
            gateway: Some(Ipv4Addr::new(10, 0, 2, 2)),
            exports: vec![served.clone(), served.clone()],
        };
        let app = Role {
            root: Root::Served(served),
            gateway: Some(Ipv4Addr::new(10, 77, 1, 1)),
            ..Role::default()
        };
        for role in [io, app, Role::default()] {
            let line = format!("quiet postern.shell {} root=/dev/x", role.words().join(" "));
            assert_eq!(Role::parse(&line), Ok(role), "{line}");
        }
        assert!(Role::default().words().is_empty());
    }

    #[test]
    fn wrong_words_are_named() {
        for word in [
            "postern.root=",
            "postern.root",
            "postern.root=/dev/vda1",
            "postern.root=app@io",
            "postern.card=10.0.2.15",
            "postern.card=10.0.2.15/0",
            "postern.card=10.0.2.15/33",
            "postern.gateway=io",
            "postern.export=app",
            "postern.export=app@",
            "postern.export=@10.0.2.17",
            "postern.export=../x@10.0.2.17",
            "postern.export=a-name-too-long-@10.0.2.17",
        ] {
            let why = Role::parse(word).expect_err(word);
            assert!(why.starts_with(word), "{why}");
        }
    }

    #[test]
    fn mask_has_prefix_bits() {
        for (prefix, mask) in [
            (1, "128.0.0.0"),
            (24, "255.255.255.0"),
            (30, "255.255.255.252"),
            (32, "255.255.255.255"),
        ] {
            let net = net(&format!("10.0.2.17/{prefix}"));
            assert_eq!(net.mask().to_string(), mask);
        }
    }
}
