//! inference-perf's configuration, and the benchmark templates of llm-d that hold it.
//!
//! Source: `inference_perf/config` of kubernetes-sigs/inference-perf (`loadgen/config.py`, `datagen/config.py`,
//! `common.py`), defaults included.

use serde_json::Value;

use super::{Fields, Notes, Selection, number, select};
use crate::workload::{
    Arrivals, Distribution, Gaps, LengthDistribution, LengthShape, Popularity, Prefix, Session, Stage, TraceFormat,
    TraceSource, WorkloadSpec,
};

/// Parts that say how to measure, not what is sent.
const IDLE: [&str; 7] = ["api", "server", "tokenizer", "report", "storage", "metrics", "circuit_breakers"];

/// A template: workloads by name, beside where and how to run them.
pub(super) fn convert_template(
    mut fields: Fields,
    selection: &Selection,
    notes: &mut Notes,
) -> Result<WorkloadSpec, String> {
    let mut workloads = fields.section("workload")?.ok_or("has no workload")?;
    fields.done(&["endpoint", "control", "harness", "env"], notes);
    let names: Vec<String> = workloads.map.keys().cloned().collect();
    let name = match (&selection.workload, &names[..]) {
        (Some(name), _) if names.contains(name) => name,
        (None, [name]) => name,
        _ => return Err(format!("select one of its workloads: {}", names.join(", "))),
    };
    let workload = workloads.section(name)?.ok_or_else(|| format!("workload `{name}` is empty"))?;
    convert(workload, selection, notes)
}

pub(super) fn convert(mut fields: Fields, selection: &Selection, notes: &mut Notes) -> Result<WorkloadSpec, String> {
    let mut workload = WorkloadSpec::default();
    let load = fields.section("load")?.ok_or("`load` is empty")?;
    let data = fields.section("data")?.ok_or("`data` is empty")?;
    fields.done(&IDLE, notes);
    convert_load(load, selection, &mut workload, notes)?;
    convert_data(data, &mut workload, notes)?;
    Ok(workload)
}

fn convert_load(
    mut load: Fields,
    selection: &Selection,
    workload: &mut WorkloadSpec,
    notes: &mut Notes,
) -> Result<(), String> {
    let kind = load.text("type")?.unwrap_or_else(|| "constant".to_owned());
    let interval = load.number("interval")?.unwrap_or(1.0);
    let stages = load.sections("stages")?;
    let sweep = load.take("sweep").is_some();
    if let Some(trace) = load.section("trace")? {
        workload.trace = Some(convert_trace(trace, notes)?);
    }
    let path = load.at("stages");
    load.done(
        &[
            "num_workers",
            "worker_max_concurrency",
            "worker_max_tcp_connections",
            "circuit_breakers",
            "request_timeout",
            "request_retries",
            "request_retry_backoff_sec",
            "stage_teardown_grace_seconds",
            "lora_traffic_split",
            "base_seed",
        ],
        notes,
    );
    let gaps = match &kind[..] {
        "constant" => Gaps::Constant,
        "poisson" => Gaps::Poisson,
        "trace_replay" if workload.trace.is_some() => return Ok(()),
        "concurrent" => {
            let mut stage = select(stages, &path, selection.stage)?;
            workload.requests = stage.count("num_requests")?;
            let clients = stage.count("concurrency_level")?;
            let clients = clients.ok_or_else(|| format!("`{}` is not given", stage.at("concurrency_level")))?;
            workload.arrivals = Some(Arrivals::Closed { clients, think_time_s: Distribution::fixed(0.0) });
            stage.done(&["rate", "duration"], notes);
            return Ok(());
        }
        other => {
            return Err(format!("`load.type` is `{other}`; constant, poisson, concurrent and trace_replay are known"));
        }
    };
    if sweep && stages.is_empty() {
        notes.say("`load.sweep` finds its rates by measuring: give a rate");
        return Ok(());
    }
    let stages = if selection.stage.is_some() { vec![select(stages, &path, selection.stage)?] } else { stages };
    let mut schedule = Vec::new();
    for mut stage in stages {
        if !schedule.is_empty() && interval > 0.0 {
            schedule.push(Stage { duration_s: interval, ..Stage::default() });
        }
        let need = |value: Option<f64>, path: String| value.ok_or_else(|| format!("`{path}` is not given"));
        let rate_per_s = need(stage.number("rate")?, stage.at("rate"))?;
        let duration_s = need(stage.number("duration")?, stage.at("duration"))?;
        stage.done(&["num_requests", "concurrency_level"], notes);
        schedule.push(Stage { rate_per_s, duration_s, ..Stage::default() });
    }
    if schedule.len() > 1 {
        notes.say(
            "a stage starts `interval` after the one before has sent its last request, whether it was answered or not",
        );
    }
    workload.arrivals = Some(Arrivals::Schedule { stages: schedule, cycle: false, gaps, concurrency: None });
    Ok(())
}

fn convert_trace(mut trace: Fields, notes: &mut Notes) -> Result<TraceSource, String> {
    let file = trace.text("file")?.ok_or_else(|| format!("`{}` is not given", trace.at("file")))?;
    match trace.text("format")?.as_deref() {
        None | Some("AzurePublicDataset") => {}
        Some(other) => return Err(format!("`{}` is `{other}`; AzurePublicDataset is known", trace.at("format"))),
    }
    trace.done(&[], notes);
    Ok(TraceSource { file: file.into(), format: Some(TraceFormat::Azure), ..TraceSource::default() })
}

fn convert_data(mut data: Fields, workload: &mut WorkloadSpec, notes: &mut Notes) -> Result<(), String> {
    let kind = data.text("type")?.unwrap_or_else(|| "mock".to_owned());
    if let Some(trace) = data.section("trace")? {
        workload.trace = Some(convert_trace(trace, notes)?);
    }
    workload.input = distribution(&mut data, "input_distribution", notes)?;
    workload.output = distribution(&mut data, "output_distribution", notes)?;
    match &kind[..] {
        "shared_prefix" => {
            let prefix = data.section("shared_prefix")?.ok_or("`data.shared_prefix` is not given")?;
            convert_prefix(prefix, workload, notes)?;
        }
        "conversation_replay" => {
            let replay = data.section("conversation_replay")?.ok_or("`data.conversation_replay` is not given")?;
            convert_conversations(replay, workload, notes)?;
        }
        _ if workload.trace.is_some() || (workload.input.is_some() && workload.output.is_some()) => {}
        _ => {
            return Err(format!(
                "the lengths of data of type `{kind}` are not in the file: give `input_distribution` and \
                 `output_distribution`"
            ));
        }
    }
    data.done(&["path"], notes);
    Ok(())
}

fn convert_prefix(mut prefix: Fields, workload: &mut WorkloadSpec, notes: &mut Notes) -> Result<(), String> {
    let mut either = |one: &str, other: &str, default: u32| -> Result<u32, String> {
        let (one, other) = (prefix.count(one)?, prefix.count(other)?);
        Ok(one.or(other).unwrap_or(default))
    };
    let groups = either("num_unique_system_prompts", "num_groups", 10)?;
    let prompts = either("num_users_per_system_prompt", "num_prompts_per_group", 10)?;
    let tokens = match distribution(&mut prefix, "system_prompt_len", notes)? {
        None => 100,
        Some(Distribution::Shaped(lengths)) => {
            if lengths.shape != LengthShape::Fixed {
                notes.say("`system_prompt_len` is drawn for each group there; here all have the mean");
            }
            lengths.mean.round() as u32
        }
        Some(_) => return Err("`system_prompt_len` has no mean".to_owned()),
    };
    let question = distribution(&mut prefix, "question_len", notes)?;
    let output = distribution(&mut prefix, "output_len", notes)?;
    // An older way to say the same.
    let question = distribution(&mut prefix, "question_distribution", notes)?.or(question);
    let output = distribution(&mut prefix, "output_distribution", notes)?.or(output);
    workload.input = Some(question.unwrap_or_else(|| Distribution::fixed(50.0)));
    workload.output = Some(output.unwrap_or_else(|| Distribution::fixed(50.0)));
    workload.prefix =
        Some(Prefix { tokens, groups, prompts_per_group: Some(prompts), popularity: Popularity::Shuffled });
    if prefix.take("enable_multi_turn_chat").is_some_and(|value| value == Value::Bool(true)) {
        notes.say("`enable_multi_turn_chat`: here every request stands for itself");
    }
    prefix.done(&["seed"], notes);
    Ok(())
}

fn convert_conversations(mut replay: Fields, workload: &mut WorkloadSpec, notes: &mut Notes) -> Result<(), String> {
    let mut need = |key: &str| {
        let path = replay.at(key);
        distribution(&mut replay, key, notes)?.ok_or_else(|| format!("`{path}` is not given"))
    };
    workload.input = Some(need("input_tokens_per_turn")?);
    workload.output = Some(need("output_tokens_per_turn")?);
    let turns = need("turns_per_conversation")?;
    let zero = || Distribution::fixed(0.0);
    workload.system_prompt_tokens = replay.count("shared_system_prompt_len")?.unwrap_or(8359);
    workload.session = Some(Session {
        turns,
        think_time_s: distribution(&mut replay, "tool_call_latency_sec", notes)?.unwrap_or_else(zero),
        context_tokens: distribution(&mut replay, "dynamic_system_prompt_len", notes)?.unwrap_or_else(zero),
        max_context_tokens: replay.count("max_model_len")?,
    });
    // Conversations are drawn anew as long as there are requests.
    replay.done(&["seed", "num_conversations"], notes);
    Ok(())
}

/// A distribution, or a number.
fn distribution(fields: &mut Fields, key: &str, notes: &mut Notes) -> Result<Option<Distribution>, String> {
    let path = fields.at(key);
    let mut fields = match fields.take(key) {
        None => return Ok(None),
        Some(value @ Value::Object(_)) => Fields::new(value, path)?,
        Some(value) => return number(&value, &path).map(|value| Some(Distribution::fixed(value))),
    };
    let min = fields.number("min")?.unwrap_or(10.0);
    let max = fields.number("max")?.unwrap_or(1024.0);
    let mean = fields.number("mean")?.unwrap_or(512.0);
    let variance = fields.number("variance")?;
    let stddev = fields.number("std_dev")?.or(variance.map(f64::sqrt)).unwrap_or(200.0);
    let cut = |lengths: LengthDistribution| LengthDistribution { min: Some(min), max: Some(max), ..lengths };
    let kind = fields.text("type")?;
    if fields.number("skew")?.is_some_and(|skew| skew != 0.0) {
        notes.say(format!("`{}` is not drawn skewed", fields.path));
    }
    let lengths = match kind.as_deref().unwrap_or("normal") {
        "fixed" => LengthDistribution::fixed(mean),
        "uniform" => LengthDistribution::uniform(min, max),
        "normal" | "skew_normal" => cut(LengthDistribution::gaussian(mean, stddev)),
        "lognormal" => cut(LengthDistribution::lognormal(mean, stddev)),
        "poisson" => cut(LengthDistribution::gaussian(mean, mean.max(0.0).sqrt())),
        other => return Err(format!("`{}` is `{other}`, which is not known", fields.at("type"))),
    };
    fields.done(&["total_count"], notes);
    Ok(Some(lengths.into()))
}
