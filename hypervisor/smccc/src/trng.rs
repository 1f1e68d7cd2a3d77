// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The firmware interface to true random numbers, version 1.0 (DEN0098).

use optee_proto::smc::FunctionId;

/// TRNG_VERSION.
pub const VERSION: FunctionId = FunctionId::new(0x8400_0050);
/// TRNG_FEATURES.
pub const FEATURES: FunctionId = FunctionId::new(0x8400_0051);
/// TRNG_GET_UUID.
pub const GET_UUID: FunctionId = FunctionId::new(0x8400_0052);
/// TRNG_RND, the SMC32 call.
pub const RND32: FunctionId = FunctionId::new(0x8400_0053);
/// TRNG_RND, the SMC64 call.
pub const RND64: FunctionId = FunctionId::new(0xc400_0053);

/// Version 1.0, as [`VERSION`] returns it. An error is less, as a signed number.
pub const VERSION_1_0: u32 = 0x1_0000;
/// The most bits that [`RND64`] gives.
pub const MAX_BITS_64: u64 = 192;

/// An argument is not one that the function has.
pub const INVALID_PARAMETERS: i32 = -2;
/// There are too few random bits now.
pub const NO_ENTROPY: i32 = -3;
