// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why the machine cannot be started, each in one line that says what to do about it.

use super::mpidr::Mpidr;
use postern_base::range::{PaRange, TooManyRanges};

/// Why the boot device tree does not describe a machine that Postern can run on, with names
/// borrowed from the tree.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BootError<'t> {
    /// What the boot loader passed in x0 is no device tree.
    #[error("x0 does not point to a usable device tree ({0}): boot with the Linux arm64 protocol")]
    NotATree(&'static str),
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
    /// A device's address cannot be translated to one that a CPU reaches it at.
    #[error("device tree: {node}: it is on the bus {bus}, whose `ranges` {problem}")]
    Ranges {
        /// The device's node.
        node: &'t str,
        /// The bus's node.
        bus: &'t str,
        /// What is wrong with the bus's `ranges`.
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
    #[error(
        "no GICv3 or GICv2 in the device tree: the interrupt controllers that Postern drives are in \
         docs/device-tree-binding.md"
    )]
    NoGic,
    /// The interrupt controller is a GICv2 of which the tree describes no virtual interface.
    #[error(
        "the GICv2 has no virtual interface (GICH, GICV): its reg needs four ranges; \
         start QEMU with -M virt,virtualization=on"
    )]
    NoVirtualInterface,
    /// No serial port for the console.
    #[error(
        "no console: /chosen needs a stdout-path that names an enabled UART of those in docs/device-tree-binding.md"
    )]
    NoUart,
    /// No generic timer.
    #[error("no arm,armv8-timer node in the device tree")]
    NoTimer,
    /// The frequency of the generic timer is not known.
    #[error(
        "firmware has left CNTFRQ_EL0 at 0: give the arm,armv8-timer node a clock-frequency, \
         or boot with firmware that sets the register"
    )]
    NoFrequency,
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
    /// One link's node is wrong.
    #[error("link `{link}`: {error}")]
    Link {
        /// The link's name, or its node's name where the name itself is wrong.
        link: &'t str,
        /// What is wrong.
        error: LinkError<'t>,
    },
    /// More links than there are places for.
    #[error("more than {0} links in /chosen: remove some, or put more VMs on one")]
    TooManyLinks(usize),
    /// One VM's node is wrong.
    #[error("vm `{vm}`: {error}")]
    Vm {
        /// The VM's name, or its node's name where the name itself is wrong.
        vm: &'t str,
        /// What is wrong.
        error: VmError<'t>,
    },
}

/// What is wrong with a link's node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError<'t> {
    /// The name cannot be shown or is too long.
    #[error("link-name must be 1 to 31 of the characters A-Z a-z 0-9 . _ -")]
    Name,
    /// Two links have one name.
    #[error("another link has this name: set a different link-name")]
    DuplicateName,
    /// It names a VM that is not there.
    #[error("vms names \"{0}\", and no virtual machine has this name: correct it")]
    NoVm(&'t str),
    /// It names a VM more than once.
    #[error("vms names \"{0}\" twice: each virtual machine has one end")]
    Twice(&'t str),
    /// It has fewer than two ends.
    #[error("vms must be a list of two virtual machines or more")]
    TooFew,
    /// The kind of the link is unknown, or does not allow this number of ends.
    #[error("link-kind must be \"network\", or \"console\" with two vms")]
    Kind,
    /// The node has a property that means nothing.
    #[error("property `{0}` is unknown: see docs/device-tree-binding.md")]
    Unknown(&'t str),
}

/// What is wrong with a VM's node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VmError<'t> {
    /// The name cannot be shown or is too long.
    #[error("vm-name must be 1 to 31 of the characters A-Z a-z 0-9 . _ -")]
    Name,
    /// Two VMs have one name.
    #[error("another virtual machine has this name: set a different vm-name")]
    DuplicateName,
    /// `memory` is absent or malformed.
    #[error("memory must be a 64-bit number of KiB, such as memory = <0x0 0x80000> for 512 MiB")]
    Memory,
    /// The memory is not a whole number of blocks.
    #[error("memory of {kib} KiB is not a multiple of 2 MiB (2048 KiB) above zero")]
    MemoryUnit {
        /// What the node asks for.
        kib: u64,
    },
    /// Kernel and RAM disk do not fit.
    #[error("memory of {kib} KiB does not hold kernel and ramdisk: raise it")]
    MemoryTooSmall {
        /// What the node asks for.
        kib: u64,
    },
    /// `cpus` is absent or out of range.
    #[error("cpus must be 1 to 8")]
    Cpus,
    /// `tee` has an unknown value.
    #[error("tee must be \"required\", \"optional\" or \"none\"")]
    Tee,
    /// A property that says all by being there has a value.
    #[error("{0} has a value: write `{0};`, or leave it out")]
    Flag(&'static str),
    /// A `tee-…` property.
    #[error("{0}")]
    TeePolicy(TeePolicyError<'t>),
    /// `affinity` names no pCPU of this machine.
    #[error("affinity must list CPUs of this machine, 0 to {last}")]
    Affinity {
        /// The last pCPU's index.
        last: usize,
    },
    /// `sve` is no length.
    #[error("sve must be a multiple of 128 up to 2048, or 0")]
    Sve,
    /// The node has a property that means nothing.
    #[error("property `{0}` is unknown: see docs/device-tree-binding.md")]
    Unknown(&'t str),
    /// There is no kernel.
    #[error("module multiboot,kernel is missing: add a module node with the kernel's address")]
    NoKernel,
    /// Two modules of one kind.
    #[error("module {0} is a second one of its kind: keep one")]
    SecondModule(&'t str),
    /// A module of a kind that Postern does not take.
    #[error(
        "module {0} is none of multiboot,kernel, multiboot,ramdisk, multiboot,device-tree and postern,disk: remove it"
    )]
    ModuleKind(&'t str),
    /// A module's address.
    #[error("module {module}: reg {problem}")]
    ModuleReg {
        /// The module node's name.
        module: &'t str,
        /// What is wrong.
        problem: &'static str,
    },
    /// A module lies where it must not.
    #[error("module {kind} at {range} {problem}: load it elsewhere and correct its reg")]
    ModulePlace {
        /// `kernel`, `ramdisk`, `disk` or `device-tree`.
        kind: &'static str,
        /// Where it lies.
        range: PaRange,
        /// What is wrong with the place.
        problem: &'static str,
    },
    /// The command line is malformed or too long.
    #[error("bootargs must be one string of at most 2047 bytes")]
    Bootargs,
    /// The devices are no list of paths.
    #[error("postern,devices must be a list of paths, such as \"/pl031@9010000\"")]
    Devices,
    /// There are too many devices.
    #[error("it has more than {0} devices: remove some")]
    TooManyDevices(usize),
    /// The partial device tree is none, or not one that a guest can have.
    #[error("partial device tree, of 64 KiB at most: {0}")]
    PartialTree(&'static str),
    /// Nothing that `postern,unprotected-dma` is for.
    #[error(
        "postern,unprotected-dma is for devices that access memory without an SMMU, and it has none: \
         remove it"
    )]
    NeedlessDma,
    /// A device that the machine cannot have.
    #[error("device {path}: {error}")]
    Device {
        /// The device's path, as the list or the partial tree has it, or the name of the partial tree's node.
        path: &'t str,
        /// What is wrong.
        error: DeviceError<'t>,
    },
}

/// The reason that a device's streams are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamsError {
    /// The node names no IOMMU.
    #[error(
        "no SMMU is in front of it, so nothing bounds its DMA: its node needs iommus or iommu-map; \
         start QEMU with -M virt,iommu=smmuv3"
    )]
    NoSmmu,
    /// The node names an IOMMU of another kind.
    #[error("`{0}` names something else than an enabled arm,smmu-v3: no other IOMMU is supported")]
    OtherIommu(&'static str),
    /// The SMMU in front of it does not see the caches.
    #[error(
        "the SMMU at {0} in front of it is not dma-coherent, which is not supported: leave the device out"
    )]
    NotCoherent(PaRange),
    /// A property does not have the form that its binding asks for.
    #[error("`{property}` {problem}")]
    Property {
        /// The property's name.
        property: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Why a virtual machine cannot have a device of the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError<'t> {
    /// There is no such node.
    #[error(
        "no such node in the device tree: correct the path, in a partial tree xen,path, or leave it out"
    )]
    Missing,
    /// The node is disabled.
    #[error("its `status` is not \"okay\": enable it, or leave it out")]
    Disabled,
    /// A PCI host bridge that is not understood.
    #[error(
        "it is a PCI host bridge: postern,devices can have it, if it is compatible with pci-host-ecam-generic"
    )]
    Bridge,
    /// A property.
    #[error("its `{property}` {problem}")]
    Property {
        /// The property.
        property: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Its address cannot be translated to one that a CPU reaches it at.
    #[error("it is on the bus {bus}, whose `ranges` {problem}")]
    Bus {
        /// The bus's node.
        bus: &'t str,
        /// What is wrong with the bus's `ranges`.
        problem: &'static str,
    },
    /// The VM has it twice.
    #[error("it is there twice: remove one")]
    Twice,
    /// Another virtual machine has it.
    #[error("vm `{owner}` has it, or registers of it: give it to one virtual machine")]
    Owned {
        /// The virtual machine.
        owner: &'t str,
    },
    /// Its registers are needed elsewhere.
    #[error("{window} is {user}: leave the device out")]
    InUse {
        /// The registers.
        window: PaRange,
        /// Who needs them.
        user: &'static str,
    },
    /// Its interrupt is needed elsewhere.
    #[error("SPI {spi} is an interrupt of {user}: leave the device out")]
    Spi {
        /// The interrupt.
        spi: u32,
        /// Who needs it.
        user: &'static str,
    },
    /// Its interrupt is one of another virtual machine's device.
    #[error(
        "SPI {spi} is an interrupt of a device of vm `{owner}`, too: give both to one virtual machine"
    )]
    SharedSpi {
        /// The interrupt.
        spi: u32,
        /// The virtual machine.
        owner: &'t str,
    },
    /// It has interrupts, which a machine with a GICv2 cannot give away.
    #[error(
        "it has interrupts, which guests get from devices on machines with a GICv3, and this one has a GICv2: \
         leave it out"
    )]
    Gicv2,
    /// One of its streams is one of another virtual machine's device.
    #[error(
        "a stream from {stream:#x} on is one of a device of vm `{owner}`, too: give both to one virtual machine"
    )]
    SharedStream {
        /// The first of its streams, where the other device has one.
        stream: u32,
        /// The virtual machine.
        owner: &'t str,
    },
    /// The SMMU in front of it, or its streams.
    #[error(transparent)]
    Streams(#[from] StreamsError),
    /// It accesses memory, and nothing confines it.
    #[error(
        "it may access memory by itself, and no SMMU keeps it within the virtual machine's RAM: \
         leave it out, start QEMU with -M virt,iommu=smmuv3, or set \
         postern,unprotected-dma, which lets it access all memory of the machine"
    )]
    Dma,
}

/// What is wrong with a `tee-…` property.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TeePolicyError<'t> {
    /// Not a string list.
    #[error("{0} must be a list of strings")]
    NoList(&'static str),
    /// An application's name.
    #[error(
        "tee-applications: string {0} (the first is 0) is neither \"user\" nor a UUID, \
         such as \"8aaaf200-2450-11e4-abe2-0002a5d5c51b\""
    )]
    Application(usize),
    /// Too many applications.
    #[error("tee-applications has more than {0} UUIDs: without it, all are allowed")]
    TooManyApplications(usize),
    /// A word that means nothing.
    #[error("{property} must list some of: {words}")]
    Word {
        /// The property.
        property: &'static str,
        /// What it may say.
        words: &'static str,
    },
    /// Ids of partitions.
    #[error("tee-partitions must be at most {0} cells, each 0x8000 to 0xffff")]
    Partitions(usize),
    /// A quota.
    #[error("{property} must be 1 to {most}")]
    Quota {
        /// The property.
        property: &'static str,
        /// Its highest value.
        most: u32,
    },
    /// Two VMs own a device.
    #[error("tee-devices: vm `{owner}` owns \"{device}\": one virtual machine at most can")]
    Owned {
        /// The device.
        device: &'static str,
        /// The VM that has it.
        owner: &'t str,
    },
}
