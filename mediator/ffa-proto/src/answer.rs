// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The answers that many calls have in common: `FFA_SUCCESS` without results, and `FFA_ERROR`.

use crate::error::{AnswerError, ErrorCode};
use crate::function::{Function, FunctionId, Width};
use crate::registers::Registers;
use crate::version::Version;

/// Returns `FFA_SUCCESS` without results.
pub fn success() -> Registers {
    Registers::new(Function::Success, Width::Smc32)
}

/// Returns the registers that refuse a call: `FFA_ERROR`, or for `FFA_VERSION`, which knows no other failure,
/// `NOT_SUPPORTED` in w0.
pub fn refusal(call: FunctionId, code: ErrorCode) -> Registers {
    if call.function() == Some(Function::Version) {
        return version(None);
    }
    Registers::new(Function::Error, Width::Smc32).with(2, code.to_w())
}

/// Returns the answer to `FFA_VERSION`: the callee's version, or `NOT_SUPPORTED`. Both are 32 bits.
pub fn version(version: Option<Version>) -> Registers {
    let w0 = version.map_or(Version::NOT_SUPPORTED, Version::to_w);
    Registers::from_8([w0.into(), 0, 0, 0, 0, 0, 0, 0])
}

/// Reads the answer to `FFA_VERSION`, of which only w0 counts.
///
/// # Errors
///
/// [`AnswerError::Refused`] if bit 31 is set: no version.
pub fn read_version(answer: &Registers) -> Result<Version, AnswerError> {
    let w0 = answer.w(0);
    Version::from_w(w0).ok_or(AnswerError::Refused(ErrorCode::from_w(w0)))
}

/// Checks for an answer of success without results.
///
/// # Errors
///
/// [`AnswerError::Refused`] for `FFA_ERROR`, and others for what is no answer.
pub fn read_success(answer: &Registers, version: Version) -> Result<(), AnswerError> {
    let answer = expect_success(answer, version)?;
    Ok(answer.require_zero(2..=17)?)
}

/// Returns what counts of an answer that is `FFA_SUCCESS`. The caller checks w2 and above.
pub(crate) fn expect_success(
    answer: &Registers,
    version: Version,
) -> Result<Registers, AnswerError> {
    let answer = answer.significant(version);
    match answer.id().function() {
        Some(Function::Success) => {
            answer.require_zero(1..=1)?;
            Ok(answer)
        }
        _ => Err(failure(&answer)),
    }
}

/// Returns the error that an answer is which is not the expected one.
pub(crate) fn failure(answer: &Registers) -> AnswerError {
    let id = answer.id();
    if id.function() != Some(Function::Error) {
        return AnswerError::Unexpected(id);
    }
    // w1 may name an endpoint, and w3 has more about some errors from version 1.2 on.
    if answer.w(2) >> 31 == 0 {
        return AnswerError::Value { register: 2 };
    }
    AnswerError::Refused(ErrorCode::from_w(answer.w(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_of_version_is_32_bits_of_not_supported() {
        let call = FunctionId::new(Function::Version, Width::Smc32);
        let answer = refusal(call, ErrorCode::INVALID_PARAMETERS);
        assert_eq!(answer.to_8(), [0xffff_ffff, 0, 0, 0, 0, 0, 0, 0]);
        let error = AnswerError::Refused(ErrorCode::NOT_SUPPORTED);
        assert_eq!(read_version(&answer), Err(error));
    }

    #[test]
    fn refusal_reads_back() {
        let call = FunctionId::new(Function::MemShare, Width::Smc64);
        let answer = refusal(call, ErrorCode::DENIED);
        let error = AnswerError::Refused(ErrorCode::DENIED);
        assert_eq!(read_success(&answer, Version::V1_2), Err(error));
        assert_eq!(read_success(&success(), Version::V1_2), Ok(()));
    }

    #[test]
    fn error_with_a_code_that_is_not_negative_is_no_refusal() {
        let answer = Registers::new(Function::Error, Width::Smc32);
        let error = AnswerError::Value { register: 2 };
        assert_eq!(read_success(&answer, Version::V1_2), Err(error));
    }

    #[test]
    fn success_with_reserved_bits_is_an_error() {
        for n in 1..8 {
            let answer = success().with(n, 1u32);
            let error = AnswerError::Reserved { register: n as u8 };
            assert_eq!(read_success(&answer, Version::V1_2), Err(error));
        }
        // SMC32: the upper halves do not count.
        let answer = success().with(3, 1u64 << 32);
        assert_eq!(read_success(&answer, Version::V1_2), Ok(()));
    }
}
