// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes a flattened device tree, version 17 (Devicetree Specification, chapter 5), from front to
//! back.
//!
//! `dtoolkit` can do that too, through a tree of hash maps, which is ten times as much code.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;

/// The size of the header in bytes, which is the offset of the empty list of memory reservations.
const HEADER: usize = 40;
/// The offset of the structure block: after the empty entry that ends the reservations.
const STRUCTURE: usize = HEADER + 16;

/// The capacity in bytes that is enough for a guest's tree with the longest command line. A vector
/// that grows would leave copies of the tree's seeds in freed memory.
pub const CAPACITY: usize = 8192;

const MAGIC: u32 = 0xd00d_feed;
const VERSION: u32 = 17;
const LAST_COMPATIBLE_VERSION: u32 = 16;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const END: u32 = 9;

/// A tree that is being written. Each method adds to the node that was opened last. A node's
/// properties must be written before its children.
pub struct FlatTree {
    /// The whole tree without the names of properties. The header is written at the end.
    bytes: Vec<u8>,
    /// The names of properties, each once and followed by a zero byte.
    names: Vec<u8>,
    /// The offset and the length of each name, without the zero byte.
    places: Vec<(u32, u32)>,
}

impl FlatTree {
    /// Returns the bytes of a tree whose root has the properties and children that `fill` writes.
    pub fn write(fill: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CAPACITY);
        bytes.resize(STRUCTURE, 0);
        let mut tree = Self {
            bytes,
            names: Vec::new(),
            places: Vec::new(),
        };
        tree.node("", fill);
        tree.finish()
    }

    /// Writes a child of the open node.
    pub fn node(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        self.begin(name);
        fill(self);
        self.end();
    }

    /// Closes the open node, which [`FlatTree::begin`] has opened.
    pub fn end(&mut self) {
        self.cell(END_NODE);
    }

    /// Lets `fill` write to the open node, and then has as much room for the rest of the tree as without it. What is
    /// written so may have any size, and secrets that come after it are written once.
    pub fn beside(&mut self, fill: impl FnOnce(&mut Self)) {
        let room = self.bytes.capacity() - self.bytes.len();
        let names = self.names.len();
        fill(self);
        // The names go to the end of the tree.
        self.bytes.reserve(room + self.names.len() - names);
    }

    /// Writes a property of the open node.
    pub fn property(&mut self, name: &str, value: &[u8]) {
        let name = self.name(name);
        self.cell(PROPERTY);
        self.cell(value.len() as u32);
        self.cell(name);
        self.bytes.extend_from_slice(value);
        self.align();
    }

    /// Writes a property without a value.
    pub fn flag(&mut self, name: &str) {
        self.property(name, &[]);
    }

    /// Writes a property whose value is a list of cells.
    pub fn cells(&mut self, name: &str, cells: &[u32]) {
        let name = self.name(name);
        self.cell(PROPERTY);
        self.cell(4 * cells.len() as u32);
        self.cell(name);
        for &cell in cells {
            self.cell(cell);
        }
    }

    /// Writes a property whose value is two cells.
    pub fn wide(&mut self, name: &str, value: u64) {
        self.property(name, &value.to_be_bytes());
    }

    /// Writes a property whose value is a list of strings.
    pub fn texts(&mut self, name: &str, texts: &[&str]) {
        let mut value = Vec::new();
        for text in texts {
            value.extend_from_slice(text.as_bytes());
            value.push(0);
        }
        self.property(name, &value);
    }

    /// Writes a property whose value is one string.
    pub fn text(&mut self, name: &str, text: &str) {
        self.texts(name, &[text]);
    }

    /// Opens a child of the open node, as [`FlatTree::node`] does.
    pub fn begin(&mut self, name: &str) {
        self.cell(BEGIN_NODE);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
    }

    fn cell(&mut self, cell: u32) {
        self.bytes.extend_from_slice(&cell.to_be_bytes());
    }

    fn align(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    /// Returns the offset of a property's name in the names, and adds the name if it is new.
    fn name(&mut self, name: &str) -> u32 {
        let known = |&&(at, length): &&(u32, u32)| {
            let (at, length) = (at as usize, length as usize);
            length == name.len() && self.names[at..at + length] == *name.as_bytes()
        };
        if let Some(&(at, _)) = self.places.iter().find(known) {
            return at;
        }
        let at = self.names.len() as u32;
        self.places.push((at, name.len() as u32));
        self.names.extend_from_slice(name.as_bytes());
        self.names.push(0);
        at
    }

    fn finish(mut self) -> Vec<u8> {
        self.cell(END);
        let names = self.bytes.len();
        self.bytes.extend_from_slice(&self.names);
        let header = [
            MAGIC,
            self.bytes.len() as u32,
            STRUCTURE as u32,
            names as u32,
            HEADER as u32,
            VERSION,
            LAST_COMPATIBLE_VERSION,
            0, // the CPU that boots
            self.names.len() as u32,
            (names - STRUCTURE) as u32,
        ];
        for (place, field) in self.bytes.chunks_exact_mut(4).zip(header) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dtoolkit::fdt::Fdt;
    use dtoolkit::{Node, Property};

    #[test]
    fn written_tree_is_read_back_by_another_parser() {
        let bytes = FlatTree::write(|root| {
            root.text("odd", "ab");
            root.node("a@1", |a| {
                a.flag("flag");
                a.cells("cells", &[1, 0xffff_ffff]);
                a.wide("wide", 0x0123_4567_89ab_cdef);
                a.node("deep", |deep| deep.property("odd", b"x"));
            });
            root.node("b", |b| b.texts("flag", &["one", "two"]));
        });
        let tree = Fdt::new(&bytes).unwrap();
        let value = |path: &[&str], name: &str| {
            let mut node = tree.root();
            for part in path {
                node = node.child(part).unwrap();
            }
            node.property(name).unwrap().value().to_vec()
        };
        assert_eq!(value(&[], "odd"), b"ab\0");
        assert_eq!(value(&["a@1"], "flag"), b"");
        assert_eq!(value(&["a@1"], "cells"), [0, 0, 0, 1, 255, 255, 255, 255]);
        assert_eq!(
            value(&["a@1"], "wide"),
            0x0123_4567_89ab_cdef_u64.to_be_bytes()
        );
        assert_eq!(value(&["a@1", "deep"], "odd"), b"x");
        assert_eq!(value(&["b"], "flag"), b"one\0two\0");
        assert_eq!(tree.root().children().count(), 2);
    }

    /// Whatever was written before, the rest of the tree does not make the vector grow.
    #[test]
    fn rest_has_its_room_beside_what_is_large() {
        for large in [0, 100, CAPACITY, 3 * CAPACITY] {
            let mut before = 0;
            // The tokens and the name take 33 bytes.
            let rest = CAPACITY - STRUCTURE - 36;
            let bytes = FlatTree::write(|root| {
                if large > 0 {
                    root.beside(|root| root.property("any-other-name", &vec![1; large]));
                }
                before = root.bytes.as_ptr().addr();
                root.property("rest", &vec![2; rest]);
            });
            assert_eq!(bytes.as_ptr().addr(), before, "{large}");
            assert!(large > 0 || bytes.len() > CAPACITY - 4, "{}", bytes.len());
        }
    }

    #[test]
    fn repeated_property_name_is_stored_once() {
        let bytes = FlatTree::write(|root| {
            root.flag("interrupts");
            root.flag("interrupt");
            root.node("x", |x| x.flag("interrupts"));
        });
        assert!(bytes.ends_with(b"\0\0\0\x09interrupts\0interrupt\0"));
    }
}
