// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Several vCPUs of a VM at once.

extern crate std;

use super::*;
use crate::fake::Step;
use core::sync::atomic::{AtomicUsize, Ordering};
use optee_proto::Return;
use std::thread;

const ROUNDS: usize = if cfg!(miri) { 2 } else { 20 };

/// Tries to take back what others use for a short time: many more than a busy machine needs.
const MOST_TRIES: usize = 300_000;

/// Of all vCPUs that take an object back, one gets it, and its pages are unpinned once.
#[test]
fn one_reclaim_wins() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let page = guest.alloc(1);
        for _ in 0..ROUNDS {
            let handle = guest.share(&[page]).unwrap();
            let won = AtomicUsize::new(0);
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        if guest.reclaim(handle).is_ok() {
                            won.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(won.into_inner(), 1);
        }
        assert!(vm.host.unmap_unpinned(page));
        vm.end();
    }
}

/// Calls with an object meet its end: they find it or not.
#[test]
fn calls_meet_the_end_of_their_memory() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        ffa.machine
            .set_tee(optee_proto::uuid::API_UID, 0b111_1101, 8);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let messages = [guest.alloc(1), guest.alloc(1)];
        let shared = messages.map(|at| guest.share(&[at]).unwrap());
        let page = guest.alloc(1);
        for _ in 0..ROUNDS {
            let buffer = guest.share(&[page]).unwrap();
            let param = Param::new(Attr::RMEM_INPUT, 0, 8, buffer);
            thread::scope(|scope| {
                for (at, message) in messages.into_iter().zip(shared) {
                    let (guest, machine) = (&guest, &ffa.machine);
                    scope.spawn(move || {
                        for _ in 0..4 {
                            guest.write_message(at, Command::INVOKE, SESSION, &[param]);
                            machine.script(1, [Step::ForeignInterrupt]);
                            let regs = guest.begin_at(message, 0);
                            if Return::from_x0(regs[0]) != Return::ETHREAD_LIMIT {
                                guest.finish(at, regs, &mut |_, _| false);
                            }
                        }
                    });
                }
                scope.spawn(|| {
                    let ended = (0..MOST_TRIES).any(|_| {
                        thread::yield_now();
                        guest.unshare(buffer).is_ok()
                    });
                    assert!(ended, "nobody uses it any more");
                });
            });
        }
        ffa.machine.forget_scripts(1);
        assert!(vm.host.unmap_unpinned(page));
        vm.end();
    }
}

/// VMs share at once, by one TX buffer.
#[test]
fn vms_share_at_once() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vms = [ffa.vm(1), ffa.vm(2)];
        thread::scope(|scope| {
            for vm in &vms {
                scope.spawn(move || {
                    let guest = vm.guest();
                    let all = pages(guest.alloc(20), 20);
                    let bytes = guest.descriptor(&all);
                    for round in 0..ROUNDS {
                        let fragment = [bytes.len(), 100][round % 2];
                        let handle = guest.send_descriptor(&bytes, fragment).unwrap();
                        assert_eq!(guest.unshare(handle), Ok(()));
                    }
                });
            }
        });
        let [a, b] = vms;
        a.end_one();
        b.end();
    }
}

/// The SPMC gives the handle of an object that is taken back to the next one at once.
#[test]
fn vcpus_share_while_others_take_back() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let before = vm.baseline();
        // A guest's vCPUs take turns at its TX buffer.
        let tx = spin::Mutex::new(());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let page = guest.alloc(1);
                    for _ in 0..10 * ROUNDS {
                        let handle = {
                            let _turn = tx.lock();
                            guest.share(&[page]).unwrap()
                        };
                        assert_eq!(guest.reclaim(handle), Ok(()));
                    }
                });
            }
        });
        assert_eq!(vm.baseline(), before);
        vm.end();
    }
}
