//! The built-in models: minimal configurations of what people deploy on llm-d, for use without a network.
//!
//! One file a model in `data/models/`: the fields of `config.json` (and `hf_quant_config.json`) that say what it computes
//! and stores, in the family's own names. `build.rs` embeds the folder; only the file that is asked for is parsed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::DType;

include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));

/// A built-in model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueModel {
    /// Hugging Face id.
    pub id: String,
    /// Ids of other repositories with the same architecture and quantisation.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Weights of the main model: each counted once, however it is packed or often it is stored, without quantisation
    /// scales and MTP layers.
    pub parameters: u64,
    stored_elements: Option<BTreeMap<String, u64>>,
    /// Where the figures come from.
    pub source: String,
    config: Box<RawValue>,
    hf_quant_config: Option<Box<RawValue>>,
}

impl CatalogueModel {
    /// Elements by type as the checkpoint's safetensors headers count them, where they are known exactly: containers of
    /// packed weights once, scales, MTP layers and stored duplicates included.
    pub fn stored_elements(&self) -> Option<BTreeMap<DType, u64>> {
        let elements = self.stored_elements.as_ref()?;
        Some(elements.iter().map(|(dtype, count)| (DType::from_safetensors(dtype), *count)).collect())
    }

    /// The text of its minimal `config.json`.
    pub fn config(&self) -> &str {
        self.config.get()
    }

    /// The text of its `hf_quant_config.json`, where the repository has one.
    pub fn hf_quant_config(&self) -> Option<&str> {
        self.hf_quant_config.as_deref().map(RawValue::get)
    }
}

/// The model with this id or alias, in any case; the organisation may be left out where one model is meant.
pub fn find(id: &str) -> Option<CatalogueModel> {
    let wanted = id.to_lowercase();
    if let Ok(at) = NAMES.binary_search_by_key(&wanted.as_str(), |(name, _)| name) {
        return Some(read(NAMES[at].1));
    }
    let mut meant = NAMES.iter().filter(|(name, _)| name.split_once('/').is_some_and(|(_, rest)| rest == wanted));
    let (_, file) = meant.next()?;
    meant.all(|(_, other)| other == file).then(|| read(*file))
}

/// Every model, by id.
pub fn all() -> impl Iterator<Item = CatalogueModel> {
    (0..FILES.len()).map(read)
}

fn read(file: usize) -> CatalogueModel {
    serde_json::from_str(FILES[file]).expect("data/models holds valid entries (a test reads them all)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_entry_is_complete() {
        assert!(all().count() >= 25);
        for model in all() {
            assert!(
                model.id.contains('/') && !model.source.is_empty() && model.parameters > 100_000_000,
                "{}",
                model.id
            );
            let config: serde_json::Value = serde_json::from_str(model.config()).unwrap();
            let text = config.get("text_config").unwrap_or(&config);
            assert!(config["architectures"][0].is_string(), "{}", model.id);
            for field in ["hidden_size", "num_attention_heads", "vocab_size"] {
                assert!(text[field].is_u64(), "{}: {field}", model.id);
            }
            if let Some(elements) = model.stored_elements() {
                assert!(!elements.contains_key(&DType::Other), "{}", model.id);
            }
            if let Some(quantisation) = model.hf_quant_config() {
                assert!(quantisation.contains("quant_algo"), "{}", model.id);
            }
        }
    }

    #[test]
    fn unquantised_models_store_every_parameter() {
        for model in all() {
            let Some(elements) = model.stored_elements() else { continue };
            if elements.keys().eq([&DType::BF16]) {
                assert!(elements[&DType::BF16] >= model.parameters, "{}", model.id);
            }
        }
    }

    #[test]
    fn every_id_and_alias_finds_its_model() {
        for model in all() {
            for name in std::iter::once(&model.id).chain(&model.aliases) {
                assert_eq!(find(name).unwrap().id, model.id);
                assert_eq!(find(&name.to_uppercase()).unwrap().id, model.id);
                let (_, without_organisation) = name.split_once('/').unwrap();
                assert_eq!(find(without_organisation).unwrap().id, model.id);
            }
        }
    }

    #[test]
    fn unknown_ids_find_nothing() {
        for id in ["", "/", "Qwen", "Qwen/", "Qwen/Qwen3-33B", "meta-llama/Qwen3-32B", "Qwen3-32B/"] {
            assert!(find(id).is_none(), "{id}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_or_nothing(id in "\\PC{0,30}") {
            if let Some(model) = find(&id) {
                let known = |name: &String| name.to_lowercase().ends_with(&id.to_lowercase());
                prop_assert!(known(&model.id) || model.aliases.iter().any(known));
            }
        }
    }
}
