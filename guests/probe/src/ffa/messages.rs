// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiments about messages and the memory that they name.

use super::lab::{finish, list, one, open_tests, park, two, works};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use guest_bare::PAGE_SIZE;
use guest_bare::ffa::tee::{Act, Refusal, Shared, describe, describe_status, fmem};
use guest_bare::ffa::{Endpoint, Tee};
use guest_bare::tee::apps;
use guest_bare::tee::message::View;
use optee_proto::ffa::{Fmem, Return};
use optee_proto::msg::{Attr, Command, Param};
use optee_proto::{TeeResult, rpc};

/// Returns a client with its message at an offset of so many pages of its own.
///
/// # Panics
/// The pages cannot be shared.
fn client_at(pages: usize, offset: u32) -> Tee {
    let endpoint = Endpoint::new(1);
    let tee = super::lab::client(1);
    let room = Shared::new(&endpoint, pages).expect("pages can be shared");
    let Tee {
        room: unused,
        supplicant,
        ..
    } = tee;
    unused.unshare(&endpoint);
    Tee {
        endpoint,
        room,
        offset,
        supplicant,
    }
}

/// Where in its object a message may be.
pub fn offsets() -> String {
    let tee = one();
    let at = |pages: usize, offset: u32| {
        let client = client_at(pages, offset);
        let result = describe(&client.close(0x7777));
        client.room.unshare(&tee.endpoint);
        result
    };
    // Nothing is written there.
    let room = Shared::new(&tee.endpoint, 2).expect("two pages");
    let raw = |offset: u32| match tee.begin_at(room.handle, offset) {
        Ok(Return::Done) => format!("result {:#x}", View(room.pages.address()).ret().0),
        Ok(_) => "suspended".into(),
        failed => describe(&failed),
    };
    let answers = list([
        ("0", at(2, 0)),
        ("8", at(2, 8)),
        ("16", at(2, 16)),
        ("4096", at(2, 4096)),
        ("4096 + 64", at(2, 4096 + 64)),
        ("across the pages", at(2, 4096 - 16)),
    ]);
    let strange = list([
        ("1", raw(1)),
        ("4", raw(4)),
        ("the end", raw(8192)),
        ("behind it", raw(8192 + 4096)),
        ("2^32 - 4096", raw(0xffff_f000)),
        ("2^32 - 1", raw(u32::MAX)),
    ]);
    format!(
        "a message at {answers}; at {strange}; VM 1 works: {}",
        works(&tee)
    )
}

/// How much room behind the message has to be there for RPC messages.
pub fn rpc_room() -> String {
    let tee = one();
    // OPEN_SESSION has two parameters, an RPC message four: 96 and 160 bytes.
    let open_at = |pages: usize, offset: u32| {
        let client = client_at(pages, offset);
        let result = describe(&client.open(apps::NOBODY));
        client.room.unshare(&tee.endpoint);
        result
    };
    let answers = list([
        ("256 bytes before the end", open_at(1, 4096 - 256)),
        ("248", open_at(1, 4096 - 248)),
        ("96", open_at(1, 4096 - 96)),
        ("room across the pages", open_at(2, 4096 - 128)),
        ("message across the pages", open_at(2, 4096 - 64)),
    ]);
    tee.put(Command::CLOSE_SESSION, 0, 0x7777, &[]);
    let claims = |count: u32| {
        tee.message().set_num_params(count);
        match tee.begin() {
            Ok(Return::Done) => format!("result {:#x}", tee.message().ret().0),
            Ok(_) => "suspended".into(),
            failed => describe(&failed),
        }
    };
    let counts = list([
        ("122", claims(122)),
        ("123", claims(123)),
        ("127", claims(127)),
        ("128", claims(128)),
        ("2^27", claims(1 << 27)),
        ("2^32 - 1", claims(u32::MAX)),
    ]);
    format!(
        "OPEN_SESSION {answers}; parameters of a message at 0: {counts}; VM 1 works: {}",
        works(&tee)
    )
}

fn reference(shared: &Shared, offset: u64, internal_offset: u16, size: u64) -> Param {
    let fmem = Fmem {
        offset,
        internal_offset,
        size,
        handle: shared.handle,
    };
    fmem.write(Attr::RMEM_INOUT).expect("an offset of 48 bits")
}

/// Has `invoke_tests.pta` add up bytes; it writes the sum into the first. Says where it did.
fn sum(tee: &Tee, session: u32, shared: &Shared, param: Param) -> String {
    for page in 0..shared.pages.count() {
        for at in (0..4096).step_by(8) {
            shared
                .pages
                .write_u64(page * 4096 + at, 0x0101_0101_0101_0101);
        }
    }
    let result = tee.invoke(session, apps::TESTS_PARAMS, &[param]);
    let mut bytes = alloc::vec![0; shared.pages.bytes() as usize];
    shared.pages.read(0, &mut bytes);
    let changed: Vec<String> = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte != 1)
        .map(|(at, byte)| format!("{at:#x} = {byte}"))
        .collect();
    match result {
        Ok(()) => format!("success, {}", changed.join(" ")),
        failed => format!("{}{}", describe(&failed), changed.join(" ")),
    }
}

/// `internal_offs` of a reference, at the first use of an object and later.
pub fn internal_offset() -> String {
    let tee = one();
    let Ok(session) = open_tests(&tee) else {
        return "no session".into();
    };
    let shared = || Shared::new(&tee.endpoint, 2).expect("two pages");
    let first = shared();
    let use_of = |shared: &Shared, offset, internal, size| {
        sum(
            &tee,
            session,
            shared,
            reference(shared, offset, internal, size),
        )
    };
    let answers = list([
        ("64 first", use_of(&first, 0, 64, 8)),
        ("then 0", use_of(&first, 0, 0, 8)),
        ("then 64 and offset 16", use_of(&first, 16, 64, 8)),
        ("to the end", use_of(&first, 0, 64, 8192 - 64)),
        ("one more", use_of(&first, 0, 64, 8192 - 63)),
    ]);
    let end = first.unshare(&tee.endpoint);
    let zero = shared();
    let zero_first = use_of(&zero, 0, 0, 8);
    let then = use_of(&zero, 0, 64, 8);
    let forgotten = tee.endpoint.unregister(zero.handle);
    let fresh = use_of(&zero, 0, 64, 8);
    let other = shared();
    let large = [4095, 4096, 0xffff].map(|internal| use_of(&other, 0, internal, 8));
    format!(
        "{answers}; RECLAIM: {end}; 0 first: {zero_first}, then 64: {then}; after UNREGISTER ({}) 64: {fresh}; \
         4095, 4096, 0xffff first: {}; VM 1 works: {}",
        describe_status(forgotten),
        large.join(", "),
        works(&tee)
    )
}

/// The handle of all ones, and zero.
pub fn null() -> String {
    let tee = one();
    let Ok(session) = open_tests(&tee) else {
        return "no session".into();
    };
    let ask = |func: u32, handle: u64, offset: u64, internal_offset: u16, size: u64| {
        let fmem = Fmem {
            offset,
            internal_offset,
            size,
            handle,
        };
        let param = fmem.write(Attr::RMEM_INOUT).expect("an offset of 48 bits");
        describe(&tee.invoke(session, func, &[param]))
    };
    let answers = list([
        ("size 0", ask(apps::TESTS_NULL, Fmem::NULL, 0, 0, 0)),
        ("size 8", ask(apps::TESTS_NULL, Fmem::NULL, 0, 0, 8)),
        ("offset 8", ask(apps::TESTS_NULL, Fmem::NULL, 8, 0, 0)),
        (
            "internal offset 8",
            ask(apps::TESTS_NULL, Fmem::NULL, 0, 8, 0),
        ),
        (
            "size 8 for a buffer",
            ask(apps::TESTS_PARAMS, Fmem::NULL, 0, 0, 8),
        ),
        ("handle 0, size 0", ask(apps::TESTS_NULL, 0, 0, 0, 0)),
        ("handle 0, size 8", ask(apps::TESTS_PARAMS, 0, 0, 0, 8)),
    ]);
    format!("{answers}; VM 1 works: {}", works(&tee))
}

/// References to parts of objects.
pub fn memrefs() -> String {
    let (tee, other) = two();
    let Ok(session) = open_tests(&tee) else {
        return "no session".into();
    };
    let shared = Shared::new(&tee.endpoint, 2).expect("two pages");
    let use_of = |offset, size| sum(&tee, session, &shared, reference(&shared, offset, 0, size));
    let inside = list([
        ("in the second page", use_of(PAGE_SIZE + 16, 8)),
        ("across", use_of(PAGE_SIZE - 4, 8)),
        ("to the end", use_of(PAGE_SIZE, PAGE_SIZE)),
    ]);
    let outside = list([
        ("one byte more", use_of(PAGE_SIZE, PAGE_SIZE + 1)),
        ("at the end", use_of(2 * PAGE_SIZE, 8)),
        ("offset 2^32", use_of(1 << 32, 8)),
        ("2^48 - 8", use_of((1 << 48) - 8, 16)),
        ("size 2^64 - 8", use_of(8, u64::MAX - 7)),
    ]);
    let raw = |param: Param| describe(&tee.invoke(session, apps::TESTS_PARAMS, &[param]));
    let named = list([
        (
            "the message's own page",
            raw(tee.room.part(Attr::RMEM_INOUT, 2048, 8)),
        ),
        (
            "an unknown handle",
            raw(fmem(Attr::RMEM_INOUT, 0x1234, 0, 8)),
        ),
        ("VM 2's", raw(other.room.part(Attr::RMEM_INOUT, 0, 8))),
        (
            "by address",
            raw(Param::new(Attr::TMEM_INOUT, shared.pages.address(), 8, 0)),
        ),
    ]);
    let commands = [Command::REGISTER_SHM, Command::UNREGISTER_SHM].map(|command| {
        let param = shared.part(Attr::RMEM_INPUT, 0, 8);
        describe(&tee.send(command, 0, 0, &[param]))
    });
    format!(
        "{inside}; {outside}; {named}; REGISTER_SHM, UNREGISTER_SHM: {}; VM 1 works: {}",
        commands.join(" "),
        works(&tee)
    )
}

/// A reference of no bytes for `invoke_tests.pta`, which writes a sum into the first byte without looking.
pub fn size_zero() -> String {
    let tee = one();
    let Ok(session) = open_tests(&tee) else {
        return "no session".into();
    };
    let shared = Shared::new(&tee.endpoint, 1).expect("a page");
    sum(&tee, session, &shared, reference(&shared, 8, 0, 0))
}

/// Types of parameters with bits that no type has.
pub fn attributes() -> String {
    let tee = one();
    let Ok(session) = open_tests(&tee) else {
        return "no session".into();
    };
    let attempt = |bits: u64| {
        let shared = Shared::new(&tee.endpoint, 1).expect("a page");
        let param = shared.part(Attr(Attr::RMEM_INOUT.0 | bits), 0, 8);
        let result = describe(&tee.invoke(session, apps::TESTS_PARAMS, &[param]));
        let forgotten = describe_status(tee.endpoint.unregister(shared.handle));
        let reclaimed = tee.endpoint.reclaim(shared.handle);
        shared.pages.forget();
        format!("{result}, UNREGISTER {forgotten}, RECLAIM {reclaimed}")
    };
    let answers = list([
        ("none", attempt(0)),
        ("META", attempt(Attr::META)),
        ("NONCONTIG", attempt(Attr::NONCONTIG)),
        ("bit 10", attempt(1 << 10)),
        ("bit 32", attempt(1 << 32)),
        ("bit 63", attempt(1 << 63)),
    ]);
    format!("{answers}; VM 1 works: {}", works(&tee))
}

/// Answers to SHM_ALLOC.
pub fn alloc() -> String {
    let (tee, other) = two();
    let small = Shared::new(&tee.endpoint, 1).expect("a page");
    let open = |answer: &dyn Fn(u64) -> Param, result: TeeResult| {
        tee.put_open(apps::OS_TEST);
        let mut after = Vec::new();
        let mut given = false;
        let outcome = tee.run(tee.begin(), |view| {
            let command = rpc::Command(view.cmd());
            if given {
                after.push(format!("{}", command.0));
            }
            let size = view.param(0).b.get();
            // The first large one is for the application's code.
            if command == rpc::Command::SHM_ALLOC && !given && size > PAGE_SIZE {
                given = true;
                view.set_param(0, &answer(size));
                view.set_ret(result);
                return Act::Answered;
            }
            Act::Default
        });
        format!("{}, RPCs after it: {}", describe(&outcome), after.join(" "))
    };
    let ok = TeeResult::SUCCESS;
    let out = Attr::RMEM_OUTPUT;
    let answers = list([
        (
            "too small",
            open(&|size| fmem(out, small.handle, 0, size), ok),
        ),
        ("size 1", open(&|_| fmem(out, small.handle, 0, 1), ok)),
        (
            "VM 2's",
            open(&|size| fmem(out, other.room.handle, 0, size), ok),
        ),
        ("unknown", open(&|size| fmem(out, 0x1234, 0, size), ok)),
        ("all ones", open(&|size| fmem(out, u64::MAX, 0, size), ok)),
        (
            "the message's page",
            open(&|size| fmem(out, tee.room.handle, 0, size), ok),
        ),
        (
            "a value",
            open(&|_| Param::new(Attr::VALUE_OUTPUT, 0, 0, 0), ok),
        ),
        (
            "OUT_OF_MEMORY",
            open(&|size| fmem(out, 0, 0, size), TeeResult::OUT_OF_MEMORY),
        ),
    ]);
    let honest = describe(&tee.open(apps::OS_TEST));
    let left = small.unshare(&tee.endpoint);
    format!(
        "{answers}; honestly: {honest}; RECLAIM of the small page: {left}; VM 1 and 2 work: {} {}",
        works(&tee),
        works(&other)
    )
}

/// RESUME of calls that are not the caller's to resume.
pub fn resume() -> String {
    let (tee, other) = two();
    let waits = super::lab::client(1);
    let parked = park(&waits, apps::NOBODY);
    let Ok(call) = parked else {
        return describe(&parked);
    };
    let by = |tee: &Tee, call: u32| describe(&tee.resume(call).map(drop));
    let answers = list([
        ("by another VM", by(&other, call)),
        ("the next number", by(&tee, call + 1)),
        ("2^32 - 1", by(&tee, u32::MAX)),
        ("2^16 + the number", by(&tee, call | 1 << 16)),
    ]);
    let end = describe(&finish(&waits, call));
    let after = by(&tee, call);
    let results: [Result<(), Refusal>; 1] = [waits.close(0x7777)];
    format!(
        "call {call}; RESUME {answers}; the call's end: {end}, RESUME after it: {after}, another message: {}; \
         VM 1 and 2 work: {} {}",
        describe(&results[0]),
        works(&tee),
        works(&other)
    )
}
