// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Function ids: which call it is, by w0 (DEN0077A issue J; DEN0028E 2.5 for the bits of an SMC's id).

use crate::version::Version;
use core::fmt;

/// The convention of a call: how many bits a register has, and how many registers take part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// SMC32: w0 to w7.
    Smc32,
    /// SMC64: x0 to x7, and x8 to x17 in calls that say so, from version 1.2 on.
    Smc64,
}

/// The conventions that a function is defined for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Widths {
    Only32,
    Only64,
    Both,
}

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $since:ident, $widths:ident;)*) => {
        /// A function of the framework, without its convention.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Function {
            $($(#[$doc])* $name = $number,)*
        }

        impl Function {
            /// All functions, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns the function with this number.
            const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Returns the specification's name, such as `FFA_MEM_SHARE`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => concat!("FFA_", $text),)*
                }
            }

            /// Returns the first version that has the function.
            pub const fn since(self) -> Version {
                match self {
                    $(Self::$name => Version::$since,)*
                }
            }

            const fn widths(self) -> Widths {
                match self {
                    $(Self::$name => Widths::$widths,)*
                }
            }
        }
    };
}

functions! {
    /// The answer of a call that has failed.
    Error = 0x60, "ERROR", V1_0, Only32;
    /// The answer of a call that has succeeded.
    Success = 0x61, "SUCCESS", V1_0, Both;
    /// The answer of a call that an interrupt has stopped.
    Interrupt = 0x62, "INTERRUPT", V1_0, Only32;
    /// Agrees on a version.
    Version = 0x63, "VERSION", V1_0, Only32;
    /// Asks for a feature, or whether a function is implemented.
    Features = 0x64, "FEATURES", V1_0, Only32;
    /// Gives the RX buffer back to its producer.
    RxRelease = 0x65, "RX_RELEASE", V1_0, Only32;
    /// Registers the RX and the TX buffer.
    RxtxMap = 0x66, "RXTX_MAP", V1_0, Both;
    /// Ends the use of these buffers.
    RxtxUnmap = 0x67, "RXTX_UNMAP", V1_0, Only32;
    /// Asks for partitions, by the RX buffer.
    PartitionInfoGet = 0x68, "PARTITION_INFO_GET", V1_0, Only32;
    /// Asks for the caller's id.
    IdGet = 0x69, "ID_GET", V1_0, Only32;
    /// Looks for a message; in version 1.0 only.
    MsgPoll = 0x6a, "MSG_POLL", V1_0, Only32;
    /// Waits for a message.
    MsgWait = 0x6b, "MSG_WAIT", V1_0, Only32;
    /// Gives the CPU back.
    Yield = 0x6c, "YIELD", V1_0, Only32;
    /// Runs an execution context.
    Run = 0x6d, "RUN", V1_0, Only32;
    /// Sends a message by the TX buffer; in version 1.0 only.
    MsgSend = 0x6e, "MSG_SEND", V1_0, Only32;
    /// Sends a message in registers, and runs its receiver.
    MsgSendDirectReq = 0x6f, "MSG_SEND_DIRECT_REQ", V1_0, Both;
    /// Answers such a message.
    MsgSendDirectResp = 0x70, "MSG_SEND_DIRECT_RESP", V1_0, Both;
    /// Gives memory away.
    MemDonate = 0x71, "MEM_DONATE", V1_0, Both;
    /// Lends memory.
    MemLend = 0x72, "MEM_LEND", V1_0, Both;
    /// Shares memory.
    MemShare = 0x73, "MEM_SHARE", V1_0, Both;
    /// Asks for memory that another endpoint sends.
    MemRetrieveReq = 0x74, "MEM_RETRIEVE_REQ", V1_0, Both;
    /// Answers that.
    MemRetrieveResp = 0x75, "MEM_RETRIEVE_RESP", V1_0, Only32;
    /// Ends the use of memory of another endpoint.
    MemRelinquish = 0x76, "MEM_RELINQUISH", V1_0, Only32;
    /// Takes memory back.
    MemReclaim = 0x77, "MEM_RECLAIM", V1_0, Only32;
    /// Interrupts a memory call; in version 1.0 only.
    MemOpPause = 0x78, "MEM_OP_PAUSE", V1_0, Only32;
    /// Goes on with a memory call; in version 1.0 only.
    MemOpResume = 0x79, "MEM_OP_RESUME", V1_0, Only32;
    /// Asks for the next fragment of a descriptor.
    MemFragRx = 0x7a, "MEM_FRAG_RX", V1_0, Only32;
    /// Sends the next fragment of a descriptor.
    MemFragTx = 0x7b, "MEM_FRAG_TX", V1_0, Only32;
    /// Goes back to the normal world, between SPMC and SPMD.
    NormalWorldResume = 0x7c, "NORMAL_WORLD_RESUME", V1_0, Only32;
    /// Makes room for the notifications of a VM.
    NotificationBitmapCreate = 0x7d, "NOTIFICATION_BITMAP_CREATE", V1_1, Only32;
    /// Frees that room.
    NotificationBitmapDestroy = 0x7e, "NOTIFICATION_BITMAP_DESTROY", V1_1, Only32;
    /// Allows a sender to signal notifications.
    NotificationBind = 0x7f, "NOTIFICATION_BIND", V1_1, Only32;
    /// Ends that.
    NotificationUnbind = 0x80, "NOTIFICATION_UNBIND", V1_1, Only32;
    /// Signals notifications.
    NotificationSet = 0x81, "NOTIFICATION_SET", V1_1, Only32;
    /// Fetches and clears pending notifications.
    NotificationGet = 0x82, "NOTIFICATION_GET", V1_1, Only32;
    /// Asks which endpoints have pending notifications.
    NotificationInfoGet = 0x83, "NOTIFICATION_INFO_GET", V1_1, Both;
    /// Takes the RX buffer of a VM, from the hypervisor to the SPMC.
    RxAcquire = 0x84, "RX_ACQUIRE", V1_1, Only32;
    /// Asks for the SPMC's id.
    SpmIdGet = 0x85, "SPM_ID_GET", V1_1, Only32;
    /// Sends a message by the TX buffer.
    MsgSend2 = 0x86, "MSG_SEND2", V1_1, Only32;
    /// Registers where further CPUs begin.
    SecondaryEpRegister = 0x87, "SECONDARY_EP_REGISTER", V1_1, Both;
    /// Asks for the permissions of a page of a partition.
    MemPermGet = 0x88, "MEM_PERM_GET", V1_1, Both;
    /// Sets the permissions of a page of a partition.
    MemPermSet = 0x89, "MEM_PERM_SET", V1_1, Both;
    /// Prints characters.
    ConsoleLog = 0x8a, "CONSOLE_LOG", V1_2, Both;
    /// Asks for partitions, by registers.
    PartitionInfoGetRegs = 0x8b, "PARTITION_INFO_GET_REGS", V1_2, Only64;
    /// Hands an interrupt to EL3, between SPMC and SPMD.
    El3IntrHandle = 0x8c, "EL3_INTR_HANDLE", V1_2, Only32;
    /// Sends a message in registers to a service of an endpoint.
    MsgSendDirectReq2 = 0x8d, "MSG_SEND_DIRECT_REQ2", V1_2, Only64;
    /// Answers such a message.
    MsgSendDirectResp2 = 0x8e, "MSG_SEND_DIRECT_RESP2", V1_2, Only64;
}

/// The identifier of a call or of an answer: the low 32 bits of x0. It may be of no function of the framework.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct FunctionId(u32);

/// Bits of an id that all of the framework's have: a fast call of the standard secure services.
const BASE: u32 = 0x8400_0000;
/// Bit 30: SMC64.
const SMC64: u32 = 1 << 30;

impl FunctionId {
    /// The first and the last number that belongs to the framework.
    pub const NUMBERS: core::ops::RangeInclusive<u32> = 0x60..=0xff;

    /// Returns the id of a function by a convention. The function need not be defined for it: see
    /// [`FunctionId::is_defined`].
    pub const fn new(function: Function, width: Width) -> Self {
        let base = match width {
            Width::Smc32 => BASE,
            Width::Smc64 => BASE | SMC64,
        };
        Self(base | function as u32)
    }

    /// Returns the id in the low 32 bits of x0.
    pub const fn from_x0(x0: u64) -> Self {
        Self(x0 as u32)
    }

    /// Returns the id's value.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns whether the id belongs to the framework: also those that no version defines yet.
    pub const fn is_ffa(self) -> bool {
        let number = self.0 & !(BASE | SMC64);
        self.0 & BASE == BASE && number >= 0x60 && number <= 0xff
    }

    /// Returns the id's convention.
    pub const fn width(self) -> Width {
        if self.0 & SMC64 == 0 {
            Width::Smc32
        } else {
            Width::Smc64
        }
    }

    /// Returns the function, if a version up to 1.2 has one with this id by this convention.
    pub const fn function(self) -> Option<Function> {
        if !self.is_ffa() {
            return None;
        }
        match Function::from_number(self.0 as u8) {
            Some(function) if function.has(self.width()) => Some(function),
            _ => None,
        }
    }

    /// Returns whether a version has the function.
    pub fn is_defined(self, version: Version) -> bool {
        self.function()
            .is_some_and(|function| function.since() <= version)
    }
}

impl Function {
    /// Returns whether the function is defined for a convention.
    pub const fn has(self, width: Width) -> bool {
        matches!(
            (self.widths(), width),
            (Widths::Both, _) | (Widths::Only32, Width::Smc32) | (Widths::Only64, Width::Smc64)
        )
    }

    /// Returns whether x8 to x17 take part in the call, when it is an SMC64 of version 1.2.
    pub const fn is_long(self) -> bool {
        matches!(
            self,
            Self::Success
                | Self::MsgSendDirectReq2
                | Self::MsgSendDirectResp2
                | Self::PartitionInfoGetRegs
                | Self::ConsoleLog
        )
    }
}

impl fmt::Display for FunctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.function() {
            Some(function) => f.write_str(function.name()),
            None => write!(f, "{:#010x}", self.0),
        }
    }
}

impl fmt::Debug for FunctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FunctionId({:#010x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_has_bit_30_for_smc64() {
        let share = FunctionId::new(Function::MemShare, Width::Smc64);
        assert_eq!(share.get(), 0xc400_0073);
        assert_eq!(share.width(), Width::Smc64);
        assert_eq!(share.function(), Some(Function::MemShare));
    }

    #[test]
    fn convention_that_a_function_lacks_is_no_function() {
        assert_eq!(FunctionId::from_x0(0xc400_0063).function(), None);
        assert_eq!(FunctionId::from_x0(0x8400_008b).function(), None);
        assert!(FunctionId::from_x0(0xc400_0063).is_ffa());
    }

    #[test]
    fn ids_of_others_are_no_functions() {
        for id in [
            0x8400_0000,
            0x8400_005f,
            0x8400_0100,
            0x0400_0063,
            0x8600_0063,
            0x8401_0063,
        ] {
            let id = FunctionId::from_x0(id);
            assert!(!id.is_ffa() && id.function().is_none(), "{id}");
        }
        // The upper half of x0 does not count.
        assert!(FunctionId::from_x0(0xffff_ffff_8400_0063).is_ffa());
    }

    #[test]
    fn function_of_a_later_version_is_not_defined() {
        let bind = FunctionId::new(Function::NotificationBind, Width::Smc32);
        assert!(!bind.is_defined(Version::V1_0) && bind.is_defined(Version::V1_1));
    }
}
