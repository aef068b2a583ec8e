//! Step time and steady state against published measurements, and an answer for every config.

#![expect(clippy::print_stdout, reason = "the figures are for people")]

use std::collections::BTreeMap;
use std::path::Path;

use config_explorer::deployment::{Nodes, Parallelism};
use config_explorer::engine::{EngineRules, EngineSettings, ServeArgs};
use config_explorer::hardware::{Accelerator, Accelerators};
use config_explorer::latency::Calibration;
use config_explorer::memory::PlanRequest;
use config_explorer::model::Model;
use config_explorer::serving::{Capacity, Deployment, Engine, Load, Prediction, Traffic, estimate};
use config_explorer::validate::latency::{
    LatencyAccuracy, LeaveOut, MeasuredCase, MeasuredModels, MeasuredRun, MeasuredRuns, Method, RankingAccuracy,
    Scored, observation, predict_unseen,
};
use rayon::prelude::*;

use crate::models::{load, models};

/// The table, and a case for every row that has one.
fn measured(folder: &Path) -> (MeasuredRuns, Vec<Option<MeasuredCase>>) {
    let runs = MeasuredRuns::open(&folder.join("latency/measured.csv")).unwrap();
    let models = MeasuredModels::read(&folder.join("models"), &runs.rows);
    let cases = runs.rows.iter().map(|row| models.case(row, Accelerators::built_in()).ok()).collect();
    (runs, cases)
}

/// The rows behind the reference's figures that are credible (42 of its 671 are in quarantine since); the fit leaves out
/// 19 more, which are data-parallel.
fn of_the_reference(runs: &MeasuredRuns) -> impl Fn(&MeasuredRun) -> bool {
    let column = runs.columns.iter().position(|column| column == "used_by_prototype").unwrap();
    move |row| row.cells[column] == "1" && row.quarantine.is_empty()
}

fn accuracy(group: &str, rows: &[(&MeasuredRun, Prediction)]) -> LatencyAccuracy {
    let scored: Vec<Scored<'_>> = rows.iter().map(|(row, prediction)| Scored { row, prediction }).collect();
    let accuracy = LatencyAccuracy::of(group.to_owned(), &scored);
    for (name, errors) in [("TPOT", accuracy.tpot), ("TTFT", accuracy.ttft)] {
        let errors = errors.unwrap();
        println!(
            "{group}, {} rows: {name} median {:.1} %, mean {:.1} %, {:.0} % within 20 %, bias {:+.1} %",
            errors.rows, errors.median_percent, errors.mean_percent, errors.within_20_percent, errors.bias_percent
        );
    }
    accuracy
}

/// The credible rows of closed loops that a fit may use, predicted by coefficients that have not seen their group.
fn left_out(by: LeaveOut, name: &str) -> Option<(LatencyAccuracy, RankingAccuracy)> {
    let folder = crate::data()?;
    let (runs, cases) = measured(&folder);
    let wanted = of_the_reference(&runs);
    let known: Vec<_> = runs.rows.iter().zip(&cases).filter_map(|(row, case)| Some((row, case.as_ref()?))).collect();
    let predictions = known.iter().zip(predict_unseen(&known, by, Method::Estimate));
    let rows: Vec<_> = predictions
        .filter(|((row, case), _)| wanted(row) && observation(row, case).is_some())
        .map(|((row, _), prediction)| (*row, prediction.unwrap()))
        .collect();
    let scored: Vec<Scored<'_>> = rows.iter().map(|(row, prediction)| Scored { row, prediction }).collect();
    let accuracy = accuracy(name, &rows);
    let ranking = RankingAccuracy::of(&scored);
    println!("{name}: within the interval {:?} %; {ranking:?}", accuracy.within_interval_percent);
    Some((accuracy, ranking))
}

/// The 80 % intervals hold 75 to 85 % of the measurements.
fn assert_intervals(accuracy: &LatencyAccuracy) {
    let (tpot, ttft) = accuracy.within_interval_percent;
    assert!((75.0..=85.5).contains(&tpot.unwrap()) && (75.0..=85.5).contains(&ttft.unwrap()));
}

/// The targets for models that no coefficient has seen.
#[test]
fn models_left_out_of_the_fit_are_predicted() {
    let Some((accuracy, ranking)) = left_out(LeaveOut::Model, "models left out") else { return };
    let (tpot, ttft) = (accuracy.tpot.unwrap(), accuracy.ttft.unwrap());
    assert!(tpot.median_percent <= 7.0 && tpot.mean_percent <= 8.5 && tpot.within_20_percent >= 93.5);
    assert!(ttft.median_percent <= 14.0 && ttft.within_20_percent >= 63.0);
    assert_intervals(&accuracy);
    assert!(ranking.tpot_spearman >= 0.97 && ranking.throughput_spearman >= 0.97);
    assert!(ranking.best_among_top_3_percent >= 95.0);
}

#[test]
fn gpus_left_out_of_the_fit_are_predicted() {
    let Some((accuracy, ranking)) = left_out(LeaveOut::Gpu, "GPUs left out") else { return };
    let (tpot, ttft) = (accuracy.tpot.unwrap(), accuracy.ttft.unwrap());
    assert!(tpot.median_percent <= 7.0 && tpot.mean_percent <= 8.5 && ttft.median_percent <= 14.0);
    assert_intervals(&accuracy);
    assert!(ranking.throughput_spearman >= 0.97 && ranking.best_among_top_3_percent >= 95.0);
}

/// The reference's simulation with its own coefficients has TPOT 5.3 % median, 6.9 % mean, TTFT 13.1 %, 16.8 % on 671
/// rows, fitted to them; this one has the built-in coefficients, which the steady state was fitted with, and is held to
/// the targets of predictions.
#[test]
fn rows_of_the_reference_are_simulated() {
    let Some(folder) = crate::data() else { return };
    let (runs, cases) = measured(&folder);
    let wanted = of_the_reference(&runs);
    let rows: Vec<_> = runs
        .rows
        .par_iter()
        .zip(&cases)
        .with_max_len(1)
        .filter(|(row, _)| wanted(row))
        .map(|(row, case)| (row, case.as_ref().unwrap().simulate(row, Calibration::built_in()).unwrap()))
        .collect();
    assert_eq!(rows.len(), 629);
    let accuracy = accuracy("simulated", &rows);
    let (tpot, ttft) = (accuracy.tpot.unwrap(), accuracy.ttft.unwrap());
    assert!(tpot.median_percent <= 7.0 && tpot.mean_percent <= 8.5);
    assert!(ttft.median_percent <= 14.0 && ttft.within_20_percent >= 63.0);
}

fn predict(model: &Model, accelerator: &Accelerator, tensor: u32) -> Result<Option<Prediction>, String> {
    let rules = EngineRules::of_default_version();
    let total_gib = accelerator.memory_gib;
    let answer = || {
        let args = ServeArgs::default();
        let settings = EngineSettings::resolve(&args, &rules, &model.architecture, total_gib, &accelerator.name)?;
        let request = PlanRequest {
            model,
            accelerator,
            total_gib,
            rules: &rules,
            settings,
            parallelism: Parallelism::new(tensor, 1, 1, false, 1)?,
            nodes: Nodes { count: None, gpus_per_node: accelerator.gpus_per_node },
            concurrency: None,
        };
        let traffic = Traffic::new(1000.0, 100.0, 0.0, Load::Closed { clients: 8.0, requests: Some(80.0) })?;
        let engine = Engine::new(&request, &traffic)?;
        if let Capacity::DoesNotFit { .. } = engine.capacity {
            return Ok(None);
        }
        estimate(&Deployment::Aggregated(engine.role(1, Calibration::built_in())?), &traffic).map(Some)
    };
    answer().map_err(|error: config_explorer::Error| error.to_string())
}

#[test]
fn every_config_has_an_estimate_on_every_accelerator_it_fits_on() {
    let Some(folder) = crate::data() else { return };
    let (mut estimated, mut without) = (0, 0);
    let mut refused: BTreeMap<String, String> = BTreeMap::new();
    for id in models(&folder) {
        let model = load(&folder, &id);
        for accelerator in Accelerators::built_in() {
            let found = [1, 2, 4, 8].into_iter().find_map(|tensor| predict(&model, accelerator, tensor).transpose());
            match found {
                Some(Ok(prediction)) => {
                    let ttft = prediction.ttft_ms.unwrap();
                    let times = [ttft.mean, ttft.p99, prediction.tpot_ms.mean, prediction.itl_ms.p99];
                    assert!(times.iter().all(|ms| ms.is_finite() && *ms > 0.0), "{id} on {}", accelerator.name);
                    estimated += 1;
                }
                Some(Err(reason)) => {
                    assert!(!reason.is_empty());
                    refused.insert(id.clone(), reason);
                }
                None => without += 1,
            }
        }
    }
    println!("{estimated} estimates; {without} pairs that do not fit 8 GPUs; refused:");
    for (id, reason) in &refused {
        println!("  {id}: {reason}");
    }
    assert!(estimated > 1000);
}
