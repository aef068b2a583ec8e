//! What the names of files and folders say about the results in them.

use std::collections::HashSet;
use std::path::Path;
use std::sync::LazyLock;

use super::{Column, column};
use crate::hardware::Accelerators;

/// The values that the path of a result file gives, the file's own name first. Only the last few folders are read:
/// those above belong to the machine, not to the experiment.
pub(super) fn values(path: &Path) -> Vec<(&'static Column, String)> {
    let mut values = Vec::new();
    for component in path.components().rev().take(4) {
        let name = component.as_os_str().to_string_lossy();
        let name = name.strip_suffix(".json").or_else(|| name.strip_suffix(".csv")).unwrap_or(&name);
        values.extend(name_values(name));
    }
    let columns = values.into_iter().filter_map(|(name, value)| Some((column(name).ok()?, value)));
    columns.collect()
}

/// The stage that an inference-perf file measured (`stage_3_lifecycle_metrics.json`).
pub(super) fn stage(path: &Path) -> Option<usize> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix("stage_")?.split(['_', '.']).next()?.parse().ok()
}

fn name_values(name: &str) -> Vec<(&'static str, String)> {
    let words: Vec<String> = name.split(['_', '-', ' ', ',', '=']).map(str::to_lowercase).collect();
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    let mut values = Vec::new();
    for (index, word) in words.iter().enumerate() {
        // `conc64`, or `conc` and then `64`.
        let after = |keys: &[&str]| {
            let rest = keys.iter().find_map(|key| word.strip_prefix(key))?;
            let text = if rest.is_empty() { words.get(index + 1)? } else { rest };
            number(text).map(|_| text.to_owned())
        };
        let sizes = [
            (&["tp"][..], "tp"),
            (&["pp"][..], "pp"),
            (&["dp"][..], "dp"),
            (&["ep"][..], "ep"),
            (&["concurrency", "conc"][..], "concurrency"),
            (&["isl"][..], "isl"),
            (&["osl"][..], "osl"),
        ];
        values.extend(sizes.into_iter().filter_map(|(keys, column)| Some((column, after(keys)?))));
        if let Some(rate) = word.strip_suffix("qps").filter(|rate| number(rate).is_some()) {
            values.push(("rate_rps", rate.to_owned()));
        }
        let layout = word.strip_suffix('d').and_then(|word| word.split_once('p'));
        if layout.is_some_and(|(prefill, decode)| prefill.parse::<u32>().is_ok() && decode.parse::<u32>().is_ok()) {
            values.push(("layout", word.to_uppercase()));
        }
    }
    // `LMBench_sharegpt_output_2`: the number is the rate.
    if let Some((scenario, rate)) = name.strip_prefix("LMBench_").and_then(|name| name.split_once("_output_"))
        && number(rate).is_some()
    {
        values.push(("dataset", scenario.to_owned()));
        values.push(("rate_rps", rate.to_owned()));
    }
    let gpu = name.split(['_', '-', ' ', ',']).find(|word| is_accelerator(word));
    values.extend(gpu.map(|gpu| ("gpu", gpu.to_owned())));
    values
}

/// Whether a word is the model of an accelerator of the catalogue: `H100`, `MI300X`, `L4`. In lower case only where the
/// name is too long to mean something else (`h100`, but not `a10`).
fn is_accelerator(word: &str) -> bool {
    static MODELS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
        let first_words = Accelerators::built_in().iter().filter_map(|accelerator| accelerator.name.split('-').next());
        first_words.filter(|word| word.contains(|c: char| c.is_ascii_digit())).collect()
    });
    MODELS.contains(word) || word.len() > 3 && MODELS.contains(word.to_uppercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Vec<(&'static str, String)> {
        values(Path::new(path)).into_iter().map(|(column, value)| (&*column.name, value)).collect()
    }

    #[test]
    fn reads_what_names_say() {
        assert_eq!(
            read("exp-7/H100/llm-d-1p1d/openai-3.6qps-concurrency8-model.json"),
            [
                ("rate_rps", "3.6".to_owned()),
                ("concurrency", "8".to_owned()),
                ("layout", "1P1D".to_owned()),
                ("gpu", "H100".to_owned())
            ]
        );
        assert_eq!(
            read("20260217-llama-2-7b-tp1-codegen/conc_256/x.yaml"),
            [("concurrency", "256".to_owned()), ("tp", "1".to_owned())]
        );
        assert_eq!(
            read("LMBench_sharegpt_output_2.csv"),
            [("dataset", "sharegpt".to_owned()), ("rate_rps", "2".to_owned())]
        );
        assert_eq!(stage(Path::new("a/stage_3_lifecycle_metrics.json")), Some(3));
    }

    #[test]
    fn is_not_misled() {
        for path in ["http/edp/conclusion.json", "Qwen3-8B/L1/results.json", "tpx/a.json", "inf_qps/nanqps.json", "B2B"]
        {
            assert_eq!(read(path), [], "{path}");
        }
    }
}
