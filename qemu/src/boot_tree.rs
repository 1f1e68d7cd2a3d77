//! The boot device tree.

/// The physical address from which on kernels and initramfs are loaded.
pub const MODULES: u64 = 0x4800_0000;
