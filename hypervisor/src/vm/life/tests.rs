// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use proptest::prelude::*;

const EVENTS: [Event; 8] = [
    Event::Loaded,
    Event::CannotStart,
    Event::GuestOff,
    Event::GuestReset,
    Event::VcpusStopped,
    Event::TornDown,
    Event::Held,
    Event::LostState,
];

fn life(phase: Phase, ending: Ending, has_vcpus: bool) -> Life {
    Life {
        phase,
        ending,
        has_vcpus,
    }
}

/// Each state that a VM can be in.
fn states() -> [(&'static str, Life); 9] {
    use Ending::{Error, Killed, Off, Reset};
    [
        ("off", life(Phase::Off, Off, false)),
        ("starting", life(Phase::Starting, Off, false)),
        ("running", life(Phase::Running, Off, true)),
        ("paused", life(Phase::Paused, Off, true)),
        ("resetting, vCPUs run", life(Phase::Ending, Reset, true)),
        ("resetting", life(Phase::Ending, Reset, false)),
        ("dying, vCPUs run", life(Phase::Ending, Killed, true)),
        ("dying", life(Phase::Ending, Killed, false)),
        ("failed", life(Phase::Failed, Error, false)),
    ]
}

/// Every order in every state: what is answered, and which phase follows.
#[test]
fn every_order_in_every_state() {
    use Phase::{Ending as E, Failed as F, Off as O, Paused as P, Running as R, Starting as S};
    use Refused as No;
    type Row = [(Result<Then, Refused>, Phase); 6];
    // start, stop, reset, kill, pause, resume
    // Nothing but a kill makes a difference to a VM that ends.
    let refused = (Err(No::Ending), E);
    let killed = (Ok(Then::Nothing), E);
    let ends: Row = [refused, refused, refused, killed, refused, refused];
    let rows: [Row; 9] = [
        [
            (Ok(Then::Start), S),
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
            (Ok(Then::TearDown), E),
            (Err(No::Starting), S),
            (Err(No::Starting), S),
        ],
        [
            (Err(No::Already(R)), R),
            (Ok(Then::PressButton), R),
            (Ok(Then::StopVcpus), E),
            (Ok(Then::StopVcpus), E),
            (Ok(Then::Pause), P),
            (Err(No::NotPaused), R),
        ],
        [
            (Err(No::Already(R)), P),
            (Err(No::Paused), P),
            (Ok(Then::StopVcpus), E),
            (Ok(Then::StopVcpus), E),
            (Err(No::Already(P)), P),
            (Ok(Then::Resume), R),
        ],
        ends,
        ends,
        ends,
        ends,
        [(Err(No::Failed), F); 6],
    ];
    for ((name, state), row) in states().into_iter().zip(rows) {
        for (order, (answer, phase)) in Order::ALL.into_iter().zip(row) {
            let mut life = state;
            let what = alloc::format!("{} while {name}", order.name());
            assert_eq!(life.order(order), answer, "{what}");
            assert_eq!(life.phase(), phase, "{what}");
            if answer.is_err() {
                assert_eq!(life, state, "{what}: a refused order changes nothing");
            }
        }
    }
}

/// Every event in every state.
#[test]
fn every_event_in_every_state() {
    use Phase::{Ending as E, Failed as F, Off as O, Paused as P, Running as R, Starting as S};
    use Then::Nothing as N;
    type Row = [(Then, Phase); 8];
    // loaded, cannot start, guest off, guest reset, vCPUs stopped, torn down, held, lost state
    let rows: [Row; 9] = [
        [(N, O); 8],
        [
            (Then::Run, R),
            (Then::TearDown, E),
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
            (Then::StopVcpus, E),
            (Then::StopVcpus, E),
            (Then::TearDown, E),
            (N, R),
            (N, R),
            (Then::StopVcpus, E),
        ],
        [
            (N, P),
            (N, P),
            (Then::StopVcpus, E),
            (Then::StopVcpus, E),
            (Then::TearDown, E),
            (N, P),
            (N, P),
            (Then::StopVcpus, E),
        ],
        [
            (N, E),
            (N, E),
            (N, E),
            (N, E),
            (Then::TearDown, E),
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
            (Then::Again, S),
            (Then::Ended(Ending::Error), F),
            (N, E),
        ],
        [
            (N, E),
            (N, E),
            (N, E),
            (N, E),
            (Then::TearDown, E),
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
            (Then::Ended(Ending::Killed), O),
            (Then::Ended(Ending::Error), F),
            (N, E),
        ],
        [(N, F); 8],
    ];
    for ((name, state), row) in states().into_iter().zip(rows) {
        for (event, (then, phase)) in EVENTS.into_iter().zip(row) {
            let mut life = state;
            let what = alloc::format!("{event:?} while {name}");
            assert_eq!(life.happened(event), then, "{what}");
            assert_eq!(life.phase(), phase, "{what}");
        }
    }
}

#[test]
fn a_kill_during_a_reset_is_an_end() {
    let mut life = life(Phase::Running, Ending::Off, true);
    assert_eq!(life.order(Order::Reset), Ok(Then::StopVcpus));
    assert_eq!(life.order(Order::Kill), Ok(Then::Nothing));
    assert_eq!(life.happened(Event::VcpusStopped), Then::TearDown);
    assert_eq!(life.happened(Event::TornDown), Then::Ended(Ending::Killed));
}

/// What a world that does what it is told makes of a life.
#[derive(Default)]
struct World {
    vcpus: bool,
    tearing: bool,
    starting: bool,
    known: bool,
}

impl World {
    fn does(&mut self, then: Then) {
        match then {
            Then::Nothing | Then::PressButton => {}
            Then::Start | Then::Again => {
                assert!(!self.known && !self.vcpus && !self.tearing, "started twice");
                (self.starting, self.known) = (true, true);
            }
            Then::Run => {
                assert!(self.starting && !self.vcpus);
                (self.starting, self.vcpus) = (false, true);
            }
            Then::Pause | Then::Resume => assert!(self.vcpus),
            Then::StopVcpus => assert!(self.vcpus && !self.tearing),
            Then::TearDown => {
                assert!(
                    !self.vcpus && !self.tearing,
                    "torn down under its vCPUs, or twice"
                );
                (self.tearing, self.starting) = (true, false);
            }
            Then::Ended(_) => assert!(!self.vcpus && !self.tearing),
        }
    }
}

proptest! {
    /// Whatever comes in whatever order: a VM is torn down once, after its vCPUs have stopped, and
    /// not started before that is over.
    #[test]
    fn no_order_of_events_breaks_the_order_of_the_end(
        steps in proptest::collection::vec((0usize..14, any::<bool>()), 0..60),
    ) {
        let (mut life, mut world) = (Life::new(), World::default());
        for (step, _) in steps {
            let then = match step {
                0..6 => life.order(Order::ALL[step]).unwrap_or(Then::Nothing),
                _ => {
                    let event = EVENTS[step - 6];
                    // The world reports only what can be.
                    let can = match event {
                        Event::Loaded | Event::CannotStart => world.starting,
                        Event::GuestOff
                        | Event::GuestReset
                        | Event::VcpusStopped
                        | Event::LostState => world.vcpus,
                        Event::TornDown | Event::Held => world.tearing,
                    };
                    if !can {
                        continue;
                    }
                    match event {
                        Event::VcpusStopped => world.vcpus = false,
                        Event::TornDown => (world.tearing, world.known) = (false, false),
                        Event::Held => world.tearing = false,
                        _ => {}
                    }
                    life.happened(event)
                }
            };
            world.does(then);
            prop_assert_eq!(world.vcpus, life.has_vcpus);
            prop_assert_eq!(world.tearing, life.phase() == Phase::Ending && !life.has_vcpus);
        }
    }
}
