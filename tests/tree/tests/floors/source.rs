// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the modules of a crate: their `use` declarations, their paths and their inherent `impl`s.
//!
//! The sources are only split into tokens, so that the bodies of macros count as well. Code for
//! tests is left out.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A path as written in a source, and its line.
#[derive(Clone, Debug)]
pub struct Mention {
    pub segments: Vec<String>,
    pub line: usize,
}

/// A module.
#[derive(Debug)]
pub struct Module {
    /// The module's path, with the crate's name in front: `hypervisor::vm::life`.
    pub path: String,
    pub file: PathBuf,
    /// Whether modules other than its parent can name it.
    pub is_public: bool,
    pub parent: Option<usize>,
    pub children: BTreeMap<String, usize>,
    /// The names that `use` declarations introduce here.
    pub aliases: BTreeMap<String, Mention>,
    /// The modules that `use` declarations import whole.
    pub globs: Vec<Mention>,
    /// The lines of globs that are re-exported.
    pub public_globs: Vec<usize>,
    /// The names that are declared here.
    pub items: BTreeSet<String>,
    /// All paths, those of `use` declarations too.
    pub mentions: Vec<Mention>,
    /// The types of inherent `impl`s.
    pub impls: Vec<Mention>,
}

/// Reads the crate `name` whose root is the file `root`, into `modules`. Returns the root's place
/// among them.
pub fn read(name: &str, root: &Path, modules: &mut Vec<Module>) -> usize {
    let place = add(name.to_owned(), root.to_owned(), true, None, modules);
    read_file(place, place, root, modules);
    place
}

fn add(
    path: String,
    file: PathBuf,
    is_public: bool,
    parent: Option<usize>,
    modules: &mut Vec<Module>,
) -> usize {
    modules.push(Module {
        path,
        file,
        is_public,
        parent,
        children: BTreeMap::new(),
        aliases: BTreeMap::new(),
        globs: Vec::new(),
        public_globs: Vec::new(),
        items: BTreeSet::new(),
        mentions: Vec::new(),
        impls: Vec::new(),
    });
    modules.len() - 1
}

fn read_file(place: usize, root: usize, file: &Path, modules: &mut Vec<Module>) {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let tokens: TokenStream = text
        .parse()
        .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut reader = Reader {
        place,
        root,
        modules,
    };
    reader.scan(tokens, true);
}

struct Reader<'a> {
    place: usize,
    root: usize,
    modules: &'a mut Vec<Module>,
}

/// The attributes and visibility in front of an item.
#[derive(Default)]
struct Before {
    is_test: bool,
    is_exported: bool,
    is_public: bool,
    is_visible: bool,
}

impl Reader<'_> {
    fn module(&mut self) -> &mut Module {
        &mut self.modules[self.place]
    }

    /// Scans tokens; `is_top` tells whether they are a module's own.
    fn scan(&mut self, tokens: TokenStream, is_top: bool) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut before = Before::default();
        let mut at = 0;
        while at < tokens.len() {
            if before.is_test {
                at = skip_item(&tokens, at, is_top);
                before = Before::default();
                continue;
            }
            match &tokens[at] {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    let (attribute, next) = attribute(&tokens, at);
                    before.is_test |= is_test(&attribute);
                    before.is_exported |= attribute.trim() == "macro_export";
                    at = next;
                    continue;
                }
                TokenTree::Ident(ident) => {
                    let word = ident.to_string();
                    if let Some(next) = self.item(&word, &tokens, at, is_top, &before) {
                        at = next;
                        before = Before::default();
                        continue;
                    }
                    if word == "pub" {
                        let restricted = group(&tokens, at + 1, Delimiter::Parenthesis);
                        let scope = restricted.map(|scope| scope.to_string());
                        before.is_public = scope.is_none();
                        before.is_visible = scope.as_deref() != Some("super");
                        at += 1 + usize::from(scope.is_some());
                        continue;
                    }
                    at = self.path(&tokens, at);
                    continue;
                }
                TokenTree::Group(group) => self.scan(group.stream(), false),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            before = Before::default();
            at += 1;
        }
    }

    /// Reads an item that the word begins; returns its end, if it is one that is read as a whole.
    fn item(
        &mut self,
        word: &str,
        tokens: &[TokenTree],
        at: usize,
        is_top: bool,
        before: &Before,
    ) -> Option<usize> {
        match word {
            "use" => {
                let end = (at..tokens.len()).find(|&at| is_punct(tokens, at, ';'))?;
                self.use_tree(Vec::new(), &tokens[at + 1..end], before.is_visible);
                Some(end + 1)
            }
            "mod" if is_top => {
                let name = ident(tokens, at + 1)?;
                let body = group(tokens, at + 2, Delimiter::Brace);
                self.child(&name, before.is_visible, body);
                Some(at + 3)
            }
            "macro_rules" => {
                let name = ident(tokens, at + 2)?;
                let owner = if before.is_exported {
                    let path = self.module().path.clone();
                    let mut segments: Vec<_> = path.split("::").map(str::to_owned).collect();
                    segments[0] = "crate".to_owned();
                    segments.push(name.clone());
                    let line = tokens[at].span().start().line;
                    let alias = Mention { segments, line };
                    if self.root != self.place {
                        self.modules[self.root].aliases.insert(name.clone(), alias);
                    }
                    self.place
                } else {
                    self.place
                };
                self.modules[owner].items.insert(name);
                None
            }
            "impl" if is_top => {
                self.inherent_impl(tokens, at);
                None
            }
            "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static"
                if is_top =>
            {
                let name = ident(tokens, at + 1)?;
                if name == "fn" || name == "unsafe" || name == "extern" || name == "mut" {
                    return None;
                }
                self.module().items.insert(name);
                Some(at + 2)
            }
            _ => None,
        }
    }

    fn child(&mut self, name: &str, is_public: bool, body: Option<TokenStream>) {
        let path = format!("{}::{name}", self.module().path);
        let file = match body {
            Some(_) => self.module().file.clone(),
            None => self.file_of(name),
        };
        let parent = self.place;
        let child = add(path, file.clone(), is_public, Some(parent), self.modules);
        self.module().children.insert(name.to_owned(), child);
        match body {
            Some(body) => {
                let mut reader = Reader {
                    place: child,
                    root: self.root,
                    modules: self.modules,
                };
                reader.scan(body, true);
            }
            None => read_file(child, self.root, &file, self.modules),
        }
    }

    /// Returns the file of a child.
    fn file_of(&mut self, name: &str) -> PathBuf {
        let file = self.module().file.clone();
        let folder = file.parent().expect("a file is in a folder");
        let stem = file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or("");
        let folder = match stem {
            "lib" | "main" | "mod" => folder.to_owned(),
            stem => folder.join(stem),
        };
        let flat = folder.join(format!("{name}.rs"));
        if flat.exists() {
            flat
        } else {
            folder.join(name).join("mod.rs")
        }
    }

    fn use_tree(&mut self, mut prefix: Vec<String>, tokens: &[TokenTree], is_public: bool) {
        let mut at = 0;
        let mut line = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Ident(ident) if ident == "as" => {
                    let alias = tokens[at + 1].to_string();
                    return self.uses(prefix, alias, line);
                }
                TokenTree::Ident(ident) => {
                    line = ident.span().start().line;
                    prefix.push(ident.to_string());
                }
                TokenTree::Group(group) => {
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    let parts = inner.split(
                        |token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ','),
                    );
                    for part in parts.filter(|part| !part.is_empty()) {
                        self.use_tree(prefix.clone(), part, is_public);
                    }
                    return;
                }
                TokenTree::Punct(punct) if punct.as_char() == '*' => {
                    let line = punct.span().start().line;
                    if is_public {
                        self.module().public_globs.push(line);
                    }
                    let glob = Mention {
                        segments: prefix,
                        line,
                    };
                    self.module().globs.push(glob);
                    return;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
        if prefix.last().is_some_and(|last| last == "self") {
            prefix.pop();
        }
        if let Some(name) = prefix.last().cloned() {
            self.uses(prefix, name, line);
        }
    }

    fn uses(&mut self, segments: Vec<String>, name: String, line: usize) {
        let mention = Mention { segments, line };
        self.module().mentions.push(mention.clone());
        self.module().aliases.insert(name, mention);
    }

    /// Reads a path of two segments or more that begins here; returns where to go on.
    fn path(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let line = tokens[at].span().start().line;
        let mut segments = vec![tokens[at].to_string()];
        let mut end = at + 1;
        while is_punct(tokens, end, ':')
            && is_punct(tokens, end + 1, ':')
            && let Some(name) = ident(tokens, end + 2)
        {
            segments.push(name);
            end += 3;
        }
        // A use of a macro that another crate exports: `crate::info!`, or its name alone.
        if segments.len() > 1 || is_punct(tokens, end, '!') {
            self.module().mentions.push(Mention { segments, line });
        }
        end
    }

    /// Records an `impl` without a trait.
    fn inherent_impl(&mut self, tokens: &[TokenTree], at: usize) {
        let mut depth = 0;
        let mut segments = Vec::new();
        for token in &tokens[at + 1..] {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == '<' => depth += 1,
                TokenTree::Punct(punct) if punct.as_char() == '>' => depth -= 1,
                TokenTree::Ident(ident) if depth == 0 && ident == "for" => return,
                TokenTree::Ident(ident) if depth == 0 && ident == "where" => break,
                TokenTree::Ident(ident) if depth == 0 => segments.push(ident.to_string()),
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
                _ => {}
            }
        }
        let line = tokens[at].span().start().line;
        self.module().impls.push(Mention { segments, line });
    }
}

fn ident(tokens: &[TokenTree], at: usize) -> Option<String> {
    match tokens.get(at)? {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        _ => None,
    }
}

fn is_punct(tokens: &[TokenTree], at: usize, sign: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

fn group(tokens: &[TokenTree], at: usize, delimiter: Delimiter) -> Option<TokenStream> {
    match tokens.get(at)? {
        TokenTree::Group(group) if group.delimiter() == delimiter => Some(group.stream()),
        _ => None,
    }
}

/// Returns the attribute at `at`, and its end.
fn attribute(tokens: &[TokenTree], at: usize) -> (String, usize) {
    let at = at + 1 + usize::from(is_punct(tokens, at + 1, '!'));
    match tokens.get(at) {
        Some(TokenTree::Group(group)) => (group.stream().to_string(), at + 1),
        _ => (String::new(), at),
    }
}

/// Returns whether the attribute restricts its item to tests, or to the models of concurrency.
fn is_test(attribute: &str) -> bool {
    let mut words = attribute.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.next() == Some("cfg")
        && !attribute.contains("not")
        && words.any(|word| matches!(word, "test" | "loom" | "shuttle"))
}

/// Returns the end of an item.
fn skip_item(tokens: &[TokenTree], at: usize, is_top: bool) -> usize {
    for (end, token) in tokens.iter().enumerate().skip(at) {
        let is_end = match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => punct.as_char() == ';' || !is_top && punct.as_char() == ',',
            _ => false,
        };
        if is_end {
            return end + 1;
        }
    }
    tokens.len()
}
