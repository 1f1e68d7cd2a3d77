//! What holds whatever a guest does and OP-TEE asks, in every order.
//!
//! The made-up machine checks at each step that no foreign address reaches OP-TEE, that the
//! guest sees no secret, and that what OP-TEE uses stays pinned; here is what it is led through.

use super::{APP, Vm, tries};
use crate::addr::{Ipa, PAGE_SIZE};
use crate::fake::{Guest, Machine, RAM_BASE, Step};
use crate::{Config, Offer, Quotas};
use alloc::vec::Vec;
use optee_proto::msg::{self, Attr, Command, Param, login};
use optee_proto::rpc::{self, Function};
use optee_proto::{Return, TeeResult, smc};
use proptest::collection::vec;
use proptest::prelude::*;

/// Pages of guest memory; what actions allocate must fit.
const PAGES: u64 = 1500;

/// Something that a guest does. Small numbers pick from what there is.
#[derive(Clone, Debug)]
enum Action {
    /// Registers so many pages under one of a few names; one entry may be wrong.
    Register {
        pages: u64,
        name: u64,
        wrong: Option<(usize, u64)>,
    },
    Unregister {
        name: u64,
    },
    /// Calls with these parameters and this to happen meanwhile.
    Call {
        command: u32,
        params: Vec<Param>,
        steps: Vec<Step>,
        how: u8,
    },
    /// Answers one of the RPCs that wait as Linux does, if well meant.
    Answer {
        which: usize,
        well: bool,
        noise: Vec<u8>,
        regs: [u64; 4],
    },
    Open,
    Close {
        session: u32,
    },
    Fast {
        function: u32,
    },
    Raw {
        regs: [u64; 8],
    },
    /// Takes away a page that nobody pins.
    Unmap {
        page: u64,
    },
}

fn names() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0xffff_8000_0000_0000u64..0xffff_8000_0000_0004, 1 => Just(0), 1 => any::<u64>()]
}

fn param() -> impl Strategy<Value = Param> {
    let known = proptest::sample::select(&[0, 1, 2, 3, 5, 6, 7, 9, 10, 11u64][..]);
    let attr = prop_oneof![20 => known, 1 => 0u64..13, 1 => any::<u64>()];
    let word = prop_oneof![4 => 0u64..9000, 1 => any::<u64>()];
    (attr, word.clone(), word, names())
        .prop_map(|(attr, a, b, c)| Param::new(Attr(attr), if attr >= 9 { a % 2 } else { a }, b, c))
}

/// What OP-TEE asks for. Sizes are no addresses and no cookies, or the check for secrets errs.
fn step() -> impl Strategy<Value = Step> {
    let request = (0u32..26, vec((0u64..8, 0u64..3), 0..5)).prop_map(|(command, params)| {
        let params = params
            .into_iter()
            .map(|(attr, c)| Param::new(Attr(attr), 3, 5, c))
            .collect();
        // These two have steps of their own.
        Step::Command(
            rpc::Command(if matches!(command, 6 | 7) { 2 } else { command }),
            params,
        )
    });
    prop_oneof![
        3 => Just(Step::ForeignInterrupt),
        4 => request,
        4 => (0u64..4, 1u64..9000).prop_map(|(kind, size)| match kind {
            3 => Step::ShmAllocInterrupted(0, size),
            _ => Step::ShmAlloc(kind, size),
        }),
        4 => (0usize..3).prop_map(|number| Step::ShmFree(0, number)),
        1 => prop_oneof![Just(Step::FreeRpc), any::<bool>().prop_map(Step::UseRoom)],
        1 => Just(Step::Scribble(0xa5)),
        1 => vec(any::<u8>(), 160).prop_map(Step::RawCommand),
        1 => Just(Step::Result(TeeResult::BUSY)),
        1 => (0u64..9).prop_map(Step::End),
        1 => (0u64..7).prop_map(|n| Step::Raw([0xffff_0000 | n, n, n], None)),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let wrong = proptest::option::weighted(0.3, (0usize..6, any::<u64>()));
    prop_oneof![
        3 => (1u64..6, names(), wrong)
            .prop_map(|(pages, name, wrong)| Action::Register { pages, name, wrong }),
        2 => names().prop_map(|name| Action::Unregister { name }),
        6 => (prop_oneof![6 => Just(1u32), 1 => 0u32..9], vec(param(), 0..5), vec(step(), 0..6), 0u8..3)
            .prop_map(|(command, params, steps, how)| Action::Call { command, params, steps, how }),
        9 => (0usize..4, any::<bool>(), vec(any::<u8>(), 160), any::<[u64; 4]>())
            .prop_map(|(which, well, noise, regs)| Action::Answer { which, well, noise, regs }),
        1 => Just(Action::Open),
        1 => (0u32..4).prop_map(|session| Action::Close { session }),
        1 => prop_oneof![0xb200_0000u32..0xb200_0016, any::<u32>()]
            .prop_map(|function| Action::Fast { function }),
        1 => any::<[u64; 8]>().prop_map(|regs| Action::Raw { regs }),
        1 => (0..PAGES).prop_map(|page| Action::Unmap { page }),
    ]
}

/// A call that came back with an RPC: where its message is, and the registers.
type Waiting = (Ipa, [u64; 4]);

struct Play<'a> {
    guest: Guest<'a>,
    waiting: Vec<Waiting>,
}

impl Play<'_> {
    fn note(&mut self, message: Ipa, regs: [u64; 4]) {
        if Return::from_x0(regs[0]).rpc().is_some() {
            self.waiting.push((message, regs));
        }
    }

    fn begin(&mut self, at: Ipa, how: u8) {
        let (a1, a2) = smc::pair(at.get());
        let function = match how {
            0 => smc::CALL_WITH_ARG,
            1 => smc::CALL_WITH_RPC_ARG,
            _ => {
                // Messages are never in these buffers, but memory is memory.
                let (a1, a2) = smc::pair(0xffff_8000_0000_0001);
                let id = smc::CALL_WITH_REGD_ARG.get().into();
                let regs = self.guest.smc([id, a1, a2, 0, 0, 0, 0, 0]);
                return self.note(at, regs);
            }
        };
        let regs = self
            .guest
            .smc([function.get().into(), a1, a2, 0, 0, 0, 0, 0]);
        self.note(at, regs);
    }

    /// Where the guest finds the request of a call.
    fn request_at(&self, message: Ipa, regs: &[u64; 4]) -> Ipa {
        match smc::unpair(regs[1], regs[2]) {
            0 => {
                let count = self.guest.read_message(message).params.len();
                message.checked_add(msg::size(count) as u64).unwrap()
            }
            name => Ipa::new(name & 0x7fff_ffff_ffff),
        }
    }

    fn answer(&mut self, which: usize, well: bool, noise: &[u8], regs: [u64; 4]) {
        if self.waiting.is_empty() {
            return;
        }
        let (message, came) = self.waiting.swap_remove(which % self.waiting.len());
        let mut back = [0; 4];
        match Return::from_x0(came[0]).rpc() {
            Some(Function::ALLOC) => {
                let at = self.guest.alloc(1);
                let ((a1, a2), (a4, a5)) = (smc::pair(at.get()), smc::pair(Guest::cookie(at)));
                back = if well {
                    [a1, a2, a4, a5]
                } else {
                    [regs[0], a2, regs[2], a5]
                };
            }
            Some(Function::CMD) => {
                let at = self.request_at(message, &came);
                if in_ram(at) && at.page_offset() + 200 < PAGE_SIZE {
                    if well {
                        self.guest.answer(&self.guest.read_message(at));
                    } else {
                        self.guest.host.poke(at, noise);
                        // Most noise says "failed" at once.
                        if noise[0] & 1 == 0 {
                            self.guest.host.poke(at.checked_add(20).unwrap(), &[0; 8]);
                        }
                    }
                }
            }
            _ => {}
        }
        let regs = self.guest.resume(came[3], back);
        self.note(message, regs);
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Register { pages, name, wrong } => {
                let mut all: Vec<Ipa> = (0..*pages).map(|_| self.guest.alloc(1)).collect();
                if let Some((at, value)) = wrong
                    && let Some(entry) = all.get_mut(*at)
                {
                    *entry = Ipa::new(*value);
                }
                let list = self.guest.page_list(&all);
                let size = pages * PAGE_SIZE - 7;
                let param = Param::new(Attr::PAGE_LIST, list.get(), size, *name);
                let message = self.guest.message(Command::REGISTER_SHM, 0, &[param]);
                self.begin(message, 0);
            }
            Action::Unregister { name } => {
                let param = Param::new(Attr::RMEM_INPUT, 0, 0, *name);
                let message = self.guest.message(Command::UNREGISTER_SHM, 0, &[param]);
                self.begin(message, 0);
            }
            Action::Call {
                command,
                params,
                steps,
                how,
            } => {
                self.guest.host.machine().script(1, steps.clone());
                let message = self.guest.message(Command(*command), 1, params);
                self.begin(message, *how);
            }
            Action::Answer {
                which,
                well,
                noise,
                regs,
            } => {
                self.answer(*which, *well, noise, *regs);
            }
            Action::Open => {
                let meta = Param::new(Attr::META_VALUE_INPUT, 1, 2, 0);
                let message = self.guest.message(Command::OPEN_SESSION, 0, &[meta, meta]);
                self.begin(message, 1);
            }
            Action::Close { session } => {
                let message = self.guest.message(Command::CLOSE_SESSION, *session, &[]);
                self.begin(message, 0);
            }
            Action::Fast { function } => {
                self.guest.smc([u64::from(*function), 1, 2, 3, 4, 5, 6, 7]);
            }
            Action::Raw { regs } => {
                self.guest.smc(*regs);
            }
            Action::Unmap { page } => {
                // Not what is still to be given out.
                let at = Ipa::new(RAM_BASE + page * PAGE_SIZE);
                if at < self.guest.alloc(0) && !self.waiting.iter().any(|w| w.0 == at) {
                    // The test itself reads RPC memory, so that stays.
                    let rpc = self
                        .waiting
                        .iter()
                        .any(|w| self.request_at(w.0, &w.1).page() == at);
                    if !rpc {
                        self.guest.host.unmap_unpinned(at);
                    }
                }
            }
        }
    }
}

fn in_ram(at: Ipa) -> bool {
    (RAM_BASE..RAM_BASE + PAGES * PAGE_SIZE).contains(&at.get())
}

fn play(actions: &[Action], scramble: bool) {
    let machine = Machine::new();
    let config = Config {
        quotas: Quotas {
            buffers: 6,
            pages: 20,
            rpc_buffers: 3,
            sessions: 3,
            ..Quotas::default()
        },
        offer: Offer {
            rpc_arg: true,
            async_notif: true,
        },
        ..Config::default()
    };
    let a = Vm::with_pages(&machine, 1, config, PAGES);
    let b = Vm::new(&machine, 2, Config::default());
    let neighbour = b.guest();
    let (cookie, result) = neighbour.register(3);
    assert_eq!(result, 0);
    let baseline = b.stats();

    machine.scramble(scramble);
    let mut play = Play {
        guest: a.guest(),
        waiting: Vec::new(),
    };
    for action in actions {
        play.act(action);
        assert_eq!(machine.violations(), [""; 0], "after {action:?}");
        let stats = a.stats();
        assert!(stats.pages_pinned <= 20 && stats.buffers <= 6 && stats.sessions <= 3);
    }
    machine.scramble(false);

    // The neighbour has noticed nothing.
    assert_eq!(b.stats(), baseline);
    let memory = Param::new(Attr::RMEM_INOUT, 0, 100, cookie);
    let done = neighbour.run(neighbour.message(Command::INVOKE, 1, &[memory]));
    assert_eq!(done.header.ret.get(), 0);
    assert_eq!(neighbour.open(APP, login::PUBLIC).1, 0);
    a.end_one();
    assert_eq!(machine.pins(), 3);
    b.end();
}

proptest! {
    #![proptest_config(tries(100))]

    #[test]
    fn no_conversation_breaks_a_promise(actions in vec(action(), 1..60)) {
        play(&actions, false);
    }

    /// The same while all that is read changes right afterwards.
    #[test]
    fn nor_when_memory_changes_under_the_reader(actions in vec(action(), 1..40)) {
        play(&actions, true);
    }
}
