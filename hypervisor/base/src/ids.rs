// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Indices of VMs, vCPUs and physical CPUs, which cannot be mixed up.

/// The most VMs that can be started.
pub const MAX_VMS: usize = 8;
/// The most vCPUs of one VM.
pub const MAX_VCPUS: usize = 8;
/// The most vCPUs of all VMs together.
pub const MAX_VCPUS_OF_ALL: usize = MAX_VMS * MAX_VCPUS;
/// The most physical CPUs that are used.
pub const MAX_PCPUS: usize = 8;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident, $limit:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u8);

        impl $name {
            /// Returns the index with this value; `None` where it is beyond the limit.
            #[inline]
            pub const fn new(index: usize) -> Option<Self> {
                if index < $limit {
                    Some(Self(index as u8))
                } else {
                    None
                }
            }

            /// Returns the index, to look something up with.
            #[inline]
            pub const fn get(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index!(
    /// A VM, in the order of the boot tree, from 0; below [`MAX_VMS`].
    VmIndex, MAX_VMS
);
index!(
    /// A vCPU of some VM, from 0: its Aff0 in MPIDR_EL1; below [`MAX_VCPUS`].
    VcpuIndex, MAX_VCPUS
);
index!(
    /// A physical CPU, in the order of the device tree, from 0; below [`MAX_PCPUS`].
    PcpuIndex, MAX_PCPUS
);

impl PcpuIndex {
    /// The pCPU that the machine starts with.
    pub const BOOT: Self = Self(0);
}

impl VcpuIndex {
    /// The vCPU that a VM starts with.
    pub const BOOT: Self = Self(0);
}

/// The identity of a vCPU among all VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuId {
    /// The VM of the vCPU.
    pub vm: VmIndex,
    /// The vCPU within its VM.
    pub vcpu: VcpuIndex,
}

/// A set of physical CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct PcpuSet(u64);

impl PcpuSet {
    /// No CPU.
    pub const EMPTY: Self = Self(0);
    /// Every CPU that there may be.
    pub const ALL: Self = Self(u64::MAX);

    /// Returns the set with `pcpu` added.
    #[must_use]
    #[inline]
    pub const fn with(self, pcpu: PcpuIndex) -> Self {
        Self(self.0 | 1 << pcpu.0)
    }

    /// Returns the set without `pcpu`.
    #[must_use]
    #[inline]
    pub const fn without(self, pcpu: PcpuIndex) -> Self {
        Self(self.0 & !(1 << pcpu.0))
    }

    /// Returns whether `pcpu` is in the set.
    #[inline]
    pub const fn contains(self, pcpu: PcpuIndex) -> bool {
        self.0 >> pcpu.0 & 1 == 1
    }

    /// Returns the CPUs of the set with an index below [`MAX_PCPUS`].
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = PcpuIndex> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let first = PcpuIndex::new(left.trailing_zeros() as usize)?;
            left &= left.wrapping_sub(1);
            Some(first)
        })
    }

    /// Returns the CPUs in one of the sets or in both.
    #[must_use]
    #[inline]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the CPUs in both sets.
    #[must_use]
    #[inline]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns whether no CPU is in the set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
