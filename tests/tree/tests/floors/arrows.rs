// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Resolves paths to arrows between modules.

use crate::source::{Mention, Module};
use std::collections::{BTreeMap, BTreeSet};

/// All modules of all crates, and which of them are roots.
pub struct House {
    pub modules: Vec<Module>,
    pub roots: BTreeMap<String, usize>,
}

/// A module's use of something in another module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    pub from: usize,
    pub to: usize,
    pub line: usize,
}

/// The target of a path.
#[derive(Clone, Copy)]
enum Target {
    Module(usize),
    /// Something in this module.
    Item(usize),
}

/// The longest chain of names for names; a longer one is a circle.
const MOST_STEPS: usize = 16;

impl House {
    /// Returns the arrows between modules that count: not those between a module and its own
    /// private parts.
    pub fn arrows(&self) -> BTreeSet<Arrow> {
        let mut arrows = BTreeSet::new();
        for (from, module) in self.modules.iter().enumerate() {
            for mention in &module.mentions {
                if let Some(Target::Item(to)) = self.resolve(from, &mention.segments, 0) {
                    let line = mention.line;
                    arrows.insert(Arrow { from, to, line });
                }
            }
            for glob in &module.globs {
                if let Some(Target::Module(to) | Target::Item(to)) =
                    self.resolve(from, &glob.segments, 0)
                {
                    let line = glob.line;
                    arrows.insert(Arrow { from, to, line });
                }
            }
        }
        arrows.retain(|arrow| arrow.from != arrow.to && !self.is_own(arrow.from, arrow.to));
        arrows
    }

    /// Returns the inherent `impl`s outside their type's module, which that module could use
    /// without naming them: the place, and the type's module.
    pub fn misplaced_impls(&self) -> Vec<Arrow> {
        let mut strange = Vec::new();
        for (from, module) in self.modules.iter().enumerate() {
            for Mention { segments, line } in &module.impls {
                let target = self.resolve(from, segments, 0);
                if let Some(Target::Item(to)) = target
                    && to != from
                    && !self.is_part(from, to)
                {
                    let line = *line;
                    strange.push(Arrow { from, to, line });
                }
            }
        }
        strange
    }

    /// Returns whether one is a private part of the other.
    fn is_own(&self, one: usize, other: usize) -> bool {
        self.is_part(one, other) || self.is_part(other, one)
    }

    /// Returns whether `part` is inside `whole` and cannot be named from outside.
    fn is_part(&self, part: usize, whole: usize) -> bool {
        let mut at = part;
        while let Some(parent) = self.modules[at].parent {
            if self.modules[at].is_public {
                return false;
            }
            if parent == whole {
                return true;
            }
            at = parent;
        }
        false
    }

    fn resolve(&self, from: usize, path: &[String], steps: usize) -> Option<Target> {
        if steps > MOST_STEPS {
            return None;
        }
        let mut rest = path;
        let mut at = match path.first()?.as_str() {
            "crate" => self.root_of(from),
            "self" => from,
            "super" => self.modules[from].parent?,
            "Self" => return None,
            first => match self.named(from, first, steps) {
                Some(Target::Module(module)) => module,
                Some(item) => return Some(item),
                None => *self.roots.get(first)?,
            },
        };
        rest = &rest[1..];
        while let Some((name, after)) = rest.split_first() {
            rest = after;
            if name == "super" {
                at = self.modules[at].parent?;
                continue;
            }
            match self.named(at, name, steps) {
                Some(Target::Module(module)) => at = module,
                Some(item) => return Some(item),
                None => return Some(Target::Item(at)),
            }
        }
        Some(Target::Module(at))
    }

    /// Returns what a name means in a module.
    fn named(&self, at: usize, name: &str, steps: usize) -> Option<Target> {
        let module = &self.modules[at];
        if let Some(child) = module.children.get(name) {
            return Some(Target::Module(*child));
        }
        if module.items.contains(name) {
            return Some(Target::Item(at));
        }
        if let Some(alias) = module.aliases.get(name) {
            // `use mediator;` only names the crate.
            if alias.segments.len() == 1 && alias.segments[0] == name {
                return self.roots.get(name).map(|root| Target::Module(*root));
            }
            return self.resolve(at, &alias.segments, steps + 1);
        }
        module
            .globs
            .iter()
            .find_map(|glob| match self.resolve(at, &glob.segments, steps + 1)? {
                Target::Module(module) if module != at => self.named(module, name, steps + 1),
                _ => None,
            })
    }

    fn root_of(&self, mut at: usize) -> usize {
        while let Some(parent) = self.modules[at].parent {
            at = parent;
        }
        at
    }

    /// Returns the sets of several modules that can be reached from each other.
    pub fn circles(&self, arrows: &BTreeSet<Arrow>) -> Vec<Vec<usize>> {
        let mut next = vec![BTreeSet::new(); self.modules.len()];
        for arrow in arrows {
            next[arrow.from].insert(arrow.to);
        }
        let reach = |from: usize| {
            let mut seen = BTreeSet::new();
            let mut open = vec![from];
            while let Some(at) = open.pop() {
                for &to in &next[at] {
                    if seen.insert(to) {
                        open.push(to);
                    }
                }
            }
            seen
        };
        let reached: Vec<_> = (0..self.modules.len()).map(reach).collect();
        let mut circles = Vec::new();
        let mut done = BTreeSet::new();
        for (from, seen) in reached.iter().enumerate() {
            if done.contains(&from) || !seen.contains(&from) {
                continue;
            }
            let circle: Vec<_> = (seen.iter().copied())
                .filter(|&to| reached[to].contains(&from))
                .collect();
            done.extend(circle.iter().copied());
            circles.push(circle);
        }
        circles
    }
}
