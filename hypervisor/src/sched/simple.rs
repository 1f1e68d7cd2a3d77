//! Provisional.
use crate::ids::*;
use heapless::Deque;

/// Where a vCPU was put.
pub struct Placement { /// pCPU
 pub pcpu: PcpuIndex }

#[derive(Clone, Copy, PartialEq)]
enum St { Off, Blocked(usize), Queued, Running }
/// Queues.
pub struct Scheduler { q: [Deque<VcpuId, 64>; 8], st: [[St; 8]; 8], dl: [[Option<u64>; 8]; 8], cur: [bool; 8], slice: [u64; 8], n: usize }
#[allow(missing_docs)]
impl Scheduler {
    pub const fn new() -> Self { Self { q: [const { Deque::new() }; 8], st: [[St::Off; 8]; 8], dl: [[None; 8]; 8], cur: [false; 8], slice: [0; 8], n: 0 } }
    fn s(&mut self, id: VcpuId) -> &mut St { &mut self.st[id.vm.get()][id.vcpu.get()] }
    fn place(&mut self, id: VcpuId, aff: PcpuSet, last: Option<usize>) -> Option<Placement> {
        let mut best = None;
        for p in 0..8 {
            let Some(ix) = PcpuIndex::new(p) else { continue };
            if !aff.contains(ix) { continue }
            let load = self.q[p].len() * 2 + self.cur[p] as usize * 2 + (Some(p) != last) as usize;
            if best.is_none_or(|(l, _)| load < l) { best = Some((load, p)); }
        }
        let (_, p) = best?;
        let _ = self.q[p].push_back(id);
        *self.s(id) = St::Queued;
        self.dl[id.vm.get()][id.vcpu.get()] = None;
        PcpuIndex::new(p).map(|pcpu| Placement { pcpu })
    }
    pub fn wake(&mut self, id: VcpuId, aff: PcpuSet) -> Option<Placement> {
        match *self.s(id) { St::Blocked(p) => self.place(id, aff, Some(p)), _ => None }
    }
    pub fn start(&mut self, id: VcpuId, aff: PcpuSet) -> Option<Placement> { self.place(id, aff, None) }
    pub fn expired(&mut self, p: PcpuIndex, now: u64) -> Option<VcpuId> {
        for vm in 0..8 { for v in 0..8 {
            if self.st[vm][v] == St::Blocked(p.get()) && self.dl[vm][v].is_some_and(|d| d <= now) {
                self.dl[vm][v] = None;
                return Some(VcpuId { vm: VmIndex::new(vm)?, vcpu: VcpuIndex::new(v)? });
            }
        } }
        None
    }
    pub fn slice_is_over(&self, p: PcpuIndex, now: u64) -> bool { !self.q[p.get()].is_empty() && now >= self.slice[p.get()] }
    pub fn must_give_way(&self, p: PcpuIndex) -> bool { !self.q[p.get()].is_empty() }
    pub fn off(&mut self, id: VcpuId) { *self.s(id) = St::Off; }
    pub fn block(&mut self, id: VcpuId, p: PcpuIndex, d: Option<u64>) { *self.s(id) = St::Blocked(p.get()); self.dl[id.vm.get()][id.vcpu.get()] = d; }
    pub fn requeue(&mut self, id: VcpuId, p: PcpuIndex) { let _ = self.q[p.get()].push_back(id); *self.s(id) = St::Queued; }
    pub fn pick(&mut self, p: PcpuIndex, now: u64, slice: u64) -> Option<VcpuId> {
        let r = self.q[p.get()].pop_front();
        self.cur[p.get()] = r.is_some();
        if let Some(id) = r { *self.s(id) = St::Running; self.slice[p.get()] = now + slice; }
        r
    }
    pub fn next_event(&self, p: PcpuIndex, now: u64) -> Option<u64> {
        let mut e = if self.q[p.get()].is_empty() || !self.cur[p.get()] || self.slice[p.get()] <= now { None } else { Some(self.slice[p.get()]) };
        for vm in 0..8 { for v in 0..8 {
            if self.st[vm][v] == St::Blocked(p.get()) && let Some(d) = self.dl[vm][v] { e = Some(e.map_or(d, |x| x.min(d))); }
        } }
        e
    }
}
