//! Memory with owners and pins, and the [`Host`] of one VM in it.

use super::tee::Tee;
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::host::{ForeignInterrupt, GuestMemoryError, Host, PinError, SharedPage};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use spin::{Mutex, MutexGuard};

/// Where a VM's RAM begins, in its own view.
pub const RAM_BASE: u64 = 0x1_0000_0000;
/// Physical memory of VM n begins at this plus n times [`VM_STRIDE`]: beyond what fits into a
/// register of the ABI, so that no number is taken for an address by chance.
const VM_BASE: u64 = 0x28_5000_0000;
const VM_STRIDE: u64 = 0x1000_0000;
/// Where pages to share with OP-TEE come from.
const SHARED_BASE: u64 = 0x28_4800_0000;

/// Who a page belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    Vm(u16),
    Shared,
}

pub(super) struct Page {
    pub(super) owner: Owner,
    /// Zeroes until it is written to.
    bytes: Option<Box<[u8; PAGE_SIZE as usize]>>,
    pub(super) pins: u32,
}

/// All that there is.
pub(super) struct State {
    pub(super) pages: BTreeMap<u64, Page>,
    /// Stage 2 of each VM, by client number: page address to page address.
    pub(super) stage2: BTreeMap<u16, BTreeMap<u64, u64>>,
    pub(super) violations: Vec<String>,
    pub(super) smcs: Vec<[u64; 8]>,
    pub(super) tee: Tee,
    free_shared: Vec<u64>,
    shared_left: usize,
    shared_made: u64,
    scramble: bool,
    flips: Vec<(u64, Vec<u8>)>,
    foreign: VecDeque<ForeignInterrupt>,
    max_pins: u32,
}

impl State {
    pub(super) fn violate(&mut self, text: String) {
        self.violations.push(text);
    }

    pub(super) fn read(&self, at: u64, into: &mut [u8]) -> bool {
        let (page, offset) = (at & !(PAGE_SIZE - 1), (at % PAGE_SIZE) as usize);
        let Some(page) = self.pages.get(&page) else {
            return false;
        };
        if offset + into.len() > PAGE_SIZE as usize {
            return false;
        }
        match &page.bytes {
            Some(bytes) => into.copy_from_slice(&bytes[offset..offset + into.len()]),
            None => into.fill(0),
        }
        true
    }

    pub(super) fn write(&mut self, at: u64, from: &[u8]) -> bool {
        let (page, offset) = (at & !(PAGE_SIZE - 1), (at % PAGE_SIZE) as usize);
        let Some(page) = self.pages.get_mut(&page) else {
            return false;
        };
        if offset + from.len() > PAGE_SIZE as usize {
            return false;
        }
        let bytes = page
            .bytes
            .get_or_insert_with(|| Box::new([0; PAGE_SIZE as usize]));
        bytes[offset..offset + from.len()].copy_from_slice(from);
        true
    }

    /// Whether a value is a physical address or a cookie that no guest may see.
    fn is_secret(&self, value: u64) -> bool {
        self.pages.contains_key(&(value & !(PAGE_SIZE - 1))) || self.tee.knows_cookie(value)
    }

    fn check_leak(&mut self, what: &str, bytes: &[u8]) {
        for window in bytes.windows(8).step_by(4) {
            let value = u64::from_le_bytes(window.try_into().unwrap_or([0; 8]));
            if self.is_secret(value) {
                self.violate(format!("{what}: the guest sees {value:#x}"));
            }
        }
    }

    fn translate(&self, vm: u16, at: Ipa) -> Option<u64> {
        let page = self.stage2.get(&vm)?.get(&at.page().get())?;
        Some(page + at.page_offset())
    }
}

/// A machine with some VMs and an OP-TEE. Cheap to clone; clones are the same machine.
#[derive(Clone)]
pub struct Machine(Arc<Mutex<State>>);

impl core::fmt::Debug for Machine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Machine")
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A machine without a VM.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            pages: BTreeMap::new(),
            stage2: BTreeMap::new(),
            violations: Vec::new(),
            smcs: Vec::new(),
            tee: Tee::default(),
            free_shared: Vec::new(),
            shared_left: 100_000,
            shared_made: 0,
            scramble: false,
            flips: Vec::new(),
            foreign: VecDeque::new(),
            max_pins: u32::MAX,
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// Adds the memory of a VM: `pages` pages from [`RAM_BASE`] on, scattered physically.
    pub fn add_vm(&self, client: u16, pages: u64) -> FakeHost {
        let mut state = self.state();
        let base = VM_BASE + VM_STRIDE * u64::from(client);
        let mut map = BTreeMap::new();
        for page in 0..pages {
            // Neighbours in the guest's view are none physically.
            let at = base + (pages - 1 - page) * 2 * PAGE_SIZE;
            map.insert(RAM_BASE + page * PAGE_SIZE, at);
            state.pages.insert(
                at,
                Page {
                    owner: Owner::Vm(client),
                    bytes: None,
                    pins: 0,
                },
            );
        }
        state.stage2.insert(client, map);
        FakeHost {
            machine: self.clone(),
            vm: client,
        }
    }

    /// What was done wrong so far; empty is good.
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// All SMCs so far.
    pub fn smcs(&self) -> Vec<[u64; 8]> {
        self.state().smcs.clone()
    }

    /// Pins of all pages together.
    pub fn pins(&self) -> u64 {
        self.state()
            .pages
            .values()
            .map(|page| u64::from(page.pins))
            .sum()
    }

    /// Pages that are shared with OP-TEE at the moment.
    pub fn shared_pages(&self) -> usize {
        self.state()
            .pages
            .values()
            .filter(|page| page.owner == Owner::Shared)
            .count()
    }

    /// How many more pages can be shared.
    pub fn limit_shared_pages(&self, left: usize) {
        self.state().shared_left = left;
    }

    /// How often one page can be pinned.
    pub fn limit_pins(&self, max: u32) {
        self.state().max_pins = max;
    }

    /// From now on whatever the mediator reads from a guest is different right afterwards.
    pub fn scramble(&self, on: bool) {
        self.state().scramble = on;
    }

    /// When guest memory at an address is read, other bytes are there right afterwards; once.
    pub fn flip(&self, at: Ipa, bytes: &[u8]) {
        self.state().flips.push((at.get(), bytes.to_vec()));
    }

    /// What the hypervisor says at the next foreign interrupts; after that, that the guest runs.
    pub fn on_foreign_interrupt(&self, say: &[ForeignInterrupt]) {
        self.state().foreign.extend(say);
    }

    /// What the OP-TEE of a VM does when the next call comes: see [`super::Step`].
    pub fn script(&self, client: u16, steps: impl IntoIterator<Item = super::Step>) {
        self.state().tee.script(client, steps.into_iter().collect());
    }

    /// Changes OP-TEE's answers to probing.
    pub fn set_tee(&self, uid: [u32; 4], caps: u64, threads: usize) {
        let tee = &mut self.state().tee;
        (tee.uid, tee.caps, tee.threads) = (uid, caps, threads);
    }

    /// How many VMs OP-TEE has room for.
    pub fn limit_vms(&self, max: usize) {
        self.state().tee.max_vms = max;
    }

    /// What yielding calls have come to so far, oldest first.
    pub fn outcomes(&self, client: u16) -> Vec<super::Outcome> {
        self.state().tee.outcomes(client)
    }

    /// Sessions that are open in OP-TEE.
    pub fn open_sessions(&self, client: u16) -> usize {
        self.state().tee.open_sessions(client)
    }

    /// Buffers that OP-TEE knows.
    pub fn registered(&self, client: u16) -> usize {
        self.state().tee.registered(client)
    }

    /// Whether OP-TEE knows the VM.
    pub fn knows(&self, client: u16) -> bool {
        self.state().tee.knows(client)
    }

    /// Notes a value that a guest sees in registers.
    pub(super) fn check_registers(&self, regs: [u64; 4]) {
        let pair = regs[1] << 32 | regs[2];
        let mut state = self.state();
        for value in [regs[0], regs[1], regs[2], regs[3], pair] {
            if state.is_secret(value) {
                state.violate(format!("registers {regs:x?}: the guest sees {value:#x}"));
            }
            if value != pair && value >> 32 != 0 && value != u64::MAX {
                state.violate(format!("registers {regs:x?} have more than 32 bits"));
            }
        }
    }
}

/// One VM's view of the machine.
#[derive(Clone, Debug)]
pub struct FakeHost {
    machine: Machine,
    vm: u16,
}

impl FakeHost {
    /// The machine.
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The VM's number in OP-TEE.
    pub const fn vm(&self) -> u16 {
        self.vm
    }

    /// Takes a page away from the guest, as ballooning does.
    pub fn unmap(&self, page: Ipa) {
        let mut state = self.machine.state();
        let vm = self.vm;
        if let Some(map) = state.stage2.get_mut(&vm) {
            map.remove(&page.get());
        }
    }

    /// Takes a page away from the guest unless it is pinned, and says whether it did.
    pub fn unmap_unpinned(&self, page: Ipa) -> bool {
        let state = self.machine.state();
        let at = state.translate(self.vm, page);
        let free = at
            .and_then(|at| state.pages.get(&at))
            .is_some_and(|page| page.pins == 0);
        drop(state);
        if free {
            self.unmap(page);
        }
        free
    }

    /// Reads guest memory as the guest does.
    ///
    /// # Panics
    /// When the guest has no memory there.
    pub fn peek(&self, at: Ipa, into: &mut [u8]) {
        let state = self.machine.state();
        let pa = state.translate(self.vm, at).expect("guest memory");
        assert!(state.read(pa, into));
    }

    /// Writes guest memory as the guest does.
    ///
    /// # Panics
    /// When the guest has no memory there.
    pub fn poke(&self, at: Ipa, bytes: &[u8]) {
        let mut state = self.machine.state();
        let pa = state.translate(self.vm, at).expect("guest memory");
        assert!(state.write(pa, bytes));
    }
}

impl Host for FakeHost {
    fn read_guest(&self, from: Ipa, into: &mut [u8]) -> Result<(), GuestMemoryError> {
        let mut state = self.machine.state();
        let pa = state
            .translate(self.vm, from)
            .ok_or(GuestMemoryError(from))?;
        if !state.read(pa, into) {
            state.violate(format!("read_guest({from}, {}) crosses a page", into.len()));
            return Err(GuestMemoryError(from));
        }
        if state.scramble {
            state.write(pa, &into.iter().map(|byte| !byte).collect::<Vec<u8>>());
        }
        let range = from.get()..from.get() + into.len() as u64;
        while let Some(at) = state.flips.iter().position(|(at, _)| range.contains(at)) {
            let (at, bytes) = state.flips.remove(at);
            if let Some(pa) = state.translate(self.vm, Ipa::new(at)) {
                state.write(pa, &bytes);
            }
        }
        Ok(())
    }

    fn write_guest(&self, to: Ipa, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        let mut state = self.machine.state();
        state.check_leak("write_guest", bytes);
        let pa = state.translate(self.vm, to).ok_or(GuestMemoryError(to))?;
        if !state.write(pa, bytes) {
            state.violate(format!("write_guest({to}, {}) crosses a page", bytes.len()));
        }
        Ok(())
    }

    fn pin(&self, page: Ipa) -> Result<Pa, PinError> {
        let mut state = self.machine.state();
        assert!(page.is_page_aligned());
        let at = state
            .translate(self.vm, page)
            .ok_or(PinError::NotOwnMemory(page))?;
        let max = state.max_pins;
        let entry = state
            .pages
            .get_mut(&at)
            .ok_or(PinError::NotOwnMemory(page))?;
        if entry.pins >= max {
            return Err(PinError::TooManyPins(page));
        }
        entry.pins += 1;
        Ok(Pa::new(at))
    }

    fn unpin(&self, page: Ipa) {
        let mut state = self.machine.state();
        let Some(at) = state.translate(self.vm, page) else {
            state.violate(format!("unpin({page}): nothing is there"));
            return;
        };
        let entry = state.pages.get_mut(&at).expect("a page of a stage 2");
        match entry.pins.checked_sub(1) {
            Some(pins) => entry.pins = pins,
            None => state.violate(format!("unpin({page}): not pinned")),
        }
        let free = state.pages.get(&at).is_some_and(|entry| entry.pins == 0);
        if let Some(text) = free.then(|| state.tee.use_of(at)).flatten() {
            state.violate(text);
        }
    }

    fn alloc_shared(&self) -> Option<SharedPage> {
        let mut state = self.machine.state();
        state.shared_left = state.shared_left.checked_sub(1)?;
        let at = state.free_shared.pop().unwrap_or_else(|| {
            state.shared_made += 1;
            SHARED_BASE + state.shared_made * PAGE_SIZE
        });
        state.pages.insert(
            at,
            Page {
                owner: Owner::Shared,
                bytes: None,
                pins: 0,
            },
        );
        Some(SharedPage::new(Pa::new(at)))
    }

    fn free_shared(&self, page: SharedPage) {
        let mut state = self.machine.state();
        let at = page.pa().get();
        if state.pages.remove(&at).is_none() {
            state.violate(format!("free_shared({at:#x}) twice"));
        }
        state.free_shared.push(at);
        state.shared_left += 1;
        if let Some(text) = state.tee.use_of(at) {
            state.violate(text);
        }
    }

    fn read_shared(&self, page: &SharedPage, offset: usize, into: &mut [u8]) {
        let mut state = self.machine.state();
        if !state.read(page.pa().get() + offset as u64, into) {
            state.violate(format!("read_shared({page:?}, {offset}, {})", into.len()));
        }
    }

    fn write_shared(&self, page: &SharedPage, offset: usize, bytes: &[u8]) {
        let mut state = self.machine.state();
        if !state.write(page.pa().get() + offset as u64, bytes) {
            state.violate(format!("write_shared({page:?}, {offset}, {})", bytes.len()));
        }
    }

    fn smc(&self, args: [u64; 8]) -> [u64; 4] {
        let mut state = self.machine.state();
        state.smcs.push(args);
        super::tee::smc(&mut state, self.vm, args)
    }

    fn foreign_interrupt(&self) -> ForeignInterrupt {
        self.machine
            .state()
            .foreign
            .pop_front()
            .unwrap_or(ForeignInterrupt::ReturnToGuest)
    }
}
