//! The consoles of all guests and of the hypervisor, over one UART.

pub mod line;
pub mod log;
pub mod mux;
#[cfg(target_os = "none")]
pub mod output;
pub mod ring;
