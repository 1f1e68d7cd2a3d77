// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The devices that the hypervisor itself drives: interrupt controller, console, timers, and
//! the firmware's interfaces.

use super::flat::{Fdt, FdtNode};

use super::bus::Located;
use super::error::BootError;
use super::gic::Gic;
use super::interrupts::{Interrupt, PhysIntId};
use super::tree;
use postern_base::range::PaRange;

/// What is wrong with a device whose interrupt is not one.
pub(super) const NO_INTERRUPT: &str = "does not name an interrupt of the GIC";

/// The property of `/chosen` with the interrupt by which OP-TEE announces notifications, where `/firmware/optee` is
/// missing or does not say it.
const OPTEE_INTERRUPT: &str = "postern,optee-interrupt";

/// The registers of the enabled PL031, where there is one that can be understood: Postern does without.
pub(super) fn rtc(fdt: Fdt<'_>) -> Option<PaRange> {
    Located::find(fdt, &["arm,pl031"])?.reg(0).ok()
}

/// The interrupts of the generic timer (binding `arm,armv8-timer`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timers {
    /// The EL1 physical timer, CNTP: PPI 14, INTID 30 on most machines.
    pub physical: PhysIntId,
    /// The EL1 virtual timer, CNTV: PPI 11, INTID 27.
    pub virtual_timer: PhysIntId,
    /// The EL2 physical timer, CNTHP: PPI 10, INTID 26.
    pub hypervisor: PhysIntId,
    /// What the tree says of the counter's frequency, where it does: see [`Timers::frequency`].
    pub clock_frequency: Option<u32>,
}

impl Timers {
    pub(super) fn read<'t>(fdt: Fdt<'t>, gic: &Gic) -> Result<Self, BootError<'t>> {
        let timer = Located::find(fdt, &["arm,armv8-timer"]).ok_or(BootError::NoTimer)?;
        let node = timer.node;
        // Without names the order is fixed: secure, physical, virtual, hypervisor.
        let named = node.property("interrupt-names").is_some();
        let interrupt = |place, name| {
            let place = if named {
                tree::strings(node, "interrupt-names").position(|text| text == name)
            } else {
                Some(place)
            };
            let problem = "lacks the physical, the virtual or the hypervisor timer";
            let place = place.ok_or(BootError::Property {
                node: node.name(),
                property: "interrupt-names",
                problem,
            })?;
            gic.interrupt(&timer, place, problem)
                .map(|interrupt| interrupt.intid)
        };
        let frequency = match tree::bytes(node, "clock-frequency") {
            None => None,
            Some(_) => Some(
                tree::cell(node, "clock-frequency").ok_or(BootError::Property {
                    node: node.name(),
                    property: "clock-frequency",
                    problem: "is not one cell",
                })?,
            ),
        };
        Ok(Self {
            physical: interrupt(1, "phys")?,
            virtual_timer: interrupt(2, "virt")?,
            hypervisor: interrupt(3, "hyp-phys")?,
            clock_frequency: frequency.filter(|hertz| *hertz != 0),
        })
    }

    /// How many ticks a second has, where `CNTFRQ_EL0` has the value `counter`, which is 0 on a board whose firmware
    /// does not set it. What the tree says is there to correct the register, so it takes precedence.
    ///
    /// # Errors
    /// When neither says it.
    pub fn frequency(&self, counter: u64) -> Result<u64, BootError<'static>> {
        match self.clock_frequency {
            Some(hertz) => Ok(hertz.into()),
            None if counter != 0 => Ok(counter),
            None => Err(BootError::NoFrequency),
        }
    }
}

/// How firmware is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// By SMC, to EL3.
    Smc,
    /// By HVC, to EL2: what a guest of somebody else's sees.
    Hvc,
}

impl Conduit {
    /// Reads the `method` property that PSCI and OP-TEE share.
    pub(super) fn of(node: FdtNode<'_>) -> Option<Self> {
        match tree::string(node, "method")? {
            "smc" => Some(Self::Smc),
            "hvc" => Some(Self::Hvc),
            _ => None,
        }
    }
}

/// The `arm,psci-0.2` (or later) node: with that version on, the function ids are the
/// standard's (PSCI DEN0022), and the version is asked for by call.
pub(super) fn psci_node(fdt: Fdt<'_>) -> Option<FdtNode<'_>> {
    let psci = Located::find(fdt, &["arm,psci-1.0", "arm,psci-0.2"])?;
    Some(psci.node)
}

/// Checks that there is PSCI and that it is called by SMC.
pub(super) fn check_psci(fdt: Fdt<'_>) -> Result<(), BootError<'_>> {
    let node = psci_node(fdt).ok_or(BootError::NoPsci)?;
    if Conduit::of(node) == Some(Conduit::Smc) {
        Ok(())
    } else {
        Err(BootError::PsciConduit)
    }
}

/// OP-TEE as `/firmware/optee` announces it (binding `linaro,optee-tz`), or `/chosen` in its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optee {
    /// The interrupt by which it announces asynchronous notifications, where it names one.
    pub notification: Option<Interrupt>,
}

impl Optee {
    /// `None` where the tree has no OP-TEE.
    pub(super) fn read<'t>(fdt: Fdt<'t>, gic: &Gic) -> Result<Option<Self>, BootError<'t>> {
        let given = configured_notification(fdt, gic)?;
        let announced = Located::resolve(fdt, "/firmware/optee").filter(|optee| {
            tree::is_enabled(optee.node) && tree::is_compatible(optee.node, &["linaro,optee-tz"])
        });
        let Some(optee) = announced else {
            return Ok(given.map(|interrupt| Self {
                notification: Some(interrupt),
            }));
        };
        if Conduit::of(optee.node) != Some(Conduit::Smc) {
            return Err(BootError::OpteeConduit);
        }
        let notification = if optee.has_interrupts() {
            Some(gic.interrupt(&optee, 0, NO_INTERRUPT)?)
        } else {
            None
        };
        if notification.is_some() && given.is_some_and(|given| Some(given) != notification) {
            return Err(chosen(
                "contradicts the interrupts of /firmware/optee: leave it out",
            ));
        }
        Ok(Some(Self {
            notification: notification.or(given),
        }))
    }
}

/// What `/chosen` says of OP-TEE's interrupt: for a tree that firmware does not add OP-TEE to.
fn configured_notification<'t>(
    fdt: Fdt<'t>,
    gic: &Gic,
) -> Result<Option<Interrupt>, BootError<'t>> {
    let node = fdt.root().child("chosen");
    let Some(value) = node.and_then(|node| tree::bytes(node, OPTEE_INTERRUPT)) else {
        return Ok(None);
    };
    let cells = gic.interrupt_cells();
    Interrupt::from_specifier(value, cells)
        .filter(|_| value.len() == 4 * cells)
        .map(Some)
        .ok_or_else(|| {
            chosen(
                "is not one interrupt in the GIC's cells, such as <0 187 1> for SPI 187, an edge",
            )
        })
}

fn chosen(problem: &'static str) -> BootError<'static> {
    BootError::Property {
        node: "chosen",
        property: OPTEE_INTERRUPT,
        problem,
    }
}
