// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A call by the SMC Calling Convention (DEN0028): who is called, and with what.

/// The hint that the caller has no live SVE state (SMCCC 1.3): not a part of the identifier.
const SVE_HINT: u32 = 1 << 16;

/// A function identifier, W0 of the call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct FunctionId(u32);

impl FunctionId {
    /// The identifier in X0: its low 32 bits, without the SVE hint.
    #[inline]
    pub const fn from_x0(x0: u64) -> Self {
        Self::new(x0 as u32)
    }

    /// The identifier with this value, without the SVE hint.
    #[inline]
    pub const fn new(value: u32) -> Self {
        Self(value & !SVE_HINT)
    }

    /// The numeric value.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether the call is fast (atomic), or yielding: one that can be interrupted and resumed.
    #[inline]
    pub const fn is_fast(self) -> bool {
        self.0 >> 31 == 1
    }

    /// Whether it is an SMC64 call, whose arguments have 64 bits, or an SMC32 call.
    #[inline]
    pub const fn is_64(self) -> bool {
        self.0 >> 30 & 1 == 1
    }

    /// Whose function it is: bits 29:24.
    #[inline]
    pub const fn owner(self) -> OwningEntity {
        match self.0 >> 24 & 0x3f {
            0 => OwningEntity::Arch,
            1 => OwningEntity::Cpu,
            2 => OwningEntity::Sip,
            3 => OwningEntity::Oem,
            4 => OwningEntity::StandardSecure,
            5 => OwningEntity::StandardHypervisor,
            6 => OwningEntity::VendorHypervisor,
            7 => OwningEntity::VendorMonitor,
            48 | 49 => OwningEntity::TrustedApplication,
            50..=63 => OwningEntity::TrustedOs,
            _ => OwningEntity::Reserved,
        }
    }

    /// The function within its owner's range, and for fast calls the bits that must be zero:
    /// bits 23:0 but the hint.
    #[inline]
    pub const fn number(self) -> u32 {
        self.0 & 0xff_ffff
    }
}

impl core::fmt::Debug for FunctionId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "FunctionId({:#x})", self.0)
    }
}

/// Who owns a range of function identifiers (DEN0028, table of owning entities).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwningEntity {
    /// 0: the architecture.
    Arch,
    /// 1: the CPU's implementer.
    Cpu,
    /// 2: the silicon's maker.
    Sip,
    /// 3: the device's maker.
    Oem,
    /// 4: standard secure services: PSCI, TRNG, FF-A.
    StandardSecure,
    /// 5: standard hypervisor services: paravirtualised time.
    StandardHypervisor,
    /// 6: the hypervisor's own.
    VendorHypervisor,
    /// 7: the secure monitor's own.
    VendorMonitor,
    /// 48 and 49: trusted applications.
    TrustedApplication,
    /// 50 to 63: trusted operating systems, OP-TEE among them.
    TrustedOs,
    /// 8 to 47: nobody.
    Reserved,
}

/// X0 to X3 after a call. From SMCCC 1.1 on, X4 to X17 are as before it.
pub type Returned = [u64; 4];

/// X0 of an unknown function: -1, in all 64 bits for SMC32 calls as well (DEN0028, "Unknown
/// Function Identifier").
pub const NOT_SUPPORTED: Returned = value(-1);

/// A call that returns one signed number, sign-extended to 64 bits. (In an SMC32 call only W0
/// means anything, so the extension is right for both.)
#[inline]
pub const fn value(x0: i32) -> Returned {
    [x0 as i64 as u64, 0, 0, 0]
}

/// One call's identifier and arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    function: FunctionId,
    args: [u64; 7],
}

impl Call {
    /// The call of a guest whose X0 to X7 are `regs`. An SMC32 call has arguments of 32 bits: the
    /// upper halves are not the guest's to fill, and are dropped.
    #[inline]
    pub const fn new(regs: &[u64; 8]) -> Self {
        let function = FunctionId::from_x0(regs[0]);
        let mask = if function.is_64() {
            u64::MAX
        } else {
            0xffff_ffff
        };
        Self {
            function,
            args: [
                regs[1] & mask,
                regs[2] & mask,
                regs[3] & mask,
                regs[4] & mask,
                regs[5] & mask,
                regs[6] & mask,
                regs[7] & mask,
            ],
        }
    }

    /// Which function is called.
    #[inline]
    pub const fn function(&self) -> FunctionId {
        self.function
    }

    /// Arguments 1, 2 and 3: X1 to X3, or W1 to W3.
    #[inline]
    pub const fn first_three(&self) -> [u64; 3] {
        [self.args[0], self.args[1], self.args[2]]
    }

    /// Argument 1, which often is a function identifier to ask about.
    #[inline]
    pub const fn asked(&self) -> FunctionId {
        FunctionId::from_x0(self.args[0])
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
            assert_eq!(function.owner(), owner, "{id:#x}");
            let for_tee = [OwningEntity::TrustedApplication, OwningEntity::TrustedOs];
            let is_for_tee = mediator::Mediator::owns(optee_proto::FunctionId::new(id));
            assert_eq!(is_for_tee, for_tee.contains(&owner), "{id:#x}");
        }
    }

    #[test]
    fn kinds_of_call() {
        for (id, fast, wide) in [
            (0x3200_0004, false, false),
            (0x7200_0004, false, true),
            (0x8400_0000, true, false),
            (0xc400_0003, true, true),
        ] {
            let id = FunctionId::new(id);
            assert_eq!((id.is_fast(), id.is_64()), (fast, wide));
        }
    }

    #[test]
    fn the_sve_hint_and_the_upper_half_are_no_part_of_the_identifier() {
        let plain = FunctionId::new(0x8400_0000);
        assert_eq!(FunctionId::from_x0(0xdead_beef_8401_0000), plain);
        // The neighbours are.
        assert_ne!(FunctionId::new(0x8402_0000), plain);
        assert_ne!(FunctionId::new(0x8400_8000), plain);
    }

    #[test]
    fn arguments_are_as_wide_as_the_call() {
        let call = |id| Call::new(&[id, u64::MAX, 1 << 32, 3, 4, 5, 6, u64::MAX]);
        assert_eq!(call(0xc400_0003).first_three(), [u64::MAX, 1 << 32, 3]);
        assert_eq!(call(0x8400_0003).first_three(), [0xffff_ffff, 0, 3]);
        assert_eq!(call(0x8400_0003).asked().get(), 0xfffe_ffff);
    }

    #[test]
    fn negative_results_are_sign_extended() {
        assert_eq!(NOT_SUPPORTED, [u64::MAX, 0, 0, 0]);
        assert_eq!(value(-9)[0], 0xffff_ffff_ffff_fff7);
        assert_eq!(value(0x1_0001)[0], 0x1_0001);
    }
}
