// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A FIT, U-Boot's format of one file with several images and their hashes (Flat Image Tree
//! specification 1.0): a flattened device tree with the files as properties.

use super::{Bundle, Piece};
use postern_flat_tree::FlatTree;
use sha2::{Digest, Sha256};

/// The one configuration.
const CONFIGURATION: &str = "conf-1";

/// Returns the FIT's bytes.
pub(super) fn write(bundle: &Bundle<'_>) -> Vec<u8> {
    let name = |piece: &Piece| {
        let (stem, _) = piece.name.split_once('.').unwrap_or((&piece.name, ""));
        stem.to_owned()
    };
    let loadables: Vec<String> = bundle.modules.iter().map(name).collect();
    let loadables: Vec<&str> = loadables.iter().map(String::as_str).collect();
    FlatTree::write(|root| {
        root.text("description", "Postern with its guests");
        // The same input makes the same file.
        root.cells("timestamp", &[0]);
        root.cells("#address-cells", &[2]);
        root.node("images", |images| {
            image(images, "hypervisor", &bundle.hypervisor, |node| {
                node.text("type", "kernel");
                node.text("os", "linux");
                node.wide("entry", bundle.hypervisor.region.address);
            });
            image(images, "fdt", &bundle.tree, |node| {
                node.text("type", "flat_dt");
            });
            for (piece, name) in bundle.modules.iter().zip(&loadables) {
                image(images, name, piece, |node| {
                    // Every version of U-Boot takes this type for a loadable, and mkimage knows it.
                    node.text("type", "firmware");
                    node.text("os", "linux");
                });
            }
        });
        root.node("configurations", |configurations| {
            configurations.text("default", CONFIGURATION);
            configurations.node(CONFIGURATION, |conf| {
                conf.text("description", "Postern");
                conf.text("kernel", "hypervisor");
                conf.text("fdt", "fdt");
                conf.texts("loadables", &loadables);
            });
        });
    })
}

fn image(images: &mut FlatTree, name: &str, piece: &Piece, more: impl FnOnce(&mut FlatTree)) {
    images.node(name, |node| {
        node.text("description", &piece.what);
        node.property("data", &piece.bytes);
        node.text("arch", "arm64");
        node.text("compression", "none");
        node.wide("load", piece.region.address);
        more(node);
        node.node("hash-1", |hash| {
            hash.text("algo", "sha256");
            hash.property("value", &Sha256::digest(&piece.bytes));
        });
    });
}
