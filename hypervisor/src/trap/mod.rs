//! An exception taken from a guest, what the guest wanted, and who answers.

pub mod decode;
#[cfg(target_os = "none")]
pub mod guest_exception;
#[cfg(target_os = "none")]
pub mod handler;
pub mod ids;
pub mod inject;
pub mod irq;
#[cfg(target_os = "none")]
pub mod mmio;
pub mod registers;
pub mod serror;
pub mod sysreg;
