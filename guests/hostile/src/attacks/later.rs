//! Attacks 53 on, which were thought of after the plan was written.

use crate::attack::{Attack, Seen, Verdict, holds};
use crate::kit::Kit;
use alloc::format;
use guest_bare::edge::LastPage;
use guest_bare::exception::Fault;
use guest_bare::machine::machine;

/// In their order.
pub const ATTACKS: &[Attack] = &[Attack {
    number: 53,
    title: "calls and accesses that trap, in the last instruction of the address space",
    expected: "they are done, and the fetch behind them fails",
    run: at_the_end,
}];

/// Where the instruction is the last of the address space, there is no address behind it.
fn at_the_end(kit: &Kit) -> Verdict {
    const UNKNOWN_CALL: u64 = 0x8400_ffff;
    let (distributor, nowhere) = (machine().distributor, 0x4020_0000);
    let page = LastPage::map();
    let mut tried = 0;
    for (what, instruction, x0, expected) in [
        (
            "smc #0",
            0xd400_0003,
            UNKNOWN_CALL,
            Fault::is_fetch as fn(Fault) -> bool,
        ),
        ("hvc #0", 0xd400_0002, UNKNOWN_CALL, Fault::is_fetch),
        ("wfe", 0xd503_205f, 0, Fault::is_fetch),
        (
            "ldr w0, [x0]",
            0xb940_0000,
            distributor + 4,
            Fault::is_fetch,
        ),
        (
            "str w0, [x0]",
            0xb900_0000,
            distributor + 8,
            Fault::is_fetch,
        ),
        ("mrs x0, actlr_el1", 0xd538_1020, 0, Fault::is_fetch),
        ("smc #1", 0xd400_0023, UNKNOWN_CALL, Fault::is_undefined),
        ("hvc #1", 0xd400_0022, UNKNOWN_CALL, Fault::is_undefined),
        ("mrs x0, pmcr_el0", 0xd53b_9c00, 0, Fault::is_undefined),
        (
            "ldr x0, [x0], of nothing",
            0xf940_0000,
            nowhere,
            Fault::is_abort,
        ),
    ] {
        let fault = page.execute(instruction, x0);
        holds(expected(fault), &format!("{what}: {fault}"))?;
        tried += 1;
    }
    drop(page);
    kit.alive()?;
    Ok(Seen::denied(format!("{tried} instructions"), 0))
}
