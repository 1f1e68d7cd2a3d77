//! The TEE mediator.
#![no_std]
#![forbid(unsafe_code)]

pub mod addr;
