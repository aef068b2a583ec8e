//! Pictures of a simulation: how latencies spread, how its engines were used over time, how latency follows the rate.

use super::chart::{Axis, Chart, Content, Emphasis, Marks, Point, ScaleKind, Series, Xy};
use super::charts::{Facts, Row, scenario, titled};
use super::scale::value_text;
use crate::simulation::{FinishedRequests, Interval, Outcome};
use crate::workload::{Quantity, Statistic};

/// Points of a cumulative distribution: a picture shows no more.
const CDF_POINTS: usize = 400;

/// The part of the requests whose latency is at most a value: time to first token, time per output token, end to end.
pub fn latency_cdf(facts: &Facts, finished: &FinishedRequests) -> Chart {
    let own = Statistic::Mean;
    let latencies = [
        ("Time to first token", Quantity::Ttft(own)),
        ("Time per output token", Quantity::Tpot(own)),
        ("End to end", Quantity::E2e(own)),
    ];
    let series = latencies.map(|(label, quantity)| {
        let mut values: Vec<f64> = (0..finished.len()).filter_map(|at| finished.latency_ms(at, quantity)).collect();
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len().saturating_sub(1);
        let points = CDF_POINTS.min(values.len());
        let at = |point: usize| if points > 1 { point * last / (points - 1) } else { last };
        let ranked = (0..points).map(at).map(|rank| {
            let share = 100.0 * (rank + 1) as f64 / values.len() as f64;
            let hover = format!("{} % within {} ms", value_text(share, 3), value_text(values[rank], 3));
            Point { x: values[rank], y: share, label: String::new(), hover }
        });
        line(label, ranked.collect())
    });
    let x = Axis::new("Latency", "ms").with_scale(ScaleKind::Log).with_hint("lower is better");
    let y = Axis::new("Requests within it", "%");
    simulated(titled(facts, "How latencies spread".to_owned(), Content::Xy(Xy { x, y, series: series.into() })))
}

/// Requests that run and wait, and how full the KV cache is, over time.
pub fn simulation_timeline(facts: &Facts, intervals: &[Interval]) -> Chart {
    let series = |label: &str, value: fn(&Interval) -> f64| {
        let points = intervals.iter().map(|interval| Point {
            x: interval.start_s,
            y: value(interval),
            hover: format!("{label}: {} at {} s", value_text(value(interval), 3), value_text(interval.start_s, 4)),
            ..Point::default()
        });
        Series { marks: Marks::Steps(points.collect()), ..line(label, Vec::new()) }
    };
    let series = vec![
        series("Running requests", |interval| interval.running),
        series("Waiting requests", |interval| interval.waiting),
        series("KV cache in use, %", |interval| 100.0 * interval.kv_cache),
    ];
    let (x, y) = (Axis::new("Time", "s"), Axis::new("Requests, or percent of the KV cache", ""));
    simulated(titled(facts, "Queue, batch and KV cache over time".to_owned(), Content::Xy(Xy { x, y, series })))
}

/// Latencies at several rates, requests per second.
pub fn latency_by_rate(facts: &Facts, outcomes: &[(f64, Outcome)]) -> Chart {
    let lines = [
        ("TTFT p50", Quantity::Ttft(Statistic::P50)),
        ("TTFT p99", Quantity::Ttft(Statistic::P99)),
        ("TPOT p50", Quantity::Tpot(Statistic::P50)),
        ("TPOT p99", Quantity::Tpot(Statistic::P99)),
    ];
    let row = |(rate, outcome): &(f64, Outcome), (series, quantity): (&str, Quantity)| {
        let y = outcome.quantity(quantity).unwrap_or(f64::NAN);
        let hover = format!("{series} {} ms at {} requests/s", value_text(y, 3), value_text(*rate, 3));
        Row { series: series.to_owned(), x: *rate, y, hover, ..Row::default() }
    };
    let rows: Vec<Row> = lines.iter().flat_map(|line| outcomes.iter().map(|outcome| row(outcome, *line))).collect();
    let y = Axis::new("Latency", "ms").with_scale(ScaleKind::Log).with_hint("lower is better");
    let mut chart = simulated(scenario(facts, Axis::new("Rate", "requests/s"), y, &rows));
    let beyond: Vec<String> =
        outcomes.iter().filter(|(_, outcome)| outcome.saturated).map(|(rate, _)| value_text(*rate, 3)).collect();
    if !beyond.is_empty() {
        chart.notes.push(format!("Saturated at {} requests/s: times grow with the run.", beyond.join(", ")));
    }
    chart
}

fn line(label: &str, points: Vec<Point>) -> Series {
    Series { label: label.to_owned(), group: String::new(), emphasis: Emphasis::Plain, marks: Marks::Line(points) }
}

/// Says that nobody measured it.
fn simulated(mut chart: Chart) -> Chart {
    chart.notes.push("Simulated.".to_owned());
    chart
}
