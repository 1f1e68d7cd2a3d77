// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A VM's rights to the TEE: the tables `[vm.tee_policy]` and `[vm.tee_quota]`.

use optee_proto::Uuid;
use serde::Deserialize;

/// The most trusted applications that a list may name.
pub const MAX_APPLICATIONS: usize = 64;

/// Which functions of the TEE a VM may use. An absent list allows everything, an empty list
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TeePolicy {
    /// The trusted applications that the VM may open sessions to; at most [`MAX_APPLICATIONS`].
    #[serde(deserialize_with = "one_or_several")]
    pub applications: Option<Vec<Application>>,
    /// The login methods that the VM's clients may claim.
    pub logins: Option<Vec<Login>>,
    /// The partitions of OP-TEE, by their ids in FF-A, of which the VM sees the first that is there; at most [`MAX_PARTITIONS`].
    pub partitions: Option<Vec<PartitionId>>,
    /// The devices that the VM serves to the TEE; none when absent. Each device has at most one VM.
    pub devices: Vec<Device>,
    /// The optional features of OP-TEE's ABI that the VM is offered.
    pub features: Option<Vec<Feature>>,
}

/// The most partitions that a list may name.
pub const MAX_PARTITIONS: usize = 64;

/// The id of a partition in FF-A: 0x8000 to 0xffff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct PartitionId(u16);

impl PartitionId {
    /// Returns the id.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<i64> for PartitionId {
    type Error = String;

    fn try_from(id: i64) -> Result<Self, String> {
        match u16::try_from(id) {
            Ok(id) if id & 0x8000 != 0 => Ok(Self(id)),
            _ => Err(format!(
                "{id:#x} is no partition of the secure world; their ids are 0x8000 to 0xffff, \
                 OP-TEE's is usually 0x8001"
            )),
        }
    }
}

/// An entry of the list of trusted applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    /// The trusted application of this UUID.
    Named(Uuid),
    /// All trusted applications that are not built into OP-TEE's core.
    UserTas,
}

/// The word for [`Application::UserTas`].
const USER_TAS: &str = "user";

impl Application {
    /// Returns the entry as the boot tree has it.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Named(uuid) => uuid.to_string(),
            Self::UserTas => USER_TAS.into(),
        }
    }
}

/// Takes `"user"` for `["user"]`.
fn one_or_several<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<Application>>, D::Error> {
    struct OneOrSeveral;
    impl<'de> serde::de::Visitor<'de> for OneOrSeveral {
        type Value = Vec<Application>;

        fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            out.write_str("\"user\", or a list of UUIDs")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Application::parse(text).map(|one| vec![one])
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(
            self,
            mut list: A,
        ) -> Result<Self::Value, A::Error> {
            let mut applications = Vec::new();
            while let Some(one) = list.next_element()? {
                applications.push(one);
            }
            Ok(applications)
        }
    }
    from.deserialize_any(OneOrSeveral).map(Some)
}

impl<'de> Deserialize<'de> for Application {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?)
    }
}

impl Application {
    fn parse<E: serde::de::Error>(text: &str) -> Result<Self, E> {
        if text == USER_TAS {
            return Ok(Self::UserTas);
        }
        text.parse().map(Self::Named).map_err(|_| {
            E::custom(format!(
                "\"{text}\" is no UUID; write for example \"8aaaf200-2450-11e4-abe2-0002a5d5c51b\", \
                 or \"user\" for all user TAs"
            ))
        })
    }
}

/// A word of a list, as the file and the boot tree spell it.
pub trait Word: Copy {
    /// Returns the word.
    fn word(self) -> &'static str;
}

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$note:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
        pub enum $name {
            $($(#[$note])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All words.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
        }

        impl Word for $name {
            fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

words! {
    /// A login method of the GlobalPlatform TEE Client API (`TEEC_LOGIN_…`).
    Login {
        /// No identity.
        Public = "public",
        /// The user that the client runs as.
        User = "user",
        /// A group of the user that the client runs as.
        Group = "group",
        /// The client's program.
        Application = "application",
        /// Program and user.
        UserApplication = "user-application",
        /// Program and group.
        GroupApplication = "group-application",
        /// The guest's kernel itself (`TEE_LOGIN_REE_KERNEL`).
        Kernel = "kernel",
    }
}

words! {
    /// A device that the normal world serves to OP-TEE.
    Device {
        /// The replay-protected memory block of an eMMC.
        Rpmb = "rpmb",
        /// The I2C buses.
        I2c = "i2c",
    }
}

words! {
    /// An optional feature of OP-TEE's ABI.
    Feature {
        /// RPC messages in the memory of the call's message.
        RpcArg = "rpc-arg",
        /// Asynchronous notifications.
        Notifications = "notifications",
    }
}

/// How much of the TEE's resources a VM may use at once; the hypervisor has a default for each
/// absent key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TeeQuota {
    /// Pages of 4 KiB in all shared buffers together.
    pub pages: Option<u32>,
    /// Shared buffers.
    pub buffers: Option<u32>,
    /// Concurrent calls.
    pub calls: Option<u32>,
    /// Open sessions.
    pub sessions: Option<u32>,
    /// Buffers for RPC messages.
    pub rpc_buffers: Option<u32>,
    /// Pages of which OP-TEE's core may have a mapping.
    pub mapped_pages: Option<u32>,
    /// Address space identifiers (ASIDs) that the VM, over all its restarts, may leave in use in OP-TEE.
    pub max_leaked_asids: Option<u32>,
    /// OP-TEE's address space numbers that the VM may have.
    pub address_spaces: Option<u32>,
}

/// One quota of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The quota's key in the file.
    pub key: &'static str,
    /// The quota's property in the boot tree.
    pub property: &'static str,
    /// The highest valid value; the lowest is 1.
    pub most: u32,
    /// The value in the file, if any.
    pub value: Option<u32>,
}

impl TeeQuota {
    /// Returns all quotas, whether or not the file sets them.
    #[must_use]
    pub fn all(&self) -> [Quota; 8] {
        let quota = |key, property, most, value| Quota {
            key,
            property,
            most,
            value,
        };
        [
            quota("pages", "tee-quota-pages", 262_144, self.pages),
            quota("buffers", "tee-quota-buffers", 65_000, self.buffers),
            quota("calls", "tee-quota-calls", 64, self.calls),
            quota("sessions", "tee-quota-sessions", 4096, self.sessions),
            quota(
                "rpc_buffers",
                "tee-quota-rpc-buffers",
                1024,
                self.rpc_buffers,
            ),
            quota(
                "mapped_pages",
                "tee-quota-mapped-pages",
                16_384,
                self.mapped_pages,
            ),
            quota(
                "max_leaked_asids",
                "tee-quota-max-leaked-asids",
                64,
                self.max_leaked_asids,
            ),
            quota(
                "address_spaces",
                "tee-quota-address-spaces",
                64,
                self.address_spaces,
            ),
        ]
    }

    /// Checks the limits that a type cannot express.
    pub(super) fn check(&self) -> Result<(), String> {
        for Quota {
            key, most, value, ..
        } in self.all()
        {
            if let Some(value) = value.filter(|value| !(1..=most).contains(value)) {
                return Err(format!(
                    "tee_quota.{key} = {value}: it must be 1 to {most}; leave it out for the default"
                ));
            }
        }
        Ok(())
    }
}

impl TeePolicy {
    /// Checks the limits that a type cannot express.
    pub(super) fn check(&self) -> Result<(), String> {
        let list = self.applications.iter().flatten();
        let count = list
            .filter(|one| matches!(one, Application::Named(_)))
            .count();
        if count > MAX_APPLICATIONS {
            return Err(format!(
                "tee_policy.applications has {count} UUIDs; it takes {MAX_APPLICATIONS}; leave it out to allow all"
            ));
        }
        let count = self.partitions.iter().flatten().count();
        if count > MAX_PARTITIONS {
            return Err(format!(
                "tee_policy.partitions has {count} ids; it takes {MAX_PARTITIONS}; leave it out to allow all"
            ));
        }
        Ok(())
    }

    /// Returns a device that both policies claim.
    pub(super) fn shared_device(&self, other: &Self) -> Option<Device> {
        let mut mine = self.devices.iter().copied();
        mine.find(|device| other.devices.contains(device))
    }
}
