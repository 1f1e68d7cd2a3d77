// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The physical CPUs.

use super::flat::Fdt;

use super::error::BootError;
use super::mpidr::Mpidr;
use super::tree;
use postern_base::ids::{MAX_PCPUS, PcpuIndex};

/// The most physical CPUs that Postern uses. Further ones stay off, and [`Cpus::ignored`] counts
/// them.
pub const MAX_CPUS: usize = 8;

const _: () = assert!(MAX_CPUS <= MAX_PCPUS);

/// A physical CPU as the tree describes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpu<'t> {
    /// The CPU's affinity.
    pub mpidr: Mpidr,
    /// The CPU's place among the CPUs of the tree, from 0: a VM's `affinity` names CPUs by it.
    pub place: usize,
    /// The first `compatible` string, such as `arm,cortex-a72`, or an empty string.
    pub compatible: &'t str,
}

/// The physical CPUs: the one that booted, then the others in the order of the tree. An index into
/// this list is a pCPU's index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cpus<'t> {
    list: heapless::Vec<Cpu<'t>, MAX_CPUS>,
    /// The number of CPUs in the tree beyond [`MAX_CPUS`], which stay off.
    pub ignored: usize,
}

impl<'t> Cpus<'t> {
    /// Returns the CPUs, at least one and at most [`MAX_CPUS`].
    pub fn list(&self) -> &[Cpu<'t>] {
        &self.list
    }

    /// Returns the index of the CPU with this affinity, or `None` if it is not in the list.
    pub fn index_of(&self, mpidr: Mpidr) -> Option<PcpuIndex> {
        PcpuIndex::new(self.list.iter().position(|cpu| cpu.mpidr == mpidr)?)
    }

    /// Returns the index of the CPU at this place in the tree, or `None` if it is not in the list.
    pub fn at(&self, place: usize) -> Option<PcpuIndex> {
        PcpuIndex::new(self.list.iter().position(|cpu| cpu.place == place)?)
    }

    /// Reads the CPUs from the tree. Firmware may boot on any CPU, not only on the tree's first
    /// one.
    pub(super) fn read(fdt: Fdt<'t>, boot: Mpidr) -> Result<Self, BootError<'t>> {
        let mut cpus = Self::default();
        let mut places = 0..;
        let mut booted = None;
        let parent = fdt.root().child("cpus").ok_or(BootError::NoCpu)?;
        for node in parent.children() {
            if tree::string(node, "device_type") != Some("cpu") || !tree::is_enabled(node) {
                continue;
            }
            // Firmware that adds its PSCI node to a tree may leave the CPU nodes unchanged, so only
            // a different method is an error.
            if node.property("enable-method").is_some()
                && tree::string(node, "enable-method") != Some("psci")
            {
                return Err(BootError::EnableMethod { cpu: node.name() });
            }
            let reg = |problem| BootError::Property {
                node: node.name(),
                property: "reg",
                problem,
            };
            let affinity = tree::reg(node, 0).map_err(reg)?.start().get();
            let mpidr = Mpidr::new(affinity);
            if mpidr.get() != affinity {
                return Err(reg("has bits outside the affinity fields of MPIDR_EL1"));
            }
            if cpus.index_of(mpidr).is_some() {
                return Err(reg("is another CPU's as well"));
            }
            let compatible = tree::strings(node, "compatible").next().unwrap_or_default();
            let place = places.next().unwrap_or(usize::MAX);
            let cpu = Cpu {
                mpidr,
                place,
                compatible,
            };
            if mpidr == boot {
                booted = Some(cpu);
            }
            if cpus.list.push(cpu).is_err() {
                cpus.ignored += 1;
            }
        }
        if cpus.list.is_empty() {
            return Err(BootError::NoCpu);
        }
        let booted = booted.ok_or(BootError::BootCpu(boot))?;
        match cpus.list.iter().position(|cpu| cpu.mpidr == boot) {
            Some(index) => cpus.list[..=index].rotate_right(1),
            None => {
                // The boot CPU is beyond the list, and takes the place of the last CPU in it.
                cpus.list.rotate_right(1);
                cpus.list[0] = booted;
            }
        }
        Ok(cpus)
    }
}
