// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The calls about calls (DEN0028): versions, workarounds, and the identity of the hypervisor.

use optee_proto::smc::FunctionId;
use postern_smccc::arch::{self, FEATURES, VERSION, WORKAROUND_1, WORKAROUND_2, WORKAROUND_3};
use postern_smccc::call::{Call, OwningEntity, SmcReturn};
use postern_smccc::vendor;

/// ec02dbaa-1aed-4cab-9a1a-4b0c77351e70, the UUID of this hypervisor, in the order of a UID call:
/// the first byte is the lowest of W0.
const POSTERN_UUID: SmcReturn =
    SmcReturn::new([0xaadb_02ec, 0xab4c_ed1a, 0x0c4b_1a9a, 0x701e_3577]);
/// The revision of Postern's own calls: major 0, minor 2. Minor 2 has [`vendor::MEM_RELINQUISH`].
const POSTERN_REVISION: SmcReturn = SmcReturn::new([0, 2, 0, 0]);

/// The firmware's answer about one workaround.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workaround {
    /// The firmware does not have the workaround: nothing is known about the CPU.
    #[default]
    Unavailable,
    /// The firmware has the workaround and the CPU needs it.
    Required,
    /// The CPU does not need it.
    NotRequired,
}

impl Workaround {
    /// Decodes W0 of the firmware's ARCH_FEATURES for the workaround. Early versions of workaround
    /// 2 return -2 instead of 1.
    pub const fn from_features(w0: i32) -> Self {
        match w0 {
            arch::SUCCESS => Self::Required,
            1 | arch::NOT_REQUIRED => Self::NotRequired,
            _ => Self::Unavailable,
        }
    }

    const fn features(self) -> SmcReturn {
        match self {
            Self::Unavailable => SmcReturn::NOT_SUPPORTED,
            Self::Required => SmcReturn::value(0),
            Self::NotRequired => SmcReturn::value(1),
        }
    }
}

/// The firmware's answers about all workarounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workarounds {
    /// The answer about [`WORKAROUND_1`].
    pub one: Workaround,
    /// The answer about [`WORKAROUND_2`].
    pub two: Workaround,
    /// The answer about [`WORKAROUND_3`].
    pub three: Workaround,
}

/// The hypervisor's action for such a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Return these values in X0 to X3.
    Return(SmcReturn),
    /// Make this call, which has no arguments, to the firmware. Then return zero in X0 to X3.
    Forward(FunctionId),
}

/// Returns whether the function is one of these: fast calls of the architecture or of the
/// hypervisor's vendor.
#[inline]
pub const fn owns(function: FunctionId) -> bool {
    function.is_fast()
        && matches!(
            OwningEntity::of(function),
            OwningEntity::Arch | OwningEntity::VendorHypervisor
        )
}

/// Returns the action for `call`.
pub const fn decide(call: &Call, firmware: &Workarounds) -> Action {
    match call.function() {
        // From 1.2 on, guests may use X4 to X17 for arguments and results, which the trap handler
        // preserves, and callers of FF-A and ARCH_SOC_ID require version 1.2. 1.3 adds the SVE hint
        // in the identifier, which `Call` removes. 1.4 adds to ARCH_SOC_ID, which Postern does not
        // have.
        VERSION => Action::Return(SmcReturn::value(arch::VERSION_1_3)),
        FEATURES => Action::Return(arch_features(call.queried_function(), firmware)),
        WORKAROUND_1 => workaround(WORKAROUND_1, firmware.one),
        WORKAROUND_2 => workaround(WORKAROUND_2, always_on(firmware.two)),
        WORKAROUND_3 => workaround(WORKAROUND_3, firmware.three),
        vendor::UID => Action::Return(POSTERN_UUID),
        vendor::REVISION => Action::Return(POSTERN_REVISION),
        // Including ARCH_SOC_ID: the guest must not know the machine.
        _ => Action::Return(SmcReturn::NOT_SUPPORTED),
    }
}

const fn arch_features(function: FunctionId, firmware: &Workarounds) -> SmcReturn {
    match function {
        VERSION | FEATURES => SmcReturn::value(0),
        WORKAROUND_1 => firmware.one.features(),
        WORKAROUND_2 => always_on(firmware.two).features(),
        WORKAROUND_3 => firmware.three.features(),
        _ => SmcReturn::NOT_SUPPORTED,
    }
}

/// Returns the answer about workaround 2 for guests. Workaround 2 turns a protection of the
/// physical CPU off and on, for any software that runs there next. No guest may do that to another,
/// so the protection stays as the firmware leaves it, which is on, and the guest is told that it
/// need not ask.
const fn always_on(two: Workaround) -> Workaround {
    match two {
        Workaround::Required => Workaround::NotRequired,
        other => other,
    }
}

const fn workaround(function: FunctionId, firmware: Workaround) -> Action {
    match firmware {
        Workaround::Unavailable => Action::Return(SmcReturn::NOT_SUPPORTED),
        Workaround::Required => Action::Forward(function),
        Workaround::NotRequired => Action::Return(SmcReturn::value(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(function: u64, x1: u64, firmware: &Workarounds) -> Action {
        decide(&Call::new(&[function, x1, 0, 0, 0, 0, 0, 0]), firmware)
    }

    fn returns(x0: i64) -> Action {
        Action::Return(SmcReturn::new([x0 as u64, 0, 0, 0]))
    }

    #[test]
    fn discovery_results() {
        let none = Workarounds::default();
        for (function, x1, x0) in [
            (0x8000_0000, 0, 0x1_0003),
            (0x8001_0000, 0, 0x1_0003),     // with the SVE hint
            (0x8000_0001, 0x8000_0000, 0),  //
            (0x8000_0001, 0x8000_0001, 0),  //
            (0x8000_0001, 0x8000_0002, -1), // SOC_ID
            (0x8000_0001, 0x8000_8000, -1), //
            (0x8000_0001, 0xffff_ffff, -1), //
            (0x8000_0001, 0xc500_0020, -1), // paravirtualised time
            (0x8000_0002, 0, -1),           //
            (0xc000_0000, 0, -1),           // no SMC64 form
            (0x8000_8000, 0, -1),           //
            (0x8600_ff00, 0, -1),           //
            (0x8600_0000, 0, -1),           // KVM's features
            (0xc600_ff01, 0, -1),           //
        ] {
            assert_eq!(call(function, x1, &none), returns(x0), "{function:#x}");
        }
        assert_eq!(
            call(0x8600_ff03, 0, &none),
            Action::Return(SmcReturn::new([0, 2, 0, 0]))
        );
    }

    #[test]
    fn uid_call_returns_the_uuid() {
        let Action::Return(words) = call(0x8600_ff01, 0, &Workarounds::default()) else {
            panic!("no answer");
        };
        let words = words.words();
        let bytes: Vec<u8> = words
            .iter()
            .flat_map(|&word| u32::try_from(word).unwrap().to_le_bytes())
            .collect();
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "ec02dbaa1aed4cab9a1a4b0c77351e70");
        // DEN0028 forbids a first word that reads as NOT_SUPPORTED.
        assert_ne!(words[0], 0xffff_ffff);
    }

    #[test]
    fn workarounds_follow_the_firmware() {
        for (w0, features, action) in [
            (-1, -1, returns(-1)),
            (0, 0, Action::Forward(WORKAROUND_1)),
            (1, 1, returns(0)),
            (-2, 1, returns(0)),
        ] {
            let firmware = Workarounds {
                one: Workaround::from_features(w0),
                ..Workarounds::default()
            };
            assert_eq!(call(0x8000_0001, 0x8000_8000, &firmware), returns(features));
            assert_eq!(call(0x8000_8000, 0, &firmware), action);
            assert_eq!(call(0x8000_0001, 0x8000_3fff, &firmware), returns(-1));
        }
        let all = Workarounds {
            one: Workaround::Required,
            two: Workaround::Required,
            three: Workaround::Required,
        };
        assert_eq!(call(0x8000_3fff, 0, &all), Action::Forward(WORKAROUND_3));
        // Guests cannot reach the switch.
        assert_eq!(call(0x8000_0001, 0x8000_7fff, &all), returns(1));
        assert_eq!(call(0x8000_7fff, 0, &all), returns(0));
    }

    #[test]
    fn owns_the_arch_and_vendor_ranges() {
        for (id, ours) in [
            (0x8000_0000, true),
            (0x8000_ffff, true),
            (0x8600_ff01, true),
            (0x8100_0000, false),
            (0x8500_0020, false),
            (0x8700_0000, false),
            (0x0000_0000, false),
            (0x0600_ff01, false),
        ] {
            assert_eq!(owns(FunctionId::new(id)), ours, "{id:#x}");
        }
    }
}
