// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiments about what a VM leaves behind in OP-TEE when it ends.

use crate::lab::{Lab, client, create, describe, destroy};
use alloc::format;
use alloc::string::String;
use guest_bare::tee::apps;
use optee_proto::msg::{Attr, Param};
use optee_proto::rpc;

/// More consecutive VMs than OP-TEE has address space numbers.
const CYCLES: u32 = 70;

/// Creates and destroys VM 1 repeatedly; `in_vm` runs in between and must succeed.
fn cycles(lab: &Lab, mut in_vm: impl FnMut() -> Result<(), String>) -> String {
    for cycle in 1..=CYCLES {
        let created = create(1);
        if created.0 != 0 {
            return format!("VM_CREATED number {cycle} fails: {created}");
        }
        if let Err(text) = in_vm() {
            let pta = lab.works(1);
            destroy(1);
            let next = create(1);
            return format!(
                "VM number {cycle}: {text}; a PTA works: {pta}; the next VM_CREATED: {next}"
            );
        }
        destroy(1);
    }
    format!("{CYCLES} VMs, nothing fails")
}

/// Returns a session with a user application is left open.
pub fn open(lab: &Lab) -> String {
    cycles(lab, || match lab.open(1, apps::SMALL) {
        Ok(_) => Ok(()),
        failed => Err(format!("opening a session: {}", describe(&failed))),
    })
}

/// Returns the session is closed.
pub fn closed(lab: &Lab) -> String {
    cycles(lab, || {
        let done = lab
            .open(1, apps::SMALL)
            .and_then(|session| client(1).close(&lab.supplicant, session));
        done.map_err(|_| format!("opening or closing a session: {}", describe(&done)))
    })
}

/// Returns the session is closed, and the application stays.
pub fn keep_alive(lab: &Lab) -> String {
    cycles(lab, || {
        let done = lab
            .open(1, apps::KEEP_ALIVE)
            .and_then(|session| client(1).close(&lab.supplicant, session));
        done.map_err(|_| format!("opening or closing a session: {}", describe(&done)))
    })
}

/// Returns the application panicked, the session is not closed.
pub fn panicked(lab: &Lab) -> String {
    cycles(lab, || {
        let client = client(1);
        let session = lab
            .open(1, apps::SIMS)
            .map_err(|failure| format!("opening a session: {}", describe::<()>(&Err(failure))))?;
        let nothing = Param::new(Attr::TMEM_INPUT, 0, 0, 0);
        let result =
            describe(&client.invoke(&lab.supplicant, session, apps::SIMS_PANIC, [nothing]));
        if result == "TARGET_DEAD" {
            Ok(())
        } else {
            Err(format!("the panic: {result}"))
        }
    })
}

/// Returns the VM ends while a session is being opened, before the application is loaded.
pub fn loading(lab: &Lab) -> String {
    cycles(lab, || {
        let (_message, parked) = lab.open_until(1, apps::NOBODY, rpc::Command::LOAD_TA);
        match parked {
            Ok(_) => Ok(()),
            failed => Err(format!(
                "opening a session up to LOAD_TA: {}",
                describe(&failed)
            )),
        }
    })
}

/// Returns a session with a pseudo application is left open.
pub fn pta(lab: &Lab) -> String {
    cycles(lab, || match lab.open(1, apps::TESTS) {
        Ok(_) => Ok(()),
        failed => Err(format!("opening a session: {}", describe(&failed))),
    })
}
