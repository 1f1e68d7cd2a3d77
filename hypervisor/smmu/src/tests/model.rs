// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A model of an SMMU that is as lazy and as eager as the architecture lets it be. It executes commands late, and what
//! they make it forget it forgets at the CMD_SYNC behind them. It reads each double word of a stream table entry when it
//! likes, and keeps it until it is told. So a device may see an entry that is half old and half new.

use super::super::registers::*;
use super::super::{Hardware, Translation};
use mediator::addr::Pa;
use postern_base::ticks::Ticks;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

pub const IDR0_QEMU_10: u32 = 0x0d44_101b;
pub const VTCR: u64 = 1 << 31 | 0x5_3558;
pub const SECOND: u64 = 2000;
const FIRST_PAGE: u64 = 0x1_0000;

/// What an access of a device comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It does not reach memory, and nobody hears of it.
    Abort,
    /// It does not reach memory, and there is an event of this kind.
    Fault(u8),
    /// It reaches this page.
    Page(u64),
}

/// What the SMMU has to forget at the next CMD_SYNC.
#[derive(Clone, Copy, Debug)]
enum Forget {
    Configuration,
    Vmid(u64),
    Ipa(u64, u64),
    Everything,
}

#[derive(Default)]
pub struct State {
    pub registers: BTreeMap<u32, u64>,
    pub memory: BTreeMap<u64, u64>,
    next_page: u64,
    /// What tables map: by their root, the pages.
    pub tables: BTreeMap<u64, BTreeMap<u64, u64>>,
    /// Double words of the stream table, by their addresses.
    entries: BTreeMap<u64, u64>,
    /// Translations, by VMID and page.
    tlb: BTreeMap<(u64, u64), u64>,
    forget: Vec<Forget>,
    /// Commands that it has executed.
    pub executed: Vec<u64>,
    /// Answers nothing any more.
    pub is_dead: bool,
    /// Refuses the command with this number.
    pub refused: Option<u8>,
    /// How many bytes it has left.
    pub room: usize,
    /// Accesses that a device does while events are taken.
    pub flood: u32,
    seed: u64,
}

/// The model: the driver and the test have it both.
#[derive(Clone, Default)]
pub struct Model {
    pub state: Rc<RefCell<State>>,
    clock: Rc<Cell<u64>>,
}

impl Model {
    pub fn new(seed: u64) -> Self {
        let model = Self::default();
        {
            let mut state = model.state.borrow_mut();
            state.next_page = FIRST_PAGE;
            state.room = 1 << 20;
            state.seed = seed | 1;
            for (register, value) in [(IDR0, IDR0_QEMU_10), (IDR1, 0x0273_0010), (IDR5, 0x74)] {
                state.registers.insert(register, value.into());
            }
            // At reset the SMMU lets everything pass.
            state.registers.insert(GBPA, 0x1000);
        }
        model
    }

    pub fn set(&self, register: u32, value: u32) {
        let value = value.into();
        self.state.borrow_mut().registers.insert(register, value);
    }

    pub fn get(&self, register: u32) -> u32 {
        self.state.borrow().register(register) as u32
    }

    /// An access of a device.
    pub fn access(&self, stream: u32, page: u64) -> Outcome {
        self.state.borrow_mut().access(stream, page)
    }

    /// An access that a device says to be translated already: no stream has ATS.
    pub fn translated_access(&self, stream: u32, page: u64) -> Outcome {
        let mut state = self.state.borrow_mut();
        let checked = state.register(CR0) & u64::from(CR0_ATSCHK) != 0;
        if !checked && state.register(CR0) & u64::from(CR0_SMMUEN) != 0 {
            return Outcome::Page(page);
        }
        if let Some(at) = state.find(stream) {
            let eats = state.entry(at + 8) >> 28 & 0b11;
            assert_eq!(eats, 0, "EATS");
        }
        Outcome::Abort
    }

    pub fn map(&self, root: Pa, page: u64, to: u64) {
        let mut state = self.state.borrow_mut();
        state.tables.entry(root.get()).or_default().insert(page, to);
    }

    pub fn unmap(&self, root: Pa, page: u64) {
        let mut state = self.state.borrow_mut();
        state.tables.entry(root.get()).or_default().remove(&page);
    }
}

/// A translation to tables of one page per VM.
pub fn to(root: u64) -> Translation {
    Translation {
        root: Pa::new(root),
        vtcr: VTCR,
    }
}

impl State {
    fn register(&self, register: u32) -> u64 {
        self.registers.get(&register).copied().unwrap_or(0)
    }

    /// Whether it does something that it may do or leave.
    fn chance(&mut self) -> bool {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed & 1 == 0
    }

    fn memory(&self, at: u64) -> u64 {
        *self.memory.get(&at).expect("the driver has allocated it")
    }

    /// A double word of the stream table: from the cache, or from memory.
    fn entry(&mut self, at: u64) -> u64 {
        if let Some(value) = self.entries.get(&at) {
            return *value;
        }
        let value = self.memory(at);
        self.entries.insert(at, value);
        value
    }

    /// The address of a stream's entry.
    fn find(&mut self, stream: u32) -> Option<u64> {
        let config = self.register(STRTAB_BASE_CFG);
        assert_eq!(config >> 16 & 3, 1, "two levels");
        assert_eq!(config >> 6 & 0x1f, 6, "pages of 4 KiB");
        if u64::from(stream) >> (config & 0x3f) != 0 {
            return None;
        }
        let root = self.register(STRTAB_BASE) & 0x000f_ffff_ffff_ffc0;
        let first = self.entry(root + 8 * u64::from(stream >> 6));
        assert_eq!(first & 0x1f, 7, "64 entries");
        Some((first & !0x1f) + 64 * u64::from(stream & 63))
    }

    fn access(&mut self, stream: u32, page: u64) -> Outcome {
        if self.register(CR0) & u64::from(CR0_SMMUEN) == 0 {
            let aborts = self.register(GBPA) & u64::from(GBPA_ABORT) != 0;
            return if aborts {
                Outcome::Abort
            } else {
                Outcome::Page(page)
            };
        }
        let Some(at) = self.find(stream) else {
            return Outcome::Abort;
        };
        // In any order, and some of it long before.
        let mut doubles = [0; 4];
        for index in [3, 1, 0, 2] {
            if index != 0 || self.chance() {
                doubles[index] = self.entry(at + 8 * index as u64);
            }
        }
        doubles[0] = self.entry(at);
        if doubles[0] & 1 == 0 {
            return self.fault(stream, page, 0x04);
        }
        match doubles[0] >> 1 & 7 {
            0 => return Outcome::Abort,
            0b110 => {}
            other => panic!("Config {other:#b}"),
        }
        let stage_2 = doubles[2];
        assert_eq!(stage_2 >> 32 & 0x7_ffff, VTCR & 0x7_ffff);
        assert_eq!(stage_2 >> 51 & 1, 1, "S2AA64");
        assert_eq!(stage_2 >> 57 & 1, 0, "S2S");
        let vmid = stage_2 & 0xffff;
        let cached = self.tlb.get(&(vmid, page)).copied();
        let found = cached.or_else(|| self.tables.get(&doubles[3])?.get(&page).copied());
        match found {
            Some(target) => {
                if self.chance() {
                    self.tlb.insert((vmid, page), target);
                }
                Outcome::Page(target)
            }
            None if stage_2 >> 58 & 1 != 0 => self.fault(stream, page, 0x10),
            None => Outcome::Abort,
        }
    }

    /// Writes an event.
    pub fn fault(&mut self, stream: u32, page: u64, kind: u8) -> Outcome {
        let base = self.register(EVENTQ_BASE);
        let bits = base & 0x1f;
        let (producer, consumer) = (self.register(EVENTQ_PROD), self.register(EVENTQ_CONS));
        let mask = (2 << bits) - 1;
        if (producer ^ consumer) & mask == 1 << bits {
            let overflow = consumer & u64::from(EVENTQ_OVERFLOW) ^ u64::from(EVENTQ_OVERFLOW);
            let producer = producer & mask | overflow;
            self.registers.insert(EVENTQ_PROD, producer);
            return Outcome::Fault(kind);
        }
        let at = (base & 0x000f_ffff_ffff_ffe0) + 32 * (producer & mask >> 1);
        let record = [
            u64::from(stream) << 32 | u64::from(kind),
            1 << 35 | 1 << 39,
            page << 12,
            page << 12,
        ];
        for (index, double) in record.into_iter().enumerate() {
            self.memory.insert(at + 8 * index as u64, double);
        }
        let next = producer & !mask | (producer + 1) & mask;
        self.registers.insert(EVENTQ_PROD, next);
        Outcome::Fault(kind)
    }

    /// Executes one command, if there is one.
    fn execute(&mut self) {
        let (producer, consumer) = (self.register(CMDQ_PROD), self.register(CMDQ_CONS));
        let stopped = (self.register(GERROR) ^ self.register(GERRORN)) & 1 != 0;
        let enabled = self.register(CR0) & u64::from(CR0_CMDQEN) != 0;
        let base = self.register(CMDQ_BASE);
        let mask = (2 << (base & 0x1f)) - 1;
        if self.is_dead || stopped || !enabled || (producer ^ consumer) & mask == 0 {
            return;
        }
        let distance = producer.wrapping_sub(consumer) & mask;
        assert!(distance <= 1 << (base & 0x1f), "more than the queue holds");
        let at = (base & 0x000f_ffff_ffff_ffe0) + 16 * (consumer & mask >> 1);
        let (first, second) = (self.memory(at), self.memory(at + 8));
        let command = first as u8;
        self.executed.push(first);
        let vmid = first >> 32 & 0xffff;
        match command {
            _ if self.refused == Some(command) => {
                self.registers.insert(CMDQ_CONS, consumer & mask | 1 << 24);
                let errors = self.register(GERROR) ^ 1;
                self.registers.insert(GERROR, errors);
                return;
            }
            0x04 if second & 0x1f == 31 => self.forget.push(Forget::Configuration),
            0x28 => self.forget.push(Forget::Vmid(vmid)),
            0x2a => self.forget.push(Forget::Ipa(vmid, second >> 12)),
            0x30 => self.forget.push(Forget::Everything),
            0x46 => {
                assert_eq!((first >> 8, second), (0, 0), "CMD_SYNC signals nothing");
                self.sync();
            }
            other => panic!("command {other:#x}"),
        }
        let next = (consumer + 1) & mask;
        self.registers.insert(CMDQ_CONS, next);
    }

    fn sync(&mut self) {
        for forget in core::mem::take(&mut self.forget) {
            match forget {
                Forget::Configuration => self.entries.clear(),
                Forget::Vmid(vmid) => self.tlb.retain(|(other, _), _| *other != vmid),
                Forget::Ipa(vmid, page) => _ = self.tlb.remove(&(vmid, page)),
                Forget::Everything => self.tlb.clear(),
            }
        }
    }
}

impl Hardware for Model {
    fn read(&self, register: u32) -> u32 {
        let mut state = self.state.borrow_mut();
        match register {
            CMDQ_CONS => state.execute(),
            // An answer comes late.
            CR0ACK | IRQ_CTRLACK if state.chance() && !state.is_dead => {
                let value = state.register(register - 4);
                state.registers.insert(register, value);
            }
            GBPA if state.chance() && !state.is_dead => {
                let value = state.register(GBPA) & !u64::from(GBPA_UPDATE);
                state.registers.insert(GBPA, value);
            }
            _ => {}
        }
        state.register(register) as u32
    }

    fn write(&mut self, register: u32, value: u32) {
        let mut state = self.state.borrow_mut();
        let enabled = state.register(CR0) as u32;
        match register {
            STRTAB_BASE_CFG | CR1 | CR2 => assert_eq!(enabled & CR0_SMMUEN, 0),
            IDR0 | IDR1 | IDR5 | CR0ACK | IRQ_CTRLACK | GERROR => panic!("{register:#x}"),
            GBPA => assert_ne!(value & GBPA_UPDATE, 0),
            _ => {}
        }
        state.registers.insert(register, value.into());
        if register == EVENTQ_CONS {
            for _ in 0..state.flood.min(128) {
                state.flood -= 1;
                state.access(0x108, 0);
            }
        }
    }

    fn write_double(&mut self, register: u32, value: u64) {
        let mut state = self.state.borrow_mut();
        let off = match register {
            STRTAB_BASE => CR0_SMMUEN,
            CMDQ_BASE => CR0_CMDQEN,
            EVENTQ_BASE => CR0_EVENTQEN,
            _ => 0,
        };
        assert_eq!(state.register(CR0) as u32 & off, 0);
        state.registers.insert(register, value);
    }

    fn allocate(&mut self, bytes: usize) -> Option<Pa> {
        assert!(bytes.is_power_of_two() && bytes >= 64);
        let mut state = self.state.borrow_mut();
        state.room = state.room.checked_sub(bytes)?;
        let at = state.next_page.next_multiple_of(bytes as u64);
        state.next_page = at + bytes as u64;
        for offset in (0..bytes as u64).step_by(8) {
            state.memory.insert(at + offset, 0);
        }
        Some(Pa::new(at))
    }

    fn read_memory(&self, at: Pa) -> u64 {
        self.state.borrow().memory(at.get())
    }

    fn write_memory(&mut self, at: Pa, value: u64) {
        let mut state = self.state.borrow_mut();
        let old = state.memory.insert(at.get(), value);
        assert!(old.is_some(), "the driver has allocated it");
    }

    fn order(&self) {
        // It may read the stream table at any time.
        let mut state = self.state.borrow_mut();
        if state.register(CR0) & u64::from(CR0_SMMUEN) == 0 {
            return;
        }
        for stream in [0, 5, 64, 70, 130, 0x100, 0x1ff] {
            if state.chance()
                && let Some(at) = state.find(stream)
            {
                let double = 8 * u64::from(state.chance()) + 16 * u64::from(state.chance());
                state.entry(at + double);
            }
        }
    }

    fn now(&self) -> Ticks {
        self.clock.set(self.clock.get() + 1);
        Ticks::new(self.clock.get())
    }

    fn second(&self) -> Ticks {
        Ticks::new(SECOND)
    }
}
