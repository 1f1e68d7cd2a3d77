// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine model with memory for tables and a TLB. It panics when the code under test violates a
//! rule of break-before-make.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::{ROOT_PAGES, TablePages, Tlb};
use mediator::addr::{Ipa, Pa};

/// The place of a table in the walk: its level and the first address that its first entry covers.
type Place = (u32, u64);

#[derive(Default)]
pub struct Machine {
    tables: HashMap<u64, Vec<u64>>,
    places: HashMap<u64, Place>,
    next: u64,
    /// The number of tables that may still be allocated.
    pub budget: usize,
    /// The number of entries read so far.
    pub reads: Cell<usize>,
    /// The number of invalidations of all of the VM's TLB entries.
    pub forgot_all: usize,
    /// Ranges (start, end) whose entries became invalid and that the TLB may still hold.
    stale: Vec<(u64, u64)>,
    /// Tables written since the last `publish`.
    unpublished: HashSet<u64>,
    /// The TLB: the translations that were looked up, by page.
    cached: BTreeMap<u64, (u64, u64)>,
}

/// Returns the number of address bits below those that an entry at a level resolves.
fn low_bits(level: u32) -> u32 {
    [39, 30, 21, 12][level as usize]
}

impl Machine {
    pub fn new(budget: usize) -> Self {
        Self {
            next: 0x8000_0000,
            budget,
            ..Self::default()
        }
    }

    /// Returns the number of tables in use. The root counts as two.
    pub fn in_use(&self) -> usize {
        self.tables.values().map(|table| table.len() / 512).sum()
    }

    /// Checks the conditions that hold between two operations.
    pub fn assert_quiet(&self) {
        assert!(self.stale.is_empty(), "the TLB was not invalidated");
        assert!(self.unpublished.is_empty(), "writes were not published");
    }

    /// Does a guest's access through the TLB, which then holds the translation. Returns the output
    /// address and the attribute bits.
    pub fn access(&mut self, root: Pa, ipa: u64) -> Option<(u64, u64)> {
        let page = ipa >> 12;
        if !self.cached.contains_key(&page) {
            let (pa, bits) = walk(|table, index| self.tables[&table][index], root.get(), ipa)?;
            self.cached.insert(page, (pa & !0xfff, bits));
        }
        self.cached
            .get(&page)
            .map(|(pa, bits)| (pa | ipa & 0xfff, *bits))
    }

    fn range(&self, table: u64, index: usize) -> Option<(u64, u64)> {
        let (level, base) = *self.places.get(&table)?;
        let start = base + ((index as u64) << low_bits(level));
        Some((start, start + (1 << low_bits(level))))
    }
}

/// Walks the tables as the hardware does, from level 1 (Arm ARM DDI 0487 D8.2.6), independently of
/// the code under test. Returns the output address and the attribute bits of the last entry.
pub fn walk(read: impl Fn(u64, usize) -> u64, root: u64, ipa: u64) -> Option<(u64, u64)> {
    let mut table = root;
    for level in 1..4 {
        let bits = low_bits(level);
        let index = if level == 1 {
            ipa >> 30
        } else {
            ipa >> bits & 511
        };
        let entry = read(table, index as usize);
        let address = entry & 0x0000_ffff_ffff_f000;
        match (entry & 3, level) {
            (0b11, 1 | 2) => table = address,
            (0b01, 1 | 2) | (0b11, 3) => {
                assert_eq!(address & ((1 << bits) - 1), 0, "misaligned output address");
                return Some((address | ipa & ((1 << bits) - 1), entry & !address & !0b11));
            }
            _ => return None,
        }
    }
    None
}

impl TablePages for Machine {
    fn allocate(&mut self, pages: usize) -> Option<Pa> {
        self.budget = self.budget.checked_sub(pages)?;
        let bytes = pages as u64 * 0x1000;
        let table = self.next.next_multiple_of(bytes);
        self.next = table + bytes;
        self.tables.insert(table, vec![0; 512 * pages]);
        self.unpublished.insert(table);
        if pages == ROOT_PAGES {
            self.places.insert(table, (1, 0));
        }
        Some(Pa::new(table))
    }

    fn free(&mut self, table: Pa, pages: usize) {
        assert!(self.stale.is_empty(), "a walk may still be in this table");
        let gone = self.tables.remove(&table.get()).expect("a table in use");
        assert_eq!(gone.len(), 512 * pages);
        self.places.remove(&table.get());
        self.unpublished.remove(&table.get());
        self.budget += pages;
    }

    fn read(&self, table: Pa, index: usize) -> u64 {
        self.reads.set(self.reads.get() + 1);
        self.tables[&table.get()][index]
    }

    fn write(&mut self, table: Pa, index: usize, entry: u64) {
        let (table, range) = (table.get(), self.range(table.get(), index));
        let old = std::mem::replace(&mut self.tables.get_mut(&table).unwrap()[index], entry);
        self.unpublished.insert(table);
        // A table that no walk reaches yet may be written without rules.
        let Some((start, end)) = range else { return };
        if entry & 1 == 0 {
            self.unpublished.remove(&table);
            if old & 1 == 1 {
                self.stale.push((start, end));
            }
            return;
        }
        assert_eq!(old & 1, 0, "break before make");
        let clash = self
            .stale
            .iter()
            .any(|range| range.0 < end && start < range.1);
        assert!(!clash, "the TLB may still hold the old entry");
        let (level, _) = self.places[&table];
        if level < 3 && entry & 3 == 3 {
            let child = entry & 0x0000_ffff_ffff_f000;
            assert!(
                !self.unpublished.contains(&child),
                "a walk may read unpublished entries"
            );
            self.places.insert(child, (level + 1, start));
        }
    }
}

impl Tlb for Machine {
    fn publish(&mut self) {
        self.unpublished.clear();
    }

    fn invalidate_ipa(&mut self, ipa: Ipa) {
        let ipa = ipa.get();
        self.stale.retain(|&(start, end)| {
            let hit = (start..end).contains(&ipa);
            if hit {
                self.cached
                    .retain(|page, _| !(start >> 12..end >> 12).contains(page));
            }
            !hit
        });
    }

    fn invalidate_all(&mut self) {
        self.forgot_all += 1;
        self.stale.clear();
        self.cached.clear();
    }
}
