// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Properties of all registers, and a second opinion.

mod arm_ffa;
mod registers;
