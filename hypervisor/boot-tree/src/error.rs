// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why the machine cannot be started, each in one line that says what to do about it.

use dtoolkit::error::FdtParseError;

use super::cpus::Mpidr;
use super::vms::VmError;
use postern_base::range::{PaRange, TooManyRanges};

/// Why the boot device tree does not describe a machine that Postern can run on, with names
/// borrowed from the tree.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BootError<'t> {
    /// What the boot loader passed in x0 is no device tree.
    #[error("x0 does not point to a usable device tree ({0}): boot with the Linux arm64 protocol")]
    NotATree(FdtParseError),
    /// A property that is needed does not have the form that its binding asks for.
    #[error("device tree: {node}: `{property}` {problem}")]
    Property {
        /// The node's name.
        node: &'t str,
        /// The property's name.
        property: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No RAM is described.
    #[error("no RAM in the device tree: it needs a node with device_type = \"memory\" and a reg")]
    NoMemory,
    /// The holes in RAM are more than the fixed tables hold.
    #[error("memory is in too many pieces ({0}): drop reserved-memory nodes or memory banks")]
    Memory(#[from] TooManyRanges),
    /// No usable CPU is described.
    #[error("no CPU in the device tree: /cpus needs cpu nodes with reg and without status")]
    NoCpu,
    /// The CPU that runs is not described.
    #[error(
        "the CPU that booted ({0:?}) is not in the device tree: /cpus needs a cpu node with its MPIDR as reg"
    )]
    BootCpu(Mpidr),
    /// A CPU is started in another way than by PSCI.
    #[error("{cpu}: enable-method is not \"psci\": boot with firmware that has PSCI, such as TF-A")]
    EnableMethod {
        /// The CPU node's name.
        cpu: &'t str,
    },
    /// No PSCI is described, so that no second CPU can be started.
    #[error(
        "no PSCI 0.2 or later in the device tree: boot through TF-A, \
         or start QEMU with -M virt,virtualization=on,secure=off"
    )]
    NoPsci,
    /// PSCI is called by HVC, so EL2 is already somebody else's.
    #[error(
        "PSCI's method is not \"smc\": Postern must run at EL2, \
         start QEMU with -M virt,virtualization=on"
    )]
    PsciConduit,
    /// No interrupt controller that Postern can drive.
    #[error("no GICv3 in the device tree: start QEMU with -M virt,gic-version=3")]
    NoGic,
    /// The interrupt controller is a GICv2.
    #[error(
        "the machine has a GICv2, Postern needs a GICv3: start QEMU with -M virt,gic-version=3"
    )]
    GicV2,
    /// No serial port for the console.
    #[error("no console: /chosen needs a stdout-path that names an enabled arm,pl011 node")]
    NoUart,
    /// No generic timer.
    #[error("no arm,armv8-timer node in the device tree")]
    NoTimer,
    /// `/firmware/optee` asks for HVC.
    #[error("/firmware/optee: method is not \"smc\": Postern reaches OP-TEE through EL3 only")]
    OpteeConduit,
    /// The hypervisor's own image or the tree lies outside RAM or in reserved memory.
    #[error("the boot loader put {what} at {range}, which is reserved or is no RAM: move it")]
    Misplaced {
        /// What lies there.
        what: &'static str,
        /// Where.
        range: PaRange,
    },
    /// No VM is described.
    #[error("no virtual machine in /chosen: add a node with compatible = \"postern,domain\"")]
    NoVms,
    /// Every VM waits for an order, and the machine would power off before there can be one.
    #[error(
        "every virtual machine has manual-start: drop it from one, \
         or keep the machine on with postern,stay in /chosen"
    )]
    NothingStarts,
    /// More VMs than there are places for.
    #[error("more than {0} virtual machines in /chosen: remove some")]
    TooManyVms(usize),
    /// The VMs that start with the machine want more memory than the machine has left for them.
    #[error(
        "the virtual machines that start at boot ask for {wanted_mib} MiB of memory and \
         {free_mib} MiB are free: lower their `memory`, give one manual-start, \
         or give the machine more"
    )]
    NotEnoughMemory {
        /// All of them together, in MiB.
        wanted_mib: u64,
        /// Free RAM in blocks of 2 MiB, in MiB.
        free_mib: u64,
    },
    /// One VM's node is wrong.
    #[error("vm `{vm}`: {error}")]
    Vm {
        /// The VM's name, or its node's name where the name itself is wrong.
        vm: &'t str,
        /// What is wrong.
        error: VmError<'t>,
    },
}
