// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Several vCPUs that share memory over FF-A, in every order that matters.

extern crate std;

use super::Vm;
use super::models::{message, model};
use crate::addr::Ipa;
use crate::fake::spmc::Manner;
use crate::fake::{Guest, Machine};
use crate::ffa::{Answer, ExchangeBuffers, GuestRegisters, probe};
use crate::{ClientId, Config, Mediator};
use alloc::vec::Vec;
use core::num::NonZeroU16;
use ffa_proto::call::{MemSend, MemSendKind};
use ffa_proto::{Request, Width};
use shuttle::thread::yield_now;
use std::sync::Arc;

/// Bytes of a first fragment that are not a descriptor yet.
const FIRST: u32 = 64;

/// Creates a VM with a descriptor of six pages in its TX buffer. Returns the machine, the VM, and the bytes of the
/// descriptor.
fn vm_with_descriptor() -> (Machine, Arc<Vm>, u32) {
    let machine = Machine::new_ffa(Manner::OpTee);
    let (tx, rx, pages) = Machine::exchange_buffers();
    let buffers = ExchangeBuffers { tx, rx, pages };
    let read_rx = |offset, into: &mut [u8]| machine.read_rx(offset, into);
    let (tee, spmc) = probe(&machine.hypervisor(), buffers, read_rx).unwrap();
    let host = machine.add_vm(1, 500);
    let client = ClientId::new(NonZeroU16::new(1).unwrap());
    let mediator = Mediator::new_ffa(client, Config::default(), tee, Arc::new(spmc));
    mediator.create(&host).unwrap();
    let vm = Arc::new(Vm { host, mediator });
    let guest = Guest::over_ffa(&vm.host, &vm.mediator);
    let pages: Vec<Ipa> = (0..6).map(|n| message(10 + 2 * n)).collect();
    let bytes = guest.descriptor(&pages);
    vm.host.poke(guest.tx(), &bytes);
    (machine, vm, bytes.len() as u32)
}

/// Sends the first bytes of the descriptor, once.
fn send(vm: &Vm, total: u32, length: u32) -> Answer {
    let request = Request::MemSend(MemSend {
        kind: MemSendKind::Share,
        width: Width::Smc32,
        total_length: total,
        fragment_length: length,
        buffer: None,
    });
    let (mut x, mut more) = (request.encode().to_8(), [0; 10]);
    let registers = GuestRegisters {
        x: &mut x,
        more: &mut more,
    };
    vm.mediator.ffa(&vm.host, registers)
}

/// Has vCPUs send what is in the TX buffer at once: this many bytes each.
fn send_at_once(vm: &Arc<Vm>, total: u32, lengths: &[u32]) {
    let threads: Vec<_> = lengths
        .iter()
        .map(|&length| {
            let vm = Arc::clone(vm);
            shuttle::thread::spawn(move || {
                send(&vm, total, length);
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// The one that loses repeats its call, and takes nothing from the other one.
#[test]
fn two_first_fragments() {
    model(|| {
        let (machine, vm, total) = vm_with_descriptor();
        send_at_once(&vm, total, &[FIRST, FIRST]);
        // No vCPU is inside, so a new call is not told to repeat. It gives up what was begun.
        assert_eq!(send(&vm, total, FIRST), Answer::Done);
        assert_eq!(vm.mediator.stats().buffers, 1);
        assert_eq!(machine.violations(), [""; 0]);
    });
}

#[test]
fn first_fragments_and_whole_descriptors() {
    model(|| {
        let (machine, vm, total) = vm_with_descriptor();
        send_at_once(&vm, total, &[FIRST, total, FIRST, total]);
        assert_eq!(send(&vm, total, FIRST), Answer::Done);
        // At most two whole ones, and the one that was begun last.
        let count = vm.mediator.stats().buffers;
        assert!((1..=3).contains(&count), "{count}");
        while vm.mediator.destroy(&vm.host).is_err() {
            yield_now();
        }
        assert_eq!(vm.mediator.stats().pages_pinned, 0);
        assert_eq!(machine.pins(), 0);
        assert_eq!(machine.violations(), [""; 0]);
    });
}
