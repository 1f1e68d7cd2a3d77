// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiments about shared memory: what OP-TEE lets the normal world name.

use crate::lab::{Lab, client, create, describe, describe_step, destroy};
use alloc::format;
use alloc::string::String;
use guest_bare::PAGE_SIZE;
use guest_bare::event::Event;
use guest_bare::machine::machine;
use guest_bare::pages::Pages;
use guest_bare::tee::client::Failure;
use guest_bare::tee::message::rmem;
use guest_bare::tee::supplicant::object_at;
use guest_bare::tee::{Act, Message, Outcome, PageList, Step, Suspended, apps, memory};
use optee_proto::msg::{Attr, Param};
use optee_proto::{Return, TeeResult, Uuid, rpc, smc};

const COOKIE: u64 = 0x5555;

/// Returns an INVOKE of a PTA that adds up a memref and writes the sum into its first byte.
fn sum(session: u32, param: Param) -> Message {
    Message::invoke(session, apps::TESTS_PARAMS, &[param])
}

/// Creates VM 1 and opens a session.
fn begin(lab: &Lab) -> Result<u32, Failure> {
    create(1);
    lab.open(1, apps::TESTS)
}

/// Returns a memory reference with cookie 0.
pub fn cookie_zero(lab: &Lab) -> String {
    let session = match begin(lab) {
        Ok(session) => session,
        failed => return describe(&failed),
    };
    let at = 2048;
    let message = sum(session, rmem(Attr::RMEM_INOUT, at, 4, 0));
    memory::write_u32(message.address() + at, 0x0101_0101);
    let result = client(1).call(&message, &lab.supplicant);
    let wrote = memory::read_u32(message.address() + at) == 0x0101_0104;
    let list = Message::register(0, &PageList::of(&Pages::take(1)));
    let registered = describe(&client(1).call(&list, &lab.supplicant));
    format!(
        "INVOKE with RMEM shm_ref = 0: {}; the application wrote into the page of the call's own message: {wrote}; \
         REGISTER_SHM with cookie 0: {registered}",
        describe(&result)
    )
}

/// Returns the cookie of the page for RPC messages as a memory reference.
pub fn cookie_rpc(lab: &Lab) -> String {
    let session = match begin(lab) {
        Ok(session) => session,
        failed => return describe(&failed),
    };
    let load = rpc::Command::LOAD_TA;
    let (_message, parked) = lab.open_until(1, apps::NOBODY, load);
    let call = match parked {
        Ok(call) => call,
        failed => return describe(&failed),
    };
    let page = object_at(call.cookie(), 0).expect("the page of the RPC");
    // The first word after the message, which OP-TEE does not write.
    let at = 2048;
    memory::write_u32(page + at, 0x0101_0101);
    let message = sum(session, rmem(Attr::RMEM_INOUT, at, 4, call.cookie()));
    let result = client(1).call(&message, &lab.supplicant);
    format!(
        "INVOKE with the RPC page's cookie: {}; the application wrote there: {}",
        describe(&result),
        memory::read_u32(page + at) == 0x0101_0104
    )
}

/// One cookie for two buffers.
pub fn cookie_twice(lab: &Lab) -> String {
    let session = match begin(lab) {
        Ok(session) => session,
        failed => return describe(&failed),
    };
    let client = client(1);
    let (small, large) = (Pages::take(1), Pages::take(2));
    let register =
        |pages: &Pages| describe(&client.register(&lab.supplicant, COOKIE, &PageList::of(pages)));
    let reach = |size: u64| {
        describe(&client.call(
            &sum(session, rmem(Attr::RMEM_INOUT, 0, size, COOKIE)),
            &lab.supplicant,
        ))
    };
    let unregister = || describe(&client.unregister(&lab.supplicant, COOKIE));
    format!(
        "registering 1 page, then 2: {}, {}; reaching 2 pages: {}; unregistering: {}; reaching 2 pages: {}, \
         1 page: {}; unregistering: {}, {}",
        register(&small),
        register(&large),
        reach(2 * PAGE_SIZE),
        unregister(),
        reach(2 * PAGE_SIZE),
        reach(PAGE_SIZE),
        unregister(),
        unregister()
    )
}

/// Loads an application up to SHM_ALLOC, which `answer` answers; describes what comes next.
fn alloc(lab: &Lab, size: u64, answer: impl Fn(&Pages, guest_bare::tee::message::View)) -> String {
    create(1);
    let message = Message::open(apps::NOBODY, 0, &[]);
    let with = lab.supplicant.with_message(&message);
    let pages = Pages::take(2);
    let client = client(1);
    let begun = client.begin(smc::CALL_WITH_ARG, &message);
    let mut asked = false;
    let outcome = client.run(begun, &with, |call| match with.command(call) {
        Some(rpc::Command::LOAD_TA) if !asked => {
            let view = with.message(call).expect("a message");
            let mut to = view.param(1);
            to.b = size.into();
            view.set_param(1, &to);
            view.set_ret(TeeResult::SUCCESS);
            asked = true;
            Act::DONE
        }
        Some(rpc::Command::SHM_ALLOC) if asked => {
            let view = with.message(call).expect("a message");
            view.set_ret(TeeResult::SUCCESS);
            answer(&pages, view);
            Act::DONE
        }
        Some(_) if asked => Act::Park,
        _ => Act::Default,
    });
    match outcome {
        Outcome::Done(Return::OK) => {
            format!("refused: the call ends with {:#x}", message.view().ret().0)
        }
        Outcome::Done(code) => describe_step(Step::Done(code)),
        Outcome::Parked(call) => next(&with, &call),
    }
}

fn next(with: &guest_bare::tee::Supplicant, call: &Suspended) -> String {
    let view = with.message(call).expect("a message");
    let (name, to) = (view.param(0), view.param(1));
    match rpc::Command(view.cmd()) {
        rpc::Command::LOAD_TA => format!(
            "accepted: LOAD_TA into RMEM with the reply's cookie: {}",
            to.c.get() == COOKIE
        ),
        rpc::Command::SHM_FREE => {
            format!(
                "refused: SHM_FREE of the reply's cookie: {}",
                name.b.get() == COOKIE
            )
        }
        other => format!("{other:?}"),
    }
}

/// Returns the reply to SHM_ALLOC has another command in it (W3).
pub fn other_command(lab: &Lab) -> String {
    alloc(lab, 2 * PAGE_SIZE, |pages, view| {
        let list = PageList::of(pages);
        view.set_cmd(rpc::Command::GET_TIME.0);
        let param = Param::new(Attr::PAGE_LIST, list.pointer(), pages.bytes(), COOKIE);
        view.set_param(0, &param);
        core::mem::forget(list);
    })
}

/// Returns the reply to SHM_ALLOC is one page by address (W4).
pub fn contiguous(lab: &Lab) -> String {
    alloc(lab, PAGE_SIZE, |pages, view| {
        let param = Param::new(Attr::TMEM_OUTPUT, pages.address(), PAGE_SIZE, COOKIE);
        view.set_param(0, &param);
    })
}

/// Returns the reply to SHM_ALLOC is two pages by address.
pub fn contiguous_two(lab: &Lab) -> String {
    alloc(lab, 2 * PAGE_SIZE, |pages, view| {
        let param = Param::new(Attr::TMEM_OUTPUT, pages.address(), 2 * PAGE_SIZE, COOKIE);
        view.set_param(0, &param);
    })
}

/// Returns the reply to FUNC_ALLOC is no memory, with a cookie.
pub fn nothing(lab: &Lab) -> String {
    create(1);
    let message = Message::open(apps::NOBODY, 0, &[]);
    let with = lab.supplicant.with_message(&message);
    let client = client(1);
    let begun = client.begin(smc::CALL_WITH_ARG, &message);
    let (mut asked, mut freed) = (0, 0);
    let outcome = client.run(begun, &with, |call| match call.function {
        rpc::Function::ALLOC => {
            asked += 1;
            Act::memory(0, COOKIE)
        }
        rpc::Function::FREE => {
            freed += u32::from(call.cookie() == COOKIE);
            Act::DONE
        }
        _ => Act::Default,
    });
    let end = match outcome {
        Outcome::Done(Return::OK) => format!("the call ends with {:#x}", message.view().ret().0),
        Outcome::Done(code) => describe_step(Step::Done(code)),
        Outcome::Parked(_) => "parked".into(),
    };
    format!(
        "each is followed by FUNC_FREE of the cookie: {}; {end}; the VM works: {}",
        asked > 0 && asked == freed,
        lab.works(1)
    )
}

/// Returns a page list in INVOKE.
pub fn list_leak(lab: &Lab) -> String {
    let session = match begin(lab) {
        Ok(session) => session,
        failed => return describe(&failed),
    };
    let client = client(1);
    let pages = Pages::take(1);
    let list = PageList::of(&pages);
    let attr = Attr(Attr::TMEM_INOUT.0 | Attr::NONCONTIG);
    let param = Param::new(attr, list.pointer(), PAGE_SIZE, COOKIE);
    let first = describe(&client.call(&sum(session, param), &lab.supplicant));
    let reach = sum(session, rmem(Attr::RMEM_INOUT, 0, PAGE_SIZE, COOKIE));
    let later = describe(&client.call(&reach, &lab.supplicant));
    let unregistered = describe(&client.unregister(&lab.supplicant, COOKIE));
    let still = describe(&client.call(&reach, &lab.supplicant));
    format!(
        "INVOKE with TMEM|NONCONTIG: {first}; afterwards its cookie as RMEM: {later}; UNREGISTER_SHM: \
         {unregistered}; its cookie as RMEM: {still}"
    )
}

/// OP-TEE's static shared memory.
pub fn reserved(lab: &Lab) -> String {
    let session = match begin(lab) {
        Ok(session) => session,
        failed => return describe(&failed),
    };
    let invoke = |address: u64| {
        let param = Param::new(Attr::TMEM_INOUT, address, 64, 0);
        describe(&client(1).call(&sum(session, param), &lab.supplicant))
    };
    format!(
        "INVOKE with contiguous TMEM at 0x42000000: {}, elsewhere in normal memory: {}, in secure memory: {}",
        invoke(0x4200_0000),
        invoke(Pages::take(1).address()),
        invoke(0x0e10_0000)
    )
}

/// Returns whose pages OP-TEE accepts.
pub fn anything(lab: &Lab) -> String {
    create(1);
    let client = client(1);
    let register = |page: u64| {
        let list = PageList::new([page].into_iter(), 0, PAGE_SIZE);
        let result = client.register(&lab.supplicant, COOKIE, &list);
        if result.is_ok() {
            let _ = client.unregister(&lab.supplicant, COOKIE);
        }
        describe(&result)
    };
    format!(
        "the hypervisor's image: {}, its device tree: {}, the static shared memory: {}, OP-TEE's own: {}, \
         TF-A's: {}, the UART: {}, flash: {}, an unaligned address: {}, behind RAM: {}",
        register(machine().image.start),
        register(machine().tree.start),
        register(0x4200_0000),
        register(0x0e10_0000),
        register(0x0e00_0000),
        register(machine().uart.unwrap_or_default()),
        register(0),
        register(0x4800_0008),
        register(0x1_0000_0000)
    )
}

/// Returns the largest buffer that OP-TEE accepts.
pub fn large(lab: &Lab) -> String {
    create(1);
    let client = client(1);
    let page = Pages::take(1);
    // The same page repeatedly: only the list's length counts.
    let size_of = |count: usize| {
        PageList::new(
            (0..count).map(|_| page.address()),
            0,
            count as u64 * PAGE_SIZE,
        )
    };
    let takes = |count: usize| {
        let ok = client
            .register(&lab.supplicant, COOKIE, &size_of(count))
            .is_ok();
        if ok {
            let _ = client.unregister(&lab.supplicant, COOKIE);
        }
        ok
    };
    let (mut good, mut bad) = (1_usize, 1 << 16);
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        if takes(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    format!(
        "the largest buffer is {} MiB ({good} pages); the VM works: {}",
        good >> 8,
        lab.works(1)
    )
}

/// UNREGISTER_SHM while an application uses the buffer.
pub fn unregister_used(lab: &Lab) -> String {
    create(1);
    let client = client(1);
    let pages = Pages::take(1);
    let list = PageList::of(&pages);
    let registered = describe(&client.register(&lab.supplicant, COOKIE, &list));
    // Opening an application that does not exist, with the buffer as a parameter, waits for
    // LOAD_TA.
    let param = rmem(Attr::RMEM_INOUT, 0, PAGE_SIZE, COOKIE);
    let open = Message::open(apps::NOBODY, 0, &[param]);
    let parked = match lab.run_until(1, &open, rpc::Command::LOAD_TA) {
        Ok(call) => call,
        failed => return describe(&failed),
    };
    let message = Message::unregister(COOKIE);
    let waits = lab.run_until(1, &message, rpc::Command::NOTIFICATION);
    let ended = describe(&lab.finish(1, &open, &parked));
    let done = match &waits {
        Ok(call) => describe(&lab.finish(1, &message, call)),
        Err(_) => "-".into(),
    };
    format!(
        "register: {registered}; UNREGISTER_SHM meanwhile waits by the RPC NOTIFICATION: {}; the other call \
         ends: {ended}; then UNREGISTER_SHM: {done}",
        waits.is_ok()
    )
}

/// Registers a buffer of `mib` MiB, made of one page repeatedly, passes 64 bytes of it to an
/// application, and unregisters it.
fn reach(lab: &Lab, app: Uuid, func: u32, mib: u64) -> String {
    let client = client(1);
    let page = Pages::take(1);
    let pages = (mib << 20) / PAGE_SIZE;
    let entries = (0..pages as usize).map(|_| page.address());
    let list = PageList::new(entries, 0, mib << 20);
    let result = client.register(&lab.supplicant, COOKIE, &list);
    if result.is_err() {
        return format!("registering: {}", describe(&result));
    }
    let session = lab.open(1, app);
    let result = session.and_then(|session| {
        let param = rmem(Attr::RMEM_INOUT, 0, 64, COOKIE);
        let result = client.invoke(&lab.supplicant, session, func, [param]);
        client.close(&lab.supplicant, session)?;
        result
    });
    let _ = client.unregister(&lab.supplicant, COOKIE);
    describe(&result)
}

/// Returns a growing buffer of which a PTA uses a small part.
pub fn map_pta(lab: &Lab) -> String {
    create(1);
    for mib in 1..=32 {
        Event::new("note").number("mib", mib).send();
        let done = reach(lab, apps::TESTS, apps::TESTS_PARAMS, mib);
        if done != "success" {
            return format!("a PTA that is given 64 bytes of a buffer of {mib} MiB: {done}");
        }
    }
    "up to 32 MiB: success".into()
}

/// Returns the same with a user application.
pub fn map_app(lab: &Lab) -> String {
    create(1);
    // The function exists and needs other parameters; only the call counts.
    let done = [1, 8, 16, 32, 60].map(|mib| {
        Event::new("note").number("mib", mib).send();
        format!(
            "{mib} MiB: {}",
            reach(lab, apps::SIMS, apps::SIMS_WRITE, mib)
        )
    });
    format!(
        "a user application that is given 64 bytes of a buffer of {}",
        done.join(", ")
    )
}

/// Returns an application whose size the normal world invents.
pub fn map_load(lab: &Lab) -> String {
    for mib in 1..=32 {
        Event::new("note").number("mib", mib).send();
        let size = mib << 20;
        let page = Pages::take(1);
        let done = alloc(lab, size, |_, view| {
            let entries = (0..(size / PAGE_SIZE) as usize).map(|_| page.address());
            let list = PageList::new(entries, 0, size);
            view.set_param(
                0,
                &Param::new(Attr::PAGE_LIST, list.pointer(), size, COOKIE),
            );
            core::mem::forget(list);
        });
        if !done.starts_with("accepted") {
            return format!("an application of {mib} MiB: {done}");
        }
        destroy(1);
    }
    "up to 32 MiB: accepted".into()
}
