// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The CPUs that EL2 can run on, and the pCPUs that one VM may use together.

use core::fmt;
use postern_base::ids::{PcpuIndex, PcpuSet};
use postern_base::sve::{VectorLength, VectorLengths};
use thiserror::Error;

/// The reason why EL2 cannot run on the CPU, or not at its exception level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    /// The boot loader entered Postern at this exception level.
    #[error(
        "entered at EL{0}, needs EL2: \
         start it at EL2 (QEMU: -M virt,virtualization=on; U-Boot: build for EL2)"
    )]
    Level(u64),
    /// The CPU lacks FEAT_E2H0: HCR_EL2.E2H is fixed at one, and EL2's registers have another layout.
    #[error(
        "the CPU has no FEAT_E2H0 (ID_AA64MMFR4_EL1.E2H0): \
         Postern needs a CPU that can run EL2 without VHE"
    )]
    NoE2h0,
}

/// Checks that EL2 can run on a CPU with these values of CurrentEL and ID_AA64MMFR4_EL1 (DDI 0487, D24.2: E2H0 is
/// zero where HCR_EL2.E2H can be zero).
///
/// # Errors
/// Returns the first reason why it cannot.
pub const fn check_entry(current_el: u64, mmfr4: u64) -> Result<(), EntryError> {
    match current_el >> 2 & 3 {
        2 if mmfr4 >> 24 & 0xf == 0 => Ok(()),
        2 => Err(EntryError::NoE2h0),
        level => Err(EntryError::Level(level)),
    }
}

/// A pCPU's MIDR_EL1, by which guests select errata workarounds.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Midr(u64);

impl Midr {
    /// Holds this register value.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Midr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// What a guest learns of the pCPU that it runs on, and must find on each of its pCPUs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// The name of the CPU.
    pub midr: Midr,
    /// The lengths of SVE's vectors.
    pub sve: VectorLengths,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MIDR_EL1 {:?}", self.midr)?;
        if self.sve == VectorLengths::NONE {
            Ok(())
        } else {
            write!(f, " with SVE of {} bits", self.sve)
        }
    }
}

/// The reason why no pCPUs can run a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ModelError {
    /// The pCPUs of its affinity are of different models.
    #[error("affinity has CPUs of two models, {0} and {1}: list CPUs of one model")]
    Mixed(Model, Model),
    /// Its pCPUs do not have the length of its vectors.
    #[error("sve = {}: the CPU, as firmware sets it up, has these lengths: {has}", length.bits())]
    Sve {
        /// What the VM is to have.
        length: VectorLength,
        /// What the pCPUs have.
        has: VectorLengths,
    },
}

/// Returns the pCPUs that a VM may use. `wanted` is its `affinity`, of pCPUs that exist, and `sve` the length of its
/// vectors; `models` has the pCPUs in the order of their indices. A VM without an `affinity` gets the pCPUs of the boot
/// pCPU's model.
///
/// # Errors
/// Fails when `wanted` has pCPUs of different models, or they do not have that length.
pub fn allowed(
    wanted: Option<PcpuSet>,
    sve: Option<VectorLength>,
    models: &[Model],
) -> Result<PcpuSet, ModelError> {
    let all = || (0..).filter_map(PcpuIndex::new).zip(models);
    let is_wanted = |pcpu| wanted.is_none_or(|set| set.contains(pcpu));
    let Some((_, model)) = all().find(|(pcpu, _)| is_wanted(*pcpu)) else {
        return Ok(PcpuSet::EMPTY);
    };
    let mut set = PcpuSet::EMPTY;
    for (pcpu, other) in all().filter(|(pcpu, _)| is_wanted(*pcpu)) {
        if other == model {
            set = set.with(pcpu);
        } else if wanted.is_some() {
            return Err(ModelError::Mixed(*model, *other));
        }
    }
    match sve.filter(|length| !model.sve.contains(*length)) {
        None => Ok(set),
        Some(length) => Err(ModelError::Sve {
            length,
            has: model.sve,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EL2: u64 = 2 << 2;

    #[test]
    fn entry_at_el2_without_vhe_only_is_accepted() {
        assert_eq!(check_entry(EL2, 0), Ok(()));
        // The neighbours of E2H0: NV_frac and the reserved field above.
        assert_eq!(check_entry(EL2, !(0xf << 24)), Ok(()));
        for level in [0, 1, 3] {
            assert_eq!(check_entry(level << 2, 0), Err(EntryError::Level(level)));
        }
    }

    #[test]
    fn entry_on_a_cpu_with_vhe_only_is_refused_in_one_line() {
        for e2h0 in [0xf, 0xe, 1, 8] {
            assert_eq!(check_entry(EL2, e2h0 << 24), Err(EntryError::NoE2h0));
        }
        // The level comes first: there the ID register may be another hypervisor's.
        assert_eq!(check_entry(1 << 2, 0xf << 24), Err(EntryError::Level(1)));
        for error in [EntryError::NoE2h0, EntryError::Level(1)] {
            let text = error.to_string();
            assert!(!text.contains('\n') && text.contains("EL2"), "{text}");
        }
    }

    fn set(pcpus: &[usize]) -> PcpuSet {
        let pcpus = pcpus.iter().filter_map(|&index| PcpuIndex::new(index));
        pcpus.fold(PcpuSet::EMPTY, PcpuSet::with)
    }

    const fn model(midr: u64) -> Model {
        Model {
            midr: Midr::new(midr),
            sve: VectorLengths::NONE,
        }
    }

    const BIG: Model = model(0x411f_d073);
    const LITTLE: Model = model(0x410f_d034);

    #[test]
    fn vm_without_affinity_gets_the_boot_cpus_model() {
        let of = |models: &[Model]| allowed(None, None, models).ok();
        assert_eq!(of(&[LITTLE, BIG, BIG, LITTLE]), Some(set(&[0, 3])));
        assert_eq!(of(&[BIG; 4]), Some(set(&[0, 1, 2, 3])));
        assert_eq!(of(&[BIG]), Some(set(&[0])));
    }

    #[test]
    fn affinity_with_one_model_is_kept() {
        let models = [LITTLE, BIG, BIG, LITTLE];
        for pcpus in [&[0][..], &[1], &[1, 2], &[0, 3], &[3]] {
            let found = allowed(Some(set(pcpus)), None, &models);
            assert_eq!(found.ok(), Some(set(pcpus)));
        }
    }

    #[test]
    fn affinity_with_two_models_is_refused() {
        let models = [LITTLE, BIG, BIG, LITTLE];
        for pcpus in [&[0, 1][..], &[2, 3], &[0, 1, 2, 3], &[1, 2, 3]] {
            let found = allowed(Some(set(pcpus)), None, &models);
            assert!(matches!(found, Err(ModelError::Mixed(..))), "{pcpus:?}");
        }
        // Another revision of one model may have other errata, and firmware may limit the vectors of one.
        let short = Model {
            sve: VectorLengths::NONE.with(bits(128)),
            ..BIG
        };
        for (other, name) in [
            (model(0x411f_d074), "0x411fd074"),
            (short, "0x411fd073 with SVE of 128 bits"),
        ] {
            let found = allowed(Some(set(&[0, 1])), None, &[BIG, other]);
            let text = found.err().map(|error| error.to_string());
            let expected = format!(
                "affinity has CPUs of two models, MIDR_EL1 0x411fd073 and MIDR_EL1 {name}: \
                 list CPUs of one model"
            );
            assert_eq!(text, Some(expected));
        }
    }

    fn bits(bits: u32) -> VectorLength {
        VectorLength::from_bits(bits).unwrap()
    }

    #[test]
    fn vectors_have_a_length_of_all_cpus_of_the_vm() {
        let long = Model {
            sve: VectorLengths::NONE.with(bits(128)).with(bits(256)),
            ..BIG
        };
        let of = |wanted, length| allowed(wanted, Some(bits(length)), &[long, long, LITTLE]);
        assert_eq!(of(None, 256).ok(), Some(set(&[0, 1])));
        assert_eq!(of(Some(set(&[1])), 128).ok(), Some(set(&[1])));
        for (wanted, length, text) in [(None, 512, "128, 256"), (Some(set(&[2])), 128, "none")] {
            let text = format!(
                "sve = {length}: the CPU, as firmware sets it up, has these lengths: {text}"
            );
            let error = of(wanted, length).err().map(|error| error.to_string());
            assert_eq!(error, Some(text));
        }
    }
}
