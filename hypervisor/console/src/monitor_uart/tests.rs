// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use crate::monitor::system::{
    CpuFigures, MemoryFigures, SharedPages, TeeFigures, VmControlError, VmDetails, VmSummary,
};
use core::cell::{Cell, RefCell};
use postern_base::ids::{PcpuIndex, VmIndex};
use postern_base::mmio::AccessSize;
use postern_monitor::LifecycleRequest;

/// The registers and bits of ARM DDI 0183 that the guest uses here.
const DR: u64 = 0;
const FR: u64 = 0x18;
const LCR_H: u64 = 0x2c;
const IMSC: u64 = 0x38;
const RXFE: u64 = 1 << 4;
const TXFF: u64 = 1 << 5;

/// A guest at the UART, and a machine with one VM, which the guest commands.
struct Guest {
    manager: MonitorUart,
    line: Cell<bool>,
    told: Cell<u32>,
    orders: RefCell<Vec<LifecycleRequest>>,
}

impl Guest {
    fn new() -> Self {
        let guest = Self {
            manager: MonitorUart::new(),
            line: Cell::new(false),
            told: Cell::new(0),
            orders: RefCell::default(),
        };
        guest.access(Access::write(LCR_H, AccessSize::Word, 0x70));
        guest.access(Access::write(IMSC, AccessSize::Word, 0x50));
        guest
    }

    fn access(&self, access: Access) -> u64 {
        let tell = |()| self.told.set(self.told.get() + 1);
        self.manager
            .access(access, self, |level| self.line.set(level), tell)
    }

    fn has(&self, flag: u64) -> bool {
        self.access(Access::read(FR, AccessSize::Word)) & flag != 0
    }

    /// Sends as much as there is room for. Returns the rest.
    fn send<'t>(&self, text: &'t str) -> &'t str {
        for (index, byte) in text.bytes().enumerate() {
            if self.has(TXFF) {
                return &text[index..];
            }
            self.access(Access::write(DR, AccessSize::Word, byte.into()));
        }
        ""
    }

    fn read(&self, at_most: usize) -> String {
        let mut text = String::new();
        while text.len() < at_most && !self.has(RXFE) {
            text.push(self.access(Access::read(DR, AccessSize::Word)) as u8 as char);
        }
        text
    }
}

impl System for Guest {
    fn breathe(&self) {}

    fn name(&self, vm: VmIndex) -> Option<&str> {
        (vm.get() == 0).then_some("self")
    }

    fn summary(&self, _: VmIndex) -> Option<VmSummary<'_>> {
        None
    }

    fn details(&self, _: VmIndex) -> Option<VmDetails<'_>> {
        None
    }

    fn tee(&self, _: VmIndex) -> Option<TeeFigures<'_>> {
        None
    }

    fn order(&self, _: VmIndex, order: LifecycleRequest) -> Result<(), VmControlError> {
        // A VM that stops has its devices reset, and here that happens at once, so no lock may be
        // held.
        if order == LifecycleRequest::Kill {
            self.manager.reset();
        }
        self.orders.borrow_mut().push(order);
        Ok(())
    }

    fn set_memory(&self, _: VmIndex, _: u64) -> Result<(), VmControlError> {
        Err(VmControlError::NoVm)
    }

    fn shared_pages(&self) -> SharedPages {
        SharedPages::default()
    }

    fn cpu(&self, _: PcpuIndex) -> Option<CpuFigures<'_>> {
        None
    }

    fn memory(&self) -> MemoryFigures {
        unreachable!("no command needs it")
    }

    /// Returns more lines than the device's own queue holds.
    fn log(&self, lines: usize, each: &mut dyn FnMut(&str)) {
        (0..lines).for_each(|line| each(&format!("{line:0200}")));
    }
}

#[test]
fn command_is_answered_and_guest_is_interrupted() {
    let guest = Guest::new();
    assert_eq!(guest.send("#t vm stop self --json"), "");
    assert!(!guest.line.get() && guest.has(RXFE));
    assert_eq!(guest.send("\n"), "");
    assert!(guest.line.get());
    let answer = guest.read(1000);
    assert!(
        answer.starts_with("@postern {\"event\":\"answer\",\"tag\":\"t\""),
        "{answer}"
    );
    assert!(
        answer.contains("\"ok\":true") && answer.ends_with('\n'),
        "{answer}"
    );
    assert!(!guest.line.get());
    assert_eq!(*guest.orders.borrow(), [LifecycleRequest::Stop]);
    assert!(guest.told.get() > 0);
}

#[test]
fn answer_longer_than_the_queue_arrives_whole() {
    let guest = Guest::new();
    assert_eq!(guest.send("log 60\n"), "");
    let answer = guest.read(usize::MAX);
    let expected: String = (0..60).map(|line| format!("{line:0200}\n")).collect();
    assert_eq!(answer, expected);
}

#[test]
fn commands_wait_while_answers_are_unread() {
    let guest = Guest::new();
    let commands: String = (0..200)
        .map(|tag| format!("#n{tag} vm stop self --json\n"))
        .collect();
    let mut left = guest.send(&commands);
    assert!(!left.is_empty(), "the guest has read nothing");
    let mut answers = String::new();
    // The guest reads a few bytes at a time, so that the two directions meet in many ways.
    while !guest.has(RXFE) || !left.is_empty() {
        answers += &guest.read(37);
        left = guest.send(left);
    }
    let tags: Vec<_> = answers
        .lines()
        .map(|line| line.split('"').nth(7).unwrap().to_owned())
        .collect();
    let expected: Vec<_> = (0..200).map(|tag| format!("n{tag}")).collect();
    assert_eq!(tags, expected);
    assert_eq!(guest.orders.borrow().len(), 200);
}

#[test]
fn guest_can_kill_its_own_vm() {
    let guest = Guest::new();
    assert_eq!(guest.send("vm list\nvm kill self\n"), "");
    assert_eq!(*guest.orders.borrow(), [LifecycleRequest::Kill]);
    guest.manager.reset();
    assert!(guest.has(RXFE));
    assert!(!guest.has(TXFF));
}

#[test]
fn any_bytes_are_survived() {
    let guest = Guest::new();
    for byte in (0..=255).cycle().take(20_000) {
        guest.access(Access::write(DR, AccessSize::Word, byte));
        guest.read(3);
    }
    // End the line that the bytes have begun.
    guest.send("\x03\x15\necho off\n");
    guest.read(usize::MAX);
    guest.send("#end vm stop self --json\n");
    assert!(guest.read(usize::MAX).contains("\"tag\":\"end\""));
}
