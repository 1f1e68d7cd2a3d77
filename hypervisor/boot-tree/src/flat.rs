// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads a flattened device tree, version 17 (Devicetree Specification 0.4, chapter 5).
//!
//! [`Fdt::new`] checks the whole structure once, so that later reads cannot fail on it. Names may be longer than the 31
//! characters of the specification, because most boards' trees have longer ones.

use core::iter;

const MAGIC: u32 = 0xd00d_feed;
/// The version that the reader knows. [`Fdt::new`] accepts a tree whose own version and last compatible version have it
/// between them.
const VERSION: u32 = 17;

// The tokens of the structure block (5.4.1).
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// The size of the header, in bytes.
const HEADER: usize = 40;
/// The size of a memory reservation, in bytes.
const RESERVATION: usize = 16;

/// The values of `#address-cells` and `#size-cells` in a node without them (2.3.5).
const DEFAULT_CELLS: [u32; 2] = [2, 1];

/// A device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fdt<'t> {
    structure: &'t [u8],
    names: &'t [u8],
    reservations: &'t [u8],
}

/// A token of the structure block.
#[derive(Debug)]
pub enum Token<'t> {
    /// The beginning of a node, with its name.
    Begin(&'t str),
    /// A property: its name and its value.
    Property(&'t str, &'t [u8]),
    /// The end of a node.
    EndNode,
    /// The end of the tree.
    End,
}

/// Returns the big-endian cell at offset `at`.
fn cell(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|cell| u32::from_be_bytes(*cell))
}

/// Returns the text at offset `at`, which ends with a zero byte.
fn text(bytes: &[u8], at: usize) -> Option<&str> {
    let bytes = bytes.get(at..)?;
    let length = bytes.iter().position(|byte| *byte == 0)?;
    core::str::from_utf8(&bytes[..length]).ok()
}

impl<'t> Fdt<'t> {
    /// Opens the tree that fills `data`.
    ///
    /// # Errors
    ///
    /// Fails with what is wrong with the tree.
    pub fn new(data: &'t [u8]) -> Result<Self, &'static str> {
        let header = data.get(..HEADER).ok_or("it is cut off")?;
        // The header has this field.
        let field = |index: usize| cell(header, 4 * index).unwrap_or_default();
        if field(0) != MAGIC {
            return Err("it has no magic number");
        }
        if !(field(6)..=field(5)).contains(&VERSION) {
            return Err("it is not of version 17");
        }
        if field(1) as usize != data.len() {
            return Err("it is cut off");
        }
        let block = |start: usize, bytes: usize| {
            let (start, bytes) = (field(start) as usize, field(bytes) as usize);
            data.get(start..start + bytes)
                .ok_or("a part is outside of it")
        };
        let tree = Self {
            structure: block(2, 9)?,
            names: block(3, 8)?,
            reservations: data
                .get(field(4) as usize..)
                .ok_or("a part is outside of it")?,
        };
        if !tree.has_end_of_reservations() {
            return Err("its memory reservations do not end");
        }
        tree.check().ok_or("its structure is broken")?;
        Ok(tree)
    }

    /// Returns the size in bytes of the tree in `data`, without what is behind its names and structure.
    pub fn used_bytes(self, data: &[u8]) -> usize {
        let end = |part: &[u8]| part.as_ptr_range().end.addr() - data.as_ptr().addr();
        end(self.structure).max(end(self.names))
    }

    fn has_end_of_reservations(self) -> bool {
        let (entries, _) = self.reservations.as_chunks::<RESERVATION>();
        entries.contains(&[0; RESERVATION])
    }

    /// Checks the whole structure: one root, of well-formed nodes.
    fn check(self) -> Option<()> {
        let mut at = 0;
        let Token::Begin(_) = self.token(&mut at)? else {
            return None;
        };
        let mut depth = 1_usize;
        while depth > 0 {
            match self.token(&mut at)? {
                Token::Begin(_) => depth += 1,
                Token::EndNode => depth -= 1,
                Token::Property(..) => {}
                Token::End => return None,
            }
        }
        matches!(self.token(&mut at)?, Token::End).then_some(())
    }

    /// Returns the token at `at` and moves `at` behind it; `None` if it is malformed.
    fn token(self, at: &mut usize) -> Option<Token<'t>> {
        loop {
            let token = cell(self.structure, *at)?;
            *at += 4;
            let (token, bytes) = match token {
                BEGIN_NODE => {
                    let name = text(self.structure, *at)?;
                    (Token::Begin(name), name.len() + 1)
                }
                PROPERTY => {
                    let bytes = cell(self.structure, *at)? as usize;
                    let name = text(self.names, cell(self.structure, *at + 4)? as usize)?;
                    *at += 8;
                    let value = self.structure.get(*at..*at + bytes)?;
                    (Token::Property(name, value), bytes)
                }
                END_NODE => (Token::EndNode, 0),
                END => (Token::End, 0),
                NOP => continue,
                _ => return None,
            };
            *at += bytes.next_multiple_of(4);
            return Some(token);
        }
    }

    /// Returns the root.
    pub fn root(self) -> FdtNode<'t> {
        FdtNode {
            tree: self,
            name: "",
            // Behind its token and its empty name.
            at: self.start(),
            cells: DEFAULT_CELLS,
        }
    }

    /// Returns the offset at which the root's properties begin.
    fn start(self) -> usize {
        let mut at = 0;
        let _ = self.token(&mut at);
        at
    }

    /// Returns the memory reservations: addresses and sizes.
    pub fn memory_reservations(self) -> impl Iterator<Item = (u64, u64)> + use<'t> {
        let (entries, _) = self.reservations.as_chunks::<RESERVATION>();
        let numbers = entries.iter().map(|entry| {
            let both = u128::from_be_bytes(*entry);
            ((both >> 64) as u64, both as u64)
        });
        numbers.take_while(|entry| *entry != (0, 0))
    }
}

/// A node of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdtNode<'t> {
    tree: Fdt<'t>,
    name: &'t str,
    /// The offset at which its properties begin.
    at: usize,
    /// The widths of addresses and sizes in its `reg`, which its parent sets, in cells.
    cells: [u32; 2],
}

impl<'t> FdtNode<'t> {
    /// Returns the name, with the unit address.
    pub const fn name(self) -> &'t str {
        self.name
    }

    /// Returns the name without the unit address.
    pub fn name_without_address(self) -> &'t str {
        self.name.split('@').next().unwrap_or_default()
    }

    /// Returns the properties: names and values.
    pub fn properties(self) -> impl Iterator<Item = (&'t str, &'t [u8])> + use<'t> {
        let mut at = self.at;
        iter::from_fn(move || match self.tree.token(&mut at)? {
            Token::Property(name, value) => Some((name, value)),
            _ => {
                at = usize::MAX - 4;
                None
            }
        })
    }

    /// Returns all tokens between the node's name and its end.
    pub fn tokens(self) -> impl Iterator<Item = Token<'t>> {
        let mut at = self.at;
        let mut depth = 1_usize;
        iter::from_fn(move || {
            let token = self.tree.token(&mut at)?;
            match token {
                Token::Begin(_) => depth += 1,
                Token::EndNode => depth = depth.checked_sub(1)?,
                Token::Property(..) | Token::End => {}
            }
            (depth > 0).then_some(token)
        })
        .fuse()
    }

    /// Returns the value of a property.
    pub fn property(self, name: &str) -> Option<&'t [u8]> {
        self.properties()
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }

    /// Returns the children.
    pub fn children(self) -> impl Iterator<Item = Self> + use<'t> {
        let cells = self.child_cells();
        let mut at = self.at;
        iter::from_fn(move || {
            loop {
                match self.tree.token(&mut at)? {
                    Token::Begin(name) => {
                        let child = Self {
                            tree: self.tree,
                            name,
                            at,
                            cells,
                        };
                        self.tree.skip(&mut at)?;
                        return Some(child);
                    }
                    Token::Property(..) => {}
                    Token::EndNode | Token::End => {
                        at = usize::MAX - 4;
                        return None;
                    }
                }
            }
        })
    }

    /// Returns the child with this name; the unit address may be left out.
    pub fn child(self, name: &str) -> Option<Self> {
        self.children()
            .find(|child| child.name == name || child.name_without_address() == name)
    }

    /// Returns the widths of addresses and sizes in the `reg` of its children, in cells.
    pub fn child_cells(self) -> [u32; 2] {
        let cells = |name, default| match self.property(name).and_then(<[u8]>::first_chunk) {
            Some(value) => u32::from_be_bytes(*value),
            None => default,
        };
        let [address, size] = DEFAULT_CELLS;
        [cells("#address-cells", address), cells("#size-cells", size)]
    }

    /// Returns the entries of `reg`, if there is one: addresses and sizes, in bytes. `Err` if it is malformed.
    pub fn reg(self) -> Option<Result<Entries<'t, 2>, ()>> {
        self.property("reg").map(|value| entries(value, self.cells))
    }

    /// Returns the entries of Xen's `xen,reg`, if there is one: addresses in the machine, sizes, and addresses in the guest.
    /// `Err` if it is malformed.
    pub fn xen_reg(self) -> Option<Result<Entries<'t, 3>, ()>> {
        let [address, size] = self.cells;
        let value = self.property("xen,reg")?;
        Some(entries(value, [address, size, address]))
    }

    /// Returns the entries of `ranges`, if there is one: addresses of children, addresses on the bus above, and
    /// lengths. `Err` if it is malformed.
    pub fn ranges(self) -> Option<Result<Entries<'t, 3>, ()>> {
        let [child, length] = self.child_cells();
        let [parent, _] = self.cells;
        let value = self.property("ranges")?;
        Some(entries(value, [child, parent, length]))
    }
}

impl Fdt<'_> {
    /// Moves `at` from a node's properties behind its end.
    fn skip(self, at: &mut usize) -> Option<()> {
        let mut depth = 1_usize;
        while depth > 0 {
            match self.token(at)? {
                Token::Begin(_) => depth += 1,
                Token::EndNode => depth -= 1,
                Token::Property(..) => {}
                Token::End => return None,
            }
        }
        Some(())
    }
}

/// The entries of a property, each of `N` numbers as big-endian bytes.
#[derive(Debug)]
pub struct Entries<'t, const N: usize> {
    chunks: core::slice::ChunksExact<'t, u8>,
    cells: [u32; N],
}

fn entries<const N: usize>(value: &[u8], cells: [u32; N]) -> Result<Entries<'_, N>, ()> {
    let bytes = cells.iter().map(|cells| 4 * *cells as usize).sum();
    if bytes == 0 || !value.len().is_multiple_of(bytes) {
        return Err(());
    }
    Ok(Entries {
        chunks: value.chunks_exact(bytes),
        cells,
    })
}

impl<'t, const N: usize> Iterator for Entries<'t, N> {
    type Item = [&'t [u8]; N];

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.chunks.next()?;
        // The entry is as long as all its numbers.
        Some(self.cells.map(|cells| {
            let (number, behind) = rest.split_at(4 * cells as usize);
            rest = behind;
            number
        }))
    }
}

/// Returns the big-endian number in `bytes`; `None` if it has more than four cells.
pub fn number(bytes: &[u8]) -> Option<u128> {
    let fits = bytes.len() <= 16;
    fits.then(|| {
        bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u128::from(*byte))
    })
}
