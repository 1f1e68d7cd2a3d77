// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The driver on a model of an SMMU.

mod model;
mod orders;

use self::model::{IDR0_QEMU_10, Model, Outcome, to};
use super::registers::*;
use super::*;
use mediator::addr::Ipa;
use postern_base::ids::VmIndex;

const ROOT: u64 = 0x8000_0000;
/// A page of a VM, as its guest names it, and as it is.
const GUEST_PAGE: u64 = 0x10_0000;
const PAGE: u64 = 0x7_7777;

fn vm(index: usize) -> VmIndex {
    VmIndex::new(index).unwrap()
}

fn started(model: &Model) -> Smmu<Model> {
    abort_all(&mut model.clone()).unwrap();
    Smmu::start(model.clone()).unwrap()
}

/// A started SMMU with a VM that has bus 1 and a page of RAM.
fn with_vm(model: &Model) -> Smmu<Model> {
    let mut smmu = started(model);
    smmu.reserve(vm(0), 0x100, 0x100).unwrap();
    model.map(Pa::new(ROOT), GUEST_PAGE, PAGE);
    smmu.attach(vm(0), to(ROOT)).unwrap();
    smmu
}

/// At reset an SMMU lets all pass, and firmware may have started it with tables of its own.
#[test]
fn nothing_passes_from_the_first_step_on() {
    for cr0 in [0, CR0_SMMUEN | CR0_CMDQEN | CR0_EVENTQEN | 1 << 1] {
        let model = Model::new(3);
        assert_eq!(model.access(8, PAGE), Outcome::Page(PAGE));
        model.set(CR0, cr0);
        model.set(CR0ACK, cr0);
        abort_all(&mut model.clone()).unwrap();
        assert_eq!(model.access(8, PAGE), Outcome::Abort);
        assert_eq!(model.get(CR0), 0);
        let _smmu = Smmu::start(model.clone()).unwrap();
        assert_eq!(model.get(CR0), CR0_SMMUEN | CR0_CMDQEN | CR0_EVENTQEN);
        // What the field of the register has beside is kept.
        assert_eq!(model.get(GBPA), 0x1000 | GBPA_ABORT);
        for stream in [0, 8, 0x100, 0xffff, 0x1_0000, u32::MAX] {
            assert_eq!(model.access(stream, PAGE), Outcome::Abort, "{stream:#x}");
        }
    }
}

/// A device may say that its addresses are translated already. Its guest decides whether it may.
#[test]
fn nothing_passes_because_a_device_says_that_it_is_translated() {
    let model = Model::new(3);
    model.set(IDR0, IDR0_QEMU_10 | 1 << 10);
    let mut smmu = with_vm(&model);
    assert_ne!(model.get(CR0) & CR0_ATSCHK, 0);
    for stream in [0, 0x108] {
        assert_eq!(model.translated_access(stream, PAGE), Outcome::Abort);
    }
    smmu.detach(vm(0)).unwrap();
    assert_eq!(model.translated_access(0x108, PAGE), Outcome::Abort);
    // An SMMU without ATS has no such bit, and no such accesses.
    let model = Model::new(3);
    let _smmu = started(&model);
    assert_eq!(model.get(CR0) & CR0_ATSCHK, 0);
}

#[test]
fn a_silent_smmu_ends_the_start() {
    let model = Model::new(1);
    model.state.borrow_mut().is_dead = true;
    let error = abort_all(&mut model.clone()).unwrap_err();
    assert_eq!(error, StartError::Register(GBPA));
    assert_eq!(
        error.to_string(),
        "does not answer: its register at 0x44 does not change within a second"
    );
}

#[test]
fn an_smmu_that_cannot_be_used_says_why_and_goes_on_to_abort() {
    let table = [
        (
            IDR0,
            0x0d40_101a,
            "has no stage 2: QEMU has it from version 9.2 on, with -M virt-9.2 or later",
        ),
        (IDR0, IDR0_QEMU_10 & !0b1000, "has no AArch64 tables"),
        (
            IDR0,
            IDR0_QEMU_10 & !(1 << 4),
            "is not coherent: it does not see what CPUs have in their caches",
        ),
        (IDR0, IDR0_QEMU_10 | 0b11 << 21, "has big-endian tables"),
        (
            IDR0,
            IDR0_QEMU_10 & !(0b11 << 24) | 0b10 << 24,
            "stalls what it does not translate",
        ),
        (
            IDR0,
            IDR0_QEMU_10 & !(0b11 << 27),
            "has no stream tables of two levels",
        ),
        (
            IDR1,
            0x0273_0010 | 1 << 30,
            "has tables or queues at fixed addresses",
        ),
        (IDR5, 0x64, "has no pages of 4 KiB"),
        (
            IDR5,
            0x71,
            "has physical addresses of 36 bits: stage 2 needs 40",
        ),
    ];
    for (register, value, text) in table {
        let model = Model::new(1);
        model.set(register, value);
        abort_all(&mut model.clone()).unwrap();
        let error = Smmu::start(model.clone()).map(drop).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(model.access(8, PAGE), Outcome::Abort);
    }
    let model = Model::new(1);
    model.state.borrow_mut().room = 0x2000;
    abort_all(&mut model.clone()).unwrap();
    let error = Smmu::start(model.clone()).map(drop).unwrap_err();
    assert_eq!(error, StartError::OutOfMemory);
    assert_eq!(model.access(8, PAGE), Outcome::Abort);
}

#[test]
fn a_stream_reaches_the_ram_of_its_vm_from_attach_to_detach() {
    let model = Model::new(5);
    let mut smmu = started(&model);
    smmu.reserve(vm(0), 0x100, 0x100).unwrap();
    model.map(Pa::new(ROOT), GUEST_PAGE, PAGE);
    assert_eq!(model.access(0x108, GUEST_PAGE), Outcome::Abort);
    smmu.attach(vm(0), to(ROOT)).unwrap();
    for stream in [0x100, 0x13f, 0x140, 0x1ff] {
        assert_eq!(model.access(stream, GUEST_PAGE), Outcome::Page(PAGE));
    }
    assert_eq!(model.access(0x108, PAGE), Outcome::Fault(0x10));
    for stream in [0, 0xff, 0x200] {
        assert_eq!(model.access(stream, GUEST_PAGE), Outcome::Abort);
    }
    smmu.detach(vm(0)).unwrap();
    assert_eq!(model.access(0x108, GUEST_PAGE), Outcome::Abort);
    // The next life has other tables.
    model.map(Pa::new(ROOT + 0x2000), GUEST_PAGE, PAGE + 1);
    smmu.attach(vm(0), to(ROOT + 0x2000)).unwrap();
    assert_eq!(model.access(0x108, GUEST_PAGE), Outcome::Page(PAGE + 1));
}

/// Sixteen bits of streams cost a first level of 8 KiB, a page for nobody's streams, and one for the VM's.
#[test]
fn a_whole_bridge_has_one_page_of_entries() {
    let model = Model::new(5);
    let before = model.state.borrow().room;
    let mut smmu = started(&model);
    smmu.reserve(vm(3), 0, 0x1_0000).unwrap();
    // The queues beside.
    let used = before - model.state.borrow().room;
    assert_eq!(used, 0x2000 + 0x1000 + 0x1000 + 0x800 + 0x1000);
    model.map(Pa::new(ROOT), GUEST_PAGE, PAGE);
    smmu.attach(vm(3), to(ROOT)).unwrap();
    for stream in [0, 8, 0x100, 0xffff] {
        assert_eq!(model.access(stream, GUEST_PAGE), Outcome::Page(PAGE));
    }
}

#[test]
fn streams_of_several_vms_share_a_page() {
    let model = Model::new(9);
    let mut smmu = started(&model);
    // Parts of a block, one stream, and a range that begins and ends within blocks.
    for (index, first, count) in [(0, 5, 1), (1, 6, 2), (0, 70, 200), (1, 270, 1)] {
        smmu.reserve(vm(index), first, count).unwrap();
    }
    for index in [0, 1] {
        let root = ROOT + 0x2000 * index as u64;
        model.map(Pa::new(root), GUEST_PAGE, PAGE + index as u64);
        smmu.attach(vm(index), to(root)).unwrap();
    }
    let reached = |page| Outcome::Page(page);
    let of = |stream| model.access(stream, GUEST_PAGE);
    for stream in [5, 70, 127, 128, 255, 256, 269] {
        assert_eq!(of(stream), reached(PAGE), "{stream}");
    }
    for stream in [6, 7, 270] {
        assert_eq!(of(stream), reached(PAGE + 1), "{stream}");
    }
    for stream in [4, 8, 69, 271] {
        assert_eq!(of(stream), Outcome::Abort, "{stream}");
    }
    smmu.detach(vm(0)).unwrap();
    assert_eq!(of(5), Outcome::Abort);
    assert_eq!(of(128), Outcome::Abort);
    assert_eq!(of(6), reached(PAGE + 1));
}

#[test]
fn a_stream_belongs_to_one_vm() {
    let model = Model::new(9);
    let mut smmu = started(&model);
    smmu.reserve(vm(0), 0x100, 0x100).unwrap();
    let owned = |stream| Err(ReserveError::Owned(stream));
    assert_eq!(smmu.reserve(vm(1), 0x1ff, 1), owned(0x1ff));
    assert_eq!(smmu.reserve(vm(1), 0, 0x1000), owned(0x100));
    assert_eq!(smmu.reserve(vm(0), 0x180, 0x100), owned(0x180));
    assert_eq!(smmu.reserve(vm(0), 0x180, 0x80), Ok(()));
    let error = smmu.reserve(vm(1), 0xff00, 0x200).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the SMMU has no stream 0x100ff: there are 0x10000"
    );
    assert_eq!(smmu.reserve(vm(1), 0x200, 1), Ok(()));
    model.state.borrow_mut().room = 0;
    let error = smmu.reserve(vm(1), 0x300, 1);
    assert_eq!(error, Err(ReserveError::OutOfMemory));
}

/// A device that uses what was unmapped is the reason for all of this.
#[test]
fn what_is_unmapped_is_forgotten_when_the_caller_continues() {
    for seed in 1..20 {
        let model = Model::new(seed);
        let mut smmu = with_vm(&model);
        for page in 0..4 {
            model.map(Pa::new(ROOT), GUEST_PAGE + page, PAGE + page);
        }
        for page in 0..4 {
            while model.access(0x100, GUEST_PAGE + page) != Outcome::Page(PAGE + page) {}
        }
        model.unmap(Pa::new(ROOT), GUEST_PAGE);
        let ipa = Ipa::new(GUEST_PAGE << 12 | 0x234);
        smmu.invalidate_ipa(vm(0), ipa).unwrap();
        assert_eq!(model.access(0x100, GUEST_PAGE), Outcome::Fault(0x10));
        for page in 1..4 {
            model.unmap(Pa::new(ROOT), GUEST_PAGE + page);
        }
        smmu.invalidate_all(vm(0)).unwrap();
        for page in 1..4 {
            let outcome = model.access(0x100, GUEST_PAGE + page);
            assert_eq!(outcome, Outcome::Fault(0x10));
        }
    }
}

#[test]
fn the_command_queue_wraps_and_fills() {
    for command_bits in [0, 1, 7, 19] {
        let model = Model::new(2);
        let idr1 = 0x0273_0010 & !(0x1f << 21) | command_bits << 21;
        model.set(IDR1, idr1);
        let mut smmu = with_vm(&model);
        for _ in 0..300 {
            smmu.invalidate_all(vm(0)).unwrap();
        }
        assert!(model.state.borrow().executed.len() > 600);
    }
}

#[test]
fn a_vm_without_streams_costs_no_command() {
    let model = Model::new(2);
    let mut smmu = with_vm(&model);
    let before = model.state.borrow().executed.len();
    smmu.attach(vm(1), to(ROOT)).unwrap();
    smmu.invalidate_ipa(vm(1), Ipa::new(0)).unwrap();
    smmu.invalidate_all(vm(1)).unwrap();
    smmu.detach(vm(1)).unwrap();
    assert_eq!(model.state.borrow().executed.len(), before);
}

/// Memory must not be given back then, whatever comes later.
#[test]
fn a_failure_is_not_forgotten() {
    let model = Model::new(2);
    let mut smmu = with_vm(&model);
    model.state.borrow_mut().is_dead = true;
    assert_eq!(smmu.invalidate_all(vm(0)), Err(SmmuError::Timeout));
    model.state.borrow_mut().is_dead = false;
    assert_eq!(smmu.detach(vm(0)), Err(SmmuError::Failed));

    let model = Model::new(2);
    let mut smmu = with_vm(&model);
    model.state.borrow_mut().refused = Some(0x2a);
    let error = smmu.invalidate_ipa(vm(0), Ipa::new(0)).unwrap_err();
    assert_eq!(error, SmmuError::Command { code: 1 });
    // The error is acknowledged, and the queue is empty.
    assert_eq!(model.get(GERROR), model.get(GERRORN));
    assert_eq!(model.get(CMDQ_PROD), model.get(CMDQ_CONS) & 0xff);
    assert_eq!(smmu.detach(vm(0)), Err(SmmuError::Failed));
}

#[test]
fn events_tell_stream_address_and_owner() {
    let model = Model::new(2);
    let mut smmu = with_vm(&model);
    model.access(0x108, 0x4_0200);
    model.state.borrow_mut().fault(0x300, 0, 0x04);
    let mut events = Vec::new();
    let taken = smmu.take_events(|event| events.push(event));
    assert_eq!(taken, TakenEvents::default());
    let text: Vec<_> = events.iter().map(|event| event.to_string()).collect();
    assert_eq!(
        text,
        [
            "stream 0x108: read at 0x40200000: not mapped",
            "stream 0x300: SMMU event 0x4"
        ]
    );
    assert_eq!((events[0].vm, events[1].vm), (Some(vm(0)), None));
    let taken = smmu.take_events(|event| panic!("{event}"));
    assert_eq!(taken, TakenEvents::default());
}

#[test]
fn an_overflow_is_acknowledged_and_a_flood_ends() {
    let model = Model::new(2);
    let mut smmu = with_vm(&model);
    let (mut taken, mut lost, mut faults) = (0, 0, 0);
    for _ in 0..100 {
        for _ in 0..200 {
            faults += u64::from(model.access(0x108, 0) == Outcome::Fault(0x10));
        }
        let each = |event: Event| {
            taken += 1;
            assert_eq!(event.is_last, taken == MAX_EVENTS);
        };
        lost += u64::from(smmu.take_events(each).lost);
        let (producer, consumer) = (model.get(EVENTQ_PROD), model.get(EVENTQ_CONS));
        assert_eq!(producer, consumer);
    }
    assert_eq!(taken, MAX_EVENTS);
    assert!(faults > taken, "{faults}");
    assert_eq!(lost, 32);
    assert_eq!(model.access(0x108, 0), Outcome::Abort);
    // Neither does what is mapped cost anything.
    assert_eq!(model.access(0x108, GUEST_PAGE), Outcome::Abort);
    // The next life is heard again.
    smmu.detach(vm(0)).unwrap();
    smmu.attach(vm(0), to(ROOT)).unwrap();
    assert_eq!(model.access(0x108, 0), Outcome::Fault(0x10));
}

/// Checks that a caller learns of events that come while others are taken: no interrupt announces them.
#[test]
fn events_that_come_meanwhile_are_announced() {
    let model = Model::new(2);
    let mut smmu = with_vm(&model);
    model.state.borrow_mut().flood = 1000;
    model.access(0x108, 0);
    let (mut taken, mut calls) = (0, 0);
    while smmu.take_events(|_| taken += 1).more {
        calls += 1;
    }
    assert_eq!((taken, calls), (1001, 2));
    model.state.borrow_mut().flood = u32::MAX;
    model.access(0x108, 0);
    while smmu.take_events(|_| taken += 1).more {}
    assert!((MAX_EVENTS..MAX_EVENTS + 600).contains(&taken), "{taken}");
}

#[test]
fn global_errors_are_acknowledged() {
    let model = Model::new(2);
    let mut smmu = with_vm(&model);
    assert_eq!(smmu.take_global_errors(), GlobalErrors::default());
    model.set(GERROR, 1 << 2);
    assert_eq!(smmu.take_global_errors().bits, 1 << 2);
    assert_eq!(smmu.take_global_errors().bits, 0);
    smmu.invalidate_all(vm(0)).unwrap();
    model.set(GERROR, 1 << 2 | GERROR_SFM);
    assert_eq!(smmu.take_global_errors().bits, GERROR_SFM);
    assert_eq!(smmu.invalidate_all(vm(0)), Err(SmmuError::Failed));
}
