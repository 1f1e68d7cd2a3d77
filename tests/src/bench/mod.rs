//! The bench: what calls cost in instructions, on the bare machine (the floor, which no mediator can beat),
//! under Postern, and under another hypervisor. QEMU counts instructions on one CPU, so the figures repeat.
//!
//! * [`rows`]: what is measured, and what is to be reached.
//! * [`place`]: boots the program in one place and takes down what it says.
//! * [`table`]: the figures as a table.
//! * [`profile`]: where the instructions of a call go.

pub mod place;
pub mod profile;
pub mod rows;
pub mod table;
