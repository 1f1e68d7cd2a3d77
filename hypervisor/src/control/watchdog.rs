// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The response to a pCPU that does not return from the secure world: other pCPUs take over what
//! waits for it, and its state is reported once.
//!
//! Guests that do not call OP-TEE continue. The pCPU and the guests that wait for OP-TEE do not.

use super::input;
use crate::console::output;
use crate::platform::machine;
use crate::sched::tee_watchdog::{PATIENCE_SECONDS, TeeWatchdog, WatchdogEvent};
use crate::tee::{notification, secure_entries};
use crate::vm::instance::Vm;
use crate::vm::{linked_spis, registry, scheduler};
use core::fmt::Display;
use postern_arch::timer;
use postern_base::ids::PcpuIndex;
use postern_base::lock::{Class, Lock};
use postern_console::log::Level;
use postern_monitor::Event;

static WATCHDOG: Lock<TeeWatchdog> = Lock::new(Class::Watchdog, TeeWatchdog::new());

/// Checks the other pCPUs. Each pCPU's tick calls this.
pub fn poll() {
    // A pCPU that holds the lock does the same work.
    let Some(mut watch) = WATCHDOG.try_lock() else {
        return;
    };
    let now = timer::now();
    let second = timer::second();
    let pcpus = (0..machine().cpus.list().len()).filter_map(PcpuIndex::new);
    for pcpu in pcpus {
        match watch.poll(pcpu, secure_entries::of(pcpu).get(), now, second) {
            None => {}
            Some(WatchdogEvent::Away(pcpu)) => {
                scheduler::pcpu_away(pcpu);
                input::take_over_uart_irq(pcpu);
                notification::take_over_irq(pcpu);
                linked_spis::take_over_irqs();
            }
            Some(WatchdogEvent::Returned(pcpu)) => scheduler::pcpu_back(pcpu),
            Some(WatchdogEvent::Back(pcpu)) => {
                scheduler::pcpu_back(pcpu);
                output::log(
                    Level::Warn,
                    format_args!("CPU {} is back from the secure world", pcpu.get()),
                );
                report(pcpu, |cpu, vm| Event::TeeBack { cpu, vm });
            }
            Some(WatchdogEvent::Stuck(pcpu)) => {
                let how = if secure_entries::is_inside(pcpu) {
                    "been in the secure world"
                } else {
                    "taken no interrupt, as if the secure world had interrupted it,"
                };
                output::log(
                    Level::Error,
                    format_args!(
                        "CPU {} has {how} for {PATIENCE_SECONDS} s: OP-TEE has panicked or hangs; see \
                     its own log",
                        pcpu.get()
                    ),
                );
                report(pcpu, |cpu, vm| Event::TeeStuck { cpu, vm });
            }
        }
    }
}

fn report<'a>(pcpu: PcpuIndex, event: impl FnOnce(u32, &'a dyn Display) -> Event<&'a dyn Display>) {
    let on_it = |vm: &&Vm| vm.vcpus.iter().any(|vcpu| vcpu.pcpu() == Some(pcpu));
    let vm = registry::all().iter().find(on_it);
    let name: &'static &'static str = vm.map_or(&"", |vm| &vm.name);
    output::event(None, &event(pcpu.get() as u32, name));
}
