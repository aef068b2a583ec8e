//! A table of server start-ups: what each was started with and what it printed.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::{python, table};
use crate::Result;
use crate::engine::{Core, Flag, ServeArgs, Version};

/// Columns that hold a flag of the same meaning, with the flag's name.
const FLAG_COLUMNS: [(&str, &str); 14] = [
    ("tp", "tensor_parallel_size"),
    ("pp", "pipeline_parallel_size"),
    ("dp", "data_parallel_size"),
    ("ep", "enable_expert_parallel"),
    ("dcp", "decode_context_parallel_size"),
    ("util", "gpu_memory_utilization"),
    ("max_model_len", "max_model_len"),
    ("max_num_batched_tokens", "max_num_batched_tokens"),
    ("max_num_seqs", "max_num_seqs"),
    ("dtype", "dtype"),
    ("quant", "quantization"),
    ("kv_dtype", "kv_cache_dtype"),
    ("block_size", "block_size"),
    ("enforce_eager", "enforce_eager"),
];

/// A table of start-ups.
#[derive(Debug, Clone)]
pub struct StartUps {
    /// Headings.
    pub columns: Vec<String>,
    /// One for each server.
    pub rows: Vec<StartUp>,
}

/// One server: what it was started with and what it printed.
#[derive(Debug, Clone)]
pub struct StartUp {
    /// The cells as they were read, one for each column.
    pub cells: Vec<String>,
    /// `id`
    pub id: String,
    /// `model`
    pub model: String,
    /// `vllm`, where it is a version number.
    pub version: Option<Version>,
    /// `engine`
    pub core: Core,
    /// `gpu`, as it was written.
    pub gpu: String,
    /// `gpu_total_gib`
    pub gpu_total_gib: Option<f64>,
    /// What is known of its command.
    pub args: ServeArgs,
    /// What it printed.
    pub printed: Printed,
    /// Cells that could not be read, and why.
    pub problems: Vec<String>,
}

/// What a server printed of its memory.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Printed {
    /// Memory of the weights on one GPU.
    pub weights_gib: Option<f64>,
    /// Peak activation memory.
    pub activation_gib: Option<f64>,
    /// Memory outside of `PyTorch`.
    pub non_torch_gib: Option<f64>,
    /// Memory of the CUDA graphs.
    pub cuda_graph_gib: Option<f64>,
    /// Memory of the KV cache.
    pub kv_gib: Option<f64>,
    /// Tokens of the KV cache.
    pub tokens: Option<f64>,
    /// Blocks of the KV cache.
    pub blocks: Option<f64>,
    /// Requests of full length at once.
    pub concurrency: Option<f64>,
}

impl StartUps {
    /// Reads a CSV file.
    ///
    /// # Errors
    /// [`crate::Error::Io`] for a file that cannot be read, [`crate::Error::Malformed`] for what is no such table.
    pub fn open(path: &Path) -> Result<Self> {
        let (source, place) = table::open(path)?;
        Self::read(source, &place)
    }

    /// Reads CSV with the column `model` and any of `id, vllm, engine, gpu, gpu_total_gib, tp, pp, dp, ep, dcp, util,
    /// max_model_len, max_num_batched_tokens, max_num_seqs, dtype, quant, kv_dtype, block_size, enforce_eager, flags`
    /// (what it was started with) and `weights_gib, activation_gib, kv_gib, kv_tokens, num_blocks, max_concurrency`
    /// (what it printed). Empty cells are unknown; other columns are kept.
    ///
    /// # Errors
    /// [`crate::Error::Malformed`] for what is no CSV, or has no `model`.
    pub fn read(source: impl Read, place: &str) -> Result<Self> {
        let (columns, rows) = table::read(source, place, &["model"], StartUp::new)?;
        Ok(Self { columns, rows })
    }
}

impl StartUp {
    fn new(columns: &[String], cells: Vec<String>) -> Self {
        let mut problems = Vec::new();
        let cell = |name: &str| table::cell(columns, &cells, name);
        let mut number = |name: &str| match (cell(name), cell(name).parse::<f64>()) {
            ("", _) => None,
            (_, Ok(number)) if number.is_finite() => Some(number),
            (text, _) => {
                problems.push(format!("`{name}`: `{text}` is not a number"));
                None
            }
        };
        let printed = Printed {
            weights_gib: number("weights_gib"),
            activation_gib: number("activation_gib"),
            non_torch_gib: number("non_torch_gib"),
            cuda_graph_gib: number("cudagraph_gib"),
            kv_gib: number("kv_gib"),
            tokens: number("kv_tokens"),
            blocks: number("num_blocks"),
            concurrency: number("max_concurrency"),
        };
        let gpu_total_gib = number("gpu_total_gib").filter(|gib| is_gpu_memory(*gib));
        let mut args = ServeArgs::default();
        for (column, flag) in FLAG_COLUMNS {
            let problem = set(&mut args, flag, &Value::String(cell(column).to_owned()));
            problems.extend(problem.map(|problem| format!("`{column}`: {problem}")));
        }
        if let Some(Value::Object(flags)) = python::read(cell("flags")) {
            for (name, value) in flags {
                let name = if name == "limit_mm" { "limit_mm_per_prompt" } else { &name };
                problems.extend(set(&mut args, name, &value));
            }
        }
        Self {
            id: cell("id").to_owned(),
            model: cell("model").to_owned(),
            version: cell("vllm").parse().ok(),
            core: if cell("engine") == "V0" { Core::V0 } else { Core::V1 },
            gpu: cell("gpu").to_owned(),
            gpu_total_gib,
            args,
            printed,
            problems,
            cells,
        }
    }
}

/// It can be the memory of a GPU in GiB.
pub(super) fn is_gpu_memory(gib: f64) -> bool {
    (0.1..=10_000.0).contains(&gib)
}

/// Sets a flag by the name of its field to a value as Python prints it; nothing for no value and for flags that are not
/// known. Gives what is wrong with the value.
pub(super) fn set(args: &mut ServeArgs, name: &str, value: &Value) -> Option<String> {
    let (flag, _) = Flag::find(&format!("--{name}"))?;
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let words = match value {
        Value::Null => return None,
        Value::Array(values) => values.iter().map(word).collect(),
        // Dictionaries inside of a text are Python's too.
        Value::String(text) if text.starts_with('{') => vec![python::read(text)?.to_string()],
        other => vec![word(other)],
    };
    if words.iter().all(String::is_empty) {
        return None;
    }
    let words: Vec<String> = words.into_iter().map(|word| switch_word(flag, word)).collect();
    flag.set(args, &words).err().map(|error| error.to_string())
}

/// A switch is `true` or `false` in the table of flags.
fn switch_word(flag: &Flag, word: String) -> String {
    if flag.kind == crate::engine::FlagKind::Switch { word.to_lowercase() } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> StartUp {
        StartUps::read(text.as_bytes(), "starts.csv").unwrap().rows.remove(0)
    }

    #[test]
    fn a_row_is_a_command_and_what_it_printed() {
        let row = one("id,model,vllm,engine,tp,ep,enforce_eager,flags,util,kv_tokens,other\n\
                       7,a/b,0.19.2rc1.dev2,V1,2,True,False,\
                       \"{\"\"enable_prefix_caching\"\": false, \"\"speculative_config\"\": \
                       \"\"{'method': 'mtp', 'num_speculative_tokens': 3}\"\"}\",0.9,1000,x\n");
        assert_eq!(row.problems, Vec::<String>::new());
        assert_eq!((row.version, row.core), ("0.19.2".parse().ok(), Core::V1));
        let command = row.args.to_command("a/b").join(" ");
        for part in [
            "--tensor-parallel-size 2",
            "--enable-expert-parallel",
            "--no-enforce-eager",
            "--no-enable-prefix-caching",
            "--gpu-memory-utilization 0.9",
            r#"{"method":"mtp","num_speculative_tokens":3}"#,
        ] {
            assert!(command.contains(part), "{part} in {command}");
        }
        assert_eq!(row.printed, Printed { tokens: Some(1000.0), ..Printed::default() });
    }

    #[test]
    fn a_cell_that_cannot_be_read_is_told() {
        let row = one("model,tp,util,kv_tokens\na/b,two,90,many\n");
        assert_eq!(row.problems.len(), 3, "{:?}", row.problems);
        assert_eq!(row.version, None);
    }

    #[test]
    fn a_table_without_models_is_refused() {
        assert!(StartUps::read("a,b\n1,2\n".as_bytes(), "x.csv").is_err());
        assert!(StartUps::read("model,b\n1\n".as_bytes(), "x.csv").is_err());
    }
}
