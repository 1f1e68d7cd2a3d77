//! The device tree that a guest boots from.
//!
//! It is written from nothing: a guest sees the devices that Postern emulates and no others.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use dtoolkit::ToPropertyValue;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use mediator::addr::Ipa;

use super::layout;
use crate::devices::pl061::POWER_LINE;
pub use crate::range::IpaRange;

/// The level-sensitive, active-high trigger in an `interrupts` entry.
const LEVEL_HIGH: u32 = 4;
/// The edge trigger in an `interrupts` entry.
const EDGE_RISING: u32 = 1;
/// The flags of a line in a `gpios` entry.
const ACTIVE_HIGH: u32 = 0;
/// Kinds in an `interrupts` entry.
const SPI: u32 = 0;
const PPI: u32 = 1;

/// The phandles that nodes refer to each other by.
const GIC_PHANDLE: u32 = 1;
const CLOCK_PHANDLE: u32 = 2;
const CACHE_PHANDLE: u32 = 3;
/// The last one, since each level of cache takes one.
const GPIO_PHANDLE: u32 = 0x100;

/// `KEY_POWER` of Linux's input event codes.
const KEY_POWER: u32 = 116;

/// What the tree tells about OP-TEE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestTee {
    /// The number of the SPI that announces asynchronous notifications, when the guest is told that there are
    /// any: Linux refuses an OP-TEE with notifications and no interrupt.
    pub notification: Option<u32>,
}

/// What is different from one guest's tree to the next.
#[derive(Clone, Debug)]
pub struct GuestTree<'a> {
    /// vCPUs, at least one; the `reg` of each is its number, its Aff0.
    pub vcpus: usize,
    /// The `compatible` string of a CPU: the physical one's, or `arm,armv8`.
    pub cpu_compatible: &'a str,
    /// Levels of unified cache behind the first level, as `CLIDR_EL1` tells the guest (1 on a
    /// Cortex-A72). Linux warns when the tree has fewer.
    pub unified_cache_levels: u32,
    /// All of its RAM, which does not wrap.
    pub memory: IpaRange,
    /// The kernel's command line.
    pub bootargs: &'a str,
    /// Where its initial RAM disk is, if it has one; inside the RAM.
    pub ramdisk: Option<IpaRange>,
    /// Whether it has the second UART, with the hypervisor's monitor behind it.
    pub privileged: bool,
    /// OP-TEE, if it has one.
    pub tee: Option<GuestTee>,
    /// Random bytes for the kernel's address layout, if there is a source for them.
    pub kaslr_seed: Option<u64>,
    /// Random bytes for the kernel's random generator; none if empty.
    pub rng_seed: &'a [u8],
}

impl GuestTree<'_> {
    /// The tree as a flattened device tree.
    pub fn write(&self) -> Vec<u8> {
        let mut tree = DeviceTree::new();
        let cells = |node: &mut DeviceTreeNode, address: u32, size: u32| {
            set(node, "#address-cells", address);
            set(node, "#size-cells", size);
        };
        let root = &mut tree.root;
        set(root, "model", "postern,vm");
        set(root, "compatible", "postern,vm");
        set(root, "interrupt-parent", GIC_PHANDLE);
        cells(root, 2, 2);
        let aliases = child(root, "aliases");
        set(aliases, "serial0", uart_path(layout::UART).as_str());
        if self.privileged {
            set(aliases, "serial1", uart_path(layout::MANAGER).as_str());
        }

        let chosen = child(root, "chosen");
        set(chosen, "stdout-path", "serial0:115200n8");
        set(chosen, "bootargs", self.bootargs);
        if let Some(ramdisk) = self.ramdisk {
            set(chosen, "linux,initrd-start", ramdisk.start.get());
            set(
                chosen,
                "linux,initrd-end",
                ramdisk.start.get() + ramdisk.bytes,
            );
        }
        if let Some(seed) = self.kaslr_seed {
            set(chosen, "kaslr-seed", seed);
        }
        if !self.rng_seed.is_empty() {
            set(chosen, "rng-seed", self.rng_seed);
        }

        let memory = child(root, &format!("memory@{:x}", self.memory.start.get()));
        set(memory, "device_type", "memory");
        reg(memory, &[(self.memory.start, self.memory.bytes)]);

        let cpus = child(root, "cpus");
        cells(cpus, 1, 0);
        self.cpus(cpus);

        let psci = child(root, "psci");
        set(
            psci,
            "compatible",
            ["arm,psci-1.0", "arm,psci-0.2"].as_slice(),
        );
        set(psci, "method", "smc");

        let timer = child(root, "timer");
        set(timer, "compatible", "arm,armv8-timer");
        let ppis = [13, 14, 11, 10].map(|ppi| [PPI, ppi, LEVEL_HIGH]);
        set(timer, "interrupts", ppis.as_flattened());
        set(timer, "always-on", [0_u8; 0]);

        let gic = layout::DISTRIBUTOR.get();
        let gic = child(root, &format!("interrupt-controller@{gic:x}"));
        set(gic, "compatible", "arm,gic-v3");
        set(gic, "phandle", GIC_PHANDLE);
        set(gic, "interrupt-controller", [0_u8; 0]);
        set(gic, "#interrupt-cells", 3_u32);
        set(gic, "#address-cells", 0_u32);
        let redistributors = layout::REDISTRIBUTOR_BYTES * self.vcpus as u64;
        reg(
            gic,
            &[
                (layout::DISTRIBUTOR, layout::DISTRIBUTOR_BYTES),
                (layout::REDISTRIBUTORS, redistributors),
            ],
        );

        let clock = child(root, "apb-pclk");
        set(clock, "compatible", "fixed-clock");
        set(clock, "phandle", CLOCK_PHANDLE);
        set(clock, "#clock-cells", 0_u32);
        set(clock, "clock-frequency", 24_000_000_u32);
        set(clock, "clock-output-names", "clk24mhz");

        uart(root, layout::UART, layout::UART_SPI);
        if self.privileged {
            uart(root, layout::MANAGER, layout::MANAGER_SPI);
        }

        let name = format!("pl061@{:x}", layout::GPIO.get());
        let gpio = child(root, &name);
        set(
            gpio,
            "compatible",
            ["arm,pl061", "arm,primecell"].as_slice(),
        );
        reg(gpio, &[(layout::GPIO, layout::GPIO_BYTES)]);
        set(gpio, "phandle", GPIO_PHANDLE);
        set(gpio, "interrupts", [SPI, layout::GPIO_SPI, LEVEL_HIGH]);
        set(gpio, "clocks", [CLOCK_PHANDLE]);
        set(gpio, "clock-names", "apb_pclk");
        set(gpio, "gpio-controller", [0_u8; 0]);
        set(gpio, "#gpio-cells", 2_u32);

        let keys = child(root, "gpio-keys");
        set(keys, "compatible", "gpio-keys");
        let button = child(keys, "poweroff");
        set(button, "label", "GPIO Key Poweroff");
        set(button, "linux,code", KEY_POWER);
        set(button, "gpios", [GPIO_PHANDLE, POWER_LINE, ACTIVE_HIGH]);

        if let Some(tee) = self.tee {
            let optee = child(child(root, "firmware"), "optee");
            set(optee, "compatible", "linaro,optee-tz");
            set(optee, "method", "smc");
            if let Some(spi) = tee.notification {
                set(optee, "interrupts", [SPI, spi, EDGE_RISING]);
            }
        }
        tree.to_dtb()
    }

    fn cpus(&self, cpus: &mut DeviceTreeNode) {
        for index in 0..self.vcpus {
            let cpu = child(cpus, &format!("cpu@{index:x}"));
            set(cpu, "device_type", "cpu");
            set(cpu, "compatible", self.cpu_compatible);
            set(cpu, "reg", index as u32);
            set(cpu, "enable-method", "psci");
            if self.unified_cache_levels > 0 {
                set(cpu, "next-level-cache", CACHE_PHANDLE);
            }
        }
        for behind in 0..self.unified_cache_levels {
            let level = behind + 2;
            let cache = child(cpus, &format!("l{level}-cache"));
            set(cache, "compatible", "cache");
            set(cache, "cache-level", level);
            set(cache, "cache-unified", [0_u8; 0]);
            set(cache, "phandle", CACHE_PHANDLE + behind);
            if behind + 1 < self.unified_cache_levels {
                set(cache, "next-level-cache", CACHE_PHANDLE + behind + 1);
            }
        }
    }
}

fn uart(root: &mut DeviceTreeNode, at: Ipa, spi: u32) {
    let uart = child(root, &uart_path(at)[1..]);
    set(
        uart,
        "compatible",
        ["arm,pl011", "arm,primecell"].as_slice(),
    );
    reg(uart, &[(at, layout::UART_BYTES)]);
    set(uart, "interrupts", [SPI, spi, LEVEL_HIGH]);
    // The primecell bus asks for a clock of each of these names before it probes.
    set(uart, "clocks", [CLOCK_PHANDLE, CLOCK_PHANDLE]);
    set(uart, "clock-names", ["uartclk", "apb_pclk"].as_slice());
}

fn uart_path(at: Ipa) -> String {
    format!("/pl011@{:x}", at.get())
}

/// The child with this name, new if there is none.
fn child<'n>(node: &'n mut DeviceTreeNode, name: &str) -> &'n mut DeviceTreeNode {
    node.add_child_mut(DeviceTreeNode::new_unchecked(name))
}

/// Sets a property; the names are all constants of this file.
fn set(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}

/// Sets `reg` with two cells each for address and size.
fn reg(node: &mut DeviceTreeNode, ranges: &[(Ipa, u64)]) {
    let value: Vec<u8> = ranges
        .iter()
        .flat_map(|(start, bytes)| [start.get(), *bytes])
        .flat_map(u64::to_be_bytes)
        .collect();
    set(node, "reg", value.as_slice());
}

#[cfg(test)]
mod tests;
