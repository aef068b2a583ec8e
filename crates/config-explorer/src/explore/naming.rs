//! Short names for configurations, loads and runs, for tables and legends.

use std::collections::{HashMap, HashSet};

use super::{key, setting_columns};
use crate::reports::{Column, Group, Role, Run, Value, column};

/// What tells configurations apart besides their shape, the most telling first.
const TELLING: [&str; 14] = [
    "model",
    "quantisation",
    "precision",
    "gpu",
    "kv_cache_dtype",
    "engine",
    "engine_version",
    "async_scheduling",
    "prefix_cache_scorer_weight",
    "kv_cache_scorer_weight",
    "queue_scorer_weight",
    "prefix_cache_scorer_mode",
    "prefix_cache_scorer_block_size",
    "n_gpu",
];

type Key = Vec<Option<String>>;

/// Names for the configurations of some runs: the shape, and of the rest what differs between them.
#[derive(Debug, Clone)]
pub struct Naming {
    names: HashMap<Key, String>,
    /// Configurations of which some runs of one load differ in the engine's arguments.
    by_flags: HashSet<Key>,
}

impl Naming {
    /// Names for these runs.
    pub fn of(runs: &[&Run]) -> Self {
        let mut classes: Vec<String> = runs.iter().map(|run| shape_name(run)).collect();
        let distinct = |classes: &[String]| classes.iter().collect::<HashSet<_>>().len();
        for column in TELLING.iter().filter_map(|name| column(name).ok()) {
            let finer: Vec<String> = classes
                .iter()
                .zip(runs)
                .map(|(class, run)| join(class, &told(column, run).unwrap_or_default()))
                .collect();
            if distinct(&finer) > distinct(&classes) {
                classes = finer;
            }
        }
        let lengths: Vec<String> =
            classes.iter().zip(runs).map(|(class, run)| join(class, &lengths_name(run))).collect();
        if distinct(&lengths) > distinct(&classes) {
            classes = lengths;
        }
        // Arguments that follow the load (`--max-num-seqs` in many sweeps) do not make another configuration.
        let mut flags: HashMap<(Key, String), &Option<String>> = HashMap::new();
        let mut by_flags = HashSet::new();
        for run in runs {
            let base = configuration_key(run);
            let first = *flags.entry((base.clone(), load_name(run))).or_insert(&run.server.flags);
            if *first != run.server.flags {
                by_flags.insert(base);
            }
        }
        let mut naming = Self { names: HashMap::new(), by_flags };
        // What only the long columns tell apart is numbered.
        let mut counts: HashMap<String, usize> = HashMap::new();
        for (run, class) in runs.iter().zip(classes) {
            let key = naming.key(run);
            naming.names.entry(key).or_insert_with(|| {
                let count = counts.entry(class.clone()).or_default();
                *count += 1;
                if *count == 1 { class } else { format!("{class} #{count}") }
            });
        }
        naming
    }

    fn key(&self, run: &Run) -> Key {
        let mut key = configuration_key(run);
        if self.by_flags.contains(&key) {
            key.push(run.server.flags.clone());
        }
        key
    }

    /// The name of a run's configuration; empty where nothing is known of it, and for a run that [`Naming::of`] was not
    /// given.
    pub fn name(&self, run: &Run) -> &str {
        self.names.get(&self.key(run)).map_or("", String::as_str)
    }

    /// Configuration and load of a run: shape and load first, so that a name that is cut keeps them.
    pub fn label(&self, run: &Run) -> String {
        let shape = shape_name(run);
        let rest = self.name(run).strip_prefix(shape.as_str()).unwrap_or_default().trim_start_matches(", ");
        let load = load_name(run);
        let parts = [shape.as_str(), load.as_str(), rest];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    }
}

/// What runs of one line in a picture have in common, but for the engine's arguments. Of the workload it holds only about
/// how long requests are: the rest is a matter of the scenario, which is chosen before.
fn configuration_key(run: &Run) -> Key {
    let mut key = key(run, setting_columns(Group::Configuration).filter(|column| column.name != "flags"));
    key.push(Some(lengths_name(run)));
    key
}

/// Lengths to the nearest power of two, as `≈1024 in, ≈256 out`: measured means vary a little from run to run.
fn lengths_name(run: &Run) -> String {
    let about = |name: &str, what: &str| {
        let tokens = column(name).ok()?.number(run).filter(|tokens| *tokens >= 1.0)?;
        Some(format!("≈{} {what}", tokens.log2().round().exp2()))
    };
    [about("isl", "in"), about("osl", "out")].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn join(class: &str, value: &str) -> String {
    if class.is_empty() || value.is_empty() { format!("{class}{value}") } else { format!("{class}, {value}") }
}

/// A value with the word that it needs to be understood.
fn told(column: &Column, run: &Run) -> Option<String> {
    let value = column.get(run)?;
    Some(match value {
        // The name of an image, without its registry.
        Value::Text(text) if column.name == "engine_version" => text.rsplit('/').next().unwrap_or_default().to_owned(),
        Value::Text(text) => text.into_owned(),
        value => format!("{} {value}", column.label),
    })
}

/// The layout in short: `TP2 ×4`, `2P TP1 + 1D TP4`, or `8 GPUs` where no more is known; empty where nothing is.
pub fn shape_name(run: &Run) -> String {
    let roles = &run.server.roles;
    let gpus = || match run.server.gpus {
        None => String::new(),
        Some(1) => "1 GPU".to_owned(),
        Some(gpus) => format!("{gpus} GPUs"),
    };
    let name = match (&roles.prefill, &roles.decode, &roles.both) {
        (Some(prefill), decode, _) => {
            let part = |role: &Role, letter: char| {
                let count = role.replicas.map_or_else(|| "?".to_owned(), |replicas| replicas.to_string());
                format!("{count}{letter} {}", sizes(role)).trim_end().to_owned()
            };
            let prefill = part(prefill, 'P');
            decode.as_ref().map_or_else(|| prefill.clone(), |decode| format!("{prefill} + {}", part(decode, 'D')))
        }
        (None, Some(role), _) | (None, None, Some(role)) => {
            let sizes = sizes(role);
            match role.replicas {
                Some(replicas) if replicas > 1 && !sizes.is_empty() => format!("{sizes} ×{replicas}"),
                _ => sizes,
            }
        }
        (None, None, None) => String::new(),
    };
    if name.is_empty() { gpus() } else { name }
}

fn sizes(role: &Role) -> String {
    let tp = role.tp.map(|tp| format!("TP{tp}"));
    let others = [("PP", role.pp), ("DP", role.dp), ("EP", role.ep)]
        .into_iter()
        .filter_map(|(name, size)| size.filter(|&size| size > 1).map(|size| format!("{name}{size}")));
    tp.into_iter().chain(others).collect::<Vec<_>>().join(" ")
}

/// The level of the load in short: `8 req/s`, `c=32`, or `burst`; empty where it is not known.
pub fn load_name(run: &Run) -> String {
    let load = &run.workload.load;
    match (load.rate_per_s, load.concurrency) {
        (Some(rate), _) => format!("{rate} req/s"),
        (None, Some(concurrency)) => format!("c={concurrency}"),
        (None, None) => load.kind.map_or_else(String::new, |kind| kind.name().to_owned()),
    }
}

/// The column that says how much load the runs were under: the request rate or the concurrency, whichever more of them
/// have.
pub fn load_column(runs: &[&Run]) -> &'static str {
    let rates = runs.iter().filter(|run| run.workload.load.rate_per_s.is_some()).count();
    let concurrencies = runs.iter().filter(|run| run.workload.load.concurrency.is_some()).count();
    if rates > concurrencies { "rate_rps" } else { "concurrency" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(tp: u64, replicas: u64) -> Run {
        let mut run = Run::default();
        run.server.roles.both = Some(Role { tp: Some(tp), replicas: Some(replicas), ..Role::default() });
        run
    }

    #[test]
    fn shapes() {
        assert_eq!(shape_name(&run(2, 1)), "TP2");
        assert_eq!(shape_name(&run(2, 4)), "TP2 ×4");
        let mut disaggregated = Run::default();
        disaggregated.server.roles.prefill = Some(Role { tp: Some(1), replicas: Some(2), ..Role::default() });
        disaggregated.server.roles.decode =
            Some(Role { tp: Some(4), dp: Some(2), replicas: Some(1), ..Role::default() });
        assert_eq!(shape_name(&disaggregated), "2P TP1 + 1D TP4 DP2");
        let mut unknown = Run::default();
        assert_eq!(shape_name(&unknown), "");
        unknown.server.gpus = Some(8);
        assert_eq!(shape_name(&unknown), "8 GPUs");
    }

    #[test]
    fn names_hold_what_differs() {
        let mut runs = [run(1, 4), run(1, 4), run(2, 2), run(1, 4)];
        for run in &mut runs {
            run.server.gpu = Some("H100".to_owned());
        }
        runs[1].server.engine_version = Some("vllm/v0.12.0".to_owned());
        runs[1].workload.load.concurrency = Some(8.0);
        runs[3].server.flags = Some("--max-num-seqs 64".to_owned());
        let runs: Vec<&Run> = runs.iter().collect();
        let naming = Naming::of(&runs);
        let names: Vec<&str> = runs.iter().map(|run| naming.name(run)).collect();
        assert_eq!(names, ["TP1 ×4", "TP1 ×4, v0.12.0", "TP2 ×2", "TP1 ×4 #2"]);
        assert_eq!(naming.label(runs[1]), "TP1 ×4, c=8, v0.12.0");
    }
}
