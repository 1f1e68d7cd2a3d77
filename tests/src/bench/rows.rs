// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The rows of the table and their targets.

/// The figure that a target bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The instructions of the whole call.
    Whole,
    /// The instructions in addition to the floor.
    Added,
    /// How many times the guest enters the hypervisor for one call.
    Calls,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The program's name for the measurement.
    pub name: &'static str,
    /// A description of the measurement.
    pub title: &'static str,
    /// The target, if there is one.
    pub target: Option<(Of, u64)>,
}

/// Returns a row without a target.
pub(super) const fn row(name: &'static str, title: &'static str) -> Row {
    Row {
        name,
        title,
        target: None,
    }
}

/// Returns a row with a target.
pub(super) const fn aim(name: &'static str, title: &'static str, of: Of, most: u64) -> Row {
    Row {
        name,
        title,
        target: Some((of, most)),
    }
}

/// All rows.
pub const ROWS: [Row; 39] = [
    row("hvc-unknown", "HVC, unknown id"),
    aim("psci-version", "PSCI_VERSION", Of::Whole, 160),
    row("smccc-version", "SMCCC_VERSION"),
    row("mmio-gicd-typer", "MMIO read of the GIC (GICD_TYPER)"),
    row("mmio-uartfr", "MMIO read of the PL011 (UARTFR)"),
    row("sgi-self", "SGI to the vCPU itself"),
    row("interrupt-end", "end of that SGI (ICC_EOIR1_EL1)"),
    row("sgi-other", "SGI to the other vCPU and WFI, to its handler"),
    row("timer-interrupt", "timer: CNTV_CVAL to the handler"),
    aim(
        "device-interrupt",
        "interrupt of a device of the VM's own, to the handler",
        Of::Whole,
        1000,
    ),
    row(
        "vm-switch",
        "another VM wakes up and waits again: 2 switches",
    ),
    aim(
        "link-round-trip",
        "a frame of 1514 bytes over a link, and an answer like it",
        Of::Whole,
        8000,
    ),
    aim(
        "link-burst",
        "32 such frames at once, and an answer",
        Of::Whole,
        64_000,
    ),
    aim("calls-uid", "fast SMC (CALLS_UID)", Of::Added, 150),
    aim("invoke", "INVOKE of a PTA, no parameters", Of::Added, 800),
    row("invoke-no-session", "INVOKE, unknown session"),
    row("invoke-values", "INVOKE, 4 values"),
    row("invoke-memrefs", "INVOKE, 4 registered memrefs"),
    row("invoke-rpc", "INVOKE with one RPC (RPC_ARG)"),
    row("invoke-rpc-alloc", "the same without RPC_ARG: 3 RPCs"),
    row("long-call", "INVOKE of a PTA that adds up 64 KiB"),
    aim(
        "long-call-other",
        "the same, interrupted for another vCPU",
        Of::Calls,
        1,
    ),
    row("long-call-turn", "the same, whose time slice that ends"),
    row(INTERRUPT_OTHER, "foreign interrupt, no work for the guest"),
    row(
        INTERRUPT_TURN,
        "foreign interrupt, with the other vCPU's turn",
    ),
    row("register-1", "REGISTER_SHM, 1 page"),
    row("unregister-1", "UNREGISTER_SHM, 1 page"),
    row("register-16", "REGISTER_SHM, 16 pages"),
    row("unregister-16", "UNREGISTER_SHM, 16 pages"),
    row("register-128", "REGISTER_SHM, 128 pages"),
    row("unregister-128", "UNREGISTER_SHM, 128 pages"),
    row("register-256", "REGISTER_SHM, 256 pages"),
    row("unregister-256", "UNREGISTER_SHM, 256 pages"),
    row("register-1024", "REGISTER_SHM, 1024 pages"),
    row("unregister-1024", "UNREGISTER_SHM, 1024 pages"),
    row("register-4096", "REGISTER_SHM, 4096 pages"),
    row("unregister-4096", "UNREGISTER_SHM, 4096 pages"),
    row("register-16384", "REGISTER_SHM, 16384 pages"),
    row("unregister-16384", "UNREGISTER_SHM, 16384 pages"),
];

/// The name of a difference: an interrupt during a call that wakes up another vCPU.
pub const INTERRUPT_OTHER: &str = "interrupt-other";
/// The name of the same where that vCPU runs at once.
pub const INTERRUPT_TURN: &str = "interrupt-turn";
/// The differences: name, minuend, subtrahend.
pub const DIFFERENCES: [(&str, &str, &str); 2] = [
    (INTERRUPT_OTHER, "long-call-other", "long-call"),
    (INTERRUPT_TURN, "long-call-turn", "long-call"),
];

/// Returns the description of a row by the program's name for it.
#[must_use]
pub fn title(name: &str) -> &str {
    ROWS.iter()
        .chain(&super::ffa::ROWS)
        .find(|row| row.name == name)
        .map_or(name, |row| row.title)
}
