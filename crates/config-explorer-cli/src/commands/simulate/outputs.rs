//! Files that `simulate` writes beside its answer.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use config_explorer::Error;
use config_explorer::engine::join_command;
use config_explorer::plot::{
    Appearance, Chart, Format as PictureFormat, latency_by_rate, latency_cdf, simulation_timeline,
};
use config_explorer::reports::{Role, Roles, Run, Server, to_benchmark_report};
use config_explorer::simulation::{Outcome, RequestsFormat, Traffic, run_of};

use super::Case;
use super::answer::{OneSimulation, Target};
use super::load::{sent, workload};
use crate::arguments::picture;

/// Files to write.
#[derive(Debug, Args)]
#[command(next_help_heading = "Files")]
pub(super) struct OutputArgs {
    /// A row for each request: .csv or .parquet.
    #[arg(long, value_name = "FILE", conflicts_with = "find_max_rate")]
    requests_out: Option<PathBuf>,

    /// The simulation as a benchmark report v0.2, marked as simulated, which `runs import` reads.
    #[arg(long, value_name = "FILE", conflicts_with = "find_max_rate")]
    report: Option<PathBuf>,

    /// Picture to draw into `--out`.
    #[arg(long, value_name = "PICTURE", requires = "out", conflicts_with = "find_max_rate")]
    plot: Option<Plot>,

    /// Picture to write: .svg, .png or .html.
    #[arg(long, value_name = "FILE", requires = "plot")]
    out: Option<PathBuf>,
}

/// What a picture shows.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Plot {
    /// How latencies spread over the requests.
    Cdf,
    /// Queue, batch and KV cache over time.
    Timeline,
    /// Latencies from a light load to saturation.
    Rate,
}

/// Rates of a picture, as shares of the most that the steady state serves.
const RATE_SHARES: [f64; 10] = [0.05, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95];

impl OutputArgs {
    /// Refuses names that no file can be written under, before anything is simulated.
    pub(super) fn check(&self) -> config_explorer::Result<()> {
        self.out.as_deref().map(PictureFormat::of).transpose()?;
        self.requests_out.as_deref().map(RequestsFormat::of).transpose()?;
        Ok(())
    }

    /// Writes what was asked for.
    pub(super) fn write(
        &self,
        case: &Case<'_>,
        answer: &OneSimulation,
        traffic: &Traffic,
        outcome: &Outcome,
    ) -> anyhow::Result<()> {
        if let Some(path) = &self.requests_out {
            write(path, outcome.finished.file(RequestsFormat::of(path)?)?)?;
        }
        if let Some(path) = &self.report {
            let report = to_benchmark_report(&run(case, &answer.target, traffic, outcome))?;
            for missing in report.left_out {
                anstream::eprintln!("the report has no place for {missing}");
            }
            write(path, report.yaml.into_bytes())?;
        }
        if let (Some(plot), Some(path)) = (self.plot, &self.out) {
            picture::write(&chart(plot, case, answer, outcome)?, path, &Appearance::default())?;
        }
        Ok(())
    }
}

fn write(path: &Path, bytes: Vec<u8>) -> Result<(), Error> {
    std::fs::write(path, bytes).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    anstream::eprintln!("wrote {}", path.display());
    Ok(())
}

/// The simulation as a run.
pub(super) fn run(case: &Case<'_>, target: &Target, traffic: &Traffic, outcome: &Outcome) -> Run {
    let mut roles = Roles::default();
    for line in &target.deployment {
        let sizes = line.parallelism;
        let role = Role {
            replicas: Some(line.replicas.into()),
            tp: Some(sizes.tp.into()),
            pp: Some(sizes.pp.into()),
            dp: Some(sizes.dp.into()),
            ep: Some(sizes.ep.into()),
        };
        match line.role {
            "prefill" => roles.prefill = Some(role),
            "decode" => roles.decode = Some(role),
            _ => roles.both = Some(role),
        }
    }
    let command = case.arguments.target.settings.0.to_command(&target.model);
    let server = Server {
        model: Some(target.model.clone()),
        gpu: Some(target.accelerator.clone()),
        gpus: Some(case.deployment.gpus().into()),
        roles,
        engine: Some("vllm".to_owned()),
        engine_version: Some(target.engine_version.clone()),
        flags: Some(join_command(&command)),
        ..Server::default()
    };
    let sent = sent(outcome);
    run_of(outcome, server, workload(traffic, sent), sent)
}

fn chart(plot: Plot, case: &Case<'_>, answer: &OneSimulation, outcome: &Outcome) -> anyhow::Result<Chart> {
    let load = case.load;
    let lengths = format!("{:.0} + {:.0} tokens", load.steady.input_tokens, load.steady.output_tokens);
    let facts =
        [answer.target.model.clone(), answer.target.accelerator.clone(), lengths].map(|fact| (String::new(), fact));
    Ok(match plot {
        Plot::Cdf => latency_cdf(&facts, &outcome.finished),
        Plot::Timeline => simulation_timeline(&facts, &outcome.timeline),
        Plot::Rate => {
            let most = case.capacity()?;
            let at = |share: f64| {
                let rate = share * most;
                Ok((rate, case.simulate(&load.traffic_at(rate, answer.requests.sent))?))
            };
            let outcomes = RATE_SHARES.into_iter().map(at).collect::<config_explorer::Result<Vec<_>>>()?;
            latency_by_rate(&facts, &outcomes)
        }
    })
}
