// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Loom models of turning a vCPU on and off from several others: `make test-models`.

use super::*;
use crate::sync::Plain;
use loom::sync::Arc;
use loom::thread;

/// A vCPU: its power state, and its registers, which are guarded by the power state alone.
struct Vcpu {
    power: VcpuPower,
    registers: Plain,
}

impl Vcpu {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            power: VcpuPower::off(),
            registers: Plain::default(),
        })
    }
}

#[test]
fn one_of_two_callers_gets_the_registers() {
    loom::model(|| {
        let vcpu = Vcpu::new();
        let callers = [(); 2].map(|()| {
            let vcpu = Arc::clone(&vcpu);
            thread::spawn(move || {
                let won = vcpu.power.claim().is_ok();
                if won {
                    vcpu.registers.write();
                    vcpu.power.started();
                }
                won
            })
        });
        let won = callers.map(|caller| caller.join().expect("no pCPU fails"));
        assert!(won[0] != won[1]);
        assert_eq!(vcpu.power.state(), PowerState::On);
    });
}

#[test]
fn registers_pass_from_cpu_off_to_next_cpu_on() {
    loom::model(|| {
        let vcpu = Vcpu::new();
        assert!(vcpu.power.claim().is_ok());
        vcpu.power.started();
        let last = Arc::clone(&vcpu);
        // The pCPU on which the vCPU ran saves its state and turns it off.
        let old = thread::spawn(move || {
            last.registers.write();
            last.power.turned_off();
        });
        // Others turn it on again as soon as it is off. A caller that fails in between gives it
        // back.
        let other = Arc::clone(&vcpu);
        let gives_up = thread::spawn(move || {
            if other.power.claim().is_ok() {
                other.registers.write();
                other.power.off_again();
            }
        });
        if vcpu.power.claim().is_ok() {
            vcpu.registers.write();
            vcpu.power.started();
        }
        old.join().expect("no pCPU fails");
        gives_up.join().expect("no pCPU fails");
    });
}
