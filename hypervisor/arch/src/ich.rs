// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The virtual CPU interface's control: list registers and what belongs to them (IHI 0069,
//! ICH_*_EL2).

use super::{barrier, read_register, write_register};

/// The most list registers that the architecture knows.
pub const MAX_LRS: usize = 16;
/// What a vCPU keeps of the virtual interface while it does not run, besides list registers.
#[derive(Clone, Copy, Default)]
pub struct Interface {
    /// ICH_VMCR_EL2: priority mask, binary points, group enables.
    pub vmcr: u64,
    ap0: [u64; 4],
    ap1: [u64; 4],
}

impl Interface {
    /// As after reset.
    pub const fn new() -> Self {
        Self {
            vmcr: 0,
            ap0: [0; 4],
            ap1: [0; 4],
        }
    }
}

/// The number of list registers.
pub fn list_registers() -> usize {
    ((vtr() & 0x1f) + 1) as usize
}

/// ICH_VTR_EL2: what the virtual interface can do.
pub fn vtr() -> u64 {
    read_register!("S3_4_C12_C11_1")
}

/// Whether writes to ICC_DIR_EL1 can be trapped alone (ICH_VTR_EL2.TDS).
pub fn traps_deactivation() -> bool {
    vtr() & 1 << 19 != 0
}

fn preemption_bits() -> u64 {
    (vtr() >> 26 & 7) + 1
}

macro_rules! by_index {
    ($index:expr, $act:ident $(, $value:expr)?) => {
        match $index {
            0 => $act!("S3_4_C12_C12_0" $(, $value)?),
            1 => $act!("S3_4_C12_C12_1" $(, $value)?),
            2 => $act!("S3_4_C12_C12_2" $(, $value)?),
            3 => $act!("S3_4_C12_C12_3" $(, $value)?),
            4 => $act!("S3_4_C12_C12_4" $(, $value)?),
            5 => $act!("S3_4_C12_C12_5" $(, $value)?),
            6 => $act!("S3_4_C12_C12_6" $(, $value)?),
            7 => $act!("S3_4_C12_C12_7" $(, $value)?),
            8 => $act!("S3_4_C12_C13_0" $(, $value)?),
            9 => $act!("S3_4_C12_C13_1" $(, $value)?),
            10 => $act!("S3_4_C12_C13_2" $(, $value)?),
            11 => $act!("S3_4_C12_C13_3" $(, $value)?),
            12 => $act!("S3_4_C12_C13_4" $(, $value)?),
            13 => $act!("S3_4_C12_C13_5" $(, $value)?),
            14 => $act!("S3_4_C12_C13_6" $(, $value)?),
            _ => $act!("S3_4_C12_C13_7" $(, $value)?),
        }
    };
}

/// Reads ICH_LR`index`_EL2.
pub fn read_lr(index: usize) -> u64 {
    by_index!(index, read_register)
}

/// Writes ICH_LR`index`_EL2.
pub fn write_lr(index: usize, value: u64) {
    by_index!(index, write_register, value);
}

/// Turns the virtual interface off, with nothing in it: list registers and active priorities are
/// UNKNOWN after a reset (IHI 0069H, 12.4, `ICH_LR<n>_EL2`, `ICH_AP0R<n>_EL2` and `ICH_AP1R<n>_EL2`).
pub fn init() {
    turn_off();
    for index in 0..list_registers() {
        write_lr(index, 0);
    }
    load(&Interface::new());
}

/// Whether LRENPIE raises the maintenance interrupt with nothing to report, as in QEMU 7.2. There
/// a non-zero EOIcount raises it without.
pub fn lrenpie_storms() -> bool {
    const EN_AND_LRENPIE: u64 = 1 | 1 << 2;
    const MISR_LRENP: u64 = 1 << 2;
    set_hcr(EN_AND_LRENPIE);
    barrier::isb();
    let raised = read_register!("S3_4_C12_C11_2") & MISR_LRENP != 0; // ICH_MISR_EL2
    set_hcr(0);
    barrier::isb();
    raised
}

/// ICH_HCR_EL2, with EOIcount in bits 31..27.
pub fn hcr() -> u64 {
    read_register!("S3_4_C12_C11_0")
}

/// Sets ICH_HCR_EL2; zero turns the virtual interface off.
pub fn set_hcr(value: u64) {
    write_register!("S3_4_C12_C11_0", value);
}

/// Turns the virtual interface off: no maintenance interrupt is asserted on return, whatever the list
/// registers hold (ICH_HCR_EL2.En), and EOIcount is zero.
pub fn turn_off() {
    set_hcr(0);
    barrier::isb();
}

/// ICH_VMCR_EL2 of the running vCPU.
pub fn vmcr() -> u64 {
    read_register!("S3_4_C12_C11_7")
}

/// Sets ICH_VMCR_EL2.
pub fn set_vmcr(value: u64) {
    write_register!("S3_4_C12_C11_7", value);
}

/// The active priorities of the running vCPU: ICH_AP0R&lt;n&gt;_EL2 or ICH_AP1R&lt;n&gt;_EL2.
pub fn active_priorities() -> [u32; 4] {
    let mut interface = Interface::new();
    save(&mut interface);
    core::array::from_fn(|word| (interface.ap0[word] | interface.ap1[word]) as u32)
}

/// Saves what is not a list register.
pub fn save(into: &mut Interface) {
    into.vmcr = vmcr();
    into.ap0[0] = read_register!("S3_4_C12_C8_0");
    into.ap1[0] = read_register!("S3_4_C12_C9_0");
    if preemption_bits() >= 6 {
        into.ap0[1] = read_register!("S3_4_C12_C8_1");
        into.ap1[1] = read_register!("S3_4_C12_C9_1");
    }
    if preemption_bits() >= 7 {
        into.ap0[2] = read_register!("S3_4_C12_C8_2");
        into.ap0[3] = read_register!("S3_4_C12_C8_3");
        into.ap1[2] = read_register!("S3_4_C12_C9_2");
        into.ap1[3] = read_register!("S3_4_C12_C9_3");
    }
}

/// Puts a vCPU's virtual interface on this pCPU.
pub fn load(from: &Interface) {
    write_register!("S3_4_C12_C11_7", from.vmcr);
    write_register!("S3_4_C12_C8_0", from.ap0[0]);
    write_register!("S3_4_C12_C9_0", from.ap1[0]);
    if preemption_bits() >= 6 {
        write_register!("S3_4_C12_C8_1", from.ap0[1]);
        write_register!("S3_4_C12_C9_1", from.ap1[1]);
    }
    if preemption_bits() >= 7 {
        write_register!("S3_4_C12_C8_2", from.ap0[2]);
        write_register!("S3_4_C12_C8_3", from.ap0[3]);
        write_register!("S3_4_C12_C9_2", from.ap1[2]);
        write_register!("S3_4_C12_C9_3", from.ap1[3]);
    }
    barrier::isb();
}
