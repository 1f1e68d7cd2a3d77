// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the CPU and the firmware below tell guests of themselves.

use crate::services::call::FunctionId;
use crate::services::smccc::{self, Workaround, Workarounds};
use postern_arch::{id_registers, smc};
use postern_exceptions::ids::IdValues;
use spin::Once;

static IDS: Once<IdValues> = Once::new();
static WORKAROUNDS: Once<Workarounds> = Once::new();

/// SMCCC_ARCH_FEATURES.
const ARCH_FEATURES: u64 = 0x8000_0001;

/// Returns what guests read in ID registers.
pub fn id_values() -> &'static IdValues {
    IDS.call_once(|| IdValues::new(id_registers::read, postern_stage2::IPA_BITS))
}

/// Returns what firmware has against speculation.
pub fn workarounds() -> &'static Workarounds {
    WORKAROUNDS.call_once(|| {
        let ask = |id: FunctionId| {
            let answer = smc::call([ARCH_FEATURES, u64::from(id.get()), 0, 0, 0, 0, 0, 0]);
            Workaround::from_features(answer[0] as i32)
        };
        Workarounds {
            one: ask(smccc::ARCH_WORKAROUND_1),
            two: ask(smccc::ARCH_WORKAROUND_2),
            three: ask(smccc::ARCH_WORKAROUND_3),
        }
    })
}
