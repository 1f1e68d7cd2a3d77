// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A VM as an endpoint of the framework.

use super::buffers::Buffers;
use super::features;
use super::negotiation::Negotiation;
use super::partitions::Partitions;
use crate::addr::Ipa;
use crate::host::Host;
use crate::sync::{AtomicU32, Ordering, TicketMutex};
use alloc::vec::Vec;
use ffa_proto::answer::{refusal, success, version};
use ffa_proto::call::IdAnswer;
use ffa_proto::partition::PartitionInfo;
use ffa_proto::{EndpointId, ErrorCode, Function, FunctionId, Registers, Request, Version};

/// What a VM is for the framework, and what it sees of it.
#[derive(Clone, Debug)]
pub struct VmEndpointConfig {
    /// The VM's id.
    pub id: EndpointId,
    /// The SPMC's id.
    pub spm: EndpointId,
    /// The partitions that the VM may see.
    pub partitions: Vec<PartitionInfo>,
}

/// A VM as an endpoint of the framework.
///
/// Its calls keep to what belongs to the VM: each is answered from private memory or from the VM's own, and none takes
/// longer than it takes to pin or unpin 32 pages.
#[derive(Debug)]
pub struct VmEndpoint {
    id: EndpointId,
    spm: EndpointId,
    partitions: Partitions,
    negotiation: TicketMutex<Negotiation>,
    /// The version that the guest has fixed, as [`Version::to_w`]; zero before. So that most calls need no lock.
    fixed: AtomicU32,
    buffers: Buffers,
}

impl VmEndpoint {
    /// Returns the endpoint of a VM that does not run yet.
    pub fn new(config: VmEndpointConfig) -> Self {
        Self {
            id: config.id,
            spm: config.spm,
            partitions: Partitions::new(config.partitions),
            negotiation: TicketMutex::new(Negotiation::default()),
            fixed: AtomicU32::new(0),
            buffers: Buffers::new(),
        }
    }

    /// Returns the VM's id.
    pub(super) const fn id(&self) -> EndpointId {
        self.id
    }

    /// Returns whether the VM sees a partition.
    pub(super) fn sees(&self, partition: EndpointId) -> bool {
        self.partitions.contains(partition)
    }

    /// Returns the guest's TX buffer and its size in bytes, if it has registered one.
    pub(super) fn tx(&self) -> Option<(Ipa, u64)> {
        self.buffers.tx()
    }

    /// Returns whether a function is the framework's.
    pub const fn owns(function: FunctionId) -> bool {
        function.is_ffa()
    }

    /// Answers a call from the guest, whose x0..x17 are `call`.
    ///
    /// The hypervisor passes on every call whose function [`VmEndpoint::owns`]. A call or an answer by SMC32 leaves the
    /// guest's x8..x17 as they are. Several vCPUs may be in here at once.
    pub fn call<H: Host>(&self, host: &H, call: &Registers) -> Registers {
        let id = call.id();
        let answer = match id.function().filter(|_| id.is_defined(Version::V1_2)) {
            Some(Function::Version) => self.version(call),
            Some(_) => self.after_negotiation(host, call),
            None => Err(ErrorCode::NOT_SUPPORTED),
        };
        answer.unwrap_or_else(|code| refusal(id, code))
    }

    /// Forgets what the guest has done, and unpins its buffers. The VM has ended: no vCPU is in [`VmEndpoint::call`].
    pub fn reset<H: Host>(&self, host: &H) {
        // Fails where there are no buffers.
        let _ = self.buffers.unmap(host);
        *self.negotiation.lock() = Negotiation::default();
        self.fixed.store(0, Ordering::Relaxed);
    }

    pub(super) fn version(&self, call: &Registers) -> Result<Registers, ErrorCode> {
        // Whatever else a later version has in the other registers, it must get an answer.
        let [x0, x1, ..] = call.to_8();
        let call = Registers::from_8([x0, x1, 0, 0, 0, 0, 0, 0]);
        match Request::decode(&call, Version::V1_2) {
            Ok(Request::Version(w1)) => Ok(version(self.negotiation.lock().ask(w1))),
            _ => Err(ErrorCode::NOT_SUPPORTED),
        }
    }

    fn after_negotiation<H: Host>(
        &self,
        host: &H,
        call: &Registers,
    ) -> Result<Registers, ErrorCode> {
        let version = self.fixed_version()?;
        let request = Request::decode(call, version).map_err(|error| error.code())?;
        self.serve(host, &request, version, false)
    }

    /// Returns the version that the guest has agreed on, which stays.
    #[inline]
    pub(super) fn fixed_version(&self) -> Result<Version, ErrorCode> {
        match self.fixed.load(Ordering::Relaxed) {
            0 => self.fix_version(),
            word => Version::from_w(word).ok_or(ErrorCode::NOT_SUPPORTED),
        }
    }

    #[cold]
    fn fix_version(&self) -> Result<Version, ErrorCode> {
        let mut negotiation = self.negotiation.lock();
        let version = negotiation.fix().ok_or(ErrorCode::NOT_SUPPORTED)?;
        self.fixed.store(version.to_w(), Ordering::Relaxed);
        Ok(version)
    }

    pub(super) fn serve<H: Host>(
        &self,
        host: &H,
        request: &Request,
        version: Version,
        notifies: bool,
    ) -> Result<Registers, ErrorCode> {
        match request {
            Request::IdGet => Ok(IdAnswer(self.id).encode()),
            Request::SpmIdGet => Ok(IdAnswer(self.spm).encode()),
            Request::Features(query) => features::answer(query, version, notifies)
                .map(|answer| answer.encode())
                .ok_or(ErrorCode::NOT_SUPPORTED),
            Request::RxtxMap(map) => self.buffers.map(host, map).map(|()| success()),
            // Only a hypervisor names the VM, but version 1.0 lets a VM name itself.
            Request::RxtxUnmap(vm) if self.is_own_or_zero(*vm) => {
                self.buffers.unmap(host).map(|()| success())
            }
            Request::RxRelease(vm) if self.is_own_or_zero(*vm) => {
                self.buffers.release_rx().map(|()| success())
            }
            Request::RxtxUnmap(_) | Request::RxRelease(_) => Err(ErrorCode::INVALID_PARAMETERS),
            Request::PartitionInfoGet(get) => {
                let answer = self.partitions.get(host, &self.buffers, get, version);
                answer.map(|answer| answer.encode())
            }
            Request::PartitionInfoGetRegs(get) => {
                let answer = self.partitions.get_by_registers(get);
                answer.map(|answer| answer.encode())
            }
            _ => Err(ErrorCode::NOT_SUPPORTED),
        }
    }

    fn is_own_or_zero(&self, vm: EndpointId) -> bool {
        vm == self.id || vm == EndpointId::HYPERVISOR
    }
}
