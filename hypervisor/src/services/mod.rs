//! Who answers an SMC or HVC: one service an owning entity.

pub mod call;
pub mod power;
pub mod psci;
pub mod smccc;
pub mod trng;
#[cfg(target_os = "none")]
pub mod dispatch;
#[cfg(target_os = "none")]
pub mod tee;
#[cfg(target_os = "none")]
pub use dispatch::dispatch;
