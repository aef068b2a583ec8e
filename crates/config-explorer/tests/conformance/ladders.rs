//! The ladders of llm-d's guides: eight engines behind the router or a plain service, stage after stage.

#![expect(clippy::print_stdout, reason = "the figures are for people")]

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::Path;

use config_explorer::hardware::Accelerators;
use config_explorer::latency::Calibration;
use config_explorer::serving::Load;
use config_explorer::simulation::router::{LoadOptions, RouterConfig};
use config_explorer::simulation::{DeploymentOptions, FinishedRequests, Routing, Traffic};
use config_explorer::validate::latency::{MeasuredModels, MeasuredRun, MeasuredRuns};
use config_explorer::workload::{Arrivals, Distribution, Gaps, Popularity, Prefix, Stage, WorkloadSpec};

use crate::router::configs_in;

/// Requests per second and seconds of the stages; the first one fills the caches and is not published (llm-d
/// `guides/optimized-baseline/benchmark-templates/guide.yaml`).
const STAGES: [(f64, f64); 17] = [
    (15.0, 50.0),
    (3.0, 20.0),
    (10.0, 20.0),
    (15.0, 20.0),
    (20.0, 38.0),
    (22.0, 34.0),
    (25.0, 30.0),
    (30.0, 25.0),
    (35.0, 21.0),
    (40.0, 38.0),
    (43.0, 36.0),
    (46.0, 33.0),
    (49.0, 30.0),
    (52.0, 29.0),
    (55.0, 27.0),
    (57.0, 26.0),
    (60.0, 25.0),
];

/// Seconds without arrivals after a stage. The benchmark waits for the last answer and then 30 s; engines that wait do not
/// change, so that what counts is that the slowest stage has its answers by then.
const PAUSE_S: f64 = 400.0;

/// All stages, as inference-perf sends them: Poisson arrivals, and every stage goes through the same 750 prompts in one
/// order. (There each stage starts at the first one; here it goes on where the one before has ended.)
fn traffic() -> Traffic {
    let stage = |rate_per_s, duration_s| Stage { rate_per_s, duration_s, ..Stage::default() };
    let stages = STAGES.into_iter().flat_map(|(rate, seconds)| [stage(rate, seconds), stage(0.0, PAUSE_S)]);
    let popularity = Popularity::Shuffled;
    let workload = WorkloadSpec {
        arrivals: Some(Arrivals::Schedule {
            stages: stages.collect(),
            cycle: false,
            gaps: Gaps::Poisson,
            concurrency: None,
        }),
        input: Some(Distribution::fixed(1200.0)),
        output: Some(Distribution::fixed(1000.0)),
        prefix: Some(Prefix { tokens: 6000, groups: 150, prompts_per_group: Some(5), popularity }),
        ..WorkloadSpec::default()
    };
    Traffic { workload, trace: None, seed: 0 }
}

/// What is published of a stage.
struct Figures {
    output_tokens_per_s: f64,
    ttft_ms: f64,
    hit_rate: f64,
}

/// The stages of a run, the first one left out.
fn figures(finished: &FinishedRequests) -> Vec<Figures> {
    let mut end_s = 0.0;
    let stages = STAGES.into_iter().map(|(_, seconds)| {
        let start_s = end_s;
        end_s += seconds + PAUSE_S;
        let times = start_s * 1e9..end_s * 1e9;
        let rows: Vec<_> = (0..finished.len()).filter(|&row| times.contains(&(finished.sent_ns[row] as f64))).collect();
        let sum = |column: &[u32]| rows.iter().map(|&row| f64::from(column[row])).sum::<f64>();
        let first = rows.iter().map(|&row| finished.sent_ns[row]).min().unwrap();
        let last = rows.iter().map(|&row| finished.last_token_ns[row]).max().unwrap();
        assert!(times.contains(&(last as f64)), "a stage has its answers before the next one starts");
        let waits = rows.iter().map(|&row| (finished.first_token_ns[row] - finished.sent_ns[row]) as f64 / 1e6);
        Figures {
            output_tokens_per_s: sum(&finished.output_tokens) / ((last - first) as f64 / 1e9),
            ttft_ms: waits.sum::<f64>() / rows.len() as f64,
            hit_rate: sum(&finished.cached_tokens) / sum(&finished.input_tokens),
        }
    });
    stages.skip(1).collect()
}

/// The router's configuration in a guide.
fn router(folder: &Path, guide: &str) -> Routing {
    let path = folder.join(format!("llm-d/guides/{guide}/router/{guide}.values.yaml"));
    let text = std::fs::read_to_string(&path).unwrap();
    let config = configs_in(&text).remove(0);
    Routing::Router(Box::new(RouterConfig::load(&config, &LoadOptions::default(), guide).unwrap()))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn the_ladders_of_the_guides_are_simulated() {
    let Some(folder) = crate::data() else { return };
    let runs = MeasuredRuns::open(&folder.join("latency/measured.csv")).unwrap();
    let models = MeasuredModels::read(&folder.join("models"), &runs.rows);
    let layout = runs.columns.iter().position(|column| column == "layout").unwrap();
    for (name, routing) in [
        ("k8s service", Routing::Random),
        ("llm-d optimized-baseline", router(&folder, "optimized-baseline")),
        ("llm-d precise prefix", router(&folder, "precise-prefix-cache-routing")),
    ] {
        let measured = |rate: f64| {
            let is_it = |row: &&MeasuredRun| {
                let at_rate = matches!(row.load, Some(Load::Open { rate_per_s }) if (rate_per_s - rate).abs() < 0.1);
                at_rate && row.shared_prefix == Some((150, 6000)) && row.cells[layout].starts_with(name)
            };
            runs.rows.iter().find(is_it).unwrap()
        };
        let mut row = measured(3.0).clone();
        if name.contains("precise") {
            // As its guide's servers are started, for the router's index.
            row.args.block_size = NonZero::new(64);
        }
        let case = models.case(&row, Accelerators::built_in()).unwrap();
        let deployment = case.deployment(routing, Calibration::built_in());
        let outcome = deployment.simulate(&traffic(), DeploymentOptions::default()).unwrap();
        let (mut output, mut ttft) = (Vec::new(), Vec::new());
        let (mut waiting, mut waiting_measured) = (BTreeSet::new(), BTreeSet::new());
        for ((rate, _), found) in STAGES.into_iter().skip(1).zip(figures(&outcome.finished)) {
            let row = measured(rate);
            let measured_ttft = row.ttft_mean_ms.unwrap();
            output.push(found.output_tokens_per_s / row.output_tokens_per_s.unwrap());
            ttft.push(found.ttft_ms / measured_ttft);
            println!(
                "{name} {rate}/s: output tokens/s x {:.2}, TTFT {:.0} ms x {:.2}, hits {:.2}",
                output.last().unwrap(),
                found.ttft_ms,
                ttft.last().unwrap(),
                found.hit_rate
            );
            // Requests queue for seconds where the engines do not keep up.
            let queues = |ttft_ms: f64| ttft_ms > 5000.0;
            for (saturated, ttft_ms) in [(&mut waiting, found.ttft_ms), (&mut waiting_measured, measured_ttft)] {
                if queues(ttft_ms) {
                    saturated.insert(rate as u32);
                }
            }
        }
        let off = median(output.iter().map(|ratio| 100.0 * (ratio - 1.0).abs()));
        let factor = median(ttft.iter().map(|ratio| ratio.ln().abs().exp()));
        println!("{name}: output tokens/s off by {off:.1} %, TTFT by x {factor:.2} (medians); saturated {waiting:?}");
        assert!(off <= 20.0 && factor <= 2.0, "{off} %, x {factor}");
        assert_eq!(waiting, waiting_measured, "{name}: the stages that saturate");
    }
}
