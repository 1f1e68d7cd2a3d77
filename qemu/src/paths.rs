// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where things are: downloads under `.cache/`, everything built under `out/`, nothing elsewhere
//! (cargo's own `target/` excepted).

use crate::config::Linux;
use crate::prepare::Suite;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// The folders of one checkout.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// The checkout that the current folder is in, or else the one that this program is in.
    ///
    /// # Errors
    /// When neither is a checkout of this project.
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

    /// A checkout at a known place (for tests).
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// The root of the checkout.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the system descriptions are.
    #[must_use]
    pub fn guests(&self) -> PathBuf {
        self.root.join("guests")
    }

    /// Downloads of one suite.
    #[must_use]
    pub fn cache(&self, suite: Suite) -> PathBuf {
        self.root.join(".cache").join(suite.name())
    }

    /// Downloads for guests with one of the suite's kernels.
    #[must_use]
    pub fn guest_cache(&self, suite: Suite, linux: Linux) -> PathBuf {
        of_kernel(self.cache(suite), linux)
    }

    /// OP-TEEs that were built from Debian's source, by version and flags. They stay with the downloads.
    #[must_use]
    pub fn built_optee(&self, suite: Suite) -> PathBuf {
        self.cache(suite).join("optee-built")
    }

    /// What is built.
    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.root.join("out")
    }

    /// Firmware and guest images of one suite.
    #[must_use]
    pub fn built(&self, suite: Suite) -> PathBuf {
        self.out().join("images").join(suite.name())
    }

    /// Images of guests with one of the suite's kernels.
    #[must_use]
    pub fn built_guest(&self, suite: Suite, linux: Linux) -> PathBuf {
        of_kernel(self.built(suite), linux)
    }

    /// The output of the programs that are run on the way.
    #[must_use]
    pub fn build_logs(&self) -> PathBuf {
        self.out().join("logs")
    }

    /// What is made anew for one boot: device tree, logs, reports.
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
