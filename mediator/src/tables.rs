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

use crate::addr::PAGE_SIZE;
use crate::host::{Host, SharedPage};
use crate::{CreateError, Mediator};
use optee_proto::le::{U32, U64};
use optee_proto::msg::{self, Attr, Command, Header, PAGE_LIST_ENTRIES, Param};
use optee_proto::{FunctionId, Return, rpc, smc};
use zerocopy::IntoBytes;

/// Pages of the address space: `SHM_VASPACE_SIZE` in OP-TEE's `core/mm/core_mmu.c`, 32 MiB.
pub(crate) const PAGES: u64 = if cfg!(miri) { 600 } else { 8192 };
/// The name of the buffer. Those of guests' buffers are larger, and those of pages that are lent smaller.
pub(crate) const COOKIE: u64 = 0x0100_5441_424c;
/// Where in it the message is said to be: nowhere that OP-TEE accepts.
const ODD_OFFSET: u64 = 1;
/// By how many interrupts each call may be held up. The longest takes some milliseconds.
const INTERRUPTS: u32 = 100_000;

/// The pages that it takes.
struct Pages {
    message: SharedPage,
    /// A page list whose last word names itself, so that it has no end.
    list: SharedPage,
    /// What it names.
    data: SharedPage,
}

impl Pages {
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

    fn give_back<H: Host>(self, host: &H) {
        for page in [self.message, self.list, self.data] {
            host.free_shared(page);
        }
    }
}

impl Mediator {
    /// Has OP-TEE make its tables, where it makes them of the VM's memory. The VM was just created and makes no
    /// calls yet.
    ///
    /// # Errors
    /// [`CreateError::Tables`] where OP-TEE did not do it; it has forgotten the VM then.
    /// [`CreateError::NoSharedPages`] likewise.
    pub(crate) fn make_tables<H: Host>(&self, host: &H) -> Result<(), CreateError> {
        if !self.tee.makes_tables_late() {
            return Ok(());
        }
        let pages = Pages::take(host).inspect_err(|_| {
            self.forget_early(host);
        })?;
        let words = [U64::new(pages.data.pa().get()); PAGE_LIST_ENTRIES];
        host.write_shared(&pages.list, 0, words.as_bytes());
        let link = U64::new(pages.list.pa().get());
        host.write_shared(&pages.list, words.as_bytes().len(), link.as_bytes());
        let made = self.map_all(host, &pages);
        // Where OP-TEE may not have let go of them, it has when it has forgotten the VM. Else they are lost.
        if made.is_ok() || self.forget_early(host) {
            pages.give_back(host);
        }
        made.map_err(CreateError::Tables)
    }

    /// Registers the buffer, has it mapped, unregisters it. Else the code or the result that was unexpected.
    fn map_all<H: Host>(&self, host: &H, pages: &Pages) -> Result<(), u32> {
        let buffer = Param::new(
            Attr::PAGE_LIST,
            pages.list.pa().get(),
            PAGES * PAGE_SIZE,
            COOKIE,
        );
        self.early_message(host, pages, Command::REGISTER_SHM, buffer)?;
        let (a1, a2) = smc::pair(COOKIE);
        let mapped = self.early_call(host, smc::CALL_WITH_REGD_ARG, [a1, a2, ODD_OFFSET])?;
        let name = Param::new(Attr::RMEM_INPUT, 0, 0, COOKIE);
        self.early_message(host, pages, Command::UNREGISTER_SHM, name)?;
        // That is what OP-TEE says of the message, once it has mapped the buffer.
        if mapped == Return::EBADADDR {
            Ok(())
        } else {
            Err(mapped.get() as u32)
        }
    }

    /// A call with one parameter that has to succeed.
    fn early_message<H: Host>(
        &self,
        host: &H,
        pages: &Pages,
        command: Command,
        param: Param,
    ) -> Result<(), u32> {
        let header = Header {
            cmd: U32::new(command.0),
            ret: U32::new(u32::MAX),
            num_params: U32::new(1),
            ..Header::default()
        };
        host.write_shared(&pages.message, 0, header.as_bytes());
        host.write_shared(&pages.message, msg::HEADER_SIZE, param.as_bytes());
        let (a1, a2) = smc::pair(pages.message.pa().get());
        let done = self.early_call(host, smc::CALL_WITH_ARG, [a1, a2, smc::SHM_CACHED])?;
        let mut result = U32::new(u32::MAX);
        host.read_shared(&pages.message, msg::RET_OFFSET, result.as_mut_bytes());
        match (done, result.get()) {
            (Return::OK, 0) => Ok(()),
            (Return::OK, result) => Err(result),
            (code, _) => Err(code.get() as u32),
        }
    }

    /// A call in which nobody can be asked for anything: its end.
    fn early_call<H: Host>(
        &self,
        host: &H,
        function: FunctionId,
        [a1, a2, a3]: [u64; 3],
    ) -> Result<Return, u32> {
        let mut args = [function.get().into(), a1, a2, a3, 0, 0, 0, self.tag()];
        for _ in 0..INTERRUPTS {
            let [a0, _, _, thread] = self.secure(host, args);
            let answer = Return::from_x0(a0);
            match answer.rpc() {
                None => return Ok(answer),
                Some(rpc::Function::FOREIGN_INTR) => {
                    // Whoever has to run runs when this is over.
                    host.foreign_interrupt();
                }
                // Without memory for its question OP-TEE asks nothing.
                Some(rpc::Function::ALLOC) => {}
                Some(_) => return Err(a0 as u32),
            }
            let resume = smc::CALL_RETURN_FROM_RPC.get().into();
            args = [resume, 0, 0, thread & 0xffff_ffff, 0, 0, 0, self.tag()];
        }
        Err(Return::EBUSY.get() as u32)
    }

    /// Has OP-TEE forget a VM that has not come to make calls.
    fn forget_early<H: Host>(&self, host: &H) -> bool {
        let destroyed = smc::VM_DESTROYED.get().into();
        let [a0, ..] = self.secure(host, [destroyed, self.client.get(), 0, 0, 0, 0, 0, 0]);
        Return::from_x0(a0) == Return::OK
    }
}
