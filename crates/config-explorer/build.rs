//! Embeds `data/models/`: writes the text of its files and the index from each id and alias to its file, so that looking
//! one model up parses one file.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=data/models");
    let mut paths: Vec<_> = fs::read_dir("data/models")
        .expect("Cargo runs this in the package's folder")
        .map(|file| file.expect("is readable").path())
        .collect();
    paths.sort();

    let mut texts = Vec::new();
    let mut names = BTreeMap::new();
    for (index, path) in paths.iter().enumerate() {
        let text = fs::read_to_string(path).expect("is readable");
        let model: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let aliases = model["aliases"].as_array().into_iter().flatten();
        for name in std::iter::once(&model["id"]).chain(aliases) {
            let name = name.as_str().unwrap_or_else(|| panic!("{}: ids are strings", path.display()));
            let before = names.insert(name.to_lowercase(), index);
            assert!(before.is_none(), "{}: `{name}` names two models", path.display());
        }
        texts.push(text);
    }

    let names: Vec<_> = names.into_iter().collect();
    let code = format!(
        "/// Text of each file of `data/models/`.\nstatic FILES: &[&str] = &{texts:?};\n\
         /// Ids and aliases in lower case, sorted, with the index of their file.\n\
         static NAMES: &[(&str, usize)] = &{names:?};\n"
    );
    let output = Path::new(&env::var("OUT_DIR").expect("Cargo sets it")).join("catalogue.rs");
    fs::write(output, code).expect("OUT_DIR can be written");
}
