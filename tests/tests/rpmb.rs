// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An OP-TEE that is built for an RPMB, under two guests whose supplicants emulate one. docs/rpmb.md has the reasons.

use anyhow::{Context, Result, ensure};
use postern_qemu::config::Device;
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::cases::{check, end};
use postern_tests::{BOOT, Lab, power_off, stats, stopped, xtest};
use serde_json::Value;

/// Storage in an RPMB whose key OP-TEE writes. A key for tests: the emulation takes any.
const RPMB: [&str; 3] = [
    "CFG_RPMB_FS=y",
    "CFG_RPMB_WRITE_KEY=y",
    "CFG_RPMB_TESTKEY=y",
];
/// Without it, storage in files is protected by the RPMB.
const UNPROTECTED: &str = "CFG_REE_FS_INTEGRITY_RPMB=n";
/// Cases that load applications, of which the last one stores something.
const CASES: &str = "-t regression 1004 4001 6001";
/// A case with nothing but a pseudo TA.
const PSEUDO: &str = "1002";

/// Boots two guests, of which the first owns the RPMB, with an OP-TEE that is built with these settings.
fn boot(lab: &Lab, settings: &[&str]) -> Result<Session> {
    let mut system = lab.system("two.toml")?;
    system.machine.optee_flags = settings.iter().copied().map(String::from).collect();
    system.vms[0].tee_policy.devices = vec![Device::Rpmb];
    let machine = lab.machine(&system, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    for vm in ["a", "b"] {
        let guest = session.vm(vm)?;
        session.expect(guest, BOOT).ready()?;
    }
    Ok(session)
}

/// Runs all cases in a guest. Where storage fails, the case that stores something passes without a part.
fn works(session: &mut Session, guest: Channel) -> Result<()> {
    let end = xtest(session, guest, CASES, 3)?;
    let stored = xtest(session, guest, "-t regression 6001", 1)?.subtests;
    ensure!(stored > 0, "nothing was stored: {end:?}");
    Ok(())
}

/// Returns how many requests to the RPMB OP-TEE has made in calls of a VM, and how many requests were withheld from it.
fn requests(session: &mut Session, vm: &str) -> Result<(u64, u64)> {
    let stats = stats(session, vm)?;
    let count = stats.rpc.get("rpmb");
    let withheld = stats.more.get("withheld").and_then(Value::as_u64);
    Ok((
        *count.context("requests to the RPMB")?,
        withheld.context("withheld requests")?,
    ))
}

#[test]
fn storage_that_an_rpmb_protects_is_its_owners() -> Result<()> {
    let lab = Lab::new("rpmb")?;
    let mut session = boot(&lab, &RPMB)?;
    let (owner, other) = (session.vm("a")?, session.vm("b")?);
    // Both at once. OP-TEE keeps the versions of applications in its storage, so without storage it loads none.
    session.send(other, &format!("xtest {CASES} {PSEUDO}"))?;
    works(&mut session, owner)?;
    let cases = end(&mut session, other)?;
    for case in ["1004", "4001"] {
        let error = Some("TEEC_ERROR_ITEM_NOT_FOUND");
        check(&cases, &format!("regression_{case}"), error)?;
    }
    check(&cases, &format!("regression_{PSEUDO}"), None)?;
    let (of_owner, of_other) = (requests(&mut session, "a")?, requests(&mut session, "b")?);
    println!("requests to the RPMB, withheld requests: {of_owner:?} and {of_other:?}");
    ensure!(
        of_owner.0 > 0 && of_owner.1 == 0 && of_other.0 == of_other.1 && of_other.1 > 0,
        "{of_owner:?}, {of_other:?}"
    );

    // The emulation is empty after each start, and OP-TEE then writes its key anew.
    session.send(owner, "reboot")?;
    stopped(&mut session, "a", "reset")?;
    session.expect(owner, BOOT).ready()?;
    works(&mut session, owner)?;
    power_off(session, &["a", "b"])
}

#[test]
fn storage_in_files_is_everybodys_without_the_protection() -> Result<()> {
    let lab = Lab::new("rpmb-unprotected")?;
    let mut session = boot(&lab, &[&RPMB[..], &[UNPROTECTED]].concat())?;
    for vm in ["a", "b"] {
        let guest = session.vm(vm)?;
        works(&mut session, guest)?;
    }
    // xtest also stores in the RPMB, if there is one.
    let (of_owner, of_other) = (requests(&mut session, "a")?, requests(&mut session, "b")?);
    println!("requests to the RPMB, withheld requests: {of_owner:?} and {of_other:?}");
    ensure!(
        of_owner.0 > 0 && of_owner.1 == 0 && of_other.0 == of_other.1,
        "{of_owner:?}, {of_other:?}"
    );
    power_off(session, &["a", "b"])
}
