// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Asynchronous notifications.

use super::*;
use crate::Features;
use crate::fake::Guest;
use ffa_proto::call::{
    FeatureId, FeatureQuery, FeaturesAnswer, NotificationBind, NotificationGet,
    NotificationGetAnswer,
};
use ffa_proto::notification::{NotificationBitmap, NotificationGetFlags};
use ffa_proto::{Request, VcpuId, Version, Width};
use optee_proto::ffa::{Service, Status};

const INVALID: ErrorCode = ErrorCode::INVALID_PARAMETERS;

fn notified(ffa: &Ffa, client: u16) -> Vm {
    let features = Features {
        async_notif: true,
        ..Features::default()
    };
    let config = Config {
        features,
        ..Config::default()
    };
    ffa.bare(client, config)
}

const fn bind(bitmap: u64) -> NotificationBind {
    NotificationBind {
        sender: PARTITION,
        receiver: VM,
        per_vcpu: false,
        bitmap: NotificationBitmap::new(bitmap),
    }
}

fn enable(guest: &Guest<'_>, number: u32) -> Status {
    let words = guest.request([Service::ENABLE_ASYNC_NOTIF.get(), number, 0, 0, 0]);
    Status::from_w(words.unwrap()[0])
}

/// Fetches what is pending, as Linux does: all bitmaps.
fn fetch(guest: &Guest<'_>) -> u64 {
    let flags = NotificationGetFlags::all();
    let answer = guest.ask(&Request::NotificationGet(NotificationGet {
        receiver: VM,
        vcpu: VcpuId::new(0),
        flags,
    }));
    let answer = NotificationGetAnswer::read(&answer, Version::V1_2, flags).unwrap();
    assert_eq!((answer.vms.get(), answer.spm, answer.hypervisor), (0, 0, 0));
    answer.secure_partitions.get()
}

#[test]
fn notification_that_is_bound_and_enabled_is_fetched_once() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = notified(&ffa, 1);
        let guest = vm.guest();
        assert_eq!(fetch(&guest), 0);
        assert_eq!(
            guest.done(&Request::NotificationBind(bind(1 << 63 | 8))),
            Ok(())
        );
        assert!(!vm.mediator.wants_notifications());
        assert_eq!(enable(&guest, 3), Status::OK);
        assert!(vm.mediator.wants_notifications());
        ffa.machine.notify(1, 0);
        assert_eq!(fetch(&guest), 8);
        assert_eq!(fetch(&guest), 0);
        let unbind = Request::NotificationUnbind(bind(8));
        assert_eq!(guest.done(&unbind), Ok(()));
        assert_eq!(guest.done(&unbind), Err(INVALID));
        ffa.machine.notify(1, 0);
        vm.end();
    }
}

#[test]
fn guest_has_a_notification_pending_interrupt_and_no_other() {
    let ffa = Ffa::new(Manner::OpTee);
    let vm = notified(&ffa, 1);
    let guest = vm.guest();
    let feature = |id| {
        let answer = guest.ask(&Request::Features(ffa_proto::call::Features {
            query: FeatureQuery::Feature(id),
            properties: 0,
        }));
        FeaturesAnswer::read(&answer, Version::V1_2).map(|answer| answer.w2)
    };
    let sgi = feature(FeatureId::NOTIFICATION_PENDING_INTERRUPT);
    assert_eq!(sgi, Ok(crate::ffa::NOTIFICATION_PENDING_SGI));
    assert!(feature(FeatureId::SCHEDULE_RECEIVER_INTERRUPT).is_err());
    assert!(feature(FeatureId::MANAGED_EXIT_INTERRUPT).is_err());
    vm.end();
}

#[test]
fn only_own_notifications_of_optee_are_bound() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let (vm, other) = (notified(&ffa, 1), notified(&ffa, 2));
        let guest = vm.guest();
        assert_eq!(guest.done(&Request::NotificationBind(bind(8))), Ok(()));
        let before = ffa.machine.smcs().len();
        let wrong = [
            NotificationBind {
                receiver: OTHER,
                ..bind(1)
            },
            NotificationBind {
                receiver: EndpointId::HYPERVISOR,
                ..bind(1)
            },
            NotificationBind {
                receiver: PARTITION,
                ..bind(1)
            },
            NotificationBind {
                sender: OTHER,
                ..bind(1)
            },
            NotificationBind {
                sender: VM,
                ..bind(1)
            },
            NotificationBind {
                sender: SPMC,
                ..bind(1)
            },
            NotificationBind {
                sender: EndpointId::new(0x8002),
                ..bind(1)
            },
            NotificationBind {
                per_vcpu: true,
                ..bind(1)
            },
            bind(0),
        ];
        for bind in wrong {
            assert_eq!(
                guest.done(&Request::NotificationBind(bind)),
                Err(INVALID),
                "{bind:?}"
            );
        }
        for bitmap in [8, 9, u64::MAX] {
            let denied = Err(ErrorCode::DENIED);
            assert_eq!(guest.done(&Request::NotificationBind(bind(bitmap))), denied);
        }
        for bind in [
            bind(1),
            bind(9),
            bind(u64::MAX),
            NotificationBind {
                receiver: OTHER,
                ..bind(8)
            },
        ] {
            assert_eq!(
                guest.done(&Request::NotificationUnbind(bind)),
                Err(INVALID),
                "{bind:?}"
            );
        }
        for receiver in [OTHER, EndpointId::HYPERVISOR, PARTITION] {
            let get = Request::NotificationGet(NotificationGet {
                receiver,
                vcpu: VcpuId::new(0),
                flags: NotificationGetFlags::all(),
            });
            assert_eq!(guest.done(&get), Err(INVALID));
        }
        for width in [Width::Smc32, Width::Smc64] {
            let list = Request::NotificationInfoGet(width);
            assert_eq!(guest.done(&list), Err(ErrorCode::NO_DATA));
        }
        assert_eq!(functions(&ffa.machine, before), []);
        other.end_one();
        vm.end();
    }
}

#[test]
fn only_a_bound_notification_is_enabled() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = notified(&ffa, 1);
        let guest = vm.guest();
        let before = ffa.machine.smcs().len();
        for number in [0, 3, 63, 64, 0x8000_0000, u32::MAX] {
            assert_eq!(enable(&guest, number), Status::TEE_BAD_PARAMETERS);
        }
        assert_eq!(functions(&ffa.machine, before), []);
        assert_eq!(guest.done(&Request::NotificationBind(bind(8))), Ok(()));
        assert_eq!(enable(&guest, 2), Status::TEE_BAD_PARAMETERS);
        assert_eq!(enable(&guest, 3), Status::OK);
        assert_eq!(enable(&guest, 3), Status::OK);
        vm.end();
    }
}

/// OP-TEE has not been shown to bear it.
#[test]
fn notifications_are_not_enabled_in_a_second_life() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = notified(&ffa, 1);
        for life in 0..3 {
            let guest = vm.guest();
            let is_bound = guest.done(&Request::NotificationBind(bind(8)));
            if life == 0 {
                assert_eq!(is_bound, Ok(()));
                assert_eq!(enable(&guest, 3), Status::OK);
                ffa.machine.notify(1, 0);
            } else if is_bound.is_ok() {
                assert_ne!(enable(&guest, 3), Status::OK);
            }
            drop(guest);
            vm.mediator.destroy(&vm.host).unwrap();
            assert_eq!(ffa.machine.violations(), [""; 0]);
            vm.mediator.create(&vm.host).unwrap();
        }
        vm.end();
    }
}

#[test]
fn guest_without_notifications_has_no_such_functions() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.bare(1, notifying(false));
        let guest = vm.guest();
        let before = ffa.machine.smcs().len();
        let none = Err(ErrorCode::NOT_SUPPORTED);
        assert_eq!(guest.done(&Request::NotificationBind(bind(8))), none);
        assert_eq!(guest.done(&Request::NotificationUnbind(bind(8))), none);
        assert_eq!(
            guest.done(&Request::NotificationInfoGet(Width::Smc64)),
            none
        );
        assert_ne!(enable(&guest, 3), Status::OK);
        assert_eq!(functions(&ffa.machine, before), []);
        vm.end();
    }
}

/// VMs send each other none, so who asks for those only gets none, and misses none of OP-TEE's.
#[test]
fn notifications_that_are_not_asked_for_stay_pending() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = notified(&ffa, 1);
        let guest = vm.guest();
        assert_eq!(guest.done(&Request::NotificationBind(bind(8))), Ok(()));
        assert_eq!(enable(&guest, 3), Status::OK);
        ffa.machine.notify(1, 0);
        let before = ffa.machine.smcs().len();
        for flags in [NotificationGetFlags::empty(), NotificationGetFlags::VMS] {
            let answer = guest.ask(&Request::NotificationGet(NotificationGet {
                receiver: VM,
                vcpu: VcpuId::new(0),
                flags,
            }));
            let answer = NotificationGetAnswer::read(&answer, Version::V1_2, flags).unwrap();
            assert_eq!(answer, NotificationGetAnswer::default());
        }
        assert_eq!(functions(&ffa.machine, before), []);
        assert_eq!(fetch(&guest), 8);
        vm.end();
    }
}

/// What the SPMC refuses is as it was.
#[test]
fn refusals_of_the_spmc_change_nothing() {
    let ffa = Ffa::new(Manner::OpTee);
    let vm = notified(&ffa, 1);
    let guest = vm.guest();
    let code = ErrorCode::RETRY;
    let refusal = [0x8400_0060, 0, code.to_w().into(), 0, 0, 0, 0, 0];
    let nonsense = [0x8400_0062, 0, 0, 0, 0, 0, 0, 0];
    let (on, off) = (
        Request::NotificationBind(bind(8)),
        Request::NotificationUnbind(bind(8)),
    );
    for (answer, code) in [(refusal, code), (nonsense, ErrorCode::ABORTED)] {
        ffa.machine
            .answer_next_ffa(Function::NotificationBind, answer);
        assert_eq!(guest.done(&on), Err(code));
        // It is not bound, so it is neither enabled nor unbound.
        assert_ne!(enable(&guest, 3), Status::OK);
        assert_eq!(guest.done(&off), Err(INVALID));
        assert_eq!(guest.done(&on), Ok(()));
        ffa.machine
            .answer_next_ffa(Function::NotificationUnbind, answer);
        assert_eq!(guest.done(&off), Err(code));
        assert_eq!(guest.done(&on), Err(ErrorCode::DENIED));
        assert_eq!(guest.done(&off), Ok(()));
    }
    vm.end();
}

/// The SPMC hears of notifications for VMs that have them, and then until their ends.
#[test]
fn bitmap_lives_as_long_as_a_vm_with_notifications() {
    for manner in MANNERS {
        for is_notified in [false, true] {
            let ffa = Ffa::new(manner);
            let before = ffa.machine.smcs().len();
            let vm = if is_notified {
                notified(&ffa, 1)
            } else {
                ffa.bare(1, Config::default())
            };
            let created = functions(&ffa.machine, before);
            let before = ffa.machine.smcs().len();
            vm.mediator.destroy(&vm.host).unwrap();
            let ended = functions(&ffa.machine, before);
            for (calls, function) in [
                (created, Function::NotificationBitmapCreate),
                (ended, Function::NotificationBitmapDestroy),
            ] {
                let count = calls.iter().filter(|&&call| call == function).count();
                assert_eq!(count, usize::from(is_notified));
            }
            vm.end_after_destroy();
        }
    }
}
