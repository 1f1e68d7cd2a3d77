// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Properties of all registers and descriptors, and a second opinion.

mod arm_ffa;
mod memory;
mod registers;
