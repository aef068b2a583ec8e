//! The columns themselves.

use super::builders::{
    as_boolean, as_count, as_float, choice, computed, count, field, json, length, names, owned, role, statistics, text,
};
use super::{Access, Column, ColumnKind, Direction, Getter, Group, Setter, Value};
use crate::reports::Run;
use crate::reports::run::{ItlDefinition, Kind, Role, Roles, TpotDefinition};
use crate::workload::{LengthDistribution, LengthShape, LoadKind};

use Direction::{Higher, Lower};
use Group::{Configuration, Metric, Workload};

/// A rate over the accelerators of the deployment.
fn per_gpu(rate: Option<f64>, run: &Run) -> Option<Value<'static>> {
    let gpus = run.server.gpus.filter(|&gpus| gpus > 0)?;
    Some(Value::Float(rate? / gpus as f64))
}

/// The original's bins of 500 tokens, named by their centre.
fn bin_500(mean: Option<f64>) -> Option<Value<'static>> {
    Some(Value::Integer(((mean? / 500.0).floor() * 500.0 + 250.0) as i64))
}

/// Weight of a scorer; 0 without it, as in the original.
fn scorer_weight(run: &Run, kind: &str) -> f64 {
    let plugins = run.server.router.iter().flat_map(|router| &router.plugins);
    let scorer = plugins.filter(|plugin| plugin.profile.is_some()).find(|plugin| plugin.kind == kind);
    scorer.map_or(0.0, |scorer| scorer.weight.unwrap_or(1.0))
}

/// A parameter of the prefix-cache scorer. What its parameters leave out has the default of the original's time
/// (the release of October 2025); without any parameters nothing is known.
fn prefix_parameter(run: &Run, name: &str) -> Option<serde_json::Value> {
    let router = run.server.router.as_ref()?;
    let scorer = router.plugins.iter().find(|plugin| plugin.kind == "prefix-cache-scorer")?;
    if scorer.parameters.is_empty() {
        return None;
    }
    let default = match name {
        "blockSize" => 16.into(),
        "lruCapacityPerServer" => 31250.into(),
        "maxPrefixBlocksToMatch" => 256.into(),
        _ => "default".into(),
    };
    Some(scorer.parameters.get(name).cloned().unwrap_or(default))
}

fn prefix_count(run: &Run, name: &str) -> Option<Value<'static>> {
    prefix_parameter(run, name)?.as_i64().map(Value::Integer)
}

fn directory(run: &Run, above: usize) -> Option<Value<'static>> {
    let path = std::path::Path::new(&run.source.path);
    let folder = path.ancestors().nth(above)?;
    let folder = if folder.as_os_str().is_empty() { std::path::Path::new(".") } else { folder };
    Some(owned(folder.to_string_lossy().into_owned()))
}

#[expect(clippy::unnecessary_wraps, reason = "the type of every setter")]
/// Sets the layout by its name; text that is none is kept as the source's own words.
fn set_layout(run: &mut Run, value: &Value<'_>) -> Result<(), String> {
    let name = value.text();
    let counts = name.strip_suffix('D').and_then(|rest| rest.split_once('P'));
    if let Some((prefill, decode)) = counts.and_then(|(p, d)| Some((p.parse().ok()?, d.parse().ok()?))) {
        let Roles { prefill: prefill_role, decode: decode_role, .. } = &mut run.server.roles;
        prefill_role.get_or_insert_default().replicas = Some(prefill);
        // No decode engines are 0, and so is a role that says so itself.
        if decode > 0 {
            decode_role.get_or_insert_default().replicas = Some(decode);
        }
    } else if name != "aggregated" {
        run.server.layout_description = Some(name.into_owned());
    } else if run.server.roles.decode.is_none() {
        run.server.roles.both.get_or_insert_default();
    }
    Ok(())
}

fn run_columns() -> Vec<Column> {
    let id = Access::Field(
        |run| Some(owned(run.id.to_string())),
        Some(|run, value| {
            run.id = value.text().parse().map_err(|error: crate::Error| error.to_string())?;
            Ok(())
        }),
    );
    let path = Access::Field(
        |run| Some(run.source.path.as_str()).filter(|path| !path.is_empty()).map(text),
        Some(|run, value| {
            run.source.path = value.text().into_owned();
            Ok(())
        }),
    );
    let format = Access::Field(
        |run| Some(run.source.format.as_str()).filter(|format| !format.is_empty()).map(text),
        Some(|run, value| {
            run.source.format = value.text().into_owned();
            Ok(())
        }),
    );
    vec![
        Column::new("id", "Run", Group::Run, ColumnKind::Text, id),
        Column::new("file", "File", Group::Run, ColumnKind::Text, path),
        Column::new("format", "Format", Group::Run, ColumnKind::Text, format),
        computed("directory", "Directory", Group::Run, ColumnKind::Text, |run| directory(run, 1)).alias("Directory"),
        computed("directory_base", "Base Directory", Group::Run, ColumnKind::Text, |run| directory(run, 2))
            .alias("Directory_Base"),
        choice!("kind", "Kind", Run, Kind, |run| Some(text(run.kind.name())), kind),
        field!(text "quality", "Quality", Run, quality),
        field!(text "quarantine", "Quarantine", Run, quarantine),
        field!(text "source_repo", "Source Repository", Run, source.repository),
        field!(text "source_path", "Source Path", Run, source.repository_path),
        field!(text "source_commit", "Source Commit", Run, source.commit),
        field!(float "start_s", "Start Time", Run, start_s).alias("Start").unit("s"),
        field!(float "duration_s", "Duration", Run, duration_s).alias("Duration").unit("s"),
        field!(text "date", "Date", Run, date),
        field!(text "note", "Note", Run, note),
        json!("warnings", "Warnings", Run, Vec::is_empty, warnings),
        json!("provenance", "Provenance", Run, std::collections::BTreeMap::is_empty, provenance),
        json!("extra", "Other Fields", Run, std::collections::BTreeMap::is_empty, extra),
    ]
}

fn configuration_columns() -> Vec<Column> {
    let mut columns = vec![
        field!(text "model", "Model", Configuration, server.model).alias("Model"),
        field!(text "config", "Model Configuration", Configuration, server.config),
        field!(text "quantisation", "Quantisation", Configuration, server.quantisation),
        field!(text "precision", "Weight Precision", Configuration, server.precision),
        field!(text "kv_cache_dtype", "KV Cache Type", Configuration, server.kv_cache_dtype),
        field!(text "gpu", "Accelerator", Configuration, server.gpu).alias("GPU"),
        field!(count "n_gpu", "Number of GPUs", Configuration, server.gpus).alias("Num_GPUs").better(Lower),
    ];
    columns.extend(role!(both, "", "", ""));
    columns.extend(role!(prefill, "prefill_", "P_", "P "));
    columns.extend(role!(decode, "decode_", "D_", "D "));
    let layout =
        Access::Field(|run| run.server.roles.layout().map(|layout| owned(layout.to_string())), Some(set_layout));
    columns.extend([
        Column::new("layout", "Layout", Configuration, ColumnKind::Text, layout),
        field!(text "layout_description", "Layout as Described", Configuration, server.layout_description),
        computed("is_pd", "Is P/D", Configuration, ColumnKind::Boolean, |run| {
            let roles = &run.server.roles;
            let known = roles.both.is_some() || roles.prefill.is_some() || roles.decode.is_some();
            known.then_some(Value::Boolean(roles.prefill.is_some()))
        })
        .alias("Is_PD"),
        field!(text "engine", "Engine", Configuration, server.engine),
        field!(text "engine_version", "Engine Version", Configuration, server.engine_version),
        field!(text "image", "Image", Configuration, server.image),
        computed("platform", "Platform", Configuration, ColumnKind::Text, |run| {
            run.server.image.as_deref().or(run.server.engine.as_deref()).map(text)
        })
        .alias("Platform"),
        field!(text "flags", "Engine Arguments", Configuration, server.flags),
        field!(boolean "async_scheduling", "Asynchronous Scheduling", Configuration, server.async_scheduling),
        json!("router", "Router Plugins", Configuration, Option::is_none, server.router),
        field!(float "usd_per_hour", "Cost of an Hour", Configuration, server.usd_per_hour).unit("USD").better(Lower),
        computed("kv_cache_scorer_weight", "KV Cache", Configuration, ColumnKind::Float, |run| {
            Some(Value::Float(scorer_weight(run, "kv-cache-scorer")))
        })
        .alias("KV_Cache_Scorer_Weight"),
        computed("queue_scorer_weight", "Queue", Configuration, ColumnKind::Float, |run| {
            Some(Value::Float(scorer_weight(run, "queue-scorer")))
        })
        .alias("Queue_Scorer_Weight"),
        computed("prefix_cache_scorer_weight", "Prefix Cache", Configuration, ColumnKind::Float, |run| {
            Some(Value::Float(scorer_weight(run, "prefix-cache-scorer")))
        })
        .alias("Prefix_Cache_Scorer_Weight"),
        computed("prefix_cache_scorer_block_size", "Block Size", Configuration, ColumnKind::Integer, |run| {
            prefix_count(run, "blockSize")
        })
        .alias("Prefix_Cache_Scorer_Block_Size"),
        computed(
            "prefix_cache_scorer_lru_capacity_per_server",
            "LRU/Server",
            Configuration,
            ColumnKind::Integer,
            |run| prefix_count(run, "lruCapacityPerServer"),
        )
        .alias("Prefix_Cache_Scorer_LRU_Capacity_Per_Server"),
        computed("prefix_cache_scorer_max_blocks_to_match", "Max Blocks", Configuration, ColumnKind::Integer, |run| {
            prefix_count(run, "maxPrefixBlocksToMatch")
        })
        .alias("Prefix_Cache_Scorer_Max_Blocks_To_Match"),
        computed("prefix_cache_scorer_mode", "Prefix Mode", Configuration, ColumnKind::Text, |run| {
            Some(owned(prefix_parameter(run, "mode")?.as_str()?.to_owned()))
        })
        .alias("Prefix_Cache_Scorer_Mode"),
    ]);
    columns
}

fn workload_columns() -> Vec<Column> {
    let mut columns =
        vec![field!(text "load_generator", "Workload Generator", Workload, load_generator).alias("Workload_Generator")];
    columns.extend(length!(input, input_length, "isl", "Input Sequence Length"));
    columns.extend(length!(output, output_length, "osl", "Output Sequence Length"));
    columns.extend(statistics(
        "isl_{}",
        None,
        "Input Tokens Sent",
        Workload,
        |run| &run.input_length,
        |run| &mut run.input_length,
    ));
    columns.extend(statistics(
        "osl_{}",
        None,
        "Output Tokens Received",
        Workload,
        |run| &run.output_length,
        |run| &mut run.output_length,
    ));
    columns.extend([
        computed("isl_observed", "Input Sequence Length, observed", Workload, ColumnKind::Integer, |run| {
            round(run.input_length.mean())
        })
        .alias("ISL")
        .unit("tokens"),
        computed("osl_observed", "Output Sequence Length, observed", Workload, ColumnKind::Integer, |run| {
            round(run.output_length.mean())
        })
        .alias("OSL")
        .unit("tokens"),
        computed("isl_500", "ISL Nearest 500", Workload, ColumnKind::Integer, |run| bin_500(run.input_length.mean()))
            .alias("ISL_500")
            .unit("tokens"),
        computed("osl_500", "OSL Nearest 500", Workload, ColumnKind::Integer, |run| bin_500(run.output_length.mean()))
            .alias("OSL_500")
            .unit("tokens"),
        computed("target_osl", "Target OSL", Workload, ColumnKind::Integer, |run| {
            round(run.workload.output.map(|output| output.mean))
        })
        .alias("Target_OSL")
        .unit("tokens"),
        field!(text "dataset", "Data Set", Workload, workload.dataset).alias("length_dist"),
        choice!(
            "load_kind",
            "Load",
            Workload,
            LoadKind,
            |run| run.workload.load.kind.map(|kind| text(kind.name())),
            workload.load.kind,
            Some
        ),
        field!(float "concurrency", "Concurrency", Workload, workload.load.concurrency).alias("Max_Concurrency"),
        field!(float "rate_rps", "Request Rate", Workload, workload.load.rate_per_s).alias("Max_QPS").unit("queries/s"),
        field!(text "prefix_sharing", "Prefix Sharing", Workload, workload.prefix.description),
        field!(float "prefix_shared_tokens", "System Prompt Length", Workload, workload.prefix.shared_tokens)
            .alias("System_Prompt_Length")
            .unit("tokens"),
        field!(float "prefix_unique_tokens", "Question Length", Workload, workload.prefix.unique_tokens)
            .alias("Question_Length")
            .unit("tokens"),
        field!(count "prefix_groups", "Groups", Workload, workload.prefix.groups).alias("Groups"),
        field!(count "prefix_prompts_per_group", "Prompts per Group", Workload, workload.prefix.prompts_per_group)
            .alias("Prompts_Per_Group"),
        field!(count "prefix_count", "Prefixes", Workload, workload.prefix.prefixes),
        field!(float "prefix_hit_rate", "Prefix Cache Hit Rate", Workload, workload.prefix.hit_rate),
        field!(float "turns", "Turns", Workload, workload.turns),
    ]);
    columns
}

fn round(mean: Option<f64>) -> Option<Value<'static>> {
    // Half to even, as Python's `round` and so the original.
    Some(Value::Integer(mean?.round_ties_even() as i64))
}

fn metric_columns() -> Vec<Column> {
    let mut columns = vec![
        field!(count "n_requests", "Total Requests", Metric, counts.requests).alias("Total_Requests"),
        field!(count "failures", "Failures", Metric, counts.failures).alias("Failures"),
        field!(count "incomplete", "Incomplete Requests", Metric, counts.incomplete),
        computed("failure_rate", "Failure Rate", Metric, ColumnKind::Float, |run| {
            run.counts.failure_rate().map(Value::Float)
        })
        .better(Lower),
        field!(float "req_s", "Request Throughput", Metric, throughput.requests)
            .alias("Request_Throughput")
            .alias("requests_per_s")
            .unit("req/s")
            .better(Higher),
        field!(float "in_tok_s", "Input Token Throughput", Metric, throughput.input_tokens)
            .alias("input_tokens_per_s")
            .unit("tok/s")
            .better(Higher),
        field!(float "out_tok_s", "Output Token Throughput", Metric, throughput.output_tokens)
            .alias("Output_Token_Throughput")
            .alias("output_tokens_per_s")
            .unit("tok/s")
            .better(Higher),
        field!(float "total_tok_s", "Total Token Throughput", Metric, throughput.total_tokens)
            .alias("Total_Token_Throughput")
            .alias("total_tokens_per_s")
            .unit("tok/s")
            .better(Higher),
        computed("out_tok_s_gpu", "Throughput per GPU", Metric, ColumnKind::Float, |run| {
            per_gpu(run.throughput.output_tokens, run)
        })
        .alias("Thpt_per_GPU")
        .alias("output_tokens_per_s_per_gpu")
        .unit("tok/s/GPU")
        .better(Higher),
        computed("total_tok_s_gpu", "Total Throughput per GPU", Metric, ColumnKind::Float, |run| {
            per_gpu(run.throughput.total_tokens, run)
        })
        .alias("total_tokens_per_s_per_gpu")
        .unit("tok/s/GPU")
        .better(Higher),
        computed("out_tok_s_user", "Throughput per User", Metric, ColumnKind::Float, |run| {
            let users = run.workload.load.concurrency.filter(|&users| users > 0.0)?;
            Some(Value::Float(run.throughput.output_tokens? / users))
        })
        .alias("Thpt_per_User")
        .unit("tok/s/user")
        .better(Higher),
        computed("interactivity_tok_s", "Interactivity", Metric, ColumnKind::Float, |run| {
            let tpot_ms = run.tpot_mean_ms().filter(|&tpot_ms| tpot_ms > 0.0)?;
            Some(Value::Float(1000.0 / tpot_ms))
        })
        .unit("tok/s/user")
        .better(Higher),
    ];
    columns.extend(statistics(
        "ttft_{}_ms",
        Some("{}_TTFT_ms"),
        "Time to First Token",
        Metric,
        |run| &run.latency.ttft,
        |run| &mut run.latency.ttft,
    ));
    columns.extend(statistics(
        "tpot_{}_ms",
        Some("{}_TPOT_ms"),
        "Time per Output Token",
        Metric,
        |run| &run.latency.tpot,
        |run| &mut run.latency.tpot,
    ));
    columns.extend([
        computed("tpot_derived_ms", "Time per Output Token from Means", Metric, ColumnKind::Float, |run| {
            run.tpot_from_means_ms().map(Value::Float)
        })
        .unit("ms")
        .better(Lower),
        choice!(
            "tpot_definition",
            "Definition of TPOT",
            Metric,
            TpotDefinition,
            |run| run.latency.tpot_definition.map(|definition| text(definition.name())),
            latency.tpot_definition,
            Some
        ),
        choice!(
            "itl_definition",
            "Definition of ITL",
            Metric,
            ItlDefinition,
            |run| run.latency.itl_definition.map(|definition| text(definition.name())),
            latency.itl_definition,
            Some
        ),
    ]);
    columns.extend(statistics(
        "itl_{}_ms",
        Some("{}_ITL_ms"),
        "Inter-Token Latency",
        Metric,
        |run| &run.latency.itl,
        |run| &mut run.latency.itl,
    ));
    columns.extend(statistics(
        "e2e_{}_ms",
        Some("{}_E2EL_ms"),
        "End-to-End Latency",
        Metric,
        |run| &run.latency.e2e,
        |run| &mut run.latency.e2e,
    ));
    columns.extend(statistics(
        "ntpot_{}_ms",
        None,
        "Normalised Time per Output Token",
        Metric,
        |run| &run.latency.ntpot,
        |run| &mut run.latency.ntpot,
    ));
    columns.extend(statistics(
        "tpot_raw_{}_ms",
        None,
        "Time per Output Token as Printed",
        Metric,
        |run| &run.latency.tpot_raw,
        |run| &mut run.latency.tpot_raw,
    ));
    columns
}

pub(super) fn columns() -> Vec<Column> {
    [run_columns(), configuration_columns(), workload_columns(), metric_columns()].into_iter().flatten().collect()
}
