// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is done about a secure world that does not come back: other pCPUs take over what waits for the one that is
//! there, and it is said, once.
//!
//! The guests that do not call it go on. Those that do are stuck with it, and so is the pCPU.

use crate::arch::timer;
use crate::console::{input, output};
use crate::platform::machine;
use crate::sched::run;
use crate::sched::watch::{News, PATIENCE_SECONDS, Passages, Watch};
use crate::services::notification;
use crate::vm;
use core::fmt::Display;
use postern_base::ids::{MAX_PCPUS, PcpuIndex};
use postern_base::lock::{Class, Lock};
use postern_monitor::Event;

static PASSAGES: [Passages; MAX_PCPUS] = [const { Passages::new() }; MAX_PCPUS];
static WATCH: Lock<Watch> = Lock::new(Class::Watch, Watch::new());

/// The count of a pCPU, which tells it of its passages.
pub fn passages(pcpu: PcpuIndex) -> &'static Passages {
    &PASSAGES[pcpu.get()]
}

/// Whether a pCPU is in the secure world on behalf of a VM.
pub fn is_inside(pcpu: PcpuIndex) -> bool {
    PASSAGES[pcpu.get()].get() % 2 == 1
}

/// Looks at the others: a part of every pCPU's tick.
pub fn look() {
    // Whoever holds it does the same.
    let Some(mut watch) = WATCH.try_lock() else {
        return;
    };
    let now = timer::now();
    let second = timer::frequency();
    let pcpus = (0..machine().cpus.list().len()).filter_map(PcpuIndex::new);
    for pcpu in pcpus {
        match watch.look(pcpu, PASSAGES[pcpu.get()].get(), now, second) {
            None => {}
            Some(News::Away(pcpu)) => {
                run::lost(pcpu);
                input::instead_of(pcpu);
                notification::instead_of(pcpu);
            }
            Some(News::Returned(pcpu)) => run::regained(pcpu),
            Some(News::Back(pcpu)) => {
                run::regained(pcpu);
                crate::warn!("CPU {} is back from the secure world", pcpu.get());
                tell(pcpu, |cpu, vm| Event::TeeBack { cpu, vm });
            }
            Some(News::Stuck(pcpu)) => {
                let how = if is_inside(pcpu) {
                    "been in the secure world"
                } else {
                    "taken no interrupt, as if the secure world had interrupted it,"
                };
                crate::error!(
                    "CPU {} has {how} for {PATIENCE_SECONDS} s: OP-TEE has panicked or hangs; see \
                     its own log",
                    pcpu.get()
                );
                tell(pcpu, |cpu, vm| Event::TeeStuck { cpu, vm });
            }
        }
    }
}

fn tell<'a>(pcpu: PcpuIndex, event: impl FnOnce(u32, &'a dyn Display) -> Event<&'a dyn Display>) {
    let on_it = |vm: &&vm::Vm| vm.vcpus.iter().any(|vcpu| vcpu.pcpu() == Some(pcpu));
    let name: &'static &'static str = vm::all().iter().find(on_it).map_or(&"", |vm| &vm.name);
    output::event(None, &event(pcpu.get() as u32, name));
}
