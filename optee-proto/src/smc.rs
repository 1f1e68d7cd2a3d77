// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Function identifiers and return codes: `optee_smc.h`, on top of the SMC Calling Convention
//! (Arm DEN0028).
//!
//! Registers a0..a7 are 32-bit registers in every call of this ABI, whatever the width of the
//! caller: 64-bit values travel as pairs, upper half first ([`pair`], [`unpair`]).

use core::fmt;

/// The function identifier of an SMC or HVC: the low 32 bits of x0 (DEN0028, 2.5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct FunctionId(u32);

impl FunctionId {
    /// Bit 16: "no SVE state is live", a hint that a caller may set in any identifier from
    /// SMCCC 1.3 on. It says nothing about which function is meant.
    pub const SVE_HINT: u32 = 1 << 16;

    /// Returns the identifier in the low 32 bits of x0. SMCCC ignores the upper half.
    #[inline]
    pub const fn from_x0(x0: u64) -> Self {
        Self(x0 as u32)
    }

    /// Returns the identifier with this value.
    #[inline]
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// Returns a fast SMC32 call of an owning entity.
    const fn fast(owner: u32, number: u32) -> Self {
        Self(0x8000_0000 | owner << 24 | number)
    }

    /// Returns a yielding SMC32 call of the trusted OS.
    const fn yielding(number: u32) -> Self {
        Self(OWNER_TRUSTED_OS << 24 | number)
    }

    /// Returns the identifier's value.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the identifier without the SVE hint.
    #[inline]
    pub const fn without_hint(self) -> Self {
        Self(self.0 & !Self::SVE_HINT)
    }

    /// Returns whether this is a fast (atomic) call rather than a yielding one.
    #[inline]
    pub const fn is_fast(self) -> bool {
        self.0 & 0x8000_0000 != 0
    }

    /// Returns whether the identifier is of the SMC64 convention. No function of OP-TEE is.
    #[inline]
    pub const fn is_smc64(self) -> bool {
        self.0 & 0x4000_0000 != 0
    }

    /// Returns the owning entity number, 0..=63.
    #[inline]
    pub const fn owner(self) -> u8 {
        (self.0 >> 24 & 0x3f) as u8
    }

    /// Returns the function within its owner's range: bits 23:0 but the hint. In a fast call bits 23:16 must be zero.
    #[inline]
    pub const fn number(self) -> u32 {
        self.0 & 0xff_ffff & !Self::SVE_HINT
    }
}

impl From<FunctionId> for u64 {
    /// Returns the identifier as x0 carries it.
    #[inline]
    fn from(id: FunctionId) -> Self {
        id.0.into()
    }
}

impl fmt::Debug for FunctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FunctionId({:#010x})", self.0)
    }
}

/// First owning entity of trusted applications (DEN0028, table 6-1).
pub const OWNER_TRUSTED_APP: u32 = 48;
/// Owning entity of the trusted OS: `ARM_SMCCC_OWNER_TRUSTED_OS`.
pub const OWNER_TRUSTED_OS: u32 = 50;
/// Last owning entity of the trusted OS: `ARM_SMCCC_OWNER_TRUSTED_OS_END`.
pub const OWNER_TRUSTED_OS_END: u32 = 63;

/// `OPTEE_SMC_CALLS_COUNT`: how many functions there are.
pub const CALLS_COUNT: FunctionId = FunctionId::fast(OWNER_TRUSTED_OS_END, 0xff00);
/// `OPTEE_SMC_CALLS_UID`: which API this is, a UUID in a0..a3 ([`crate::uuid::API_UID`]).
pub const CALLS_UID: FunctionId = FunctionId::fast(OWNER_TRUSTED_OS_END, 0xff01);
/// `OPTEE_SMC_CALLS_REVISION`: the API's revision, major in a0, minor in a1.
pub const CALLS_REVISION: FunctionId = FunctionId::fast(OWNER_TRUSTED_OS_END, 0xff03);
/// `OPTEE_SMC_CALL_GET_OS_UUID`: which trusted OS this is.
pub const GET_OS_UUID: FunctionId = FunctionId::fast(OWNER_TRUSTED_OS, 0);
/// `OPTEE_SMC_CALL_GET_OS_REVISION`: its revision in a0, a1, and a build identifier in a2.
pub const GET_OS_REVISION: FunctionId = FunctionId::fast(OWNER_TRUSTED_OS, 1);
/// `OPTEE_SMC_GET_SHM_CONFIG`: the reserved shared memory.
pub const GET_SHM_CONFIG: FunctionId = FunctionId::fast(OWNER_TRUSTED_OS, 7);
/// `OPTEE_SMC_L2CC_MUTEX`: a lock for the outer cache of some 32-bit systems.
pub const L2CC_MUTEX: FunctionId = FunctionId::fast(OWNER_TRUSTED_OS, 8);
/// `OPTEE_SMC_EXCHANGE_CAPABILITIES`: see [`crate::caps`].
pub const EXCHANGE_CAPABILITIES: FunctionId = FunctionId::fast(OWNER_TRUSTED_OS, 9);
/// `OPTEE_SMC_DISABLE_SHM_CACHE`: stop caching RPC argument buffers and give one back.
pub const DISABLE_SHM_CACHE: FunctionId = FunctionId::fast(OWNER_TRUSTED_OS, 10);
/// `OPTEE_SMC_ENABLE_SHM_CACHE`: keep RPC argument buffers from one call to the next.
pub const ENABLE_SHM_CACHE: FunctionId = FunctionId::fast(OWNER_TRUSTED_OS, 11);
/// `OPTEE_SMC_BOOT_SECONDARY`: release a secondary core.
pub const BOOT_SECONDARY: FunctionId = FunctionId::fast(OWNER_TRUSTED_OS, 12);
/// `OPTEE_SMC_VM_CREATED`: a virtual machine begins; hypervisor only.
pub const VM_CREATED: FunctionId = FunctionId::fast(OWNER_TRUSTED_OS, 13);
/// `OPTEE_SMC_VM_DESTROYED`: a virtual machine has ended; hypervisor only.
pub const VM_DESTROYED: FunctionId = FunctionId::fast(OWNER_TRUSTED_OS, 14);
/// `OPTEE_SMC_GET_THREAD_COUNT`: how many yielding calls can be in flight.
pub const GET_THREAD_COUNT: FunctionId = FunctionId::fast(OWNER_TRUSTED_OS, 15);
/// `OPTEE_SMC_ENABLE_ASYNC_NOTIF`: the normal world is ready for notifications.
pub const ENABLE_ASYNC_NOTIF: FunctionId = FunctionId::fast(OWNER_TRUSTED_OS, 16);
/// `OPTEE_SMC_GET_ASYNC_NOTIF_VALUE`: the next pending notification.
pub const GET_ASYNC_NOTIF_VALUE: FunctionId = FunctionId::fast(OWNER_TRUSTED_OS, 17);
/// `OPTEE_SMC_GET_PROTMEM_CONFIG`: the protected memory pool.
pub const GET_PROTMEM_CONFIG: FunctionId = FunctionId::fast(OWNER_TRUSTED_OS, 20);

/// `OPTEE_SMC_CALL_RETURN_FROM_RPC`: the normal world has done what an RPC asked for.
pub const CALL_RETURN_FROM_RPC: FunctionId = FunctionId::yielding(3);
/// `OPTEE_SMC_CALL_WITH_ARG`: a message at a physical address.
pub const CALL_WITH_ARG: FunctionId = FunctionId::yielding(4);
/// `OPTEE_SMC_CALL_WITH_RPC_ARG`: the same, followed by room for RPC messages.
pub const CALL_WITH_RPC_ARG: FunctionId = FunctionId::yielding(18);
/// `OPTEE_SMC_CALL_WITH_REGD_ARG`: the same in registered memory: cookie in a1:a2, offset in a3.
pub const CALL_WITH_REGD_ARG: FunctionId = FunctionId::yielding(19);

/// `OPTEE_SMC_SHM_CACHED`: the memory attribute of the message, in a3 of [`CALL_WITH_ARG`].
pub const SHM_CACHED: u64 = 1;

/// `OPTEE_SMC_ASYNC_NOTIF_VALUE_VALID`: bit of a2: a1 holds a notification.
pub const ASYNC_NOTIF_VALUE_VALID: u64 = 1 << 0;
/// `OPTEE_SMC_ASYNC_NOTIF_VALUE_PENDING`: bit of a2: there is another one.
pub const ASYNC_NOTIF_VALUE_PENDING: u64 = 1 << 1;
/// `OPTEE_SMC_ASYNC_NOTIF_VALUE_DO_BOTTOM_HALF`: the notification that asks for
/// [`crate::msg::Command::DO_BOTTOM_HALF`].
pub const ASYNC_NOTIF_VALUE_DO_BOTTOM_HALF: u64 = 0;

/// The return code of a call, in a0: `OPTEE_SMC_RETURN_*`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Return(u32);

impl Return {
    /// `OPTEE_SMC_RETURN_OK`: done; of a yielding call: its result is in the message.
    pub const OK: Self = Self(0);
    /// `OPTEE_SMC_RETURN_ETHREAD_LIMIT`: no thread is free, try later.
    pub const ETHREAD_LIMIT: Self = Self(1);
    /// `OPTEE_SMC_RETURN_EBUSY`: not while calls are in flight.
    pub const EBUSY: Self = Self(2);
    /// `OPTEE_SMC_RETURN_ERESUME`: there is no such suspended call.
    pub const ERESUME: Self = Self(3);
    /// `OPTEE_SMC_RETURN_EBADADDR`: the message's address is wrong.
    pub const EBADADDR: Self = Self(4);
    /// `OPTEE_SMC_RETURN_EBADCMD`: the message's command is unknown.
    pub const EBADCMD: Self = Self(5);
    /// `OPTEE_SMC_RETURN_ENOMEM`: out of memory.
    pub const ENOMEM: Self = Self(6);
    /// `OPTEE_SMC_RETURN_ENOTAVAIL`: not available.
    pub const ENOTAVAIL: Self = Self(7);
    /// `OPTEE_SMC_RETURN_UNKNOWN_FUNCTION`: there is no such function.
    pub const UNKNOWN_FUNCTION: Self = Self(0xffff_ffff);

    /// Returns the code in the low 32 bits of x0.
    #[inline]
    pub const fn from_x0(x0: u64) -> Self {
        Self(x0 as u32)
    }

    /// Returns the code's value, as x0 carries it.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0 as u64
    }

    /// Returns the RPC function, if the call is suspended and makes a request:
    /// `OPTEE_SMC_RETURN_IS_RPC`. [`Return::UNKNOWN_FUNCTION`] has the same prefix and is not an RPC.
    #[inline]
    pub const fn rpc(self) -> Option<crate::rpc::Function> {
        if self.0 >> 16 == 0xffff && self.0 != Self::UNKNOWN_FUNCTION.0 {
            Some(crate::rpc::Function::new(self.0 as u16))
        } else {
            None
        }
    }
}

impl fmt::Debug for Return {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Return({:#x})", self.0)
    }
}

/// Splits a 64-bit value into two registers, upper half first: `reg_pair_from_64`.
#[inline]
pub const fn pair(value: u64) -> (u64, u64) {
    (value >> 32, value & 0xffff_ffff)
}

/// Joins the 64-bit value in two registers, upper half first: `reg_pair_to_64`. The upper 32 bits of
/// both are ignored, since a1 and a2 are 32-bit registers.
#[inline]
pub const fn unpair(upper: u64, lower: u64) -> u64 {
    (upper & 0xffff_ffff) << 32 | (lower & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn function_ids_have_the_values_of_the_header() {
        for (id, value) in [
            (CALLS_COUNT, 0xbf00_ff00),
            (CALLS_UID, 0xbf00_ff01),
            (CALLS_REVISION, 0xbf00_ff03),
            (GET_OS_UUID, 0xb200_0000),
            (GET_OS_REVISION, 0xb200_0001),
            (GET_SHM_CONFIG, 0xb200_0007),
            (L2CC_MUTEX, 0xb200_0008),
            (EXCHANGE_CAPABILITIES, 0xb200_0009),
            (DISABLE_SHM_CACHE, 0xb200_000a),
            (ENABLE_SHM_CACHE, 0xb200_000b),
            (BOOT_SECONDARY, 0xb200_000c),
            (VM_CREATED, 0xb200_000d),
            (VM_DESTROYED, 0xb200_000e),
            (GET_THREAD_COUNT, 0xb200_000f),
            (ENABLE_ASYNC_NOTIF, 0xb200_0010),
            (GET_ASYNC_NOTIF_VALUE, 0xb200_0011),
            (GET_PROTMEM_CONFIG, 0xb200_0014),
            (CALL_RETURN_FROM_RPC, 0x3200_0003),
            (CALL_WITH_ARG, 0x3200_0004),
            (CALL_WITH_RPC_ARG, 0x3200_0012),
            (CALL_WITH_REGD_ARG, 0x3200_0013),
        ] {
            assert_eq!(id.get(), value);
            assert_eq!(id.is_fast(), value >> 31 == 1);
            assert!(!id.is_smc64());
        }
    }

    #[test]
    fn identifiers_come_apart() {
        let id = FunctionId::from_x0(0xdead_beef_7201_0004);
        assert_eq!(id.get(), 0x7201_0004);
        assert!(id.is_smc64() && !id.is_fast());
        assert_eq!((id.owner(), id.number()), (50, 4));
        assert_eq!(FunctionId::new(0x8450_0063).number(), 0x50_0063);
        assert_eq!(id.without_hint().get(), 0x7200_0004);
    }

    #[test]
    fn unknown_function_is_not_an_rpc() {
        assert!(Return::UNKNOWN_FUNCTION.rpc().is_none());
        assert!(Return::OK.rpc().is_none());
        assert_eq!(
            Return::from_x0(0xffff_0005).rpc(),
            Some(crate::rpc::Function::CMD)
        );
        assert_eq!(
            Return::from_x0(0xffff_fffe).rpc(),
            Some(crate::rpc::Function::new(0xfffe))
        );
    }

    #[test]
    fn pairs_ignore_upper_halves() {
        assert_eq!(
            unpair(0xaaaa_aaaa_0000_0001, 0xbbbb_bbbb_8000_0000),
            0x1_8000_0000
        );
        assert_eq!(pair(0x1234_5678_9abc_def0), (0x1234_5678, 0x9abc_def0));
    }
}
