// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which TEEs can be shared, and what is said of the others.

use crate::fake::Machine;
use crate::{ProbeError, TeeInfo, probe};
use alloc::string::ToString;
use optee_proto::caps::SecureCaps;
use optee_proto::uuid;

fn ask(uid: [u32; 4], caps: u64, threads: usize) -> Result<TeeInfo, ProbeError> {
    let machine = Machine::new();
    machine.set_tee(uid, caps, threads);
    let answer = probe(&machine.add_vm(1, 1));
    assert_eq!(machine.violations(), [""; 0]);
    answer
}

#[test]
fn a_virtualised_optee() {
    let tee = ask(uuid::API_UID, 0b111_1101, 5).unwrap();
    assert_eq!((tee.major, tee.minor, tee.build), (4, 10, 0x1234_5678));
    assert_eq!((tee.threads, tee.max_notif, tee.rpc_params), (5, 63, 4));
    assert!(
        tee.caps
            .contains(SecureCaps::VIRTUALIZATION | SecureCaps::HAVE_RESERVED_SHM)
    );
    let old = ask(uuid::API_UID, 0b1100, 0).unwrap();
    assert_eq!((old.threads, old.max_notif, old.rpc_params), (2, 0, 0));
}

/// One VM can have it; that there is not another is the hypervisor's to see to.
#[test]
fn calls_carry_no_client_id_without_virtualisation() {
    assert!(!ask(uuid::API_UID, 0b100, 2).unwrap().virtualised);
    assert!(ask(uuid::API_UID, 0b1100, 2).unwrap().virtualised);
    let text = ProbeError::NotVirtualised.to_string();
    assert!(text.contains("CFG_NS_VIRTUALIZATION=y"), "{text}");
}

#[test]
fn probe_error_names_cause_and_fix() {
    let unknown = [u32::MAX, 0, 0, 0];
    let other = [1, 2, 3, 4];
    for (uid, caps, error, says) in [
        (unknown, 0, ProbeError::Absent, "SPD=opteed"),
        (
            uuid::IMAGE_LOAD_UID,
            0,
            ProbeError::NotLoaded,
            "OPTEE_ALLOW_SMC_LOAD",
        ),
        (other, 0, ProbeError::NotOptee(other), "00000001-00000002"),
        (
            uuid::API_UID,
            0b1001,
            ProbeError::NoDynamicSharedMemory,
            "CFG_CORE_DYN_SHM=y",
        ),
    ] {
        assert_eq!(ask(uid, caps, 2), Err(error));
        assert!(error.to_string().contains(says), "{error}");
    }
}
