// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Objects that a guest and OP-TEE know by different names.
//!
//! A guest names its buffers by cookies of its own choice, such as addresses in its kernel. OP-TEE never sees
//! these. It gets a [`Cookie`] of the mediator: unique, never used twice, never zero. So no guest can name what
//! OP-TEE keeps under another cookie, or under none.
//!
//! A guest may reuse a cookie while an object has it: a kernel started by kexec does not know what the kernel
//! before it has registered, and may have the same addresses. The cookie then means the newest object, and when
//! that is removed, the one before it, as in OP-TEE's own list.

use alloc::vec::Vec;
use core::num::NonZeroU64;
use ffa_proto::Handle;

/// A guest's name for an object. Any value, not necessarily unique.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct GuestCookie(pub(crate) u64);

/// OP-TEE's name for an object: a serial number, the name space, and the slot in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cookie(NonZeroU64);

const SLOT_BITS: u32 = 16;
const SPACE_BIT: u64 = 1 << SLOT_BITS;
const SERIAL_SHIFT: u32 = SLOT_BITS + 1;

/// The most objects of a table, whatever its limit.
pub(crate) const MAX_OBJECTS: usize = 1 << SLOT_BITS;

/// The first serial number, chosen so that cookies differ from addresses and sizes, in logs too.
const FIRST_SERIAL: u64 = 1 << 24;

/// The bit of a handle that says that the hypervisor has made it (DEN0077A, 10.11).
const HANDLE_BIT: u64 = 1 << 63;

/// The last serial number that fits into a cookie, below [`HANDLE_BIT`].
const LAST_SERIAL: u64 = (HANDLE_BIT - 1) >> SERIAL_SHIFT;

/// The two name spaces. A table of one space never finds a cookie of the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Space {
    /// Buffers that carry data.
    Payload,
    /// Buffers that carry RPC messages.
    Rpc,
}

impl Cookie {
    /// Returns the cookie that OP-TEE names, whether it exists or not.
    pub(crate) fn from_tee(value: u64) -> Option<Self> {
        NonZeroU64::new(value).map(Self)
    }

    /// Returns the value that OP-TEE gets.
    pub(crate) const fn get(self) -> u64 {
        self.0.get()
    }

    /// Returns the handle by which a guest names the object over FF-A: one of the hypervisor's, as bit 63 says.
    pub(crate) const fn to_handle(self) -> Handle {
        Handle::new(self.get() | HANDLE_BIT)
    }

    /// Returns the cookie in a handle that a guest names, whether it exists or not.
    pub(crate) fn from_handle(handle: Handle) -> Option<Self> {
        (handle.get() & HANDLE_BIT != 0)
            .then(|| Self::from_tee(handle.get() & !HANDLE_BIT))
            .flatten()
    }

    fn slot(self) -> usize {
        (self.get() & (SPACE_BIT - 1)) as usize
    }
}

/// Why an object was not inserted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum InsertError {
    /// The VM's quota is exhausted.
    Quota,
    /// The hypervisor's memory is exhausted.
    NoMemory,
}

#[derive(Debug)]
struct Entry<T> {
    cookie: Cookie,
    guest: GuestCookie,
    object: T,
}

/// Objects of one kind, for one VM.
#[derive(Debug)]
pub(crate) struct Table<T> {
    space: Space,
    limit: usize,
    serial: u64,
    entries: Vec<Option<Entry<T>>>,
    free: Vec<u32>,
    /// Sorted by the guest's cookie, older objects before newer ones. Does not contain objects that the guest
    /// may not name.
    by_guest: Vec<(GuestCookie, u32)>,
    len: usize,
}

/// Returns the most bytes that a vector takes while it grows to `elements`, where blocks are powers of two. It
/// doubles, and the old half exists until it is copied.
pub(crate) const fn grown<T>(elements: u32) -> u64 {
    // The first allocation has four elements.
    let whole =
        (elements as u64 + 4).next_power_of_two() * (size_of::<T>() as u64).next_power_of_two();
    whole + whole / 2
}

impl<T> Table<T> {
    /// Creates an empty table for at most `limit` objects.
    pub(crate) const fn new(space: Space, limit: usize) -> Self {
        Self {
            space,
            limit: if limit < MAX_OBJECTS {
                limit
            } else {
                MAX_OBJECTS
            },
            serial: FIRST_SERIAL,
            entries: Vec::new(),
            free: Vec::new(),
            by_guest: Vec::new(),
            len: 0,
        }
    }

    /// Returns the most bytes of a heap that a table for `limit` objects takes, where blocks are powers of two.
    pub(crate) const fn heap_bytes(limit: u32) -> u64 {
        grown::<Option<Entry<T>>>(limit) + grown::<u32>(limit) + grown::<(GuestCookie, u32)>(limit)
    }

    /// Continues the serial numbers of an older table.
    pub(crate) const fn inherit(&mut self, old: &Self) {
        self.serial = old.serial;
    }

    /// Returns the number of objects, including those that the guest cannot name.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Inserts an object under a new cookie. The guest's cookie is stored, but does not find the object.
    pub(crate) fn insert(
        &mut self,
        guest: GuestCookie,
        object: T,
    ) -> Result<Cookie, (InsertError, T)> {
        let slot = match self.make_room() {
            Ok(slot) => slot,
            Err(why) => return Err((why, object)),
        };
        self.serial += 1;
        let space = if self.space == Space::Rpc {
            SPACE_BIT
        } else {
            0
        };
        let value = self.serial << SERIAL_SHIFT | space | u64::from(slot);
        let cookie = Cookie(NonZeroU64::new(value).unwrap_or(NonZeroU64::MAX));
        self.entries[slot as usize] = Some(Entry {
            cookie,
            guest,
            object,
        });
        self.len += 1;
        Ok(cookie)
    }

    /// Inserts an object under a new cookie. The guest's cookie finds it first.
    pub(crate) fn insert_named(
        &mut self,
        guest: GuestCookie,
        object: T,
    ) -> Result<Cookie, (InsertError, T)> {
        if self.by_guest.try_reserve(1).is_err() {
            return Err((InsertError::NoMemory, object));
        }
        let cookie = self.insert(guest, object)?;
        let end = self.end_of(guest);
        self.by_guest.insert(end, (guest, cookie.slot() as u32));
        Ok(cookie)
    }

    /// Returns the slot for a new object.
    fn make_room(&mut self) -> Result<u32, InsertError> {
        // 46 bits of serial numbers last for years of continuous registrations. After that there are no new
        // cookies, rather than reused ones.
        if self.len >= self.limit || self.serial >= LAST_SERIAL {
            return Err(InsertError::Quota);
        }
        if let Some(slot) = self.free.pop() {
            return Ok(slot);
        }
        self.entries
            .try_reserve(1)
            .map_err(|_| InsertError::NoMemory)?;
        // Room for every slot, so that removing never allocates.
        self.free
            .try_reserve(self.entries.len() + 1)
            .map_err(|_| InsertError::NoMemory)?;
        self.entries.push(None);
        Ok((self.entries.len() - 1) as u32)
    }

    /// Returns the newest object under the guest's cookie that `is` accepts.
    pub(crate) fn newest(
        &mut self,
        guest: GuestCookie,
        is: impl Fn(&T) -> bool,
    ) -> Option<(Cookie, &mut T)> {
        let older = &self.by_guest[..self.end_of(guest)];
        let mut same = older.iter().rev().take_while(|&&(name, _)| name == guest);
        let slot = same.find_map(|&(_, slot)| {
            let entry = self.entries[slot as usize].as_ref()?;
            is(&entry.object).then_some(slot)
        })?;
        let entry = self.entries[slot as usize].as_mut()?;
        Some((entry.cookie, &mut entry.object))
    }

    /// Returns the object under OP-TEE's cookie, and the guest's cookie for it.
    pub(crate) fn get(&mut self, cookie: Cookie) -> Option<(GuestCookie, &mut T)> {
        let entry = self.entries.get_mut(cookie.slot())?.as_mut()?;
        (entry.cookie == cookie).then_some((entry.guest, &mut entry.object))
    }

    /// Returns the cookie of the first object that `is` accepts. For tables of a few objects.
    pub(crate) fn find(&self, is: impl Fn(&T) -> bool) -> Option<Cookie> {
        let entries = self.entries.iter().flatten();
        let mut found = entries.filter(|entry| is(&entry.object));
        found.next().map(|entry| entry.cookie)
    }

    /// Returns all objects.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().flatten().map(|entry| &entry.object)
    }

    /// Makes an object unreachable by the guest's cookie.
    pub(crate) fn forget_name(&mut self, cookie: Cookie) {
        let Some((guest, _)) = self.get(cookie) else {
            return;
        };
        let older = &self.by_guest[..self.end_of(guest)];
        let same = older.iter().rev().take_while(|&&(name, _)| name == guest);
        let mut slots = same.map(|&(_, slot)| slot as usize);
        if let Some(behind) = slots.position(|slot| slot == cookie.slot()) {
            self.by_guest.remove(older.len() - 1 - behind);
        }
    }

    /// Removes an object. Its cookie is never used again.
    pub(crate) fn remove(&mut self, cookie: Cookie) -> Option<(GuestCookie, T)> {
        self.get(cookie)?;
        self.forget_name(cookie);
        let entry = self.entries[cookie.slot()].take()?;
        self.free.push(cookie.slot() as u32);
        self.len -= 1;
        Some((entry.guest, entry.object))
    }

    /// Returns the cookies of all objects, or none without memory for the list.
    pub(crate) fn all_cookies(&self) -> Vec<Cookie> {
        let mut cookies = Vec::new();
        if cookies.try_reserve_exact(self.len).is_ok() {
            cookies.extend(self.entries.iter().flatten().map(|entry| entry.cookie));
        }
        cookies
    }

    /// Removes the last entry, whether it contains an object or not, or returns `None` without entries. The
    /// guest's cookies become invalid, and nothing may be inserted any more. So the time does not depend on the
    /// number of objects.
    pub(crate) fn pop(&mut self) -> Option<Option<T>> {
        self.by_guest.clear();
        let entry = self.entries.pop()?;
        self.len -= usize::from(entry.is_some());
        Some(entry.map(|entry| entry.object))
    }

    /// Returns the position in the index of the next object under the guest's cookie.
    fn end_of(&self, guest: GuestCookie) -> usize {
        self.by_guest.partition_point(|&(name, _)| name <= guest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cookie tells by itself whether it is of a buffer or of memory for RPC messages.
    #[test]
    fn a_cookie_tells_its_space() {
        for (space, bit) in [(Space::Rpc, SPACE_BIT), (Space::Payload, 0)] {
            let cookie = Table::new(space, 1).insert(GuestCookie(7), ()).unwrap();
            assert_eq!(cookie.get() & SPACE_BIT, bit);
        }
    }

    #[test]
    fn popped_objects_do_not_count() {
        let mut table = Table::new(Space::Rpc, 3);
        for name in 0..3 {
            table.insert(GuestCookie(name), ()).unwrap();
        }
        for left in [2, 1, 0] {
            assert!(table.pop().is_some());
            assert_eq!(table.len(), left);
        }
        assert_eq!(table.pop(), None);
    }
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    #[test]
    fn name_spaces_are_apart() {
        let mut payload = Table::new(Space::Payload, 4);
        let mut rpc = Table::new(Space::Rpc, 4);
        let a = payload.insert(GuestCookie(7), ()).unwrap();
        let b = rpc.insert(GuestCookie(7), ()).unwrap();
        assert_ne!(a, b);
        assert!(payload.get(b).is_none() && rpc.get(a).is_none());
    }

    #[test]
    fn a_forgotten_name_can_be_used_again() {
        let mut table = Table::new(Space::Payload, 4);
        let old = table.insert_named(GuestCookie(7), "old").unwrap();
        table.forget_name(old);
        assert_eq!(table.newest(GuestCookie(7), |_| true), None);
        let new = table.insert_named(GuestCookie(7), "new").unwrap();
        assert_eq!(table.remove(old), Some((GuestCookie(7), "old")));
        let found = table.newest(GuestCookie(7), |_| true);
        assert_eq!(found, Some((new, &mut "new")));
    }

    #[test]
    fn newest_accepts_the_newest_match() {
        let mut table = Table::new(Space::Payload, 4);
        let first = table.insert_named(GuestCookie(7), 1).unwrap();
        let second = table.insert_named(GuestCookie(7), 2).unwrap();
        table.insert(GuestCookie(7), 3).unwrap();
        table.insert_named(GuestCookie(8), 4).unwrap();
        let odd = |number: &i32| number % 2 == 1;
        assert_eq!(table.newest(GuestCookie(7), odd), Some((first, &mut 1)));
        let any = |_: &i32| true;
        assert_eq!(table.newest(GuestCookie(7), any), Some((second, &mut 2)));
        table.remove(second).unwrap();
        assert_eq!(table.newest(GuestCookie(7), any), Some((first, &mut 1)));
        table.remove(first).unwrap();
        assert_eq!(table.newest(GuestCookie(7), any), None);
    }

    #[test]
    fn a_full_table_takes_no_more_than_it_may() {
        fn taken<T>(list: &Vec<T>) -> u64 {
            ((list.capacity() * size_of::<T>()) as u64).next_power_of_two()
        }
        let limits = [1, 2, 3, 100, 1024, 5000];
        for &limit in &limits[..if cfg!(miri) { 4 } else { limits.len() }] {
            let mut table = Table::new(Space::Payload, limit);
            for number in 0..limit as u64 {
                table
                    .insert_named(GuestCookie(number), [number; 11])
                    .unwrap();
            }
            let all = taken(&table.entries) + taken(&table.free) + taken(&table.by_guest);
            assert!(
                all <= Table::<[u64; 11]>::heap_bytes(limit as u32),
                "{limit}"
            );
        }
    }

    #[test]
    fn a_table_has_room_for_entries_free_slots_and_names() {
        let sixty = |size: u64| (64 - 4) * size * 3 / 2;
        let entry = size_of::<Option<Entry<[u64; 2]>>>().next_power_of_two() as u64;
        let room = |limit| Table::<[u64; 2]>::heap_bytes(limit);
        let names = size_of::<(GuestCookie, u32)>() as u64;
        assert_eq!(room(60) - room(0), sixty(entry) + sixty(4) + sixty(names));
        assert_eq!(room(0), (entry + 4 + names) * 4 * 3 / 2);
    }

    #[test]
    fn limits() {
        let mut table = Table::new(Space::Payload, 2);
        table.insert_named(GuestCookie(1), ()).unwrap();
        let second = table.insert(GuestCookie(1), ()).unwrap();
        assert_eq!(
            table.insert(GuestCookie(3), ()),
            Err((InsertError::Quota, ()))
        );
        let refused = table.insert_named(GuestCookie(1), ());
        assert_eq!(refused, Err((InsertError::Quota, ())));
        table.remove(second).unwrap();
        table.insert(GuestCookie(3), ()).unwrap();
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn cookies_are_unlike_addresses_and_sizes() {
        for space in [Space::Payload, Space::Rpc] {
            let first = Table::new(space, 4).insert(GuestCookie(1), ()).unwrap();
            assert!(first.get() > 1 << 40, "{first:?}");
        }
    }

    /// What is taken out goes without memory from the heap.
    #[test]
    fn table_can_free_every_slot_without_allocation() {
        let mut table = Table::new(Space::Payload, 20);
        for number in 1..=20 {
            table.insert(GuestCookie(number), ()).unwrap();
            assert!(table.free.capacity() >= table.entries.len(), "{number}");
        }
    }

    #[test]
    fn cookies_end_rather_than_come_back() {
        let mut table = Table::new(Space::Rpc, 4);
        table.serial = LAST_SERIAL - 1;
        let last = table.insert(GuestCookie(1), ()).unwrap();
        assert_eq!(last.get() >> SERIAL_SHIFT, LAST_SERIAL);
        table.remove(last).unwrap();
        assert_eq!(
            table.insert(GuestCookie(1), ()),
            Err((InsertError::Quota, ()))
        );
        assert_eq!(table.len(), 0);
    }

    proptest! {
        #![proptest_config(crate::tests::tries(256))]

        /// The table against two maps: what is in is found under OP-TEE's name, the newest with a name under
        /// the guest's, what is out is not found, and no cookie comes twice.
        #[test]
        fn agrees_with_a_model(steps in proptest::collection::vec((0u8..5, 0u64..6), 1..if cfg!(miri) { 20 } else { 200 })) {
            let mut table = Table::new(Space::Payload, 8);
            let mut named: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            let mut all: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
            let mut seen = alloc::collections::BTreeSet::new();
            for (number, (step, guest)) in (0..).zip(steps) {
                match step {
                    0..=2 => {
                        let name = GuestCookie(guest);
                        let inserted = if step == 0 {
                            table.insert(name, number)
                        } else {
                            table.insert_named(name, number)
                        };
                        match inserted {
                            Ok(cookie) => {
                                prop_assert!(seen.insert(cookie.get()));
                                prop_assert!(all.len() < 8);
                                all.insert(cookie.get(), (guest, number));
                                if step != 0 {
                                    named.entry(guest).or_default().push(cookie.get());
                                }
                            }
                            Err((InsertError::Quota, _)) => prop_assert_eq!(all.len(), 8),
                            Err((InsertError::NoMemory, _)) => prop_assert!(false),
                        }
                    }
                    // The oldest of a name, not only the newest.
                    3 => if let Some(names) = named.get_mut(&guest) && !names.is_empty() {
                        table.forget_name(Cookie::from_tee(names.remove(0)).unwrap());
                    },
                    _ => if let Some((&cookie, _)) = all.iter().nth(guest as usize) {
                        let removed = table.remove(Cookie::from_tee(cookie).unwrap());
                        let (name, object) = all.remove(&cookie).unwrap();
                        for names in named.values_mut() {
                            names.retain(|&c| c != cookie);
                        }
                        prop_assert_eq!(removed, Some((GuestCookie(name), object)));
                    },
                }
                prop_assert_eq!(table.len(), all.len());
                for guest in 0..6 {
                    let names = named.get(&guest);
                    let even = |number: &u64| number.is_multiple_of(2);
                    let found = table.newest(GuestCookie(guest), |_| true).map(|(cookie, _)| cookie.get());
                    prop_assert_eq!(found, names.and_then(|names| names.last()).copied());
                    let found = table.newest(GuestCookie(guest), even).map(|(cookie, _)| cookie.get());
                    let expected = names.and_then(|names| names.iter().rev().find(|&cookie| even(&all[cookie].1)));
                    prop_assert_eq!(found, expected.copied());
                }
                for &cookie in &seen {
                    let found = table.get(Cookie::from_tee(cookie).unwrap()).is_some();
                    prop_assert_eq!(found, all.contains_key(&cookie));
                }
            }
        }
    }
}
