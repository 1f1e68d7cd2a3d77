// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OP-TEE's translation tables for a VM, made before the VM can use up the memory for them.
//!
//! OP-TEE's core maps what it shares with a VM in 32 MiB of address space. Each 2 MiB of that take a
//! table when they are first used, and keep it. Since version 4.6 (`CFG_DYN_CONFIG`) a table is a page of the
//! memory that the VM's applications live in. When there is none left OP-TEE does not refuse to map: it
//! panics, and that is the end of the TEE for all VMs. A guest could bring that about within its quotas. It had
//! only to open applications until no page was free, and then to hand a large buffer to a pseudo TA.
//!
//! So the mediator has all of the address space mapped once, before the guest makes its first call. OP-TEE
//! learns of a buffer that is as large as the address space and consists of one page of ours over and over. A call
//! whose message is said to be in that buffer (`OPTEE_SMC_CALL_WITH_REGD_ARG`) has all of it mapped
//! before OP-TEE looks at the message. The message's offset is odd, so nothing comes of the call.
//!
//! Each step of that is one entry of OP-TEE's, up to the next interrupt, as at the end of a VM ([`crate::teardown`]): it is
//! done on pCPUs of the VM's neighbours, too.

use crate::addr::PAGE_SIZE;
use crate::host::{ForeignInterrupt, Host, SharedPage};
use crate::{CreateError, Mediator};
use optee_proto::le::{U32, U64};
use optee_proto::msg::{self, Attr, Command, Header, PAGE_LIST_ENTRIES, Param};
use optee_proto::{Return, rpc, smc};
use zerocopy::IntoBytes;

/// Pages of the address space: `SHM_VASPACE_SIZE` in OP-TEE's `core/mm/core_mmu.c`, 32 MiB.
pub(crate) const PAGES: u64 = if cfg!(miri) { 600 } else { 8192 };
/// The name of the buffer. Those of guests' buffers are larger, and those of pages that are lent smaller.
pub(crate) const COOKIE: u64 = 0x0100_5441_424c;
/// Where in it the message is said to be: nowhere that OP-TEE accepts.
const ODD_OFFSET: u64 = 1;
/// How often OP-TEE is entered for all of it. The longest call takes some milliseconds, but may be interrupted as often as
/// a neighbour has interrupts. The hypervisor sees to it that one comes every few milliseconds, so this bounds the time
/// as well.
pub(crate) const ENTRIES: u32 = if cfg!(miri) { 40 } else { 4000 };
/// How often OP-TEE is entered in one step, where no interrupt is anybody's.
const ENTRIES_A_STEP: u32 = 64;

/// The pages that it takes.
#[derive(Debug)]
struct TablePages {
    message: SharedPage,
    /// A page list whose last word names itself, so that it has no end.
    list: SharedPage,
    /// What it names.
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

/// Which call is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TableStage {
    /// The buffer is registered.
    Register,
    /// All of it is mapped.
    Map,
    /// OP-TEE forgets it.
    Unregister,
}

/// How far the tables are.
#[derive(Debug)]
pub(crate) struct TableCreation {
    pages: TablePages,
    stage: TableStage,
    /// The next SMC.
    args: [u64; 8],
    /// How often OP-TEE may still be entered.
    entries: u32,
}

/// What comes of a step.
#[derive(Debug)]
pub(crate) enum TableStep {
    /// The next goes on.
    Some,
    /// A call is over, with this answer.
    Call(Return),
    /// OP-TEE asks for what nobody gives it: this is its a0.
    Asks(u32),
    /// OP-TEE was entered as often as it may be.
    Endless,
}

impl TableCreation {
    /// Whether OP-TEE is in a call.
    pub(crate) fn is_under_way(&self) -> bool {
        self.args[0] == u64::from(smc::CALL_RETURN_FROM_RPC.get())
    }

    /// Gives the pages back. OP-TEE has let go of them.
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

    /// The call that has just ended was not the last one: the next. Whether there is one.
    ///
    /// # Errors
    /// The code or the result that was unexpected.
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
                self.args = [function, a1, a2, ODD_OFFSET, 0, 0, 0, mediator.tag()];
                self.stage = TableStage::Map;
            }
            // That is what OP-TEE says of the message, once it has mapped the buffer.
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

    /// The next call has this message, of one parameter, and has to succeed.
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
        let tag = mediator.tag();
        self.args = [function, a1, a2, smc::SHM_CACHED, 0, 0, 0, tag];
    }

    /// Whether the call of a message has succeeded.
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
    /// Begins to have OP-TEE make its tables. The VM was just created and makes no calls yet.
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

    /// Does a step: registers the buffer, has it mapped, unregisters it. Whether there is more to do.
    ///
    /// # Errors
    /// [`CreateError::TablesRefused`] and [`CreateError::TablesUnfinished`] where OP-TEE does not do it. It may go on using the pages
    /// then, until it has forgotten the VM.
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

    /// A step of a call in which nobody can be asked for anything.
    pub(crate) fn early_step<H: Host>(&self, host: &H, making: &mut TableCreation) -> TableStep {
        for _ in 0..ENTRIES_A_STEP {
            let Some(left) = making.entries.checked_sub(1) else {
                return TableStep::Endless;
            };
            making.entries = left;
            let [a0, _, _, thread] = self.secure(host, making.args);
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
            // Without memory for its question OP-TEE asks nothing.
            let resume = smc::CALL_RETURN_FROM_RPC.get().into();
            making.args = [resume, 0, 0, thread & 0xffff_ffff, 0, 0, 0, self.tag()];
            if function == rpc::Function::FOREIGN_INTR
                && host.foreign_interrupt() == ForeignInterrupt::ReturnToGuest
            {
                break;
            }
        }
        TableStep::Some
    }
}
