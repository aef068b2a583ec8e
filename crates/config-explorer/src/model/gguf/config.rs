//! GGUF metadata as the `config.json` that transformers would have.
//!
//! Keys: `Keys` in llama.cpp's `gguf-py/gguf/constants.py` (commit 0024aa7), and what its `convert_hf_to_gguf.py` writes
//! into them for each family.

use serde_json::{Map, Value as Json, json};

use super::header::{Header, Value};

/// What transformers calls a GGUF architecture.
#[derive(Clone, Copy)]
struct Family {
    /// `general.architecture`.
    architecture: &'static str,
    model_type: &'static str,
    class: &'static str,
    /// The config key for the number of routed experts.
    experts_key: &'static str,
    /// Of so many layers the last sees every token and the others a window (`set_swa_pattern` in llama.cpp's loader);
    /// `None` where all layers are alike or the metadata say which is which.
    sliding_pattern: Option<u64>,
}

const fn dense(architecture: &'static str, model_type: &'static str, class: &'static str) -> Family {
    moe(architecture, model_type, class, "num_experts")
}

const fn moe(
    architecture: &'static str,
    model_type: &'static str,
    class: &'static str,
    experts_key: &'static str,
) -> Family {
    Family { architecture, model_type, class, experts_key, sliding_pattern: None }
}

const fn sliding(family: Family, pattern: u64) -> Family {
    Family { sliding_pattern: Some(pattern), ..family }
}

const FAMILIES: &[Family] = &[
    dense("llama", "llama", "LlamaForCausalLM"),
    dense("mistral3", "mistral", "MistralForCausalLM"),
    dense("qwen2", "qwen2", "Qwen2ForCausalLM"),
    moe("qwen2moe", "qwen2_moe", "Qwen2MoeForCausalLM", "num_experts"),
    dense("qwen3", "qwen3", "Qwen3ForCausalLM"),
    moe("qwen3moe", "qwen3_moe", "Qwen3MoeForCausalLM", "num_experts"),
    dense("gemma", "gemma", "GemmaForCausalLM"),
    sliding(dense("gemma2", "gemma2", "Gemma2ForCausalLM"), 2),
    sliding(dense("gemma3", "gemma3_text", "Gemma3ForCausalLM"), 6),
    dense("phi2", "phi", "PhiForCausalLM"),
    dense("phi3", "phi3", "Phi3ForCausalLM"),
    moe("deepseek2", "deepseek_v2", "DeepseekV2ForCausalLM", "n_routed_experts"),
    dense("glm4", "glm4", "Glm4ForCausalLM"),
    moe("glm4moe", "glm4_moe", "Glm4MoeForCausalLM", "n_routed_experts"),
    sliding(moe("gpt-oss", "gpt_oss", "GptOssForCausalLM", "num_local_experts"), 2),
    dense("granite", "granite", "GraniteForCausalLM"),
    moe("granitemoe", "granitemoe", "GraniteMoeForCausalLM", "num_local_experts"),
    dense("command-r", "cohere", "CohereForCausalLM"),
    sliding(dense("cohere2", "cohere2", "Cohere2ForCausalLM"), 4),
    dense("starcoder2", "starcoder2", "Starcoder2ForCausalLM"),
    dense("stablelm", "stablelm", "StableLmForCausalLM"),
];

/// Mixtral is stored as `llama` with experts.
const MIXTRAL: Family = moe("llama", "mixtral", "MixtralForCausalLM", "num_local_experts");

/// DeepSeek-V3 is stored as `deepseek2` with sigmoid routing.
const DEEPSEEK_V3: Family = moe("deepseek2", "deepseek_v3", "DeepseekV3ForCausalLM", "n_routed_experts");

/// `expert_gating_func` of sigmoid routing.
const GATING_SIGMOID: u64 = 2;

/// More layers than any model has.
const LAYERS_MAX: u64 = 10_000;

/// Metadata of token mixers that are not attention.
const RECURRENT: &[&str] = &["ssm.", "wkv.", "kda.", "shortconv."];

/// Metadata that has the same meaning under another name.
const SAME: &[(&str, &str)] = &[
    ("context_length", "max_position_embeddings"),
    ("embedding_length", "hidden_size"),
    ("attention.key_length", "head_dim"),
    ("attention.sliding_window", "sliding_window"),
    ("attention.q_lora_rank", "q_lora_rank"),
    ("attention.kv_lora_rank", "kv_lora_rank"),
    ("expert_used_count", "num_experts_per_tok"),
    ("expert_feed_forward_length", "moe_intermediate_size"),
    ("expert_shared_feed_forward_length", "shared_expert_intermediate_size"),
    ("expert_shared_count", "n_shared_experts"),
    ("leading_dense_block_count", "first_k_dense_replace"),
    ("nextn_predict_layers", "num_nextn_predict_layers"),
];

/// The config of the model that the metadata describe, with what had to be assumed. The error is what is wrong.
pub(super) fn config(header: &Header) -> Result<(Json, Vec<String>), String> {
    let Some(Value::String(architecture)) = header.metadata.get("general.architecture") else {
        return Err("no `general.architecture` in the metadata".to_owned());
    };
    let metadata = Metadata { header, architecture };
    if let Some(key) = RECURRENT.iter().find_map(|family| metadata.key_starting_with(family)) {
        return Err(format!("`{key}`: recurrent layers are not read from GGUF files; name the original model instead"));
    }
    let layers = metadata.required("block_count")?;
    if layers > LAYERS_MAX {
        return Err(format!("`{architecture}.block_count`: {layers} layers; at most {LAYERS_MAX} are allowed"));
    }
    let query_heads = metadata.required("attention.head_count")?;
    let experts = metadata.number("expert_count").filter(|&experts| experts > 0);
    let family =
        FAMILIES.iter().find(|family| family.architecture == architecture).map(|family| match architecture.as_str() {
            "llama" if experts.is_some() => &MIXTRAL,
            "deepseek2" if metadata.number("expert_gating_func") == Some(GATING_SIGMOID) => &DEEPSEEK_V3,
            _ => family,
        });

    let mut warnings = Vec::new();
    let mut config = Map::new();
    config.insert("model_type".to_owned(), json!(family.map_or(architecture.as_str(), |family| family.model_type)));
    config.insert("architectures".to_owned(), json!([family.map_or(architecture.as_str(), |family| family.class)]));
    // vLLM runs GGUF models in 16 bits, as it does configs of 32.
    config.insert("torch_dtype".to_owned(), json!("float32"));
    config.insert("num_attention_heads".to_owned(), json!(query_heads));
    for (gguf, transformers) in SAME {
        if let Some(number) = metadata.number(gguf) {
            config.insert((*transformers).to_owned(), json!(number));
        }
    }
    // llama.cpp counts the draft layers among the blocks.
    let draft_layers = metadata.number("nextn_predict_layers").unwrap_or(0);
    config.insert("num_hidden_layers".to_owned(), json!(layers.saturating_sub(draft_layers)));
    for (gguf, transformers) in
        [("feed_forward_length", "intermediate_size"), ("attention.head_count_kv", "num_key_value_heads")]
    {
        if let Some((number, varies)) = metadata.largest(gguf) {
            config.insert(transformers.to_owned(), json!(number));
            if varies {
                warnings.push(format!("`{gguf}` differs between layers; its largest value is used for all"));
            }
        }
    }
    if let Some(experts) = experts {
        config.insert(family.map_or("num_experts", |family| family.experts_key).to_owned(), json!(experts));
    }
    config.insert("vocab_size".to_owned(), json!(metadata.vocab_size()?));
    config.insert("tie_word_embeddings".to_owned(), json!(!header.tensors.iter().any(|t| t.name == "output.weight")));
    metadata.latent_attention(query_heads, &mut config);
    if config.contains_key("sliding_window")
        && let Some(types) = metadata.layer_types(layers, family.and_then(|family| family.sliding_pattern))
    {
        config.insert("layer_types".to_owned(), json!(types));
    }
    Ok((Json::Object(config), warnings))
}

struct Metadata<'a> {
    header: &'a Header,
    architecture: &'a str,
}

impl Metadata<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.header.metadata.get(&format!("{}.{key}", self.architecture))
    }

    fn key_starting_with(&self, key: &str) -> Option<&String> {
        let prefix = format!("{}.{key}", self.architecture);
        self.header.metadata.keys().find(|key| key.starts_with(&prefix))
    }

    fn number(&self, key: &str) -> Option<u64> {
        number(self.get(key)?)
    }

    /// The largest of a value per layer, and whether they differ. Layers without the module (0) do not count.
    fn largest(&self, key: &str) -> Option<(u64, bool)> {
        match self.get(key)? {
            Value::Array(values) => {
                let numbers = || values.iter().filter_map(number).filter(|&number| number > 0);
                let largest = numbers().max()?;
                Some((largest, numbers().any(|number| number != largest)))
            }
            value => Some((number(value)?, false)),
        }
    }

    fn required(&self, key: &str) -> Result<u64, String> {
        self.largest(key)
            .map(|(number, _)| number)
            .ok_or_else(|| format!("no number `{}.{key}` in the metadata", self.architecture))
    }

    /// Rows of the embedding. The vocabulary's length is not always in the metadata.
    fn vocab_size(&self) -> Result<u64, String> {
        let embedding = || self.header.tensors.iter().find(|tensor| tensor.name == "token_embd.weight");
        let tokens = || match self.header.metadata.get("tokenizer.ggml.tokens")? {
            Value::Array(tokens) => Some(tokens.len() as u64),
            Value::Skipped(length) => Some(*length),
            _ => None,
        };
        embedding()
            .and_then(|tensor| tensor.shape.first().copied())
            .or_else(|| self.number("vocab_size"))
            .or_else(tokens)
            .ok_or_else(|| "neither `token_embd.weight` nor a vocabulary".to_owned())
    }

    /// Head widths of MLA. Newer files describe the absorbed form (one KV head as wide as the latent) and keep the
    /// original widths under `_mla`.
    fn latent_attention(&self, query_heads: u64, config: &mut Map<String, Json>) {
        if !config.contains_key("kv_lora_rank") {
            return;
        }
        let rope = self.number("rope.dimension_count").unwrap_or(0);
        let key = self.number("attention.key_length_mla").or_else(|| self.number("attention.key_length"));
        let value = self.number("attention.value_length_mla").or_else(|| self.number("attention.value_length"));
        config.remove("head_dim");
        config.insert("num_key_value_heads".to_owned(), json!(query_heads));
        config.insert("qk_rope_head_dim".to_owned(), json!(rope));
        if let Some(key) = key {
            config.insert("qk_nope_head_dim".to_owned(), json!(key.saturating_sub(rope)));
        }
        if let Some(value) = value {
            config.insert("v_head_dim".to_owned(), json!(value));
        }
    }

    /// Which layers have a sliding window; `None` where the file and its family do not say.
    fn layer_types(&self, layers: u64, pattern: Option<u64>) -> Option<Vec<&'static str>> {
        let sliding: Vec<bool> = match self.get("attention.sliding_window_pattern") {
            Some(Value::Array(sliding)) if sliding.len() as u64 == layers => {
                sliding.iter().map(|layer| *layer == Value::Bool(true) || number(layer) > Some(0)).collect()
            }
            stored => {
                let pattern = stored.and_then(number).or(pattern).filter(|&pattern| pattern > 0)?;
                (1..=layers).map(|layer| layer % pattern != 0).collect()
            }
        };
        Some(sliding.into_iter().map(|layer| if layer { "sliding_attention" } else { "full_attention" }).collect())
    }
}

fn number(value: &Value) -> Option<u64> {
    match *value {
        Value::Unsigned(number) => Some(number),
        Value::Signed(number) => number.try_into().ok(),
        _ => None,
    }
}
