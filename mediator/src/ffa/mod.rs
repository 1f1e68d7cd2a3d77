// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FF-A (DEN0077A), the second transport: what a VM is for the framework, and what it may ask of it.
//!
//! A guest's calls end here. What this folder answers by itself never reaches the SPMC, which acts for whoever is named in
//! a call: OP-TEE 4.10 checks neither the sender of a framework message nor the owner of a handle or a buffer.
//!
//! * `endpoint`: a VM as an endpoint of the framework, and the choice by function.
//! * `negotiation`: the version that a guest has agreed on.
//! * `buffers`: the guest's RX and TX buffers.
//! * `features`: which functions a guest has.
//! * `partitions`: the partitions that a guest sees.
//!
//! Direct requests, shared memory and notifications are not here yet: a guest hears `NOT_SUPPORTED`.

mod buffers;
mod endpoint;
mod features;
mod negotiation;
mod partitions;

pub use endpoint::{VmEndpoint, VmEndpointConfig};
