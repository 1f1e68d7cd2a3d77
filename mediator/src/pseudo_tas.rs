// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pseudo TAs in OP-TEE's sources: parts of its core that are opened like applications.
//!
//! A pseudo TA has no address space of its own. OP-TEE searches its pseudo TAs before user TAs
//! (`tee_ta_init_session`), so no user TA can have the UUID of a pseudo TA that is built in.

use optee_proto::Uuid;

/// The UUIDs in `lib/libutee/include`, `core/pta` and `core/arch/arm` of OP-TEE 4.10.0, in ascending order.
const KNOWN: [Uuid; 30] = [
    // Profiling of user TAs.
    Uuid(0x2f6e0d48_c574_426d_824e_40198cde5cac_u128.to_be_bytes()),
    // Attestation.
    Uuid(0x39800861_182a_4720_9b67_2bcd622bc0b5_u128.to_be_bytes()),
    // System: what user TAs ask OP-TEE for.
    Uuid(0x3a2f8978_5dc0_11e8_9c2d_fa7ae01bbebc_u128.to_be_bytes()),
    // Sockets, for user TAs.
    Uuid(0x3b996a7d_2c2b_4a49_a896_e1fb5766d2f4_u128.to_be_bytes()),
    // APDU: a secure element.
    Uuid(0x3f3eb880_3639_11ec_9b9d_0f3fc9468f50_u128.to_be_bytes()),
    // Remote processors (STM32MP).
    Uuid(0x54af4a68_19be_40d7_bbe6_8950350a8744_u128.to_be_bytes()),
    // Secure boot (Rockchip).
    Uuid(0x5cfa57f6_1a4c_407f_94a7_a56c8c47019d_u128.to_be_bytes()),
    // GPIO (Broadcom).
    Uuid(0x6272636d_2018_1101_4243_4d5f4750494f_u128.to_be_bytes()),
    // SOTP (Broadcom).
    Uuid(0x6272636d_2018_1101_4243_4d5f534f5450_u128.to_be_bytes()),
    // Random numbers (Broadcom).
    Uuid(0x6272636d_2019_0201_4243_4d5f524e4730_u128.to_be_bytes()),
    // Error log (Broadcom).
    Uuid(0x6272636d_2019_0701_4243_4d5f454c4f47_u128.to_be_bytes()),
    // BNXT (Broadcom).
    Uuid(0x6272636d_2019_0716_4243_4d5f53434849_u128.to_be_bytes()),
    // Watchdog (Broadcom).
    Uuid(0x6272636d_2019_0801_4243_4d5f57445430_u128.to_be_bytes()),
    // Installation of user TAs.
    Uuid(0x6e256cba_fc4d_4941_ad09_2ca1860342dd_u128.to_be_bytes()),
    // Device enumeration.
    Uuid(0x7011a688_ddde_4053_a5a9_7b3c4ddf13b8_u128.to_be_bytes()),
    // Widevine.
    Uuid(0x721f4da9_da05_40d4_a1a3_8377c1e08b0a_u128.to_be_bytes()),
    // Manufacturing protection (i.MX).
    Uuid(0x83268b7c_85e3_11e8_adc0_fa7ae01bbebc_u128.to_be_bytes()),
    // BSEC: fuses (STM32MP).
    Uuid(0x94cf71ad_80e6_40b5_a7c6_3dc501eb2803_u128.to_be_bytes()),
    // OCOTP: fuses (i.MX).
    Uuid(0x9abdf255_d8fa_40de_8f60_4d0b27927b7d_u128.to_be_bytes()),
    // Veraison attestation.
    Uuid(0xa77955f9_eea1_44fd_add5_4a9d962afcf5_u128.to_be_bytes()),
    // SCMI: clocks, resets, voltages.
    Uuid(0xa8cfe406_d4f5_4a2e_9f8d_a25dc754c099_u128.to_be_bytes()),
    // Random numbers.
    Uuid(0xab7a617c_b8e7_4d8f_8301_d09b61036b64_u128.to_be_bytes()),
    // SCP03: a secure element.
    Uuid(0xbe0e5821_e718_4f77_ab3e_8e6c73a9c735_u128.to_be_bytes()),
    // DIGPROG: the chip's version (i.MX).
    Uuid(0xbfdbe409_3302_4abf_99bc_5f623226a739_u128.to_be_bytes()),
    // Tests.
    Uuid(0xd96a5b40_c3e5_21e3_8794_1002a5d5c61b_u128.to_be_bytes()),
    // Statistics.
    Uuid(0xd96a5b40_e2c7_b1af_8794_1002a5d5c61b_u128.to_be_bytes()),
    // Debug access (STM32MP).
    Uuid(0xdd05bc8b_9f3b_49f0_b649_01aa10c1c210_u128.to_be_bytes()),
    // StandaloneMM.
    Uuid(0xed32d533_99e6_4209_9cc0_2d72cdd998a7_u128.to_be_bytes()),
    // DEK blobs (i.MX).
    Uuid(0xef477737_0db1_4a9d_8437_f2f535c0bd92_u128.to_be_bytes()),
    // RTC.
    Uuid(0xf389f8c8_845f_496c_8bbe_d64bd24c92fd_u128.to_be_bytes()),
];

fn number(app: Uuid) -> Option<usize> {
    KNOWN.binary_search_by_key(&app.0, |known| known.0).ok()
}

/// Returns whether OP-TEE's sources have a pseudo TA with this UUID. An OP-TEE may have more, from other
/// sources, and need not have this one.
pub(crate) fn is_pseudo_ta(app: Uuid) -> bool {
    number(app).is_some()
}

/// A set of these UUIDs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PseudoTas(u32);

impl PseudoTas {
    /// Returns the empty set.
    pub(crate) const fn new() -> Self {
        Self(0)
    }

    /// Adds a UUID, if OP-TEE's sources have it.
    pub(crate) fn insert(&mut self, app: Uuid) {
        self.0 |= Self::bit(app);
    }

    /// Returns whether the set contains a UUID.
    pub(crate) fn contains(self, app: Uuid) -> bool {
        self.0 & Self::bit(app) != 0
    }

    fn bit(app: Uuid) -> u32 {
        number(app).map_or(0, |number| 1 << number)
    }
}

const _: () = assert!(KNOWN.len() <= u32::BITS as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order() {
        assert!(KNOWN.is_sorted_by(|one, next| one.0 < next.0));
        let device = "7011a688-ddde-4053-a5a9-7b3c4ddf13b8".parse().unwrap();
        assert!(is_pseudo_ta(device));
        assert!(!is_pseudo_ta(Uuid([0xa1; 16])));
    }

    #[test]
    fn each_pseudo_ta_is_recorded_separately() {
        let mut some = PseudoTas::new();
        some.insert(Uuid([0xa1; 16]));
        assert_eq!(some, PseudoTas::new());
        for (number, &name) in KNOWN.iter().enumerate() {
            some.insert(name);
            let is_in = |known: &Uuid| some.contains(*known);
            assert!(KNOWN[..=number].iter().all(is_in));
            assert!(!KNOWN[number + 1..].iter().any(is_in));
        }
        assert!(!some.contains(Uuid([0xa1; 16])));
    }
}
