//! Measured kernel tables: those made here are small, and their times are made up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use config_explorer::deployment::{Nodes, Parallelism};
use config_explorer::engine::{EngineRules, EngineSettings, ServeArgs};
use config_explorer::hardware::{Accelerator, Accelerators};
use config_explorer::latency::{Calibration, MeasuredKernels};
use config_explorer::memory::PlanRequest;
use config_explorer::model::{LoadOptions, Model};
use config_explorer::reports::KernelTables;
use config_explorer::serving::{Deployment, Engine, Load, Prediction, Traffic, estimate};
use parquet::arrow::arrow_writer::ArrowWriter;

const GEMM: &str = "h100_sxm/gemm/vllm/0.19.0/gemm_perf.parquet";

fn h100() -> &'static Accelerator {
    Accelerators::built_in().find("H100").unwrap()
}

/// A folder that is removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kernel-tables-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn read(&self) -> MeasuredKernels {
        MeasuredKernels::new(&read(&self.0).unwrap(), h100())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read(path: &Path) -> config_explorer::Result<KernelTables> {
    KernelTables::read(path, Accelerators::built_in(), h100(), "0.19.1".parse()?)
}

fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// Matrices of every size in two formats, with times (us) by format, tokens, rows and columns.
fn gemm(time_us: impl Fn(&str, f64, f64, f64) -> f64) -> Vec<u8> {
    let sizes = [64, 1024, 8192, 65536];
    let mut rows = Vec::new();
    for format in ["bfloat16", "fp8"] {
        for n in sizes {
            for k in sizes {
                rows.extend([1, 64, 512, 4096, 16384].map(|m| (format, m, n, k)));
            }
        }
    }
    let integers = |of: fn(&(&str, i64, i64, i64)) -> i64| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(of(row))).collect::<Int64Array>())
    };
    let latency = rows.iter().map(|(format, m, n, k)| time_us(format, *m as f64, *n as f64, *k as f64) / 1e3);
    parquet(vec![
        ("gemm_dtype", Arc::new(rows.iter().map(|row| Some(row.0)).collect::<StringArray>())),
        ("m", integers(|row| row.1)),
        ("n", integers(|row| row.2)),
        ("k", integers(|row| row.3)),
        ("latency", Arc::new(latency.map(Some).collect::<Float64Array>())),
    ])
}

/// Three times what the datasheet allows, and a launch: slower than any real kernel.
fn slow(format: &str, m: f64, n: f64, k: f64) -> f64 {
    let (bytes, peak) = if format == "fp8" { (1.0, 1979e6) } else { (2.0, 989.5e6) };
    10.0 + 3.0 * ((n * k * bytes + m * k * bytes + 2.0 * m * n) / 3.35e6).max(2.0 * m * n * k / peak)
}

fn predict(kernels: Option<MeasuredKernels>) -> Prediction {
    let options = LoadOptions { offline: true, ..LoadOptions::from_env(|_| None) };
    let model = Model::load("Qwen/Qwen3-8B", &options).unwrap();
    let rules = EngineRules::of_default_version();
    let args = ServeArgs::default();
    let accelerator = h100();
    let request = PlanRequest {
        settings: EngineSettings::resolve(
            &args,
            &rules,
            &model.architecture,
            accelerator.memory_gib,
            &accelerator.name,
        )
        .unwrap(),
        parallelism: Parallelism::from_args(&args).unwrap(),
        nodes: Nodes { count: None, gpus_per_node: 8 },
        concurrency: None,
        model: &model,
        accelerator,
        total_gib: accelerator.memory_gib,
        rules: &rules,
    };
    let traffic = Traffic::new(1000.0, 200.0, 0.0, Load::Closed { clients: 8.0, requests: None }).unwrap();
    let engine = Engine::new(&request, &traffic).unwrap();
    let mut calibration = Calibration::built_in().clone();
    calibration.kernels.extend(kernels.map(|kernels| (accelerator.name.clone(), Arc::new(kernels))));
    estimate(&Deployment::Aggregated(engine.role(1, &calibration).unwrap()), &traffic).unwrap()
}

#[test]
fn a_prediction_follows_the_tables_and_says_so() {
    let folder = Folder::new("good");
    folder.write(GEMM, &gemm(slow));
    let kernels = folder.read();
    assert_eq!((kernels.used.as_slice(), kernels.refused.as_slice()), ([GEMM.to_owned()].as_slice(), [].as_slice()));
    let (with, without) = (predict(Some(kernels)), predict(None));
    // Weights are most of a step, and the table's kernels take three times their roofline.
    assert!(with.tpot_ms.mean > 2.0 * without.tpot_ms.mean, "{} {}", with.tpot_ms.mean, without.tpot_ms.mean);
    assert!(without.breakdown.iter().all(|operator| operator.measured.is_none()));
    let measured: Vec<&str> = with
        .breakdown
        .iter()
        .filter(|operator| operator.measured == Some(1.0))
        .map(|operator| operator.operator)
        .collect();
    assert_eq!(measured, ["attention_projections", "mlp", "lm_head"]);
}

#[test]
fn tables_that_break_a_rule_are_refused_and_the_next_version_is_used() {
    let folder = Folder::new("rules");
    // FP8 measured with its launches, 16 bits faster than the device can be.
    folder.write(
        GEMM,
        &gemm(
            |format, m, n, k| {
                if format == "fp8" { 3.0 * slow("bfloat16", m, n, k) } else { slow(format, m, n, k) / 4.0 - 2.5 }
            },
        ),
    );
    let older = GEMM.replace("0.19.0", "0.14.0");
    folder.write(&older, &gemm(|format, m, n, k| if format == "fp8" { 1e11 / m } else { slow(format, m, n, k) }));
    let kernels = folder.read();
    assert_eq!(kernels.used.as_slice(), std::slice::from_ref(&older));
    let refused = |table: &str, format: &str| {
        let start = format!("{table}: {format}: ");
        kernels.refused.iter().find(|reason| reason.starts_with(&start)).cloned().unwrap_or_default()
    };
    assert!(refused(GEMM, "bf16").contains("roofline"), "{:?}", kernels.refused);
    assert!(refused(GEMM, "fp8").contains("plateau"), "{:?}", kernels.refused);
    assert!(refused(&older, "fp8").contains("monotone"), "{:?}", kernels.refused);
    assert!(refused(&older, "bf16").is_empty(), "{:?}", kernels.refused);
    assert!(predict(Some(kernels)).breakdown.iter().any(|operator| operator.measured.is_some()));
}

#[test]
fn damaged_tables_are_told_and_never_panic() {
    let folder = Folder::new("damaged");
    let whole = gemm(slow);
    folder.write(GEMM, b"");
    assert!(folder.read().refused[0].starts_with(GEMM));
    for cut in (0..whole.len()).step_by(whole.len() / 40) {
        folder.write(GEMM, &whole[..cut]);
        assert!(folder.read().used.is_empty(), "cut at {cut}");
    }
    for at in (0..whole.len()).step_by(whole.len() / 200) {
        let mut wrong = whole.clone();
        wrong[at] ^= 0xff;
        folder.write(GEMM, &wrong);
        let kernels = folder.read();
        if kernels.used.is_empty() {
            assert!(!kernels.refused.is_empty(), "byte {at}");
        }
    }
    folder.write(GEMM, &parquet(vec![("m", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]));
    assert!(folder.read().refused[0].contains("has no column `n`"));
    folder.write(GEMM, &gemm(|_, _, _, _| f64::NAN));
    assert!(folder.read().refused[0].contains("holds NaN"));
}

#[test]
fn a_folder_of_other_accelerators_is_an_error() {
    let folder = Folder::new("other");
    folder.write("b200_sxm/gemm/vllm/0.19.0/gemm_perf.parquet", b"");
    assert!(read(&folder.0).unwrap_err().to_string().contains("no kernel tables of H100-SXM-80GB"));
    assert!(read(&folder.0.join("missing")).is_err());
}
