// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The texts that a user reads when the boot tree cannot be booted.

use dtoolkit::model::DeviceTree;

use super::fixture::{at, cells, link, module, set};
use super::{fixture, occupied, read};

/// Each line breaks one thing in the default tree. The text is all that a user sees of it.
#[test]
fn errors_say_what_is_wrong_and_what_to_do() {
    type Break = fn(&mut DeviceTree);
    let vm_a = "/chosen/vm-a";
    assert!(fixture::two_vms().find_node(vm_a).is_some());
    let table: &[(Break, &str)] = &[
        (
            // Two ranges, as QEMU's machine without `virtualization=on` has.
            |t| set(at(t, "/intc@8000000"), "compatible", "arm,cortex-a15-gic"),
            "the GICv2 has no virtual interface (GICH, GICV): its reg needs four ranges; \
             start QEMU with -M virt,virtualization=on",
        ),
        (
            |t| set(at(t, "/intc@8000000"), "compatible", "x"),
            "no GICv3 or GICv2 in the device tree: the interrupt controllers that Postern drives are in \
             docs/device-tree-binding.md",
        ),
        (
            |t| cells(at(t, "/intc@8000000"), "reg", [0, 0x0800_0000, 0, 0x1_0000]),
            "device tree: intc@8000000: `reg` has too few ranges",
        ),
        (
            |t| set(at(t, "/chosen"), "stdout-path", "/pl011@9040000"),
            "no console: /chosen needs a stdout-path that names an enabled UART of those in docs/device-tree-binding.md",
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
            "no console: /chosen needs a stdout-path that names an enabled UART of those in docs/device-tree-binding.md",
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
            |t| cells(at(t, "/chosen/vm-a"), "affinity", []),
            "vm `vm-a`: affinity must list CPUs of this machine, 0 to 3",
        ),
        (
            |t| set(at(t, "/chosen/vm-a"), "affinity", [0_u8; 5]),
            "vm `vm-a`: affinity must list CPUs of this machine, 0 to 3",
        ),
        (
            |t| set(at(t, "/chosen/vm-a"), "sve", 192_u32),
            "vm `vm-a`: sve must be a multiple of 128 up to 2048, or 0",
        ),
        (
            |t| set(at(t, "/chosen/vm-a"), "sve", 256_u64),
            "vm `vm-a`: sve must be a multiple of 128 up to 2048, or 0",
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
                module(at(t, "/chosen/vm-a"), "multiboot,microcode", 0x5000_0000, 1);
            },
            "vm `vm-a`: module module@50000000 is none of multiboot,kernel, multiboot,ramdisk, \
             multiboot,device-tree and postern,disk: remove it",
        ),
        (
            |t| module(at(t, "/chosen/vm-a"), "postern,disk", 0x5000_0000, 0x1001),
            "vm `vm-a`: module module@50000000: reg is not in whole sectors of 512 bytes",
        ),
        (
            |t| {
                module(at(t, "/chosen/vm-a"), "postern,disk", 0x5000_0000, 0x200);
                module(at(t, "/chosen/vm-a"), "postern,disk", 0x5001_0000, 0x200);
            },
            "vm `vm-a`: module module@50010000 is a second one of its kind: keep one",
        ),
        (
            |t| module(at(t, "/chosen/vm-a"), "postern,disk", 0x4800_1000, 0x1000),
            "vm `vm-a`: module disk at 0x48001000..0x48002000 overlaps another module: \
             load it elsewhere and correct its reg",
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
        (
            |t| link(t, "lan", &["b.2"]),
            "link `lan`: vms must be a list of two virtual machines or more",
        ),
        (
            |t| link(t, "lan", &["b.2", "vm-b"]),
            "link `lan`: vms names \"vm-b\", and no virtual machine has this name: correct it",
        ),
        (
            |t| link(t, "lan", &["b.2", "vm-a", "b.2"]),
            "link `lan`: vms names \"b.2\" twice: each virtual machine has one end",
        ),
        (
            |t| {
                link(t, "lan", &["b.2", "vm-a"]);
                link(t, "wan", &["b.2", "vm-a"]);
                set(at(t, "/chosen/wan"), "link-name", "lan");
            },
            "link `lan`: another link has this name: set a different link-name",
        ),
        (
            |t| {
                link(t, "lan", &["b.2", "vm-a"]);
                set(at(t, "/chosen/lan"), "link-name", "");
            },
            "link `lan`: link-name must be 1 to 31 of the characters A-Z a-z 0-9 . _ -",
        ),
        (
            |t| {
                link(t, "lan", &["b.2", "vm-a"]);
                set(at(t, "/chosen/lan"), "vm", "vm-a");
            },
            "link `lan`: property `vm` is unknown: see docs/device-tree-binding.md",
        ),
        (
            |t| {
                link(t, "lan", &["b.2", "vm-a"]);
                set(at(t, "/chosen/lan"), "link-kind", "serial");
            },
            "link `lan`: link-kind must be \"network\", or \"console\" with two vms",
        ),
        (
            |t| {
                set(fixture::vm(t, "c"), "tee", "none");
                link(t, "lan", &["b.2", "vm-a", "c"]);
                set(at(t, "/chosen/lan"), "link-kind", "console");
            },
            "link `lan`: link-kind must be \"network\", or \"console\" with two vms",
        ),
        (
            |t| (0..9).for_each(|i| link(t, &format!("l{i}"), &["b.2", "vm-a"])),
            "more than 8 links in /chosen: remove some, or put more VMs on one",
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
