// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The device tree with which a guest boots, and the guest's memory map ([`layout`]).
//!
//! The tree is written from scratch: a guest sees the devices that Postern emulates, and those of the machine that it
//! has for itself.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod layout;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use layout::{SpiSource, Spis};
use mediator::addr::Ipa;

use postern_base::gic::GicVersion;
use postern_base::range::IpaRange;
use postern_devices::pl061::POWER_LINE;
use postern_flat_tree::FlatTree;

/// The active-high, level-sensitive trigger in an `interrupts` entry.
const LEVEL_HIGH: u32 = 4;
/// The rising-edge trigger in an `interrupts` entry.
const EDGE_RISING: u32 = 1;
/// The flags of a line in a `gpios` entry.
const ACTIVE_HIGH: u32 = 0;
/// The interrupt types in an `interrupts` entry.
const SPI: u32 = 0;
const PPI: u32 = 1;

/// The phandle of the interrupt controller, which has no address cells, if [`GuestTree::gic_phandle`] is no other. The
/// same as Xen's `GUEST_PHANDLE_GIC`. Postern's other phandles are above it, those of partial device trees below.
pub const GIC_PHANDLE: u32 = 65000;
/// The phandle of the fixed clock of 24 MHz.
pub const CLOCK_PHANDLE: u32 = GIC_PHANDLE + 1;
const GPIO_PHANDLE: u32 = GIC_PHANDLE + 2;
/// The highest phandle: each level of cache has one from here on.
const CACHE_PHANDLE: u32 = GIC_PHANDLE + 3;

/// The names of the aliases of emulated devices.
pub const ALIASES: [&str; 2] = ["serial0", "serial1"];

/// `KEY_POWER` in Linux's input event codes.
const KEY_POWER: u32 = 116;

/// The description of OP-TEE in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestTee {
    /// The SPI number of the interrupt for asynchronous notifications, if the guest has
    /// notifications. Linux rejects an OP-TEE that has notifications and no interrupt.
    pub notification: Option<u32>,
}

/// The parameters of a guest's tree.
#[derive(Clone, Debug)]
pub struct GuestTree<'a> {
    /// The number of vCPUs, at least one. The `reg` of each is its index, which is its Aff0.
    pub vcpus: usize,
    /// The `compatible` string of each CPU: that of the physical CPU, or `arm,armv8`.
    pub cpu_compatible: &'a str,
    /// The number of unified cache levels after the first level, as in the guest's `CLIDR_EL1` (1
    /// on a Cortex-A72). Linux warns if the tree has fewer.
    pub unified_cache_levels: u32,
    /// The guest's whole RAM, which does not wrap.
    pub memory: IpaRange,
    /// The kernel's command line.
    pub bootargs: &'a str,
    /// The range of the initial RAM disk, if the guest has one. It is inside the RAM.
    pub ramdisk: Option<IpaRange>,
    /// The GIC version that the guest sees.
    pub gic: GicVersion,
    /// The GIC's phandle.
    pub gic_phandle: u32,
    /// Whether the guest has the second UART, which is connected to the hypervisor's monitor.
    pub privileged: bool,
    /// Whether the guest has a real-time clock.
    pub rtc: bool,
    /// The number of virtio devices, at most [`layout::MAX_VIRTIO`].
    pub virtio: usize,
    /// Whether the guest has a watchdog.
    pub watchdog: bool,
    /// The generic timer's frequency in hertz, if `CNTFRQ_EL0` does not have it.
    pub timer_frequency: Option<u32>,
    /// The description of OP-TEE, if the guest may use it.
    pub tee: Option<GuestTee>,
    /// The numbers of the SPIs that Postern drives.
    pub spis: Spis,
    /// Random bits for the kernel's address layout, if a source for them exists.
    pub kaslr_seed: Option<u64>,
    /// Random bytes for the kernel's random number generator. If empty, the tree has none.
    pub rng_seed: &'a [u8],
}

impl GuestTree<'_> {
    /// Returns the tree as a flattened device tree. `devices` adds the nodes of the devices of the machine that the guest
    /// has for itself to the root, and `other_aliases` adds aliases other than [`ALIASES`].
    pub fn write(
        &self,
        devices: impl FnOnce(&mut FlatTree),
        other_aliases: impl FnOnce(&mut FlatTree),
    ) -> Vec<u8> {
        FlatTree::write(|root| {
            root.text("model", "postern,vm");
            root.text("compatible", "postern,vm");
            root.cells("interrupt-parent", &[self.gic_phandle]);
            address_cells(root, 2, 2);
            // Before the seeds, of which no copy stays in freed memory.
            root.beside(devices);
            root.node("aliases", |aliases| {
                aliases.text(ALIASES[0], &uart_path(layout::UART));
                if self.privileged {
                    aliases.text(ALIASES[1], &uart_path(layout::MONITOR_UART));
                }
                aliases.beside(other_aliases);
            });
            root.node("chosen", |chosen| self.chosen(chosen));
            root.node(&format!("memory@{:x}", self.memory.start.get()), |memory| {
                memory.text("device_type", "memory");
                reg(memory, &[(self.memory.start, self.memory.bytes)]);
            });
            root.node("cpus", |cpus| self.cpus(cpus));
            root.node("psci", |psci| {
                psci.texts("compatible", &["arm,psci-1.0", "arm,psci-0.2"]);
                psci.text("method", "smc");
            });
            root.node("timer", |timer| {
                timer.text("compatible", "arm,armv8-timer");
                let flags = self.private_flags() | LEVEL_HIGH;
                let ppis = [13, layout::PHYSICAL_TIMER_PPI, 11, 10].map(|ppi| [PPI, ppi, flags]);
                timer.cells("interrupts", ppis.as_flattened());
                timer.flag("always-on");
                if let Some(hertz) = self.timer_frequency {
                    timer.cells("clock-frequency", &[hertz]);
                }
            });
            self.interrupt_controller(root);
            root.node("apb-pclk", |clock| {
                clock.text("compatible", "fixed-clock");
                clock.cells("phandle", &[CLOCK_PHANDLE]);
                clock.cells("#clock-cells", &[0]);
                clock.cells("clock-frequency", &[24_000_000]);
                clock.text("clock-output-names", "clk24mhz");
            });
            uart(root, layout::UART, self.spis.of(SpiSource::Uart));
            if self.privileged {
                let spi = self.spis.of(SpiSource::MonitorUart);
                uart(root, layout::MONITOR_UART, spi);
            }
            power_button(root, self.spis.of(SpiSource::Gpio));
            if self.rtc {
                rtc(root, self.spis.of(SpiSource::Rtc));
            }
            for slot in 0..self.virtio {
                virtio(root, slot, self.spis);
            }
            if self.watchdog {
                watchdog(root, self.spis.of(SpiSource::Watchdog));
            }
            if let Some(tee) = self.tee {
                root.node("firmware", |firmware| {
                    firmware.node("optee", |optee| {
                        optee.text("compatible", "linaro,optee-tz");
                        optee.text("method", "smc");
                        if let Some(spi) = tee.notification {
                            optee.cells("interrupts", &[SPI, spi, EDGE_RISING]);
                        }
                    });
                });
            }
        })
    }

    fn chosen(&self, chosen: &mut FlatTree) {
        chosen.text("stdout-path", "serial0:115200n8");
        chosen.text("bootargs", self.bootargs);
        if let Some(ramdisk) = self.ramdisk {
            let start = ramdisk.start.get();
            chosen.wide("linux,initrd-start", start);
            chosen.wide("linux,initrd-end", start + ramdisk.bytes);
        }
        if let Some(seed) = self.kaslr_seed {
            chosen.wide("kaslr-seed", seed);
        }
        if !self.rng_seed.is_empty() {
            chosen.property("rng-seed", self.rng_seed);
        }
    }

    /// Returns the CPUs that have a private interrupt, as the GICv2's binding wants them in the interrupt's flags.
    const fn private_flags(&self) -> u32 {
        match self.gic {
            GicVersion::V2 => ((1 << self.vcpus) - 1) << 8,
            GicVersion::V3 => 0,
        }
    }

    fn interrupt_controller(&self, root: &mut FlatTree) {
        let name = format!("interrupt-controller@{:x}", layout::DISTRIBUTOR.get());
        root.node(&name, |gic| {
            gic.text(
                "compatible",
                match self.gic {
                    GicVersion::V2 => "arm,gic-400",
                    GicVersion::V3 => "arm,gic-v3",
                },
            );
            gic.cells("phandle", &[self.gic_phandle]);
            gic.flag("interrupt-controller");
            gic.cells("#interrupt-cells", &[3]);
            gic.cells("#address-cells", &[0]);
            let private = match self.gic {
                GicVersion::V2 => (layout::CPU_INTERFACE, layout::CPU_INTERFACE_BYTES),
                GicVersion::V3 => (
                    layout::REDISTRIBUTORS,
                    layout::REDISTRIBUTOR_BYTES * self.vcpus as u64,
                ),
            };
            let distributor = layout::distributor_bytes(self.gic);
            reg(gic, &[(layout::DISTRIBUTOR, distributor), private]);
        });
    }

    fn cpus(&self, cpus: &mut FlatTree) {
        address_cells(cpus, 1, 0);
        for index in 0..self.vcpus {
            cpus.node(&format!("cpu@{index:x}"), |cpu| {
                cpu.text("device_type", "cpu");
                cpu.text("compatible", self.cpu_compatible);
                cpu.cells("reg", &[index as u32]);
                cpu.text("enable-method", "psci");
                if self.unified_cache_levels > 0 {
                    cpu.cells("next-level-cache", &[CACHE_PHANDLE]);
                }
            });
        }
        for behind in 0..self.unified_cache_levels {
            let level = behind + 2;
            cpus.node(&format!("l{level}-cache"), |cache| {
                cache.text("compatible", "cache");
                cache.cells("cache-level", &[level]);
                cache.flag("cache-unified");
                cache.cells("phandle", &[CACHE_PHANDLE + behind]);
                if behind + 1 < self.unified_cache_levels {
                    cache.cells("next-level-cache", &[CACHE_PHANDLE + behind + 1]);
                }
            });
        }
    }
}

fn rtc(root: &mut FlatTree, spi: u32) {
    root.node(&format!("pl031@{:x}", layout::RTC.get()), |rtc| {
        rtc.texts("compatible", &["arm,pl031", "arm,primecell"]);
        reg(rtc, &[(layout::RTC, layout::RTC_BYTES)]);
        rtc.cells("interrupts", &[SPI, spi, LEVEL_HIGH]);
        rtc.cells("clocks", &[CLOCK_PHANDLE]);
        rtc.text("clock-names", "apb_pclk");
    });
}

/// Describes the virtio device in this slot.
fn virtio(root: &mut FlatTree, slot: usize, spis: Spis) {
    let Some(spi) = spis.virtio(slot) else {
        return;
    };
    let at = Ipa::new(layout::VIRTIO.get() + layout::VIRTIO_BYTES * slot as u64);
    root.node(&format!("virtio_mmio@{:x}", at.get()), |device| {
        device.text("compatible", "virtio,mmio");
        reg(device, &[(at, layout::VIRTIO_BYTES)]);
        // As in QEMU's machines. The end of a level-sensitive interrupt, and the acknowledgement in the device before it,
        // would change list registers.
        device.cells("interrupts", &[SPI, spi, EDGE_RISING]);
        device.flag("dma-coherent");
    });
}

fn watchdog(root: &mut FlatTree, spi: u32) {
    let control = layout::WATCHDOG_CONTROL;
    root.node(&format!("watchdog@{:x}", control.get()), |watchdog| {
        watchdog.text("compatible", "arm,sbsa-gwdt");
        let frames = [control, layout::WATCHDOG_REFRESH];
        reg(
            watchdog,
            &frames.map(|frame| (frame, layout::WATCHDOG_FRAME_BYTES)),
        );
        watchdog.cells("interrupts", &[SPI, spi, LEVEL_HIGH]);
    });
}

fn power_button(root: &mut FlatTree, spi: u32) {
    root.node(&format!("pl061@{:x}", layout::GPIO.get()), |gpio| {
        gpio.texts("compatible", &["arm,pl061", "arm,primecell"]);
        reg(gpio, &[(layout::GPIO, layout::GPIO_BYTES)]);
        gpio.cells("phandle", &[GPIO_PHANDLE]);
        gpio.cells("interrupts", &[SPI, spi, LEVEL_HIGH]);
        gpio.cells("clocks", &[CLOCK_PHANDLE]);
        gpio.text("clock-names", "apb_pclk");
        gpio.flag("gpio-controller");
        gpio.cells("#gpio-cells", &[2]);
    });
    root.node("gpio-keys", |keys| {
        keys.text("compatible", "gpio-keys");
        keys.node("poweroff", |button| {
            button.text("label", "GPIO Key Poweroff");
            button.cells("linux,code", &[KEY_POWER]);
            button.cells("gpios", &[GPIO_PHANDLE, POWER_LINE, ACTIVE_HIGH]);
        });
    });
}

fn uart(root: &mut FlatTree, at: Ipa, spi: u32) {
    // Without the slash.
    root.node(uart_path(at).trim_start_matches('/'), |uart| {
        uart.texts("compatible", &["arm,pl011", "arm,primecell"]);
        reg(uart, &[(at, layout::UART_BYTES)]);
        uart.cells("interrupts", &[SPI, spi, LEVEL_HIGH]);
        // Linux's PrimeCell bus requires a clock of each of these names before it probes.
        uart.cells("clocks", &[CLOCK_PHANDLE, CLOCK_PHANDLE]);
        uart.texts("clock-names", &["uartclk", "apb_pclk"]);
    });
}

fn uart_path(at: Ipa) -> String {
    format!("/pl011@{:x}", at.get())
}

fn address_cells(node: &mut FlatTree, address: u32, size: u32) {
    node.cells("#address-cells", &[address]);
    node.cells("#size-cells", &[size]);
}

/// Sets `reg` with two cells each for address and size.
fn reg(node: &mut FlatTree, ranges: &[(Ipa, u64)]) {
    let mut value = Vec::new();
    for (start, bytes) in ranges {
        value.extend_from_slice(&start.get().to_be_bytes());
        value.extend_from_slice(&bytes.to_be_bytes());
    }
    node.property("reg", &value);
}

#[cfg(test)]
mod tests;
