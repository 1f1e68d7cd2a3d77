// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tree of files that an initramfs is made of.

use crate::elf;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;

/// The content of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File { mode: u32, data: Vec<u8> },
    Link { target: String },
    CharacterDevice { major: u32, minor: u32 },
}

/// A tree of files, by path without a leading slash. The order of the paths puts parents first.
#[derive(Debug, Default)]
pub(super) struct RootFs {
    nodes: BTreeMap<String, Node>,
}

/// The tools for a person at a guest's shell. The agent itself needs only `sh`.
const APPLETS: &str = "ash awk base64 cat chmod chroot clear cp cut date dd df dmesg du echo env \
    expr false find free grep gunzip gzip head hexdump hostname id ifconfig insmod kill killall less \
    ln ls lsmod md5sum mkdir mknod mount mv nproc ping poweroff printf ps pwd reboot reset rm rmdir \
    rmmod sed seq sh sha256sum sleep sort stat strings stty sync tail tar taskset tee test time \
    timeout top touch tr true tty umount uname uniq uptime vi watch wc which xargs xxd yes";

impl RootFs {
    /// Returns the folders, links and devices that every system has.
    pub(super) fn skeleton() -> Self {
        let mut root = Self::default();
        for folder in ["dev", "etc", "proc", "root", "run", "sys", "tmp", "var"] {
            root.folder(folder);
        }
        for name in ["bin", "lib", "sbin"] {
            root.folder(&format!("usr/{name}"));
            root.link(name, &format!("usr/{name}"));
        }
        // The kernel opens the console for the first process before anything mounts a file system
        // on /dev.
        let console = Node::CharacterDevice { major: 5, minor: 1 };
        root.nodes.insert("dev/console".into(), console);
        root.file("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n".to_vec());
        root.file("etc/group", 0o644, b"root:x:0:\n".to_vec());
        root.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n".to_vec());
        root
    }

    fn folder(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent);
        }
        self.nodes.entry(path.into()).or_insert(Node::Directory);
    }

    fn insert(&mut self, path: &str, node: Node) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent);
        }
        self.nodes.insert(path.into(), node);
    }

    /// Adds a file.
    pub(super) fn file(&mut self, path: &str, mode: u32, data: Vec<u8>) {
        self.insert(path, Node::File { mode, data });
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        let target = target.into();
        self.insert(path, Node::Link { target });
    }

    /// Returns whether a path exists.
    pub(super) fn has(&self, path: &str) -> bool {
        self.nodes.contains_key(path)
    }

    /// Returns all entries, parents first.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Adds the links to busybox.
    pub(super) fn busybox_links(&mut self) {
        for name in APPLETS.split_whitespace() {
            let path = format!("usr/bin/{name}");
            if !self.has(&path) {
                self.link(&path, "busybox");
            }
        }
    }

    /// Copies from `libraries` the libraries that the programs here are linked with, their own
    /// dependencies, and the links that lead to them.
    pub(super) fn link_libraries(&mut self, libraries: &RootFs, folder: &str) -> Result<()> {
        let mut wanted: Vec<(String, String)> = Vec::new();
        for (path, node) in self.entries() {
            if let Node::File { data, .. } = node
                && data.starts_with(b"\x7fELF")
                && !path.starts_with("modules/")
            {
                for name in elf::needed(data).with_context(|| path.to_owned())? {
                    wanted.push((name, path.to_owned()));
                }
            }
        }
        while let Some((name, by)) = wanted.pop() {
            let path = format!("{folder}{name}");
            if self.has(&path) {
                continue;
            }
            match libraries.nodes.get(&path) {
                Some(Node::Link { target }) => {
                    let target_name = target.rsplit('/').next().unwrap_or(target).to_owned();
                    self.link(&path, &target_name);
                    wanted.push((target_name, by));
                }
                Some(Node::File { mode, data }) => {
                    for next in elf::needed(data).with_context(|| path.clone())? {
                        wanted.push((next, path.clone()));
                    }
                    self.file(&path, *mode, data.clone());
                }
                _ => bail!("{by} is linked with {name}, which no fetched package has"),
            }
        }
        // Programs name their loader by this path.
        let loader = "ld-linux-aarch64.so.1";
        if self.has(&format!("{folder}{loader}")) {
            let folder = folder.trim_start_matches("usr/lib/");
            self.link(&format!("usr/lib/{loader}"), &format!("{folder}{loader}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_library_of_program_is_an_error() {
        // A real program of the machine that the test runs on: this test.
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let names = elf::needed(&program).unwrap();
        assert!(!names.is_empty());
        let mut libraries = RootFs::default();
        for name in &names {
            // A kernel module stands for a library without dependencies.
            libraries.link(&format!("lib/{name}"), &format!("{name}.real"));
            libraries.file(&format!("lib/{name}.real"), 0o644, tiny_elf());
        }
        let mut root = RootFs::default();
        root.file("usr/bin/program", 0o755, program);
        root.link_libraries(&libraries, "lib/").unwrap();
        for name in &names {
            assert!(root.has(&format!("lib/{name}")) && root.has(&format!("lib/{name}.real")));
        }
        let mut lacking = root;
        lacking.nodes.retain(|path, _| path == "usr/bin/program");
        let error = lacking
            .link_libraries(&RootFs::default(), "lib/")
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("usr/bin/program is linked with"),
            "{error}"
        );
    }

    /// Returns an ELF header and nothing more.
    fn tiny_elf() -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(64, 0);
        file[52] = 64;
        file
    }
}
