// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest's message, and the message that OP-TEE gets in its place.
//!
//! The kind of each parameter is decided here, on a private copy, by its whole 64-bit attribute. OP-TEE's
//! message is built from that decision field by field. Only fields that the decision made outputs come back.

use crate::memory::GuestCookie;
use optee_proto::TeeResult;
use optee_proto::ffa::Fmem;
use optee_proto::msg::{self, Attr, Command, Header, Param};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The most parameters of any command: four for the application, two for OP-TEE.
pub(crate) const MAX_PARAMS: usize = 6;

/// Bytes of a message that are fetched at once: enough for every command but OPEN_SESSION.
pub(crate) const USUAL_SIZE: usize = msg::size(4);

/// A message in private memory.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub(crate) struct Message {
    pub(crate) header: Header,
    pub(crate) params: [Param; MAX_PARAMS],
}

/// Returns the least and the greatest number of parameters of a command, or `None` if the command is unknown or
/// not for guests.
#[inline]
pub(crate) fn arity(command: Command, notifications: impl Fn() -> bool) -> Option<(usize, usize)> {
    Some(match command {
        Command::OPEN_SESSION => (2, 6),
        Command::INVOKE => (0, 4),
        Command::CLOSE_SESSION | Command::CANCEL => (0, 0),
        Command::REGISTER_SHM | Command::UNREGISTER_SHM => (1, 1),
        Command::DO_BOTTOM_HALF | Command::STOP_ASYNC_NOTIF if notifications() => (0, 0),
        _ => return None,
    })
}

/// The kind of a parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// No parameter.
    None,
    /// Three words; `out`: they come back.
    Value { out: bool },
    /// Part of a buffer; `out`: its size comes back.
    Memory { out: bool },
    /// A NULL reference; `out`: its size comes back.
    Null { out: bool },
}

impl Kind {
    /// Returns the kind of a parameter over the SMC ABI, or an error if the parameter is not allowed.
    ///
    /// The attribute must be a type and nothing else. META, NONCONTIG, cache attributes, undefined bits and
    /// memory by address are refused.
    pub(crate) fn of(param: &Param) -> Result<Self, TeeResult> {
        Ok(match param.attr() {
            Attr::NONE => Self::None,
            Attr::VALUE_INPUT => Self::Value { out: false },
            Attr::VALUE_OUTPUT | Attr::VALUE_INOUT => Self::Value { out: true },
            Attr::RMEM_INPUT => Self::Memory { out: false },
            Attr::RMEM_OUTPUT | Attr::RMEM_INOUT => Self::Memory { out: true },
            Attr::TMEM_INPUT if param.a.get() == 0 => Self::Null { out: false },
            Attr::TMEM_OUTPUT | Attr::TMEM_INOUT if param.a.get() == 0 => Self::Null { out: true },
            _ => return Err(TeeResult::BAD_PARAMETERS),
        })
    }

    /// Returns the kind of a parameter in a guest's message, as [`Kind::of`]. A reference to no bytes of the
    /// buffer with cookie 0 is a NULL reference too. U-Boot and Zephyr write it this way.
    ///
    /// No guest buffer has that cookie. OP-TEE itself would find the page of the call's message under it, so it
    /// gets a NULL reference instead.
    pub(crate) fn of_guest(param: &Param) -> Result<Self, TeeResult> {
        Ok(match Self::of(param)? {
            Self::Memory { out } if (param.b.get(), param.c.get()) == (0, 0) => Self::Null { out },
            kind => kind,
        })
    }

    /// Returns the kind of a parameter over FF-A. FMEM has the types of RMEM, and there is no TMEM.
    pub(crate) fn of_ffa(param: &Param) -> Result<Self, TeeResult> {
        Ok(match Self::of(param)? {
            Self::Null { .. } => return Err(TeeResult::BAD_PARAMETERS),
            Self::Memory { out } if param.c.get() == Fmem::NULL => Self::Null { out },
            kind => kind,
        })
    }

    /// Returns the kind of a parameter in a guest's message, as [`Kind::of_ffa`]. No memory has no size: OP-TEE takes it for
    /// memory that it does not find, and prints a line about it.
    pub(crate) fn of_ffa_guest(param: &Param) -> Result<Self, TeeResult> {
        match Self::of_ffa(param)? {
            Self::Null { .. } if param.b.get() != 0 => Err(TeeResult::BAD_PARAMETERS),
            kind => Ok(kind),
        }
    }

    /// Returns the parameter for the other side, without the name of a buffer, over FF-A.
    pub(crate) fn plain_ffa(self, param: &Param) -> Param {
        match self {
            // No offset; only the size has a meaning.
            Self::Null { .. } => Param::new(param.attr(), 0, param.b.get(), Fmem::NULL),
            kind => kind.plain(param),
        }
    }

    /// Returns the parameter for the other side, without the name of a buffer. Payload without a meaning
    /// becomes zero.
    pub(crate) fn plain(self, param: &Param) -> Param {
        let attr = param.attr();
        match self {
            Self::None => Param::default(),
            Self::Value { .. } => *param,
            // No address and no cookie; only the size has a meaning.
            Self::Null { .. } => {
                let attr = match attr {
                    Attr::RMEM_INPUT => Attr::TMEM_INPUT,
                    Attr::RMEM_OUTPUT => Attr::TMEM_OUTPUT,
                    Attr::RMEM_INOUT => Attr::TMEM_INOUT,
                    attr => attr,
                };
                Param::new(attr, 0, param.b.get(), 0)
            }
            Self::Memory { .. } => Param::new(attr, param.a.get(), param.b.get(), 0),
        }
    }

    /// Copies what is an output of a parameter of this kind from `answer`.
    pub(crate) fn copy_out(self, answer: &Param, to: &mut Param) {
        match self {
            Self::Value { out: true } => {
                (to.a, to.b, to.c) = (answer.a, answer.b, answer.c);
            }
            Self::Memory { out: true } | Self::Null { out: true } => to.b = answer.b,
            _ => {}
        }
    }

    /// Returns whether the parameter has an output.
    pub(crate) const fn is_out(self) -> bool {
        matches!(
            self,
            Self::Value { out: true } | Self::Memory { out: true } | Self::Null { out: true }
        )
    }
}

/// The page list of REGISTER_SHM, or of the answer to the RPC SHM_ALLOC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PageList {
    /// Address of the list, and in its low 12 bits the offset into the first page.
    pub(crate) buf_ptr: u64,
    pub(crate) size: u64,
    pub(crate) cookie: GuestCookie,
}

impl PageList {
    /// Returns the page list in the three words of a temporary memory reference. A cookie of zero is an error.
    pub(crate) fn of(param: &Param) -> Result<Self, TeeResult> {
        if param.c.get() == 0 || param.a.get() == 0 {
            return Err(TeeResult::BAD_PARAMETERS);
        }
        Ok(Self {
            buf_ptr: param.a.get(),
            size: param.b.get(),
            cookie: GuestCookie(param.c.get()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::tests::tries(256))]

        /// No attribute but the eleven that Linux uses, whatever the other bits are.
        #[test]
        fn other_attributes_are_refused(attr in any::<u64>(), flag in 8u32..64, low in 0u64..16) {
            let known = |a: u64| matches!(a, 0..=3 | 5..=7 | 9..=0xb);
            prop_assert_eq!(Kind::of(&Param::new(Attr(low), 0, 0, 1)).is_ok(), known(low));
            prop_assert!(Kind::of(&Param::new(Attr(low | 1 << flag), 0, 0, 1)).is_err());
            prop_assert_eq!(Kind::of(&Param::new(Attr(attr), 0, 0, 1)).is_ok(), known(attr));
        }

        /// Only outputs come back, and attributes never.
        #[test]
        fn only_outputs_come_back(low in 0u64..16, words in any::<[u64; 3]>(), answer in any::<[u64; 4]>()) {
            let param = Param::new(Attr(low), 0, words[1], words[2]);
            let Ok(kind) = Kind::of(&param) else { return Ok(()) };
            let mut to = param;
            kind.copy_out(&Param::new(Attr(answer[0]), answer[1], answer[2], answer[3]), &mut to);
            prop_assert_eq!(to.attr, param.attr);
            match kind {
                Kind::Value { out: true } => {
                    prop_assert_eq!((to.a.get(), to.b.get(), to.c.get()), (answer[1], answer[2], answer[3]));
                }
                _ if kind.is_out() => {
                    prop_assert_eq!((to.a, to.b.get(), to.c), (param.a, answer[2], param.c));
                }
                _ => prop_assert_eq!(to, param),
            }
        }
    }
}
