//! Draws one chart of each kind from made-up data, in several sizes and both themes, into a folder.
//!
//! `cargo run -p config-explorer --example charts -- FOLDER`

use std::path::PathBuf;

use config_explorer::memory::{ActivationPhase, MemoryPerGpu};
use config_explorer::plot::charts::{MemoryRow, ParetoRow, Row, Standing};
use config_explorer::plot::{
    Appearance, Axis, Chart, Format, Limit, ScaleKind, Side, Theme, histogram, memory, pareto, scenario, tradeoff,
};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: charts FOLDER")?);
    std::fs::create_dir_all(&folder)?;
    let charts = [
        ("scenario", throughput_by_load()),
        ("series-20", twenty_configurations()),
        ("tradeoff", latency_against_throughput()),
        ("pareto", front()),
        ("histogram", spread()),
        ("memory", memory_by_tensor_parallelism()),
    ];
    for (name, chart) in charts {
        for (width, height) in [(640, 400), (960, 600), (1600, 1000)] {
            for (theme, suffix) in [(Theme::Light, "light"), (Theme::Dark, "dark")] {
                let picture = chart.render(Format::Png, &Appearance { width, height, scale: 1.0, theme })?;
                std::fs::write(folder.join(format!("{name}-{width}-{suffix}.png")), picture)?;
            }
        }
        for (format, ending) in [(Format::Svg, "svg"), (Format::Html, "html")] {
            std::fs::write(folder.join(format!("{name}.{ending}")), chart.render(format, &Appearance::default())?)?;
        }
    }
    Ok(())
}

fn facts() -> Vec<(String, String)> {
    [("Model", "Qwen/Qwen3-32B"), ("Accelerator", "H100"), ("Workload", "4,096 in, 512 out")]
        .map(|(label, value)| (label.to_owned(), value.to_owned()))
        .to_vec()
}

/// Time to first token (ms) and output tokens per second of one GPU, where `load` is a part of what `gpus` can take.
fn measured(gpus: f64, load: f64) -> (f64, f64) {
    (1400.0 / gpus.powf(0.8) / (1.02 - load), 620.0 * gpus.powf(-0.12) * load)
}

const LOADS: [f64; 9] = [0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97];

fn throughput_by_load() -> Chart {
    let mut rows = Vec::new();
    for (tp, replicas, group) in
        [(1.0, 8.0, "Aggregated"), (2.0, 4.0, "Aggregated"), (4.0, 2.0, "Aggregated"), (2.0, 4.0, "Disaggregated")]
    {
        for load in LOADS {
            let (_, per_gpu) = measured(tp, load);
            let gain = if group == "Disaggregated" { 1.12 } else { 1.0 };
            rows.push(Row {
                series: format!("TP={tp}, Replicas={replicas}"),
                group: group.to_owned(),
                x: 60.0 * load * gain,
                y: per_gpu * gain * 8.0,
                ..Row::default()
            });
        }
    }
    let x = Axis::new("Request rate", "req/s");
    scenario(&facts(), x, Axis::new("Output throughput", "tok/s").with_hint("higher is better"), &rows)
}

fn twenty_configurations() -> Chart {
    let mut rows = Vec::new();
    for index in 0..20_u32 {
        let gpus = f64::from(1 + index % 8);
        for load in LOADS {
            let (ttft, _) = measured(gpus, load);
            rows.push(Row {
                series: format!("TP={gpus}, Replicas={}, max_num_batched_tokens={}", 1 + index / 8, 2048 + 512 * index),
                x: 60.0 * load,
                y: ttft * (1.0 + 0.07 * f64::from(index)),
                ..Row::default()
            });
        }
    }
    let y = Axis::new("p90 time to first token", "ms").with_scale(ScaleKind::Log).with_hint("lower is better");
    scenario(&facts(), Axis::new("Request rate", "req/s"), y, &rows)
}

fn latency_against_throughput() -> Chart {
    let mut rows = Vec::new();
    for (tp, replicas) in [(1.0, 8), (2.0, 4), (4.0, 2), (8.0, 1)] {
        for load in LOADS {
            let (ttft, per_gpu) = measured(tp, load);
            let series = format!("TP={tp}, Replicas={replicas}");
            rows.push(Row { series, x: ttft, y: per_gpu, z: (512.0 * load).round(), ..Row::default() });
        }
    }
    let x = Axis::new("Mean time to first token", "ms").with_scale(ScaleKind::Log);
    let y = Axis::new("Output throughput per GPU", "tok/s");
    tradeoff(&facts(), x, y, &Axis::new("Concurrency", ""), &rows)
}

fn front() -> Chart {
    let mut rows = Vec::new();
    for tp in [1.0, 2.0, 4.0, 8.0] {
        for part in 1..=14 {
            let load = f64::from(part) / 15.0;
            let (x, y) = measured(tp, load);
            let label = format!("TP={tp}, {}", (512.0 * load).round());
            rows.push(ParetoRow { x, y, standing: Standing::Dominated, label, hover: String::new() });
        }
    }
    let beaten: Vec<bool> = rows
        .iter()
        .map(|row| {
            rows.iter().any(|other| other.x <= row.x && other.y >= row.y && (other.x < row.x || other.y > row.y))
        })
        .collect();
    for (row, beaten) in rows.iter_mut().zip(beaten) {
        if row.x > 3000.0 || row.y < 100.0 {
            row.standing = Standing::Failing;
        } else if !beaten {
            row.standing = Standing::Front;
        }
    }
    let limit = |value, label: &str, fails| Limit { value, label: label.to_owned(), fails };
    let x = Axis::new("Mean time to first token", "ms").with_hint("lower is better").with_limit(limit(
        3000.0,
        "mean TTFT ≤ 3,000 ms",
        Side::Above,
    ));
    let y = Axis::new("Output throughput per GPU", "tok/s").with_hint("higher is better").with_limit(limit(
        100.0,
        "≥ 100 tok/s per GPU",
        Side::Below,
    ));
    pareto(&facts(), x, y, &rows)
}

fn spread() -> Chart {
    // The sum of three numbers evenly spread in 0..1 resembles a normal distribution.
    let part = |seed: u32| f64::from(seed.wrapping_mul(2_654_435_761) >> 8) / f64::from(1_u32 << 24);
    let values: Vec<f64> = (0..900_u32)
        .map(|run| 18.0 + 14.0 * (part(3 * run + 1) + part(3 * run + 2) * part(run * 7 + 5) + part(3 * run + 3)))
        .collect();
    let limit = Limit { value: 40.0, label: "p90 TPOT ≤ 40 ms".to_owned(), fails: Side::Above };
    histogram(&facts(), Axis::new("Time per output token", "ms").with_limit(limit), &values, None)
}

fn memory_by_tensor_parallelism() -> Chart {
    let rows = [(1, 69.1), (2, 34.6), (4, 17.3), (8, 8.7)].map(|(tp, weights_gib)| {
        let memory = MemoryPerGpu {
            total_gib: 79.11,
            requested_gib: 71.2,
            weights_gib,
            activation_gib: 2.4,
            activation_bound_by: ActivationPhase::Sampler,
            moe_workspace_gib: 0.0,
            non_torch_gib: 0.62,
            cuda_graph_gib: 0.9,
            cuda_graph_in_budget: true,
            kv_cache_gib: 71.2 - weights_gib - 2.4 - 0.62 - 0.9,
        };
        MemoryRow { label: format!("TP {tp}"), detail: format!("{tp} GPUs a replica"), memory }
    });
    memory("Qwen/Qwen3-32B on H100: memory of one GPU", &rows)
}
