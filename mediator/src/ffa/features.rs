// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `FFA_FEATURES`: which functions a guest has (DEN0077A issue J, 13.3).

use super::buffers::MAX_PAGES;
use super::notifications::NOTIFICATION_PENDING_SGI;
use ffa_proto::Function;
use ffa_proto::Version;
use ffa_proto::call::{FeatureId, FeatureQuery, Features, FeaturesAnswer};

/// The functions that a guest can call, and the answers that it can get.
const FUNCTIONS: [Function; 17] = [
    Function::Error,
    Function::Success,
    Function::Version,
    Function::Features,
    Function::RxRelease,
    Function::RxtxMap,
    Function::RxtxUnmap,
    Function::PartitionInfoGet,
    Function::PartitionInfoGetRegs,
    Function::IdGet,
    Function::SpmIdGet,
    Function::MsgSendDirectReq,
    Function::MsgSendDirectResp,
    // Descriptors come in the TX buffer alone: the answer's bit 0 is clear.
    Function::MemShare,
    Function::MemReclaim,
    Function::MemFragTx,
    Function::MemFragRx,
];

/// The functions that a guest has with notifications.
const NOTIFICATIONS: [Function; 4] = [
    Function::NotificationBind,
    Function::NotificationUnbind,
    Function::NotificationGet,
    Function::NotificationInfoGet,
];

/// What a guest gets from the framework, and does not call.
const ANSWERS: [Function; 4] = [
    Function::Error,
    Function::Success,
    Function::MsgSendDirectResp,
    Function::MemFragRx,
];

/// Returns whether a guest can call a function.
pub(super) fn can_call(function: Function, notifies: bool) -> bool {
    is_there(function, notifies) && !ANSWERS.contains(&function)
}

fn is_there(function: Function, notifies: bool) -> bool {
    FUNCTIONS.contains(&function) || notifies && NOTIFICATIONS.contains(&function)
}

/// w2 for `FFA_RXTX_MAP`, bits 1:0: buffers are 64 KiB at least. Linux takes this size, and then needs no fragments to
/// share a buffer of 4,000 ranges. Smaller ones are accepted all the same.
const BUFFERS_OF_64_KIB: u32 = 1;

/// Returns the answer, or `None` for `NOT_SUPPORTED`.
pub(super) fn answer(query: &Features, version: Version, notifies: bool) -> Option<FeaturesAnswer> {
    if query.query == FeatureQuery::Feature(FeatureId::NOTIFICATION_PENDING_INTERRUPT) && notifies {
        let w2 = NOTIFICATION_PENDING_SGI;
        return Some(FeaturesAnswer { w2, w3: 0 });
    }
    let FeatureQuery::Function(id) = query.query else {
        return None;
    };
    let function = id.function().filter(|_| id.is_defined(version))?;
    // No function here has a property by which the caller says how it uses it, and then w2 is SBZ: ignored.
    if !is_there(function, notifies) {
        return None;
    }
    let w2 = match function {
        // From 1.2 on bits 31:16 have the most pages; zero is no bound.
        Function::RxtxMap if version >= Version::V1_2 => {
            u32::from(MAX_PAGES) << 16 | BUFFERS_OF_64_KIB
        }
        Function::RxtxMap => BUFFERS_OF_64_KIB,
        _ => 0,
    };
    Some(FeaturesAnswer { w2, w3: 0 })
}
