// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registers of a GICv2's distributor (IHI 0048B.b 4.3), as an implementation without the
//! Security Extensions has them.
//!
//! The registers of the SGIs and PPIs are banked: each vCPU accesses its own. As for a GICv3, an
//! access that no register supports reads as zero and ignores writes. That includes each halfword
//! (IHI 0048B.b 4.1.4: IMPLEMENTATION DEFINED).

use super::bank::{SGIS, WORDS};
use super::bits::BitRegister;
use super::gic_registers::{IIDR, InterruptRegister};
use super::intid::{IntId, VcpuSet};
use super::sgi;
use super::state::VgicState;
use postern_base::ids::VcpuIndex;
use postern_base::mmio::{Access, AccessSize};

/// The size of a GICv2 distributor's window in bytes.
pub const GICV2_DISTRIBUTOR_SIZE: u64 = 0x1000;

/// GICD_TYPER.ITLinesNumber: 288 INTIDs.
const LINES: u32 = WORDS as u32 - 1;
/// ICPIDR2: architecture revision 2, as in Arm's implementations.
const PIDR2: u32 = 0x2b;

/// A register of one byte per interrupt, which is accessed by byte or by word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteRegister {
    /// GICD_ITARGETSR.
    Targets,
    /// GICD_CPENDSGIR.
    ClearSgi,
    /// GICD_SPENDSGIR.
    SetSgi,
}

impl VgicState {
    /// Does one access of `vcpu` to its GICv2 distributor.
    ///
    /// # Errors
    /// The vCPUs that must be synchronised first.
    // Not inlined, so that a GICv3 does not pay for it.
    #[cold]
    #[inline(never)]
    pub fn distributor_v2(&mut self, vcpu: VcpuIndex, access: &Access) -> Result<u64, VcpuSet> {
        if let Some(register) = InterruptRegister::decode(access) {
            let mut access = *access;
            if let InterruptRegister::Bits(BitRegister::SetPending | BitRegister::ClearPending, 0) =
                register
            {
                // GICD_SPENDSGIR and GICD_CPENDSGIR have the pending state of the SGIs.
                access.write = access.write.map(|value| value & !u64::from(SGIS));
            }
            return self.access_interrupts(vcpu, vcpu, register, &access);
        }
        if let Some((register, first)) = ByteRegister::decode(access) {
            return Ok(self.access_bytes(vcpu, register, first, access));
        }
        if access.size != AccessSize::Word {
            return Ok(0);
        }
        Ok(match (access.offset, access.write) {
            (0x0000, None) => u64::from(self.groups), // GICD_CTLR
            (0x0000, Some(value)) => self.write_ctlr(vcpu, value as u32),
            (0x0004, None) => u64::from(LINES | (self.vcpus as u32 - 1) << 5), // GICD_TYPER
            (0x0008, None) => u64::from(IIDR),
            (0x0fe8, None) => u64::from(PIDR2),
            (0x0f00, Some(value)) => {
                if let Some((intid, targets)) = sgi::decode_sgir(vcpu, value as u32) {
                    self.send_sgi_from(vcpu, intid, targets);
                }
                0
            }
            _ => 0,
        })
    }

    fn access_bytes(
        &mut self,
        vcpu: VcpuIndex,
        register: ByteRegister,
        first: IntId,
        access: &Access,
    ) -> u64 {
        let mut read = 0;
        for byte in 0..access.size.bytes() as u32 {
            // The registers are aligned, so all bytes are in them.
            let Some(intid) = IntId::new(first.get() + byte) else {
                break;
            };
            match access.write {
                None => {
                    let value = match register {
                        ByteRegister::Targets => self.targets(vcpu, intid),
                        _ => self.sgi_sources(vcpu, intid),
                    };
                    read |= u64::from(value.bits()) << (8 * byte);
                }
                Some(value) => {
                    let value = VcpuSet::from_bits((value >> (8 * byte)) as u8)
                        .intersection(self.everybody());
                    match register {
                        ByteRegister::Targets => self.set_targets(intid, value),
                        ByteRegister::ClearSgi => self.remove_sources(vcpu, intid, value),
                        ByteRegister::SetSgi => self.add_sources(vcpu, intid, value),
                    }
                }
            }
        }
        read
    }

    /// Returns an interrupt's byte of GICD_ITARGETSR. With one vCPU, the registers read as zero
    /// (IHI 0048B.b 4.3.12).
    fn targets(&self, vcpu: VcpuIndex, intid: IntId) -> VcpuSet {
        if self.vcpus == 1 {
            VcpuSet::EMPTY
        } else if intid.is_private() {
            VcpuSet::only(vcpu)
        } else {
            VcpuSet::from_bits(self.router(intid) as u8)
        }
    }

    fn set_targets(&mut self, intid: IntId, targets: VcpuSet) {
        let router = u32::from(targets.bits());
        if self.vcpus > 1 && !intid.is_private() && self.router(intid) != router {
            self.set_router(intid, router);
        }
    }
}

impl ByteRegister {
    /// Returns the register that is accessed, and the interrupt of its lowest byte.
    fn decode(access: &Access) -> Option<(Self, IntId)> {
        if !matches!(access.size, AccessSize::Byte | AccessSize::Word) {
            return None;
        }
        let (register, start) = match access.offset {
            0x0800..0x0c00 => (Self::Targets, 0x0800),
            0x0f10..0x0f20 => (Self::ClearSgi, 0x0f10),
            0x0f20..0x0f30 => (Self::SetSgi, 0x0f20),
            _ => return None,
        };
        IntId::new((access.offset - start) as u32).map(|first| (register, first))
    }
}
