//! Time to read benchmark results: the target is 10,000 reports of 29 kB in 15 s of one core, 1.5 ms each.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use config_explorer::reports::{ImportOptions, import, read, to_benchmark_report};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// A report v0.2 of 29 kB, most of it series and observability, as those of llm-d-benchmark are.
fn report(seed: u32) -> String {
    let statistics = |indent: usize, units: &str| {
        let pad = " ".repeat(indent);
        let mut text = format!("{pad}units: {units}\n");
        for (at, name) in [
            "mean", "stddev", "min", "p0p1", "p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "p99p9",
            "max",
        ]
        .into_iter()
        .enumerate()
        {
            writeln!(text, "{pad}{name}: {}", 12.345_678_9 + f64::from(seed) + at as f64).unwrap();
        }
        text
    };
    let mut text = format!(
        "version: '0.2'\nrun:\n  uid: run-{seed}\n  time: {{start: 2026-01-02T03:04:05Z, duration: PT60S}}\nscenario:\n  stack:\n  - metadata: {{label: engine, cfg_id: x}}\n    standardized:\n      kind: inference_engine\n      tool: vllm\n      tool_version: 0.12.0\n      role: replica\n      replicas: 2\n      model: {{name: example/model-8b}}\n      accelerator: {{model: H100, count: 4, parallelism: {{tp: 4}}}}\n    native: {{args: {{--max-num-seqs: 64}}}}\n  load:\n    metadata: {{}}\n    standardized:\n      tool: vllm-benchmark\n      tool_version: 0.12.0\n      source: random\n      input_seq_len: {{distribution: fixed, value: 1000}}\n      concurrency: 16\n    native: {{}}\nresults:\n  request_performance:\n    aggregate:\n      requests:\n        total: 500\n        failures: 0\n"
    );
    for (section, names, units) in [
        ("", &["input_length", "output_length"][..], "count"),
        ("throughput", &["input_token_rate", "output_token_rate", "total_token_rate", "request_rate"], "tokens/s"),
        ("latency", &["time_to_first_token", "time_per_output_token", "inter_token_latency", "request_latency"], "ms"),
    ] {
        if !section.is_empty() {
            writeln!(text, "      {section}:").unwrap();
        }
        for name in names {
            write!(text, "        {name}:\n{}", statistics(10, units)).unwrap();
        }
    }
    text.push_str("  observability:\n    components:\n    - component_label: engine\n      time_series:\n        gpu_utilization:\n          units: percent\n          series:\n");
    let mut minute = 0;
    while text.len() < 29_000 {
        writeln!(
            text,
            "          - {{ts: '2026-01-02T03:{:02}:00Z', mean: 73.2, p90: 85.4, max: {minute}.5}}",
            minute % 60
        )
        .unwrap();
        minute += 1;
    }
    text
}

#[divan::bench]
fn read_report_29_kb(bencher: Bencher<'_, '_>) {
    let report = report(1);
    bencher.bench(|| read(black_box(report.as_bytes()), Path::new("report.yaml")).unwrap());
}

#[divan::bench]
fn write_report(bencher: Bencher<'_, '_>) {
    let run = read(report(1).as_bytes(), Path::new("report.yaml")).unwrap().remove(0);
    bencher.bench(|| to_benchmark_report(black_box(&run)).unwrap());
}

/// Side files, identity and checks too; all cores.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn import_1000_reports(bencher: Bencher<'_, '_>) {
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..1000 {
        std::fs::write(folder.path().join(format!("{seed}.yaml")), report(seed)).unwrap();
    }
    let paths: Vec<PathBuf> = vec![folder.path().to_owned()];
    bencher.bench(|| {
        let import = import(black_box(&paths), &ImportOptions::default(), &|_, _| ()).unwrap();
        assert_eq!(import.runs.len(), 1000);
        import
    });
}
