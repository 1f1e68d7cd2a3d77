// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 50 and 52: information that a guest must not see, and memory without caches.

use crate::attack::{Attack, Observation, Verdict, holds, same};
use crate::kit::{Kit, fresh_cookie};
use alloc::format;
use alloc::string::String;
use guest_bare::PAGE_SIZE;
use guest_bare::pages::Pages;
use guest_bare::smccc::{self, Conduit};
use guest_bare::tee::message::{View, value};
use guest_bare::tee::{Message, PageList, Suspended, apps, memory};
use optee_proto::msg::{self, Attr, login};
use optee_proto::smc::{self, pair};
use optee_proto::{Return, rpc};

/// The attacks, in the order of the plan.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 50,
        title: "whether memory after messages, registers, or OP-TEE's requests show memory of the hypervisor",
        expected: "they do not: no physical address, no byte that was not there before",
        run: look,
    },
    Attack {
        number: 52,
        title: "shared memory that the guest accesses without caches",
        expected: "works as memory; no other VM is affected",
        run: uncached,
    },
];

/// The pattern of filled pages, which reveals what is written.
const FILL: u64 = 0xa5a5_5a5a_c3c3_3c3c;
/// The machine's RAM below the guest's addresses, which contains all of the hypervisor's memory.
const PHYSICAL: core::ops::Range<u64> = 0x4000_0000..0x1_0000_0000;

/// Fails when a word looks like the physical address of a page.
fn no_address(what: &str, word: u64) -> Result<(), String> {
    let page = word & !(PAGE_SIZE - 1);
    let list = word & 0xfff == 0 && PHYSICAL.contains(&page);
    holds(
        !list,
        &format!("{what}: {word:#x} is an address of the machine"),
    )
}

/// Fails when a page has changed from an offset on.
fn untouched(what: &str, page: u64, from: usize) -> Result<(), String> {
    for at in (from.next_multiple_of(8)..PAGE_SIZE as usize).step_by(8) {
        let word = memory::read_u64(page + at as u64);
        if word != FILL {
            return Err(format!("{what}: {word:#x} at {at:#x}"));
        }
    }
    Ok(())
}

/// Fills the rest of a message's page.
fn fill(message: &Message) -> usize {
    let from = msg::size(message.view().num_params() as usize);
    for at in (from..PAGE_SIZE as usize).step_by(8) {
        memory::write_u64(message.address() + at as u64, FILL);
    }
    from
}

/// Makes an SMC with all registers set; returns x0..x3 and checks the others.
fn call(what: &str, arguments: [u64; 7]) -> Result<[u64; 4], String> {
    let mut registers: [u64; 18] = core::array::from_fn(|at| FILL + at as u64);
    registers[..7].copy_from_slice(&arguments);
    let before = registers;
    smccc::call(Conduit::Smc, &mut registers).map_err(|fault| format!("{what}: {fault}"))?;
    for at in 4..18 {
        let (got, wanted) = (registers[at], before[at]);
        same(&format!("{what}: x{at}"), &got, &wanted)?;
    }
    for (at, word) in registers.iter().take(4).enumerate() {
        same(&format!("{what}: upper half of x{at}"), &(word >> 32), &0)?;
    }
    no_address(what, smc::unpair(registers[1], registers[2]))?;
    let [x0, x1, x2, x3, ..] = registers;
    Ok([x0, x1, x2, x3])
}

/// Makes a whole call by registers, with memory for RPC messages that is filled before each use.
fn converse(kit: &Kit, what: &str, message: &Message) -> Result<u32, String> {
    let from = fill(message);
    let room = Pages::take(1);
    let with = kit.supplicant.with_message(message);
    let (upper, lower) = pair(message.address());
    let mut arguments = [smc::CALL_WITH_ARG.get().into(), upper, lower, 0, 0, 0, 0];
    let (mut rpcs, mut longest) = (0, 0);
    loop {
        let [x0, x1, x2, x3] = call(what, arguments)?;
        let Some(function) = Return::from_x0(x0).rpc() else {
            same(what, &Return::from_x0(x0), &Return::OK)?;
            break;
        };
        rpcs += 1;
        let waiting = Suspended {
            function,
            args: [x1, x2],
            thread: x3,
        };
        let mut answer = [0; 4];
        if function == rpc::Function::ALLOC {
            room.fill(FILL);
            longest = 0;
            let ((a1, a2), (a4, a5)) = (pair(room.address()), pair(room.address()));
            answer = [a1, a2, a4, a5];
        } else if function == rpc::Function::CMD {
            same(what, &waiting.cookie(), &room.address())?;
            let view = View(room.address());
            let size = msg::size(view.num_params() as usize);
            // Bytes of the previous message belong to the guest itself.
            let behind = size.max(core::mem::replace(&mut longest, size));
            untouched(&format!("{what}: behind an RPC"), room.address(), behind)?;
            for at in (0..size).step_by(8) {
                no_address("in an RPC", memory::read_u64(room.address() + at as u64))?;
            }
            same("what OP-TEE says first", &view.ret().0, &0xffff_0000)?;
            // The supplicant finds the message by its name.
            view.set_ret(with.do_command(view));
            // The next request may be shorter.
            for at in (size..PAGE_SIZE as usize).step_by(8) {
                memory::write_u64(room.address() + at as u64, FILL);
            }
        }
        let [a1, a2, a4, a5] = answer;
        arguments = [
            smc::CALL_RETURN_FROM_RPC.get().into(),
            a1,
            a2,
            x3,
            a4,
            a5,
            0,
        ];
    }
    untouched(
        &format!("{what}: behind the message"),
        message.address(),
        from,
    )?;
    Ok(rpcs)
}

fn look(kit: &Kit) -> Verdict {
    let (mut fast, mut rpcs) = (0, 0);
    // All fast calls, and some that do not exist.
    for function in (0xb200_0000..0xb200_0020)
        .filter(|&id| {
            // These two would change OP-TEE's later behaviour.
            let keep = [smc::ENABLE_ASYNC_NOTIF, smc::ENABLE_SHM_CACHE];
            keep.iter().all(|function| id != u64::from(function.get()))
        })
        .chain([0xbf00_ff00, 0xbf00_ff01, 0xbf00_ff03, 0xb200_ffff])
    {
        let got = call(&format!("{function:#x}"), [function, 0, 0, 0, 0, 0, 0])?;
        // UUIDs are no addresses; the other results are small.
        if !matches!(function, 0xb200_0000 | 0xbf00_ff01) {
            for word in got {
                no_address(&format!("{function:#x}"), word)?;
            }
        }
        fast += 1;
    }
    // A session to an application, whose loading takes files, memory and more.
    let open = Message::open(apps::SMALL, login::PUBLIC, &[]);
    rpcs += converse(kit, "open", &open)?;
    same("open", &open.view().ret().0, &0)?;
    let close = Message::close(open.view().session());
    rpcs += converse(kit, "close", &close)?;
    same("close", &close.view().ret().0, &0)?;
    // A buffer whose stated size is more than the list has.
    let pages = Pages::take(2);
    pages.fill(FILL);
    let cookie = fresh_cookie();
    let list = PageList::of(&pages);
    let register = Message::register(cookie, &list);
    rpcs += converse(kit, "register", &register)?;
    same("register", &register.view().ret().0, &0)?;
    same(
        "the list's address",
        &register.param(0).a.get(),
        &list.pointer(),
    )?;
    same("the buffer's name", &register.param(0).c.get(), &cookie)?;
    let unregister = Message::unregister(cookie);
    rpcs += converse(kit, "unregister", &unregister)?;
    same("unregister", &unregister.view().ret().0, &0)?;
    untouched("the buffer", pages.address(), 0)?;
    // Result values that no function sets.
    kit.with_tests(|session| {
        let invoke = Message::invoke(
            session,
            apps::TESTS_PARAMS,
            &[value(Attr::VALUE_INOUT, 40, 2)],
        );
        rpcs += converse(kit, "invoke", &invoke)?;
        let param = invoke.param(0);
        same(
            "the sum",
            &[param.a.get(), param.b.get(), param.c.get()],
            &[42, 2, 0],
        )
    })?;
    Ok(Observation::new(format!("{fast} fast calls, {rpcs} RPCs")))
}

fn uncached(kit: &Kit) -> Verdict {
    kit.with_tests(|session| {
        let shared = kit.share(1)?;
        let alias = shared.pages.uncached_address();
        guest_bare::probe::store(alias, 0x0807_0605_0403_0201)
            .map_err(|fault| format!("write without caches: {fault}"))?;
        let got = kit.sum(session, shared.cookie, 0, 8);
        holds(got.is_success(), &format!("use a buffer: {got:?}"))?;
        let seen = guest_bare::probe::load(alias)
            .map_err(|fault| format!("read without caches: {fault}"))?;
        // This machine has no caches; with caches, a guest that maps memory otherwise sees stale
        // data, which is its own fault.
        same("what OP-TEE wrote", &seen, &0x0807_0605_0403_0224)?;
        shared.check(session)?;
        shared.unshare()?;
        Ok(Observation::new(
            "the sum of what was written without caches".into(),
        ))
    })
}
