// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The means of attacks over FF-A.

use crate::attack::{holds, same};
use crate::kit::{GONE, IN_USE, relinquish};
use alloc::format;
use alloc::string::{String, ToString};
use guest_bare::ffa::tee::{Act, Refusal, Shared, describe, describe_status};
use guest_bare::ffa::{self, Answer, Endpoint, Function, OPTEE, Tee, VERSION};
use guest_bare::tee::apps;
use guest_bare::tee::message::value;
use optee_proto::msg::Attr;

/// The pages of the program's RX and TX buffers.
pub const BUFFER: usize = 4;
/// w3 of a refused call: a handle, an offset or a number is wrong.
pub const BAD_PARAMETERS: &str = "w3 = 0xffff0006";
/// A message's result: a parameter is wrong.
pub const BAD_RESULT: &str = "result 0xffff0006";
/// w3 where no thread is free.
pub const BUSY: &str = "w3 = 0xffff000d";

/// The means of attacks.
pub struct FfaKit {
    /// The VM.
    pub endpoint: Endpoint,
    /// A client with a page for its messages.
    pub tee: Tee,
    /// What a call before VERSION was answered.
    pub before: Answer,
}

impl FfaKit {
    /// Returns a kit, where the hypervisor speaks FF-A.
    ///
    /// # Errors
    /// What does not work, although FF-A is there.
    pub fn new() -> Option<Result<Self, String>> {
        let before = ffa::own_id();
        (ffa::version(VERSION) == VERSION as u32).then(|| Self::begin(before))
    }

    fn begin(before: Answer) -> Result<Self, String> {
        let mapped = ffa::map_buffers(BUFFER);
        holds(mapped.is_success(), &format!("RXTX_MAP: {mapped}"))?;
        let endpoint = Endpoint::new(ffa::own_id().w(2) as u16);
        let tee = of_tee("share a page", Tee::new(endpoint))?;
        Ok(Self {
            endpoint,
            tee,
            before,
        })
    }

    /// Returns another client.
    pub fn client(&self) -> Result<Tee, String> {
        of_tee("share a page", Tee::new(self.endpoint))
    }

    /// Shares pages.
    pub fn share(&self, pages: usize) -> Result<Shared, String> {
        of_tee("share", Shared::new(&self.endpoint, pages))
    }

    /// Gives shared pages back.
    pub fn unshare(&self, shared: Shared) -> Result<(), String> {
        answers("give pages back", shared.unshare(&self.endpoint), "SUCCESS")
    }

    /// Gives shared pages back, and then to Postern, which must let go of them.
    pub fn give_up(&self, shared: Shared) -> Result<(), String> {
        // A refusal shows in the reclaim.
        let _ = self.endpoint.unregister(shared.handle);
        answers("RECLAIM", self.endpoint.reclaim(shared.handle), "SUCCESS")?;
        let pages = shared.pages.count() as u64;
        let got = relinquish(shared.pages.address(), pages);
        shared.pages.forget();
        same("relinquish pages that are not shared", &got, &GONE)
    }

    /// Ends a client.
    pub fn end(&self, tee: Tee) -> Result<(), String> {
        self.unshare(tee.room)
    }

    /// Opens a session to OP-TEE's own test application.
    pub fn open_tests(&self) -> Result<u32, String> {
        of_tee("open invoke_tests.pta", self.tee.open(apps::TESTS))
    }

    /// Runs `work` with a session to OP-TEE's own test application.
    pub fn with_tests<T>(&self, work: impl FnOnce(u32) -> Result<T, String>) -> Result<T, String> {
        let session = self.open_tests()?;
        let done = work(session);
        let closed = of_tee("close", self.tee.close(session));
        let done = done?;
        closed.map(|()| done)
    }

    /// Makes OP-TEE read and write the first bytes of shared pages.
    pub fn check(&self, session: u32, shared: &Shared) -> Result<(), String> {
        shared.pages.write(0, &[1, 2, 3, 4, 5, 6, 7, 8]);
        let params = [shared.part(Attr::RMEM_INOUT, 0, 8)];
        let used = self.tee.invoke(session, apps::TESTS_PARAMS, &params);
        of_tee("use a buffer", used)?;
        let mut bytes = [0; 8];
        shared.pages.read(0, &mut bytes);
        same("what OP-TEE wrote", &bytes, &[36, 2, 3, 4, 5, 6, 7, 8])
    }

    /// Checks that Postern knows that OP-TEE may use the first of these pages.
    pub fn check_pinned(&self, shared: &Shared) -> Result<(), String> {
        let answer = relinquish(shared.pages.address(), 1);
        same("relinquish a shared page", &answer, &IN_USE)
    }

    /// Checks that the TEE serves this VM: a session, a buffer that OP-TEE reads and writes, and the end of both.
    pub fn alive(&self) -> Result<(), String> {
        self.with_tests(|session| {
            let sum = [value(Attr::VALUE_INOUT, 40, 2)];
            of_tee("add", self.tee.invoke(session, apps::TESTS_PARAMS, &sum))?;
            same("40 + 2", &self.tee.message().param(0).a.get(), &42)?;
            let shared = self.share(1)?;
            self.check(session, &shared)?;
            self.unshare(shared)
        })
    }

    /// Leaves a call of `tee` at its first RPC; returns its number.
    pub fn park(&self, tee: &Tee) -> Result<u32, Refusal> {
        tee.put_open(apps::NOBODY);
        match tee.run(tee.begin(), |_| Act::Park) {
            Err(Refusal::Parked(call)) => Ok(call),
            Err(other) => Err(other),
            Ok(()) => Err(Refusal::Tee(optee_proto::TeeResult::SUCCESS)),
        }
    }

    /// Continues a call that [`FfaKit::park`] left, to its end: there is no such application.
    pub fn finish(&self, tee: &Tee, call: u32) -> Result<(), String> {
        tee.answer(tee.rpc());
        let end = tee.run(tee.resume(call), |_| Act::Default);
        same(
            "the end of a call",
            &describe(&end).as_str(),
            &"result 0xffff0008",
        )
    }

    /// Returns another VM's id.
    pub fn neighbour(&self) -> u16 {
        if self.endpoint.id == 1 { 2 } else { 1 }
    }

    /// Asks for the API version, in w3 and w4 of the answer.
    pub fn ask(&self, source: u16, receiver: u16, w2: u64) -> Answer {
        Endpoint::new(source).send(receiver, w2, [0; 5])
    }

    /// Returns whether the VM is offered notifications.
    pub fn notifies(&self) -> bool {
        let feature = ffa::call(Function::Features, [1, 0, 0, 0, 0, 0, 0]);
        feature.is_success()
    }

    /// Checks that an honest request is answered.
    pub fn check_honest(&self) -> Result<(), String> {
        let answer = self.ask(self.endpoint.id, OPTEE, 0);
        answers("GET_API_VERSION", answer, "0x1 0x0 0x0 0x0 0x0")
    }
}

/// Fails unless the answer reads so.
pub fn answers(what: &str, answer: Answer, wanted: &str) -> Result<(), String> {
    same(what, &answer.to_string().as_str(), &wanted)
}

/// Fails unless the status in w3 reads so.
pub fn status(what: &str, got: Result<u32, Refusal>, wanted: &str) -> Result<(), String> {
    same(what, &describe_status(got).as_str(), &wanted)
}

/// Fails unless the result of a call reads so.
pub fn results<T>(what: &str, got: &Result<T, Refusal>, wanted: &str) -> Result<(), String> {
    same(what, &describe(got).as_str(), &wanted)
}

/// Converts a refusal.
pub fn of_tee<T>(what: &str, got: Result<T, Refusal>) -> Result<T, String> {
    let text = format!("{what}: {}", describe(&got));
    got.map_err(|_| text)
}
