// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The TEE: the mediator's interface to this hypervisor, and OP-TEE's notifications.

pub mod exchange;
pub mod host;
pub mod notification;
pub mod secure_entries;
