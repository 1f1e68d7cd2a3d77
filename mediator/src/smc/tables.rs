// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OP-TEE's translation tables for a VM, created before the VM can use up the memory for them.
//!
//! OP-TEE's core maps what it shares with a VM in 32 MiB of address space. Each 2 MiB take a table at their
//! first use, and keep it. Since version 4.6 (`CFG_DYN_CONFIG`) a table is a page of the memory in which the
//! VM's applications live. Without a free page OP-TEE does not refuse to map: it panics, for all VMs. A guest
//! could cause that within its quotas: by opening applications until no page is free, and then passing a large
//! buffer to a pseudo TA.
//!
//! So the mediator has all of the address space mapped once, before the guest's first call. It registers a
//! buffer that is as large as the address space and consists of one page of the mediator, repeated. A call
//! whose message is said to be in that buffer (`OPTEE_SMC_CALL_WITH_REGD_ARG`) has all of it mapped before
//! OP-TEE looks at the message. The offset of the message is odd, so OP-TEE refuses the call.
//!
//! Each step enters OP-TEE up to the next interrupt, as at teardown ([`crate::teardown`]), since it runs on
//! pCPUs of other VMs too.

use crate::addr::PAGE_SIZE;
use crate::host::{ForeignInterrupt, Host, SharedPage};
use crate::{CreateError, Mediator};
use optee_proto::le::{U32, U64};
use optee_proto::msg::{self, Attr, Command, Header, PAGE_LIST_ENTRIES, Param};
use optee_proto::{Return, rpc, smc};
use zerocopy::IntoBytes;

/// Pages of the address space: `SHM_VASPACE_SIZE` in OP-TEE's `core/mm/core_mmu.c`, 32 MiB.
pub(crate) const PAGES: u64 = if cfg!(miri) { 600 } else { 8192 };
/// The buffer's cookie. Cookies of guests' buffers are larger, and names of lent pages smaller.
pub(crate) const COOKIE: u64 = 0x0100_5441_424c;
/// Offset of the message in it, which OP-TEE does not accept.
const ODD_OFFSET: u64 = 1;
/// Number of entries into OP-TEE in total. The longest call takes some milliseconds, but each interrupt of
/// another VM interrupts it. The hypervisor causes one every few milliseconds, so this bounds the time too.
pub(crate) const ENTRIES: u32 = if cfg!(miri) { 40 } else { 4000 };
/// Number of entries per step, if the hypervisor claims no interrupt.
const ENTRIES_A_STEP: u32 = 64;

/// The pages that the creation needs.
#[derive(Debug)]
struct TablePages {
    message: SharedPage,
    /// A page list whose last word is its own address, so that it has no end.
    list: SharedPage,
    /// The page that the list names.
    data: SharedPage,
}

impl TablePages {
    fn take<H: Host>(host: &H) -> Result<Self, CreateError> {
        let mut taken = heapless::Vec::<SharedPage, 3>::new();
        while let Some(page) = host.alloc_shared() {
            // There is room for each.
            let _ = taken.push(page);
            if taken.is_full() {
                break;
            }
        }
        match taken.into_array() {
            Ok([message, list, data]) => Ok(Self {
                message,
                list,
                data,
            }),
            Err(few) => {
                for page in few {
                    host.free_shared(page);
                }
                Err(CreateError::NoSharedPages)
            }
        }
    }
}

/// The call in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TableStage {
    /// REGISTER_SHM of the buffer.
    Register,
    /// The call that has all of it mapped.
    Map,
    /// UNREGISTER_SHM of the buffer.
    Unregister,
}

/// Progress of the creation of tables.
#[derive(Debug)]
pub(crate) struct TableCreation {
    pages: TablePages,
    stage: TableStage,
    /// The arguments of the next SMC.
    args: [u64; 8],
    /// Number of entries left.
    entries: u32,
}

/// The outcome of a step.
#[derive(Debug)]
pub(crate) enum TableStep {
    /// The next step continues.
    Some,
    /// A call has ended with this return code.
    Call(Return),
    /// OP-TEE sent an RPC that cannot be served: its a0.
    Asks(u32),
    /// No entries are left.
    Endless,
}

impl TableCreation {
    /// Returns whether OP-TEE is in a call.
    pub(crate) fn is_under_way(&self) -> bool {
        self.args[0] == u64::from(smc::CALL_RETURN_FROM_RPC.get())
    }

    /// Frees the pages, after OP-TEE has released them.
    pub(crate) fn give_back<H: Host>(self, host: &H) {
        let TablePages {
            message,
            list,
            data,
        } = self.pages;
        for page in [message, list, data] {
            host.free_shared(page);
        }
    }

    /// Prepares the call after the one that has ended. Returns whether there is one.
    ///
    /// # Errors
    /// The unexpected code or result.
    fn next_call<H: Host>(
        &mut self,
        mediator: &Mediator,
        host: &H,
        answer: Return,
    ) -> Result<bool, u32> {
        match self.stage {
            TableStage::Register => {
                self.result(host, answer)?;
                let (a1, a2) = smc::pair(COOKIE);
                let function = smc::CALL_WITH_REGD_ARG.get().into();
                self.args = [function, a1, a2, ODD_OFFSET, 0, 0, 0, mediator.client_id()];
                self.stage = TableStage::Map;
            }
            // OP-TEE's code for the odd offset, after it has mapped the buffer.
            TableStage::Map if answer == Return::EBADADDR => {
                let name = Param::new(Attr::RMEM_INPUT, 0, 0, COOKIE);
                self.message(mediator, host, Command::UNREGISTER_SHM, name);
                self.stage = TableStage::Unregister;
            }
            TableStage::Map => return Err(answer.get() as u32),
            TableStage::Unregister => {
                self.result(host, answer)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Prepares a call with a message of one parameter.
    fn message<H: Host>(&mut self, mediator: &Mediator, host: &H, command: Command, param: Param) {
        let header = Header {
            cmd: U32::new(command.0),
            ret: U32::new(u32::MAX),
            num_params: U32::new(1),
            ..Header::default()
        };
        let message = &self.pages.message;
        host.write_shared(message, 0, header.as_bytes());
        host.write_shared(message, msg::HEADER_SIZE, param.as_bytes());
        let (a1, a2) = smc::pair(message.pa().get());
        let function = smc::CALL_WITH_ARG.get().into();
        let tag = mediator.client_id();
        self.args = [function, a1, a2, smc::SHM_CACHED, 0, 0, 0, tag];
    }

    /// Checks that a call with a message has succeeded.
    fn result<H: Host>(&self, host: &H, answer: Return) -> Result<(), u32> {
        let mut result = U32::new(u32::MAX);
        host.read_shared(&self.pages.message, msg::RET_OFFSET, result.as_mut_bytes());
        match (answer, result.get()) {
            (Return::OK, 0) => Ok(()),
            (Return::OK, result) => Err(result),
            (code, _) => Err(code.get() as u32),
        }
    }
}

impl Mediator {
    /// Begins the creation of tables. The VM was just created and makes no calls yet.
    ///
    /// # Errors
    /// [`CreateError::NoSharedPages`].
    pub(crate) fn begin_tables<H: Host>(&self, host: &H) -> Result<TableCreation, CreateError> {
        let pages = TablePages::take(host)?;
        let words = [U64::new(pages.data.pa().get()); PAGE_LIST_ENTRIES];
        host.write_shared(&pages.list, 0, words.as_bytes());
        let link = U64::new(pages.list.pa().get());
        host.write_shared(&pages.list, words.as_bytes().len(), link.as_bytes());
        let list = pages.list.pa().get();
        let mut making = TableCreation {
            pages,
            stage: TableStage::Register,
            args: [0; 8],
            entries: ENTRIES,
        };
        let buffer = Param::new(Attr::PAGE_LIST, list, PAGES * PAGE_SIZE, COOKIE);
        making.message(self, host, Command::REGISTER_SHM, buffer);
        Ok(making)
    }

    /// Does one step: registers the buffer, has it mapped, unregisters it. Returns whether there is more to do.
    ///
    /// # Errors
    /// [`CreateError::TablesRefused`] and [`CreateError::TablesUnfinished`] when OP-TEE does not do it. OP-TEE
    /// may then use the pages until it has forgotten the VM.
    pub(crate) fn make_some_tables<H: Host>(
        &self,
        host: &H,
        making: &mut TableCreation,
    ) -> Result<bool, CreateError> {
        match self.early_step(host, making) {
            TableStep::Some => Ok(true),
            TableStep::Call(answer) => {
                let next = making.next_call(self, host, answer);
                next.map_err(CreateError::TablesRefused)
            }
            TableStep::Asks(a0) => Err(CreateError::TablesRefused(a0)),
            TableStep::Endless => Err(CreateError::TablesUnfinished(ENTRIES)),
        }
    }

    /// Does one step of a call in which the guest cannot be asked for anything.
    pub(crate) fn early_step<H: Host>(&self, host: &H, making: &mut TableCreation) -> TableStep {
        for _ in 0..ENTRIES_A_STEP {
            let Some(left) = making.entries.checked_sub(1) else {
                return TableStep::Endless;
            };
            making.entries = left;
            let [a0, _, _, thread, ..] = self.secure(host, making.args);
            let answer = Return::from_x0(a0);
            let function = answer.rpc();
            if !matches!(
                function,
                None | Some(rpc::Function::FOREIGN_INTR | rpc::Function::ALLOC)
            ) {
                return TableStep::Asks(a0 as u32);
            }
            let Some(function) = function else {
                return TableStep::Call(answer);
            };
            // Without memory for requests OP-TEE makes none.
            let resume = smc::CALL_RETURN_FROM_RPC.get().into();
            making.args = [
                resume,
                0,
                0,
                thread & 0xffff_ffff,
                0,
                0,
                0,
                self.client_id(),
            ];
            if function == rpc::Function::FOREIGN_INTR
                && host.foreign_interrupt() == ForeignInterrupt::ReturnToGuest
            {
                break;
            }
        }
        TableStep::Some
    }
}
