// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `FFA_FEATURES`, the RX and the TX buffer, and ids: DEN0077A issue J, chapter 13.

use crate::answer::{expect_success, success};
use crate::endpoint::EndpointId;
use crate::error::{AnswerError, ReservedBits};
use crate::function::{Function, FunctionId, Width};
use crate::registers::Registers;
use crate::version::Version;

/// A feature that is no function: DEN0077A issue E, `FFA_FEATURES`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct FeatureId(u8);

impl FeatureId {
    /// The interrupt that announces an endpoint's notifications: w2 of the answer is its INTID.
    pub const NOTIFICATION_PENDING_INTERRUPT: Self = Self(1);
    /// The interrupt that announces notifications of any endpoint: w2 of the answer is its INTID.
    pub const SCHEDULE_RECEIVER_INTERRUPT: Self = Self(2);
    /// The interrupt that asks a partition to return: w2 of the answer is its INTID.
    pub const MANAGED_EXIT_INTERRUPT: Self = Self(3);

    /// Returns the feature with this number.
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// The subject of a question about features.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FeatureQuery {
    /// Is this function implemented? It need not be one of the framework.
    Function(FunctionId),
    /// What is this feature's value?
    Feature(FeatureId),
}

/// `FFA_FEATURES`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// The subject.
    pub query: FeatureQuery,
    /// w2: what the caller says about its own use of the function.
    pub properties: u32,
}

/// The success of `FFA_FEATURES`: two words whose meaning depends on the subject.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FeaturesAnswer {
    /// w2.
    pub w2: u32,
    /// w3.
    pub w3: u32,
}

impl Features {
    pub(super) fn decode(call: &Registers) -> Result<Self, ReservedBits> {
        call.require_zero(3..=17)?;
        let w1 = call.w(1);
        let query = if w1 >> 31 == 1 {
            FeatureQuery::Function(FunctionId::from_x0(w1.into()))
        } else {
            call.require_zero_bits(1, !0xff)?;
            FeatureQuery::Feature(FeatureId(w1 as u8))
        };
        Ok(Self {
            query,
            properties: call.w(2),
        })
    }

    pub(super) fn encode(&self) -> Registers {
        let w1 = match self.query {
            FeatureQuery::Function(id) => id.get(),
            FeatureQuery::Feature(id) => id.0.into(),
        };
        Registers::new(Function::Features, Width::Smc32)
            .with(1, w1)
            .with(2, self.properties)
    }
}

impl FeaturesAnswer {
    /// Returns the answer as registers.
    pub fn encode(&self) -> Registers {
        success().with(2, self.w2).with(3, self.w3)
    }

    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// [`AnswerError::Refused`] for a feature that is not there, and others for what is no answer.
    pub fn read(answer: &Registers, version: Version) -> Result<Self, AnswerError> {
        let answer = expect_success(answer, version)?;
        answer.require_zero(4..=17)?;
        Ok(Self {
            w2: answer.w(2),
            w3: answer.w(3),
        })
    }
}

/// `FFA_RXTX_MAP`. The answer is [`crate::answer::success`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RxtxMap {
    /// The call's convention: addresses have 32 or 64 bits.
    pub width: Width,
    /// The address of the caller's TX buffer. Whether it is aligned has not been checked. SMC32 cuts it to 32 bits.
    pub tx: u64,
    /// The address of the caller's RX buffer.
    pub rx: u64,
    /// The size of each, in pages of 4 KiB, 0..=63.
    pub pages: u8,
}

impl RxtxMap {
    /// The largest number of pages that the call has bits for.
    pub const MAX_PAGES: u8 = 63;

    pub(super) fn decode(call: &Registers) -> Result<Self, ReservedBits> {
        call.require_zero_bits(3, !u32::from(Self::MAX_PAGES))?;
        call.require_zero(4..=17)?;
        Ok(Self {
            width: call.id().width(),
            tx: call.x(1),
            rx: call.x(2),
            pages: call.w(3) as u8,
        })
    }

    pub(super) fn encode(&self) -> Registers {
        Registers::new(Function::RxtxMap, self.width)
            .with(1, self.tx)
            .with(2, self.rx)
            .with(3, self.pages)
            .significant(Version::V1_2)
    }
}

/// Returns the endpoint in bits 31:16 of w1 of a call that has nothing else.
pub(super) fn endpoint_above(call: &Registers) -> Result<EndpointId, ReservedBits> {
    call.require_zero_bits(1, 0xffff)?;
    call.require_zero(2..=17)?;
    Ok(EndpointId::new((call.w(1) >> 16) as u16))
}

/// Returns the endpoint in bits 15:0 of w1 of a call that has nothing else.
pub(super) fn endpoint_below(call: &Registers) -> Result<EndpointId, ReservedBits> {
    call.require_zero_bits(1, 0xffff_0000)?;
    call.require_zero(2..=17)?;
    Ok(EndpointId::new(call.w(1) as u16))
}

/// The success of `FFA_ID_GET` and `FFA_SPM_ID_GET`: an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdAnswer(pub EndpointId);

impl IdAnswer {
    /// Returns the answer as registers.
    pub fn encode(&self) -> Registers {
        success().with(2, self.0.get())
    }

    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// [`AnswerError`] for what is no success with an id.
    pub fn read(answer: &Registers, version: Version) -> Result<Self, AnswerError> {
        let answer = expect_success(answer, version)?;
        answer.require_zero_bits(2, 0xffff_0000)?;
        answer.require_zero(3..=17)?;
        Ok(Self(EndpointId::new(answer.w(2) as u16)))
    }
}
