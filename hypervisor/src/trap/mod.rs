//! An exception taken from a guest, what the guest wanted, and who answers.

pub mod decode;
pub mod ids;
pub mod inject;
pub mod sysreg;
