//! Postern's hypervisor. Everything but `arch` compiles and is tested on the host.
#![cfg_attr(target_os = "none", no_std)]

pub mod console;
pub mod devices;
pub mod ids;
pub mod sched;
pub mod services;
pub mod trap;
