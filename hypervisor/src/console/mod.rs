//! The consoles of all guests and of the hypervisor, over one UART.

#[cfg(target_os = "none")]
pub mod guest;
#[cfg(target_os = "none")]
pub mod input;
#[cfg(target_os = "none")]
pub mod monitor;
#[cfg(target_os = "none")]
pub mod output;
pub mod ring;
pub mod line;
pub mod log;
pub mod mux;
