// SPDX-License-Identifier: Apache-2.0 OR MIT
use dtoolkit::model::DeviceTree;
use mediator::addr::Pa;

use self::fixture::{at, cells, child, set};
use super::*;
use postern_base::ids::{MAX_PCPUS, PcpuIndex, PcpuSet};
use postern_base::range::PaRange;

mod any_tree;
mod assigned;
mod boards;
mod buses;
mod dts;
mod efi;
mod errors;
pub mod fixture;
mod flat;
mod gic_v2;
mod iommu;
mod nodes;
mod partial;
mod specifiers;
mod tee_policy;
mod uarts;

fn range(start: u64, end: u64) -> PaRange {
    PaRange::between(Pa::new(start), Pa::new(end))
}

/// Reads a tree without partial ones.
fn read(tree: &[u8], found: BootPlacement) -> Result<(Machine<'_>, VmConfigs<'_>), BootError<'_>> {
    machine::read(tree, found, &|_| None)
}

fn members(set: PcpuSet) -> Vec<usize> {
    let all = (0..MAX_PCPUS).filter_map(PcpuIndex::new);
    all.filter(|index| set.contains(*index))
        .map(PcpuIndex::get)
        .collect()
}

fn occupied() -> BootPlacement {
    BootPlacement {
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
    // Two VMs, since the whole is a multiple of 2 MiB.
    let pages = |count: u32| {
        let mut tree = fixture::two_vms();
        for vm in ["/chosen/vm-a", "/chosen/vm-b"] {
            set(at(&mut tree, vm), "tee-quota-pages", count);
        }
        heap_bytes(&read(&tree.to_dtb(), occupied()).unwrap().1)
    };
    assert!(pages(262_144) - pages(1024) >= 2 * (262_144 - 1024) * 4);
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
    let booted_on = |boot: u64| BootPlacement {
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
    assert_eq!(vms[0].affinity, Some(set));

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

/// As on R-Car Gen3, where each cluster counts its CPUs from 0 in Aff0, and has its number in Aff1.
#[test]
fn cpus_of_two_clusters_are_told_apart() {
    let mut tree = fixture::two_vms();
    for mpidr in 0x100..0x104 {
        let cpu = fixture::cpu(&mut tree, mpidr);
        set(cpu, "compatible", "arm,cortex-a53");
    }
    let dtb = tree.to_dtb();
    let boot_cpu = Mpidr::new(1 << 31 | 0x101);
    let placement = BootPlacement {
        boot_cpu,
        ..occupied()
    };
    let (machine, _) = read(&dtb, placement).unwrap();
    let list = machine.cpus.list().iter();
    let mpidrs: Vec<u64> = list.map(|cpu| cpu.mpidr.get()).collect();
    assert_eq!(mpidrs, [0x101, 0, 1, 2, 3, 0x100, 0x102, 0x103]);
    let index = |mpidr| machine.cpus.index_of(Mpidr::new(mpidr));
    assert_eq!(index(0x101), PcpuIndex::new(0));
    assert_eq!(index(1), PcpuIndex::new(2));
    assert_eq!(index(0x201), None);
    assert_eq!(machine.cpus.list()[5].compatible, "arm,cortex-a53");
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
    let redistributors = fixture::redistributors(&machine);
    assert_eq!(
        redistributors.regions.as_slice(),
        [range(0x080a_0000, 0x0900_0000)]
    );
    assert_eq!(redistributors.stride, 0x2_0000);
    assert_eq!(machine.gic.maintenance.map(PhysIntId::get), Some(25));
    assert_eq!(machine.uart.registers, range(0x0900_0000, 0x0900_1000));
    assert_eq!(machine.uart.interrupts[0].intid.get(), 33);
    let Timers {
        physical,
        virtual_timer,
        hypervisor,
        clock_frequency: None,
    } = machine.timers
    else {
        panic!("{:?}", machine.timers)
    };
    assert_eq!(
        [physical.get(), virtual_timer.get(), hypervisor.get()],
        [30, 27, 26]
    );
    assert_eq!(
        machine
            .optee
            .unwrap()
            .notification
            .map(|spi| spi.intid.get()),
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
            tee_config: tee_policy::everything(),
            autostart: true,
            privileged: false,
            watchdog: false,
            rng: false,
            affinity: None,
            sve: None,
            unprotected_dma: false,
            devices: Vec::new(),
            partial_tree: None,
            kernel: range(0x4800_0000, 0x4a60_0000),
            ramdisk: Some(range(0x4b00_0000, 0x4b80_0000)),
            disk: None,
            bootargs: "console=ttyAMA0",
        }
    );
    assert_eq!((b.name, b.tee), ("b.2", Tee::Optional));
    assert_eq!(members(b.affinity.unwrap()), [1, 3]);
}

#[test]
fn vms_may_share_the_content_of_a_disk() {
    let mut tree = fixture::two_vms();
    for vm in ["/chosen/vm-a", "/chosen/vm-b"] {
        fixture::module(at(&mut tree, vm), "postern,disk", 0x5000_0000, 0x20_0000);
    }
    let dtb = tree.to_dtb();
    let (machine, vms) = read(&dtb, occupied()).unwrap();
    let disk = range(0x5000_0000, 0x5020_0000);
    assert_eq!([vms[0].disk, vms[1].disk], [Some(disk); 2]);
    assert!(!machine.free.contains(range(0x501f_f000, 0x5020_0000)));
}

#[test]
fn a_vm_that_waits_for_an_order_needs_no_memory_yet() {
    let mut tree = fixture::two_vms();
    let vm = at(&mut tree, "/chosen/vm-b");
    set(vm, "memory", 0x100_0000_u64);
    set(vm, "manual-start", [0_u8; 0]);
    set(vm, "privileged", [0_u8; 0]);
    set(vm, "watchdog", [0_u8; 0]);
    set(vm, "rng", [0_u8; 0]);
    set(at(&mut tree, "/chosen"), "postern,stay", [0_u8; 0]);
    let static_tables = "postern,optee-static-tables";
    set(at(&mut tree, "/chosen"), static_tables, [0_u8; 0]);
    let dtb = tree.to_dtb();
    let (machine, vms) = read(&dtb, occupied()).unwrap();
    assert!(machine.stay && machine.static_tables);
    assert_eq!(vms[1].memory, 16 << 30);
    let flags = vms.iter();
    let flags: Vec<_> = flags
        .map(|vm| (vm.autostart, vm.privileged, vm.watchdog, vm.rng))
        .collect();
    assert_eq!(
        flags,
        [(true, false, false, false), (false, true, true, true)]
    );
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
    assert_eq!(
        early_uart(&dtb).map(|(start, _)| start),
        Some(Pa::new(0x0900_0000))
    );
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
    assert_eq!(
        early_uart(&tree.to_dtb()).map(|(start, _)| start),
        Some(Pa::new(0x0900_0000))
    );
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
fn sve_gives_a_vm_a_length_and_its_memory() {
    let mut tree = fixture::two_vms();
    fixture::set(fixture::at(&mut tree, "/chosen/vm-a"), "sve", 0_u32);
    let without = tree.to_dtb();
    fixture::set(fixture::at(&mut tree, "/chosen/vm-a"), "sve", 2048_u32);
    let with = tree.to_dtb();
    let (_, before) = read(&without, occupied()).unwrap();
    let (_, after) = read(&with, occupied()).unwrap();
    assert_eq!(before[0].sve, None);
    assert_eq!(after[0].sve.map(|length| length.bits()), Some(2048));
    // So many that the heap's whole blocks show it.
    let heap = |vm: &crate::VmConfig<'_>| {
        let vms: Vec<_> = core::iter::repeat_n(vm.clone(), 64).collect();
        crate::heap_bytes(&vms)
    };
    assert_eq!(heap(&after[0]) - heap(&before[0]), 64 * 2 * 16384);
    let states = |vms: &[crate::VmConfig<'_>]| vms.iter().map(crate::ram::sve_bytes).sum::<u64>();
    assert_eq!(states(&before), 0);
    assert_eq!(states(&after), 2 * 16384);
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
    assert_eq!(vms[0].affinity, None);
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

/// The third cell of an interrupt says what makes it pending.
#[test]
fn triggers() {
    for (flags, expected) in [
        (0, None),
        (1, Some(Trigger::Edge)),
        (2, Some(Trigger::Edge)),
        (4, Some(Trigger::Level)),
        (8, Some(Trigger::Level)),
        (0xf04, Some(Trigger::Level)),
    ] {
        let entry = [0_u32, 1, flags].map(u32::to_be_bytes).concat();
        let interrupt = Interrupt::from_specifier(&entry, 3).unwrap();
        assert_eq!((interrupt.intid.get(), interrupt.trigger), (33, expected));
    }
    assert_eq!(Interrupt::from_specifier(&[0; 8], 3), None);
}
