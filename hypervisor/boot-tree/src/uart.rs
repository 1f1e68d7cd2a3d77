// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The console: the UART that `/chosen/stdout-path` names.

use super::flat::Fdt;
use mediator::addr::Pa;

use super::bus::Located;
use super::devices::NO_INTERRUPT;
use super::error::BootError;
use super::gic::Gic;
use super::interrupts::Interrupt;
use super::tree;
use postern_base::range::PaRange;
use postern_uart::{Layout, Width};

/// Interrupts that a [`Uart`] has at most.
const MAX_INTERRUPTS: usize = 5;

/// The console's serial port.
#[derive(Clone, Debug, PartialEq)]
pub struct Uart {
    /// Its registers.
    pub registers: PaRange,
    /// The model, and how its registers are laid out.
    pub layout: Layout,
    /// Its interrupts, SPIs; at least one.
    pub interrupts: heapless::Vec<Interrupt, MAX_INTERRUPTS>,
}

impl Uart {
    pub(super) fn read<'t>(fdt: Fdt<'t>, gic: &Gic) -> Result<Self, BootError<'t>> {
        let (node, layout) = node(fdt).ok_or(BootError::NoUart)?;
        let (registers, layout) = registers(&node, layout)?;
        let mut interrupts = heapless::Vec::new();
        let first = gic.interrupt(&node, 0, NO_INTERRUPT)?;
        let further = (1..layout.model.interrupts())
            .map_while(|index| gic.interrupt(&node, index, NO_INTERRUPT).ok());
        // No model has more.
        interrupts.extend(core::iter::once(first).chain(further).take(MAX_INTERRUPTS));
        Ok(Self {
            registers,
            layout,
            interrupts,
        })
    }
}

/// Where the console's registers are, and which, without a look at anything else.
pub(super) fn early(fdt: Fdt<'_>) -> Option<(Pa, Layout)> {
    let (node, layout) = node(fdt)?;
    let (registers, layout) = registers(&node, layout).ok()?;
    Some((registers.start(), layout))
}

/// Whether `/chosen` names a console that is known.
pub(super) fn is_named(fdt: Fdt<'_>) -> bool {
    node(fdt).is_some()
}

/// The enabled node that `/chosen` names as console, if its UART is known.
fn node(fdt: Fdt<'_>) -> Option<(Located<'_>, Layout)> {
    let path = tree::string(fdt.root().child("chosen")?, "stdout-path")?;
    let uart = Located::resolve(fdt, path)?;
    let layout = postern_uart::find(tree::strings(uart.node, "compatible"))?;
    tree::is_enabled(uart.node).then_some((uart, layout))
}

/// The registers, from the first one on, and their layout with what the node says of it.
fn registers<'t>(
    uart: &Located<'t>,
    mut layout: Layout,
) -> Result<(PaRange, Layout), BootError<'t>> {
    let bad = |property, problem| BootError::Property {
        node: uart.node.name(),
        property,
        problem,
    };
    let cell = |property| match tree::bytes(uart.node, property) {
        None => Ok(None),
        Some(_) => match tree::cell(uart.node, property) {
            None => Err(bad(property, "is not one cell")),
            value => Ok(value),
        },
    };
    let whole = uart.reg(0)?;
    let mut offset = 0;
    if layout.model.has_variants() {
        if let Some(shift) = cell("reg-shift")? {
            layout.shift = u8::try_from(shift)
                .ok()
                .filter(|shift| *shift <= Layout::MOST_SHIFT)
                .ok_or_else(|| bad("reg-shift", "is not 0 to 4"))?;
        }
        layout.width = match cell("reg-io-width")? {
            None => layout.width,
            Some(1) => Width::Byte,
            Some(2) => Width::Half,
            Some(4) => Width::Word,
            Some(_) => return Err(bad("reg-io-width", "is not 1, 2 or 4")),
        };
        offset = cell("reg-offset")?.unwrap_or(0).into();
    }
    let start = Pa::new(whole.start().get().saturating_add(offset));
    let registers = PaRange::between(start, whole.end());
    if registers.bytes() < layout.bytes() {
        return Err(bad("reg", "has fewer bytes than the registers of the UART"));
    }
    Ok((registers, layout))
}
