// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The layout of a guest's physical address space, which is the same in every VM.

use mediator::addr::Ipa;
use postern_base::gic::GicVersion;
use postern_base::range::IpaRange;

/// The address of the GIC distributor's registers.
pub const DISTRIBUTOR: Ipa = Ipa::new(0x0800_0000);
/// The address of a GICv2's CPU interface, as on QEMU's `virt` machine: the page of the virtual CPU interface, which the
/// guest accesses without a trap, and one for GICC_DIR, which traps.
pub const CPU_INTERFACE: Ipa = Ipa::new(0x0801_0000);
/// The size of the CPU interface's registers in bytes.
pub const CPU_INTERFACE_BYTES: u64 = 0x2000;
/// The address of the page of the CPU interface that traps.
const CPU_INTERFACE_SECOND_PAGE: Ipa = Ipa::new(0x0801_1000);
/// The address of the redistributors' registers, those of vCPU 0 first.
pub const REDISTRIBUTORS: Ipa = Ipa::new(0x080a_0000);
/// The size of one vCPU's redistributor in bytes: its RD_base and SGI_base frames (IHI 0069H
/// 12.10).
pub const REDISTRIBUTOR_BYTES: u64 = 0x2_0000;
/// The address of the PL011's registers.
pub const UART: Ipa = Ipa::new(0x0900_0000);
/// The size of the PL011's registers in bytes.
pub const UART_BYTES: u64 = 0x1000;
/// The PL011's interrupt: SPI 1, INTID 33.
pub const UART_SPI: u32 = 1;
/// The address of the registers of a privileged VM's second PL011, which is connected to the
/// monitor. Their size is [`UART_BYTES`].
pub const MONITOR_UART: Ipa = Ipa::new(0x0901_0000);
/// The second PL011's interrupt: SPI 3, INTID 35.
pub const MONITOR_UART_SPI: u32 = 3;
/// The address of the registers of the PL031, which exists if the machine has a clock from which
/// it is set.
pub const RTC: Ipa = Ipa::new(0x0902_0000);
/// The size of the PL031's registers in bytes.
pub const RTC_BYTES: u64 = 0x1000;
/// The PL031's interrupt: SPI 4, INTID 36.
pub const RTC_SPI: u32 = 4;
/// The address of the registers of the PL061 to which the power button is connected.
pub const GPIO: Ipa = Ipa::new(0x0903_0000);
/// The size of the PL061's registers in bytes.
pub const GPIO_BYTES: u64 = 0x1000;
/// The PL061's interrupt: SPI 7, INTID 39, as on QEMU's `virt` machine.
pub const GPIO_SPI: u32 = 7;
/// The address of the control frame of the watchdog, which exists if the VM's description asks for
/// one.
pub const WATCHDOG_CONTROL: Ipa = Ipa::new(0x090d_0000);
/// The address of the watchdog's refresh frame.
pub const WATCHDOG_REFRESH: Ipa = Ipa::new(0x090e_0000);
/// The size of each of the watchdog's frames in bytes.
pub const WATCHDOG_FRAME_BYTES: u64 = 0x1000;
/// The watchdog's interrupt, WS0: SPI 9, INTID 41.
pub const WATCHDOG_SPI: u32 = 9;
/// OP-TEE's interrupt for asynchronous notifications: SPI 2, INTID 34.
pub const TEE_SPI: u32 = 2;
/// The address of the registers of the first virtio device, as on QEMU's `virt` machine. The others follow at once.
pub const VIRTIO: Ipa = Ipa::new(0x0a00_0000);
/// The size of a virtio device's registers in bytes.
pub const VIRTIO_BYTES: u64 = 0x200;
/// The most virtio devices of a guest.
pub const MAX_VIRTIO: usize = 16;
/// The first virtio device's interrupt: SPI 16, INTID 48, as on QEMU's `virt` machine. The others' follow.
pub const VIRTIO_SPI: u32 = 16;
/// The EL1 physical timer's interrupt: PPI 14, INTID 30, as in the Arm Base System Architecture.
pub const PHYSICAL_TIMER_PPI: u32 = 14;
/// The start of RAM: 4 GiB, where the machines on which Postern is tested have no RAM, so that an
/// address that was not translated causes a fault. `frames` ensures the same on larger machines.
pub const RAM: Ipa = Ipa::new(0x1_0000_0000);
/// The start of RAM in a VM with devices that access memory, of which some reach 32 bits of address only.
pub const LOW_RAM: Ipa = Ipa::new(0x4000_0000);

/// Returns the size of the distributor's registers in bytes (IHI 0048B.b 4.1.2, IHI 0069H 12.8).
#[inline]
pub const fn distributor_bytes(gic: GicVersion) -> u64 {
    match gic {
        GicVersion::V2 => 0x1000,
        GicVersion::V3 => 0x1_0000,
    }
}

/// An interrupt that Postern drives in a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpiSource {
    /// The console.
    Uart,
    /// OP-TEE's notifications.
    Tee,
    /// The monitor's UART.
    MonitorUart,
    /// The real-time clock.
    Rtc,
    /// The GPIO controller with the power button.
    Gpio,
    /// The watchdog.
    Watchdog,
}

/// The number of [`SpiSource`]s.
const SPI_SOURCES: usize = 6;
/// The SPIs from which an interrupt gets another number: behind those of Postern's devices.
const SPARE_SPIS: core::ops::Range<u32> = 64..256;

/// The numbers of the SPIs that Postern drives in one guest.
///
/// A device that the guest has for itself keeps the machine's number. Where that is the usual one of an interrupt here,
/// this interrupt has another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spis {
    sources: [u32; SPI_SOURCES],
    virtio: [u32; MAX_VIRTIO],
}

impl Spis {
    /// The usual numbers.
    pub const USUAL: Self = Self {
        // In the order of `SpiSource`.
        sources: [
            UART_SPI,
            TEE_SPI,
            MONITOR_UART_SPI,
            RTC_SPI,
            GPIO_SPI,
            WATCHDOG_SPI,
        ],
        virtio: {
            let mut virtio = [VIRTIO_SPI; MAX_VIRTIO];
            let mut slot = 0;
            while slot < MAX_VIRTIO {
                virtio[slot] += slot as u32;
                slot += 1;
            }
            virtio
        },
    };

    /// Returns the numbers in a guest for whose own devices `is_taken` returns true.
    pub fn beside(is_taken: impl Fn(u32) -> bool) -> Self {
        let mut spare = SPARE_SPIS.filter(|spi| !is_taken(*spi));
        // A guest whose devices take all of them keeps the usual one, and the device shares it.
        let mut number = |usual| match is_taken(usual) {
            true => spare.next().unwrap_or(usual),
            false => usual,
        };
        Self {
            sources: Self::USUAL.sources.map(&mut number),
            virtio: Self::USUAL.virtio.map(number),
        }
    }

    /// Returns the number of a source's SPI.
    #[inline]
    pub const fn of(&self, source: SpiSource) -> u32 {
        self.sources[source as usize]
    }

    /// Returns the number of the SPI of the virtio device in this slot, below [`MAX_VIRTIO`].
    pub fn virtio(&self, slot: usize) -> Option<u32> {
        self.virtio.get(slot).copied()
    }
}

/// Returns the ranges of all registers that a guest with this GIC does not have for itself: emulated, or of the GIC.
pub fn emulated(gic: GicVersion, is_privileged: bool) -> impl Iterator<Item = IpaRange> {
    let private = match gic {
        GicVersion::V2 => (CPU_INTERFACE, CPU_INTERFACE_BYTES),
        GicVersion::V3 => (
            REDISTRIBUTORS,
            REDISTRIBUTOR_BYTES * postern_base::ids::MAX_VCPUS as u64,
        ),
    };
    let all = [
        Some((DISTRIBUTOR, distributor_bytes(gic))),
        Some(private),
        Some((UART, UART_BYTES)),
        is_privileged.then_some((MONITOR_UART, UART_BYTES)),
        Some((RTC, RTC_BYTES)),
        Some((GPIO, GPIO_BYTES)),
        Some((WATCHDOG_CONTROL, WATCHDOG_FRAME_BYTES)),
        Some((WATCHDOG_REFRESH, WATCHDOG_FRAME_BYTES)),
        Some((VIRTIO, VIRTIO_BYTES * MAX_VIRTIO as u64)),
    ];
    let all = all.into_iter().flatten();
    all.map(|(start, bytes)| IpaRange { start, bytes })
}

/// A device that a guest can access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Device {
    /// GICD_*.
    Distributor,
    /// GICR_* of all vCPUs, in a GICv3.
    Redistributors,
    /// The second page of GICC_*, in a GICv2.
    CpuInterface,
    /// The console.
    Uart,
    /// The monitor's UART, in privileged VMs only.
    MonitorUart,
    /// The GPIO controller with the power button.
    Gpio,
    /// The real-time clock.
    Rtc,
    /// All virtio devices, [`VIRTIO_BYTES`] for each.
    Virtio,
    /// The watchdog, in VMs that have one: its control frame.
    WatchdogControl,
    /// The watchdog's refresh frame.
    WatchdogRefresh,
}

/// Returns the device at `ipa` and the offset of `ipa` in its registers, in bytes, in a guest with this GIC.
#[inline]
pub fn device_at(ipa: Ipa, gic: GicVersion) -> Option<(Device, u64)> {
    let at = |device, start: Ipa, bytes: u64| {
        let offset = ipa.get().wrapping_sub(start.get());
        (offset < bytes).then_some((device, offset))
    };
    let private = || match gic {
        GicVersion::V2 => at(
            Device::CpuInterface,
            CPU_INTERFACE_SECOND_PAGE,
            CPU_INTERFACE_BYTES / 2,
        ),
        GicVersion::V3 => {
            let all = REDISTRIBUTOR_BYTES * postern_base::ids::MAX_VCPUS as u64;
            at(Device::Redistributors, REDISTRIBUTORS, all)
        }
    };
    // The most frequent first.
    at(Device::Uart, UART, UART_BYTES)
        .or_else(|| at(Device::Virtio, VIRTIO, VIRTIO_BYTES * MAX_VIRTIO as u64))
        .or_else(|| at(Device::Distributor, DISTRIBUTOR, distributor_bytes(gic)))
        .or_else(private)
        .or_else(|| at(Device::MonitorUart, MONITOR_UART, UART_BYTES))
        .or_else(|| at(Device::Gpio, GPIO, GPIO_BYTES))
        .or_else(|| at(Device::Rtc, RTC, RTC_BYTES))
        .or_else(|| {
            let control = Device::WatchdogControl;
            at(control, WATCHDOG_CONTROL, WATCHDOG_FRAME_BYTES)
        })
        .or_else(|| {
            let refresh = Device::WatchdogRefresh;
            at(refresh, WATCHDOG_REFRESH, WATCHDOG_FRAME_BYTES)
        })
}
