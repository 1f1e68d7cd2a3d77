// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Extracts the kernel and its modules from the forms in which Debian packs them.

use crate::elf;
use anyhow::{Context, Result, bail};
use std::io::Read;

/// Offset and value of the magic number in an arm64 `Image`'s header (Linux,
/// Documentation/arch/arm64/booting.rst).
const MAGIC: (usize, &[u8; 4]) = (56, b"ARM\x64");

/// Returns whether these bytes begin like an arm64 `Image`.
fn is_image(bytes: &[u8]) -> bool {
    bytes.get(MAGIC.0..MAGIC.0 + 4) == Some(MAGIC.1)
}

/// Returns the memory that an arm64 `Image`'s header asks for, in bytes from its beginning.
pub(crate) fn image_size(image: &[u8]) -> Option<u64> {
    let word = is_image(image).then(|| image[16..].first_chunk())??;
    Some(u64::from_le_bytes(*word))
}

/// Returns a kernel as a boot loader needs it, decompressed if need be.
pub(super) fn raw_image(data: Vec<u8>) -> Result<Vec<u8>> {
    let data = if data.starts_with(&[0x1f, 0x8b]) {
        let mut raw = Vec::new();
        flate2::read::GzDecoder::new(&data[..])
            .read_to_end(&mut raw)
            .context("it is damaged")?;
        raw
    } else {
        data
    };
    if !is_image(&data) {
        bail!("it is no arm64 Image, neither plain nor compressed with gzip");
    }
    Ok(data)
}

/// Returns the named modules and their dependencies, in loading order, as names and plain files.
/// `all` has every module's path and file, compressed or not.
pub(super) fn modules(
    all: &[(String, Vec<u8>)],
    wanted: &[&str],
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut order = Vec::new();
    for name in wanted {
        add(all, name, &mut Vec::new(), &mut order)?;
    }
    Ok(order)
}

fn add(
    all: &[(String, Vec<u8>)],
    name: &str,
    above: &mut Vec<String>,
    order: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    if order.iter().any(|(known, _)| known == name) {
        return Ok(());
    }
    if above.iter().any(|one| one == name) {
        bail!("the kernel module {name} depends on itself");
    }
    let found = all.iter().find(|(path, _)| module_name(path) == name);
    let (path, packed) = found.with_context(|| format!("the kernel has no module {name}"))?;
    let plain = unpack(path, packed).with_context(|| format!("{path} is damaged"))?;
    let info = elf::section(&plain, ".modinfo").with_context(|| format!("{path} is damaged"))?;
    above.push(name.to_owned());
    for dependency in dependencies(info) {
        add(all, &dependency, above, order)?;
    }
    above.pop();
    order.push((name.to_owned(), plain));
    Ok(())
}

/// Returns whether there is a module of this name among all.
pub(super) fn has(all: &[(String, Vec<u8>)], name: &str) -> bool {
    all.iter().any(|(path, _)| module_name(path) == name)
}

/// Returns a module's name as the kernel spells it: `optee_rng` for `…/optee-rng.ko.xz`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or_default();
    let name = file.split(".ko").next().unwrap_or_default();
    name.replace('-', "_")
}

fn unpack(path: &str, packed: &[u8]) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    if path.ends_with(".ko") {
        plain.extend(packed);
    } else if path.ends_with(".xz") {
        lzma_rust2::XzReader::new(packed, true).read_to_end(&mut plain)?;
    } else {
        bail!("it is compressed in an unknown format");
    }
    Ok(plain)
}

/// Returns the modules that `depends=` names in a module's information, whose strings end with a
/// zero byte.
fn dependencies(info: &[u8]) -> Vec<String> {
    info.split(|&byte| byte == 0)
        .filter_map(|entry| entry.strip_prefix(b"depends="))
        .flat_map(|list| list.split(|&byte| byte == b','))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Drivers;
    use super::*;
    use crate::config::TeeAbi;
    use std::io::Write;

    fn image() -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[56..60].copy_from_slice(b"ARM\x64");
        bytes
    }

    #[test]
    fn raw_image_accepts_plain_and_gzip() {
        assert_eq!(raw_image(image()).unwrap(), image());
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&image()).unwrap();
        let gz = gz.finish().unwrap();
        assert_eq!(raw_image(gz.clone()).unwrap(), image());
        assert!(raw_image(gz[..gz.len() / 2].to_vec()).is_err());
        assert!(raw_image(b"MZ\0\0zimg".to_vec()).is_err());
    }

    #[test]
    fn modules_of_ffa_are_loaded_before_the_tee_although_none_needs_ffa_module() {
        let all: Vec<_> = [
            ("ffa-core", ""),
            ("ffa-module", "ffa-core"),
            ("tee", ""),
            ("optee", "tee,ffa-core"),
            ("optee-rng", "tee"),
            ("evdev", ""),
            ("gpio_keys", ""),
            ("sbsa_gwdt", ""),
        ]
        .map(|(name, needs)| {
            let info = format!("depends={needs}\0");
            (format!("m/{name}.ko"), module(info.as_bytes()))
        })
        .into();
        let names = |abi| -> Vec<String> {
            let drivers = Drivers {
                abi,
                devices: false,
            };
            let order = modules(&all, &drivers.of_every_guest()).unwrap();
            order.into_iter().map(|(name, _)| name).collect()
        };
        let ffa = names(TeeAbi::Ffa);
        let of_tee: Vec<&String> = (ffa.iter())
            .filter(|name| name.contains("ffa") || name.contains("tee"))
            .collect();
        let wanted = ["ffa_core", "ffa_module", "tee", "optee", "optee_rng"];
        assert_eq!(of_tee, wanted);
        assert!(!names(TeeAbi::Smc).contains(&"ffa_module".to_owned()));
    }

    /// Returns a relocatable ELF file whose only content is `.modinfo`.
    fn module(info: &[u8]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend([1, 0, 183, 0, 1, 0, 0, 0]);
        let names = b"\0.modinfo\0.shstrtab\0";
        let sections = 64 + info.len() + names.len();
        for word in [0, 0, sections as u64] {
            file.extend(word.to_le_bytes());
        }
        file.extend([0; 4]);
        for half in [64_u16, 0, 0, 64, 3, 2] {
            file.extend(half.to_le_bytes());
        }
        file.extend(info);
        file.extend(names);
        file.extend([0; 64]);
        for (name, kind, at, size) in [
            (1_u32, 1_u32, 64, info.len()),
            (10, 3, 64 + info.len(), names.len()),
        ] {
            file.extend(name.to_le_bytes());
            file.extend(kind.to_le_bytes());
            file.extend([0; 16]);
            file.extend((at as u64).to_le_bytes());
            file.extend((size as u64).to_le_bytes());
            file.extend([0; 24]);
        }
        file
    }

    #[test]
    fn modules_follow_their_dependencies() {
        let xz = |data: &[u8]| {
            let options = lzma_rust2::XzOptions::with_preset(1);
            let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
            writer.write_all(data).unwrap();
            writer.finish().unwrap()
        };
        let all = vec![
            (
                "m/a/optee.ko.xz".to_owned(),
                xz(&module(b"license=GPL\0depends=tee,ffa-core\0")),
            ),
            ("m/b/ffa-core.ko".to_owned(), module(b"depends=\0")),
            (
                "m/c/tee.ko".to_owned(),
                module(b"name=tee\0depends=ffa-core\0"),
            ),
            ("m/d/unused.ko.zst".to_owned(), Vec::new()),
            ("m/e/loop.ko".to_owned(), module(b"depends=loop\0")),
        ];
        let order = modules(&all, &["tee", "optee"]).unwrap();
        let names: Vec<&str> = order.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["ffa_core", "tee", "optee"]);
        assert!(order[2].1.starts_with(b"\x7fELF"));
        for (name, wanted) in [
            ("unused", "an unknown format"),
            ("absent", "no module absent"),
            ("loop", "depends on itself"),
        ] {
            let error = format!("{:#}", modules(&all, &[name]).unwrap_err());
            assert!(error.contains(wanted), "{error:?} is not {wanted:?}");
        }
    }
}
