//! The sources as the compiler sees them: each file with its place among the modules, and the paths in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, ItemFn, ItemMod, ItemUse, TraitItemFn, UseTree};

/// One file of `src/`.
pub(crate) struct Source {
    /// From the root of the project.
    pub(crate) file: String,
    /// Its place among the modules, from the crate's root.
    pub(crate) module: Vec<String>,
    pub(crate) text: String,
    syntax: syn::File,
}

/// A function and how many lines it takes.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) lines: usize,
}

/// All files of `src/` but those that hold tests only.
pub(crate) fn all() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    files.sort();
    files.into_iter().map(|file| read(root, &file)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let tests = name == "tests.rs" || name.ends_with("_tests.rs");
        if path.is_dir() {
            collect(&path, files);
        } else if name.ends_with(".rs") && !tests {
            files.push(path);
        }
    }
}

fn read(root: &Path, file: &Path) -> Source {
    let text = fs::read_to_string(file).unwrap();
    let syntax = syn::parse_file(&text).unwrap();
    let file = file.strip_prefix(root).unwrap();
    let parts = file.with_extension("");
    let mut module: Vec<String> =
        parts.iter().skip(1).map(|part| part.to_str().unwrap().to_owned()).collect();
    module.pop_if(|last| *last == "mod" || *last == "lib" || *last == "main");
    Source { file: file.display().to_string(), module, text, syntax }
}

impl Source {
    /// Every path in it that leads to somewhere in the crate, from the crate's root, however it is written. What only
    /// tests use does not count.
    pub(crate) fn paths(&self) -> BTreeSet<Vec<String>> {
        paths_in(self.module.clone(), &self.syntax)
    }

    /// Its functions, without those of tests.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut functions = Functions(Vec::new());
        functions.visit_file(&self.syntax);
        functions.0
    }

    /// Whether there is unsafe code in it, or where it would be allowed, tests too.
    pub(crate) fn has_unsafe_code(&self) -> bool {
        is_unsafe(&self.text)
    }

    /// How many lines it has before its tests begin.
    pub(crate) fn lines(&self) -> usize {
        let tests = self.syntax.items.iter().find_map(|item| match item {
            syn::Item::Mod(module) if is_test(&module.attrs) => {
                Some(module.span().start().line - 1)
            }
            _ => None,
        });
        tests.unwrap_or_else(|| self.text.lines().count())
    }
}

fn paths_in(module: Vec<String>, syntax: &syn::File) -> BTreeSet<Vec<String>> {
    let mut paths = Paths { module, found: BTreeSet::new() };
    paths.visit_file(syntax);
    paths.found
}

/// Whether a text says `unsafe` in front of something, or names the lint against it. What only declares that it is called
/// before `main` says it alone in brackets.
pub(crate) fn is_unsafe(text: &str) -> bool {
    fn found(tokens: TokenStream) -> bool {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        tokens.iter().any(|token| match token {
            TokenTree::Ident(name) if *name == "unsafe" => tokens.len() > 1,
            TokenTree::Ident(name) if *name == "unsafe_code" => true,
            TokenTree::Group(group) => found(group.stream()),
            _ => false,
        })
    }
    text.parse().is_ok_and(found)
}

/// The paths in a text, as if it stood in that module.
pub(crate) fn paths_of(module: &[&str], text: &str) -> BTreeSet<Vec<String>> {
    let module = module.iter().map(|name| (*name).to_owned()).collect();
    paths_in(module, &syn::parse_file(text).unwrap())
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|what| what == "test")
    })
}

struct Paths {
    module: Vec<String>,
    found: BTreeSet<Vec<String>>,
}

impl Paths {
    /// `segments` is as written; what begins with neither `crate` nor `super` nor `self` is looked at by name.
    fn found(&mut self, segments: &[String]) {
        let mut from = match segments.first().map(String::as_str) {
            Some("crate" | "konsen") => Vec::new(),
            Some("super" | "self") => self.module.clone(),
            _ => return,
        };
        for segment in segments {
            match segment.as_str() {
                "crate" | "konsen" | "self" => {}
                "super" => {
                    from.pop();
                }
                name => from.push(name.to_owned()),
            }
        }
        self.found.insert(from);
    }

    fn tree(&mut self, before: &mut Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(before, &path.tree);
                before.pop();
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.tree(before, tree));
            }
            UseTree::Name(name) => self.leaf(before, Some(name.ident.to_string())),
            UseTree::Rename(rename) => self.leaf(before, Some(rename.ident.to_string())),
            UseTree::Glob(_) => self.leaf(before, None),
        }
    }

    fn leaf(&mut self, before: &[String], name: Option<String>) {
        let path: Vec<String> = before.iter().cloned().chain(name).collect();
        self.found(&path);
    }
}

impl<'a> Visit<'a> for Paths {
    fn visit_item_use(&mut self, item: &'a ItemUse) {
        if !is_test(&item.attrs) {
            self.tree(&mut Vec::new(), &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.found(&segments);
        visit::visit_path(self, path);
    }

    /// What a macro takes is no syntax tree: its words are looked through for paths.
    fn visit_macro(&mut self, call: &'a syn::Macro) {
        let text = call.tokens.to_string().replace(" :: ", "::");
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        for path in text.split(|c: char| !is_part(c)).filter(|path| path.contains("::")) {
            let segments: Vec<String> = path.split("::").map(str::to_owned).collect();
            self.found(&segments);
        }
        self.visit_path(&call.path);
    }

    fn visit_item_mod(&mut self, item: &'a ItemMod) {
        if is_test(&item.attrs) || item.content.is_none() {
            return;
        }
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_fn(&mut self, item: &'a ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }
}

struct Functions(Vec<Function>);

impl Functions {
    fn add(&mut self, name: &syn::Ident, whole: &impl Spanned) {
        let span = whole.span();
        let lines = span.end().line - span.start().line + 1;
        self.0.push(Function { name: name.to_string(), lines });
    }
}

impl<'a> Visit<'a> for Functions {
    fn visit_item_mod(&mut self, item: &'a ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'a ItemFn) {
        if !is_test(&item.attrs) {
            self.add(&item.sig.ident, &item.block);
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'a ImplItemFn) {
        self.add(&item.sig.ident, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'a TraitItemFn) {
        if let Some(block) = &item.default {
            self.add(&item.sig.ident, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}
