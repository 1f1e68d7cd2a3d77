// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes the number of a system's guests: `make run GUESTS=4`.

use super::{Dma, MAX_VMS, Memory, PACKAGED_GUESTS, System, Vm};

/// RAM for the hypervisor and the guests' files, on the safe side, in MiB.
const REST_MIB: u64 = 512;

impl System {
    /// Returns the same system with another number of guests: the first ones of the description,
    /// then copies of the last one under new names. OP-TEE's room and the machine's RAM grow with
    /// them.
    ///
    /// # Errors
    /// Fails when the hypervisor does not take this number of VMs, or not of this kind.
    pub fn with_guests(mut self, guests: u32) -> Result<Self, String> {
        let count = guests as usize;
        if !(1..=MAX_VMS).contains(&count) {
            return Err(format!("{guests} guests: it must be 1 to {MAX_VMS}"));
        }
        self.vms.truncate(count);
        let mut last = self.vms.last().cloned().ok_or("there is no [[vm]]")?;
        // A device has one owner: the copies get none.
        last.tee_policy.devices.clear();
        last.devices.clear();
        last.partial_tree = None;
        last.dma = Dma::Protected;
        while self.vms.len() < count {
            let name = self.free_name();
            self.vms.push(Vm {
                name,
                ..last.clone()
            });
        }
        self.trim_links();
        let machine = &mut self.machine;
        if guests > machine.optee_guests.unwrap_or(PACKAGED_GUESTS) {
            machine.optee_guests = Some(guests);
        }
        let mib = |memory: Memory| memory.kib() >> 10;
        let wanted = self.vms.iter().map(|vm| mib(vm.memory)).sum::<u64>() + REST_MIB;
        machine.memory_mib = machine.memory_mib.max(wanted);
        self.check()?;
        Ok(self)
    }

    /// Returns the first of `a`, `b`, … that is not yet a VM's name.
    fn free_name(&self) -> String {
        let mut names = ('a'..='z').map(String::from);
        let free = names.find(|name| self.vms.iter().all(|vm| vm.name != *name));
        free.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(text: &str) -> System {
        System::parse(text).unwrap()
    }

    #[test]
    fn copies_of_a_guest_with_unprotected_dma_have_no_devices() {
        let text = "[[vm]]\nname = \"io\"\ndevices = [\"/x\"]\ndma = \"unprotected\"\n";
        let two = system(text).with_guests(2).unwrap();
        assert_eq!(
            (two.vms[0].dma, two.vms[0].devices.len()),
            (Dma::Unprotected, 1)
        );
        assert_eq!(
            (two.vms[1].dma, two.vms[1].devices.len()),
            (Dma::Protected, 0)
        );
    }

    #[test]
    fn guest_count_copies_or_drops_last_guests() {
        let two = system(
            "[[vm]]\nname = \"b\"\nmemory = \"1G\"\n\
             [[vm]]\nname = \"x\"\nvcpus = 1\ntee_policy.devices = [\"rpmb\"]",
        );
        let four = two.clone().with_guests(4).unwrap();
        let names: Vec<&str> = four.vms.iter().map(|vm| vm.name.as_str()).collect();
        assert_eq!(names, ["b", "x", "a", "c"]);
        assert_eq!(
            (four.vms[3].vcpus, four.vms[1].tee_policy.devices.len()),
            (1, 1)
        );
        assert!(four.vms[3].tee_policy.devices.is_empty());
        assert_eq!(
            (four.machine.optee_guests, four.machine.memory_mib),
            (Some(4), 3072)
        );
        let one = two.clone().with_guests(1).unwrap();
        assert_eq!((one.vms.len(), one.machine.optee_guests), (1, None));
        assert_eq!(two.clone().with_guests(2).unwrap().vms, two.vms);
        assert!(two.with_guests(9).unwrap_err().contains("1 to 8"));
    }

    #[test]
    fn machine_grows_with_guest_count() {
        let eight = system("[[vm]]\nname = \"a\"").with_guests(8).unwrap();
        assert_eq!(eight.machine.memory_mib, 8 * 512 + 512);
        let room = "[machine]\noptee_guests = 6\n[[vm]]\nname = \"a\"";
        assert_eq!(
            system(room).with_guests(4).unwrap().machine.optee_guests,
            Some(6)
        );
    }

    #[test]
    fn unvirtualised_optee_allows_one_guest() {
        let one = system("[machine]\noptee_virtualised = false\n[[vm]]\nname = \"a\"");
        assert!(one.clone().with_guests(1).is_ok());
        assert!(one.with_guests(3).unwrap_err().contains("serves one VM"));
    }
}
