// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files for OP-TEE's secure storage, in memory: as much of a file system as it asks for.

use super::memory;
use super::message::View;
use super::supplicant::object_at;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use optee_proto::TeeResult;
use spin::Mutex;

const OPEN: u64 = 0;
const CREATE: u64 = 1;
const CLOSE: u64 = 2;
const READ: u64 = 3;
/// The function that writes to a file.
pub const WRITE: u64 = 4;
const TRUNCATE: u64 = 5;
const REMOVE: u64 = 6;
/// The most bytes that a file may have.
const MOST: usize = 64 * 1024;

struct Disk {
    files: BTreeMap<u64, Vec<u8>>,
    names: BTreeMap<String, u64>,
    next: u64,
}

static DISK: Mutex<Disk> = Mutex::new(Disk {
    files: BTreeMap::new(),
    names: BTreeMap::new(),
    next: 1,
});

/// Forgets all files.
pub fn clear() {
    let mut disk = DISK.lock();
    disk.files.clear();
    disk.names.clear();
}

/// Answers the RPC FS.
pub fn answer(view: View) -> TeeResult {
    let value = view.param(0);
    let (function, handle, at) = (value.a.get(), value.b.get(), value.c.get() as usize);
    let mut disk = DISK.lock();
    match function {
        OPEN | CREATE => open(&mut disk, view, function == CREATE),
        CLOSE => TeeResult::SUCCESS,
        READ | WRITE | TRUNCATE => {
            disk.files
                .get_mut(&handle)
                .map_or(TeeResult::BAD_PARAMETERS, |file| match function {
                    READ => read(file, view, at),
                    WRITE => write(file, view, at),
                    _ if at <= MOST => {
                        file.resize(at, 0);
                        TeeResult::SUCCESS
                    }
                    _ => TeeResult::OUT_OF_MEMORY,
                })
        }
        REMOVE => match name(view).and_then(|name| disk.names.remove(&name)) {
            Some(handle) => {
                disk.files.remove(&handle);
                TeeResult::SUCCESS
            }
            None => TeeResult::ITEM_NOT_FOUND,
        },
        _ => TeeResult::NOT_SUPPORTED,
    }
}

/// Where a memref of an RPC lies, and how long it is.
fn memref(view: View) -> Option<(u64, usize)> {
    let param = view.param(1);
    Some((
        object_at(param.c.get(), param.a.get())?,
        param.b.get() as usize,
    ))
}

fn name(view: View) -> Option<String> {
    let (address, length) = memref(view)?;
    let mut bytes = vec![0; length];
    memory::read(address, &mut bytes);
    let end = bytes.iter().position(|&byte| byte == 0)?;
    bytes.truncate(end);
    String::from_utf8(bytes).ok()
}

fn open(disk: &mut Disk, view: View, create: bool) -> TeeResult {
    let Some(name) = name(view) else {
        return TeeResult::BAD_PARAMETERS;
    };
    let handle = match disk.names.get(&name) {
        Some(&handle) => handle,
        None if create => {
            disk.next += 1;
            let handle = disk.next;
            disk.names.insert(name, handle);
            handle
        }
        None => return TeeResult::ITEM_NOT_FOUND,
    };
    if create {
        disk.files.insert(handle, Vec::new());
    }
    let mut param = view.param(2);
    param.a = handle.into();
    view.set_param(2, &param);
    TeeResult::SUCCESS
}

fn read(file: &[u8], view: View, at: usize) -> TeeResult {
    let Some((address, room)) = memref(view) else {
        return TeeResult::BAD_PARAMETERS;
    };
    let rest = file.get(at..).unwrap_or_default();
    let found = &rest[..rest.len().min(room)];
    memory::write(address, found);
    let mut param = view.param(1);
    param.b = (found.len() as u64).into();
    view.set_param(1, &param);
    TeeResult::SUCCESS
}

fn write(file: &mut Vec<u8>, view: View, at: usize) -> TeeResult {
    let Some((address, length)) = memref(view) else {
        return TeeResult::BAD_PARAMETERS;
    };
    let end = at.saturating_add(length);
    if end > MOST {
        return TeeResult::OUT_OF_MEMORY;
    }
    file.resize(file.len().max(end), 0);
    memory::read(address, &mut file[at..end]);
    TeeResult::SUCCESS
}
