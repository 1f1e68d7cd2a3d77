// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The block device (VIRTIO 1.2, 5.2), read-only.

use crate::mmio::Device;
use crate::queue::{Buffer, Chain, ChainError};
use crate::ram::GuestRam;
use crate::requests::Requests;
use mediator::addr::Ipa;

/// The bytes of a sector, in which the device counts (5.2.4).
pub const SECTOR_BYTES: usize = 512;
/// The most bytes that one request reads: what bounds the time that EL2 spends on it.
const MOST_BYTES: u32 = MOST_SEGMENTS * SEGMENT_BYTES;
/// `seg_max`: the most buffers with data of a request.
const MOST_SEGMENTS: u32 = 16;
/// `size_max`: the most bytes of one of them.
const SEGMENT_BYTES: u32 = 4096;
/// The most descriptors of a request: the data's, the header and the status.
const MOST_BUFFERS: usize = MOST_SEGMENTS as usize + 2;

/// VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_SEG_MAX and VIRTIO_BLK_F_RO.
const FEATURES: u64 = 1 << 1 | 1 << 2 | 1 << 5;

/// The bytes of a request's header: type, reserved, sector (5.2.6).
const HEADER_BYTES: usize = 16;
/// VIRTIO_BLK_T_IN: read.
const IN: u32 = 0;
/// VIRTIO_BLK_T_OUT: write.
const OUT: u32 = 1;
/// VIRTIO_BLK_T_GET_ID.
const GET_ID: u32 = 8;
/// The bytes of the answer to [`GET_ID`], filled up with zeroes.
const ID: [u8; 20] = *b"postern-module\0\0\0\0\0\0";

/// VIRTIO_BLK_S_OK.
const OK: u8 = 0;
/// VIRTIO_BLK_S_IOERR.
const IO_ERROR: u8 = 1;
/// VIRTIO_BLK_S_UNSUPP.
const UNSUPPORTED: u8 = 2;

/// What is on the disk.
pub trait Sectors {
    /// Copies the bytes from `offset` on. The device asks for none behind the last sector.
    fn read(&self, offset: u64, into: &mut [u8; SECTOR_BYTES]);
}

/// The block device.
#[derive(Debug)]
pub struct Blk<S> {
    content: S,
    /// `struct virtio_blk_config`: `capacity`, `size_max`, `seg_max`.
    config: [u8; 16],
    sectors: u64,
}

impl<S: Sectors> Blk<S> {
    /// Returns a disk of this many sectors.
    pub fn new(content: S, sectors: u64) -> Self {
        let mut config = [0; 16];
        let (capacity, limits) = config.split_at_mut(8);
        capacity.copy_from_slice(&sectors.to_le_bytes());
        let (size_max, seg_max) = limits.split_at_mut(4);
        size_max.copy_from_slice(&SEGMENT_BYTES.to_le_bytes());
        seg_max.copy_from_slice(&MOST_SEGMENTS.to_le_bytes());
        Self {
            content,
            config,
            sectors,
        }
    }
}

impl<S> Device for Blk<S> {
    fn id(&self) -> u32 {
        2
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn config(&self) -> &[u8] {
        &self.config
    }
}

impl<S: Sectors> Requests for Blk<S> {
    fn is_ready(&mut self) -> bool {
        true
    }

    fn serve<R: GuestRam>(&mut self, chain: &mut Chain, ram: &R) -> Result<(), ChainError> {
        let request = Request::take(chain, ram)?;
        // The last byte that the device may write to. Without one the driver learns nothing.
        let Some(data) = request.writable_bytes().checked_sub(1) else {
            return Ok(());
        };
        let mut header = [0; HEADER_BYTES];
        let status = match request.read_header(ram, &mut header) {
            Ok(()) => self.answer(&request, header, data, ram),
            Err(_) => Err(IO_ERROR),
        };
        let (status, done) = match status {
            Ok(done) => (OK, done),
            Err(status) => (status, 0),
        };
        request.write(ram, data, &[status])?;
        // The bytes in front of the first that was not written (2.7.8.2).
        chain.set_written(if done == data { done + 1 } else { done });
        Ok(())
    }
}

impl<S: Sectors> Blk<S> {
    /// Answers a request that has room for `data` bytes. Returns how many were written, or the status.
    fn answer(
        &self,
        request: &Request,
        header: [u8; HEADER_BYTES],
        data: u32,
        ram: &impl GuestRam,
    ) -> Result<u32, u8> {
        let header = u128::from_le_bytes(header);
        match header as u32 {
            IN => {
                let first = (header >> 64) as u64;
                let count = u64::from(data / SECTOR_BYTES as u32);
                let is_there = first
                    .checked_add(count)
                    .is_some_and(|end| end <= self.sectors);
                if !is_there || data > MOST_BYTES || !data.is_multiple_of(SECTOR_BYTES as u32) {
                    return Err(IO_ERROR);
                }
                let mut sector = [0; SECTOR_BYTES];
                for (sector_number, at) in (first..).zip((0..data).step_by(SECTOR_BYTES)) {
                    self.content
                        .read(sector_number * SECTOR_BYTES as u64, &mut sector);
                    request.write(ram, at, &sector).map_err(|_| IO_ERROR)?;
                }
                Ok(data)
            }
            GET_ID => {
                let bytes = ID.get(..data.min(ID.len() as u32) as usize);
                let bytes = bytes.unwrap_or_default();
                request.write(ram, 0, bytes).map_err(|_| IO_ERROR)?;
                Ok(bytes.len() as u32)
            }
            // 5.2.6.2: of a disk that is read-only.
            OUT => Err(IO_ERROR),
            _ => Err(UNSUPPORTED),
        }
    }
}

/// The buffers of a request, each fetched once.
struct Request {
    buffers: heapless::Vec<Buffer, MOST_BUFFERS>,
}

impl Request {
    fn take(chain: &mut Chain, ram: &impl GuestRam) -> Result<Self, ChainError> {
        chain.limit(MOST_BUFFERS as u16);
        let mut buffers = heapless::Vec::new();
        while let Some(buffer) = chain.next_buffer(ram)? {
            // There is room for as many as the chain may have.
            let _ = buffers.push(buffer);
        }
        Ok(Self { buffers })
    }

    fn of_kind(&self, is_writable: bool) -> impl Iterator<Item = Buffer> {
        let buffers = self.buffers.iter().copied();
        buffers.filter(move |buffer| buffer.is_writable == is_writable)
    }

    /// Returns the bytes that the device may write. More than fit into 32 bits are as good as that.
    fn writable_bytes(&self) -> u32 {
        let bytes = self.of_kind(true).map(|buffer| buffer.bytes);
        bytes.fold(0, u32::saturating_add)
    }

    /// Copies the header, which may be in several buffers.
    fn read_header(
        &self,
        ram: &impl GuestRam,
        into: &mut [u8; HEADER_BYTES],
    ) -> Result<(), ChainError> {
        let mut rest = &mut into[..];
        for buffer in self.of_kind(false) {
            let bytes = rest.len().min(buffer.bytes as usize);
            let (here, behind) = rest.split_at_mut(bytes);
            ram.read(buffer.start, here)
                .map_err(|_| ChainError::Buffer)?;
            rest = behind;
        }
        match rest {
            [] => Ok(()),
            _ => Err(ChainError::Buffer),
        }
    }

    /// Copies to the buffers that the device may write, from byte `offset` of them on. There is room for all.
    fn write(&self, ram: &impl GuestRam, offset: u32, bytes: &[u8]) -> Result<(), ChainError> {
        let mut rest = bytes;
        let mut skip = offset;
        for buffer in self.of_kind(true) {
            if skip >= buffer.bytes {
                skip -= buffer.bytes;
                continue;
            }
            let room = buffer.bytes - skip;
            let (here, behind) = rest.split_at(rest.len().min(room as usize));
            if !here.is_empty() {
                let start = buffer.start.checked_add(skip.into());
                ram.write(start.unwrap_or(Ipa::new(u64::MAX)), here)
                    .map_err(|_| ChainError::Buffer)?;
            }
            rest = behind;
            skip = 0;
        }
        match rest {
            [] => Ok(()),
            _ => Err(ChainError::Buffer),
        }
    }
}
