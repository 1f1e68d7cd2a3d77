//! provisional
#![allow(missing_docs)]
pub mod memory {
    use crate::vm::layout;
    use alloc::vec::Vec;
    use core::sync::atomic::{AtomicU16, Ordering};
    use mediator::PinError;
    use mediator::addr::{Ipa, Pa};
    pub struct Memory { blocks: Vec<Pa>, pins: Vec<AtomicU16> }
    impl Memory {
        pub fn new(blocks: Vec<Pa>) -> Self {
            let mut pins = Vec::new();
            pins.resize_with(blocks.len() * 512, || AtomicU16::new(0));
            Self { blocks, pins }
        }
        pub fn bytes(&self) -> u64 { self.blocks.len() as u64 * 0x20_0000 }
        pub fn blocks(&self) -> &[Pa] { &self.blocks }
        pub fn translate(&self, ipa: Ipa, len: u64) -> Option<Pa> {
            let off = ipa.get().checked_sub(layout::RAM.get())?;
            let block = self.blocks.get((off >> 21) as usize)?;
            let within = off & 0x1f_ffff;
            (within.checked_add(len)? <= 0x20_0000).then(|| Pa::new(block.get() + within))
        }
        pub fn pin(&self, ipa: Ipa) -> Result<Pa, PinError> {
            let pa = self.translate(ipa, 4096).ok_or(PinError::NotOwnMemory(ipa))?;
            let n = &self.pins[((ipa.get() - layout::RAM.get()) >> 12) as usize];
            n.fetch_update(Ordering::AcqRel, Ordering::Acquire, |v| v.checked_add(1)).map_err(|_| PinError::TooManyPins(ipa))?;
            Ok(pa)
        }
        pub fn unpin(&self, ipa: Ipa) {
            if let Some(n) = self.pins.get(((ipa.get() - layout::RAM.get()) >> 12) as usize) { n.fetch_sub(1, Ordering::AcqRel); }
        }
    }
}
pub mod frames {
    use mediator::addr::Pa;
    use alloc::vec::Vec;
    pub struct SharedPool(pub Vec<Pa>);
    impl SharedPool {
        pub fn allocate(&mut self) -> Option<Pa> { self.0.pop() }
        pub fn free(&mut self, pa: Pa) { self.0.push(pa) }
    }
}
pub mod stage2 {
    use mediator::addr::Pa;
    use alloc::boxed::Box;
    pub const T0SZ: u64 = 25;
    pub const IPA_BITS: u32 = 39;
    #[repr(C, align(4096))]
    pub struct Table([u64; 512]);
    pub fn build(ram: u64, blocks: &[Pa]) -> u64 {
        let root = Box::leak(Box::new(Table([0; 512])));
        for (i, b) in blocks.iter().enumerate() {
            let ipa = ram + ((i as u64) << 21);
            let l1 = &mut root.0[(ipa >> 30) as usize];
            if *l1 == 0 { *l1 = Box::leak(Box::new(Table([0; 512]))) as *mut _ as u64 | 3; }
            let l2 = (*l1 & !0xfff) as *mut u64;
            // SAFETY: provisional
            unsafe { *l2.add((ipa >> 21) as usize & 511) = b.get() | 0x7fd; }
        }
        root as *mut _ as u64
    }
}
