// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A call by the SMC Calling Convention: the owner of its function, its arguments, its results.

use optee_proto::smc::FunctionId;

/// The owner of a range of function ids (DEN0028E 6, table of owning entities).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwningEntity {
    /// 0: the architecture.
    Arch,
    /// 1: the implementer of the CPU.
    Cpu,
    /// 2: the maker of the silicon (SiP).
    Sip,
    /// 3: the maker of the device (OEM).
    Oem,
    /// 4: standard secure services: PSCI, TRNG, FF-A.
    StandardSecure,
    /// 5: standard hypervisor services: paravirtualised time.
    StandardHypervisor,
    /// 6: the vendor of the hypervisor.
    VendorHypervisor,
    /// 7: the vendor of the secure monitor.
    VendorMonitor,
    /// 48 and 49: trusted applications.
    TrustedApplication,
    /// 50 to 63: trusted operating systems, OP-TEE among them.
    TrustedOs,
    /// 8 to 47: reserved.
    Reserved,
}

impl OwningEntity {
    /// Returns the owner of a function.
    #[inline]
    pub const fn of(function: FunctionId) -> Self {
        match function.owner() {
            0 => Self::Arch,
            1 => Self::Cpu,
            2 => Self::Sip,
            3 => Self::Oem,
            4 => Self::StandardSecure,
            5 => Self::StandardHypervisor,
            6 => Self::VendorHypervisor,
            7 => Self::VendorMonitor,
            48 | 49 => Self::TrustedApplication,
            50..=63 => Self::TrustedOs,
            _ => Self::Reserved,
        }
    }
}

/// X0 to X3 after a call. From SMCCC 1.1 on, X4 to X17 are as before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct SmcReturn([u64; 4]);

impl SmcReturn {
    /// The answer of a function that returns nothing but its success.
    pub const SUCCESS: Self = Self::value(0);
    /// The answer to an unknown function: -1, in all 64 bits for SMC32 calls as well (DEN0028E, "Unknown Function
    /// Identifier").
    pub const NOT_SUPPORTED: Self = Self::error(crate::arch::NOT_SUPPORTED);

    /// Returns these values of X0 to X3.
    #[inline]
    pub const fn new(words: [u64; 4]) -> Self {
        Self(words)
    }

    /// Returns the answer that is one number.
    #[inline]
    pub const fn value(w0: u32) -> Self {
        Self([w0 as u64, 0, 0, 0])
    }

    /// Returns the answer that is one error code, a negative number, sign-extended to 64 bits. (In an SMC32 call W0
    /// alone has a meaning, so the extension is right for both.)
    #[inline]
    pub const fn error(code: i32) -> Self {
        Self([code as i64 as u64, 0, 0, 0])
    }

    /// Returns X0 to X3.
    #[inline]
    pub const fn words(self) -> [u64; 4] {
        self.0
    }
}

/// The function and the first arguments of one call. No service here has more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    function: FunctionId,
    args: [u64; 3],
}

impl Call {
    /// Reads the call of a guest whose X0 to X7 are `regs`. An SMC32 call has arguments of 32 bits, so the upper halves
    /// of its registers are dropped.
    #[inline]
    pub const fn new(regs: &[u64; 8]) -> Self {
        let function = FunctionId::from_x0(regs[0]).without_hint();
        let mask = if function.is_smc64() {
            u64::MAX
        } else {
            0xffff_ffff
        };
        Self {
            function,
            args: [regs[1] & mask, regs[2] & mask, regs[3] & mask],
        }
    }

    /// Returns the function that is called, without the SVE hint.
    #[inline]
    pub const fn function(&self) -> FunctionId {
        self.function
    }

    /// Returns arguments 1, 2 and 3: X1 to X3, or W1 to W3.
    #[inline]
    pub const fn args(&self) -> [u64; 3] {
        self.args
    }

    /// Returns the function that argument 1 names, in a call that asks about a function.
    #[inline]
    pub const fn queried_function(&self) -> FunctionId {
        FunctionId::from_x0(self.args[0]).without_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_at_the_edges_of_their_ranges() {
        for (id, owner) in [
            (0x8000_0000, OwningEntity::Arch),
            (0x80ff_ffff, OwningEntity::Arch),
            (0x8100_0000, OwningEntity::Cpu),
            (0x8200_0000, OwningEntity::Sip),
            (0x83ff_ffff, OwningEntity::Oem),
            (0x8400_0000, OwningEntity::StandardSecure),
            (0xc4ff_ffff, OwningEntity::StandardSecure),
            (0x8500_0000, OwningEntity::StandardHypervisor),
            (0x8600_ff01, OwningEntity::VendorHypervisor),
            (0x87ff_ffff, OwningEntity::VendorMonitor),
            (0x8800_0000, OwningEntity::Reserved),
            (0xafff_ffff, OwningEntity::Reserved),
            (0xb000_0000, OwningEntity::TrustedApplication),
            (0xb1ff_ffff, OwningEntity::TrustedApplication),
            (0x3200_0000, OwningEntity::TrustedOs),
            (0xbfff_ffff, OwningEntity::TrustedOs),
            (0x3fff_ffff, OwningEntity::TrustedOs),
        ] {
            let function = FunctionId::new(id);
            assert_eq!(OwningEntity::of(function), owner, "{id:#x}");
        }
    }

    #[test]
    fn the_sve_hint_is_no_part_of_the_function() {
        let hinted = Call::new(&[0xdead_beef_8401_0000, 0x8401_0003, 0, 0, 0, 0, 0, 0]);
        assert_eq!(hinted.function(), FunctionId::new(0x8400_0000));
        assert_eq!(hinted.queried_function(), FunctionId::new(0x8400_0003));
    }

    #[test]
    fn arguments_are_as_wide_as_the_call() {
        let call = |id| Call::new(&[id, u64::MAX, 1 << 32, 3, 4, 5, 6, u64::MAX]);
        assert_eq!(call(0xc400_0003).args(), [u64::MAX, 1 << 32, 3]);
        assert_eq!(call(0x8400_0003).args(), [0xffff_ffff, 0, 3]);
        assert_eq!(call(0x8400_0003).queried_function().get(), 0xfffe_ffff);
    }

    #[test]
    fn negative_results_are_sign_extended() {
        assert_eq!(SmcReturn::NOT_SUPPORTED.words(), [u64::MAX, 0, 0, 0]);
        assert_eq!(SmcReturn::error(-9).words()[0], 0xffff_ffff_ffff_fff7);
        assert_eq!(SmcReturn::value(0xffff_0001).words()[0], 0xffff_0001);
    }
}
