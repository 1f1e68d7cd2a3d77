// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where things are in a guest's physical address space: the same in every VM.

use mediator::addr::Ipa;

/// The GICv3 distributor's registers.
pub const DISTRIBUTOR: Ipa = Ipa::new(0x0800_0000);
/// Bytes of the distributor's registers.
pub const DISTRIBUTOR_BYTES: u64 = 0x1_0000;
/// The redistributors' registers, those of vCPU 0 first.
pub const REDISTRIBUTORS: Ipa = Ipa::new(0x080a_0000);
/// Bytes of one vCPU's redistributor: its RD_base and SGI_base frames (GICv3 IHI0069 12.10).
pub const REDISTRIBUTOR_BYTES: u64 = 0x2_0000;
/// The PL011's registers.
pub const UART: Ipa = Ipa::new(0x0900_0000);
/// Bytes of the PL011's registers.
pub const UART_BYTES: u64 = 0x1000;
/// The PL011's interrupt: SPI 1, INTID 33.
pub const UART_SPI: u32 = 1;
/// The registers of a privileged VM's second PL011, with the monitor behind it. The first's size.
pub const MONITOR_UART: Ipa = Ipa::new(0x0901_0000);
/// The second PL011's interrupt: SPI 3, INTID 35.
pub const MONITOR_UART_SPI: u32 = 3;
/// The registers of the PL031, where the machine has a clock to set it by.
pub const RTC: Ipa = Ipa::new(0x0902_0000);
/// Bytes of the PL031's registers.
pub const RTC_BYTES: u64 = 0x1000;
/// The PL031's interrupt: SPI 4, INTID 36.
pub const RTC_SPI: u32 = 4;
/// The registers of the PL061 that has the power button.
pub const GPIO: Ipa = Ipa::new(0x0903_0000);
/// Bytes of the PL061's registers.
pub const GPIO_BYTES: u64 = 0x1000;
/// The PL061's interrupt: SPI 7, INTID 39, as on QEMU's `virt` machine.
pub const GPIO_SPI: u32 = 7;
/// OP-TEE's interrupt for asynchronous notifications: SPI 2, INTID 34.
pub const TEE_SPI: u32 = 2;
/// The EL1 physical timer's interrupt: PPI 14, INTID 30, by the Arm base system architecture.
pub const PHYSICAL_TIMER_PPI: u32 = 14;
/// The start of RAM: at 4 GiB, where the machines that Postern is tested on have none, so that an
/// address that went untranslated is noticed. `frames` keeps it so on larger ones.
pub const RAM: Ipa = Ipa::new(0x1_0000_0000);

/// A device that a guest can reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Device {
    /// GICD_*.
    Distributor,
    /// GICR_*, of all vCPUs.
    Redistributors,
    /// The console.
    Uart,
    /// The monitor's UART, in privileged VMs only.
    MonitorUart,
    /// The power button.
    Gpio,
    /// The real-time clock.
    Rtc,
}

/// The device at `ipa`, and how many bytes into its registers that is.
#[inline]
pub fn device_at(ipa: Ipa) -> Option<(Device, u64)> {
    let within = |start: Ipa, bytes: u64| {
        let offset = ipa.get().checked_sub(start.get())?;
        (offset < bytes).then_some(offset)
    };
    let all_redistributors = REDISTRIBUTOR_BYTES * postern_base::ids::MAX_VCPUS as u64;
    [
        (Device::Uart, within(UART, UART_BYTES)),
        (Device::MonitorUart, within(MONITOR_UART, UART_BYTES)),
        (Device::Gpio, within(GPIO, GPIO_BYTES)),
        (Device::Rtc, within(RTC, RTC_BYTES)),
        (Device::Distributor, within(DISTRIBUTOR, DISTRIBUTOR_BYTES)),
        (
            Device::Redistributors,
            within(REDISTRIBUTORS, all_redistributors),
        ),
    ]
    .into_iter()
    .find_map(|(device, offset)| Some((device, offset?)))
}
