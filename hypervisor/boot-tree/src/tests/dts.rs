// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compiles device tree sources as `dtc` does, as far as the tests' sources go: labels, references, cells, strings, bytes.

use dtoolkit::ToPropertyValue;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use std::collections::BTreeMap;

/// Returns the flattened tree. Nodes that are referred to have the phandles 1, 2, …, in the order of the source.
pub fn compile(source: &str) -> Vec<u8> {
    let tokens = tokens(source);
    let mut labels = BTreeMap::new();
    // The first pass finds the labels, the second one knows them.
    for last in [false, true] {
        let mut parser = Parser {
            tokens: &tokens,
            at: 0,
            known: if last {
                std::mem::take(&mut labels)
            } else {
                BTreeMap::new()
            },
            found: BTreeMap::new(),
        };
        assert_eq!(parser.next(), "/dts-v1/");
        parser.eat(";");
        parser.eat("/");
        let mut tree = DeviceTree::new();
        parser.body(&mut tree.root, "");
        if last {
            return tree.to_dtb();
        }
        labels = parser.found;
    }
    unreachable!("the second pass is the last")
}

fn tokens(source: &str) -> Vec<&str> {
    let mut rest = source.trim_start();
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "/,._+-#@&:".contains(c);
        let length = match first {
            '"' => rest[1..].find('"').unwrap() + 2,
            '[' => rest.find(']').unwrap() + 1,
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => 1,
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

struct Parser<'s> {
    tokens: &'s [&'s str],
    at: usize,
    /// Paths and phandles of labels.
    known: BTreeMap<&'s str, (String, u32)>,
    found: BTreeMap<&'s str, (String, u32)>,
}

impl<'s> Parser<'s> {
    fn next(&mut self) -> &'s str {
        self.at += 1;
        self.tokens[self.at - 1]
    }

    fn eat(&mut self, wanted: &str) {
        assert_eq!(self.next(), wanted, "token {}", self.at);
    }

    fn body(&mut self, node: &mut DeviceTreeNode, path: &str) {
        self.eat("{");
        loop {
            let mut name = self.next();
            if name == "}" {
                self.eat(";");
                return;
            }
            let label = name.strip_suffix(':');
            if label.is_some() {
                name = self.next();
            }
            match self.tokens[self.at] {
                "{" => {
                    let path = format!("{path}/{name}");
                    let mut child = DeviceTreeNode::new(name).unwrap();
                    if let Some(label) = label {
                        let phandle = self.found.len() as u32 + 1;
                        self.found.insert(label, (path.clone(), phandle));
                        set(&mut child, "phandle", phandle);
                    }
                    self.body(&mut child, &path);
                    node.add_child(child);
                }
                ";" => {
                    self.eat(";");
                    set(node, name, [0_u8; 0]);
                }
                _ => {
                    self.eat("=");
                    set(node, name, self.value());
                }
            }
        }
    }

    fn value(&mut self) -> Vec<u8> {
        let mut value = Vec::new();
        loop {
            match self.next() {
                ";" => return value,
                "," => {}
                "<" => loop {
                    let cell = match self.next() {
                        ">" => break,
                        cell => self.cell(cell),
                    };
                    value.extend(cell.to_be_bytes());
                },
                text if text.starts_with('"') => {
                    value.extend([text.trim_matches('"'), "\0"].concat().bytes());
                }
                bytes if bytes.starts_with('[') => {
                    let digits = bytes.trim_matches(['[', ']']).split_whitespace();
                    value.extend(digits.map(|byte| u8::from_str_radix(byte, 16).unwrap()));
                }
                label => {
                    let (path, _) = self.label(label);
                    value.extend([path.as_str(), "\0"].concat().bytes());
                }
            }
        }
    }

    fn cell(&self, text: &str) -> u32 {
        if text.starts_with('&') {
            return self.label(text).1;
        }
        match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).unwrap(),
            None => text.parse().unwrap(),
        }
    }

    fn label(&self, text: &str) -> (String, u32) {
        let label = text.strip_prefix('&').unwrap();
        self.known.get(label).cloned().unwrap_or_default()
    }
}

/// Sets a property, whose name may be longer than the specification has it.
fn set(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}
