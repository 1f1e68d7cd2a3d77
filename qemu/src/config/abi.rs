// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ABI between the normal world and OP-TEE.

use super::{Feature, MachineConfig, System, Tee, Vm, Word};
use serde::Deserialize;

/// The ABI between the normal world and OP-TEE, for which firmware, OP-TEE and Linux are built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TeeAbi {
    /// SMCs in OP-TEE's own range of SMCCC: TF-A passes them on to OP-TEE.
    #[default]
    Smc,
    /// FF-A (DEN0077A): TF-A has the SPMD, and OP-TEE at S-EL1 is the SPMC.
    Ffa,
}

impl TeeAbi {
    /// Returns the ABI's name in a description.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Smc => "smc",
            Self::Ffa => "ffa",
        }
    }
}

impl std::fmt::Display for TeeAbi {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}

impl std::str::FromStr for TeeAbi {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "smc" => Ok(Self::Smc),
            "ffa" => Ok(Self::Ffa),
            _ => Err(format!("there is no ABI \"{text}\"; it is smc or ffa")),
        }
    }
}

impl System {
    /// Returns the same system with another ABI of the TEE.
    ///
    /// # Errors
    /// Fails when the board has no firmware for the ABI, or a key contradicts it.
    pub fn with_abi(mut self, abi: TeeAbi) -> Result<Self, String> {
        self.machine.tee_abi = abi;
        self.check()?;
        Ok(self)
    }

    /// Checks that VMs can share an OP-TEE of this ABI as the description wants it.
    ///
    /// # Errors
    /// Names the key and the fix.
    pub fn check_shared_abi(&self) -> Result<(), String> {
        if self.machine.tee_abi == TeeAbi::Smc {
            return match self.vm_with_partitions() {
                Some(vm) => Err(format!(
                    "vm \"{}\": tee_policy.partitions: there are partitions over FF-A only: \
                     drop partitions, or set tee_abi = \"ffa\"",
                    vm.name
                )),
                None => Ok(()),
            };
        }
        if !self.machine.optee_virtualised {
            return Err(
                "machine.optee_virtualised = false: over FF-A the hypervisor needs an OP-TEE for virtualisation: \
                 drop optee_virtualised or tee_abi = \"ffa\""
                    .into(),
            );
        }
        let blind = |vm: &&Vm| {
            let list = vm.tee_policy.partitions.as_ref();
            vm.tee == Tee::Required && list.is_some_and(Vec::is_empty)
        };
        if let Some(vm) = self.vms.iter().find(blind) {
            return Err(format!(
                "vm \"{}\": tee_policy.partitions = []: the VM would see no OP-TEE: \
                 name its partition, usually 0x8001, leave the list out, or set tee = \"none\" without tee_policy",
                vm.name
            ));
        }
        let lacks = |list: &Vec<Feature>| !list.contains(&Feature::RpcArg);
        let mut with_tee = self.vms.iter().filter(|vm| vm.tee != Tee::None);
        let without = with_tee.find(|vm| vm.tee_policy.features.as_ref().is_some_and(lacks));
        match without {
            Some(vm) => Err(format!(
                "vm \"{}\": tee_policy.features: over FF-A no VM goes without \"{1}\": \
                 add \"{1}\", or drop tee_abi = \"ffa\"",
                vm.name,
                Feature::RpcArg.word()
            )),
            None => Ok(()),
        }
    }

    /// Returns a VM that is restricted to some partitions. By SMCs it would not be, because calls name no partition.
    fn vm_with_partitions(&self) -> Option<&Vm> {
        let mut vms = self.vms.iter();
        vms.find(|vm| vm.tee_policy.partitions.is_some())
    }

    /// Checks that the description is for a board whose VMs reach OP-TEE by SMCs.
    pub(super) fn check_board_abi(&self) -> Result<(), String> {
        if self.machine.tee_abi == TeeAbi::Ffa {
            return Err(
                "machine.tee_abi = \"ffa\": a bundle is for a board whose OP-TEE takes SMCs: drop tee_abi".into(),
            );
        }
        match self.vm_with_partitions() {
            Some(vm) => Err(format!(
                "vm \"{}\": tee_policy.partitions: a bundle is for a board whose OP-TEE takes SMCs, without partitions: \
                 drop partitions",
                vm.name
            )),
            None => Ok(()),
        }
    }
}

impl MachineConfig {
    /// Checks that the machine has firmware for its ABI.
    pub(super) fn check_abi(&self) -> Result<(), String> {
        if self.tee_abi == TeeAbi::Smc {
            return Ok(());
        }
        let board = self.board.board();
        if board.ffa.is_none() {
            return Err(format!(
                "machine.tee_abi = \"ffa\": the board {} has no firmware for FF-A: \
                 set board = \"virt\" or tee_abi = \"smc\"",
                board.name
            ));
        }
        if self.optee_spi.is_some() {
            return Err(
                "machine.optee_spi: over FF-A notifications have no SPI: drop optee_spi or tee_abi = \"ffa\""
                    .into(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::BoardName;

    const VM: &str = "[[vm]]\nname = \"a\"\n";

    fn parse(machine: &str) -> Result<System, String> {
        System::parse(&format!("[machine]\n{machine}\n{VM}")).map_err(|why| format!("{why:#}"))
    }

    #[test]
    fn abi_is_smc_unless_the_description_says_ffa() {
        let abi = |machine| parse(machine).map(|system| system.machine.tee_abi);
        assert_eq!(abi(""), Ok(TeeAbi::Smc));
        assert_eq!(abi("tee_abi = \"smc\""), Ok(TeeAbi::Smc));
        assert_eq!(abi("tee_abi = \"ffa\""), Ok(TeeAbi::Ffa));
        let error = abi("tee_abi = \"hvc\"").unwrap_err();
        assert!(error.contains("expected `smc` or `ffa`"), "{error}");
    }

    #[test]
    fn abi_name_reads_back() {
        for abi in [TeeAbi::Smc, TeeAbi::Ffa] {
            assert_eq!(abi.to_string().parse(), Ok(abi));
        }
        assert_eq!(
            "FF-A".parse::<TeeAbi>(),
            Err("there is no ABI \"FF-A\"; it is smc or ffa".into())
        );
    }

    #[test]
    fn ffa_needs_firmware_of_the_board_and_no_spi() {
        for board in BoardName::ALL {
            let found = parse(&format!("tee_abi = \"ffa\"\nboard = \"{board}\""));
            assert_eq!(found.is_ok(), board == BoardName::Virt, "{found:?}");
            if let Err(why) = found {
                assert!(why.contains("set board = \"virt\""), "{why}");
            }
        }
        let error = parse("tee_abi = \"ffa\"\noptee_spi = 187").unwrap_err();
        assert!(error.contains("drop optee_spi"), "{error}");
    }

    #[test]
    fn sharing_over_ffa_needs_virtualisation_and_messages_of_rpcs() {
        let shared = |machine: &str, vm: &str| {
            let text = format!("[machine]\ntee_abi = \"ffa\"\n{machine}\n{VM}{vm}");
            System::parse(&text).unwrap().check_shared_abi()
        };
        assert_eq!(shared("", ""), Ok(()));
        let error = shared("optee_virtualised = false", "").unwrap_err();
        assert!(error.contains("drop optee_virtualised"), "{error}");
        let features = |list: &str| shared("", &format!("tee_policy.features = [{list}]"));
        assert_eq!(features("\"rpc-arg\""), Ok(()));
        for list in ["", "\"notifications\""] {
            let error = features(list).unwrap_err();
            for part in ["vm \"a\": tee_policy.features", "add \"rpc-arg\""] {
                assert!(error.contains(part), "{error}");
            }
        }
        assert_eq!(shared("", "tee = \"none\""), Ok(()));
        let smc = parse("optee_virtualised = false").unwrap();
        assert_eq!(smc.check_shared_abi(), Ok(()));
    }

    #[test]
    fn partitions_are_of_ffa() {
        for list in ["", "0x8001"] {
            let with = |machine: &str| format!("{machine}\n{VM}tee_policy.partitions = [{list}]");
            let shared = |abi: &str| {
                let text = with(&format!("machine.tee_abi = \"{abi}\""));
                System::parse(&text).unwrap().check_shared_abi()
            };
            assert_eq!(shared("ffa").is_ok(), !list.is_empty());
            let bundle = System::parse_for_board(&with("")).map(drop).unwrap_err();
            for error in [shared("smc").unwrap_err(), format!("{bundle:#}")] {
                for part in ["vm \"a\": tee_policy.partitions", "drop partitions"] {
                    assert!(error.contains(part), "{error}");
                }
            }
        }
    }

    #[test]
    fn required_tee_is_in_some_partition() {
        let shared = |tee: &str, list: &str| {
            let vm = format!("tee = \"{tee}\"\ntee_policy.partitions = [{list}]");
            let text = format!("[machine]\ntee_abi = \"ffa\"\n{VM}{vm}");
            System::parse(&text).unwrap().check_shared_abi()
        };
        let error = shared("required", "").unwrap_err();
        assert!(
            error.contains("vm \"a\": tee_policy.partitions = []"),
            "{error}"
        );
        assert!(error.contains("0x8001"), "{error}");
        assert_eq!(shared("required", "0x8001"), Ok(()));
        assert_eq!(shared("optional", ""), Ok(()));
    }

    #[test]
    fn bundle_is_for_smcs() {
        let bundle = |abi: &str| {
            System::parse_for_board(&format!("machine.tee_abi = \"{abi}\"\n{VM}")).map(drop)
        };
        assert!(bundle("smc").is_ok());
        let error = format!("{:#}", bundle("ffa").unwrap_err());
        assert!(error.contains("drop tee_abi"), "{error}");
    }

    #[test]
    fn abi_replaced_later_is_checked_again() {
        let system = |machine| parse(machine).expect("a system");
        let ffa = system("").with_abi(TeeAbi::Ffa).expect("virt has FF-A");
        assert_eq!(ffa.machine.tee_abi, TeeAbi::Ffa);
        assert!(ffa.on_board(BoardName::Zcu102).is_err());
        let other = system("board = \"virt-gicv2\"").with_abi(TeeAbi::Ffa);
        assert!(other.is_err_and(|why| why.contains("virt-gicv2 has no firmware for FF-A")));
        let back = system("tee_abi = \"ffa\"").with_abi(TeeAbi::Smc);
        assert_eq!(back.map(|system| system.machine.tee_abi), Ok(TeeAbi::Smc));
    }
}
