// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use proptest::prelude::*;

const EVENTS: [LifecycleEvent; 9] = [
    LifecycleEvent::Loaded,
    LifecycleEvent::CannotStart,
    LifecycleEvent::GuestOff,
    LifecycleEvent::GuestReset,
    LifecycleEvent::VcpusStopped,
    LifecycleEvent::TornDown,
    LifecycleEvent::NotTornDown,
    LifecycleEvent::LostState,
    LifecycleEvent::WatchdogExpired,
];

fn lifecycle(phase: Phase, ending: EndReason, has_vcpus: bool) -> Lifecycle {
    Lifecycle {
        phase,
        ending,
        has_vcpus,
    }
}

/// Returns each state that a VM can be in.
fn states() -> [(&'static str, Lifecycle); 9] {
    use EndReason::{Error, Killed, Off, Reset};
    [
        ("off", lifecycle(Phase::Off, Off, false)),
        ("starting", lifecycle(Phase::Starting, Off, false)),
        ("running", lifecycle(Phase::Running, Off, true)),
        ("paused", lifecycle(Phase::Paused, Off, true)),
        (
            "resetting, vCPUs run",
            lifecycle(Phase::Ending, Reset, true),
        ),
        ("resetting", lifecycle(Phase::Ending, Reset, false)),
        ("dying, vCPUs run", lifecycle(Phase::Ending, Killed, true)),
        ("dying", lifecycle(Phase::Ending, Killed, false)),
        ("failed", lifecycle(Phase::Failed, Error, false)),
    ]
}

/// Checks the answer to each request in each state, and the phase that follows.
#[test]
fn every_request_in_every_state() {
    use LifecycleError as No;
    use Phase::{Ending as E, Failed as F, Off as O, Paused as P, Running as R, Starting as S};
    type Row = [(Result<LifecycleAction, LifecycleError>, Phase); 6];
    // The columns: start, stop, reset, kill, pause, resume.
    // A VM that ends accepts only a kill.
    let refused = (Err(No::Ending), E);
    let killed = (Ok(LifecycleAction::Nothing), E);
    let ends: Row = [refused, refused, refused, killed, refused, refused];
    let rows: [Row; 9] = [
        [
            (Ok(LifecycleAction::Start), S),
            (Err(No::Off), O),
            (Err(No::Off), O),
            (Err(No::Off), O),
            (Err(No::Off), O),
            (Err(No::Off), O),
        ],
        [
            (Err(No::Already(S)), S),
            (Err(No::Starting), S),
            (Err(No::Starting), S),
            (Ok(LifecycleAction::TearDown), E),
            (Err(No::Starting), S),
            (Err(No::Starting), S),
        ],
        [
            (Err(No::Already(R)), R),
            (Ok(LifecycleAction::PressButton), R),
            (Ok(LifecycleAction::StopVcpus), E),
            (Ok(LifecycleAction::StopVcpus), E),
            (Ok(LifecycleAction::Pause), P),
            (Err(No::NotPaused), R),
        ],
        [
            (Err(No::Already(R)), P),
            (Err(No::Paused), P),
            (Ok(LifecycleAction::StopVcpus), E),
            (Ok(LifecycleAction::StopVcpus), E),
            (Err(No::Already(P)), P),
            (Ok(LifecycleAction::Resume), R),
        ],
        ends,
        ends,
        ends,
        ends,
        [(Err(No::Failed), F); 6],
    ];
    for ((name, state), row) in states().into_iter().zip(rows) {
        for (request, (answer, phase)) in LifecycleRequest::ALL.into_iter().zip(row) {
            let mut lifecycle = state;
            let what = alloc::format!("{} while {name}", request.name());
            assert_eq!(lifecycle.request(request), answer, "{what}");
            assert_eq!(lifecycle.phase(), phase, "{what}");
            if answer.is_err() {
                assert_eq!(
                    lifecycle, state,
                    "{what}: a refused request changes nothing"
                );
            }
        }
    }
}

/// Checks the action for each event in each state, and the phase that follows.
#[test]
fn every_event_in_every_state() {
    use LifecycleAction::Nothing as N;
    use Phase::{Ending as E, Failed as F, Off as O, Paused as P, Running as R, Starting as S};
    type Row = [(LifecycleAction, Phase); 9];
    // The columns: loaded, cannot start, guest off, guest reset, vCPUs stopped, torn down, not
    // destroyed, lost state, watchdog expired.
    let rows: [Row; 9] = [
        [(N, O); 9],
        [
            (LifecycleAction::Run, R),
            (LifecycleAction::TearDown, E),
            (N, S),
            (N, S),
            (N, S),
            (N, S),
            (N, S),
            (N, S),
            (N, S),
        ],
        [
            (N, R),
            (N, R),
            (LifecycleAction::StopVcpus, E),
            (LifecycleAction::StopVcpus, E),
            (LifecycleAction::TearDown, E),
            (N, R),
            (N, R),
            (LifecycleAction::StopVcpus, E),
            (LifecycleAction::StopVcpus, E),
        ],
        [
            (N, P),
            (N, P),
            (LifecycleAction::StopVcpus, E),
            (LifecycleAction::StopVcpus, E),
            (LifecycleAction::TearDown, E),
            (N, P),
            (N, P),
            (LifecycleAction::StopVcpus, E),
            (N, P),
        ],
        [
            (N, E),
            (N, E),
            (N, E),
            (N, E),
            (LifecycleAction::TearDown, E),
            (N, E),
            (N, E),
            (N, E),
            (N, E),
        ],
        [
            (N, E),
            (N, E),
            (N, E),
            (N, E),
            (N, E),
            (LifecycleAction::Again(EndReason::Reset), S),
            (LifecycleAction::Ended(EndReason::Error), F),
            (N, E),
            (N, E),
        ],
        [
            (N, E),
            (N, E),
            (N, E),
            (N, E),
            (LifecycleAction::TearDown, E),
            (N, E),
            (N, E),
            (N, E),
            (N, E),
        ],
        [
            (N, E),
            (N, E),
            (N, E),
            (N, E),
            (N, E),
            (LifecycleAction::Ended(EndReason::Killed), O),
            (LifecycleAction::Ended(EndReason::Error), F),
            (N, E),
            (N, E),
        ],
        [(N, F); 9],
    ];
    for ((name, state), row) in states().into_iter().zip(rows) {
        for (event, (action, phase)) in EVENTS.into_iter().zip(row) {
            let mut lifecycle = state;
            let what = alloc::format!("{event:?} while {name}");
            assert_eq!(lifecycle.handle(event), action, "{what}");
            assert_eq!(lifecycle.phase(), phase, "{what}");
        }
    }
}

#[test]
fn a_reset_that_is_killed_ends_in_off() {
    let mut lifecycle = lifecycle(Phase::Running, EndReason::Off, true);
    assert_eq!(
        lifecycle.request(LifecycleRequest::Reset),
        Ok(LifecycleAction::StopVcpus)
    );
    assert_eq!(
        lifecycle.request(LifecycleRequest::Kill),
        Ok(LifecycleAction::Nothing)
    );
    assert_eq!(
        lifecycle.handle(LifecycleEvent::VcpusStopped),
        LifecycleAction::TearDown
    );
    assert_eq!(
        lifecycle.handle(LifecycleEvent::TornDown),
        LifecycleAction::Ended(EndReason::Killed)
    );
}

#[test]
fn a_watchdog_starts_its_vm_again_unless_that_is_killed() {
    for (killed, last, phase) in [
        (
            false,
            LifecycleAction::Again(EndReason::Watchdog),
            Phase::Starting,
        ),
        (true, LifecycleAction::Ended(EndReason::Killed), Phase::Off),
    ] {
        let mut lifecycle = lifecycle(Phase::Running, EndReason::Off, true);
        let action = lifecycle.handle(LifecycleEvent::WatchdogExpired);
        assert_eq!(action, LifecycleAction::StopVcpus);
        // Another pCPU sees it as well.
        let action = lifecycle.handle(LifecycleEvent::WatchdogExpired);
        assert_eq!(action, LifecycleAction::Nothing);
        if killed {
            let action = lifecycle.request(LifecycleRequest::Kill);
            assert_eq!(action, Ok(LifecycleAction::Nothing));
        }
        let action = lifecycle.handle(LifecycleEvent::VcpusStopped);
        assert_eq!(action, LifecycleAction::TearDown);
        assert_eq!(lifecycle.handle(LifecycleEvent::TornDown), last);
        assert_eq!(lifecycle.phase(), phase);
    }
}

/// The state of a world that carries out every action.
#[derive(Default)]
struct World {
    vcpus: bool,
    tearing: bool,
    starting: bool,
    known: bool,
}

impl World {
    fn does(&mut self, action: LifecycleAction) {
        match action {
            LifecycleAction::Nothing | LifecycleAction::PressButton => {}
            LifecycleAction::Start | LifecycleAction::Again(_) => {
                assert!(!self.known && !self.vcpus && !self.tearing, "started twice");
                (self.starting, self.known) = (true, true);
            }
            LifecycleAction::Run => {
                assert!(self.starting && !self.vcpus);
                (self.starting, self.vcpus) = (false, true);
            }
            LifecycleAction::Pause | LifecycleAction::Resume => assert!(self.vcpus),
            LifecycleAction::StopVcpus => assert!(self.vcpus && !self.tearing),
            LifecycleAction::TearDown => {
                assert!(
                    !self.vcpus && !self.tearing,
                    "torn down under its vCPUs, or twice"
                );
                (self.tearing, self.starting) = (true, false);
            }
            LifecycleAction::Ended(_) => assert!(!self.vcpus && !self.tearing),
        }
    }
}

proptest! {
    /// Checks, for any events in any order, that a VM is torn down once, after its vCPUs have
    /// stopped, and not started before the teardown is over.
    #[test]
    fn teardown_follows_the_vcpus_in_any_order_of_events(
        steps in proptest::collection::vec((0usize..15, any::<bool>()), 0..60),
    ) {
        let (mut lifecycle, mut world) = (Lifecycle::new(), World::default());
        for (step, _) in steps {
            let action = match step {
                0..6 => lifecycle.request(LifecycleRequest::ALL[step]).unwrap_or(LifecycleAction::Nothing),
                _ => {
                    let event = EVENTS[step - 6];
                    // The world reports only events that are possible.
                    let can = match event {
                        LifecycleEvent::Loaded | LifecycleEvent::CannotStart => world.starting,
                        LifecycleEvent::GuestOff
                        | LifecycleEvent::GuestReset
                        | LifecycleEvent::VcpusStopped
                        | LifecycleEvent::WatchdogExpired
                        | LifecycleEvent::LostState => world.vcpus,
                        LifecycleEvent::TornDown | LifecycleEvent::NotTornDown => world.tearing,
                    };
                    if !can {
                        continue;
                    }
                    match event {
                        LifecycleEvent::VcpusStopped => world.vcpus = false,
                        LifecycleEvent::TornDown => (world.tearing, world.known) = (false, false),
                        LifecycleEvent::NotTornDown => world.tearing = false,
                        _ => {}
                    }
                    lifecycle.handle(event)
                }
            };
            world.does(action);
            prop_assert_eq!(world.vcpus, lifecycle.has_vcpus);
            prop_assert_eq!(world.tearing, lifecycle.phase() == Phase::Ending && !lifecycle.has_vcpus);
        }
    }
}
