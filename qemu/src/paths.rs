// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The folders of a checkout: downloads are in `.cache/`, everything that is built is in `out/`
//! (except cargo's own `target/`).

use crate::config::{Linux, TeeAbi};
use crate::prepare::Suite;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// The folders of one checkout.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// Finds the checkout that the current folder is in, or the one that this program is in.
    ///
    /// # Errors
    /// Fails when neither is a checkout of this project.
    pub fn discover() -> Result<Self> {
        let current = std::env::current_dir().context("the current folder cannot be read")?;
        let program = std::env::current_exe().unwrap_or_default();
        let found = current
            .ancestors()
            .chain(program.ancestors())
            .find(|folder| folder.join("guests").is_dir() && folder.join("hypervisor").is_dir());
        match found {
            Some(root) => Ok(Self { root: root.into() }),
            None => bail!(
                "{} is not inside a checkout of Postern; change into one",
                current.display()
            ),
        }
    }

    /// Returns a checkout at a known place (for tests).
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// Returns the root of the checkout.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the folder of the system descriptions.
    #[must_use]
    pub fn guests(&self) -> PathBuf {
        self.root.join("guests")
    }

    /// Returns the folder of one suite's downloads.
    #[must_use]
    pub fn cache(&self, suite: Suite) -> PathBuf {
        self.root.join(".cache").join(suite.name())
    }

    /// Returns the folder of downloads for guests with one of the suite's kernels.
    #[must_use]
    pub fn guest_cache(&self, suite: Suite, linux: Linux) -> PathBuf {
        of_kernel(self.cache(suite), linux)
    }

    /// Returns the folder of downloads of a kernel from the suite's backports.
    #[must_use]
    pub fn backports(&self, suite: Suite, linux: Linux) -> PathBuf {
        of_kernel(self.cache(suite).join("backports"), linux)
    }

    /// Returns the folder of OP-TEEs built from Debian's source, by version and flags. They are
    /// kept with the downloads.
    #[must_use]
    pub fn built_optee(&self, suite: Suite) -> PathBuf {
        self.cache(suite).join("optee-built")
    }

    /// Returns the folder of everything that is built.
    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.root.join("out")
    }

    /// Returns the folder of one suite's firmware and guest images.
    #[must_use]
    pub fn built(&self, suite: Suite) -> PathBuf {
        self.out().join("images").join(suite.name())
    }

    /// Returns the folder of images for guests with one of the suite's kernels, which reach OP-TEE
    /// by this ABI.
    #[must_use]
    pub fn built_guest(&self, suite: Suite, linux: Linux, abi: TeeAbi) -> PathBuf {
        let folder = match abi {
            TeeAbi::Smc => self.built(suite),
            TeeAbi::Ffa => self.built(suite).join("ffa"),
        };
        of_kernel(folder, linux)
    }

    /// Returns the folder of the build logs.
    #[must_use]
    pub fn build_logs(&self) -> PathBuf {
        self.out().join("logs")
    }

    /// Returns a folder for the files of one boot: device tree, logs, reports.
    #[must_use]
    pub fn run(&self, name: &str) -> PathBuf {
        self.out().join(name)
    }
}

fn of_kernel(folder: PathBuf, linux: Linux) -> PathBuf {
    match linux {
        Linux::Standard => folder,
        Linux::Rt => folder.join("rt"),
    }
}
