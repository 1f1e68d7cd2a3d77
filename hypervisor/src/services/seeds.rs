// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The random bytes that guests' kernels start from.
//!
//! The machine has one state, from which every start of every VM gets its own bytes. The state is a
//! hash ratchet of SHA-256 (FIPS 180-4): each step takes in the available fresh entropy, produces
//! outputs that do not reveal the state, and replaces the state by one that does not reveal the
//! step before. So the bytes of one guest reveal nothing about those of another, before or after
//! it.

use core::fmt;
use postern_base::secret::wipe;
use sha2::{Digest, Sha256};

/// Fresh entropy for one step: three times 192 bits from the machine's source.
pub type Fresh = [[u64; 3]; 3];

/// The random bytes for one start of a guest. They are wiped when dropped.
pub struct GuestSeeds {
    bytes: [u8; 8 + RNG_SEED],
}

/// The number of bytes for the kernel's random generator. Linux needs 32 to be ready at once.
const RNG_SEED: usize = 64;

impl GuestSeeds {
    /// Returns the seed of the kernel's address layout: `/chosen/kaslr-seed`.
    pub fn kaslr(&self) -> u64 {
        self.bytes
            .first_chunk::<8>()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// Returns the seed of the kernel's random generator: `/chosen/rng-seed`.
    pub fn rng(&self) -> &[u8] {
        &self.bytes[8..]
    }
}

impl Drop for GuestSeeds {
    fn drop(&mut self) {
        wipe(&mut self.bytes);
    }
}

/// The original source of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// True random numbers of the firmware (DEN0098).
    Firmware,
    /// True random numbers of the CPU, RNDRRS (FEAT_RNG).
    Cpu,
    /// This number of random bytes that the boot loader left in the boot tree.
    BootTree(usize),
    /// No source.
    Nowhere,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Firmware => f.write_str("random numbers of the firmware"),
            Self::Cpu => f.write_str("random numbers of the CPU"),
            Self::BootTree(bytes) => write!(f, "{bytes} random bytes in the boot tree"),
            Self::Nowhere => f.write_str(
                "nothing: firmware, CPU and boot tree have no random numbers, so guests' kernels get \
                 no kaslr-seed and no rng-seed",
            ),
        }
    }
}

/// The state of the machine's hash ratchet.
pub struct Seeds {
    state: [u8; 32],
    /// Whether the state contains any entropy.
    is_seeded: bool,
}

/// The purpose of a hash, which keeps the inputs of different purposes apart.
#[derive(Clone, Copy)]
enum Use {
    Begin,
    TakeIn,
    Output,
    Next,
}

impl Seeds {
    /// Creates a state from the boot loader's bytes, of which there may be none.
    pub fn new(boot: &[u8]) -> Self {
        Self {
            state: hash(Use::Begin, 0, &[], boot),
            is_seeded: !boot.is_empty(),
        }
    }

    /// Adds entropy to the state.
    pub fn take_in(&mut self, fresh: Fresh) {
        let mut bytes = [0; size_of::<Fresh>()];
        for (place, word) in bytes.chunks_exact_mut(8).zip(fresh.as_flattened()) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.state = hash(Use::TakeIn, 0, &self.state, &bytes);
        self.is_seeded = true;
        wipe(&mut bytes);
    }

    /// Returns the bytes for one start of one guest, or `None` if the state has never had any
    /// entropy.
    pub fn next(&mut self, fresh: Option<Fresh>) -> Option<GuestSeeds> {
        if let Some(fresh) = fresh {
            self.take_in(fresh);
        }
        if !self.is_seeded {
            return None;
        }
        let mut seeds = GuestSeeds {
            bytes: [0; 8 + RNG_SEED],
        };
        for (place, number) in seeds.bytes.chunks_mut(32).zip(0..) {
            let mut block = hash(Use::Output, number, &self.state, &[]);
            place.copy_from_slice(&block[..place.len()]);
            wipe(&mut block);
        }
        self.state = hash(Use::Next, 0, &self.state, &[]);
        Some(seeds)
    }
}

impl Drop for Seeds {
    fn drop(&mut self) {
        wipe(&mut self.state);
    }
}

/// Hashes an input for a purpose. For each purpose the state comes first and always has the same
/// length, so no two inputs are the same bytes.
fn hash(of: Use, number: u8, state: &[u8], more: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([of as u8, number]);
    hash.update(state);
    hash.update(more);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn both(seeds: &GuestSeeds) -> (u64, Vec<u8>) {
        (seeds.kaslr(), seeds.rng().to_vec())
    }

    #[test]
    fn seeds_never_repeat() {
        let mut seeds = Seeds::new(b"what the boot loader left");
        let mut words = HashSet::new();
        for start in 0..200 {
            // The source is stuck, and available only sometimes.
            let fresh = (start % 3 == 0).then_some([[7; 3]; 3]);
            let (kaslr, rng) = both(&seeds.next(fresh).unwrap());
            assert_eq!(rng.len(), RNG_SEED);
            assert!(words.insert(kaslr.to_le_bytes().to_vec()));
            for word in rng.chunks(8) {
                assert!(words.insert(word.to_vec()), "repeated at start {start}");
            }
        }
    }

    #[test]
    fn every_byte_of_entropy_changes_the_seeds() {
        let first = |boot: &[u8], fresh| both(&Seeds::new(boot).next(fresh).unwrap());
        let boot = [0x5a; 40];
        let base = first(&boot, None);
        assert_eq!(first(&boot, None), base);
        for at in 0..boot.len() {
            let mut other = boot;
            other[at] ^= 1;
            assert_ne!(first(&other, None).0, base.0);
            assert_ne!(first(&other, None).1, base.1);
        }
        let base = first(&boot, Some([[0; 3]; 3]));
        for at in 0..9 {
            let mut fresh = [[0; 3]; 3];
            fresh[at / 3][at % 3] = 1 << 63;
            assert_ne!(first(&boot, Some(fresh)).1, base.1, "word {at}");
        }
    }

    #[test]
    fn later_seeds_depend_on_fresh_entropy() {
        // Fresh entropy follows a state that an attacker knows.
        let mut one = Seeds::new(b"known");
        let mut two = Seeds::new(b"known");
        assert_eq!(
            both(&one.next(None).unwrap()),
            both(&two.next(None).unwrap())
        );
        let (a, b) = (one.next(Some([[1; 3]; 3])), two.next(Some([[2; 3]; 3])));
        assert_ne!(both(&a.unwrap()), both(&b.unwrap()));
        assert_ne!(
            both(&one.next(None).unwrap()),
            both(&two.next(None).unwrap())
        );
    }

    #[test]
    fn no_seeds_without_entropy() {
        let mut seeds = Seeds::new(&[]);
        assert!(seeds.next(None).is_none());
        // A source that was empty before has entropy now. Once is enough.
        assert!(seeds.next(Some([[1; 3]; 3])).is_some());
        assert!(seeds.next(None).is_some());
    }

    #[test]
    fn state_is_sha256() {
        // SHA-256 of the byte 0 (begin), the byte 0 and "abc", computed by another implementation.
        let expected = SHA256_OF_00_00_ABC;
        assert_eq!(hash(Use::Begin, 0, &[], b"abc"), expected);
    }

    const SHA256_OF_00_00_ABC: [u8; 32] = [
        0xee, 0xf0, 0x38, 0xa0, 0xd7, 0x12, 0x9d, 0x34, 0xd9, 0xe2, 0x0e, 0xfa, 0x91, 0x19, 0x1e,
        0x6a, 0xb6, 0x4b, 0x90, 0xfd, 0x62, 0x4f, 0xfc, 0xcc, 0x52, 0xb9, 0xe8, 0x21, 0x6a, 0xcf,
        0x3e, 0xf5,
    ];
}
