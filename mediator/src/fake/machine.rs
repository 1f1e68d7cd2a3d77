// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The fake machine, and one VM's view of it.

use super::ram::{EXCHANGE_BASE, EXCHANGE_PAGES, Owner, Ram};
use super::spmc::{Manner, Objects, Spmc};
use super::tee::Tee;
use super::violation::Violation;
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::host::{ForeignInterrupt, Leak, LongOperation};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use ffa_proto::{EndpointId, Function, Registers};
use optee_proto::{FunctionId, Uuid};
use spin::{Mutex, MutexGuard};

/// Neither physical addresses nor cookies are below this.
const LEAST_SECRET: u64 = super::ram::SHARED_BASE;

/// The whole state.
pub(super) struct State {
    pub(super) ram: Ram,
    pub(super) violations: Vec<Violation>,
    pub(super) smcs: Vec<[u64; 8]>,
    pub(super) tee: Tee,
    pub(super) shared_left: usize,
    pub(super) scramble: bool,
    pub(super) flips: Vec<(u64, Vec<u8>)>,
    pub(super) foreign: VecDeque<ForeignInterrupt>,
    pub(super) max_pins: u32,
    pub(super) report_leak: Vec<(Leak, Uuid)>,
    pub(super) long_operations: Vec<LongOperation>,
    /// All that guests wrote and passed in registers, if it is remembered.
    said: Option<Vec<u8>>,
    /// OP-TEE is reached over FF-A.
    pub(super) by_ffa: bool,
    /// The SPMC, but during a call to it.
    pub(super) spmc: Option<Spmc>,
    /// The shared objects, while OP-TEE runs.
    pub(super) objects: Objects,
    /// Answers to the next call of a function of FF-A, which then does nothing.
    pub(super) ffa_answers: Vec<(Function, [u64; 8])>,
}

impl State {
    pub(super) fn violate(&mut self, violation: impl Into<Violation>) {
        self.violations.push(violation.into());
    }

    /// Returns whether a value is a physical address or a cookie that no guest may see.
    fn is_secret(&self, value: u64) -> bool {
        if value < LEAST_SECRET {
            return false;
        }
        self.ram.owner(value).is_some() || self.tee.knows_cookie(value)
    }

    /// Returns whether a guest produced a value itself, or [`Machine::scramble`] or OP-TEE derived it from such
    /// a value: the complement, a size one larger, half the size.
    fn is_guess(&self, value: u64) -> bool {
        let sources = [
            value,
            !value,
            value.wrapping_sub(1),
            value.wrapping_mul(2),
            value.wrapping_mul(2).wrapping_add(1),
        ];
        let said = self.said.iter().flat_map(|said| said.windows(8));
        said.map(|window| u64::from_le_bytes(window.try_into().unwrap_or([0; 8])))
            .any(|said| sources.contains(&said))
    }

    /// Notes what a guest says, if that is remembered.
    fn note(&mut self, bytes: &[u8]) {
        if let Some(said) = &mut self.said {
            said.extend_from_slice(bytes);
            // Separates the entries, so that no value spans two of them.
            said.extend_from_slice(&[0; 8]);
        }
    }

    pub(super) fn check_leak(&mut self, what: &str, bytes: &[u8]) {
        for window in bytes.windows(8).step_by(4) {
            let value = u64::from_le_bytes(window.try_into().unwrap_or([0; 8]));
            if self.is_secret(value) && !self.is_guess(value) {
                self.violate(format!("{what}: the guest sees {value:#x}"));
            }
        }
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
    /// Creates a machine without a VM, whose OP-TEE is reached over the SMC ABI.
    pub fn new() -> Self {
        Self::with_spmc(None)
    }

    /// Creates a machine without a VM, whose OP-TEE is reached over FF-A.
    pub fn new_ffa(manner: Manner) -> Self {
        Self::with_spmc(Some(Spmc::new(manner, Tee::default().max_vms)))
    }

    fn with_spmc(spmc: Option<Spmc>) -> Self {
        Self(Arc::new(Mutex::new(State {
            by_ffa: spmc.is_some(),
            spmc,
            objects: Objects::default(),
            ffa_answers: Vec::new(),
            ram: Ram::default(),
            violations: Vec::new(),
            smcs: Vec::new(),
            tee: Tee::default(),
            shared_left: 100_000,
            scramble: false,
            flips: Vec::new(),
            foreign: VecDeque::new(),
            max_pins: u32::MAX,
            report_leak: Vec::new(),
            long_operations: Vec::new(),
            said: None,
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// Adds the memory of a VM: `pages` pages from [`super::RAM_BASE`] on, scattered physically.
    pub fn add_vm(&self, client: u16, pages: u64) -> FakeHost {
        self.state().ram.add_vm(client, pages);
        FakeHost {
            machine: self.clone(),
            vm: client,
        }
    }

    /// Returns the hypervisor's own way to the secure world, which is for no VM.
    pub fn hypervisor(&self) -> FakeHost {
        FakeHost {
            machine: self.clone(),
            vm: 0,
        }
    }

    /// Returns the addresses of the buffers for the SPMC, TX and RX, and the number of pages of each.
    pub const fn exchange_buffers() -> (Pa, Pa, u8) {
        let bytes = EXCHANGE_PAGES as u64 * PAGE_SIZE;
        let (tx, rx) = (EXCHANGE_BASE, EXCHANGE_BASE + bytes);
        (Pa::new(tx), Pa::new(rx), EXCHANGE_PAGES)
    }

    /// Reads the hypervisor's RX buffer.
    pub fn read_rx(&self, offset: usize, into: &mut [u8]) {
        let (_, rx, _) = Self::exchange_buffers();
        self.state().ram.read_all(rx.get() + offset as u64, into);
    }

    /// Sets the answer to the next call of a function of FF-A, which then does nothing.
    pub fn answer_next_ffa(&self, function: Function, answer: [u64; 8]) {
        self.state().ffa_answers.push((function, answer));
    }

    /// Returns the number of objects that the SPMC has for a VM, the mediator's own and the guest's.
    pub fn object_count(&self, client: u16) -> usize {
        let state = self.state();
        let spmc = state.spmc.as_ref();
        spmc.map_or(0, |spmc| spmc.object_count(EndpointId::new(client)))
    }

    /// Returns what was done wrong so far; empty is good. A trap of the SPMC's is wrong.
    pub fn violations(&self) -> Vec<String> {
        self.violations_but(|_| false)
    }

    /// Returns what was done wrong so far, without the unavoidable effects of an OP-TEE that says of a call that it waits
    /// in another call's thread. A thread with such a number gets another call's answer, or ends with another call. Then
    /// * its own request is not answered, or not as it must be;
    /// * the pages of its messages count as free, and so does its session.
    ///
    /// Of the other threads, nothing is excused.
    pub fn violations_with_mixed_threads(&self) -> Vec<String> {
        self.violations_but(|violation| violation.from_mixed_threads)
    }

    fn violations_but(&self, is_excused: impl Fn(&Violation) -> bool) -> Vec<String> {
        let state = self.state();
        let violations = state.violations.iter().filter(|found| !is_excused(found));
        let traps = state.spmc.iter().flat_map(|spmc| spmc.traps());
        violations
            .map(|violation| violation.text.clone())
            .chain(traps.map(|trap| format!("stepped on {trap:?}")))
            .collect()
    }

    /// Returns all SMCs so far.
    pub fn smcs(&self) -> Vec<[u64; 8]> {
        self.state().smcs.clone()
    }

    /// Returns the number of pins of all pages.
    pub fn pins(&self) -> u64 {
        self.state().ram.all_pins()
    }

    /// Returns the number of pages that are shared with OP-TEE now.
    pub fn shared_pages(&self) -> usize {
        self.state().ram.shared()
    }

    /// Sets how many more pages can be shared.
    pub fn limit_shared_pages(&self, left: usize) {
        self.state().shared_left = left;
    }

    /// Sets how often one page can be pinned.
    pub fn limit_pins(&self, max: u32) {
        self.state().max_pins = max;
    }

    /// Sets whether guest memory changes right after the mediator has read it.
    pub fn scramble(&self, on: bool) {
        self.state().scramble = on;
    }

    /// Changes guest memory at an address right after it is read, once.
    pub fn flip(&self, at: Ipa, bytes: &[u8]) {
        let mut state = self.state();
        state.note(bytes);
        state.flips.push((at.get(), bytes.to_vec()));
    }

    /// Sets the hypervisor's answers to the next foreign interrupts. After these, the guest runs.
    pub fn on_foreign_interrupt(&self, say: &[ForeignInterrupt]) {
        self.state().foreign.extend(say);
    }

    /// Sets what the VM's OP-TEE does in the next call: see [`super::Step`].
    pub fn script(&self, client: u16, steps: impl IntoIterator<Item = super::Step>) {
        self.state().tee.script(client, steps.into_iter().collect());
    }

    /// Changes OP-TEE's answers to probing.
    pub fn set_tee(&self, uid: [u32; 4], caps: u64, threads: usize) {
        let tee = &mut self.state().tee;
        (tee.uid, tee.caps, tee.threads) = (uid, caps, threads);
    }

    /// Sets OP-TEE's answer to the next call of a function, which then does nothing.
    pub fn answer_next(&self, function: FunctionId, answer: [u64; 4]) {
        self.state().tee.answers.push((function, answer));
    }

    /// Sets the number of interrupts during each call that creates tables.
    pub fn interrupt_tables(&self, interrupts: usize) {
        self.state().tee.table_interrupts = interrupts;
    }

    /// Sets how many VMs OP-TEE has room for.
    pub fn limit_vms(&self, max: usize) {
        let mut state = self.state();
        state.tee.max_vms = max;
        if let Some(spmc) = &mut state.spmc {
            spmc.limit_vms(max);
        }
    }

    /// Adds a notification for a VM. Over FF-A it has the value that the guest has chosen.
    pub fn notify(&self, client: u16, value: u32) {
        let mut state = self.state();
        state.tee.notify(client, value);
        if let Some(spmc) = &mut state.spmc {
            spmc.post(EndpointId::new(client));
        }
    }

    /// Fills the memory that OP-TEE has for a VM with applications.
    pub fn fill(&self, client: u16) {
        self.state().tee.fill(client);
    }

    /// Gives the VM's next session the number after `last`, as OP-TEE does when that is the last in its list.
    pub fn number_sessions_after(&self, client: u16, last: u32) {
        self.state().tee.number_sessions_after(client, last);
    }

    /// Returns the outcomes of the yielding calls so far, oldest first.
    pub fn outcomes(&self, client: u16) -> Vec<super::Outcome> {
        self.state().tee.outcomes(client)
    }

    /// Forgets the outcomes of a VM's yielding calls.
    pub fn forget_outcomes(&self, client: u16) {
        self.state().tee.forget_outcomes(client);
    }

    /// Returns the number of sessions that are open in OP-TEE.
    pub fn open_sessions(&self, client: u16) -> usize {
        self.state().tee.open_sessions(client)
    }

    /// Returns what ended VMs have leaked.
    pub fn reported_leaks(&self) -> Vec<(Leak, Uuid)> {
        self.state().report_leak.clone()
    }

    /// Returns the numbers of a VM's open sessions.
    pub fn sessions(&self, client: u16) -> Vec<u32> {
        self.state().tee.sessions(client)
    }

    /// Clears OP-TEE's scripts for later calls.
    pub fn forget_scripts(&self, client: u16) {
        self.state().tee.forget_scripts(client);
    }

    /// Returns the number of buffers of the guest's that OP-TEE knows.
    pub fn registered(&self, client: u16) -> usize {
        self.buffers(client).len()
    }

    /// Returns whether OP-TEE knows the VM.
    pub fn knows(&self, client: u16) -> bool {
        self.state().tee.knows(client)
    }

    /// From now on a value that a guest said first is no secret to it: for guests that guess.
    pub fn remember_guesses(&self) {
        self.state().said.get_or_insert_default();
    }

    /// Returns the buffers of the guest's that OP-TEE knows, each by its physical pages, in the order of their cookies.
    pub fn buffers(&self, client: u16) -> Vec<Vec<u64>> {
        let state = self.state();
        let mut buffers = state.tee.buffers(client);
        if state.by_ffa {
            let is_guests = |page| matches!(state.ram.owner(page), Some(Owner::Vm(_)));
            buffers.retain(|pages| pages.iter().all(|&page| is_guests(page)));
        }
        buffers
    }

    /// Notes what a guest says in registers.
    pub(super) fn note_registers(&self, regs: &[u64; 8]) {
        let mut state = self.state();
        for value in [
            regs[1] << 32 | regs[2] & 0xffff_ffff,
            regs[4] << 32 | regs[5] & 0xffff_ffff,
        ] {
            state.note(&value.to_le_bytes());
        }
    }

    /// Notes what a guest says over FF-A.
    pub(super) fn note_ffa_registers(&self, regs: &[u64]) {
        let mut state = self.state();
        for value in pairs(regs).chain(regs.iter().copied()) {
            state.note(&value.to_le_bytes());
        }
    }

    /// Notes what a guest sees in registers over FF-A.
    pub(super) fn check_ffa_registers(&self, regs: &Registers) {
        // Where 64-bit values are in two registers.
        let at: &[usize] = match regs.id().function() {
            Some(Function::MemFragRx) => &[1],
            _ => &[2, 4, 6],
        };
        let regs = regs.to_18();
        let pairs = at.iter().flat_map(|&n| pairs(&regs[n..n + 2]));
        let mut state = self.state();
        for value in pairs.chain(regs) {
            if state.is_secret(value) && !state.is_guess(value) {
                state.violate(format!("registers {regs:x?}: the guest sees {value:#x}"));
            }
        }
    }

    /// Notes a value that a guest sees in registers.
    pub(super) fn check_registers(&self, regs: [u64; 4]) {
        let pair = regs[1] << 32 | regs[2];
        let mut state = self.state();
        for value in [regs[0], regs[1], regs[2], regs[3], pair] {
            if state.is_secret(value) && !state.is_guess(value) {
                state.violate(format!("registers {regs:x?}: the guest sees {value:#x}"));
            }
            if value != pair && value >> 32 != 0 && value != u64::MAX {
                state.violate(format!("registers {regs:x?} have more than 32 bits"));
            }
        }
    }
}

/// Returns the values in two registers each, the lower half first.
fn pairs(regs: &[u64]) -> impl Iterator<Item = u64> {
    let halves = |pair: &[u64]| pair[1] << 32 | pair[0] & 0xffff_ffff;
    regs.windows(2).map(halves)
}

/// One VM's view of the machine.
#[derive(Clone, Debug)]
pub struct FakeHost {
    pub(super) machine: Machine,
    pub(super) vm: u16,
}

impl FakeHost {
    /// Returns the machine.
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns the VM's client id.
    pub const fn vm(&self) -> u16 {
        self.vm
    }

    /// Returns the number of pages of the VM's RAM.
    pub fn pages(&self) -> u64 {
        self.machine.state().ram.pages_of(self.vm)
    }

    /// Returns the number of pins of the VM's pages.
    pub fn pins(&self) -> u64 {
        self.machine.state().ram.pins_of(self.vm)
    }

    /// Returns the number of pages that are shared with OP-TEE on the VM's behalf.
    pub fn shared_pages(&self) -> usize {
        self.machine.state().ram.shared_of(self.vm)
    }

    /// Returns the physical address of guest memory, if it exists.
    pub fn physical(&self, at: Ipa) -> Option<Pa> {
        let state = self.machine.state();
        state.ram.translate(self.vm, at).map(Pa::new)
    }

    /// Takes a page from the guest, as ballooning does.
    pub fn unmap(&self, page: Ipa) {
        self.machine.state().ram.unmap(self.vm, page);
    }

    /// Takes a page from the guest unless it is pinned. Returns whether it did.
    pub fn unmap_unpinned(&self, page: Ipa) -> bool {
        let ram = &mut self.machine.state().ram;
        let free = ram
            .translate(self.vm, page)
            .is_some_and(|at| ram.pins(at) == 0);
        if free {
            ram.unmap(self.vm, page);
        }
        free
    }

    /// Reads guest memory as the guest does.
    ///
    /// # Panics
    /// When the guest has no memory there.
    pub fn peek(&self, at: Ipa, into: &mut [u8]) {
        let state = self.machine.state();
        let pa = state.ram.translate(self.vm, at).expect("guest memory");
        assert!(state.ram.read(pa, into));
    }

    /// Writes guest memory as the guest does, page by page.
    ///
    /// # Panics
    /// When the guest has no memory there.
    pub fn poke(&self, at: Ipa, bytes: &[u8]) {
        let mut state = self.machine.state();
        state.note(bytes);
        let (mut at, mut bytes) = (at, bytes);
        while !bytes.is_empty() {
            let room = (PAGE_SIZE - at.page_offset()) as usize;
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            let pa = state.ram.translate(self.vm, at).expect("guest memory");
            assert!(state.ram.write(pa, now));
            (at, bytes) = (Ipa::new(at.get() + now.len() as u64), rest);
        }
    }
}
