//! Latency against load, for deployments that were estimated.

use super::chart::{Axis, Chart, ScaleKind};
use super::charts::{Facts, Row, scenario, tradeoff};
use super::scale::value_text;
use crate::serving::{CurvePoint, LoadKind};

/// The latency of a [`load_curve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latency {
    /// Time to first token.
    Ttft,
    /// Time per output token.
    Tpot,
    /// From sending a request to its last token.
    E2e,
}

/// What a [`load_curve`] sets the latency against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// Clients or requests per second.
    Load,
    /// Output tokens of each GPU, the load written beside the points.
    Throughput,
}

/// A mean latency against the load or the throughput, one line for each deployment by its name.
pub fn load_curve(
    facts: &Facts,
    curves: &[(&str, &[CurvePoint])],
    kind: LoadKind,
    latency: Latency,
    against: Against,
) -> Chart {
    // Clients are doubled from point to point, rates are not.
    let load_axis = match kind {
        LoadKind::Concurrency => Axis::new("Concurrency", "clients").with_scale(ScaleKind::Log),
        LoadKind::Rate => Axis::new("Rate", "requests/s"),
    };
    let name = match latency {
        Latency::Ttft => "Mean time to first token",
        Latency::Tpot => "Mean time per output token",
        Latency::E2e => "Mean end-to-end time",
    };
    let y = Axis::new(name, "ms").with_hint("lower is better");
    let rows: Vec<Row> = curves
        .iter()
        .flat_map(|(series, points)| points.iter().map(|point| row(series, point, kind, latency, against)))
        .collect();
    match against {
        Against::Load => scenario(facts, load_axis, y, &rows),
        Against::Throughput => {
            let x = Axis::new("Output throughput per GPU", "tokens/s").with_hint("higher is better");
            tradeoff(facts, x, y, &load_axis, &rows)
        }
    }
}

fn row(series: &str, point: &CurvePoint, kind: LoadKind, latency: Latency, against: Against) -> Row {
    let number = |value: f64| value_text(value, 3);
    let range = |[low, high]: [f64; 2]| format!(" (80 %: {} to {})", number(low), number(high));
    let load = match kind {
        LoadKind::Concurrency => "clients",
        LoadKind::Rate => "requests/s",
    };
    let hover = format!(
        "{series}\n{} {load}\nTTFT {} ms{}\nTPOT {} ms{}\nE2E {} ms\n{} output tokens/s",
        number(point.load),
        number(point.ttft_mean_ms),
        range(point.ttft_interval_80_ms),
        number(point.tpot_mean_ms),
        range(point.tpot_interval_80_ms),
        number(point.e2e_mean_ms),
        number(point.output_tokens_per_s),
    );
    Row {
        series: series.to_owned(),
        group: String::new(),
        x: match against {
            Against::Load => point.load,
            Against::Throughput => point.output_tokens_per_s_per_gpu,
        },
        y: match latency {
            Latency::Ttft => point.ttft_mean_ms,
            Latency::Tpot => point.tpot_mean_ms,
            Latency::E2e => point.e2e_mean_ms,
        },
        z: point.load,
        hover,
    }
}
