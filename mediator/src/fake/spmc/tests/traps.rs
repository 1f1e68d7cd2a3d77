// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Each trap, and what an SPMC that checks does instead.

use super::*;

#[test]
fn unregister_of_all_ones_is_a_trap() {
    for manner in MANNERS {
        let mut bench = Bench::new(manner);
        let outcome = bench.by_handle(VM, Service::UNREGISTER_SHM, Handle::INVALID);
        assert!(outcome.is_err());
        match manner {
            Manner::OpTee => bench.found(Trap::UnregisterAllOnes),
            Manner::Checking => assert_eq!(bench.spmc.traps(), []),
        }
    }
}

#[test]
fn object_beyond_the_limit_is_a_trap() {
    for manner in MANNERS {
        let mut bench = Bench::new(manner);
        for _ in 0..MAX_OBJECTS {
            bench.share(VM).unwrap();
        }
        bench.share(OTHER).unwrap();
        assert_eq!(bench.spmc.object_count(VM), MAX_OBJECTS);
        assert_eq!(bench.spmc.traps(), []);
        let outcome = bench.share(VM);
        match manner {
            Manner::OpTee => bench.found(Trap::TooManyObjects),
            Manner::Checking => assert_eq!(outcome, refused(ErrorCode::NO_MEMORY)),
        }
    }
}

#[test]
fn bad_buffers_are_a_trap() {
    for (tx, rx) in [(SECURE, RX), (TX, SECURE), (TX + 8, RX)] {
        let mut bench = Bench::bare(Manner::OpTee);
        assert!(bench.map(tx, rx).is_err());
        bench.found(Trap::BadBuffers);
        let mut bench = Bench::bare(Manner::Checking);
        assert_eq!(bench.map(tx, rx), refused(INVALID));
        assert_eq!(bench.map(TX, RX), Ok(()));
    }
}

#[test]
fn vm_before_the_buffers_is_a_trap() {
    let created = DirectMessage::vm_created(PARTITION, VM);
    let mut bench = Bench::bare(Manner::OpTee);
    assert!(bench.life(created).is_err());
    bench.found(Trap::VmBeforeBuffers);
    let mut bench = Bench::bare(Manner::Checking);
    assert_eq!(bench.life(created), refused(ErrorCode::DENIED));
}

#[test]
fn bitmap_after_enable_is_a_trap() {
    for manner in MANNERS {
        let mut bench = Bench::new(manner);
        bench.enable(VM).unwrap();
        let outcome = bench.create_bitmap(VM);
        match manner {
            Manner::OpTee => bench.found(Trap::BitmapAfterEnable),
            Manner::Checking => assert_eq!(outcome, refused(ErrorCode::DENIED)),
        }
    }
}

#[test]
fn enable_in_a_second_life_is_a_trap() {
    let mut bench = Bench::new(Manner::OpTee);
    bench.enable(VM).unwrap();
    bench
        .life(DirectMessage::vm_destroyed(PARTITION, VM))
        .unwrap();
    bench
        .life(DirectMessage::vm_created(PARTITION, VM))
        .unwrap();
    bench.enable(VM).unwrap();
    bench.found(Trap::EnableInSecondLife);
}

#[test]
fn info_get_during_destroy_is_a_trap() {
    let list = Request::NotificationInfoGet(Width::Smc64).encode();
    let destroy = DirectMessage::vm_destroyed(PARTITION, VM).encode_request();
    for (first, second) in [(list, destroy), (destroy, list)] {
        let mut bench = Bench::new(Manner::OpTee);
        let ticket = bench.spmc.begin(HYPERVISOR, &first);
        assert_eq!(bench.spmc.call(HYPERVISOR, &second, &mut bench.ram), None);
        bench.found(Trap::InfoGetDuringDestroy);
        assert_eq!(bench.spmc.finish(ticket, &mut bench.ram), None);
        // One after the other is no trap.
        let mut bench = Bench::new(Manner::OpTee);
        assert!(
            bench
                .spmc
                .call(HYPERVISOR, &first, &mut bench.ram)
                .is_some()
        );
        assert!(
            bench
                .spmc
                .call(HYPERVISOR, &second, &mut bench.ram)
                .is_some()
        );
        assert_eq!(bench.spmc.traps(), []);
    }
}

#[test]
fn share_of_an_unknown_vm_succeeds_with_handle_zero() {
    let mut bench = Bench::new(Manner::OpTee);
    let outcome = bench.share(EndpointId::new(7));
    assert_eq!(outcome, Err(AnswerError::Value { register: 2 }));
    bench.found(Trap::ShareOfUnknownVm);
    let mut bench = Bench::new(Manner::Checking);
    assert_eq!(bench.share(EndpointId::new(7)), refused(INVALID));
}

#[test]
fn framework_message_of_a_vm_is_a_trap() {
    let vm_created = DirectMessage::vm_created(PARTITION, EndpointId::new(9));
    let vm_destroyed = DirectMessage::vm_destroyed(PARTITION, OTHER);
    let version = DirectMessage {
        framework: Some(FrameworkMessage::VERSION),
        payload: Payload::Smc32([0x1_0000, 0, 0, 0, 0]),
        ..vm_created
    };
    for message in [vm_created, vm_destroyed, version] {
        for (source, on_behalf) in [(VM, VM), (VM, HYPERVISOR), (HYPERVISOR, VM)] {
            let request = Request::DirectRequest(DirectMessage { source, ..message });
            let mut bench = Bench::new(Manner::OpTee);
            bench.on_behalf = on_behalf;
            bench.call(request);
            bench.found(Trap::ForeignFrameworkMessage);
            let mut bench = Bench::new(Manner::Checking);
            bench.on_behalf = on_behalf;
            assert_eq!(bench.simple(request), refused(ErrorCode::DENIED));
        }
    }
}

#[test]
fn object_or_id_of_another_vm_is_a_trap() {
    for manner in MANNERS {
        let calls: [fn(&mut Bench, Handle) -> bool; 5] = [
            |bench, handle| bench.reclaim(handle).is_ok(),
            |bench, _| bench.create_bitmap(OTHER).is_ok(),
            |bench, _| bench.share(OTHER).is_ok(),
            |bench, _| bench.service(OTHER, [0; 5]).is_ok(),
            |bench, _| {
                let bind = NotificationBind {
                    sender: PARTITION,
                    receiver: OTHER,
                    per_vcpu: false,
                    bitmap: NotificationBitmap::new(1),
                };
                // There is no bitmap yet.
                bench.simple(Request::NotificationBind(bind)) == refused(ErrorCode::DENIED)
            },
        ];
        for call in calls {
            let mut bench = Bench::new(manner);
            let handle = bench.share(OTHER).unwrap();
            bench.on_behalf = VM;
            let is_obeyed = call(&mut bench, handle);
            assert_eq!(is_obeyed, manner == Manner::OpTee);
            match manner {
                Manner::OpTee => bench.found(Trap::ForeignObject),
                Manner::Checking => assert_eq!(bench.spmc.object_count(OTHER), 1),
            }
        }
    }
}

#[test]
fn life_with_objects_of_the_last_one_is_a_trap() {
    for manner in MANNERS {
        let mut bench = Bench::new(manner);
        let handle = bench.share(VM).unwrap();
        bench.by_handle(VM, Service::CALL_WITH_ARG, handle).unwrap();
        bench
            .life(DirectMessage::vm_destroyed(PARTITION, VM))
            .unwrap();
        let outcome = bench.life(DirectMessage::vm_created(PARTITION, VM));
        match manner {
            Manner::OpTee => bench.found(Trap::StaleHandles),
            Manner::Checking => {
                assert_eq!(outcome, refused(ErrorCode::DENIED));
                // Registered objects can be reclaimed after the end.
                bench.reclaim(handle).unwrap();
                bench
                    .life(DirectMessage::vm_created(PARTITION, VM))
                    .unwrap();
            }
        }
    }
}

#[test]
fn rx_is_taken_by_a_failure() {
    let get = Request::PartitionInfoGet(PartitionInfoGet {
        uuid: OPTEE,
        count_only: false,
    });
    let release = Request::RxRelease(HYPERVISOR);
    for manner in MANNERS {
        let mut bench = Bench::new(manner);
        bench.partitions(OPTEE).unwrap();
        for _ in 0..2 {
            assert_eq!(bench.simple(get), refused(ErrorCode::BUSY));
        }
        match manner {
            Manner::OpTee => bench.found(Trap::RxAfterError),
            Manner::Checking => assert_eq!(bench.spmc.traps(), []),
        }
        bench.simple(release).unwrap();
        assert_eq!(bench.simple(release), refused(ErrorCode::DENIED));
    }
}

#[test]
fn fragments_and_other_buffers_are_a_trap() {
    let send = MemSend {
        kind: MemSendKind::Share,
        width: Width::Smc32,
        total_length: 128,
        fragment_length: 96,
        buffer: None,
    };
    let buffer = Some(ffa_proto::call::DescriptorBuffer {
        address: TX,
        pages: 1,
    });
    for send in [
        send,
        MemSend {
            fragment_length: 128,
            buffer,
            ..send
        },
    ] {
        let mut bench = Bench::new(Manner::OpTee);
        assert!(bench.simple(Request::MemSend(send)).is_err());
        bench.found(Trap::Fragments);
    }
    let mut bench = Bench::new(Manner::OpTee);
    assert!(
        bench
            .simple(Request::MemFragTx(fragment(Handle::new(1), 16)))
            .is_err()
    );
    bench.found(Trap::Fragments);
}

#[test]
fn handle_of_the_hypervisor_is_a_trap_and_leaks() {
    let handle = Handle::new(1 << 63 | 5);
    let mut bench = Bench::new(Manner::OpTee);
    assert_eq!(bench.share_as(VM, handle, 0x4000_0000), Ok(handle));
    bench.found(Trap::HypervisorHandle);
    bench
        .life(DirectMessage::vm_destroyed(PARTITION, VM))
        .unwrap();
    assert_eq!(bench.reclaim(handle), refused(INVALID));
    assert_eq!(bench.spmc.object_count(VM), 1);
    let other = bench.share_as(OTHER, Handle::new(5), 0x4000_0000);
    assert_eq!(other, refused(ErrorCode::NO_MEMORY));
}

#[test]
fn life_that_begins_or_ends_twice_is_a_trap() {
    let mut bench = Bench::new(Manner::OpTee);
    bench
        .life(DirectMessage::vm_created(PARTITION, VM))
        .unwrap();
    bench.found(Trap::WrongLife);
    let mut bench = Bench::new(Manner::OpTee);
    let unknown = EndpointId::new(7);
    bench
        .life(DirectMessage::vm_destroyed(PARTITION, unknown))
        .unwrap();
    bench.found(Trap::WrongLife);
    let mut bench = Bench::new(Manner::Checking);
    let outcome = bench.life(DirectMessage::vm_created(PARTITION, VM));
    assert_eq!(outcome, refused(ErrorCode::DENIED));
}

#[test]
fn too_many_vms_are_denied_and_too_many_lives_are_a_trap() {
    let mut bench = Bench::new(Manner::OpTee);
    for vm in 3..=4 {
        bench
            .life(DirectMessage::vm_created(PARTITION, EndpointId::new(vm)))
            .unwrap();
    }
    let fifth = DirectMessage::vm_created(PARTITION, EndpointId::new(5));
    assert_eq!(bench.life(fifth), refused(ErrorCode::DENIED));
    for _ in 4..MAX_LIVES {
        bench
            .life(DirectMessage::vm_destroyed(PARTITION, VM))
            .unwrap();
        bench
            .life(DirectMessage::vm_created(PARTITION, VM))
            .unwrap();
    }
    assert_eq!(bench.spmc.traps(), []);
    bench
        .life(DirectMessage::vm_destroyed(PARTITION, VM))
        .unwrap();
    assert!(
        bench
            .life(DirectMessage::vm_created(PARTITION, VM))
            .is_err()
    );
    bench.found(Trap::TooManyLives);
}

#[test]
fn calls_that_are_logged_are_a_trap() {
    let logged = [
        Registers::from_8([0x8400_0086, 0, 0, 0, 0, 0, 0, 0]),
        Registers::from_8([0x8400_00ff, 0, 0, 0, 0, 0, 0, 0]),
        Registers::from_8([0x8400_0060, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for call in logged {
        let mut bench = Bench::new(Manner::OpTee);
        let answer = bench.spmc.call(HYPERVISOR, &call, &mut bench.ram).unwrap();
        let outcome = answer::read_success(&answer, V1_2);
        assert_eq!(outcome, refused(ErrorCode::NOT_SUPPORTED));
        bench.found(Trap::Logged);
    }
    let mut bench = Bench::new(Manner::OpTee);
    bench.service(VM, [4, 0, 0, 0, 0]).unwrap();
    bench.found(Trap::Logged);
}
