//! How a VM starts and stops: loaded step by step, run, stopped, destroyed.

use super::super::guest_image;
use super::{Running, Saved, Vcpu, Vm};
use crate::arch::timer;
use crate::arch::world::{Context, Frame};
use crate::ids::VcpuIndex;
use crate::sched::run;
use crate::services::tee::VmHost;
use core::sync::atomic::Ordering;
use mediator::addr::Ipa;

/// How a VM ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Ending {
    /// It stays off.
    Off = 1,
    /// It starts again.
    Reset = 2,
    /// It cannot go on.
    Error = 3,
}

impl Ending {
    const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Reset => "reset",
            Self::Error => "error",
        }
    }
}

/// `Vm::work_kind`: there is some.
const WORK: u8 = 1;
/// `Vm::work_kind`: the VM starts again.
const WORK_AGAIN: u8 = 2;

/// `Vm::state`: no vCPU runs, none is about to.
pub(super) const STOPPED: u8 = 0;
const RUNNING: u8 = 1;
const STOPPING: u8 = 2;

/// What a VM waits for that some pCPU does a step of when it has time.
pub(super) enum Work {
    Nothing,
    Load(guest_image::Loader),
    Destroy,
}

impl Vm {
    /// Whether its vCPUs are to leave their pCPUs.
    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.state.load(Ordering::SeqCst) != RUNNING
    }

    /// Whether it is off for good.
    pub fn is_off(&self) -> bool {
        self.state.load(Ordering::Acquire) == STOPPED && !self.has_work()
    }

    /// Whether it waits to be loaded or destroyed.
    #[inline]
    pub fn has_work(&self) -> bool {
        self.work_kind.load(Ordering::Acquire) != 0
    }

    /// Asks for its start: its memory is filled step by step, then its first vCPU runs.
    pub fn begin_start(&'static self) {
        *self.work.lock() = Work::Load(guest_image::Loader::new());
        self.work_kind.store(WORK, Ordering::Release);
    }

    /// Does a piece of what the VM waits for; `false` where there is nothing, or another pCPU is
    /// at it.
    pub fn step(&'static self) -> bool {
        if !self.has_work() {
            return false;
        }
        let Some(mut work) = self.work.try_lock() else {
            return false;
        };
        if self.work_kind.swap(WORK, Ordering::AcqRel) == WORK_AGAIN {
            match self.create_tee() {
                Err(error) if self.needs_tee => {
                    crate::error!("vm {}: no TEE after its reset: {error}", self.name);
                    *work = Work::Nothing;
                    self.ended(Ending::Error);
                    return true;
                }
                Err(error) => crate::warn!("vm {}: goes on without a TEE: {error}", self.name),
                Ok(()) => {}
            }
            *work = Work::Load(guest_image::Loader::new());
        }
        match &mut *work {
            Work::Nothing => return false,
            Work::Load(loader) => match loader.step(&self.images, &self.memory, self.guest_tee()) {
                Ok(None) => {}
                Ok(Some(entry)) => {
                    *work = Work::Nothing;
                    self.work_kind.store(0, Ordering::Release);
                    self.run(entry);
                }
                Err(error) => {
                    *work = Work::Nothing;
                    crate::error!("vm {}: {error}", self.name);
                    self.ended(Ending::Error);
                }
            },
            Work::Destroy => {
                *work = Work::Nothing;
                self.destroy();
            }
        }
        true
    }

    /// Everything is in place: the first vCPU starts.
    fn run(&'static self, entry: guest_image::Entry) {
        self.counter_offset.store(timer::now(), Ordering::Relaxed);
        self.state.store(RUNNING, Ordering::Release);
        crate::console::output::line(format_args!(
            "@postern {{\"event\":\"vm-started\",\"vm\":\"{}\",\"channel\":{},\"vcpus\":{},\"memory_kib\":{},\"tee\":{}}}",
            self.name,
            self.console.channel().get(),
            self.vcpus.len(),
            self.memory.bytes() / 1024,
            self.has_tee(),
        ));
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
        if self.vcpus_on.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        // The last one. Where the guest turned all of its CPUs off, that is its end.
        self.state.store(STOPPING, Ordering::Release);
        *self.work.lock() = Work::Destroy;
        self.work_kind.store(WORK, Ordering::Release);
    }

    /// Stops all vCPUs; the last that leaves its pCPU has the VM destroyed.
    pub fn stop(&'static self, ending: Ending) {
        self.ending.store(ending as u8, Ordering::Relaxed);
        self.state.store(STOPPING, Ordering::SeqCst);
        run::stop(self);
    }

    /// All vCPUs have stopped: ends what the VM has, in the order that OP-TEE needs.
    fn destroy(&'static self) {
        if let Some(mediator) = &self.mediator
            && self.has_tee.swap(false, Ordering::AcqRel)
            && let Err(error) = mediator.destroy(&VmHost { vm: self })
        {
            crate::error!("vm {}: {error}", self.name);
        }
        self.vgic.reset();
        self.console.reset();
        self.devices.reset();
        if let Err(error) = self.mapping.restore(&self.memory) {
            crate::error!("vm {}: what it gave back is lost: {error}", self.name);
            self.ending.store(Ending::Error as u8, Ordering::Relaxed);
        }
        let ending = match self.ending.swap(Ending::Off as u8, Ordering::Relaxed) {
            2 => Ending::Reset,
            3 => Ending::Error,
            _ => Ending::Off,
        };
        self.ended(ending);
    }

    fn ended(&'static self, ending: Ending) {
        crate::console::output::line(format_args!(
            "@postern {{\"event\":\"vm-off\",\"vm\":\"{}\",\"reason\":\"{}\"}}",
            self.name,
            ending.name()
        ));
        self.state.store(STOPPED, Ordering::Release);
        if ending == Ending::Reset {
            // `step` holds the work's lock: leave the loading to the next step.
            self.work_kind.store(WORK_AGAIN, Ordering::Release);
        } else {
            self.work_kind.store(0, Ordering::Release);
            crate::vm::one_ended();
        }
    }
}
