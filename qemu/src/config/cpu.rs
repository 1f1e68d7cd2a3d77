// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The CPU models that QEMU emulates and TF-A knows.

/// The models that a machine may have, as QEMU names them. `max` has all features that QEMU emulates.
pub const CPUS: [&str; 9] = [
    "cortex-a53",
    "cortex-a55",
    "cortex-a57",
    "cortex-a72",
    "cortex-a76",
    "neoverse-n1",
    "neoverse-n2",
    "neoverse-v1",
    "max",
];

/// Checks the argument of QEMU's `-cpu`: a model, and perhaps properties of it after commas.
///
/// # Errors
/// Names the models.
pub(super) fn check(cpu: &str) -> Result<(), String> {
    let model = cpu.split(',').next().unwrap_or_default();
    if CPUS.contains(&model) {
        return Ok(());
    }
    Err(format!(
        "machine.cpu = \"{cpu}\": it must be one of {}; \
         QEMU's properties may follow, as in \"max,sve=off\"",
        CPUS.join(", ")
    ))
}

/// Returns the first QEMU that emulates this CPU so that the firmware boots on it: major and minor version. The
/// argument is QEMU's `-cpu`.
pub(crate) fn least_qemu(cpu: &str) -> (u32, u32) {
    match cpu.split(',').next().unwrap_or_default() {
        "cortex-a53" | "cortex-a57" | "cortex-a72" | "max" => (7, 2),
        // Some came in between; these were tested with Debian trixie's QEMU only.
        _ => (10, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_models_are_accepted_with_and_without_properties() {
        for cpu in CPUS {
            assert_eq!(check(cpu), Ok(()));
        }
        assert_eq!(check("max,sve=off,sme=off,pauth-impdef=on"), Ok(()));
    }

    #[test]
    fn properties_do_not_change_the_qemu_that_a_model_needs() {
        assert_eq!(least_qemu("cortex-a72"), (7, 2));
        assert_eq!(least_qemu("max,sve=off"), (7, 2));
        assert_eq!(least_qemu("cortex-a76"), (10, 0));
        assert_eq!(least_qemu("neoverse-v1,sve=off"), (10, 0));
    }

    #[test]
    fn other_models_are_refused_with_the_list() {
        for cpu in ["", "cortex-a9", "Max", "cortex-a72 ", ",sve=off"] {
            let why = check(cpu).unwrap_err();
            for word in CPUS {
                assert!(why.contains(word), "{why}");
            }
        }
    }
}
