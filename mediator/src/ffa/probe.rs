// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The probe of the SPMC, once at boot, before any VM exists.

use super::spmc::{ExchangeBuffers, Spmc};
use crate::host::SecureMonitor;
use crate::tee_info::TeeInfo;
use alloc::vec::Vec;
use ffa_proto::call::{
    DirectAnswer, DirectMessage, FeatureId, FeatureQuery, Features, FeaturesAnswer, IdAnswer,
    PartitionInfoAnswer, PartitionInfoGet, Payload, RxtxMap,
};
use ffa_proto::partition::{PartitionInfo, PartitionInfos, PartitionProperties};
use ffa_proto::{
    AnswerError, EndpointId, Function, FunctionId, Registers, Request, Uuid, Version, Width, answer,
};
use optee_proto::caps::SecureCaps;
use optee_proto::ffa::{self, API_VERSION, Capabilities, Service, Words};
use thiserror::Error;

/// Number of calls that a VM can have in flight. OP-TEE does not say over FF-A how many threads it has; without a free one it
/// answers that it is busy, and the guest tries again. Each call costs one of the 63 objects of a VM.
const CALLS: u32 = 8;

/// The VM for which OP-TEE is asked at boot: a virtualised one answers no service of a VM that it does not know. No VM of the
/// hypervisor's has this id, and this one has ended before they begin.
const PROBER: EndpointId = EndpointId::new(0x7fff);

/// The most partitions of which the hypervisor reads descriptions.
const MAX_PARTITIONS: u32 = 64;

/// Functions of the SPMC without which VMs cannot use OP-TEE.
const NEEDED: [Function; 6] = [
    Function::RxtxMap,
    Function::RxRelease,
    Function::PartitionInfoGet,
    Function::MsgSendDirectReq,
    Function::MemShare,
    Function::MemReclaim,
];

/// Why the TEE cannot be shared over FF-A. Each text says what is wrong and what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ProbeError {
    /// The firmware does not speak FF-A.
    #[error("the firmware does not speak FF-A: build TF-A with SPD=spmd, or OP-TEE for SPD=opteed")]
    Absent,
    /// The firmware speaks a version that is too old.
    #[error(
        "the firmware speaks version {0:?} of FF-A, not 1.1 or later: set min_ver in the SPMC's manifest"
    )]
    Version(Version),
    /// The SPMC has no such function.
    #[error("the SPMC does not have {0:?}")]
    Missing(Function),
    /// The SPMC refuses a call at boot, or answers nonsense.
    #[error("the SPMC's answer to {0:?} is of no use: {1}")]
    Answer(Function, AnswerError),
    /// No partition is OP-TEE.
    #[error("no partition of the SPMC is OP-TEE: build OP-TEE with CFG_CORE_SEL1_SPMC=y")]
    NoOptee,
    /// OP-TEE is not built for several guests.
    #[error("OP-TEE is not virtualised: build it with CFG_NS_VIRTUALIZATION=y")]
    NotVirtualised,
    /// OP-TEE speaks another version of its API.
    #[error("OP-TEE speaks version {0}.{1} of its API over FF-A, not 1.0: use OP-TEE 4.x")]
    Api(u32, u32),
    /// OP-TEE has no room for RPC messages behind a message.
    #[error("OP-TEE has room for {0} parameters in RPC messages, not 4: use OP-TEE 4.x")]
    RpcParameters(u8),
}

/// Calls the SPMC at boot.
struct Boot<'a, M> {
    monitor: &'a M,
    version: Version,
}

impl<M: SecureMonitor> Boot<'_, M> {
    fn call(&self, request: &Request) -> Registers {
        Registers::from_8(self.monitor.smc(request.encode().to_8()))
    }

    /// Returns w2 of the answer to FEATURES, or `None` without the feature.
    fn feature(&self, query: FeatureQuery) -> Option<u32> {
        let request = Request::Features(Features {
            query,
            properties: 0,
        });
        let answer = FeaturesAnswer::read(&self.call(&request), self.version);
        answer.ok().map(|answer| answer.w2)
    }

    /// Asks OP-TEE's partition for a service that is answered at once.
    fn service(&self, tee: EndpointId, service: Service) -> Result<Words, AnswerError> {
        let message = DirectMessage {
            source: PROBER,
            destination: tee,
            framework: None,
            payload: Payload::Smc32([service.get(), 0, 0, 0, 0]),
        };
        let answer = self.call(&Request::DirectRequest(message));
        match message.read_answer(&answer, self.version)? {
            DirectAnswer::Message(Payload::Smc32(words)) => Ok(words),
            _ => Err(AnswerError::Unexpected(answer.id())),
        }
    }
}

/// Asks the SPMC what it is, and registers the buffers with it. `read_rx` copies out of the RX buffer, from an offset.
///
/// Makes only calls that are safe before any VM exists. It is called once: the buffers stay with the SPMC.
///
/// # Errors
/// When the TEE is none that VMs can use over FF-A; see [`ProbeError`].
pub fn probe<M: SecureMonitor>(
    monitor: &M,
    buffers: ExchangeBuffers,
    read_rx: impl Fn(usize, &mut [u8]),
) -> Result<(TeeInfo, Spmc), ProbeError> {
    let boot = Boot {
        monitor,
        version: Version::V1_2,
    };
    let found = answer::read_version(&boot.call(&Request::Version(Version::V1_2.to_w())));
    let found = found.map_err(|_| ProbeError::Absent)?;
    if found < Version::V1_1 || found.common(Version::V1_2).is_none() {
        return Err(ProbeError::Version(found));
    }
    let boot = Boot {
        version: found.min(Version::V1_2),
        ..boot
    };
    let function = |function| FeatureQuery::Function(FunctionId::new(function, Width::Smc32));
    if let Some(&missing) = NEEDED
        .iter()
        .find(|&&needed| boot.feature(function(needed)).is_none())
    {
        return Err(ProbeError::Missing(missing));
    }
    let spm = boot.call(&Request::SpmIdGet);
    let spm = IdAnswer::read(&spm, boot.version)
        .map_err(|error| ProbeError::Answer(Function::SpmIdGet, error))?;

    let map = Request::RxtxMap(RxtxMap {
        width: Width::Smc64,
        tx: buffers.tx.get(),
        rx: buffers.rx.get(),
        pages: buffers.pages,
    });
    answer::read_success(&boot.call(&map), boot.version)
        .map_err(|error| ProbeError::Answer(Function::RxtxMap, error))?;
    let partitions = read_partitions(&boot, &buffers, read_rx)?;
    let optee = Uuid::new(ffa::PARTITION.0);
    let mut tees = partitions;
    tees.retain(|info| info.uuid == optee);
    if tees.is_empty() {
        return Err(ProbeError::NoOptee);
    }
    let hears_of_vms = PartitionProperties::VM_CREATED | PartitionProperties::VM_DESTROYED;
    tees.retain(|info| info.properties.contains(hears_of_vms));
    let tee = tees.first().ok_or(ProbeError::NotVirtualised)?.id;
    let told = |message: DirectMessage| {
        let answer = boot.call(&Request::DirectRequest(message));
        let read = message.read_vm_answer(&answer, boot.version);
        read.map_err(|error| ProbeError::Answer(Function::MsgSendDirectReq, error))
    };
    told(DirectMessage::vm_created(tee, PROBER))?;
    let info = ask_tee(&boot, tee);
    told(DirectMessage::vm_destroyed(tee, PROBER))?;
    let info = info?;
    let schedule_receiver = boot.feature(FeatureQuery::Feature(
        FeatureId::SCHEDULE_RECEIVER_INTERRUPT,
    ));
    let spmc = Spmc::new(
        boot.version,
        spm.0,
        tees,
        buffers,
        schedule_receiver.filter(|&intid| intid < 16),
    );
    Ok((info, spmc))
}

/// Reads the descriptions of all partitions, and gives the RX buffer back.
fn read_partitions<M: SecureMonitor>(
    boot: &Boot<'_, M>,
    buffers: &ExchangeBuffers,
    read_rx: impl Fn(usize, &mut [u8]),
) -> Result<Vec<PartitionInfo>, ProbeError> {
    let wrong = |error| ProbeError::Answer(Function::PartitionInfoGet, error);
    let all = Request::PartitionInfoGet(PartitionInfoGet {
        uuid: Uuid::NIL,
        count_only: false,
    });
    let answer = PartitionInfoAnswer::read(&boot.call(&all), boot.version);
    let result = answer.map_err(wrong).and_then(|answer| {
        let count = answer.count.min(MAX_PARTITIONS);
        let bytes = u64::from(answer.size).saturating_mul(count.into());
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut records = alloc::vec![0; bytes.min(buffers.bytes())];
        read_rx(0, &mut records);
        let infos = PartitionInfos::new(&records, boot.version, count, answer.size);
        infos
            .map(Iterator::collect)
            .map_err(|_| wrong(AnswerError::Value { register: 3 }))
    });
    // OP-TEE 4.10 has taken the buffer away even where it has refused.
    let release = boot.call(&Request::RxRelease(EndpointId::HYPERVISOR));
    if result.is_ok() {
        answer::read_success(&release, boot.version)
            .map_err(|error| ProbeError::Answer(Function::RxRelease, error))?;
    }
    result
}

/// Asks OP-TEE what it is.
fn ask_tee<M: SecureMonitor>(boot: &Boot<'_, M>, tee: EndpointId) -> Result<TeeInfo, ProbeError> {
    let ask = |service| {
        let answer = boot.service(tee, service);
        answer.map_err(|error| ProbeError::Answer(Function::MsgSendDirectReq, error))
    };
    let [major, minor, ..] = ask(Service::GET_API_VERSION)?;
    if major != API_VERSION.0 {
        return Err(ProbeError::Api(major, minor));
    }
    let [major, minor, build, ..] = ask(Service::GET_OS_VERSION)?;
    let capabilities = Capabilities::read(&ask(Service::EXCHANGE_CAPABILITIES)?);
    let capabilities = capabilities.map_err(|_| {
        let error = AnswerError::Value { register: 3 };
        ProbeError::Answer(Function::MsgSendDirectReq, error)
    })?;
    if usize::from(capabilities.rpc_params) != optee_proto::rpc::MAX_PARAMS {
        return Err(ProbeError::RpcParameters(capabilities.rpc_params));
    }
    let mut caps = SecureCaps::DYNAMIC_SHM | SecureCaps::VIRTUALIZATION | SecureCaps::RPC_ARG;
    let notifies = capabilities.caps.contains(ffa::SecureCaps::ASYNC_NOTIF);
    caps.set(SecureCaps::ASYNC_NOTIF, notifies);
    let probes_rpmb = capabilities.caps.contains(ffa::SecureCaps::RPMB_PROBE);
    caps.set(SecureCaps::RPMB_PROBE, probes_rpmb);
    Ok(TeeInfo {
        major,
        minor,
        build,
        virtualised: true,
        caps,
        max_notif: capabilities.max_notification,
        rpc_params: capabilities.rpc_params.into(),
        threads: CALLS,
        over_ffa: true,
        static_tables: false,
    })
}
