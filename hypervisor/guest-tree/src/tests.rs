// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that read the trees back with an independent parser.

use super::*;

fn full() -> GuestTree<'static> {
    GuestTree {
        vcpus: 3,
        cpu_compatible: "arm,cortex-a72",
        unified_cache_levels: 2,
        memory: IpaRange {
            start: layout::RAM,
            bytes: 512 << 20,
        },
        bootargs: "console=ttyAMA0 postern.auto=ping+x",
        ramdisk: Some(IpaRange {
            start: Ipa::new(0x1_0400_0000),
            bytes: 0x12_3456,
        }),
        gic: GicVersion::V3,
        gic_phandle: GIC_PHANDLE,
        privileged: true,
        rtc: true,
        virtio: 2,
        watchdog: true,
        timer_frequency: Some(8_000_000),
        tee: Some(GuestTee {
            notification: Some(187),
        }),
        spis: Spis::USUAL,
        kaslr_seed: Some(0x0123_4567_89ab_cdef),
        rng_seed: b"thirty-two bytes of randomness!!",
    }
}

fn cells(node: fdt::node::FdtNode<'_, '_>, name: &str) -> Vec<u32> {
    let value = node
        .property(name)
        .unwrap_or_else(|| panic!("{}: {name}", node.name))
        .value;
    assert!(value.len().is_multiple_of(4));
    value
        .chunks(4)
        .map(|cell| u32::from_be_bytes(cell.try_into().unwrap()))
        .collect()
}

fn text<'a>(node: fdt::node::FdtNode<'_, 'a>, name: &str) -> &'a str {
    node.property(name)
        .unwrap_or_else(|| panic!("{}: {name}", node.name))
        .as_str()
        .unwrap()
}

#[test]
fn full_tree_is_read_back_by_another_parser() {
    let dtb = full().write(|_| {}, |_| {});
    let tree = fdt::Fdt::new(&dtb).unwrap();
    let node = |path| tree.find_node(path).unwrap_or_else(|| panic!("{path}"));

    assert_eq!(tree.total_size(), dtb.len());
    assert_eq!(tree.root().model(), "postern,vm");
    let memory: Vec<_> = tree.memory().regions().collect();
    assert_eq!(memory.len(), 1);
    assert_eq!(memory[0].starting_address as u64, 0x1_0000_0000);
    assert_eq!(memory[0].size, Some(512 << 20));

    let chosen = tree.chosen();
    assert_eq!(
        chosen.bootargs(),
        Some("console=ttyAMA0 postern.auto=ping+x")
    );
    let console = tree.aliases().unwrap().resolve_node("serial0").unwrap();
    assert_eq!(console.name, "pl011@9000000");
    let chosen = node("/chosen");
    assert_eq!(text(chosen, "stdout-path"), "serial0:115200n8");
    assert_eq!(cells(chosen, "linux,initrd-start"), [1, 0x0400_0000]);
    assert_eq!(cells(chosen, "linux,initrd-end"), [1, 0x0412_3456]);
    assert_eq!(cells(chosen, "kaslr-seed"), [0x0123_4567, 0x89ab_cdef]);
    assert_eq!(chosen.property("rng-seed").unwrap().value, full().rng_seed);

    let cpus: Vec<_> = tree.cpus().collect();
    assert_eq!(
        cpus.iter().map(|cpu| cpu.ids().first()).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    for index in 0..3 {
        let cpu = node(["/cpus/cpu@0", "/cpus/cpu@1", "/cpus/cpu@2"][index]);
        assert_eq!(text(cpu, "enable-method"), "psci");
        assert_eq!(text(cpu, "compatible"), "arm,cortex-a72");
        let cache = tree
            .find_phandle(cells(cpu, "next-level-cache")[0])
            .unwrap();
        assert_eq!(cache.name, "l2-cache");
        let cache = tree
            .find_phandle(cells(cache, "next-level-cache")[0])
            .unwrap();
        assert_eq!(
            (cache.name, cells(cache, "cache-level")),
            ("l3-cache", vec![3])
        );
        assert!(cache.property("next-level-cache").is_none());
    }
    assert_eq!(text(node("/psci"), "method"), "smc");

    let gic = tree.find_compatible(&["arm,gic-v3"]).unwrap();
    assert_eq!(cells(node("/"), "interrupt-parent"), cells(gic, "phandle"));
    assert_eq!(gic.interrupt_cells(), Some(3));
    assert_eq!(
        cells(gic, "reg"),
        [0, 0x0800_0000, 0, 0x1_0000, 0, 0x080a_0000, 0, 0x6_0000]
    );
    let timer = cells(node("/timer"), "interrupts");
    assert_eq!(timer, [1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4]);
    assert_eq!(cells(node("/timer"), "clock-frequency"), [8_000_000]);

    let uart = node("/pl011@9000000");
    let compatible: Vec<_> = uart.compatible().unwrap().all().collect();
    assert_eq!(compatible, ["arm,pl011", "arm,primecell"]);
    assert_eq!(cells(uart, "interrupts"), [0, 1, 4]);
    assert_eq!(cells(uart, "reg"), [0, 0x0900_0000, 0, 0x1000]);
    let clocks = cells(uart, "clocks");
    assert_eq!(clocks.len(), 2);
    let clock = tree.find_phandle(clocks[0]).unwrap();
    assert_eq!(text(clock, "compatible"), "fixed-clock");

    // Linux numbers its ttyAMA devices by the aliases.
    let second = tree.aliases().unwrap().resolve_node("serial1").unwrap();
    assert_eq!(second.name, "pl011@9010000");
    assert_eq!(cells(second, "interrupts"), [0, 3, 4]);
    assert_eq!(cells(second, "reg"), [0, 0x0901_0000, 0, 0x1000]);
    assert_eq!(cells(second, "clocks"), clocks);

    let gpio = node("/pl061@9030000");
    let compatible: Vec<_> = gpio.compatible().unwrap().all().collect();
    assert_eq!(compatible, ["arm,pl061", "arm,primecell"]);
    assert_eq!(cells(gpio, "interrupts"), [0, 7, 4]);
    assert_eq!(cells(gpio, "reg"), [0, 0x0903_0000, 0, 0x1000]);
    assert_eq!(cells(gpio, "clocks"), clocks[..1]);
    assert_eq!(text(gpio, "clock-names"), "apb_pclk");
    assert!(gpio.property("gpio-controller").is_some());
    assert_eq!(cells(gpio, "#gpio-cells"), [2]);
    assert_eq!(text(node("/gpio-keys"), "compatible"), "gpio-keys");
    let button = node("/gpio-keys/poweroff");
    assert_eq!(cells(button, "linux,code"), [116]);
    let line = cells(button, "gpios");
    assert_eq!(line[1..], [3, 0]);
    let controller = tree.find_phandle(line[0]).unwrap();
    assert_eq!(controller.name, "pl061@9030000");

    let rtc = node("/pl031@9020000");
    assert_eq!(cells(rtc, "reg"), [0, 0x0902_0000, 0, 0x1000]);
    assert_eq!(cells(rtc, "interrupts"), [0, 4, 4]);
    assert_eq!(text(rtc, "clock-names"), "apb_pclk");

    for (path, address, spi) in [
        ("/virtio_mmio@a000000", 0x0a00_0000, 16),
        ("/virtio_mmio@a000200", 0x0a00_0200, 17),
    ] {
        let virtio = node(path);
        assert_eq!(text(virtio, "compatible"), "virtio,mmio");
        assert_eq!(cells(virtio, "reg"), [0, address, 0, 0x200]);
        assert_eq!(cells(virtio, "interrupts"), [0, spi, 1]);
        assert!(virtio.property("dma-coherent").is_some());
    }
    assert!(tree.find_node("/virtio_mmio@a000400").is_none());
    // Linux's driver takes the control frame first.
    let watchdog = node("/watchdog@90d0000");
    assert_eq!(text(watchdog, "compatible"), "arm,sbsa-gwdt");
    let frames = [0, 0x090d_0000, 0, 0x1000, 0, 0x090e_0000, 0, 0x1000];
    assert_eq!(cells(watchdog, "reg"), frames);
    assert_eq!(cells(watchdog, "interrupts"), [0, 9, 4]);

    let optee = node("/firmware/optee");
    assert_eq!(text(optee, "compatible"), "linaro,optee-tz");
    assert_eq!(text(optee, "method"), "smc");
    assert_eq!(cells(optee, "interrupts"), [0, 187, 1]);
}

#[test]
fn tree_of_a_guest_with_gicv2_has_its_two_interfaces() {
    let dtb = GuestTree {
        gic: GicVersion::V2,
        ..full()
    }
    .write(|_| {}, |_| {});
    let tree = fdt::Fdt::new(&dtb).unwrap();
    assert!(tree.find_compatible(&["arm,gic-v3"]).is_none());
    let gic = tree.find_compatible(&["arm,gic-400"]).unwrap();
    assert_eq!(gic.interrupt_cells(), Some(3));
    assert_eq!(
        cells(gic, "reg"),
        [0, 0x0800_0000, 0, 0x1000, 0, 0x0801_0000, 0, 0x2000]
    );
    // Three vCPUs have it.
    let timer = cells(tree.find_node("/timer").unwrap(), "interrupts");
    let flags = 0x704;
    assert_eq!(
        timer,
        [1, 13, flags, 1, 14, flags, 1, 11, flags, 1, 10, flags]
    );
}

#[test]
fn devices_of_the_gic_are_those_of_its_version() {
    use layout::{Device, device_at};
    let at = |address, gic| device_at(Ipa::new(address), gic);
    for (address, v2, v3) in [
        (
            0x0800_0ffc,
            Some((Device::Distributor, 0xffc)),
            Some((Device::Distributor, 0xffc)),
        ),
        (0x0800_1000, None, Some((Device::Distributor, 0x1000))),
        (0x0800_fffc, None, Some((Device::Distributor, 0xfffc))),
        // Mapped, so that no access traps.
        (0x0801_0000, None, None),
        (0x0801_0ffc, None, None),
        (0x0801_1000, Some((Device::CpuInterface, 0)), None),
        (0x0801_1ffc, Some((Device::CpuInterface, 0xffc)), None),
        (0x0801_2000, None, None),
        (0x080a_0000, None, Some((Device::Redistributors, 0))),
        (0x0819_fffc, None, Some((Device::Redistributors, 0xf_fffc))),
        (0x081a_0000, None, None),
        (
            0x0900_0000,
            Some((Device::Uart, 0)),
            Some((Device::Uart, 0)),
        ),
    ] {
        assert_eq!(at(address, GicVersion::V2), v2, "{address:#x}");
        assert_eq!(at(address, GicVersion::V3), v3, "{address:#x}");
    }
}

/// The vector did not grow, so no copy of the seeds is left in the heap.
#[test]
fn largest_tree_fits_into_the_initial_capacity() {
    let bootargs = "x".repeat(postern_boot_tree::MAX_BOOTARGS);
    let largest = GuestTree {
        vcpus: postern_base::ids::MAX_VCPUS,
        unified_cache_levels: 6,
        virtio: layout::MAX_VIRTIO,
        bootargs: &bootargs,
        rng_seed: &[1; 64],
        ..full()
    };
    let dtb = largest.write(|_| {}, |_| {});
    assert!(dtb.len() <= postern_flat_tree::CAPACITY, "{}", dtb.len());
    assert_eq!(dtb.capacity(), postern_flat_tree::CAPACITY);
}

#[test]
fn tree_omits_devices_that_the_guest_lacks() {
    let bare = GuestTree {
        vcpus: 1,
        unified_cache_levels: 0,
        ramdisk: None,
        privileged: false,
        rtc: false,
        virtio: 0,
        watchdog: false,
        timer_frequency: None,
        tee: None,
        kaslr_seed: None,
        rng_seed: &[],
        ..full()
    };
    let dtb = bare.write(|_| {}, |_| {});
    let tree = fdt::Fdt::new(&dtb).unwrap();
    assert!(tree.find_node("/firmware").is_none());
    assert!(tree.find_node("/pl011@9010000").is_none());
    assert!(tree.find_node("/pl031@9020000").is_none());
    assert!(tree.find_node("/watchdog@90d0000").is_none());
    let timer = tree.find_node("/timer").unwrap();
    assert!(timer.property("clock-frequency").is_none());
    assert!(tree.aliases().unwrap().resolve("serial1").is_none());
    let chosen: Vec<_> = tree
        .find_node("/chosen")
        .unwrap()
        .properties()
        .map(|p| p.name)
        .collect();
    assert_eq!(chosen, ["stdout-path", "bootargs"]);
    assert!(tree.find_node("/cpus/l2-cache").is_none() && tree.find_node("/cpus/cpu@1").is_none());

    let silent = GuestTree {
        tee: Some(GuestTee { notification: None }),
        ..bare
    };
    let dtb = silent.write(|_| {}, |_| {});
    let tree = fdt::Fdt::new(&dtb).unwrap();
    let optee = tree.find_node("/firmware/optee").unwrap();
    assert!(optee.property("interrupts").is_none());
}

/// An emulated device whose interrupt a device of the machine has gets another, and nothing else changes.
#[test]
fn spis_make_room_for_assigned_devices() {
    assert_eq!(Spis::beside(|_| false), Spis::USUAL);
    let spis = Spis::beside(|spi| [2, 3, 64].contains(&spi));
    assert_eq!(spis.of(SpiSource::Uart), 1);
    assert_eq!(spis.of(SpiSource::Tee), 65);
    assert_eq!(spis.of(SpiSource::MonitorUart), 66);
    assert_eq!(spis.of(SpiSource::Rtc), 4);
    let own = |root: &mut FlatTree| root.node("own@1000", |own| own.flag("dma-coherent"));
    let dtb = GuestTree { spis, ..full() }.write(own, |_| {});
    let tree = fdt::Fdt::new(&dtb).unwrap();
    let node = |path| tree.find_node(path).unwrap_or_else(|| panic!("{path}"));
    assert_eq!(cells(node("/pl011@9000000"), "interrupts"), [0, 1, 4]);
    assert_eq!(cells(node("/pl011@9010000"), "interrupts"), [0, 66, 4]);
    assert_eq!(cells(node("/pl061@9030000"), "interrupts"), [0, 7, 4]);
    assert!(node("/own@1000").property("dma-coherent").is_some());
}
