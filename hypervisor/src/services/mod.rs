//! Who answers an SMC or HVC: one service an owning entity.

pub mod call;
pub mod power;
pub mod psci;
pub mod smccc;
pub mod trng;
