// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 56 to 58, which were added later: sessions that are being opened, answers to RPCs, buffers that go.

use super::kit::{BUFFER, FfaKit, answers};
use crate::attack::{Attack, Observation, Verdict, holds};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use guest_bare::ffa::tee::{Act, describe};
use guest_bare::ffa::{self, Descriptor, Function, call, map};
use guest_bare::pages::Pages;
use guest_bare::tee::apps;
use guest_bare::tee::message::View;
use optee_proto::msg::{Attr, Param};
use optee_proto::{TeeResult, rpc};

/// The attacks.
pub const ATTACKS: &[Attack<FfaKit>] = &[
    Attack {
        number: 56,
        title: "INVOKE and CLOSE_SESSION of a session that is being opened, whose opening then fails",
        expected: "refused; OP-TEE lives when the next session is opened",
        run: being_opened,
    },
    Attack {
        number: 57,
        title: "answers RPCs with other commands, counts, types, sizes and results",
        expected: "the call fails, or asks again; OP-TEE lives",
        run: wrong_answers,
    },
    Attack {
        number: 58,
        title: "RXTX_UNMAP between two fragments, and other buffers for the second",
        expected: "INVALID_PARAMETERS without buffers; the rest is taken or refused, nothing stays pinned",
        run: buffers_go,
    },
];

fn being_opened(kit: &FfaKit) -> Verdict {
    for _ in 0..5 {
        let opener = kit.client()?;
        let call = kit
            .park(&opener)
            .map_err(|why| format!("a call does not wait: {why:?}"))?;
        for session in 0..40 {
            let used = kit.tee.invoke(session, apps::TESTS_TRACE, &[]);
            holds(used.is_err(), &format!("INVOKE of session {session}"))?;
            let closed = kit.tee.close(session);
            holds(
                closed.is_err(),
                &format!("CLOSE_SESSION of session {session}"),
            )?;
        }
        kit.finish(&opener, call)?;
        kit.end(opener)?;
        kit.alive()?;
    }
    Ok(Observation::new("5 times 40 sessions".into()))
}

fn wrong_answers(kit: &FfaKit) -> Verdict {
    type Change = fn(View);
    let changes: [(&str, Change); 10] = [
        ("another command", |view| view.set_cmd(7)),
        ("no command", |view| view.set_cmd(u32::MAX)),
        ("no parameters", |view| view.set_num_params(0)),
        ("127 parameters", |view| view.set_num_params(127)),
        ("2^32 - 1 parameters", |view| view.set_num_params(u32::MAX)),
        ("success and nothing", |view| {
            view.set_ret(TeeResult::SUCCESS);
        }),
        ("a strange result", |view| {
            view.set_ret(TeeResult(0x1234_5678));
        }),
        ("another type", |view| {
            view.set_param(0, &Param::new(Attr::TMEM_INOUT, 0x4020_0000, 4096, 7));
            view.set_ret(TeeResult::SUCCESS);
        }),
        ("a huge size", |view| {
            let mut param = view.param(1);
            param.b = u64::MAX.into();
            view.set_param(1, &param);
            view.set_ret(TeeResult::SUCCESS);
        }),
        ("another handle", |view| {
            let mut param = view.param(1);
            param.c = 0x1234_u64.into();
            view.set_param(1, &param);
            view.set_ret(TeeResult::SUCCESS);
        }),
    ];
    let mut seen: Vec<String> = Vec::new();
    for (what, change) in changes {
        let tee = kit.client()?;
        tee.put_open(apps::NOBODY);
        let mut rpcs = 0;
        let end = tee.run(tee.begin(), |view| {
            rpcs += 1;
            if rpcs > 20 {
                return Act::Default;
            }
            // What has to be freed is freed, and nothing is given that OP-TEE may not take.
            match rpc::Command(view.cmd()) {
                rpc::Command::SHM_FREE => return Act::Default,
                rpc::Command::SHM_ALLOC => {}
                _ => tee.answer(view),
            }
            change(view);
            Act::Answered
        });
        let text = describe(&end);
        holds(
            end.is_err(),
            &format!("{what}: an application that there is not"),
        )?;
        if !seen.contains(&text) {
            seen.push(text);
        }
        kit.end(tee)?;
        kit.alive().map_err(|why| format!("after {what}: {why}"))?;
    }
    Ok(Observation::new(seen.join(", ")))
}

fn buffers_go(kit: &FfaKit) -> Verdict {
    let unmap = || call(Function::RxtxUnmap, [0; 7]);
    let pages = Pages::take(4);
    let ranges = [(pages.page(0), 1), (pages.page(2), 1)];
    let bytes = Descriptor::new(kit.endpoint.id, &ranges).bytes();
    let total = bytes.len() as u64;
    let begun = kit
        .endpoint
        .send_bytes(Function::MemShare, &bytes[..96], [total, 96, 0, 0]);
    let is_open = u64::from(begun.w(0)) == ffa::id(Function::MemFragRx);
    holds(is_open, &format!("the first fragment: {begun}"))?;
    let (low, high) = (u64::from(begun.w(1)), u64::from(begun.w(2)));
    answers("RXTX_UNMAP", unmap(), "SUCCESS")?;
    let rest = |length: u64| call(Function::MemFragTx, [low, high, length, 0, 0, 0, 0]);
    answers(
        "FRAG_TX without buffers",
        rest(total - 96),
        "INVALID_PARAMETERS",
    )?;
    let others = Pages::take(2);
    others.write(0, &bytes[96..]);
    answers(
        "RXTX_MAP",
        map(others.page(0), others.page(1), 1),
        "SUCCESS",
    )?;
    let end = rest(total - 96);
    if let Some(handle) = end.handle() {
        answers("RECLAIM", kit.endpoint.reclaim(handle), "SUCCESS")?;
    }
    answers("RXTX_UNMAP", unmap(), "SUCCESS")?;
    let own = ffa::buffers();
    let tx = own.tx.lock().address();
    answers(
        "RXTX_MAP",
        map(tx, own.rx.address(), BUFFER as u64),
        "SUCCESS",
    )?;
    holds(
        end.is_success() || end.error().is_some(),
        &format!("the rest: {end}"),
    )?;
    kit.alive()?;
    Ok(Observation::new(format!("the rest: {end}")))
}
