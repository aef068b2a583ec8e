//! The library's modules point left only: a module may use those before it in [`ORDER`], never one after it.
//!
//! Read are `use` declarations and paths in code, from `crate::` or from enough `super::` to reach the crate's root.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Ident, TokenStream, TokenTree};

/// The modules from left to right, as the data flow (ARCHITECTURE.md).
const ORDER: [&str; 15] = [
    "model",
    "hardware",
    "engine",
    "deployment",
    "workload",
    "reports",
    "explore",
    "memory",
    "latency",
    "serving",
    "simulation",
    "recommend",
    "plot",
    "manifest",
    "validate",
];

/// Modules that every other may use.
const COMMON: [&str; 3] = ["error", "units", "yaml"];

fn position(module: &str) -> Option<usize> {
    ORDER.iter().position(|name| *name == module)
}

/// The top-level module of a file, by its path below `src`.
fn module_of(file: &Path) -> String {
    let first = file.components().next().expect("a file has a path");
    Path::new(&first).with_extension("").display().to_string()
}

/// How many `super` lead from a file to the crate's root: 1 from `engine/mod.rs`, 2 from `engine/rules.rs`.
fn depth_of(file: &Path) -> usize {
    file.components().count() - usize::from(file.ends_with("mod.rs"))
}

fn is_colons(trees: &[TokenTree]) -> bool {
    matches!(trees, [TokenTree::Punct(a), TokenTree::Punct(b), ..] if a.as_char() == ':' && b.as_char() == ':')
}

/// The words `crate` or `super`, each with its `::`, that some code starts with: how many.
fn leading(trees: &[TokenTree], word: &str) -> usize {
    match trees {
        [TokenTree::Ident(ident), rest @ ..] if ident == word && is_colons(rest) => 1 + leading(&rest[2..], word),
        _ => 0,
    }
}

/// The first names of the paths at the start of some code: one name, or those of a group in braces.
fn first_names(trees: &[TokenTree]) -> Vec<Ident> {
    match trees.first() {
        Some(TokenTree::Ident(name)) => vec![name.clone()],
        Some(TokenTree::Group(group)) => {
            let trees: Vec<_> = group.stream().into_iter().collect();
            let is_comma = |tree: &TokenTree| matches!(tree, TokenTree::Punct(punct) if punct.as_char() == ',');
            trees.split(is_comma).flat_map(first_names).collect()
        }
        _ => Vec::new(),
    }
}

/// Every name that some code takes from the crate's root.
fn names_from_root(code: TokenStream, depth: usize, names: &mut Vec<Ident>) {
    let trees: Vec<_> = code.into_iter().collect();
    let mut at = 0;
    while at < trees.len() {
        let (crates, supers) = (leading(&trees[at..], "crate"), leading(&trees[at..], "super"));
        if let TokenTree::Group(group) = &trees[at] {
            names_from_root(group.stream(), depth, names);
        }
        at += 3 * (crates + supers);
        // In a module inside of a file, it takes more `super` than the file is deep; then a name is read that is none of
        // the root's, which does no harm.
        if crates > 0 || supers >= depth {
            names.extend(first_names(&trees[at..]));
        }
        at += usize::from(crates + supers == 0);
    }
}

/// The modules to the right of its own that a file uses, with the line. `file` is its path below `src`.
fn wrong_uses(file: &Path, source: &str) -> Vec<(usize, String)> {
    let Some(own) = position(&module_of(file)) else { return Vec::new() };
    let mut names = Vec::new();
    names_from_root(source.parse().expect("the file is Rust"), depth_of(file), &mut names);
    names.retain(|name| position(&name.to_string()).is_some_and(|used| used > own));
    names.iter().map(|name| (name.span().start().line, name.to_string())).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    let files = paths.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

#[test]
fn modules_point_left_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for path in rust_files(&src) {
        let file = path.strip_prefix(&src).expect("the file is below src");
        let module = module_of(file);
        let has_place = module == "lib" || COMMON.contains(&module.as_str()) || position(&module).is_some();
        assert!(has_place, "`{module}` has no place in the order");
        for (line, used) in wrong_uses(file, &fs::read_to_string(&path).expect("the file can be read")) {
            wrong.push(format!("src/{}:{line}: `{module}` uses `{used}`, which stands to its right", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_form_of_a_wrong_use_is_caught() {
    for (file, source) in [
        ("engine/rules.rs", "use crate::memory::Plan;"),
        ("engine/rules.rs", "pub use crate::memory;"),
        ("engine/rules.rs", "use crate::{Error, memory::{self, Plan}, model};"),
        ("engine/rules.rs", "use crate::{model::{self, A}, memory,};"),
        ("engine/rules.rs", "use {std::fmt, crate::memory::Plan};"),
        ("engine/rules.rs", "fn f(plan: &crate::memory::Plan) {}"),
        ("engine/rules.rs", "fn f() { if true { g([crate::memory::X]) } }"),
        ("engine/rules.rs", "use super::super::memory::Plan;"),
        ("engine/rules.rs", "use super::super::{model, memory};"),
        ("engine/rules.rs", "mod tests { use super::super::super::memory; }"),
        ("engine/mod.rs", "use super::memory::Plan;"),
        ("engine/part/mod.rs", "use super::super::memory::Plan;"),
        ("model/mod.rs", "use crate :: hardware;"),
    ] {
        assert_eq!(wrong_uses(Path::new(file), source).len(), 1, "{file}: {source}");
    }
    let source = "//! crate::memory\n\nuse crate::engine::X;\n";
    assert_eq!(wrong_uses(Path::new("model/dtype.rs"), source), [(3, "engine".to_owned())]);
}

#[test]
fn what_is_no_wrong_use_passes() {
    for (file, source) in [
        ("engine/rules.rs", "use crate::model::DType; use crate::{Error, Result, units};"),
        ("engine/rules.rs", "use crate::{model::memory, hardware::{self, memory}};"),
        ("engine/rules.rs", "// use crate::memory;\n/// See [`crate::memory`].\nconst TEXT: &str = \"crate::memory\";"),
        ("engine/rules.rs", "pub(crate) fn memory() {} use super::memory; use self::memory;"),
        ("memory/plan.rs", "use crate::engine::EngineRules; use crate::memory::X;"),
        ("error.rs", "use crate::memory;"),
        ("lib.rs", "pub use crate::memory::Plan;"),
    ] {
        assert_eq!(wrong_uses(Path::new(file), source), [], "{file}: {source}");
    }
}
