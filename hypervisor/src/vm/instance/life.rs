// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A VM starts, pauses and ends: what follows from the state machine in [`crate::vm::life`].

use super::{Running, Saved, Vcpu, Vm};
use crate::arch::timer;
use crate::arch::world::{Context, Frame};
use crate::console::output;
use crate::sched::{run, turn};
use crate::vm::guest_image::Entry;
use crate::vm::life::{Ending, Event, Order, Phase, Refused, Then};
use core::fmt::Display;
use core::sync::atomic::{AtomicU8, Ordering};
use mediator::addr::Ipa;
use postern_base::ids::VcpuIndex;
use postern_devices::debug::DebugUnit;
use postern_devices::physical_timer::PhysicalTimer;
use postern_monitor::Event as Told;

/// Whether a VM's vCPUs may be on pCPUs. Follows the VM's phase, changed under the same lock, and
/// read without it.
pub(super) struct Gate(AtomicU8);

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const PAUSED: u8 = 2;

impl Gate {
    pub(super) const fn closed() -> Self {
        Self(AtomicU8::new(CLOSED))
    }

    fn follow(&self, phase: Phase) {
        let state = match phase {
            Phase::Running => OPEN,
            Phase::Paused => PAUSED,
            Phase::Off | Phase::Starting | Phase::Ending | Phase::Failed => CLOSED,
        };
        self.0.store(state, Ordering::SeqCst);
    }

    #[inline]
    fn get(&self) -> u8 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Vm {
    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        self.life.lock().phase()
    }

    /// Whether its vCPUs may be on pCPUs, or what is to become of them.
    #[inline]
    pub fn gate(&self) -> turn::Gate {
        match self.gate.get() {
            OPEN => turn::Gate::Open,
            PAUSED => turn::Gate::Paused,
            _ => turn::Gate::Closed,
        }
    }

    /// Whether its vCPUs may be on pCPUs.
    #[inline]
    pub fn may_run(&self) -> bool {
        self.gate.get() == OPEN
    }

    /// Whether its vCPUs are to wait.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.gate.get() == PAUSED
    }

    /// How often it was started, resets included.
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// For how many ticks it has been running or paused; zero when it is neither.
    pub fn up_ticks(&self) -> u64 {
        match self.phase() {
            Phase::Running | Phase::Paused => {
                timer::now().saturating_sub(self.started_at.load(Ordering::Relaxed))
            }
            _ => 0,
        }
    }

    /// Does what a user wants, or begins to. The caller holds no lock.
    ///
    /// # Errors
    /// When that makes no sense now.
    pub fn order(&'static self, order: Order) -> Result<(), Refused> {
        let then = {
            let mut life = self.life.lock();
            let now = timer::now();
            let then = life.order(order)?;
            match then {
                Then::Pause => self.paused_at.store(now, Ordering::Relaxed),
                // While the gate is closed yet, so that no vCPU goes on with the old offset.
                Then::Resume => self.forget_pause(now),
                _ => {}
            }
            self.gate.follow(life.phase());
            then
        };
        self.carry_out(then);
        Ok(())
    }

    /// Something has happened to it. The caller holds no lock but that of `Vm::work`, and that
    /// only where it is the one that does the work.
    pub fn happened(&'static self, event: Event) {
        let then = self.transition(event);
        self.carry_out(then);
    }

    /// Something has happened to it: what is to be done.
    pub(super) fn transition(&self, event: Event) -> Then {
        let mut life = self.life.lock();
        let then = life.happened(event);
        self.gate.follow(life.phase());
        then
    }

    /// The hardware has lost some of its state, so that it cannot go on.
    pub fn lost_state(&'static self) {
        self.happened(Event::LostState);
    }

    pub(super) fn carry_out(&'static self, then: Then) {
        match then {
            // Who loads it knows where it begins, and lets it run.
            Then::Nothing | Then::Run => {}
            Then::Start => self.want_start(),
            Then::PressButton => self.press_power_button(),
            Then::Pause => {
                self.pause_is_told.store(false, Ordering::Relaxed);
                run::look_around(self);
                self.tell_if_paused();
            }
            Then::Resume => {
                self.tell(Told::VmResumed { vm: &self.name });
                run::wake_all(self);
            }
            Then::StopVcpus => run::stop(self),
            Then::TearDown => self.want_tear_down(),
            Then::Ended(ending) => {
                self.tell_end(ending);
                crate::vm::one_ended();
            }
            Then::Again => {
                self.tell_end(Ending::Reset);
                self.want_start();
            }
        }
    }

    fn tell(&self, event: Told<&dyn Display>) {
        output::event(Some(self.index), &event);
    }

    fn tell_end(&self, ending: Ending) {
        self.tell(Told::VmOff {
            vm: &self.name,
            reason: &ending.name(),
        });
    }

    /// A vCPU of a paused VM has left its pCPU, or the VM was paused just now.
    pub fn tell_if_paused(&self) {
        let moving = self.vcpus.iter().any(|vcpu| vcpu.pcpu().is_some());
        if !moving && self.is_paused() && !self.pause_is_told.swap(true, Ordering::Relaxed) {
            self.tell(Told::VmPaused { vm: &self.name });
        }
    }

    /// A vCPU of a paused VM was running until now.
    pub fn note_pause(&self) {
        self.paused_at.fetch_max(timer::now(), Ordering::Relaxed);
    }

    /// The guest's time goes on where it stopped. Where a vCPU is still on its pCPU, none was
    /// paused for long enough to speak of.
    fn forget_pause(&self, now: u64) {
        if self.vcpus.iter().all(|vcpu| vcpu.pcpu().is_none()) {
            let lost = now.saturating_sub(self.paused_at.load(Ordering::Relaxed));
            self.counter_offset.fetch_add(lost, Ordering::Relaxed);
        }
    }

    /// Everything is in place: the first vCPU starts.
    ///
    /// Whoever has ended the VM since then closed its gate: the vCPU ends before it runs.
    pub(super) fn run(&'static self, entry: Entry) {
        let now = timer::now();
        self.counter_offset.store(now, Ordering::Relaxed);
        self.started_at.store(now, Ordering::Relaxed);
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.tell(Told::VmStarted {
            vm: &self.name,
            channel: self.console.channel().get(),
            vcpus: self.vcpus.len() as u32,
            memory_kib: self.memory.bytes() / 1024,
            tee: self.has_tee(),
        });
        if let Some(boot) = VcpuIndex::new(0)
            && self.vcpus[0].power.claim().is_ok()
        {
            self.turn_on(boot, entry.kernel, entry.tree.get());
        }
    }

    /// Starts a vCPU whose power state the caller has claimed.
    pub fn turn_on(&'static self, index: VcpuIndex, entry: Ipa, context: u64) {
        let Some(vcpu) = self.vcpus.get(index.get()) else {
            return;
        };
        *vcpu.saved.lock() = Saved {
            frame: Frame::start(entry.get(), context),
            context: Context::new(),
            physical_timer: PhysicalTimer::new(),
            debug: DebugUnit::new(),
        };
        self.vcpus_on.fetch_add(1, Ordering::AcqRel);
        let kick = self.vgic.vcpu_on(vcpu.index);
        vcpu.power.started();
        run::start(Running { vm: self, vcpu });
        run::kick(self, kick);
    }

    /// A vCPU has left its pCPU for good.
    pub fn vcpu_stopped(&'static self, vcpu: &'static Vcpu) {
        let kick = self.vgic.vcpu_off(vcpu.index);
        vcpu.power.turned_off();
        run::kick(self, kick);
        if self.vcpus_on.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.happened(Event::VcpusStopped);
        }
    }
}
