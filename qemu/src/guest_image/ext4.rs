// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Makes an ext4 file system of a tree of files, with e2fsprogs.

use super::rootfs::{Node, RootFs};
use crate::stamp;
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

/// The free room of the file system in bytes.
const FREE: u64 = 192 << 20;

/// Makes the file `image`. Everything in it belongs to root.
///
/// # Errors
/// Fails when there is no room, or `mke2fs` cannot be run.
pub(super) fn make(root: &RootFs, image: &Path) -> Result<()> {
    let folder = image.parent().context("a file has a folder")?;
    std::fs::create_dir_all(folder)?;
    let files = tempfile::tempdir_in(folder)?;
    let bytes = unpack(root, files.path())?;
    stamp::write(image, b"")?;
    // Half as much again for blocks that are not full and for what describes them.
    let blocks = (bytes + bytes / 2 + FREE) >> 10;
    run(
        Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-E", "root_owner=0:0", "-d"])
            .arg(files.path())
            .arg(image)
            .arg(format!("{blocks}k")),
        "",
    )?;
    if std::fs::metadata(files.path())?.uid() != 0 {
        run(
            Command::new("debugfs").args(["-w", "-f", "-"]).arg(image),
            &owned_by_root(root),
        )?;
    }
    Ok(())
}

/// Writes the tree into a folder; returns its size in bytes. Devices are left out: the kernel makes
/// them.
fn unpack(root: &RootFs, folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for (path, node) in root.entries() {
        let place = folder.join(path);
        let done = match node {
            Node::Directory => std::fs::create_dir(&place),
            Node::File { mode, data } => {
                bytes += data.len() as u64;
                std::fs::write(&place, data).and_then(|()| {
                    std::fs::set_permissions(&place, PermissionsExt::from_mode(*mode))
                })
            }
            Node::Link { target } => symlink(target, &place),
            Node::CharacterDevice { .. } => Ok(()),
        };
        done.with_context(|| place.display().to_string())?;
    }
    Ok(bytes)
}

/// Returns the commands of `debugfs` that make root the owner of everything.
fn owned_by_root(root: &RootFs) -> String {
    let mut commands = String::new();
    let entries = root.entries();
    for (path, _) in entries.filter(|(_, node)| !matches!(node, Node::CharacterDevice { .. })) {
        for field in ["uid", "gid"] {
            let _ = writeln!(commands, "set_inode_field \"/{path}\" {field} 0");
        }
    }
    commands
}

fn run(command: &mut Command, input: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    // Debian has them in a folder that is not in every user's path.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let mut child = command
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| {
            format!("{program} cannot be run; `make setup` installs e2fsprogs, which has it")
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // The program's own message says more than this error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_system_has_files_of_root() {
        let mut root = RootFs::skeleton();
        root.file("usr/bin/tool", 0o755, b"abc".to_vec());
        root.link("usr/bin/other", "tool");
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("root.ext4");
        make(&root, &image).unwrap();
        let ask = |question: &str| {
            let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
            let output = Command::new("debugfs")
                .env("PATH", path)
                .args(["-R", question])
                .arg(&image)
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        assert_eq!(ask("cat /usr/bin/tool"), "abc");
        let about = ask("stat /usr/bin/tool");
        assert!(about.contains("Mode:  0755"), "{about}");
        assert!(about.contains("User:     0   Group:     0"), "{about}");
        assert!(ask("stat /usr/bin/other").contains("Fast link dest: \"tool\""));
        // Whoever runs the test, these are the commands that mend the owner.
        let commands = owned_by_root(&root);
        assert!(commands.contains("set_inode_field \"/usr/bin/tool\" uid 0\n"));
        run(
            Command::new("debugfs").args(["-w", "-f", "-"]).arg(&image),
            "set_inode_field \"/usr/bin/tool\" uid 7\n",
        )
        .unwrap();
        assert!(ask("stat /usr/bin/tool").contains("User:     7"));
    }
}
