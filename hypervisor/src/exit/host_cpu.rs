// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The properties of the CPU and the firmware that guests see.

use crate::platform::machine;
use crate::services::smccc::{Workaround, Workarounds};
use optee_proto::smc::FunctionId;
use postern_arch::percpu::PerPcpu;
use postern_arch::{id_registers, smc};
use postern_base::gic::GicVersion;
use postern_base::ids::MAX_PCPUS;
use postern_base::sve::VectorLength;
use postern_exceptions::ids::IdValues;
use postern_smccc::arch;
use spin::Once;

/// By whether the VM has SVE.
static IDS: PerPcpu<[Once<IdValues>; 2]> =
    PerPcpu::new([const { [const { Once::new() }; 2] }; MAX_PCPUS]);
static WORKAROUNDS: Once<Workarounds> = Once::new();

/// Returns the values of the ID registers that a VM reads on this pCPU. All pCPUs of a VM are of one model.
pub fn id_values(sve: Option<VectorLength>) -> &'static IdValues {
    let sve = sve.is_some();
    IDS.this()[usize::from(sve)].call_once(|| {
        let ids = IdValues::new(id_registers::read, postern_stage2::IPA_BITS, sve);
        match machine().gic.version() {
            GicVersion::V2 => ids.without_gic_registers(),
            GicVersion::V3 => ids,
        }
    })
}

/// Returns the firmware's workarounds for speculation vulnerabilities.
pub fn workarounds() -> &'static Workarounds {
    WORKAROUNDS.call_once(|| {
        let ask = |id: FunctionId| {
            let answer = smc::call([arch::FEATURES.into(), id.into(), 0, 0, 0, 0, 0, 0]);
            Workaround::from_features(answer[0] as i32)
        };
        Workarounds {
            one: ask(arch::WORKAROUND_1),
            two: ask(arch::WORKAROUND_2),
            three: ask(arch::WORKAROUND_3),
        }
    })
}
