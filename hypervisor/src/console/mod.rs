//! The consoles of all guests and of the hypervisor, over one UART.

#[cfg(target_os = "none")]
pub mod output;
pub mod ring;
