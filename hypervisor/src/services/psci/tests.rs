// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use crate::vm::lifecycle::{Lifecycle, LifecycleAction, LifecycleRequest};
use std::cell::{Cell, RefCell};

/// A VM with three vCPUs, the first on, and 64 KiB of RAM at 4 GiB.
struct Vm([VcpuPower; 3]);

impl Vm {
    fn new() -> Self {
        let vm = Self([(); 3].map(|()| VcpuPower::off()));
        vm.0[0].claim().unwrap();
        vm.0[0].started();
        vm
    }

    fn call(&self, function: u64, args: [u64; 3]) -> Action {
        let regs = [function, args[0], args[1], args[2], 0, 0, 0, 0];
        decide(&Call::new(&regs), self)
    }
}

impl PowerView for Vm {
    fn power(&self, vcpu: VcpuIndex) -> Option<&VcpuPower> {
        self.0.get(vcpu.get())
    }

    fn is_ram(&self, entry: Ipa) -> bool {
        (0x1_0000_0000..0x1_0001_0000).contains(&entry.get())
    }
}

const ENTRY: u64 = 0x1_0000_8000;

fn returns(x0: i64) -> Action {
    Action::Return(SmcReturn::new([x0 as u64, 0, 0, 0]))
}

#[test]
fn answers_without_state() {
    for (function, args, x0) in [
        (0x8400_0000, [0; 3], 0x1_0001),
        (0x8401_0000, [0; 3], 0x1_0001), // with the SVE hint
        (0x8400_0006, [0; 3], 2),
        // FEATURES
        (0x8400_000a, [0x8400_0000, 0, 0], 0),
        (0x8400_000a, [0x8400_0001, 0, 0], 0),
        (0x8400_000a, [0xc400_0003, 0, 0], 0),
        (0x8400_000a, [0xc400_0012, 0, 0], 0),
        (0x8400_000a, [0x8000_0000, 0, 0], 0),  // SMCCC_VERSION
        (0x8400_000a, [0x8400_0005, 0, 0], -1), // MIGRATE
        (0x8400_000a, [0xc400_0000, 0, 0], -1), // no SMC64 form
        (0x8400_000a, [0xc400_000e, 0, 0], -1), // SYSTEM_SUSPEND
        (0x8400_000a, [0x3200_0004, 0, 0], -1),
        // Functions that Postern does not have.
        (0x8400_0005, [0; 3], -1), // MIGRATE
        (0x8400_0007, [0; 3], -1), // MIGRATE_INFO_UP_CPU
        (0x8400_000b, [0; 3], -1), // CPU_FREEZE
        (0xc400_000e, [ENTRY, 0, 0], -1),
        (0x8400_001f, [0; 3], -1),
        (0xc400_0002, [0; 3], -1), // no SMC64 form
        (0xc400_0008, [0; 3], -1), // no SMC64 form
        (0x0400_0000, [0; 3], -1), // a yielding call
    ] {
        let action = Vm::new().call(function, args);
        assert_eq!(action, returns(x0), "{function:#x} {args:x?}");
    }
}

#[test]
fn owns_the_psci_range() {
    for (id, ours) in [
        (0x8400_0000, true),
        (0x8400_001f, true),
        (0xc400_001f, true),
        (0x8400_0020, false),
        (0x8400_0050, false), // TRNG
        (0x8402_0000, false),
        (0x83ff_ffff, false),
        (0x8500_0000, false),
        (0x0400_0000, false),
    ] {
        assert_eq!(owns(FunctionId::new(id)), ours, "{id:#x}");
    }
}

#[test]
fn cpu_on_results() {
    let vm = Vm::new();
    for (affinity, entry, x0) in [
        (3, ENTRY, -2),             // no such vCPU
        (8, ENTRY, -2),             // nor index
        (0x100, ENTRY, -2),         // Aff1
        (0x8000_0001, ENTRY, -2),   // the RES1 bit of MPIDR_EL1 is no affinity
        (0x1_0000_0001, ENTRY, -2), // Aff3
        (u64::MAX, ENTRY, -2),      //
        (1, 0xffff_fffc, -9),       // below RAM
        (1, 0x1_0001_0000, -9),     // behind RAM
        (1, u64::MAX, -9),          //
        (1, ENTRY + 2, -9),         // no instruction starts there
        (0, ENTRY, -4),             // itself
        (0, 0, -9),                 //
        (u64::MAX, 0, -2),          // the first mistake counts
    ] {
        let action = vm.call(0xc400_0003, [affinity, entry, 0]);
        assert_eq!(action, returns(x0), "{affinity:#x} {entry:#x}");
    }
    assert_eq!(vm.0[1].state(), PowerState::Off, "no mistake claims");

    let index = VcpuIndex::new(1).unwrap();
    let on = Action::TurnOn {
        vcpu: index,
        entry: Ipa::new(ENTRY),
        context: 0xdead_beef_0000_0001,
    };
    let args = [1, ENTRY, 0xdead_beef_0000_0001];
    assert_eq!(vm.call(0xc400_0003, args), on);
    assert_eq!(vm.call(0xc400_0003, args), returns(-5));
    assert_eq!(vm.call(0xc400_0004, [1, 0, 0]), returns(2));
    vm.0[1].started();
    assert_eq!(vm.call(0xc400_0003, args), returns(-4));
    assert_eq!(vm.call(0xc400_0004, [1, 0, 0]), returns(0));
    vm.0[1].turned_off();
    assert_eq!(vm.call(0x8400_0004, [1, 0, 0]), returns(1));
    assert_eq!(vm.call(0xc400_0003, args), on);
}

#[test]
fn smc32_caller_has_32_bit_arguments() {
    struct Low(VcpuPower);
    impl PowerView for Low {
        fn power(&self, _: VcpuIndex) -> Option<&VcpuPower> {
            Some(&self.0)
        }
        fn is_ram(&self, entry: Ipa) -> bool {
            entry.get() == 0x8000
        }
    }
    let vm = Low(VcpuPower::off());
    let junk = 0xffff_ffff_0000_0000;
    let regs = [
        0x8400_0003 | junk,
        1 | junk,
        0x8000 | junk,
        7 | junk,
        0,
        0,
        0,
        0,
    ];
    assert_eq!(
        decide(&Call::new(&regs), &vm),
        Action::TurnOn {
            vcpu: VcpuIndex::new(1).unwrap(),
            entry: Ipa::new(0x8000),
            context: 7
        }
    );
}

#[test]
fn affinity_info_results() {
    let vm = Vm::new();
    for (args, x0) in [
        ([0, 0, 0], 0),
        ([2, 0, 0], 1),
        ([3, 0, 0], -2),
        ([0, 1, 0], -2),
        ([0, 3, 0], -2),
        ([0, 0xffff_ffff, 0], -2),
        ([1 << 32, 0, 0], -2),
    ] {
        assert_eq!(vm.call(0xc400_0004, args), returns(x0), "{args:x?}");
    }
}

#[test]
fn cpu_suspend_results() {
    let vm = Vm::new();
    for (state, entry, expected) in [
        (0x0000_0000, 0, Action::Suspend),     // standby needs no entry
        (0x0300_ffff, 0, Action::Suspend),     // any level, any state id
        (0x0001_0000, ENTRY, Action::Suspend), // power-down
        (0x0001_0000, 0x8000, returns(-9)),    // power-down to nowhere
        (0x4000_0000, ENTRY, returns(-2)),     // the extended format
        (0x0002_0000, ENTRY, returns(-2)),     // reserved
        (0x0400_0000, ENTRY, returns(-2)),     // reserved
        (0x8000_0000, ENTRY, returns(-2)),     // reserved
    ] {
        for function in [0xc400_0001, 0x8400_0001] {
            // An SMC32 caller cannot name RAM above 4 GiB.
            let expected = match expected {
                Action::Suspend if function == 0x8400_0001 && state == 0x0001_0000 => returns(-9),
                other => other,
            };
            assert_eq!(vm.call(function, [state, entry, 0]), expected, "{state:#x}");
        }
    }
}

#[test]
fn off_and_reset_results() {
    let vm = Vm::new();
    assert_eq!(vm.call(0x8400_0002, [0; 3]), Action::TurnOffSelf);
    assert_eq!(vm.call(0x8400_0008, [0; 3]), Action::SystemOff);
    assert_eq!(vm.call(0x8400_0009, [0; 3]), Action::SystemReset);
    for function in [0x8400_0012, 0xc400_0012] {
        assert_eq!(vm.call(function, [0; 3]), Action::SystemReset);
        assert_eq!(vm.call(function, [1, 0, 0]), returns(-2));
        assert_eq!(vm.call(function, [0x8000_0000, 0, 0]), returns(-2));
    }
}

/// Two vCPUs of a VM that call at the same time: the second calls in the middle of the first one's
/// call.
struct Two {
    lifecycle: RefCell<Lifecycle>,
    then: RefCell<Vec<LifecycleAction>>,
    /// The second vCPU's only call.
    second: Cell<Option<Action>>,
    returned: RefCell<Vec<Option<SmcReturn>>>,
    left: RefCell<Vec<&'static str>>,
}

/// One of the two vCPUs.
struct One<'a>(&'a Two, &'static str);

impl Caller for One<'_> {
    fn turn_on(&self, _: VcpuIndex, _: Ipa, _: u64) {
        panic!("CPU_ON is not called");
    }

    fn suspend(&self) {
        panic!("CPU_SUSPEND is not called");
    }

    fn handle(&self, event: LifecycleEvent) {
        let then = self.0.lifecycle.borrow_mut().handle(event);
        self.0.then.borrow_mut().push(then);
        self.0.others_turn();
    }

    fn leave(&self) {
        self.0.others_turn();
        self.0.left.borrow_mut().push(self.1);
    }
}

impl Two {
    fn others_turn(&self) {
        if let Some(action) = self.second.take() {
            let returned = carry_out(action, &One(self, "second"));
            self.returned.borrow_mut().push(returned);
        }
    }
}

/// A vCPU that ends its VM does not return, whatever another vCPU has done at the same time, and
/// the VM is torn down once, after both have left.
#[test]
fn both_vcpus_leave_when_both_end_their_vm() {
    let calls = [Action::SystemOff, Action::SystemReset, Action::TurnOffSelf];
    for first in calls {
        for second in calls {
            let mut lifecycle = Lifecycle::new();
            lifecycle.request(LifecycleRequest::Start).unwrap();
            assert_eq!(
                lifecycle.handle(LifecycleEvent::Loaded),
                LifecycleAction::Run
            );
            let two = Two {
                lifecycle: RefCell::new(lifecycle),
                then: RefCell::default(),
                second: Cell::new(Some(second)),
                returned: RefCell::default(),
                left: RefCell::default(),
            };
            let returned = carry_out(first, &One(&two, "first"));
            let case = format!("{first:?}, {second:?}");
            assert_eq!(
                (returned, &two.returned.borrow()[..]),
                (None, &[None][..]),
                "{case}"
            );
            let mut left = two.left.borrow_mut();
            left.sort_unstable();
            assert_eq!(*left, ["first", "second"], "{case}");
            // The vCPUs were told to stop once, if a call requested an end.
            let stops = |then: &&LifecycleAction| **then == LifecycleAction::StopVcpus;
            let stopped = two.then.borrow().iter().filter(stops).count();
            let asked = [first, second]
                .iter()
                .any(|call| *call != Action::TurnOffSelf);
            assert_eq!(stopped, usize::from(asked), "{case}");
            let mut lifecycle = two.lifecycle.borrow_mut();
            assert_eq!(
                lifecycle.handle(LifecycleEvent::VcpusStopped),
                LifecycleAction::TearDown,
                "{case}"
            );
            assert_eq!(
                lifecycle.handle(LifecycleEvent::VcpusStopped),
                LifecycleAction::Nothing,
                "{case}"
            );
        }
    }
}
