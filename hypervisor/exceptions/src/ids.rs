// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ID registers that a guest sees: `op0=3, op1=0, CRn=0, CRm=1..7`, trapped by HCR_EL2.TID3.
//!
//! A field that is not named here reads zero. So an extension that this hypervisor does
//! not know, and whose state it does not switch, does not exist for the guests.

use super::decode::SysReg;

/// The rule for the fields of one ID register. Numbers are the fields' lowest bits; every
/// field is four bits wide.
struct Rule {
    crm: u8,
    op2: u8,
    /// Fields that are as the host has them.
    keep: &'static [u32],
    /// Fields that are as the host has them, up to a limit. All are unsigned.
    cap: &'static [(u32, u64)],
    /// Fields with a value that EL2 chooses.
    set: &'static [(u32, u64)],
}

const fn rule(
    crm: u8,
    op2: u8,
    keep: &'static [u32],
    cap: &'static [(u32, u64)],
    set: &'static [(u32, u64)],
) -> Rule {
    Rule {
        crm,
        op2,
        keep,
        cap,
        set,
    }
}

const EVERY_32: &[u32] = &[0, 4, 8, 12, 16, 20, 24, 28];

/// The AArch64 registers, and why a field of today's architecture is missing. Those of CRm 4 to 7
/// without a row read zero: PFR2, ZFR0 (without SVE), SMFR0, FPFR0, DFR1, AFR0, AFR1, ISAR3, MMFR3, MMFR4.
const RULES: [Rule; 9] = [
    // ID_AA64PFR0_EL1: EL0, FP, AdvSIMD, DIT, CSV3; CSV2 without SCXTNUM_ELx, which EL2 does not
    // switch. EL1 is AArch64 only (HCR_EL2.RW), there is no EL2, SMC works (so EL3 is there),
    // and the GIC has system registers. Not RAS, SVE, SEL2, MPAM, AMU, RME.
    rule(
        4,
        0,
        &[0, 16, 20, 48, 60],
        &[(56, 1)],
        &[(4, 1), (12, 1), (24, 1)],
    ),
    // ID_AA64PFR1_EL1: BT, SSBS. Not MTE, RAS_frac, MPAM_frac, SME, CSV2_frac, NMI, GCS, THE.
    rule(4, 1, &[0, 4], &[], &[]),
    // ID_AA64DFR0_EL1: BRPs, WRPs and CTX_CMPs of an Armv8.0 debug unit; no OS double lock. No PMU, SPE,
    // trace unit, trace buffer, branch records.
    rule(5, 0, &[12, 20, 28], &[], &[(0, 6), (36, 0xf)]),
    // ID_AA64ISAR0_EL1: all but TME.
    rule(
        6,
        0,
        &[4, 8, 12, 16, 20, 28, 32, 36, 40, 44, 48, 52, 56, 60],
        &[],
        &[],
    ),
    // ID_AA64ISAR1_EL1: all but what needs HCRX_EL2 (LS64, XS).
    rule(
        6,
        1,
        &[0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52],
        &[],
        &[],
    ),
    // ID_AA64ISAR2_EL1: GPA3, APA3, BC, PAC_frac, CLRBHB, RPRFM, CSSC. Not MOPS (HCRX_EL2), WFxT (the timeout is
    // not emulated).
    rule(6, 2, &[8, 12, 20, 24, 28, 48, 52], &[], &[]),
    // ID_AA64MMFR0_EL1: PARange (limited below), ASIDBits, BigEnd, SNSMem, BigEndEL0, TGran16,
    // TGran64, TGran4. Not stage 2's granules, ExS, FGT, ECV.
    rule(7, 0, &[0, 4, 8, 12, 16, 20, 24, 28], &[], &[]),
    // ID_AA64MMFR1_EL1: HAFDBS without HAFT (TCR2_EL1), HPDS, PAN, SpecSEI, ETS, AFP, nTLBPA,
    // ECBHB. Not what belongs to EL2 (VMIDBits, VH, XNX, TWED, HCX), LO, TIDCP1, CMOW.
    rule(7, 1, &[12, 20, 24, 36, 44, 48, 60], &[(0, 2)], &[]),
    // ID_AA64MMFR2_EL1: CnP, UAO, LSM, VARange, CCIDX, ST, AT, IDS, TTL, BBM, E0PD. Not IESB (it
    // comes with RAS), NV, FWB, EVT.
    rule(7, 2, &[0, 4, 8, 16, 20, 28, 32, 36, 48, 52, 60], &[], &[]),
];

/// The AArch32 registers, which describe what EL0 may run; zero where EL0 is AArch64 only.
const RULES_32: [Rule; 20] = [
    // ID_PFR0_EL1: State0 to State3, DIT, CSV2. Not AMU, RAS.
    rule(1, 0, &[0, 4, 8, 12, 24], &[(16, 1)], &[]),
    // ID_PFR1_EL1: ProgMod, GenTimer; the GIC has system registers. Not Security, Virtualization.
    rule(1, 1, &[0, 16], &[], &[(28, 1)]),
    // ID_DFR0_EL1: an Armv8.0 debug unit, as in ID_AA64DFR0_EL1. No PMU, no trace.
    rule(1, 2, &[], &[], &[(0, 6)]),
    // ID_MMFR0_EL1 to ID_MMFR3_EL1.
    rule(1, 4, EVERY_32, &[], &[]),
    rule(1, 5, EVERY_32, &[], &[]),
    rule(1, 6, EVERY_32, &[], &[]),
    rule(1, 7, EVERY_32, &[], &[]),
    // ID_ISAR0_EL1 to ID_ISAR5_EL1, ID_MMFR4_EL1, ID_ISAR6_EL1.
    rule(2, 0, EVERY_32, &[], &[]),
    rule(2, 1, EVERY_32, &[], &[]),
    rule(2, 2, EVERY_32, &[], &[]),
    rule(2, 3, EVERY_32, &[], &[]),
    rule(2, 4, EVERY_32, &[], &[]),
    rule(2, 5, EVERY_32, &[], &[]),
    rule(2, 6, EVERY_32, &[], &[]),
    rule(2, 7, EVERY_32, &[], &[]),
    // MVFR0_EL1 to MVFR2_EL1.
    rule(3, 0, EVERY_32, &[], &[]),
    rule(3, 1, EVERY_32, &[], &[]),
    rule(3, 2, EVERY_32, &[], &[]),
    // ID_PFR2_EL1: CSV3, SSBS. Not RAS_frac.
    rule(3, 4, &[0, 4], &[], &[]),
    // ID_MMFR5_EL1: ETS.
    rule(3, 6, &[0], &[], &[]),
];

/// What VMs with SVE have besides.
const RULES_SVE: [Rule; 2] = [
    // ID_AA64PFR0_EL1: SVE.
    rule(4, 0, &[32], &[], &[]),
    // ID_AA64ZFR0_EL1: SVEver, AES, BitPerm, BF16, B16B16, SHA3, SM4, I8MM, F32MM, F64MM.
    rule(4, 4, &[0, 4, 16, 20, 24, 32, 40, 44, 52, 56], &[], &[]),
];

const FIELD: u64 = 0xf;

impl Rule {
    fn apply(&self, host: u64) -> u64 {
        let kept: u64 = self
            .keep
            .iter()
            .map(|&low| host & FIELD << low)
            .fold(0, |all, field| all | field);
        let capped = self
            .cap
            .iter()
            .map(|&(low, limit)| (host >> low & FIELD).min(limit) << low)
            .fold(0, |all, field| all | field);
        let set = self
            .set
            .iter()
            .map(|&(low, value)| value << low)
            .fold(0, |all, field| all | field);
        kept | capped | set
    }

    const fn register(&self) -> SysReg {
        SysReg::new(3, 0, 0, self.crm, self.op2)
    }
}

/// The ID registers as a guest reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdValues {
    /// By CRm less 1, then op2.
    values: [[u64; 8]; 7],
}

impl IdValues {
    /// Returns the values for guests with or without SVE, whose physical addresses have `ipa_bits` bits, on a host whose own registers
    /// `host` reads. It is asked for the registers of [`IdValues::host_registers`] and no others.
    pub fn new(host: impl Fn(SysReg) -> u64, ipa_bits: u32, sve: bool) -> Self {
        let mut values = [[0; 8]; 7];
        let el0_runs_aarch32 = host(RULES[0].register()) & FIELD == 2;
        let rules_32 = RULES_32.iter().filter(|_| el0_runs_aarch32);
        let rules_sve = RULES_SVE.iter().filter(|_| sve);
        for rule in RULES.iter().chain(rules_32).chain(rules_sve) {
            values[usize::from(rule.crm) - 1][usize::from(rule.op2)] |=
                rule.apply(host(rule.register()));
        }
        // A guest that uses more bits than stage 2 translates would take faults that no
        // hardware has.
        let mmfr0 = &mut values[6][0];
        let range = (*mmfr0 & FIELD).min(pa_range(ipa_bits));
        *mmfr0 = *mmfr0 & !FIELD | range;
        Self { values }
    }

    /// Returns the values without the GIC's system registers, for guests that have a GICv2: ID_AA64PFR0_EL1.GIC and
    /// ID_PFR1_EL1.GIC are 0.
    #[must_use]
    pub const fn without_gic_registers(mut self) -> Self {
        self.values[3][0] &= !(FIELD << 24);
        self.values[0][1] &= !(FIELD << 28);
        self
    }

    /// Returns the registers of the host that matter; all exist on every Armv8-A CPU, but those with CRm 1 to 3 are
    /// UNKNOWN where no exception level runs AArch32.
    pub fn host_registers() -> impl Iterator<Item = SysReg> {
        let rules = RULES.iter().chain(&RULES_32).chain(&RULES_SVE);
        rules.map(Rule::register)
    }

    /// Returns what the register with this CRm (1 to 7) and op2 (0 to 7) reads; `None` for others.
    #[inline]
    pub fn get(&self, crm: u8, op2: u8) -> Option<u64> {
        let row = self.values.get(usize::from(crm.checked_sub(1)?))?;
        row.get(usize::from(op2)).copied()
    }
}

/// Returns the largest ID_AA64MMFR0_EL1.PARange of no more than `bits` bits.
fn pa_range(bits: u32) -> u64 {
    match bits {
        0..36 => 0,
        36..40 => 1,
        40..42 => 2,
        42..44 => 3,
        44..48 => 4,
        48..52 => 5,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PFR0: (u8, u8) = (4, 0);

    /// A host on which every field has the same value.
    fn host_of(nibble: u64) -> impl Fn(SysReg) -> u64 {
        move |reg| {
            assert!(IdValues::host_registers().any(|known| known == reg));
            let all = nibble * 0x1111_1111_1111_1111;
            // EL0 runs AArch32 too.
            if (reg.crm, reg.op2) == PFR0 {
                all & !FIELD | 2
            } else {
                all
            }
        }
    }

    fn field(ids: &IdValues, crm: u8, op2: u8, low: u32) -> u64 {
        ids.get(crm, op2).unwrap() >> low & FIELD
    }

    #[test]
    fn what_guests_must_not_see() {
        let ids = IdValues::new(host_of(0xf), 40, false);
        for (name, crm, op2, low) in [
            ("EL2", 4, 0, 8),
            ("RAS", 4, 0, 28),
            ("SVE", 4, 0, 32),
            ("SEL2", 4, 0, 36),
            ("MPAM", 4, 0, 40),
            ("AMU", 4, 0, 44),
            ("RME", 4, 0, 52),
            ("MTE", 4, 1, 8),
            ("RAS_frac", 4, 1, 12),
            ("MPAM_frac", 4, 1, 16),
            ("SME", 4, 1, 24),
            ("CSV2_frac", 4, 1, 32),
            ("NMI", 4, 1, 36),
            ("TraceVer", 5, 0, 4),
            ("PMUVer", 5, 0, 8),
            ("PMSVer", 5, 0, 32),
            ("TraceFilt", 5, 0, 40),
            ("TraceBuffer", 5, 0, 44),
            ("BRBE", 5, 0, 52),
            ("TME", 6, 0, 24),
            ("WFxT", 6, 2, 0),
            ("MOPS", 6, 2, 16),
            ("FGT", 7, 0, 56),
            ("VMIDBits", 7, 1, 4),
            ("VH", 7, 1, 8),
            ("LO", 7, 1, 16),
            ("HCX", 7, 1, 40),
            ("NV", 7, 2, 24),
            ("FWB", 7, 2, 40),
            ("PerfMon", 1, 2, 24),
            ("Virtualization", 1, 1, 12),
        ] {
            assert_eq!(field(&ids, crm, op2, low), 0, "{name}");
        }
        // What nobody has named yet: ZFR0, SMFR0, DFR1, ISAR3, MMFR3, MMFR4 and reserved ones.
        for (crm, op2) in [
            (4, 4),
            (4, 5),
            (5, 1),
            (6, 3),
            (7, 3),
            (7, 4),
            (6, 7),
            (3, 7),
        ] {
            assert_eq!(ids.get(crm, op2), Some(0), "{crm} {op2}");
        }
        assert_eq!(ids.get(0, 0), None);
        assert_eq!(ids.get(8, 0), None);
        assert_eq!(ids.get(1, 8), None);
    }

    #[test]
    fn guests_with_sve_see_it_and_nothing_else_more() {
        let without = IdValues::new(host_of(0xf), 40, false);
        let with = IdValues::new(host_of(0xf), 40, true);
        for crm in 1..8 {
            for op2 in 0..8 {
                let more = match (crm, op2) {
                    (4, 0) => 0xf << 32,
                    (4, 4) => 0x0ff0_ff0f_0fff_00ff,
                    _ => 0,
                };
                let expected = without.get(crm, op2).map(|value| value | more);
                assert_eq!(with.get(crm, op2), expected, "{crm} {op2}");
            }
        }
    }

    #[test]
    fn what_guests_have_on_every_host() {
        for nibble in [0, 1, 0xf] {
            let ids = IdValues::new(host_of(nibble), 40, false);
            assert_eq!(field(&ids, 4, 0, 4), 1, "EL1 is AArch64");
            assert_eq!(field(&ids, 4, 0, 12), 1, "EL3 is AArch64");
            assert_eq!(field(&ids, 4, 0, 24), 1, "GIC system registers");
            assert_eq!(field(&ids, 4, 0, 56), nibble.min(1), "CSV2");
            assert_eq!(field(&ids, 4, 0, 16), nibble, "FP");
            for (name, op2, low) in [
                ("APA", 1, 4),
                ("API", 1, 8),
                ("GPA", 1, 24),
                ("GPI", 1, 28),
                ("GPA3", 2, 8),
                ("APA3", 2, 12),
                ("PAC_frac", 2, 24),
            ] {
                assert_eq!(field(&ids, 6, op2, low), nibble, "{name}");
            }
            assert_eq!(field(&ids, 7, 1, 0), nibble.min(2), "HAFDBS");
            let debug = nibble << 12 | nibble << 20 | nibble << 28 | 0x00f0_0000_0006;
            assert_eq!(ids.get(5, 0), Some(debug), "breakpoints and watchpoints");
        }
    }

    #[test]
    fn a_guest_with_gicv2_has_no_gic_registers() {
        let with = IdValues::new(host_of(0xf), 40, false);
        let without = with.clone().without_gic_registers();
        for (crm, op2, low) in [(4, 0, 24), (1, 1, 28)] {
            assert_eq!(field(&with, crm, op2, low), 1);
            assert_eq!(field(&without, crm, op2, low), 0);
            let others = !(FIELD << low);
            let (with, without) = (with.get(crm, op2), without.get(crm, op2));
            assert_eq!(without.unwrap(), with.unwrap() & others);
        }
    }

    #[test]
    fn a_cortex_a72() {
        // The CPU's manual, and QEMU's model of it.
        let host = |reg: SysReg| match (reg.crm, reg.op2) {
            (4, 0) => 0x0000_2222,
            (5, 0) => 0x1030_5106,
            (6, 0) => 0x0001_1120,
            (7, 0) => 0x0000_1124,
            (1, 0) => 0x0000_0131,
            (1, 1) => 0x0001_1011,
            (1, 2) => 0x0301_0066,
            _ => 0,
        };
        let ids = IdValues::new(host, 40, false);
        for (crm, op2, expected) in [
            (4, 0, 0x0100_1012),
            (5, 0, 0x00f0_1030_5006),
            (6, 0, 0x0001_1120),
            (7, 0, 0x0000_1122), // 40 bits rather than 44
            (1, 0, 0x0000_0131),
            (1, 1, 0x1001_0001),
            (1, 2, 0x0000_0006),
        ] {
            assert_eq!(ids.get(crm, op2), Some(expected), "{crm} {op2}");
        }
    }

    #[test]
    fn aarch32_is_hidden_with_el0s() {
        let ids = IdValues::new(|_| 0x1111_1111_1111_1111, 40, false);
        for crm in 1..=3 {
            for op2 in 0..8 {
                assert_eq!(ids.get(crm, op2), Some(0));
            }
        }
    }

    #[test]
    fn physical_addresses_are_no_wider_than_stage_2() {
        for (host, bits, expected) in [
            (6, 40, 2),
            (5, 48, 5),
            (2, 48, 2),
            (5, 39, 1),
            (5, 33, 0),
            (6, 52, 6),
            (0xf, 35, 0),
            (0xf, 36, 1),
            (0xf, 41, 2),
            (0xf, 42, 3),
            (0xf, 43, 3),
            (0xf, 44, 4),
            (0xf, 47, 4),
            (0xf, 48, 5),
            (0xf, 51, 5),
            (0xf, 56, 6),
        ] {
            let ids = IdValues::new(|_| host, bits, false);
            assert_eq!(field(&ids, 7, 0, 0), expected, "{host} {bits}");
        }
    }
}
