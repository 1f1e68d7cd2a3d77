// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A toy hypervisor: one VM, whose RAM is a vector, opens a session with a fake OP-TEE.

use optee_mediator::addr::{Ipa, PAGE_SIZE, Pa};
use optee_mediator::fake::{FakeHost, Machine};
use optee_mediator::{
    ClientId, Config, EndingHost, ForeignInterrupt, GuestMemoryError, Host, Leak, Mediator,
    PinError, SecureMonitor, SharedPage, probe,
};
use optee_proto::le::U32;
use optee_proto::msg::{Attr, Command, Header, Param, login};
use optee_proto::{Return, TeeResult, Uuid, smc};
use std::cell::RefCell;
use std::num::NonZeroU16;
use zerocopy::{FromBytes, IntoBytes};

/// Where the guest finds its RAM, and where that really is.
const RAM: u64 = 0x4000_0000;
const RAM_PA: u64 = 0x8_8000_0000;

struct Toy {
    ram: RefCell<Vec<u8>>,
    /// Stands for the secure world, and for pages that it shares with the hypervisor.
    secure: FakeHost,
}

impl Toy {
    /// Translates a guest address (stage 2) to an offset in `ram`, if all of the range is there.
    fn offset(&self, at: Ipa, bytes: usize) -> Option<usize> {
        let offset = usize::try_from(at.get().checked_sub(RAM)?).ok()?;
        (offset.checked_add(bytes)? <= self.ram.borrow().len()).then_some(offset)
    }
}

impl SecureMonitor for Toy {
    fn smc(&self, args: [u64; 8]) -> [u64; 8] {
        self.secure.smc(args)
    }
}

impl EndingHost for Toy {}

impl Host for Toy {
    fn read_guest(&self, from: Ipa, into: &mut [u8]) -> Result<(), GuestMemoryError> {
        let at = self
            .offset(from, into.len())
            .ok_or(GuestMemoryError(from))?;
        into.copy_from_slice(&self.ram.borrow()[at..at + into.len()]);
        Ok(())
    }

    fn write_guest(&self, to: Ipa, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        let at = self.offset(to, bytes.len()).ok_or(GuestMemoryError(to))?;
        self.ram.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    // This hypervisor never takes memory away from its VM, so every page is as good as pinned.
    fn pin(&self, page: Ipa) -> Result<Pa, PinError> {
        let at = self
            .offset(page, PAGE_SIZE as usize)
            .ok_or(PinError::NotOwnMemory(page))?;
        Ok(Pa::new(RAM_PA + at as u64))
    }

    fn unpin(&self, _page: Ipa) {}

    fn alloc_shared(&self) -> Option<SharedPage> {
        self.secure.alloc_shared()
    }

    fn clear_shared(&self, page: &SharedPage) {
        self.secure.clear_shared(page);
    }

    fn free_shared(&self, page: SharedPage) {
        self.secure.free_shared(page);
    }

    fn read_shared(&self, page: &SharedPage, offset: usize, into: &mut [u8]) {
        self.secure.read_shared(page, offset, into);
    }

    fn write_shared(&self, page: &SharedPage, offset: usize, bytes: &[u8]) {
        self.secure.write_shared(page, offset, bytes);
    }

    fn write_tx(&self, _: usize, _: &[u8]) {
        unreachable!("this hypervisor has no FF-A");
    }

    fn take_interrupts(&self) {}

    fn foreign_interrupt(&self) -> ForeignInterrupt {
        ForeignInterrupt::Resume
    }

    fn report_leak(&self, what: Leak, app: Uuid) {
        println!("the VM leaves behind: {what:?} of {app}");
    }
}

/// Boots, opens the session, and ends the VM.
pub fn main() {
    // At boot: which TEE is there? Then one mediator for each VM.
    let machine = Machine::new();
    let host = Toy {
        ram: RefCell::new(vec![0; 1 << 20]),
        secure: machine.add_vm(1, 1),
    };
    let tee = probe(&host).expect("an OP-TEE that is built for virtualisation");
    let vm = ClientId::new(NonZeroU16::new(1).expect("one is not zero"));
    let mediator = Mediator::new(vm, Config::default(), tee);
    mediator.create(&host).expect("room for a VM");

    // The guest writes a message into its RAM: "open a session with this application".
    let message = Ipa::new(RAM + 0x1000);
    let (a, b) = Uuid([0xa1; 16]).to_value();
    let header = Header {
        cmd: U32::new(Command::OPEN_SESSION.0),
        num_params: U32::new(2),
        ..Header::default()
    };
    let params = [
        Param::new(Attr::META_VALUE_INPUT, a, b, 0),
        Param::new(Attr::META_VALUE_INPUT, 0, 0, login::PUBLIC.into()),
    ];
    let bytes = [header.as_bytes(), params.as_bytes()].concat();
    host.write_guest(message, &bytes).expect("RAM of its own");

    // The guest makes its SMC, which traps. The hypervisor hands the registers to the mediator.
    let (a1, a2) = smc::pair(message.get());
    let call = [smc::CALL_WITH_ARG.get().into(), a1, a2, 0, 0, 0, 0, 0];
    let answer = mediator.smc(&host, &call);
    assert_eq!(Return::from_x0(answer[0]), Return::OK);

    let mut reply = [0; size_of::<Header>()];
    host.read_guest(message, &mut reply)
        .expect("RAM of its own");
    let reply = Header::read_from_bytes(&reply).expect("its size");
    assert_eq!(reply.ret.get(), TeeResult::SUCCESS.0);
    println!("session {} is open", reply.session.get());

    // The VM ends, and its session with it.
    mediator
        .destroy(&host)
        .expect("an OP-TEE that lets go of it");
    assert_eq!(machine.open_sessions(1), 0);
    assert!(machine.violations().is_empty());
}
