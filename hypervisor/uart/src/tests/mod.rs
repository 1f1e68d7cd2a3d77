// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every driver against a model of its device, made from the device's manual.

use super::*;
use line::{Device, Model as Dut};
use proptest::prelude::*;
use std::collections::VecDeque;

mod cadence;
mod imx;
mod line;
mod lpuart;
mod meson;
mod ns16550;
mod pl011;
mod scif;

/// A device's name, how its node calls it, and the device.
type Kind = (&'static str, Layout, fn() -> Box<dyn Device>);

fn layout(compatible: &str) -> Layout {
    find([compatible].into_iter()).unwrap()
}

fn kinds() -> Vec<Kind> {
    use ns16550::{Kind::*, Ns16550};
    use pl011::{Kind::*, Pl011};
    let dw = Layout {
        shift: 2,
        width: Width::Word,
        ..layout("snps,dw-apb-uart")
    };
    vec![
        ("pl011, qemu", layout("arm,pl011"), || {
            Box::new(Pl011::new(Qemu))
        }),
        ("pl011, no FIFO", layout("arm,pl011"), || {
            Box::new(Pl011::new(Part(1)))
        }),
        ("pl011, 16", layout("arm,pl011"), || {
            Box::new(Pl011::new(Part(16)))
        }),
        ("pl011, 32", layout("arm,pl011"), || {
            Box::new(Pl011::new(Part(32)))
        }),
        ("sbsa", layout("arm,sbsa-uart"), || {
            Box::new(Pl011::new(Sbsa))
        }),
        ("ns16550a", layout("ns16550a"), || {
            Box::new(Ns16550::new(Plain { fifos: true }, 0, Width::Byte))
        }),
        ("ns16550", layout("ns16550"), || {
            Box::new(Ns16550::new(Plain { fifos: false }, 0, Width::Byte))
        }),
        ("am654", layout("ti,am654-uart"), || {
            Box::new(Ns16550::new(Plain { fifos: true }, 2, Width::Byte))
        }),
        ("dw-apb", dw, || {
            Box::new(Ns16550::new(DesignWare, 2, Width::Word))
        }),
        ("bcm2835-aux", layout("brcm,bcm2835-aux-uart"), || {
            Box::new(Ns16550::new(Aux, 2, Width::Word))
        }),
        ("cadence", layout("cdns,uart-r1p12"), || {
            Box::new(cadence::Cadence::new())
        }),
        (
            "imx",
            layout("fsl,imx6q-uart"),
            || Box::new(imx::Imx::new()),
        ),
        ("lpuart", layout("fsl,imx8qxp-lpuart"), || {
            Box::new(lpuart::Lpuart::new())
        }),
        ("scif", layout("renesas,scif"), || {
            Box::new(scif::Scif::new(2, 16))
        }),
        ("scif of RZ", layout("renesas,scif-r9a09g057"), || {
            Box::new(scif::Scif::new(1, 16))
        }),
        ("hscif", layout("renesas,hscif"), || {
            Box::new(scif::Scif::new(2, 128))
        }),
        ("meson", layout("amlogic,meson-gx-uart"), || {
            Box::new(meson::Meson::new())
        }),
    ]
}

/// Runs a test on each device.
fn on_each(test: impl Fn(&str, &Dut, Uart<&Dut>)) {
    for (name, layout, device) in kinds() {
        let device = Dut::new(device(), layout);
        test(name, &device, Uart::new(&device));
    }
}

/// What the interrupt's handler reads as long as the line asks for it; more often than 1000 times it does not come to
/// rest.
fn handle(name: &str, device: &Dut, uart: Uart<&Dut>, read: &mut Vec<u8>) -> usize {
    for count in 0..1000 {
        if !device.interrupts() {
            return count;
        }
        uart.drain(|byte| read.push(byte));
    }
    panic!("{name}: the interrupt stays asserted");
}

#[test]
fn bytes_leave_in_their_order_while_the_driver_waits_for_room() {
    let text: Vec<u8> = (0..=255).cycle().take(700).collect();
    on_each(|name, device, uart| {
        assert!(!uart.is_busy(), "{name}");
        for &byte in &text {
            while !uart.try_send(byte) {
                device.character_time();
            }
        }
        // The bytes that QEMU's model takes have left.
        assert_eq!(uart.is_busy(), name != "pl011, qemu", "{name}");
        for _ in 0..200 {
            device.character_time();
        }
        assert!(!uart.is_busy(), "{name}");
        assert_eq!(device.line(|line| line.sent.clone()), text, "{name}");
    });
}

/// As many bytes as the driver takes have room, and then it takes no more.
#[test]
fn a_full_fifo_has_no_room() {
    on_each(|name, device, uart| {
        if name == "pl011, qemu" {
            return;
        }
        let mut taken = 0;
        while let room @ 1.. = uart.room() {
            for _ in 0..room {
                uart.send(b'x');
            }
            taken += room;
        }
        let depth = match name {
            "hscif" => 16,
            _ => device.line(|line| line.send_depth),
        };
        assert_eq!(taken, depth, "{name}");
        assert!(!uart.try_send(b'y') && !uart.send_within(b'y', 3), "{name}");
        for _ in 0..depth {
            device.character_time();
        }
        assert!(uart.send_within(b'z', 1), "{name}");
    });
}

/// The queue of the console: each interrupt gives the device what it has room for, and the last one ends it.
#[test]
fn the_transmit_interrupt_empties_a_queue_and_ends() {
    on_each(|name, device, uart| {
        uart.listen(|_| panic!("{name}: nothing has arrived"));
        handle(name, device, uart, &mut Vec::new());
        let text: Vec<u8> = (0..200).collect();
        let mut queue: VecDeque<u8> = text.iter().copied().collect();
        let mut pump = || {
            let mut room = 0;
            while !queue.is_empty() {
                if room == 0 {
                    room = uart.room();
                }
                if room == 0 {
                    break;
                }
                room -= 1;
                uart.send(queue.pop_front().unwrap());
            }
            queue.is_empty()
        };
        pump();
        uart.set_transmit_interrupt(true);
        let mut interrupts = 0;
        for _ in 0..1000 {
            while device.interrupts() {
                interrupts += 1;
                assert!(interrupts <= 450, "{name}: the interrupt stays asserted");
                uart.drain(|_| panic!("{name}: nothing has arrived"));
                if pump() {
                    uart.set_transmit_interrupt(false);
                }
            }
            device.character_time();
        }
        assert_eq!(device.line(|line| line.sent.clone()), text, "{name}");
        // A device that takes sixteen bytes at once does not interrupt for each.
        let bound = match device.line(|line| line.send_depth) {
            1 => 450,
            8 => 60,
            _ => 30,
        };
        assert!(interrupts <= bound, "{name}: {interrupts}");
        // It may be enabled and disabled again.
        uart.set_transmit_interrupt(true);
        uart.set_transmit_interrupt(false);
        let _ = device.interrupts();
        assert!(!device.interrupts(), "{name}");
    });
}

#[test]
fn what_was_typed_before_we_listened_is_read_and_does_not_silence_the_rest() {
    for early in 0..=3 {
        on_each(|name, device, uart| {
            for _ in 0..early {
                device.arrive(b'\r');
            }
            device.silence();
            let mut read = Vec::new();
            uart.listen(|byte| read.push(byte));
            handle(name, device, uart, &mut read);
            device.arrive(b'x');
            device.silence();
            handle(name, device, uart, &mut read);
            assert_eq!(read.last(), Some(&b'x'), "{name}, {early} before");
            assert_eq!(
                read.len() + device.line(|line| line.lost),
                early + 1,
                "{name}"
            );
        });
    }
}

/// An overrun, a break or a wrong stop bit ends neither the input nor the peace.
#[test]
fn a_disturbed_line_goes_on() {
    on_each(|name, device, uart| {
        let mut read = Vec::new();
        uart.listen(|byte| read.push(byte));
        for round in 0..3 {
            for _ in 0..300 {
                device.arrive(b'#');
            }
            device.disturb();
            device.silence();
            handle(name, device, uart, &mut read);
            read.clear();
            // Nothing has arrived, and there is an interrupt all the same.
            device.disturb();
            handle(name, device, uart, &mut read);
            assert_eq!(read, [], "{name}");
            device.arrive(b'x');
            device.silence();
            handle(name, device, uart, &mut read);
            assert_eq!(read, [b'x'], "{name}, {round}");
            read.clear();
        }
    });
}

/// One visit does not last for ever, and what is left interrupts again.
#[test]
fn a_visit_reads_a_fifo_at_most() {
    on_each(|name, device, uart| {
        uart.listen(|_| ());
        device.arrive(0);
        let mut count = 0;
        uart.drain(|_| {
            count += 1;
            if count < 2000 {
                device.arrive(0);
            }
        });
        assert!(
            (32..=128).contains(&count) || name == "bcm2835-aux" && count == 8,
            "{name}: {count}"
        );
        // More than a FIFO, for what came before.
        let mut count = 0;
        device.arrive(0);
        uart.listen(|_| {
            count += 1;
            device.arrive(0);
        });
        assert_eq!(count, 1024, "{name}");
    });
}

/// The console may have asked for the interrupt before anything listens.
#[test]
fn a_transmit_interrupt_that_is_enabled_stays_so() {
    on_each(|name, device, uart| {
        while uart.try_send(b'x') && name != "pl011, qemu" {}
        uart.set_transmit_interrupt(true);
        uart.listen(|_| ());
        for _ in 0..200 {
            device.character_time();
        }
        assert!(device.interrupts(), "{name}");
    });
}

#[test]
fn a_node_is_known_by_the_first_string_that_is() {
    let model = |list: &[&'static str]| find(list.iter().copied()).map(|layout| layout.model);
    assert_eq!(
        model(&["rockchip,rk3588-uart", "snps,dw-apb-uart"]),
        Some(Model::DesignWare)
    );
    assert_eq!(
        model(&[
            "renesas,scif-r8a774a1",
            "renesas,rcar-gen3-scif",
            "renesas,scif"
        ]),
        Some(Model::Scif)
    );
    assert_eq!(
        model(&["ti,am64-uart", "ti,am654-uart"]),
        Some(Model::Ns16550)
    );
    assert_eq!(model(&["qcom,geni-debug-uart"]), None);
    assert_eq!(model(&[]), None);
    assert_eq!(layout("renesas,scif").shift, 2);
    assert_eq!(layout("renesas,scif-r9a09g057").shift, 1);
    for (name, layout) in COMPATIBLE {
        assert_eq!(
            find([name].into_iter()),
            Some(layout),
            "{name} is there twice"
        );
        let is_8250 = matches!(
            layout.model,
            Model::Ns16550 | Model::DesignWare | Model::Bcm2835Aux
        );
        assert_eq!(layout.model.has_variants(), is_8250);
        let lines = if layout.model == Model::Scif { 5 } else { 1 };
        assert_eq!(layout.model.interrupts(), lines);
    }
}

/// The bytes of registers that the driver needs: as many as the boards' trees have, or fewer.
#[test]
fn a_driver_stays_inside_its_registers() {
    for (name, bytes) in [
        ("arm,pl011", 0x48),
        ("ns16550a", 6),
        ("ti,am654-uart", 0x15),
        ("snps,dw-apb-uart", 0x20),
        ("brcm,bcm2835-aux-uart", 0x18),
        ("cdns,uart-r1p12", 0x34),
        ("fsl,imx6q-uart", 0xb8),
        ("fsl,imx8qxp-lpuart", 0x20),
        ("renesas,scif", 0x26),
        ("renesas,scif-r9a09g057", 0x14),
        ("amlogic,meson-gx-uart", 0x14),
    ] {
        assert_eq!(layout(name).bytes(), bytes, "{name}");
    }
    let dw = Layout {
        shift: 2,
        width: Width::Word,
        ..layout("snps,dw-apb-uart")
    };
    assert_eq!(dw.bytes(), 0x80);
}

proptest! {
    /// However bytes arrive, and whenever the handler comes: nothing that was not lost in a full FIFO stays unread.
    #[test]
    fn every_byte_is_read(
        kind in any::<prop::sample::Index>(),
        steps in prop::collection::vec(0_u8..5, 1..200),
    ) {
        let kinds = kinds();
        let (name, layout, device) = kind.get(&kinds);
        let device = Dut::new(device(), *layout);
        let uart = Uart::new(&device);
        let mut read = Vec::new();
        let mut arrived = 0;
        let mut listens = false;
        for step in steps.into_iter().chain([3, 2, 1]) {
            match step {
                0 => {
                    device.arrive(0);
                    arrived += 1;
                }
                1 if listens => _ = handle(name, &device, uart, &mut read),
                2 => device.silence(),
                3 if !listens => {
                    uart.listen(|byte| read.push(byte));
                    listens = true;
                }
                4 => device.disturb(),
                _ => {}
            }
        }
        prop_assert_eq!(read.len() + device.line(|line| line.lost), arrived);
    }
}
