// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The links between VMs, and the virtio devices at their ends.
//!
//! A link has a lock that all of its VMs take. It is the only lock that VMs share because of what their guests do, and a
//! VM without a link takes none. It is held for one access, which is bounded, and is no VM's other lock's inner one but
//! the vGIC's; vCPUs are kicked after it is dropped.

use super::device_ram::VmRam;
use super::instance::Vm;
use super::scheduler::kick;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use postern_arch::timer;
use postern_base::ids::{MAX_VMS, VmIndex};
use postern_base::lock::{Class, Guard, Lock};
use postern_base::mmio::Access;
use postern_base::ticks::Ticks;
use postern_boot_tree::{LinkConfig, LinkKind, MAX_LINKS};
use postern_guest_tree::layout;
use postern_vgic::{IntId, IrqLine, VcpuSet};
use postern_virtio::console::MOST_WAITING;
use postern_virtio::link::{Counters, Link, Outcome};
use postern_virtio::net::MacAddress;
use spin::Once;

static LINKS: Once<Links> = Once::new();

/// All links.
struct Links {
    links: Vec<MachineLink>,
    /// The ends of each VM, in the order of its devices.
    ends: [heapless::Vec<End, MAX_LINKS>; MAX_VMS],
}

/// A VM's end of a link.
#[derive(Clone, Copy)]
struct End {
    link: usize,
    port: usize,
}

/// A link with its VMs.
struct MachineLink {
    kind: LinkKind,
    ports: heapless::Vec<LinkedVm, MAX_VMS>,
    state: Lock<LinkState>,
    /// Whether frames wait, so that they are to be dropped in time. Written with the lock held.
    is_waiting: AtomicBool,
}

/// What the lock guards.
struct LinkState {
    link: Link<'static>,
    /// The memory of each port's VM.
    rams: heapless::Vec<VmRam<'static>, MAX_VMS>,
    /// When frames that wait are looked at next.
    expire_at: Ticks,
}

impl LinkState {
    /// Calls the link with the memory of its VMs as it is now.
    #[inline]
    fn call<T>(&mut self, call: impl FnOnce(&mut Link<'static>, &[VmRam<'static>]) -> T) -> T {
        self.rams.iter().for_each(VmRam::update);
        call(&mut self.link, &self.rams)
    }
}

/// A VM, and which of its virtio devices is at the link.
struct LinkedVm {
    vm: &'static Vm,
    slot: usize,
}

/// The vCPUs to kick when the lock has been dropped.
type Kicks = heapless::Vec<(&'static Vm, VcpuSet), MAX_VMS>;

/// Makes the links of the VMs, once.
// Not inlined: a link is large, and the stack is small.
#[inline(never)]
pub fn init(vms: &'static [Vm], configs: &[LinkConfig<'static>]) {
    let mut ends = [const { heapless::Vec::<End, MAX_LINKS>::new() }; MAX_VMS];
    let mut links = Vec::new();
    for (index, config) in configs.iter().enumerate() {
        let mut ports = heapless::Vec::new();
        let mut rams = heapless::Vec::new();
        for (port, vm) in config.vms.iter().enumerate() {
            let (Some(of_vm), Some(vm)) = (ends.get_mut(vm.get()), vms.get(vm.get())) else {
                continue;
            };
            let slot = of_vm.len();
            let end = End { link: index, port };
            // There are no more links than ends, and no more VMs than ports.
            let _ = of_vm.push(end);
            let _ = ports.push(LinkedVm { vm, slot });
            let _ = rams.push(VmRam::new(&vm.memory));
        }
        let address = |vm: &VmIndex| MacAddress::of_port(index as u8, vm.get() as u8);
        let mut link = Link::new(config.vms.iter().map(address));
        if config.kind == LinkKind::Console {
            link.make_consoles(|| vec![0; MOST_WAITING].leak());
        }
        links.push(MachineLink {
            kind: config.kind,
            ports,
            state: Lock::new(
                Class::Link,
                LinkState {
                    link,
                    rams,
                    expire_at: Ticks::ZERO,
                },
            ),
            is_waiting: AtomicBool::new(false),
        });
    }
    LINKS.call_once(|| Links { links, ends });
}

/// Performs a guest's access to its virtio devices, at an offset from the first one's registers; `None` where there is
/// no device.
pub fn access(vm: &'static Vm, access: Access) -> Option<Outcome> {
    let links = LINKS.get()?;
    let slot = (access.offset / layout::VIRTIO_BYTES) as usize;
    let end = links.ends.get(vm.index.get())?.get(slot)?;
    let link = links.links.get(end.link)?;
    let access = Access {
        offset: access.offset % layout::VIRTIO_BYTES,
        ..access
    };
    let mut state = link.state.lock();
    let outcome = state.call(|link, rams| link.access(end.port, access, rams));
    // The rest does nothing for accesses that only look.
    if outcome.has_changed {
        link.finish(state);
    }
    Some(outcome)
}

/// Resets a VM's ends, as the VM has ended. The other VMs see their links go down.
pub fn reset(vm: &'static Vm) {
    let Some(links) = LINKS.get() else {
        return;
    };
    for end in links.ends.get(vm.index.get()).into_iter().flatten() {
        if let Some(link) = links.links.get(end.link) {
            let mut state = link.state.lock();
            state.call(|link, rams| link.reset(end.port, rams));
            link.finish(state);
        }
    }
}

/// Drops frames that have waited for a second or longer. Called at least once a second.
pub fn expire(now: Ticks) {
    let Some(links) = LINKS.get() else {
        return;
    };
    for link in &links.links {
        if !link.is_waiting.load(Ordering::Relaxed) {
            continue;
        }
        // Where another pCPU is at it, it does no less.
        let Some(mut state) = link.state.try_lock() else {
            continue;
        };
        if now >= state.expire_at {
            state.expire_at = now + timer::second();
            state.call(Link::expire);
            link.finish(state);
        }
    }
}

/// Returns the numbers of frames that a VM has sent and received, and of those that were dropped at its ends, and then the
/// same of the bytes of consoles: the sums over all of its ends since the machine started.
pub fn counts(vm: &Vm) -> [[u64; 3]; 2] {
    let mut sums = [Counters::default(); 2];
    if let Some(links) = LINKS.get() {
        for end in links.ends.get(vm.index.get()).into_iter().flatten() {
            if let Some(link) = links.links.get(end.link) {
                let more = link.state.lock().link.counters(end.port);
                let sum = &mut sums[usize::from(link.kind == LinkKind::Console)];
                *sum = sum.plus(more);
            }
        }
    }
    sums.map(|sum| [sum.sent, sum.received, sum.dropped])
}

/// Returns the number of a VM's ends, which are its first virtio devices.
pub fn ends(configs: &[LinkConfig<'_>], vm: VmIndex) -> usize {
    let of_vm = configs.iter().filter(|config| config.vms.contains(&vm));
    of_vm.count()
}

impl MachineLink {
    /// Drives the interrupt lines that have changed, drops the lock, and kicks the vCPUs that have interrupts.
    fn finish(&self, mut state: Guard<'_, LinkState>) {
        let mut kicks = Kicks::new();
        // Under the link's lock, so that levels reach the vGIC in order.
        for change in state.link.changed_lines() {
            let Some(LinkedVm { vm, slot }) = self.ports.get(change.port) else {
                continue;
            };
            let intid = vm.spis.virtio(*slot).and_then(|spi| IntId::new(32 + spi));
            if let Some(line) = intid.and_then(IrqLine::spi) {
                let mut stale = VcpuSet::EMPTY;
                if change.is_again {
                    stale = vm.vgic.set_line(line, false);
                }
                stale = stale.union(vm.vgic.set_line(line, change.level));
                if !stale.is_empty() {
                    // There is room for all ports.
                    let _ = kicks.push((vm, stale));
                }
            }
        }
        let is_waiting = state.link.is_waiting();
        if is_waiting && !self.is_waiting.load(Ordering::Relaxed) {
            state.expire_at = timer::now() + timer::second();
        }
        self.is_waiting.store(is_waiting, Ordering::Relaxed);
        drop(state);
        // Not moved: the vector is large.
        for &(vm, set) in &kicks {
            kick(vm, set);
        }
    }
}
