//! Benchmark results: the original's rows for 105 reports, and every native format against numbers read by hand.

use std::path::Path;

use config_explorer::reports::{
    BenchmarkReport, Import, ImportOptions, Run, Statistics, Value, column, columns, import, read, to_benchmark_report,
};
use serde_json::Value as Json;
use serde_saphyr::options::NonFiniteFloatPolicy;

fn import_all(path: &Path) -> Import {
    import(&[path.to_owned()], &ImportOptions::default(), &|_, _| ()).unwrap()
}

fn number(run: &Run, name: &str) -> Option<f64> {
    column(name).unwrap().number(run)
}

fn warns(run: &Run, code: &str) -> bool {
    run.warnings.iter().any(|warning| warning.code == code)
}

/// Within the rounding of a number that was typed with some digits.
fn near(value: f64, typed: f64) -> bool {
    (value - typed).abs() <= 1e-6 * typed.abs()
}

/// Whether our value says what the original's does.
fn same(name: &str, ours: Option<&Value<'_>>, original: &Json) -> bool {
    match (ours, original) {
        // An empty mode, and -1 for an unknown length, stand for no value.
        (None, Json::String(text)) => text.is_empty(),
        (None, Json::Number(number)) => name == "Target_OSL" && number.as_i64() == Some(-1),
        (None, Json::Null) => true,
        (Some(value), Json::Number(number)) => {
            let (value, number) = (value.number(), number.as_f64().unwrap());
            value.is_some_and(|value| (value - number).abs() <= 1e-9 * number.abs())
        }
        (Some(Value::Boolean(value)), Json::Bool(original)) => value == original,
        (Some(Value::Text(value)), Json::String(original)) => value == original,
        _ => false,
    }
}

/// Whether a difference is one of those that `design/original.md` (e) 25 explains.
fn is_number_25(name: &str, file: &str, ours: Option<&Value<'_>>, original: &Json, other: Option<&Json>) -> bool {
    match name {
        // Decode engines without prefill engines serve whole requests.
        "Is_PD" => ours == Some(&Value::Boolean(false)) && *original == Json::Bool(true),
        // Data and pipeline parallelism of an aggregate are dropped: 2 x (tp 2 x dp 4 x pp 2) = 32 GPUs.
        "Num_GPUs" | "Thpt_per_GPU" => file.contains("agg_dp4_pp2"),
        // Later versions put 1 / TPOT under the name of output tokens per client.
        "Thpt_per_User" => true,
        // A zero is lost, and the stage of a later GuideLLM report was not looked at: the later version is right.
        _ => other.is_some_and(|other| same(name, ours, other)),
    }
}

#[test]
fn the_originals_rows() {
    let Some(data) = super::data() else { return };
    let inputs = data.join("reports/inputs");
    let import = import_all(&inputs);
    let rows = |version: &str| -> Vec<Json> {
        let file = data.join(format!("reports/{version}_rows.json"));
        let mut rows: Json = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        rows["rows"].as_array_mut().map(std::mem::take).unwrap()
    };
    let (seed, head) = (rows("seed"), rows("head"));
    assert_eq!((seed.len(), head.len()), (105, 105));
    let (mut equal, mut explained, mut unloadable) = (0, 0, Vec::new());
    for (seed, head) in seed.iter().zip(&head) {
        let file = seed["file"].as_str().unwrap();
        assert_eq!(head["file"], *file);
        let run = import.runs.iter().find(|run| Path::new(&run.source.path) == inputs.join(file));
        let Some(run) = run else {
            // What neither version nor we can read.
            assert!(seed["row"].is_null() && head["row"].is_null(), "{file} is not imported");
            unloadable.push(file.split('/').nth(1).unwrap());
            continue;
        };
        for (entry, other) in [(seed, &head["row"]), (head, &seed["row"])] {
            for (name, original) in entry["row"].as_object().into_iter().flatten() {
                let column = column(name).unwrap_or_else(|error| panic!("{error}"));
                let ours = match (column.get(run), name.as_str()) {
                    (Some(Value::Text(path)), "Directory" | "Directory_Base") => {
                        let below = Path::new(&*path).strip_prefix(&inputs).unwrap();
                        let below = if below.as_os_str().is_empty() { "." } else { below.to_str().unwrap() };
                        Some(Value::Text(below.to_owned().into()))
                    }
                    (value, _) => value,
                };
                if same(name, ours.as_ref(), original) {
                    equal += 1;
                } else {
                    let explains = is_number_25(name, file, ours.as_ref(), original, other.get(name));
                    assert!(explains, "{file} {name}: the original has {original}, we have {ours:?}");
                    explained += 1;
                }
            }
        }
    }
    assert_eq!(unloadable, ["bad_version", "broken"]);
    println!("{equal} cells are the original's, {explained} differ by original.md (e) 25");
    assert_eq!((equal, explained), (18_728, 132));
}

#[test]
fn every_native_format() {
    let Some(data) = super::data() else { return };
    let formats = data.join("formats");
    let import = import_all(&formats);
    let find = |file: &str, index: u32| {
        let at = |run: &&Run| Path::new(&run.source.path) == formats.join(file) && run.id.index == index;
        import.runs.iter().find(at).unwrap_or_else(|| panic!("{file} {index} is not imported"))
    };
    let expected: toml::Table = include_str!("reports.toml").parse().unwrap();
    let expected = expected["run"].as_array().unwrap();
    for entry in expected {
        let entry = entry.as_table().unwrap();
        let (file, index) = (entry["file"].as_str().unwrap(), entry["index"].as_integer().unwrap());
        let run = find(file, u32::try_from(index).unwrap());
        for (name, typed) in entry.iter().filter(|(name, _)| !matches!(name.as_str(), "file" | "index")) {
            let typed = typed.as_float().unwrap_or_else(|| typed.as_integer().unwrap() as f64);
            let value = number(run, name);
            assert!(value.is_some_and(|value| near(value, typed)), "{file} {index} {name}: {value:?}, typed {typed}");
        }
    }
    assert_eq!(import.runs.len(), expected.len());

    let skipped: Vec<_> =
        import.skipped.iter().map(|skipped| skipped.path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(
        skipped,
        [
            "PROVENANCE.tsv",
            "silicon_refs.csv",
            "manifests.yaml",
            "stage_3_prometheus_metrics.json",
            "c16.json",
            "token_position_raw.json",
            "br_v0_1_json_schema.json",
            "br_v0_2_1_json_schema.json",
            "br_v0_2_json_schema.json",
            "mlperf-6.0.csv",
            "mlperf_log_summary.txt",
            "dstack_pd_ratio_results.csv",
        ]
    );
    assert_eq!(import.sidecars.len(), 3);

    let text = |file, index, name| column(name).unwrap().get(find(file, index)).map(|value| value.to_string());
    let genai = "genai-bench/mock_run_data.json";
    assert_eq!(text(genai, 0, "gpu").as_deref(), Some("H100"));
    assert_eq!(text(genai, 0, "engine").as_deref(), Some("SGLang"));
    assert_eq!(text("inferencex/api_v1_benchmarks_sample.json", 1, "layout").as_deref(), Some("1P3D"));
    assert_eq!(text("vllm-bench/dstack_pd_2p2d_conc64.json", 0, "load_kind").as_deref(), Some("closed"));
    assert_eq!(
        text("sglang-bench_serving/llama_3_3_70b_offline_output.jsonl", 0, "load_kind").as_deref(),
        Some("burst")
    );
    for (file, code) in [
        ("inference-perf/kubecon_vllm_v0.11/stage_3_lifecycle_metrics.json", "tpot_definition"),
        ("inference-perf/inference-sim_training/stage_0_lifecycle_metrics.json", "output_length"),
        ("inference-perf/kubecon_vllm_v0.11/summary_lifecycle_metrics.json", "stages"),
        ("inferencex/agg_agentic_dsr1_b200.json", "failures"),
        ("inferencex/agg_agentic_dsr1_b200.json", "littles_law"),
        ("llm-d-benchmark-report/br_v0_2_example.yaml", "duration"),
        ("llm-d-benchmark-report/br_v0_2_example.yaml", "total_tokens"),
    ] {
        assert!(warns(find(file, 0), code), "{file} {code}");
    }
    assert!(find("vllm-bench/dstack_pd_2p2d_conc64.json", 0).warnings.is_empty());
}

#[test]
fn the_measured_table() {
    let Some(data) = super::data() else { return };
    let path = data.join("latency/measured.csv");
    let import = import_all(&path);
    assert_eq!((import.runs.len(), import.skipped.len()), (1167, 0));
    let mut reader = csv::Reader::from_path(&path).unwrap();
    let headers = reader.headers().unwrap().clone();
    for (run, record) in import.runs.iter().zip(reader.records()) {
        let record = record.unwrap();
        let cell = |name: &str| record.get(headers.iter().position(|header| header == name).unwrap()).unwrap();
        for name in
            ["ttft_mean_ms", "ttft_p99_ms", "itl_p50_ms", "e2e_mean_ms", "out_tok_s", "n_gpu", "isl", "isl_mean"]
        {
            assert_eq!(number(run, name), cell(name).parse().ok(), "row {} {name}", cell("row_id"));
        }
        let rate = cell("rate_rps").parse().ok().filter(|rate: &f64| rate.is_finite());
        assert_eq!(number(run, "rate_rps"), rate);
        for name in
            ["model", "gpu", "flags", "config", "precision", "kv_cache_dtype", "quarantine", "load_kind", "date"]
        {
            let value = column(name).unwrap().get(run).map(|value| value.to_string());
            assert_eq!(value.unwrap_or_default(), cell(name).trim(), "row {} {name}", cell("row_id"));
        }
        assert_eq!(run.tpot_mean_ms(), cell("tpot_best_ms").parse().ok(), "row {}", cell("row_id"));
        if !run.latency.tpot_raw.is_empty() {
            assert_eq!(number(run, "tpot_raw_p50_ms"), cell("tpot_p50_ms").parse().ok());
        }
        assert_eq!(run.extra.get("row_id").map(String::as_str), Some(cell("row_id")));
    }
    let disaggregated = import.runs.iter().filter(|run| run.server.roles.prefill.is_some()).count();
    assert_eq!(disaggregated, 14);
}

/// Every run as a report v0.2: valid, and the same numbers when it is read again.
#[test]
fn reports_are_valid_and_read_back() {
    let Some(data) = super::data() else { return };
    let schema = data.join("formats/llm-d-benchmark-report/br_v0_2_json_schema.json");
    let schema: Json = serde_json::from_slice(&std::fs::read(schema).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for folder in ["formats", "reports/inputs", "latency"] {
        let runs = import_all(&data.join(folder)).runs;
        // Of the long table, a part.
        let step = 1 + runs.len() / 200;
        for run in runs.into_iter().step_by(step) {
            let BenchmarkReport { yaml, left_out } = to_benchmark_report(&run).unwrap();
            let instance: Json = serde_saphyr::from_str_with_options(
                &yaml,
                serde_saphyr::options! { non_finite_float_policy: NonFiniteFloatPolicy::PassThrough },
            )
            .unwrap();
            let errors: Vec<_> = validator.iter_errors(&instance).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}\n{yaml}", run.source.path);

            let again = &read(yaml.as_bytes(), Path::new("again.yaml")).unwrap()[0];
            let with_mean = |statistics: &Statistics| statistics.mean().map(|_| statistics.clone()).unwrap_or_default();
            for (ours, written) in [
                (&again.latency.ttft, &run.latency.ttft),
                (&again.latency.itl, &run.latency.itl),
                (&again.latency.e2e, &run.latency.e2e),
                (&again.latency.ntpot, &run.latency.ntpot),
            ] {
                assert_eq!(*ours, with_mean(written), "{} {:?}", run.source.path, run.id);
            }
            // The format does not say which TPOT it holds: one that no means confirm is settled again, and kept as raw.
            let tpot = with_mean(&run.latency.tpot);
            assert!(again.latency.tpot == tpot || again.latency.tpot_raw == tpot, "{}", run.source.path);
            assert_eq!(again.throughput, run.throughput);
            assert_eq!(again.counts, run.counts);
            assert_eq!((&again.server.model, &again.server.gpu), (&run.server.model, &run.server.gpu));
            assert_eq!(again.server.flags, run.server.flags);
            if !left_out.iter().any(|what| what.starts_with("the load")) {
                assert_eq!(again.workload.load.rate_per_s, run.workload.load.rate_per_s);
            }
            // What is not known of a role is 1 in the format.
            let sizes = |run: &Run| {
                let roles = [&run.server.roles.prefill, &run.server.roles.decode].map(Clone::clone);
                roles.map(|role| role.map(|role| (role.replicas.unwrap_or(1), role.tp, role.ep.unwrap_or(1))))
            };
            assert_eq!(sizes(again), sizes(&run), "{}", run.source.path);
        }
    }
}

/// The stored columns hold all that a run is.
#[test]
fn stored_columns_restore_every_run() {
    let Some(data) = super::data() else { return };
    for folder in ["formats", "reports/inputs", "latency"] {
        for run in import_all(&data.join(folder)).runs {
            let mut restored = Run::default();
            for column in columns().iter().filter(|column| column.stored) {
                if let Some(value) = column.get(&run) {
                    column.set(&mut restored, &value).unwrap();
                }
            }
            assert_eq!(restored, run);
        }
    }
}
