//! Latency against load, for one deployment or several.

use std::fmt::Write;

use clap::ValueEnum;
use config_explorer::engine::{ServeArgs, join_command};
use config_explorer::plot::{Against, Chart, Latency, load_curve};
use config_explorer::serving::{CurvePoint, LoadKind, Traffic, curve};
use schemars::JsonSchema;
use serde::Serialize;

use super::answer::number;
use super::{Arguments, SizedDeployment};
use crate::output::{Table, words};

/// Latency of the picture.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Metric {
    /// Time to first token.
    Ttft,
    /// Time per output token.
    Tpot,
    /// The whole request.
    E2e,
}

/// What the picture sets it against.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Axis {
    /// Clients or requests per second.
    Load,
    /// Output tokens per second and GPU.
    Throughput,
}

/// One curve for each deployment.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CurveAnswer {
    /// Hugging Face id or path.
    model: String,
    /// Unit of `load`.
    load: LoadKind,
    /// The deployment itself, then those it is compared with.
    curves: Vec<Curve>,
}

/// The curve of one deployment.
#[derive(Debug, Serialize, JsonSchema)]
struct Curve {
    /// The deployment: its layout, or the flags that `--compare` lays over.
    configuration: String,
    /// GPUs of all its engines.
    gpus: u32,
    /// Loads from light to saturation; none for a deployment that does not fit.
    points: Vec<CurvePoint>,
    /// Why it does not fit.
    reason: Option<String>,
    /// What has to be set for it to start.
    warnings: Vec<String>,
}

impl CurveAnswer {
    /// Something fits.
    pub(super) fn any(&self) -> bool {
        self.curves.iter().any(|curve| curve.reason.is_none())
    }

    pub(super) fn table(&self) -> Table {
        let mut table = Table::new([
            "configuration",
            "gpus",
            "load",
            "ttft_mean_ms",
            "tpot_mean_ms",
            "e2e_mean_ms",
            "output_tokens_per_s",
            "output_tokens_per_s_per_gpu",
            "bound_by",
        ]);
        for curve in &self.curves {
            for point in &curve.points {
                let word = serde_json::to_value(point.bound_by).ok();
                table.push([
                    curve.configuration.clone(),
                    curve.gpus.to_string(),
                    number_of_load(point.load),
                    number(point.ttft_mean_ms),
                    number(point.tpot_mean_ms),
                    number(point.e2e_mean_ms),
                    number(point.output_tokens_per_s),
                    number(point.output_tokens_per_s_per_gpu),
                    word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default(),
                ]);
            }
        }
        table
    }

    pub(super) fn text(&self) -> String {
        let mut text = if self.any() { self.table().draw() } else { String::new() };
        for curve in &self.curves {
            if let Some(reason) = &curve.reason {
                let _ = writeln!(text, "{} does not fit: {reason}.", curve.configuration);
            }
            for warning in &curve.warnings {
                let _ = writeln!(text, "Note: {}: {warning}", curve.configuration);
            }
        }
        text
    }
}

/// Clients are whole, rates are not.
fn number_of_load(load: f64) -> String {
    if load.fract() == 0.0 { load.to_string() } else { number(load) }
}

/// The curves that were asked for.
pub(super) fn draw<'a>(
    arguments: &Arguments,
    kind: LoadKind,
    model: &str,
    traffic: &Traffic,
    size: impl Fn(&ServeArgs) -> config_explorer::Result<SizedDeployment<'a>>,
) -> anyhow::Result<CurveAnswer> {
    let own = &arguments.target.settings.0;
    let mut wanted = vec![(None, own.clone())];
    for flags in &arguments.curve.compare {
        // The last of two equal flags counts.
        let command = format!("{} {flags}", join_command(&own.to_command(model)));
        wanted.push((Some(flags.clone()), ServeArgs::parse_shell(&command)?));
    }
    let mut curves = Vec::new();
    for (name, serve) in wanted {
        let sized = size(&serve)?;
        let layouts = || {
            let layout = |role: &super::RoleLine| {
                let layout = words::layout(role.parallelism);
                match (role.role, role.replicas) {
                    ("both", 1) => layout,
                    ("both", replicas) => format!("{replicas} x {layout}"),
                    (role, replicas) => format!("{replicas} {role} of {layout}"),
                }
            };
            sized.roles.iter().map(layout).collect::<Vec<_>>().join(", ")
        };
        let configuration = name.unwrap_or_else(layouts);
        let gpus = sized.roles.iter().map(|role| role.gpus).sum();
        let reason = sized.refusal();
        let points = if reason.is_none() { curve(&sized.deployment()?, traffic, kind)? } else { Vec::new() };
        let warnings = sized.warnings();
        curves.push(Curve { configuration, gpus, points, reason, warnings });
    }
    Ok(CurveAnswer { model: model.to_owned(), load: kind, curves })
}

/// The picture of the curves.
pub(super) fn chart(
    arguments: &Arguments,
    answer: &CurveAnswer,
    traffic: &Traffic,
    kind: LoadKind,
    accelerator: &str,
) -> Chart {
    let lengths = format!("{} + {} tokens", traffic.input_tokens, traffic.output_tokens);
    let facts = [answer.model.clone(), accelerator.to_owned(), lengths].map(|fact| (String::new(), fact));
    let curves: Vec<(&str, &[CurvePoint])> =
        answer.curves.iter().map(|curve| (curve.configuration.as_str(), curve.points.as_slice())).collect();
    let latency = match arguments.curve.metric {
        Metric::Ttft => Latency::Ttft,
        Metric::Tpot => Latency::Tpot,
        Metric::E2e => Latency::E2e,
    };
    let against = match arguments.curve.against {
        Axis::Load => Against::Load,
        Axis::Throughput => Against::Throughput,
    };
    let mut chart = load_curve(&facts, &curves, kind, latency, against);
    chart.notes.extend(
        answer
            .curves
            .iter()
            .filter(|curve| curve.reason.is_some())
            .map(|curve| format!("{} does not fit.", curve.configuration)),
    );
    chart
}
