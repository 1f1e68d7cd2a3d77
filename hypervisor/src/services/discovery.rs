// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls by which software queries whether a service exists.
//!
//! Kernels and firmware query services that no VM has. They expect NOT_SUPPORTED, so there is
//! nothing to report. A call to another function of such a service is an anomaly: software that has
//! queried the service does not make it.

use optee_proto::smc::FunctionId;
use postern_smccc::call::OwningEntity;

/// The general service queries, which every owning entity has (DEN0028E 6.2): call count, call UID
/// and revision.
const GENERAL_QUERIES: [u32; 3] = [0xff00, 0xff01, 0xff03];

/// The functions of standard secure services that return a service's version, by function number.
/// Each is the first call of software that uses the service.
const VERSIONS: [u32; 9] = [
    0x20,  // SDEI_VERSION (DEN0054)
    0x40,  // MM_VERSION (DEN0060)
    0x63,  // FFA_VERSION (DEN0077)
    0xf0,  // EM_VERSION, errata management (DEN0100)
    0x110, // DRTM_VERSION (DEN0113)
    0x150, // RMI_VERSION (DEN0137)
    0x190, // RSI_VERSION (DEN0137): Linux, from 6.13 on, in every boot
    0x2d0, // PFDI_VERSION, fault detection (DEN0110)
    0x2e0, // LFA_VERSION, live firmware activation (DEN0147)
];

/// PV_TIME_FEATURES of the standard hypervisor service (DEN0057A).
const PV_TIME_FEATURES: u32 = 0x20;

/// Returns whether a call to this function only queries what exists.
pub fn is_query(function: FunctionId) -> bool {
    let number = function.number();
    function.is_fast()
        && match OwningEntity::of(function) {
            OwningEntity::Reserved => false,
            _ if GENERAL_QUERIES.contains(&number) => true,
            OwningEntity::StandardSecure => VERSIONS.contains(&number),
            OwningEntity::StandardHypervisor => number == PV_TIME_FEATURES,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_told_from_other_calls() {
        for (id, query) in [
            (0xc400_0190, true),  // RSI_VERSION
            (0xc401_0190, true),  // with the hint that there is no SVE state
            (0xc400_0191, false), // RSI_FEATURES: only behind a version
            (0xc400_0196, false), // RSI_REALM_CONFIG
            (0x8400_0063, true),  // FFA_VERSION
            (0x8400_0064, false), // FFA_FEATURES
            (0xc400_0020, true),  // SDEI_VERSION
            (0xc400_0021, false), // SDEI_EVENT_REGISTER
            (0x8400_0040, true),  // MM_VERSION
            (0xc400_02e0, true),  // LFA_VERSION
            (0xc500_0020, true),  // PV_TIME_FEATURES
            (0xc500_0021, false), // PV_TIME_ST
            (0x8400_ff01, true),  // UID of standard secure services
            (0x8200_ff01, true),  // UID of the silicon provider
            (0x8200_ff03, true),
            (0x8300_ff00, true),
            (0x8200_ff02, false), // reserved
            (0x8200_0001, false),
            (0x8800_ff01, false), // a reserved owner
            (0x0400_0063, false), // a yielding call
            (0x8450_0063, false), // bits that must be zero
            (0xc601_0000, false),
        ] {
            assert_eq!(
                is_query(FunctionId::new(id).without_hint()),
                query,
                "{id:#x}"
            );
        }
    }

    #[test]
    fn mediator_owns_tee_functions_only() {
        let tee = [OwningEntity::TrustedApplication, OwningEntity::TrustedOs];
        for owner in 0..64 {
            let function = FunctionId::new(0x8000_0000 | owner << 24);
            let expected = tee.contains(&OwningEntity::of(function));
            assert_eq!(mediator::Mediator::owns(function), expected, "{owner}");
        }
    }
}
