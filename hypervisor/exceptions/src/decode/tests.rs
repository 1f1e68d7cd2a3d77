// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;

fn decode(esr: u64) -> Trap {
    Trap::decode(Esr::new(esr), Hpfar::new(0), GuestVa::new(0))
}

#[test]
fn calls_and_waits() {
    for (esr, expected) in [
        (0x5a00_0000, Trap::Hvc { imm: 0 }),
        (0x5a00_ffff, Trap::Hvc { imm: 0xffff }),
        (0x5e00_0000, Trap::Smc { imm: 0 }),
        (0x5e00_4b4e, Trap::Smc { imm: 0x4b4e }),
        (0x07e0_0000, Trap::Wfi),
        (0x07e0_0001, Trap::Wfe),
        (0x07e0_0002, Trap::Wfi), // WFIT
        (0x07e0_0003, Trap::Wfe), // WFET
        (0x1fe0_0000, Trap::Fp),
        (0x6600_0000, Trap::Sve),
        (0x0200_0000, Trap::Other(0x00)), // unknown reason
        (0x2600_0000, Trap::Other(0x09)), // pointer authentication
        (0x7600_0000, Trap::Other(0x1d)), // SME
        (0xbe00_0000, Trap::Other(0x2f)), // SError
    ] {
        assert_eq!(decode(esr), expected, "{esr:#x}");
    }
}

#[test]
fn bits_above_the_iss_do_not_confuse_the_class() {
    // ISS2 occupies bits 55:32.
    assert_eq!(decode(0x00ff_ffff_5e00_0000), Trap::Smc { imm: 0 });
}

#[test]
fn system_registers() {
    // As QEMU and hardware report `mrs x2, id_aa64pfr0_el1` and `msr icc_sgi1r_el1, x19`.
    assert_eq!(
        decode(0x6230_0049),
        Trap::SysReg(SysRegAccess {
            reg: SysReg::new(3, 0, 0, 4, 0),
            rt: Gpr::new(2),
            write: false,
        })
    );
    assert_eq!(
        decode(0x6200_0000 | 3 << 20 | 5 << 17 | 12 << 10 | 19 << 5 | 11 << 1),
        Trap::SysReg(SysRegAccess {
            reg: SysReg::new(3, 0, 12, 11, 5),
            rt: Gpr::new(19),
            write: true,
        })
    );
    // Every field arrives whole and in its place.
    assert_eq!(
        decode(0x6200_0000 | 2 << 20 | 6 << 17 | 5 << 14 | 9 << 10 | 31 << 5 | 14 << 1),
        Trap::SysReg(SysRegAccess {
            reg: SysReg::new(2, 5, 9, 14, 6),
            rt: Gpr::new(31),
            write: true,
        })
    );
    assert_eq!(Gpr::new(31).index(), None);
    assert_eq!(Gpr::new(30).index(), Some(30));
}

#[test]
fn a_store_to_a_device() {
    // `strb w3, [x1]` to the UART's data register.
    let esr = 0x92 << 24 | 1 << 24 | 3 << 16 | 1 << 6 | 0x07;
    let trap = Trap::decode(
        Esr::new(esr),
        Hpfar::new(0x9_0000),
        GuestVa::new(0xffff_8000_1234_5018),
    );
    assert_eq!(
        trap,
        Trap::DataAbort(DataAbort {
            va: Some(GuestVa::new(0xffff_8000_1234_5018)),
            ipa: Some(Ipa::new(0x0900_0018)),
            write: true,
            transfer: Some(Transfer {
                size: AccessSize::Byte,
                register: Gpr::new(3),
                sign_extend: false,
                sixty_four: false,
            }),
            stage_1_walk: false,
            cache_maintenance: false,
            fault: Fault::Translation,
        })
    );
}

#[test]
fn a_sign_extending_load() {
    // `ldrsw x30, [..]`: SAS 2, SSE, SF.
    let esr: u64 = 0x9200_0000 | 1 << 24 | 2 << 22 | 1 << 21 | 30 << 16 | 1 << 15 | 0x06;
    let Trap::DataAbort(abort) = decode(esr) else {
        panic!("not a data abort");
    };
    assert!(!abort.write);
    assert_eq!(
        abort.transfer,
        Some(Transfer {
            size: AccessSize::Word,
            register: Gpr::new(30),
            sign_extend: true,
            sixty_four: true,
        })
    );
}

#[test]
fn when_the_ipa_is_known() {
    let hpfar = Hpfar::new(0x0000_0010_0200_0000 >> 8);
    let far = GuestVa::new(0xffff_0000_0000_0abc);
    let byte = Some(Ipa::new(0x0000_0010_0200_0abc));
    let page = Some(Ipa::new(0x0000_0010_0200_0000));
    let walk = 1 << 7;
    for (iss, ipa, fault) in [
        (0x04, byte, Fault::Translation),
        (0x2b, byte, Fault::Translation),
        (0x03, byte, Fault::AddressSize),
        (0x29, byte, Fault::AddressSize),
        (0x0a, byte, Fault::AccessFlag),
        (0x0f, None, Fault::Permission),
        (0x0f | walk, page, Fault::Permission),
        (0x05 | walk, page, Fault::Translation),
        (0x10, None, Fault::External),
        (0x16 | walk, None, Fault::External),
        (0x21, None, Fault::Alignment),
        (0x30, None, Fault::Other(0x30)),
    ] {
        for class in [0x20_u64, 0x24] {
            let (found, why) = match Trap::decode(Esr::new(class << 26 | iss), hpfar, far) {
                Trap::DataAbort(abort) => (abort.ipa, abort.fault),
                Trap::InstructionAbort(abort) => (abort.ipa, abort.fault),
                other => panic!("{other:?}"),
            };
            assert_eq!((found, why), (ipa, fault), "{iss:#x}");
        }
    }
}

#[test]
fn what_the_hardware_does_not_know() {
    // FnV set, ISV set on a table walk: neither address nor instruction may be trusted.
    let esr = 0x9000_0000 | 1 << 24 | 1 << 10 | 1 << 7 | 0x16;
    let Trap::DataAbort(abort) = decode(esr) else {
        panic!("not a data abort");
    };
    assert_eq!((abort.va, abort.ipa, abort.transfer), (None, None, None));
    assert!(abort.stage_1_walk);
}

#[test]
fn no_syndrome_is_refused() {
    for class in 0..64_u64 {
        for bit in 0..26 {
            let esr = Esr::new(class << 26 | 1 << bit);
            let _ = Trap::decode(esr, Hpfar::new(u64::MAX), GuestVa::new(u64::MAX));
            assert_eq!(u64::from(esr.class()), class);
        }
    }
    assert_eq!(Hpfar::new(u64::MAX).page(), Ipa::new(0x00ff_ffff_ffff_f000));
}

#[test]
fn instruction_length() {
    assert_eq!(Esr::new(0x0200_0000).instruction_length(), 4);
    assert_eq!(Esr::new(0).instruction_length(), 2);
}

#[test]
fn a_device_access_is_a_described_access_to_nothing() {
    let hpfar = Hpfar::new(0x9_0000);
    let far = GuestVa::new(0xffff_8000_1234_5018);
    let mut accesses = 0;
    for bits in 0..1 << 14 {
        // All fault codes, with WnR, S1PTW, CM, FnV, ISV, and the lowest bits of the class in all combinations.
        let esr = (bits & 0x3f)
            | (bits >> 6 & 7) << 6
            | (bits >> 9 & 1) << 10
            | (bits >> 10 & 1) << 24
            | (bits >> 11) << 26
            | 0x82 << 24
            | 1 << 23
            | 19 << 16;
        let (esr, trap) = (Esr::new(esr), Trap::decode(Esr::new(esr), hpfar, far));
        let expected = match trap {
            Trap::DataAbort(DataAbort {
                va,
                ipa: Some(ipa),
                write,
                transfer: Some(transfer),
                fault: Fault::Translation,
                ..
            }) => Some(DeviceAccess {
                ipa,
                transfer,
                write,
                va,
            }),
            _ => None,
        };
        accesses += u32::from(expected.is_some());
        assert_eq!(DeviceAccess::decode(esr, hpfar, far), expected, "{esr:?}");
    }
    // Five codes of translation faults, with WnR, CM and FnV.
    assert_eq!(accesses, 5 << 3);
}
