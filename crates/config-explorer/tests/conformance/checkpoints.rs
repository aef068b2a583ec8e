//! Safetensors headers of published checkpoints: every tensor is counted, and stands where it belongs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;

use config_explorer::model::{Part, Weights, WeightsSource, safetensors};
use serde_json::Value;

use crate::data;

/// `ORG--NAME` of each header in the data, with its JSON.
fn headers(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut headers = Vec::new();
    for entry in fs::read_dir(folder.join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".header.json.gz") else { continue };
        let mut json = Vec::new();
        flate2::read::GzDecoder::new(fs::File::open(&path).unwrap()).read_to_end(&mut json).unwrap();
        headers.push((name.to_owned(), json));
    }
    assert_eq!(headers.len(), 43);
    headers
}

/// Number of decoder layers, from the field that each family's config has for it.
fn decoder_layers(folder: &Path, name: &str) -> u32 {
    let config = fs::read_to_string(folder.join("models").join(name).join("config.json")).unwrap();
    // Python writes `Infinity`, which JSON does not have.
    let config: Value = serde_json::from_str(&config.replace("Infinity", "0")).unwrap();
    let layers = [&config["text_config"], &config]
        .into_iter()
        .find_map(|config| ["num_hidden_layers", "n_layer"].iter().find_map(|key| config[key].as_u64()));
    layers.unwrap_or_else(|| panic!("{name}: no number of layers")) as u32
}

#[test]
fn elements_and_bytes_equal_the_published_totals() {
    let Some(folder) = data() else { return };
    let totals = fs::read(folder.join("models/checkpoint_totals.json")).unwrap();
    let totals: Vec<Value> = serde_json::from_slice(&totals).unwrap();
    for (name, json) in headers(&folder) {
        let expected = totals.iter().find(|row| row["model"].as_str().unwrap().replace('/', "--") == name).unwrap();
        let groups = safetensors::parse_header(&json, &name).unwrap().groups(decoder_layers(&folder, &name));
        let weights = Weights { source: WeightsSource::Safetensors, groups };
        let elements: BTreeMap<&str, Value> = weights
            .elements_by_dtype()
            .into_iter()
            .map(|(dtype, elements)| (dtype.safetensors_name(), elements.into()))
            .collect();
        assert_eq!(serde_json::json!(elements), expected["params_by_dtype"], "{name}");
        assert_eq!(expected["checkpoint_bytes"], weights.bytes(), "{name}");
        let tensors: u64 = weights.groups.iter().map(|group| group.count).sum();
        assert_eq!(expected["tensors"], tensors, "{name}");
    }
}

#[test]
fn tensors_stand_where_they_belong() {
    let Some(folder) = data() else { return };
    let mut outside_layers = BTreeSet::new();
    for (name, json) in headers(&folder) {
        let layers = decoder_layers(&folder, &name);
        let groups = safetensors::parse_header(&json, &name).unwrap().groups(layers);
        let parts: BTreeSet<Part> = groups.iter().map(|group| group.part).collect();
        let decoder = (0..layers).map(Part::Layer);
        assert!(decoder.chain([Part::Embedding, Part::FinalNorm]).all(|part| parts.contains(&part)), "{name}");
        assert!(!parts.iter().any(|part| matches!(part, Part::Mtp(_))), "{name} has no draft layers in this data");
        for group in groups.iter().filter(|group| !matches!(group.part, Part::Layer(_))) {
            let module = group.module.split('.').next().unwrap().to_owned();
            outside_layers.insert((group.part, module));
        }
    }
    let expected = [
        (Part::Embedding, "embed_tokens"),
        (Part::Embedding, "embeddings"),
        (Part::Embedding, "word_embeddings"),
        (Part::Embedding, "wpe"),
        (Part::Embedding, "wte"),
        (Part::FinalNorm, "ln_f"),
        (Part::FinalNorm, "norm"),
        (Part::FinalNorm, "norm_f"),
        (Part::Head, "lm_head"),
        (Part::Encoder, "multi_modal_projector"),
        (Part::Encoder, "vision_model"),
        (Part::Encoder, "vision_tower"),
        (Part::Encoder, "visual"),
    ];
    assert_eq!(outside_layers, expected.map(|(part, module)| (part, module.to_owned())).into());
}
