// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which files the VMs of a system boot: those that the description names, else Debian's kernel and
//! the tool's RAM disk.

use super::{GUEST_TARGET, Suite, build_program};
use crate::cargo;
use crate::config::{Linux, TeeAbi, Vm};
use crate::guest_image::{self, Drivers, GuestImage};
use crate::parts::{self, Parts};
use crate::paths::Paths;
use crate::progress::Progress;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The files of the guests that have none of their own.
pub(crate) struct Guests<'a> {
    paths: &'a Paths,
    standard: GuestImage,
    rt: GuestImage,
    /// All trusted applications: the RAM disk of a program.
    applications: PathBuf,
}

impl<'a> Guests<'a> {
    /// Builds what the VMs need, with these drivers, from `parts` of the suite.
    pub(crate) fn build(
        paths: &'a Paths,
        suite: Suite,
        vms: &[Vm],
        drivers: Drivers,
        parts: &Parts,
        update: bool,
        progress: &Progress,
    ) -> Result<Self> {
        let agent = cargo::build(paths, "guest-agent", GUEST_TARGET, progress)?;
        let build = |linux, parts: &_| {
            guest_image::build(paths, suite, linux, drivers, parts, &agent, progress)
        };
        let standard = build(Linux::Standard, parts)?;
        let rt = if vms.iter().any(wants_rt) {
            let parts = fetch(paths, suite, Linux::Rt, drivers.abi, update, progress)?;
            build(Linux::Rt, &parts)?
        } else {
            standard.clone()
        };
        Ok(Self {
            paths,
            standard,
            rt,
            applications: guest_image::applications(paths, suite, parts, progress)?,
        })
    }

    /// The release of Debian's kernel, as `uname -r` says it.
    pub(crate) fn release(&self) -> &str {
        &self.standard.release
    }

    /// What a VM boots.
    pub(crate) fn kernel(&self, vm: &Vm, progress: &Progress) -> Result<PathBuf> {
        match (&vm.program, &vm.kernel) {
            (Some(name), _) => build_program(self.paths, name, progress)
                .map(|program| program.image)
                .with_context(|| format!("vm \"{}\"", vm.name)),
            (None, Some(kernel)) => Ok(kernel.clone()),
            (None, None) => Ok(self.image(vm).kernel.clone()),
        }
    }

    /// A VM's RAM disk; `devices` tells whether it needs drivers for devices, links or a virtio disk.
    pub(crate) fn initrd(&self, vm: &Vm, devices: bool) -> PathBuf {
        let image = self.image(vm);
        let own = match (&vm.program, &image.devices) {
            (Some(_), _) => &self.applications,
            (None, Some(image)) if devices => &image.initrd,
            (None, _) => &image.initrd,
        };
        vm.initrd.clone().unwrap_or_else(|| own.clone())
    }

    /// The root file system of a VM on a disk, an ext4 image.
    pub(crate) fn root(&self, vm: &Vm) -> Option<&Path> {
        Some(&self.image(vm).devices.as_ref()?.root)
    }

    fn image(&self, vm: &Vm) -> &GuestImage {
        if wants_rt(vm) {
            &self.rt
        } else {
            &self.standard
        }
    }
}

/// Returns the parts of a suite with a kernel that has the ABI.
///
/// # Errors
/// Fails when a part cannot be fetched.
pub(super) fn fetch(
    paths: &Paths,
    suite: Suite,
    linux: Linux,
    abi: TeeAbi,
    update: bool,
    progress: &Progress,
) -> Result<Parts> {
    let parts = parts::fetch(paths, suite, linux, update, progress)?;
    match abi {
        TeeAbi::Smc => Ok(parts),
        TeeAbi::Ffa => parts::with_ffa(parts, paths, suite, linux, update, progress),
    }
}

fn wants_rt(vm: &Vm) -> bool {
    vm.program.is_none() && vm.kernel.is_none() && vm.linux == Linux::Rt
}
