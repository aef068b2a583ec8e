//! Defaults and accounting rules of each version of vLLM: `data/engines.toml`, folded up to one version.

use std::sync::LazyLock;

use serde::Deserialize;
use toml::{Table, Value};

use super::{SchedulerRules, Version};
use crate::{Error, Result};

/// What vLLM of one version does: its defaults and how it accounts for memory.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineRules {
    /// The version.
    pub version: Version,
    /// Whether the accounting of this version was checked against real servers.
    pub basis: AccountingBasis,
    /// Generation of the engine core.
    pub core: Core,
    /// Values of settings that were not given.
    pub defaults: DefaultSettings,
    /// What counts against the requested memory.
    pub budget: BudgetRules,
    /// Peak activation memory of the profile run.
    pub activation: ActivationRules,
    /// KV cache planning.
    pub kv_cache: KvCacheRules,
    /// Scheduling.
    pub scheduler: SchedulerRules,
    /// Memory of the CUDA graphs.
    pub cuda_graphs: CudaGraphRules,
    /// What the kernels of MXFP4 experts make of them; the first row that matches the device applies.
    #[serde(default)]
    pub mxfp4: Vec<Mxfp4Padding>,
    /// Memory outside of `PyTorch`'s allocator, by parallel sizes.
    pub non_torch: Vec<NonTorch>,
}

/// How far the accounting rests on checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccountingBasis {
    /// Checked against start-ups of this version line.
    Validated,
    /// Carried on from the last version that was checked.
    Extrapolated,
}

/// Generation of the engine core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Core {
    /// The engine up to 0.7, still selectable until 0.10.
    V0,
    /// The engine since 0.8.
    V1,
}

/// Defaults of engine settings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultSettings {
    /// Share of the device's memory that the engine may use.
    pub gpu_memory_utilization: f64,
    /// Tokens of a KV cache block.
    pub block_size: u64,
    /// Prefix caching is on.
    pub enable_prefix_caching: bool,
    /// Scheduling runs ahead of the device.
    pub async_scheduling: bool,
    /// Batch limits by device; the first row that matches applies.
    pub batch: Vec<BatchDefault>,
}

/// Batch limits of the API server on a class of devices.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchDefault {
    /// Smallest device total the row applies to.
    #[serde(default)]
    pub min_total_gib: f64,
    /// The row does not apply to devices whose name holds this (lower case).
    pub name_without: Option<String>,
    /// Tokens of a step.
    pub max_num_batched_tokens: u64,
    /// Requests of a step.
    pub max_num_seqs: u64,
}

/// What counts against `gpu_memory_utilization` x total.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetRules {
    /// The estimate of CUDA graph memory is taken from the KV cache.
    pub graph_estimate_in_budget: bool,
}

/// Top-k/top-p sampler of the profile run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// `PyTorch`'s sort.
    Sort,
    /// Triton kernel.
    Triton,
}

/// Coefficients of peak activation memory (`memory::activation` has the formula).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivationRules {
    /// The sampler.
    pub sampler: Sampler,
    /// Bytes per logit.
    pub sampler_bytes_per_logit: f64,
    /// Copies of the hidden states alive in the sampler phase.
    pub sampler_hidden_copies: f64,
    /// Rows of fp32 logits per streaming multiprocessor.
    pub sampler_vocab_rows_per_sm: u64,
    /// Constant of the sampler phase.
    pub sampler_constant_gib: f64,
    /// The experts' workspaces stay allocated.
    pub moe_workspace: bool,
}

/// What "GPU KV cache size: N tokens" means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokensReported {
    /// `num_blocks // groups x smallest block size`.
    BlocksPerGroup,
    /// `int(max_concurrency x max_model_len)`.
    ConcurrencyTimesLength,
}

/// KV cache planning. Each flag is one behaviour that differs between versions.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent behaviour of a version, read from a table")]
pub struct KvCacheRules {
    /// Layers of different kinds get groups of their own; else all are full attention.
    pub hybrid_groups: bool,
    /// A group takes the largest kind's layer count if that is below this multiple of the smallest's.
    pub group_size_ratio: f64,
    /// Meaning of the printed token count.
    pub tokens_reported: TokensReported,
    /// Every batch in flight (2 with asynchronous scheduling, PP otherwise) holds window tokens.
    pub in_flight_batches_counted: bool,
    /// One block (the null block) is set aside when checking that a request fits.
    pub null_block_set_aside: bool,
    /// `num_gpu_blocks_override` is what the check sees; else it sees the real memory.
    pub override_checked: bool,
    /// Pages that do not divide the largest are padded; else refused.
    pub pads_indivisible_pages: bool,
    /// Mamba pages smaller than the largest page are padded to it; else refused.
    pub pads_mamba_pages: bool,
    /// Mamba layers are of one type only if their pages are equal.
    pub mamba_type_by_page: bool,
    /// Local attention is promoted to full attention at the full layers' block size, also where an MLA page can be
    /// neither raised nor padded; else at its own block size and only with the hybrid manager off.
    pub promotes_local_layers: bool,
    /// MLA layers of different width and equal cache type share the first layer's page.
    pub merges_mla_widths: bool,
    /// Sliding-window and chunked layers take the value head to be as wide as the key head; where they are promoted,
    /// all layers take the first layer's.
    pub sliding_value_head_ignored: bool,
    /// `--kv-cache-dtype auto` is the type that the checkpoint asks for, where it asks; else the compute type.
    pub auto_follows_checkpoint: bool,
    /// The recurrent state of linear attention is kept in the compute type, whatever the config says.
    pub linear_state_in_compute_dtype: bool,
    /// Prefix caching is on by default for models with Mamba or linear-attention layers.
    pub hybrid_prefix_caching: bool,
    /// `--mamba-cache-mode all` exists, and is the default of Mamba layers with prefix caching.
    pub mamba_cache_mode_all: bool,
    /// With `--mamba-cache-mode all`, states of speculative tokens come on top of those at block boundaries.
    pub mamba_all_adds_speculative: bool,
    /// The attention block of a hybrid model is a multiple of the requested block size.
    pub hybrid_block_follows_request: bool,
    /// The attention block of a hybrid MLA model is a multiple of this many tokens.
    pub hybrid_mla_block_alignment: u64,
}

/// Memory outside of `PyTorch`'s allocator (CUDA context, NCCL, cuBLAS), as printed by real servers.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NonTorch {
    /// Smallest tensor-parallel size the row applies to.
    pub tp: u32,
    /// Smallest pipeline-parallel size the row applies to.
    #[serde(default = "one")]
    pub pp: u32,
    /// The memory.
    pub gib: f64,
}

fn one() -> u32 {
    1
}

/// Memory of the CUDA graphs: number of graphs x (`gib_per_graph` + `gib_per_graph_and_layer` x layers).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CudaGraphRules {
    /// Memory of a graph, whatever its size.
    pub gib_per_graph: f64,
    /// Memory of a graph for each layer of the stage.
    pub gib_per_graph_and_layer: f64,
}

/// How the kernels of a device want MXFP4 experts: sizes are raised to multiples, biases may be widened.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mxfp4Padding {
    /// Generations of accelerators the row applies to; empty: any other.
    #[serde(default)]
    pub architectures: Vec<String>,
    /// The hidden size is raised to a multiple of this.
    pub hidden_multiple: u64,
    /// The inner width of an expert on a rank is raised to a multiple of this.
    pub intermediate_multiple: u64,
    /// Outputs are padded too, not only inputs.
    pub outputs_padded: bool,
    /// Scales are padded too, not only values.
    pub scales_padded: bool,
    /// Bytes of a bias.
    pub bias_bytes: u64,
}

struct Registry {
    default_version: Version,
    rows: Vec<(Version, Table)>,
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    #[derive(Deserialize)]
    struct File {
        default_version: Version,
        version: Vec<Table>,
    }
    let file: File = toml::from_str(include_str!("../../data/engines.toml")).expect("data/engines.toml is valid");
    let rows = file.version.into_iter().map(|mut row| {
        let from = row.remove("from").and_then(|from| from.try_into().ok()).expect("every row has a `from`");
        row.remove("source").expect("every row has a `source`");
        (from, row)
    });
    Registry { default_version: file.default_version, rows: rows.collect() }
});

impl EngineRules {
    /// The rules of one version: every row up to it, later rows over earlier ones.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a version older than the first row.
    #[expect(clippy::missing_panics_doc, reason = "the table is part of the program; tests fold every row")]
    pub fn of(version: Version) -> Result<Self> {
        let mut merged = Table::new();
        for (_, row) in REGISTRY.rows.iter().filter(|(from, _)| *from <= version) {
            overlay(&mut merged, row);
        }
        if merged.is_empty() {
            return Err(Error::Unknown {
                kind: "engine version",
                name: format!("vllm@{version}"),
                similar: vec![format!("vllm@{}", REGISTRY.rows[0].0)],
            });
        }
        merged.insert("version".to_owned(), Value::String(version.to_string()));
        Ok(merged.try_into().expect("data/engines.toml: the first row is complete (tests fold every row)"))
    }

    /// The rules of the version that llm-d's guides pin.
    #[expect(clippy::missing_panics_doc, reason = "the table is part of the program; tests fold every row")]
    pub fn of_default_version() -> Self {
        Self::of(REGISTRY.default_version).expect("the default version is in the table")
    }

    /// Versions at which a rule changes, ascending.
    pub fn versions() -> impl Iterator<Item = Version> {
        REGISTRY.rows.iter().map(|(from, _)| *from)
    }

    /// What the kernels of MXFP4 experts on this generation of accelerators make of them.
    pub fn mxfp4_padding(&self, architecture: &str) -> Option<&Mxfp4Padding> {
        let applies = |row: &&Mxfp4Padding| {
            row.architectures.is_empty() || row.architectures.iter().any(|known| known == architecture)
        };
        self.mxfp4.iter().find(applies)
    }

    /// Batch limits of the API server on a device.
    #[expect(clippy::missing_panics_doc, reason = "the table is part of the program; tests fold every row")]
    pub fn batch_default(&self, total_gib: f64, device_name: &str) -> &BatchDefault {
        let name = device_name.to_lowercase();
        let applies = |row: &&BatchDefault| {
            total_gib >= row.min_total_gib && row.name_without.as_ref().is_none_or(|part| !name.contains(part.as_str()))
        };
        self.defaults.batch.iter().find(applies).expect("the last row of data/engines.toml has no condition")
    }
}

/// Puts `over` on `base`: tables key by key, everything else whole.
fn overlay(base: &mut Table, over: &Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => overlay(base, over),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(version: &str) -> EngineRules {
        EngineRules::of(version.parse().unwrap()).unwrap()
    }

    #[test]
    fn every_row_folds() {
        let versions: Vec<_> = EngineRules::versions().collect();
        assert!(versions.is_sorted());
        for version in versions {
            let rules = EngineRules::of(version).unwrap();
            assert!(rules.non_torch.iter().any(|row| row.tp == 1 && row.pp == 1));
            assert!(rules.defaults.batch.last().unwrap().name_without.is_none());
        }
        EngineRules::of_default_version();
    }

    #[test]
    fn a_version_between_rows_follows_the_older_one() {
        assert_eq!(rules("0.19.1").kv_cache, rules("0.19.0").kv_cache);
        assert_eq!(rules("0.32.0").kv_cache, rules("0.27.0").kv_cache);
        assert!((rules("0.19.1").defaults.gpu_memory_utilization - 0.9).abs() < 1e-12);
        assert!((rules("0.20.2").defaults.gpu_memory_utilization - 0.92).abs() < 1e-12);
    }

    #[test]
    fn batch_limits_depend_on_the_device() {
        let rules = rules("0.19.0");
        assert_eq!(rules.batch_default(79.18, "H100-SXM-80GB").max_num_seqs, 1024);
        assert_eq!(rules.batch_default(79.25, "A100-SXM-80GB").max_num_seqs, 256);
        assert_eq!(rules.batch_default(22.06, "L4").max_num_batched_tokens, 2048);
    }

    #[test]
    fn a_version_before_the_table_is_unknown() {
        assert!(EngineRules::of("0.1.0".parse().unwrap()).is_err());
    }
}
