// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The random bytes that the boot loader left in the boot tree: `/chosen/rng-seed` and
//! `kaslr-seed`.

use super::tree;
use core::ops::Range;
use postern_base::secret::wipe;

/// The most bytes that are taken from each property: more than any boot loader writes.
const MOST_EACH: usize = 64;

/// The names of the properties.
const PROPERTIES: [&str; 2] = ["rng-seed", "kaslr-seed"];

/// The bytes of both properties in sequence. They are wiped when dropped.
#[derive(Default)]
pub struct BootSeed(heapless::Vec<u8, { MOST_EACH * PROPERTIES.len() }>);

impl BootSeed {
    /// Returns the bytes, of which there are none if the boot loader left none.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for BootSeed {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Copies the seeds from the tree. Returns them and their ranges in the tree, so that the caller
/// can wipe them there. A seed of zeros was used and wiped by other software, so it is not
/// returned.
pub fn find(tree: &[u8]) -> (BootSeed, [Range<usize>; 2]) {
    let mut seed = BootSeed::default();
    let mut places = [0..0, 0..0];
    let chosen = tree::open(tree)
        .ok()
        .and_then(|fdt| fdt.root().child("chosen"));
    let Some(chosen) = chosen else {
        return (seed, places);
    };
    for (name, place) in PROPERTIES.into_iter().zip(&mut places) {
        let Some(value) = tree::bytes(chosen, name) else {
            continue;
        };
        let start = value.as_ptr().addr() - tree.as_ptr().addr();
        *place = start..start + value.len();
        if value.iter().any(|&byte| byte != 0) {
            let taken = &value[..value.len().min(MOST_EACH)];
            // There is room for this many bytes of each property.
            let _ = seed.0.extend_from_slice(taken);
        }
    }
    (seed, places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_flat_tree::FlatTree;

    fn tree(fill: impl FnOnce(&mut FlatTree)) -> Vec<u8> {
        FlatTree::write(|root| {
            root.text("compatible", "x");
            root.node("chosen", fill);
        })
    }

    #[test]
    fn seeds_are_found_and_can_be_wiped() {
        let mut bytes = tree(|chosen| {
            chosen.text("bootargs", "x");
            chosen.wide("kaslr-seed", 0x0102_0304_0506_0708);
            chosen.property("rng-seed", &[0xaa; 32]);
        });
        let (seed, places) = find(&bytes);
        assert_eq!(seed.bytes()[..32], [0xaa; 32]);
        assert_eq!(seed.bytes()[32..], [1, 2, 3, 4, 5, 6, 7, 8]);
        let length = bytes.len();
        for place in places {
            bytes[place].fill(0);
        }
        // The result is still a valid tree, without seeds.
        let (seed, _) = find(&bytes);
        assert!(seed.bytes().is_empty());
        assert!(!bytes.windows(4).any(|part| part == [0xaa; 4]));
        assert_eq!(tree::total_size(&bytes), Some(length));
        let chosen = tree::open(&bytes).unwrap().root().child("chosen").unwrap();
        assert_eq!(tree::string(chosen, "bootargs"), Some("x"));
    }

    #[test]
    fn odd_seeds_do_no_harm() {
        for (length, taken) in [(0, 0), (1, 1), (64, 64), (65, 64), (4096, 64)] {
            let bytes = tree(|chosen| {
                chosen.property("rng-seed", &vec![7; length]);
            });
            let (seed, [rng, kaslr]) = find(&bytes);
            assert_eq!(seed.bytes(), vec![7; taken]);
            assert_eq!(bytes[rng], vec![7; length]);
            assert_eq!(kaslr, 0..0);
        }
        // There is room for both.
        let bytes = tree(|chosen| {
            chosen.property("rng-seed", &[7; 65]);
            chosen.property("kaslr-seed", &[8; 65]);
        });
        let (seed, _) = find(&bytes);
        assert_eq!(seed.bytes(), [[7; 64], [8; 64]].concat());
        for bytes in [&[][..], &[0; 100], &tree(|_| ())] {
            let (seed, places) = find(bytes);
            assert!(seed.bytes().is_empty());
            assert_eq!(places, [0..0, 0..0]);
        }
    }
}
