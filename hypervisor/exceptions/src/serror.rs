// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The severity of an SError: ESR_EL2 of an exception of class 0x2F (DDI 0487, D24.2.40, "ISS encoding for an
//! SError exception").
//!
//! An SError is asynchronous: it comes when a guest runs, since EL2 masks it, and that guest need not have caused
//! it. With FEAT_RAS the syndrome says how far the error has spread. Without it, or where the syndrome is the
//! implementation's own, nothing is known.

use super::decode::Esr;

/// The state of the pCPU and of the vCPU on it after an SError.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// CE: the hardware has corrected the error.
    Corrected,
    /// UEO: not corrected, but not consumed either. What runs can go on.
    Restartable,
    /// UER or UEU: what runs has consumed it and cannot go on, and it has spread no further.
    Contained,
    /// UC: it may be anywhere.
    Uncontainable,
    /// The syndrome does not say.
    Unknown,
}

/// The reaction to an SError.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The guest continues.
    Continue,
    /// The VM that ran ends.
    EndVm,
    /// EL2 stops: its own state may be wrong.
    Panic,
}

impl Severity {
    /// Returns the severity that the syndrome reports.
    pub const fn of(esr: Esr) -> Self {
        let iss = esr.get() & 0x1ff_ffff;
        let is_implementation_defined = iss >> 24 & 1 == 1; // IDS
        // DFSC: AET counts for "asynchronous SError" only.
        if is_implementation_defined || iss & 0x3f != 0x11 {
            return Self::Unknown;
        }
        match iss >> 10 & 7 {
            0b000 => Self::Uncontainable,
            0b001 | 0b011 => Self::Contained,
            0b010 => Self::Restartable,
            0b110 => Self::Corrected,
            _ => Self::Unknown,
        }
    }

    /// Returns what to do when a guest ran that has devices for itself or not.
    ///
    /// A guest with a device can make the device answer an access with an error on purpose, of whatever severity
    /// the hardware then reports. So nothing that such a guest meets stops the machine.
    pub const fn reaction(self, has_devices: bool) -> Reaction {
        match self {
            Self::Corrected | Self::Restartable | Self::Unknown => Reaction::Continue,
            Self::Contained => Reaction::EndVm,
            Self::Uncontainable if has_devices => Reaction::EndVm,
            Self::Uncontainable => Reaction::Panic,
        }
    }

    /// Returns the severity in words, for the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Corrected => "corrected",
            Self::Restartable => "not consumed",
            Self::Contained => "contained",
            Self::Uncontainable => "not contained",
            Self::Unknown => "of unknown origin",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASS: u64 = 0x2f << 26 | 1 << 25;

    #[test]
    fn every_syndrome_has_a_severity() {
        for (iss, severity) in [
            (0x11, Severity::Uncontainable),
            (0b001 << 10 | 0x11, Severity::Contained),
            (0b010 << 10 | 0x11, Severity::Restartable),
            (0b011 << 10 | 0x11, Severity::Contained),
            (0b110 << 10 | 0x11, Severity::Corrected),
            // Reserved values of AET.
            (0b100 << 10 | 0x11, Severity::Unknown),
            (0b101 << 10 | 0x11, Severity::Unknown),
            (0b111 << 10 | 0x11, Severity::Unknown),
            // Without FEAT_RAS, as Cortex-A72 has it; and what is not categorised.
            (1 << 24 | 0x11, Severity::Unknown),
            (0, Severity::Unknown),
            // IESB and EA change nothing.
            (1 << 13 | 1 << 9 | 0b110 << 10 | 0x11, Severity::Corrected),
        ] {
            assert_eq!(Severity::of(Esr::new(CLASS | iss)), severity, "{iss:#x}");
        }
    }

    #[test]
    fn a_guest_with_a_device_never_stops_the_machine() {
        use Severity::*;
        for severity in [Corrected, Restartable, Unknown] {
            assert_eq!(severity.reaction(false), Reaction::Continue);
            assert_eq!(severity.reaction(true), Reaction::Continue);
        }
        for has_devices in [false, true] {
            assert_eq!(Contained.reaction(has_devices), Reaction::EndVm);
        }
        assert_eq!(Uncontainable.reaction(false), Reaction::Panic);
        assert_eq!(Uncontainable.reaction(true), Reaction::EndVm);
    }

    #[test]
    fn the_log_names_each_severity() {
        for (severity, name) in [
            (Severity::Corrected, "corrected"),
            (Severity::Restartable, "not consumed"),
            (Severity::Contained, "contained"),
            (Severity::Uncontainable, "not contained"),
            (Severity::Unknown, "of unknown origin"),
        ] {
            assert_eq!(severity.name(), name);
        }
    }
}
