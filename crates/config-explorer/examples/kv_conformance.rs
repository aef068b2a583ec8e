//! Plans the KV cache cases of a file and prints the file back with this project's answers in place of its own.
//!
//! `cargo run --release --example kv_conformance -- FILE`. The file holds `cases[]` (layer specs of each pipeline stage,
//! memory and settings; answered for vLLM 0.19.1 and 0.33.0 in the layer-major layout) and
//! `hybrid_block_size_0_19_1[]` (shapes of hybrid models). Only the inputs are read.

use config_explorer::engine::{EngineRules, KvCacheRules, MambaCacheMode};
use config_explorer::memory::kv_cache::{
    CacheKind, GroupPages, HybridBlockSizes, HybridModel, KvCacheGroup, KvCacheLayout, KvCacheRefusal, KvCacheRequest,
    KvCacheSpec, KvHeads, LocalAttention, MaxModelLen, MlaCacheType,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Names of the answers and the versions they are of.
pub(crate) const ANSWERS: [(&str, &str); 2] = [("0.19.1", "0.19.1"), ("0.33.0/LBNHC", "0.33.0")];

/// Longest length that the estimates are searched to, in tokens.
const LONGEST_ESTIMATE: u64 = 1 << 24;

fn main() -> Result<()> {
    let path = std::env::args().nth(1).ok_or("usage: kv_conformance FILE")?;
    let file = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    serde_json::to_writer_pretty(std::io::stdout().lock(), &answered(file)?)?;
    Ok(())
}

/// The file with `expected` and `output` computed.
pub(crate) fn answered(mut file: Value) -> Result<Value> {
    for case in file.get_mut("cases").and_then(Value::as_array_mut).ok_or("no `cases`")? {
        let input = Case::deserialize(&*case)?;
        let mut answers = Map::new();
        for (name, version) in ANSWERS {
            let rules = EngineRules::of(version.parse()?)?.kv_cache;
            let answer = input.answer(&rules).map_err(|error| format!("case {}: {error}", case["name"]))?;
            answers.insert(name.to_owned(), answer);
        }
        case["expected"] = Value::Object(answers);
    }
    let rules = EngineRules::of("0.19.1".parse()?)?.kv_cache;
    for model in file.get_mut("hybrid_block_size_0_19_1").and_then(Value::as_array_mut).into_iter().flatten() {
        let input = HybridInput::deserialize(&model["input"])?;
        model["output"] = input.answer(&rules);
    }
    Ok(file)
}

#[derive(Deserialize)]
struct Case {
    config: Config,
    spec_types: Vec<SpecType>,
    workers: Vec<Vec<(String, usize)>>,
    available_memory: Vec<u64>,
}

#[derive(Deserialize)]
struct Config {
    max_model_len: i64,
    derived_max_model_len: Option<u64>,
    max_num_batched_tokens: u64,
    #[serde(default = "one")]
    dcp: u64,
    #[serde(default)]
    async_scheduling: bool,
    num_gpu_blocks_override: Option<u64>,
    #[serde(default)]
    disable_hybrid_kv_cache_manager: bool,
    #[serde(default)]
    mamba_cache_mode: MambaCacheMode,
}

fn one() -> u64 {
    1
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum SpecType {
    Full(AttentionSpec),
    Sliding {
        #[serde(flatten)]
        attention: AttentionSpec,
        sliding_window: u64,
    },
    Chunked {
        #[serde(flatten)]
        attention: AttentionSpec,
        attention_chunk_size: u64,
    },
    Mla {
        block_size: u64,
        head_size: u64,
        dtype: Element,
        cache_dtype_str: Option<CacheType>,
    },
    Mamba {
        block_size: u64,
        shapes: Vec<Vec<u64>>,
        dtypes: Vec<Element>,
        page_size_padded: Option<u64>,
        #[serde(default)]
        num_speculative_blocks: u64,
    },
}

#[derive(Deserialize)]
struct AttentionSpec {
    block_size: u64,
    num_kv_heads: u64,
    head_size: u64,
    head_size_v: Option<u64>,
    dtype: Element,
}

impl AttentionSpec {
    fn heads(&self) -> KvHeads {
        KvHeads {
            kv_heads: self.num_kv_heads,
            head_dim: self.head_size,
            value_head_dim: self.head_size_v.unwrap_or(self.head_size),
            element_bytes: self.dtype.bytes(),
        }
    }
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Element {
    Fp32,
    Bf16,
    Fp16,
    Fp8,
    U8,
}

impl Element {
    fn bytes(self) -> u64 {
        match self {
            Self::Fp32 => 4,
            Self::Bf16 | Self::Fp16 => 2,
            Self::Fp8 | Self::U8 => 1,
        }
    }
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum CacheType {
    Auto,
    Fp8,
    Fp8DsMla,
}

impl SpecType {
    fn spec(&self) -> KvCacheSpec {
        let (block_size, padded_page_bytes, kind) = match self {
            Self::Full(attention) => {
                (attention.block_size, None, CacheKind::Full { heads: attention.heads(), local: None })
            }
            Self::Sliding { attention, sliding_window } => {
                let local = LocalAttention::SlidingWindow(*sliding_window);
                (attention.block_size, None, CacheKind::Local { heads: attention.heads(), local })
            }
            Self::Chunked { attention, attention_chunk_size } => {
                let local = LocalAttention::Chunked(*attention_chunk_size);
                (attention.block_size, None, CacheKind::Local { heads: attention.heads(), local })
            }
            Self::Mla { block_size, head_size, dtype, cache_dtype_str } => {
                let cache_type = cache_dtype_str.map(|cache_type| match cache_type {
                    CacheType::Auto => MlaCacheType::Auto,
                    CacheType::Fp8 => MlaCacheType::Fp8,
                    CacheType::Fp8DsMla => MlaCacheType::Fp8DsMla,
                });
                let kind = CacheKind::Mla { head_dim: *head_size, element_bytes: dtype.bytes(), cache_type };
                (*block_size, None, kind)
            }
            Self::Mamba { block_size, shapes, dtypes, page_size_padded, num_speculative_blocks } => {
                let state_bytes = state_bytes(shapes, dtypes);
                let kind = CacheKind::Mamba { state_bytes, speculative_blocks: *num_speculative_blocks };
                (*block_size, *page_size_padded, kind)
            }
        };
        KvCacheSpec { block_size, padded_page_bytes, kind }
    }
}

fn state_bytes(shapes: &[Vec<u64>], dtypes: &[Element]) -> u64 {
    shapes.iter().zip(dtypes).map(|(shape, dtype)| shape.iter().product::<u64>() * dtype.bytes()).sum()
}

impl Case {
    fn request(&self) -> Result<KvCacheRequest> {
        let config = &self.config;
        let max_model_len = if let Ok(len) = u64::try_from(config.max_model_len) {
            MaxModelLen::Fixed(len)
        } else {
            let model_limit = config.derived_max_model_len.ok_or("auto-fit without `derived_max_model_len`")?;
            MaxModelLen::Auto { model_limit }
        };
        Ok(KvCacheRequest {
            max_model_len,
            max_num_batched_tokens: config.max_num_batched_tokens,
            async_scheduling: config.async_scheduling,
            decode_context_parallel_size: config.dcp,
            num_gpu_blocks_override: config.num_gpu_blocks_override,
            disable_hybrid_kv_cache_manager: config.disable_hybrid_kv_cache_manager,
            mamba_cache_mode: config.mamba_cache_mode,
        })
    }

    fn answer(&self, rules: &KvCacheRules) -> Result<Value> {
        let request = self.request()?;
        let mut stages = Vec::new();
        for worker in &self.workers {
            let spec = |(_, index): &(String, usize)| self.spec_types.get(*index).map(SpecType::spec);
            stages.push(worker.iter().map(spec).collect::<Option<Vec<_>>>().ok_or("a layer of no spec type")?);
        }
        if self.available_memory.len() != stages.len() {
            return Err("`available_memory` is not by worker".into());
        }
        let layout = match KvCacheLayout::new(&stages, &request, rules) {
            Ok(layout) => layout,
            Err(KvCacheRefusal::MambaCacheModeAll) => {
                return Ok(
                    json!({ "not_applicable": "mamba cache mode all does not exist for prefix caching in 0.33" }),
                );
            }
            Err(refusal) => {
                let class = error_class(&refusal);
                return Ok(json!({ "error": class, "groups_error": format!("{class}: {refusal}") }));
            }
        };

        let mut answer = Map::new();
        match layout.plan(&self.available_memory) {
            Err(refusal) => {
                answer.insert("error".to_owned(), json!(error_class(&refusal)));
            }
            Ok(plan) => {
                answer.insert("num_blocks".to_owned(), json!(plan.num_blocks));
                answer.insert("max_model_len".to_owned(), json!(plan.max_model_len));
                if rules.in_flight_batches_counted {
                    answer.insert("max_in_flight_tokens".to_owned(), json!(layout.max_in_flight_tokens()));
                }
                if !layout.groups().is_empty() {
                    answer.insert("max_concurrency".to_owned(), json!(vec![plan.max_concurrency; stages.len()]));
                    answer.insert("reported_tokens".to_owned(), json!(plan.tokens_reported));
                    if rules.in_flight_batches_counted {
                        // The scheduler's block table has the same groups, so the same blocks a request.
                        answer.insert("max_concurrency_scheduler".to_owned(), json!(plan.max_concurrency));
                    }
                }
            }
        }
        let names: Vec<&str> = self.workers.iter().flatten().map(|(name, _)| name.as_str()).collect();
        let groups: Vec<Value> = layout.groups().iter().map(|group| group_json(group, &names)).collect();
        answer.insert("groups".to_owned(), json!(groups));
        if !groups.is_empty() {
            let len = match request.max_model_len {
                MaxModelLen::Fixed(len) => len,
                MaxModelLen::Auto { model_limit } => model_limit,
            };
            let estimates = self.available_memory.iter().enumerate().map(|(stage, &bytes)| {
                (layout.longest_model_len(stage, bytes, LONGEST_ESTIMATE), layout.needed_bytes(stage, len))
            });
            answer.insert("est_max_len_and_needed_bytes".to_owned(), json!(estimates.collect::<Vec<_>>()));
        }
        Ok(Value::Object(answer))
    }
}

fn group_json(group: &KvCacheGroup, names: &[&str]) -> Value {
    let mut json = Map::new();
    let mut put = |key: &str, value: Value| json.insert(key.to_owned(), value);
    let layers: Vec<&str> = group.layers.iter().map(|&layer| names[layer as usize]).collect();
    put("layers", json!(layers));
    let page_bytes = match &group.pages {
        GroupPages::Equal(bytes) => *bytes,
        GroupPages::Mixed(bytes) => {
            put("kind", json!("uniform_type"));
            put("block_size", json!(group.spec.block_size));
            put("page_size", json!(bytes.iter().sum::<u64>()));
            return Value::Object(json);
        }
    };
    let (kind, local, heads) = match group.spec.kind {
        CacheKind::Full { heads, local } => ("full", local, Some((heads.kv_heads, heads.head_dim))),
        CacheKind::Local { heads, local } => {
            let kind = match local {
                LocalAttention::SlidingWindow(_) => "sliding",
                LocalAttention::Chunked(_) => "chunked",
            };
            (kind, Some(local), Some((heads.kv_heads, heads.head_dim)))
        }
        CacheKind::Mla { head_dim, .. } => ("mla", None, Some((1, head_dim))),
        CacheKind::Mamba { .. } => ("mamba", None, None),
    };
    put("kind", json!(kind));
    put("block_size", json!(group.spec.block_size));
    put("page_size", json!(page_bytes));
    match local {
        Some(LocalAttention::SlidingWindow(window)) => _ = put("sliding_window", json!(window)),
        Some(LocalAttention::Chunked(chunk)) => _ = put("attention_chunk_size", json!(chunk)),
        None => {}
    }
    if let Some((kv_heads, head_dim)) = heads {
        put("num_kv_heads", json!(kv_heads));
        put("head_size", json!(head_dim));
    }
    if let Some(bytes) = group.spec.padded_page_bytes {
        put("page_size_padded", json!(bytes));
    }
    Value::Object(json)
}

/// The Python exception that vLLM raises.
fn error_class(refusal: &KvCacheRefusal) -> &'static str {
    match refusal {
        KvCacheRefusal::PagesNotUnifiable { .. } => "NotImplementedError",
        KvCacheRefusal::StateNotPadded { .. }
        | KvCacheRefusal::StageWithoutCache { .. }
        | KvCacheRefusal::WindowWithContextParallel => "AssertionError",
        _ => "ValueError",
    }
}

#[derive(Deserialize)]
struct HybridInput {
    tp: u64,
    total_kv_heads: u64,
    head_size: u64,
    state_shapes: Vec<Vec<u64>>,
    state_dtypes: Vec<Element>,
    user_block_size: u64,
    mamba_cache_mode: MambaCacheMode,
    use_mla: bool,
    kv_dtype: Element,
    max_model_len: u64,
    mamba_chunk_size: Option<u64>,
}

impl HybridInput {
    fn answer(&self, rules: &KvCacheRules) -> Value {
        let (kv_heads, vectors) =
            if self.use_mla { (1, 1) } else { ((self.total_kv_heads / self.tp.max(1)).max(1), 2) };
        let model = HybridModel {
            attention_token_bytes: vectors * kv_heads * self.head_size * self.kv_dtype.bytes(),
            uses_mla: self.use_mla,
            state_bytes: state_bytes(&self.state_shapes, &self.state_dtypes),
            chunk_size: self.mamba_chunk_size,
            block_size: self.user_block_size,
            mamba_cache_mode: self.mamba_cache_mode,
            max_model_len: self.max_model_len,
        };
        let sizes = HybridBlockSizes::new(&model, rules);
        json!({
            "block_size": sizes.block_size,
            "mamba_block_size": sizes.mamba_block_size,
            "mamba_page_size_padded": sizes.mamba_page_bytes_padded,
            "mamba_cache_mode": self.mamba_cache_mode,
        })
    }
}
