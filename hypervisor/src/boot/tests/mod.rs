use dtoolkit::model::DeviceTree;
use mediator::addr::Pa;
use proptest::prelude::*;

use self::fixture::{at, cells, child, module, set};
use super::machine::read;
use super::*;
use crate::ids::{MAX_PCPUS, MAX_VCPUS, PcpuIndex, PcpuSet};
use crate::range::PaRange;

pub mod fixture;
mod rights;

fn range(start: u64, end: u64) -> PaRange {
    PaRange::between(Pa::new(start), Pa::new(end))
}

fn members(set: PcpuSet) -> Vec<usize> {
    let all = (0..MAX_PCPUS).filter_map(PcpuIndex::new);
    all.filter(|index| set.contains(*index))
        .map(PcpuIndex::get)
        .collect()
}

fn occupied() -> Found {
    Found {
        boot_cpu: Mpidr::new(1 << 31),
        hypervisor: range(0x4020_0000, 0x40a0_0000),
        tree: range(0x4000_0000, 0x4010_0000),
    }
}

/// None of two guests can take so much of the heap that the other's start fails, or EL2's own.
#[test]
fn the_heap_is_as_large_as_what_vms_may_have() {
    let bytes = |change: fn(&mut dtoolkit::model::DeviceTreeNode)| {
        let mut tree = fixture::two_vms();
        change(at(&mut tree, "/chosen/vm-a"));
        let dtb = tree.to_dtb();
        let (_, vms) = read(&dtb, occupied()).unwrap();
        heap_bytes(&vms)
    };
    const MIB: u64 = 1 << 20;
    let usual = bytes(|_| {});
    assert!(usual.is_multiple_of(BLOCK_SIZE));
    assert!((20 * MIB..40 * MIB).contains(&usual), "{usual:#x}");
    // An entry of a table, and a page of a buffer of its own, have so many bytes at least.
    let many = bytes(|vm| set(vm, "tee-quota-buffers", 65_000_u32));
    assert!(many - usual >= (65_000 - 8192) * 100, "{many:#x}");
    let pages = bytes(|vm| set(vm, "tee-quota-pages", 262_144_u32));
    assert!(pages - usual >= (262_144 - 65_536) * 4, "{pages:#x}");
    // A table of 4 KiB for each block of 2 MiB.
    let mut tree = fixture::two_vms();
    let dtb = tree.to_dtb();
    let (_, mut vms) = read(&dtb, occupied()).unwrap();
    vms[0].memory += 8 << 30;
    assert!(heap_bytes(&vms) - usual >= 16 * MIB);
    // Without a TEE there are no books.
    set(at(&mut tree, "/chosen/vm-a"), "tee", "none");
    let dtb = tree.to_dtb();
    let (_, vms) = read(&dtb, occupied()).unwrap();
    assert!(heap_bytes(&vms) < usual);
}

#[test]
fn the_cpu_that_booted_comes_first_wherever_it_is_in_the_tree() {
    let order = |machine: &Machine<'_>| -> Vec<_> {
        let list = machine.cpus.list().iter();
        list.map(|cpu| (cpu.mpidr.get(), cpu.place)).collect()
    };
    let booted_on = |boot: u64| Found {
        boot_cpu: Mpidr::new(1 << 31 | boot),
        ..occupied()
    };
    let mut tree = fixture::two_vms();
    fixture::cells(fixture::at(&mut tree, "/chosen/vm-a"), "affinity", [0, 2]);
    let dtb = tree.to_dtb();
    let (machine, vms) = read(&dtb, booted_on(2)).unwrap();
    assert_eq!(order(&machine), [(2, 2), (0, 0), (1, 1), (3, 3)]);
    // A description names CPUs by their place.
    let set = [0, 1].map(|index| PcpuIndex::new(index).unwrap());
    let set = set.into_iter().fold(PcpuSet::EMPTY, PcpuSet::with);
    assert_eq!(vms[0].affinity, set);

    let error = read(&dtb, booted_on(0x100)).map(|_| ()).unwrap_err();
    assert_eq!(error, BootError::BootCpu(Mpidr::new(0x100)));

    // Also where there are more than Postern uses.
    for mpidr in 4..12 {
        fixture::cpu(&mut tree, mpidr);
    }
    let dtb = tree.to_dtb();
    let (machine, _) = read(&dtb, booted_on(11)).unwrap();
    let used = order(&machine);
    assert_eq!(used.len(), MAX_CPUS);
    assert_eq!((used[0], used[1]), ((11, 11), (0, 0)));
    assert_eq!(machine.cpus.ignored, 12 - MAX_CPUS);
}

#[test]
fn what_must_not_be_mapped_is_not() {
    let mut tree = fixture::two_vms();
    let mapped = |tree: &DeviceTree| {
        let dtb = tree.to_dtb();
        let (machine, _) = read(&dtb, occupied()).unwrap();
        assert_eq!(
            machine.free,
            read(&fixture::two_vms().to_dtb(), occupied())
                .unwrap()
                .0
                .free
        );
        machine.mapped.iter().collect::<Vec<_>>()
    };
    // Reserved, but OP-TEE and the normal world may share it.
    assert_eq!(mapped(&tree), [range(0x4000_0000, 0x1_0000_0000)]);
    let shm = at(&mut tree, "/reserved-memory/optee_shm@42000000");
    set(shm, "no-map", [0_u32; 0]);
    assert_eq!(
        mapped(&tree),
        [
            range(0x4000_0000, 0x4200_0000),
            range(0x4220_0000, 0x1_0000_0000)
        ]
    );
}

#[test]
fn reads_the_default_machine() {
    let dtb = fixture::two_vms().to_dtb();
    let (machine, vms) = read(&dtb, occupied()).unwrap();

    assert_eq!(
        machine.ram.iter().collect::<Vec<_>>(),
        [range(0x4000_0000, 0x1_0000_0000)]
    );
    assert_eq!(
        machine.free.iter().collect::<Vec<_>>(),
        [
            range(0x4010_0000, 0x4020_0000),
            range(0x40a0_0000, 0x4200_0000),
            range(0x4220_0000, 0x4300_0000),
            range(0x4300_1000, 0x4800_0000),
            range(0x4a60_0000, 0x4b00_0000),
            range(0x4b80_0000, 0x1_0000_0000),
        ]
    );
    assert_eq!(machine.cpus.list().len(), 4);
    assert_eq!(
        machine.cpus.list()[2],
        Cpu {
            mpidr: Mpidr::new(2),
            place: 2,
            compatible: "arm,cortex-a72"
        }
    );
    assert_eq!(
        machine.cpus.index_of(Mpidr::new(0x8000_0003)),
        PcpuIndex::new(3)
    );
    assert_eq!(machine.gic.distributor, range(0x0800_0000, 0x0801_0000));
    assert_eq!(
        machine.gic.redistributors.as_slice(),
        [range(0x080a_0000, 0x0900_0000)]
    );
    assert_eq!(machine.gic.stride, 0x2_0000);
    assert_eq!(machine.gic.maintenance.map(IntId::get), Some(25));
    assert_eq!(machine.uart.registers, range(0x0900_0000, 0x0900_1000));
    assert_eq!(machine.uart.interrupt.get(), 33);
    let Timers {
        physical,
        virtual_timer,
        hypervisor,
    } = machine.timers;
    assert_eq!(
        [physical.get(), virtual_timer.get(), hypervisor.get()],
        [30, 27, 26]
    );
    assert_eq!(
        machine.optee.unwrap().notification.map(IntId::get),
        Some(219)
    );
    assert_eq!(machine.bootargs, "log=debug");
    assert!(!machine.stay && !machine.static_tables);

    let [a, b] = vms.as_slice() else {
        panic!("{vms:?}")
    };
    assert_eq!(
        *a,
        VmConfig {
            name: "vm-a",
            memory: 512 << 20,
            vcpus: 2,
            tee: Tee::Required,
            tee_config: rights::everything(),
            autostart: true,
            privileged: false,
            affinity: machine.cpus.set(),
            kernel: range(0x4800_0000, 0x4a60_0000),
            ramdisk: Some(range(0x4b00_0000, 0x4b80_0000)),
            bootargs: "console=ttyAMA0",
        }
    );
    assert_eq!((b.name, b.tee), ("b.2", Tee::Optional));
    assert_eq!(members(b.affinity), [1, 3]);
}

#[test]
fn a_vm_that_waits_for_an_order_needs_no_memory_yet() {
    let mut tree = fixture::two_vms();
    let vm = at(&mut tree, "/chosen/vm-b");
    set(vm, "memory", 0x100_0000_u64);
    set(vm, "manual-start", [0_u8; 0]);
    set(vm, "privileged", [0_u8; 0]);
    set(at(&mut tree, "/chosen"), "postern,stay", [0_u8; 0]);
    let static_tables = "postern,optee-static-tables";
    set(at(&mut tree, "/chosen"), static_tables, [0_u8; 0]);
    let dtb = tree.to_dtb();
    let (machine, vms) = read(&dtb, occupied()).unwrap();
    assert!(machine.stay && machine.static_tables);
    assert_eq!(vms[1].memory, 16 << 30);
    let flags: Vec<_> = vms.iter().map(|vm| (vm.autostart, vm.privileged)).collect();
    assert_eq!(flags, [(true, false), (false, true)]);
    // Nobody at all may start by itself, as long as the machine waits for who gives the order.
    set(at(&mut tree, "/chosen/vm-a"), "manual-start", [0_u8; 0]);
    assert!(read(&tree.to_dtb(), occupied()).is_ok());
}

#[test]
fn early_functions_need_nothing_but_console_and_psci() {
    let mut tree = DeviceTree::new();
    let whole = fixture::machine();
    for name in ["chosen", "pl011@9000000", "psci"] {
        tree.root
            .add_child(whole.find_node(&format!("/{name}")).unwrap().clone());
    }
    set(&mut tree.root, "#size-cells", 2_u32);
    let mut dtb = tree.to_dtb();
    // A boot loader passes an address, so the slice may be longer than the tree.
    dtb.extend([0xff; 100]);
    assert_eq!(early_uart(&dtb), Some(Pa::new(0x0900_0000)));
    assert_eq!(early_psci(&dtb), Some(Conduit::Smc));
    assert_eq!(early_uart(&[]), None);
    assert_eq!(early_psci(&[0xd0, 0x0d, 0xfe, 0xed, 0, 0, 0, 8]), None);
}

#[test]
fn the_console_may_be_an_alias_with_options() {
    let mut tree = fixture::two_vms();
    set(
        child(&mut tree.root, "aliases"),
        "serial0",
        "/pl011@9000000",
    );
    set(at(&mut tree, "/chosen"), "stdout-path", "serial0:115200n8");
    assert_eq!(early_uart(&tree.to_dtb()), Some(Pa::new(0x0900_0000)));
}

#[test]
fn timers_may_be_named_in_any_order() {
    let mut tree = fixture::two_vms();
    let timer = at(&mut tree, "/timer");
    cells(timer, "interrupts", [1, 10, 4, 1, 11, 4, 1, 14, 4]);
    set(
        timer,
        "interrupt-names",
        ["hyp-phys", "virt", "phys"].as_slice(),
    );
    let dtb = tree.to_dtb();
    assert_eq!(
        read(&dtb, occupied()).unwrap().0.timers.hypervisor.get(),
        26
    );
}

#[test]
fn a_ninth_cpu_is_counted_and_left_off() {
    let mut tree = fixture::two_vms();
    for index in 4..9 {
        fixture::cpu(&mut tree, index << 8);
    }
    let dtb = tree.to_dtb();
    let (machine, vms) = read(&dtb, occupied()).unwrap();
    assert_eq!((machine.cpus.list().len(), machine.cpus.ignored), (8, 1));
    assert_eq!(machine.cpus.list()[7].mpidr.get(), 0x700);
    assert_eq!(members(vms[0].affinity), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_node_for_xen_is_taken_with_its_other_properties() {
    let mut tree = fixture::two_vms();
    let vm = at(&mut tree, "/chosen/vm-a");
    set(vm, "compatible", "xen,domain");
    set(vm, "vpl011", [0_u8; 0]);
    let dtb = tree.to_dtb();
    assert_eq!(read(&dtb, occupied()).unwrap().1[0].name, "vm-a");
}

/// Each line breaks one thing in the default tree; the text is all that a user sees of it.
#[test]
fn errors_say_what_is_wrong_and_what_to_do() {
    type Break = fn(&mut DeviceTree);
    let vm_a = "/chosen/vm-a";
    assert!(fixture::two_vms().find_node(vm_a).is_some());
    let table: &[(Break, &str)] = &[
        (
            |t| set(at(t, "/intc@8000000"), "compatible", "arm,cortex-a15-gic"),
            "the machine has a GICv2, Postern needs a GICv3: start QEMU with -M virt,gic-version=3",
        ),
        (
            |t| set(at(t, "/intc@8000000"), "compatible", "x"),
            "no GICv3 in the device tree: start QEMU with -M virt,gic-version=3",
        ),
        (
            |t| cells(at(t, "/intc@8000000"), "reg", [0, 0x0800_0000, 0, 0x1_0000]),
            "device tree: intc@8000000: `reg` has too few ranges",
        ),
        (
            |t| set(at(t, "/chosen"), "stdout-path", "/pl011@9040000"),
            "no console: /chosen needs a stdout-path that names an enabled arm,pl011 node",
        ),
        (
            |t| set(at(t, "/psci"), "method", "hvc"),
            "PSCI's method is not \"smc\": Postern must run at EL2, \
             start QEMU with -M virt,virtualization=on",
        ),
        (
            |t| set(at(t, "/psci"), "compatible", "arm,psci"),
            "no PSCI 0.2 or later in the device tree: boot through TF-A, \
             or start QEMU with -M virt,virtualization=on,secure=off",
        ),
        (
            |t| set(at(t, "/cpus/cpu@2"), "enable-method", "spin-table"),
            "cpu@2: enable-method is not \"psci\": boot with firmware that has PSCI, such as TF-A",
        ),
        (
            |t| set(at(t, "/cpus/cpu@2"), "reg", 1_u32),
            "device tree: cpu@2: `reg` is another CPU's as well",
        ),
        (
            |t| set(at(t, "/memory@40000000"), "device_type", "x"),
            "no RAM in the device tree: it needs a node with device_type = \"memory\" and a reg",
        ),
        (
            |t| {
                cells(
                    at(t, "/reserved-memory/optee_shm@42000000"),
                    "reg",
                    [0, 0x4040_0000, 0, 1],
                );
            },
            "the boot loader put the hypervisor at 0x40200000..0x40a00000, \
             which is reserved or is no RAM: move it",
        ),
        (
            |t| t.root.remove_child("chosen").map(drop).unwrap(),
            "no console: /chosen needs a stdout-path that names an enabled arm,pl011 node",
        ),
        (
            |t| {
                at(t, "/chosen").remove_child("vm-a");
                at(t, "/chosen").remove_child("vm-b");
            },
            "no virtual machine in /chosen: add a node with compatible = \"postern,domain\"",
        ),
        (
            |t| (0..7).for_each(|i| _ = fixture::vm(t, &format!("vm-{i}"))),
            "more than 8 virtual machines in /chosen: remove some",
        ),
        (
            |t| set(at(t, "/chosen/vm-a"), "memory", 0x30_0000_u64),
            "the virtual machines that start at boot ask for 3584 MiB of memory and 3012 MiB are free: \
             lower their `memory`, give one manual-start, or give the machine more",
        ),
        (
            |t| set(at(t, "/chosen/vm-a"), "memory", u64::MAX / 1024 - 2047),
            "the virtual machines that start at boot ask for 17592186044415 MiB of memory and 3012 MiB are free: \
             lower their `memory`, give one manual-start, or give the machine more",
        ),
        (
            |t| {
                set(at(t, "/chosen/vm-a"), "manual-start", [0_u8; 0]);
                set(at(t, "/chosen/vm-b"), "manual-start", [0_u8; 0]);
            },
            "every virtual machine has manual-start: drop it from one, \
             or keep the machine on with postern,stay in /chosen",
        ),
        (
            |t| set(at(t, "/chosen"), "postern,stay", "no"),
            "device tree: chosen: `postern,stay` has a value: leave the value or the property out",
        ),
        (
            |t| set(at(t, "/chosen"), "postern,optee-static-tables", 1_u32),
            "device tree: chosen: `postern,optee-static-tables` has a value: leave the value or the property out",
        ),
        (
            |t| set(at(t, "/chosen/vm-a"), "privileged", 0_u32),
            "vm `vm-a`: privileged has a value: write `privileged;`, or leave it out",
        ),
        (
            |t| set(at(t, "/chosen/vm-a"), "vm-name", "b.2"),
            "vm `b.2`: another virtual machine has this name: set a different vm-name",
        ),
        (
            |t| set(at(t, "/chosen/vm-a"), "vm-name", "a\u{1b}[2J"),
            "vm `vm-a`: vm-name must be 1 to 31 of the characters A-Z a-z 0-9 . _ -",
        ),
        (
            |t| set(at(t, "/chosen/vm-a"), "memory", 0x8_0000_u32),
            "vm `vm-a`: memory must be a 64-bit number of KiB, \
             such as memory = <0x0 0x80000> for 512 MiB",
        ),
        (
            |t| set(at(t, "/chosen/vm-a"), "memory", 0x8_0001_u64),
            "vm `vm-a`: memory of 524289 KiB is not a multiple of 2 MiB (2048 KiB) above zero",
        ),
        (
            |t| set(at(t, "/chosen/vm-a"), "memory", 0_u64),
            "vm `vm-a`: memory of 0 KiB is not a multiple of 2 MiB (2048 KiB) above zero",
        ),
        (
            |t| set(at(t, "/chosen/vm-a"), "memory", 0xa000_u64),
            "vm `vm-a`: memory of 40960 KiB does not hold kernel and ramdisk: raise it",
        ),
        (
            |t| set(at(t, "/chosen/vm-a"), "cpus", 9_u32),
            "vm `vm-a`: cpus must be 1 to 8",
        ),
        (
            |t| set(at(t, "/chosen/vm-a"), "tee", "yes"),
            "vm `vm-a`: tee must be \"required\", \"optional\" or \"none\"",
        ),
        (
            |t| cells(at(t, "/chosen/vm-a"), "affinity", [0, 4]),
            "vm `vm-a`: affinity must list CPUs of this machine, 0 to 3",
        ),
        (
            |t| cells(at(t, "/chosen/vm-a"), "afinity", [0, 1]),
            "vm `vm-a`: property `afinity` is unknown: see docs/device-tree-binding.md",
        ),
        (
            |t| {
                at(t, "/chosen/vm-a")
                    .remove_child("module@48000000")
                    .map(drop)
                    .unwrap();
            },
            "vm `vm-a`: module multiboot,kernel is missing: \
             add a module node with the kernel's address",
        ),
        (
            |t| module(at(t, "/chosen/vm-a"), "multiboot,ramdisk", 0x5000_0000, 1),
            "vm `vm-a`: module module@50000000 is a second one of its kind: keep one",
        ),
        (
            |t| {
                module(
                    at(t, "/chosen/vm-a"),
                    "multiboot,device-tree",
                    0x5000_0000,
                    1,
                );
            },
            "vm `vm-a`: module module@50000000 is neither multiboot,kernel nor multiboot,ramdisk: \
             remove it",
        ),
        (
            |t| {
                cells(
                    at(t, "/chosen/vm-a/module@48000000"),
                    "reg",
                    [0, 0x4800_0000, 0, 0],
                );
            },
            "vm `vm-a`: module module@48000000: reg has no bytes",
        ),
        (
            |t| set(at(t, "/chosen/vm-a"), "#size-cells", 1_u32),
            "vm `vm-a`: module module@48000000: reg does not match #address-cells and #size-cells",
        ),
        (
            |t| {
                cells(
                    at(t, "/chosen/vm-a/module@48000000"),
                    "reg",
                    [0, 0x0900_0000, 0, 0x1000],
                );
            },
            "vm `vm-a`: module kernel at 0x9000000..0x9001000 is not in RAM: \
             load it elsewhere and correct its reg",
        ),
        (
            |t| {
                cells(
                    at(t, "/chosen/vm-a/module@4b000000"),
                    "reg",
                    [0, 0x41ff_f000, 0, 0x1001],
                );
            },
            "vm `vm-a`: module ramdisk at 0x41fff000..0x42000001 overlaps reserved memory, \
             the hypervisor or the device tree: load it elsewhere and correct its reg",
        ),
        (
            |t| {
                cells(
                    at(t, "/chosen/vm-b/module@4b000000"),
                    "reg",
                    [0, 0x4a00_0000, 0, 0x1000],
                );
            },
            "vm `b.2`: module ramdisk at 0x4a000000..0x4a001000 overlaps another module: \
             load it elsewhere and correct its reg",
        ),
        (
            |t| set(at(t, "/chosen/vm-a/module@48000000"), "bootargs", [0_u8, 0]),
            "vm `vm-a`: bootargs must be one string of at most 2047 bytes",
        ),
        (
            |t| {
                set(
                    at(t, "/chosen/vm-a/module@48000000"),
                    "bootargs",
                    &*"x".repeat(2048),
                );
            },
            "vm `vm-a`: bootargs must be one string of at most 2047 bytes",
        ),
    ];
    for (index, (break_it, text)) in table.iter().enumerate() {
        let mut tree = fixture::two_vms();
        break_it(&mut tree);
        let dtb = tree.to_dtb();
        let error = read(&dtb, occupied()).map(|_| ()).expect_err(text);
        assert_eq!(error.to_string(), *text, "line {index}");
    }
}

/// Whatever reads it, a tree with a few wrong bytes or a cut end must give an answer.
fn survives(dtb: &[u8]) {
    let uart = early_uart(dtb);
    let _ = early_psci(dtb);
    if let Ok((machine, vms)) = read(dtb, occupied()) {
        // What is accepted holds what the types promise.
        assert_eq!(uart, Some(machine.uart.registers.start()));
        assert!(!machine.cpus.list().is_empty() && !vms.is_empty());
        assert!(machine.free.iter().all(|free| machine.ram.contains(free)));
        assert!(!machine.free.overlaps(occupied().hypervisor));
        for vm in &vms {
            assert!((1..=MAX_VCPUS).contains(&vm.vcpus) && !vm.affinity.is_empty());
            assert!(vm.memory > 0 && vm.memory.is_multiple_of(BLOCK_SIZE));
            assert!(!machine.free.overlaps(vm.kernel) && machine.ram.contains(vm.kernel));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_tree_makes_it_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        words in prop::collection::vec((any::<prop::sample::Index>(), 0_u32..12), 0..3),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut dtb = fixture::two_vms().to_dtb();
        for (place, byte) in edits {
            *place.get_mut(&mut dtb) = byte;
        }
        // Tokens and small lengths, where they hurt most: on word boundaries.
        for (place, word) in words {
            let at = place.index(dtb.len() / 4) * 4;
            dtb[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        if let Some(cut) = cut {
            dtb.truncate(cut.index(dtb.len()));
        }
        survives(&dtb);
    }

    #[test]
    fn no_values_make_it_panic(
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..40)), 1..4)
    ) {
        let mut tree = fixture::two_vms();
        rights::restrict(at(&mut tree, "/chosen/vm-a"));
        let mut paths = Vec::new();
        collect(&tree.root, &mut Vec::new(), &mut paths);
        for (place, value) in edits {
            let (path, property) = place.get(&paths);
            let node = path.iter().fold(&mut tree.root, |node, name| node.child_mut(name).unwrap());
            set(node, property, value);
        }
        survives(&tree.to_dtb());
    }
}

type Place = (Vec<String>, String);

fn collect(node: &dtoolkit::model::DeviceTreeNode, path: &mut Vec<String>, out: &mut Vec<Place>) {
    use dtoolkit::{Node, Property};
    for property in node.properties() {
        out.push((path.clone(), property.name().to_owned()));
    }
    for child in node.children() {
        path.push(child.name().to_owned());
        collect(child, path, out);
        path.pop();
    }
}
