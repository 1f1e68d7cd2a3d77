// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 11 to 18: page lists.

use super::race::{ENOUGH, flip};
use crate::attack::{Attack, Observation, Verdict, holds, same};
use crate::kit::{GONE, Got, IN_USE, Kit, bad_addresses, check_bytes, fresh_cookie, relinquish};
use alloc::format;
use alloc::vec::Vec;
use guest_bare::PAGE_SIZE;
use guest_bare::machine::machine;
use guest_bare::pages::Pages;
use guest_bare::tee::{Message, PageList, memory};
use optee_proto::msg::{Attr, Command, PAGE_LIST_ENTRIES, Param};

/// The attacks, in the order of the plan.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 11,
        title: "a page list with an entry for a device, EL2's memory, another VM's, a hole, OP-TEE's carve-out, or an unaligned one, at its beginning, middle or end",
        expected: "BAD_PARAMETERS, all pins undone",
        run: bad_entries,
    },
    Attack {
        number: 12,
        title: "a page list at IPA 0, and an entry of IPA 0",
        expected: "BAD_PARAMETERS",
        run: zero,
    },
    Attack {
        number: 13,
        title: "a list that is circular, continues in a device, lists itself, or is in the last page of RAM",
        expected: "bounded: RAM is accepted, everything else is BAD_PARAMETERS",
        run: strange_lists,
    },
    Attack {
        number: 14,
        title: "sizes 0, 1, 2^44, 2^64-1, size + offset wraps, offset 0xfff (W11)",
        expected: "BAD_PARAMETERS or OUT_OF_MEMORY, nothing truncated; correct sizes work",
        run: sizes,
    },
    Attack {
        number: 15,
        title: "the list changes while it is read, and after the registration",
        expected: "the buffer is what the list said when it was read",
        run: changing_list,
    },
    Attack {
        number: 16,
        title: "a list whose last entry is invalid, repeatedly (W9, W10)",
        expected: "BAD_PARAMETERS each time, nothing leaks",
        run: partial_failures,
    },
    Attack {
        number: 17,
        title: "one page twice in a list and in two registrations",
        expected: "pinned until the last one is unregistered",
        run: shared_page,
    },
    Attack {
        number: 18,
        title: "more buffers and pages than the VM's quota, and more than OP-TEE can map",
        expected: "OUT_OF_MEMORY, and the other buffers stay usable",
        run: quotas,
    },
];

/// How many times attack 16 fails on purpose.
const FAILURES: u64 = 100_000;
/// The quota of buffers, `tee_quota` in `guests/hostile.toml`.
const QUOTA_BUFFERS: usize = 64;
/// The quota of pages, `tee_quota` in `guests/hostile.toml`.
const QUOTA_PAGES: usize = 4096;

/// Registers a list of these entries.
fn register(kit: &Kit, cookie: u64, entries: &[u64]) -> Got {
    let size = entries.len() as u64 * PAGE_SIZE;
    let list = PageList::new(entries.iter().copied(), 0, size);
    kit.send(&Message::register(cookie, &list))
}

fn bad_entries(kit: &Kit) -> Verdict {
    let pages = Pages::take(4);
    let good = |index: usize| pages.page(index % pages.count());
    let unaligned = [pages.address() + 8, pages.address() + 0xfff];
    let bad = bad_addresses().map(|bad| bad.address);
    let mut tries = 0;
    for &address in bad.iter().chain(&unaligned) {
        // For a short list the first, a middle and the last entry; for a long one those around the
        // end of its first page.
        let places = [
            (1, 0),
            (4, 0),
            (4, 2),
            (4, 3),
            (600, PAGE_LIST_ENTRIES - 1),
            (600, PAGE_LIST_ENTRIES),
            (600, 599),
        ];
        for (length, place) in places {
            let mut entries: Vec<u64> = (0..length).map(good).collect();
            entries[place] = address;
            let got = register(kit, fresh_cookie(), &entries);
            let what = format!("{address:#x} at {place} of {length}");
            same(&what, &got, &Got::BAD_PARAMETERS)?;
            tries += 1;
        }
    }
    // No pages are pinned any more, otherwise these could not be given back.
    let (address, count) = (pages.forget(), 4);
    same("give the pages back", &relinquish(address, count), &GONE)?;
    // Pages that were given back cannot be shared.
    let got = register(kit, fresh_cookie(), &[address]);
    same("a page that was given back", &got, &Got::BAD_PARAMETERS)?;
    tries += 1;
    Ok(Observation::none_passed(format!("{tries} lists"), tries))
}

fn zero(kit: &Kit) -> Verdict {
    let page = Pages::take(1).forget();
    let mut tries = 0;
    for entries in [&[0][..], &[page, 0], &[0, page]] {
        let got = register(kit, fresh_cookie(), entries);
        same("an entry of 0", &got, &Got::BAD_PARAMETERS)?;
        tries += 1;
    }
    // With an offset, the pointer to a list at 0 is not NULL.
    for pointer in [0, 1, 8, 0xfff] {
        let param = Param::new(Attr::PAGE_LIST, pointer, 8, fresh_cookie());
        let message = Message::new(Command::REGISTER_SHM, 0, 0, &[param]);
        let got = kit.send(&message);
        same(
            &format!("a list at {pointer:#x}"),
            &got,
            &Got::BAD_PARAMETERS,
        )?;
        tries += 1;
    }
    Ok(Observation::none_passed(format!("{tries} lists"), tries))
}

/// Registers by a list that begins at `pointer`.
fn register_at(kit: &Kit, cookie: u64, pointer: u64, size: u64) -> Got {
    let param = Param::new(Attr::PAGE_LIST, pointer, size, cookie);
    kit.send(&Message::new(Command::REGISTER_SHM, 0, 0, &[param]))
}

/// Unregisters a cookie after OP-TEE has used its buffer.
fn use_and_end(
    kit: &Kit,
    session: u32,
    cookie: u64,
    data: &Pages,
) -> Result<(), alloc::string::String> {
    check_bytes(kit, session, cookie, data)?;
    let got = kit.unregister(cookie);
    holds(got.is_success(), &format!("unregister: {got:?}"))
}

fn strange_lists(kit: &Kit) -> Verdict {
    const LINK: usize = PAGE_LIST_ENTRIES * 8;
    let data = Pages::take(1);
    let list = Pages::take(1);
    for entry in 0..PAGE_LIST_ENTRIES {
        list.write_u64(entry * 8, data.address());
    }
    let entries = PAGE_LIST_ENTRIES as u64;
    let mut denied = 0;
    kit.with_tests(|session| {
        // A circular list has exactly as many pages as the size requires.
        list.write_u64(LINK, list.address());
        let cookie = fresh_cookie();
        let got = register_at(kit, cookie, list.address(), (entries + 89) * PAGE_SIZE);
        holds(
            got.is_success(),
            &format!("a list that goes round: {got:?}"),
        )?;
        use_and_end(kit, session, cookie, &data)?;

        let mut bad: Vec<u64> = bad_addresses().map(|bad| bad.address).to_vec();
        bad.extend([list.address() + 8, data.address() + 0x800, u64::MAX]);
        for next in bad {
            list.write_u64(LINK, next);
            let size = (entries + 1) * PAGE_SIZE;
            let got = register_at(kit, fresh_cookie(), list.address(), size);
            same(
                &format!("going on at {next:#x}"),
                &got,
                &Got::BAD_PARAMETERS,
            )?;
            denied += 1;
            // When the list ends with its page the link is not read.
            let cookie = fresh_cookie();
            let got = register_at(kit, cookie, list.address(), entries * PAGE_SIZE);
            holds(
                got.is_success(),
                &format!("a link that is not used: {got:?}"),
            )?;
            holds(kit.unregister(cookie).is_success(), "unregister")?;
        }

        // A page that lists itself: OP-TEE's writes to it change nothing.
        let own = Pages::take(1);
        own.write_u64(0, own.address());
        let cookie = fresh_cookie();
        let got = register_at(kit, cookie, own.address(), PAGE_SIZE);
        holds(
            got.is_success(),
            &format!("a page that lists itself: {got:?}"),
        )?;
        use_and_end(kit, session, cookie, &own)?;

        // A list in the last page of RAM may continue elsewhere, but not after it.
        let end = machine().ram.end;
        let last = Pages::take_at(end - PAGE_SIZE, 1).ok_or("the last page is not free")?;
        for entry in 0..PAGE_LIST_ENTRIES {
            last.write_u64(entry * 8, data.address());
        }
        last.write_u64(LINK, end);
        let cookie = fresh_cookie();
        let got = register_at(kit, cookie, last.address(), entries * PAGE_SIZE);
        holds(
            got.is_success(),
            &format!("a list in the last page: {got:?}"),
        )?;
        use_and_end(kit, session, cookie, &data)?;
        let got = register_at(
            kit,
            fresh_cookie(),
            last.address(),
            (entries + 1) * PAGE_SIZE,
        );
        same("a list that goes on behind RAM", &got, &Got::BAD_PARAMETERS)?;
        denied += 1;
        // The last page of RAM as data.
        let cookie = fresh_cookie();
        let got = register(kit, cookie, &[last.address()]);
        holds(got.is_success(), &format!("the last page: {got:?}"))?;
        use_and_end(kit, session, cookie, &last)
    })?;
    Ok(Observation::denied(
        format!("{denied} bad lists, and the good ones"),
        denied,
    ))
}

fn sizes(kit: &Kit) -> Verdict {
    let pages = Pages::take(2);
    let list = PageList::of(&pages);
    let start = list.pointer();
    let (bad, much) = (Got::BAD_PARAMETERS, Got::OUT_OF_MEMORY);
    let mut denied = 0;
    for (offset, size, wanted) in [
        (0, 0, bad),
        (0xfff, 0, bad),
        (0, 1 << 44, bad),
        (0, (1 << 44) + 1, bad),
        (0, 1 << 43, much),
        (0, (1 << 44) - PAGE_SIZE, much),
        (0xfff, (1 << 44) - PAGE_SIZE + 2, bad),
        (0, u64::MAX, bad),
        (1, u64::MAX, bad),
        (0xfff, u64::MAX, bad),
        (0xfff, u64::MAX - 0xffe, bad),
        (0xfff, u64::MAX - 0xfff, bad),
        (0, 1 << 63, bad),
        // The page counts of these sizes are small in 32 bits.
        (0, (1 << 44) + PAGE_SIZE, bad),
        (0, (1 << 45) + 1, bad),
    ] {
        let got = register_at(kit, fresh_cookie(), start | offset, size);
        same(
            &format!("{size:#x} bytes at offset {offset:#x}"),
            &got,
            &wanted,
        )?;
        denied += 1;
    }
    kit.with_tests(|session| {
        // The last byte of a page, and with it the first of the next.
        for (offset, size) in [
            (0, 1),
            (0xfff, 1),
            (0xfff, 2),
            (0xff8, 16),
            (0, 2 * PAGE_SIZE),
        ] {
            let cookie = fresh_cookie();
            let got = register_at(kit, cookie, start | offset, size);
            holds(
                got.is_success(),
                &format!("{size} bytes at {offset:#x}: {got:?}"),
            )?;
            let sum = size.min(16);
            for byte in 0..sum {
                pages.write((offset + byte) as usize, &[1]);
            }
            let got = kit.sum(session, cookie, 0, sum);
            holds(
                got.is_success(),
                &format!("use {size} bytes at {offset:#x}: {got:?}"),
            )?;
            let mut first = [0];
            pages.read(offset as usize, &mut first);
            same("the sum of ones", &u64::from(first[0]), &sum)?;
            let got = kit.sum(session, cookie, 0, size + 1);
            same("a byte more than there is", &got, &Got::SECURITY)?;
            denied += 1;
            holds(kit.unregister(cookie).is_success(), "unregister")?;
        }
        Ok(())
    })?;
    Ok(Observation::denied(format!("{denied} refused"), denied))
}

fn changing_list(kit: &Kit) -> Verdict {
    let pages = Pages::take(3);
    let (good, other) = (pages.page(0), pages.page(2));
    let mut seen = alloc::string::String::new();
    kit.with_tests(|session| {
        // A change while the list is read: an entry names a page of this VM, or the hypervisor's
        // memory.
        let list = PageList::new([good, pages.page(1)].into_iter(), 0, 2 * PAGE_SIZE);
        let word = list.entry(1);
        let counts = flip(word, [pages.page(1), 0x4020_0000], || {
            let cookie = fresh_cookie();
            let got = kit.send(&Message::register(cookie, &list));
            if !got.is_success() {
                return same("a changing list", &got, &Got::BAD_PARAMETERS).map(|()| false);
            }
            check_bytes(kit, session, cookie, &pages)?;
            same("the second page", &relinquish(pages.page(1), 1), &IN_USE)?;
            holds(kit.unregister(cookie).is_success(), "unregister")?;
            Ok(true)
        })?;
        seen = format!("{} taken, {} refused; ", counts[0], counts[1]);
        holds(
            counts[0].min(counts[1]) >= ENOUGH,
            &format!("no race: {counts:?}"),
        )?;

        // A change afterwards: the buffer stays where it was.
        let list = PageList::new([good].into_iter(), 0, PAGE_SIZE);
        let cookie = fresh_cookie();
        let got = kit.send(&Message::register(cookie, &list));
        holds(got.is_success(), &format!("register: {got:?}"))?;
        for entry in [other, 0x4020_0000, 0] {
            memory::write_u64(list.entry(0), entry);
            pages.write(2 * PAGE_SIZE as usize, &[0xee; 8]);
            check_bytes(kit, session, cookie, &pages)?;
        }
        holds(
            pages.read_u64(2 * PAGE_SIZE as usize) == 0xeeee_eeee_eeee_eeee,
            "the other page was written",
        )?;
        let got = kit.unregister(cookie);
        holds(got.is_success(), &format!("unregister: {got:?}"))
    })?;
    Ok(Observation::new(format!(
        "{seen}changed afterwards: nothing"
    )))
}

fn partial_failures(kit: &Kit) -> Verdict {
    let pages = Pages::take(8);
    let entries = (0..8).map(|page| {
        if page == 7 {
            0x4020_0000
        } else {
            pages.page(page)
        }
    });
    let list = PageList::new(entries, 0, 8 * PAGE_SIZE);
    let message = Message::register(fresh_cookie(), &list);
    for round in 0..FAILURES {
        let got = kit.send(&message);
        if got != Got::BAD_PARAMETERS {
            return Err(format!("round {round}: {got:?}"));
        }
    }
    // A page can be pinned 65,534 times; seven times as many pins have been released.
    same("give the pages back", &relinquish(pages.forget(), 8), &GONE)?;
    Ok(Observation::none_passed(
        format!("{FAILURES} times"),
        FAILURES,
    ))
}

fn shared_page(kit: &Kit) -> Verdict {
    let pages = Pages::take(1);
    let page = pages.address();
    kit.with_tests(|session| {
        let (first, second) = (fresh_cookie(), fresh_cookie());
        let got = register(kit, first, &[page, page, page]);
        holds(got.is_success(), &format!("thrice in a list: {got:?}"))?;
        let got = register(kit, second, &[page]);
        holds(got.is_success(), &format!("in another list: {got:?}"))?;
        for cookie in [first, second] {
            check_bytes(kit, session, cookie, &pages)?;
        }
        same("with both", &relinquish(page, 1), &IN_USE)?;
        holds(kit.unregister(first).is_success(), "unregister the first")?;
        same("with the second", &relinquish(page, 1), &IN_USE)?;
        check_bytes(kit, session, second, &pages)?;
        holds(kit.unregister(second).is_success(), "unregister the second")?;
        same("with none", &relinquish(pages.forget(), 1), &GONE)
    })?;
    holds(
        guest_bare::probe::load(page).is_err(),
        "the page is still accessible",
    )?;
    Ok(Observation::denied(
        "pinned by two, by one, by none".into(),
        0,
    ))
}

fn quotas(kit: &Kit) -> Verdict {
    let page = Pages::take(1);
    let mut cookies = Vec::new();
    kit.with_tests(|session| {
        // The quota of buffers.
        for _ in 0..QUOTA_BUFFERS {
            let cookie = fresh_cookie();
            let got = register(kit, cookie, &[page.address()]);
            holds(
                got.is_success(),
                &format!("buffer {}: {got:?}", cookies.len() + 1),
            )?;
            cookies.push(cookie);
        }
        for _ in 0..3 {
            let got = register(kit, fresh_cookie(), &[page.address()]);
            same("one more", &got, &Got::OUT_OF_MEMORY)?;
        }
        for &cookie in &cookies {
            use_and_end(kit, session, cookie, &page)?;
        }
        // The quota of pages, which two buffers exhaust.
        let half: Vec<u64> = core::iter::repeat_n(page.address(), QUOTA_PAGES / 2).collect();
        let two = [fresh_cookie(), fresh_cookie()];
        for cookie in two {
            let got = register(kit, cookie, &half);
            holds(got.is_success(), &format!("half of the pages: {got:?}"))?;
        }
        let got = register(kit, fresh_cookie(), &[page.address()]);
        same("a page more", &got, &Got::OUT_OF_MEMORY)?;
        // For a pseudo TA, OP-TEE's core would have to map all of it, and panic for all VMs when
        // its tables do not suffice.
        for cookie in two {
            let got = kit.sum(session, cookie, 0, 8);
            same("8 MiB for a pseudo TA", &got, &Got::OUT_OF_MEMORY)?;
        }
        for cookie in two {
            holds(kit.unregister(cookie).is_success(), "unregister")?;
        }
        Ok(())
    })?;
    Ok(Observation::denied(
        format!("{QUOTA_BUFFERS} buffers or {QUOTA_PAGES} pages, and not one more"),
        6,
    ))
}
