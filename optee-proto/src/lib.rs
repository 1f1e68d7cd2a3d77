//! The OP-TEE wire ABI.
#![no_std]
#![forbid(unsafe_code)]
