//! Helpers of the QEMU scenarios.
