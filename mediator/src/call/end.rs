//! A call ends: its result goes to the guest, and what it used is given back.

use super::{Call, Pending, Work, code};
use crate::Mediator;
use crate::books::Session;
use crate::host::Host;
use crate::memory::buffer::{PageNumber, unpin};
use crate::message::{Kind, MAX_PARAMS, Message};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;
use optee_proto::msg::{self, Command};
use optee_proto::{Return, TeeResult};
use zerocopy::IntoBytes;

impl Mediator {
    /// OP-TEE is done with a call.
    pub(crate) fn end<H: Host>(&self, host: &H, mut call: Box<Call>, answer: Return) -> [u64; 4] {
        match answer {
            Return::OK => {}
            // These say that the message was not acted upon.
            Return::EBADADDR | Return::EBADCMD | Return::ENOMEM => {
                self.settle(host, call, None);
                return code(answer);
            }
            Return::ETHREAD_LIMIT | Return::ENOTAVAIL | Return::EBUSY if call.thread.is_none() => {
                self.settle(host, call, None);
                return code(answer);
            }
            // Anything else leaves open what OP-TEE still uses.
            _ => return self.lose(call),
        }
        let result = call.collect(host);
        let written = call.report(host);
        self.settle(host, call, Some(result));
        // A guest that took its message away has no result.
        code(if written {
            Return::OK
        } else {
            Return::EBADADDR
        })
    }

    /// Gives back what a call used, and draws the consequences of its result: `None` if OP-TEE
    /// never acted upon the message.
    pub(crate) fn settle<H: Host>(&self, host: &H, mut call: Box<Call>, result: Option<TeeResult>) {
        let success = result == Some(TeeResult::SUCCESS);
        let session = call.message.header.session.get();
        let work = mem::replace(&mut call.work, Work::Plain);
        let uses = mem::take(&mut call.uses);
        // Registered or not, OP-TEE is done with these.
        let list = mem::take(&mut call.list);
        let retired = call.retired.take();
        call.pending = Pending::Nothing;
        call.thread = None;
        call.params = 0;
        call.kinds = [Kind::None; MAX_PARAMS];

        let mut unused: heapless::Vec<Vec<PageNumber>, { MAX_PARAMS + 2 }> = heapless::Vec::new();
        let mut lists = None;
        {
            let mut books = self.books.lock();
            match work {
                Work::Plain => {}
                Work::Open(app) if success => books.open_session(Session { id: session, app }),
                Work::Open(_) => books.no_session(),
                Work::Close(id) if success => {
                    self.counters.closed.bump();
                    books.close_session(id);
                }
                Work::Close(_) => {}
                Work::Register { cookie, intake } => {
                    let (pins, list) = intake.into_parts();
                    lists = Some(list);
                    if success {
                        books.establish(cookie, pins);
                    } else {
                        books.remove(cookie);
                        let _ = unused.push(pins);
                    }
                }
                Work::Unregister(cookie) => {
                    if let Some(pages) = books.end_unregister(cookie, success) {
                        let _ = unused.push(pages);
                    }
                }
                Work::StopNotifications if success => books.notify = false,
                Work::StopNotifications => {}
            }
            for cookie in uses {
                if let Some(pages) = books.give_back(cookie) {
                    let _ = unused.push(pages);
                }
            }
            books.idle.push(call);
        }
        for pages in unused {
            unpin(host, pages);
        }
        for page in list
            .into_iter()
            .chain(lists.into_iter().flatten())
            .chain(retired)
        {
            self.give_page(host, page);
        }
    }
}

impl Call {
    /// Takes over from OP-TEE's answer what is an output, into the private copy of the guest's
    /// message. OP-TEE's answer is in memory that is not trusted: it is fetched once.
    fn collect<H: Host>(&mut self, host: &H) -> TeeResult {
        let mut theirs = Message::default();
        let outputs = self.kinds[..self.params].iter().any(|kind| kind.is_out());
        let size = if outputs {
            msg::size(self.params)
        } else {
            msg::HEADER_SIZE
        };
        host.read_shared(&self.shadow, 0, &mut theirs.as_mut_bytes()[..size]);
        let ours = &mut self.message;
        ours.header.ret = theirs.header.ret;
        ours.header.ret_origin = theirs.header.ret_origin;
        if Command(ours.header.cmd.get()) == Command::OPEN_SESSION {
            ours.header.session = theirs.header.session;
        }
        if outputs {
            for ((kind, theirs), ours) in self.kinds[..self.params]
                .iter()
                .zip(&theirs.params)
                .zip(&mut ours.params)
            {
                kind.copy_out(theirs, ours);
            }
        }
        TeeResult(ours.header.ret.get())
    }

    /// Writes the outputs to the guest's message: in one piece, from the first to the last.
    fn report<H: Host>(&self, host: &H) -> bool {
        let open = Command(self.message.header.cmd.get()) == Command::OPEN_SESSION;
        let from = if open {
            msg::SESSION_OFFSET
        } else {
            msg::RET_OFFSET
        };
        let last = self.kinds[..self.params]
            .iter()
            .rposition(|kind| kind.is_out());
        let to = last.map_or(msg::HEADER_SIZE - 4, |last| msg::size(last + 1));
        self.place
            .write(host, from, &self.message.as_bytes()[from..to])
            .is_ok()
    }
}
