// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The TEE: what the mediator needs of this hypervisor, and OP-TEE's notifications.

pub mod host;
pub mod notification;
pub mod secure_entries;
