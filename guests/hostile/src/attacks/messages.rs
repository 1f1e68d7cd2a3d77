// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 1 to 10: the message.

use super::message_races;
use crate::attack::{Attack, Observation, Verdict, holds, same};
use crate::kit::{Got, IN_USE, Kit, bad_addresses, fresh_cookie, relinquish};
use alloc::format;
use guest_bare::pages::Pages;
use guest_bare::tee::message::rmem;
use guest_bare::tee::{Message, PageList, apps};
use guest_bare::{PAGE_SIZE, machine};
use optee_proto::msg::{Attr, Command, Param, login};
use optee_proto::smc::CALL_WITH_ARG;
use optee_proto::{Return, TeeResult};

/// The attacks, in the order of the plan.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 1,
        title: "message unaligned, not in RAM, in a device, after RAM, outside the IPA space, with garbage above bit 31",
        expected: "EBADADDR, no SMC; the garbage is ignored",
        run: bad_message_addresses,
    },
    Attack {
        number: 2,
        title: "num_params 128, 0x0800_0000, 0xffff_ffff, and more than the command has",
        expected: "EBADADDR where a page cannot hold this many, otherwise BAD_PARAMETERS",
        run: too_many_params,
    },
    Attack {
        number: 3,
        title: "another vCPU rewrites cmd, num_params, attr, buf_ptr while the call begins",
        expected: "the outcome of one version or the other, never of a mixture",
        run: message_races::rewrite_during_call,
    },
    Attack {
        number: 4,
        title: "the message's page is given back during the call",
        expected: "EBADADDR, and nothing is written to the page's next owner",
        run: message_races::give_message_back,
    },
    Attack {
        number: 5,
        title: "two vCPUs use one page as message at once",
        expected: "two independent calls, both successful",
        run: message_races::one_message_twice,
    },
    Attack {
        number: 6,
        title: "attributes: unknown types and bits, META in INVOKE, cache bits, the upper half",
        expected: "BAD_PARAMETERS",
        run: bad_attributes,
    },
    Attack {
        number: 7,
        title: "unknown commands, and commands that guests must not use",
        expected: "EBADCMD, no thread consumed",
        run: bad_commands,
    },
    Attack {
        number: 8,
        title: "memory by address: the hypervisor's, the secure world's, the guest's own",
        expected: "BAD_PARAMETERS",
        run: memory_by_address,
    },
    Attack {
        number: 9,
        title: "a NULL reference that carries a live cookie (W1)",
        expected: "success, and the buffer is still pinned and usable",
        run: null_with_cookie,
    },
    Attack {
        number: 10,
        title: "REGISTER_SHM with a value, a registered reference, two parameters, NULL, the wrong direction (W2)",
        expected: "BAD_PARAMETERS, and the buffer whose cookie it names is untouched",
        run: bad_registrations,
    },
];

fn bad_message_addresses(kit: &Kit) -> Verdict {
    let message = Message::invoke(0, 0, &[]);
    let own = message.address();
    let mut tries = 0;
    let mut refuse = |what: &str, address: u64| {
        tries += 1;
        same(what, &kit.send_at(address), &Return::EBADADDR)
    };
    for offset in [1, 8, 0x800, 0xfff] {
        refuse("unaligned", own + offset)?;
    }
    for bad in bad_addresses() {
        refuse(bad.what, bad.address)?;
    }
    // An IPA of 52 bits, and one whose low 40 bits are in this VM's RAM.
    refuse("52 bits", (1 << 51) + own)?;
    refuse("41 bits", (1 << 40) + own)?;
    // a1 and a2 are 32-bit registers in an SMC32 call: the bits above are ignored. The message is
    // found; the session in it does not exist.
    let message = Message::close(0x7fff_ffff);
    let (upper, lower) = optee_proto::smc::pair(message.address());
    let garbage = 0xdead_beef_0000_0000;
    let [a0, ..] = kit.client.smc(
        CALL_WITH_ARG,
        [upper | garbage, lower | garbage, 0, 0, 0, 0],
    );
    same("garbage above bit 31", &Return::from_x0(a0), &Return::OK)?;
    let result = message.view().ret();
    same("its result", &result, &TeeResult::ITEM_NOT_FOUND)?;
    Ok(Observation::none_passed(
        format!("{tries} addresses"),
        tries + 1,
    ))
}

fn too_many_params(kit: &Kit) -> Verdict {
    let mut tries = 0;
    for count in [128, 0x0800_0000, 0x1000_0000, 0x8000_0000, u32::MAX] {
        let message = Message::invoke(0, 0, &[]);
        message.view().set_num_params(count);
        same(&format!("{count:#x}"), &kit.send(&message), &Got::EBADADDR)?;
        tries += 1;
    }
    let commands = [
        (Command::INVOKE, 5),
        (Command::INVOKE, 127),
        (Command::OPEN_SESSION, 0),
        (Command::OPEN_SESSION, 1),
        (Command::OPEN_SESSION, 7),
        (Command::CLOSE_SESSION, 1),
        (Command::CANCEL, 1),
        (Command::REGISTER_SHM, 0),
        (Command::REGISTER_SHM, 2),
        (Command::UNREGISTER_SHM, 0),
        (Command::UNREGISTER_SHM, 2),
    ];
    for (command, count) in commands {
        let message = Message::new(command, 0, 0, &[]);
        message.view().set_num_params(count);
        let got = kit.send(&message);
        same(
            &format!("{command:?} with {count}"),
            &got,
            &Got::BAD_PARAMETERS,
        )?;
        tries += 1;
    }
    Ok(Observation::none_passed(format!("{tries} messages"), tries))
}

fn bad_attributes(kit: &Kit) -> Verdict {
    kit.with_tests(|session| {
        let shared = kit.share(1)?;
        let mut tries = 0;
        let mut refuse = |attr: u64| {
            tries += 1;
            // The payload is that of a valid reference, so that only the attribute is wrong.
            let got = kit.try_param(session, rmem(Attr(attr), 0, 8, shared.cookie));
            same(&format!("{attr:#x}"), &got, &Got::BAD_PARAMETERS)
        };
        for unknown in [4, 8, 0xc, 0xd, 0xe, 0xf, 0x10, 0x17, 0x85, 0xff] {
            refuse(unknown)?;
        }
        for bit in 8..64 {
            for kind in [
                Attr::VALUE_INOUT,
                Attr::RMEM_INOUT,
                Attr::TMEM_INOUT,
                Attr::NONE,
            ] {
                refuse(kind.0 | 1 << bit)?;
            }
        }
        refuse(u64::MAX)?;
        shared.unshare()?;
        // OPEN_SESSION: the first two parameters are META, the others are not.
        for (index, attr) in [
            (0, 1),
            (0, 0x103),
            (1, 1),
            (1, 0x101 | 1 << 32),
            (2, 0x101),
            (5, 0x107),
        ] {
            let none = [Param::default(); 4];
            let message = Message::open(apps::TESTS, login::PUBLIC, &none);
            let mut param = message.param(index);
            param.attr = attr.into();
            message.view().set_param(index, &param);
            let got = kit.send(&message);
            same(
                &format!("OPEN {index}: {attr:#x}"),
                &got,
                &Got::BAD_PARAMETERS,
            )?;
            tries += 1;
        }
        Ok(Observation::denied(format!("{tries} attributes"), tries))
    })
}

fn bad_commands(kit: &Kit) -> Verdict {
    let mut tries = 0;
    // 6 and 7 are valid for a guest with notifications; attack 41 covers them.
    for command in (8..=64).chain([0xff, 0x100, 0xffff, 0x1_0000, 0x8000_0001, u32::MAX]) {
        let message = Message::new(Command(command), 0, 0, &[]);
        same(&format!("{command:#x}"), &kit.send(&message), &Got::EBADCMD)?;
        // Attacks 8 and 11 cover protected memory by address.
        let tmem = Param::new(Attr::TMEM_INPUT, 0x4020_0000, PAGE_SIZE, 1);
        let message = Message::new(Command(command), 0, 0, &[tmem]);
        same(&format!("{command:#x}"), &kit.send(&message), &Got::EBADCMD)?;
        tries += 2;
    }
    Ok(Observation::none_passed(format!("{tries} messages"), tries))
}

fn memory_by_address(kit: &Kit) -> Verdict {
    let own = Pages::take(1);
    let kinds = [Attr::TMEM_INPUT, Attr::TMEM_OUTPUT, Attr::TMEM_INOUT];
    kit.with_tests(|session| {
        let mut tries = 0;
        let addresses = bad_addresses().map(|bad| bad.address);
        let more = [
            own.address(),
            own.address() + 8,
            machine::machine().image.start,
            1,
            0xfff,
        ];
        for address in addresses
            .into_iter()
            .chain(more)
            .filter(|&address| address != 0)
        {
            for attr in kinds {
                let param = Param::new(attr, address, 8, 0);
                let got = kit.try_param(session, param);
                same(
                    &format!("{attr:?} {address:#x}"),
                    &got,
                    &Got::BAD_PARAMETERS,
                )?;
                let message = Message::open(apps::TESTS, login::PUBLIC, &[param]);
                let got = kit.send(&message);
                same(
                    &format!("OPEN {attr:?} {address:#x}"),
                    &got,
                    &Got::BAD_PARAMETERS,
                )?;
                tries += 2;
            }
        }
        // Page lists, which OP-TEE 4.10 would accept here and never release.
        let list = PageList::of(&own);
        for attr in kinds {
            let attr = Attr(attr.0 | Attr::NONCONTIG);
            let param = Param::new(attr, list.pointer(), list.size, fresh_cookie());
            let got = kit.try_param(session, param);
            same(&format!("{attr:?}"), &got, &Got::BAD_PARAMETERS)?;
            let message = Message::open(apps::TESTS, login::PUBLIC, &[param]);
            same(
                &format!("OPEN {attr:?}"),
                &kit.send(&message),
                &Got::BAD_PARAMETERS,
            )?;
            tries += 2;
        }
        Ok(Observation::denied(format!("{tries} references"), tries))
    })
}

fn null_with_cookie(kit: &Kit) -> Verdict {
    kit.with_tests(|session| {
        let shared = kit.share(2)?;
        const TIMES: u32 = 20;
        for _ in 0..TIMES {
            for param in [
                Param::new(Attr::TMEM_INOUT, 0, 0, shared.cookie),
                // The form that U-Boot and Zephyr use.
                Param::new(Attr::RMEM_INOUT, 0, 0, 0),
            ] {
                let got = kit.send(&Message::invoke(session, apps::TESTS_NULL, &[param]));
                holds(
                    got.is_success(),
                    &format!("a NULL reference {param:?}: {got:?}"),
                )?;
            }
        }
        shared.check(session)?;
        shared.check_pinned()?;
        shared.unshare()?;
        Ok(Observation::denied(
            format!(
                "{TIMES} NULL references of each kind; the buffer is pinned and OP-TEE uses it"
            ),
            0,
        ))
    })
}

fn bad_registrations(kit: &Kit) -> Verdict {
    kit.with_tests(|session| {
        let victim = kit.share(1)?;
        let pages = Pages::take(1);
        let list = PageList::of(&pages);
        let (pointer, size, cookie) = (list.pointer(), list.size, victim.cookie);
        let mut tries = 0;
        let mut refuse = |what: &str, params: &[Param]| {
            tries += 1;
            let message = Message::new(Command::REGISTER_SHM, 0, 0, params);
            same(what, &kit.send(&message), &Got::BAD_PARAMETERS)
        };
        let noncontig = |attr: Attr| Attr(attr.0 | Attr::NONCONTIG);
        for attr in [
            Attr::NONE,
            Attr::VALUE_INPUT,
            Attr::VALUE_OUTPUT,
            Attr::VALUE_INOUT,
            Attr::RMEM_INPUT,
            Attr::RMEM_OUTPUT,
            Attr::RMEM_INOUT,
            Attr::TMEM_INPUT,
            Attr::TMEM_OUTPUT,
            Attr::TMEM_INOUT,
            noncontig(Attr::TMEM_INPUT),
            noncontig(Attr::TMEM_INOUT),
            noncontig(Attr::RMEM_OUTPUT),
            Attr(Attr::PAGE_LIST.0 | Attr::META),
            Attr(Attr::PAGE_LIST.0 | 1 << 16),
            Attr(Attr::PAGE_LIST.0 | 1 << 32),
        ] {
            for name in [cookie, fresh_cookie()] {
                refuse(
                    &format!("{attr:?}"),
                    &[Param::new(attr, pointer, size, name)],
                )?;
            }
        }
        let good = Param::new(Attr::PAGE_LIST, pointer, size, fresh_cookie());
        refuse(
            "two",
            &[good, Param::new(Attr::PAGE_LIST, pointer, size, cookie)],
        )?;
        refuse("NULL", &[Param::new(Attr::PAGE_LIST, 0, size, cookie)])?;
        refuse("cookie 0", &[Param::new(Attr::PAGE_LIST, pointer, size, 0)])?;
        // A name in use refers to the newer buffer until that is unregistered.
        let again = Param::new(Attr::PAGE_LIST, pointer, size, cookie);
        let again = Message::new(Command::REGISTER_SHM, 0, 0, &[again]);
        for (what, got) in [
            ("a name that is in use", kit.send(&again)),
            ("unregister the newer", kit.unregister(cookie)),
        ] {
            holds(got.is_success(), &format!("{what}: {got:?}"))?;
        }
        victim.check(session)?;
        same(
            "relinquish the victim",
            &relinquish(victim.pages.address(), 1),
            &IN_USE,
        )?;
        victim.unshare()?;
        Ok(Observation::denied(format!("{tries} registrations"), tries))
    })
}
