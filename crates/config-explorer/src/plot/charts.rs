//! The five pictures of the explorer, from plain rows.

use super::chart::{
    Axis, Bar, Bars, Bin, Chart, Content, Emphasis, Limit, Marks, Point, ScaleKind, Segment, Series, Side, Xy, drawable,
};
use super::scale::{round_step, value_text};
use crate::memory::MemoryPerGpu;

/// What the runs of one picture have in common, such as `("Model", "Qwen/Qwen3-32B")`; it becomes the title. An empty
/// label shows the value alone.
pub type Facts = [(String, String)];

/// One run of a [`scenario`] or [`tradeoff`] picture. A missing number is NaN.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// The configuration, such as `TP=4, Replicas=2`: runs of one configuration make one line.
    pub series: String,
    /// Heading that several configurations share, such as `Disaggregated`; empty for none.
    pub group: String,
    /// On the horizontal axis.
    pub x: f64,
    /// On the vertical axis.
    pub y: f64,
    /// The third metric of a trade-off.
    pub z: f64,
    /// Text under the pointer; empty for the two values.
    pub hover: String,
}

/// How a configuration stands against the objectives and the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// On the Pareto front: it meets the objectives, and no other that does is better.
    Front,
    /// It meets the objectives, and another is better.
    Dominated,
    /// It misses an objective.
    Failing,
}

/// One configuration of a [`pareto`] picture. A missing number is NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct ParetoRow {
    /// On the horizontal axis.
    pub x: f64,
    /// On the vertical axis.
    pub y: f64,
    /// Whether it is on the front.
    pub standing: Standing,
    /// Short name, written beside a point of the front; empty for none.
    pub label: String,
    /// Text under the pointer; empty for the two values.
    pub hover: String,
}

/// One configuration of a [`memory`] picture.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryRow {
    /// The configuration, such as `TP 4`.
    pub label: String,
    /// What else to know, such as `245,120 KV tokens`; empty for nothing.
    pub detail: String,
    /// What its plan says of each GPU.
    pub memory: MemoryPerGpu,
}

/// One metric against another, one line for each configuration, points in the order of `x`.
pub fn scenario(facts: &Facts, x: Axis, y: Axis, rows: &[Row]) -> Chart {
    let series = lines(rows, |row| row.x, |_| String::new());
    titled(facts, format!("{} by {}", y.label, x.label), Content::Xy(Xy { x, y, series }))
}

/// Two metrics against each other, one line for each configuration, its points joined and labelled in the order of a
/// third metric. Runs without the third metric are left out, and a note says so.
pub fn tradeoff(facts: &Facts, x: Axis, y: Axis, z: &Axis, rows: &[Row]) -> Chart {
    let known: Vec<Row> = rows.iter().filter(|row| drawable(row.z).is_some()).cloned().collect();
    let series = lines(&known, |row| row.z, |row| value_text(row.z, 4));
    let about = format!("{} against {}; point labels: {}", y.label, x.label, z.heading());
    let mut chart = titled(facts, about, Content::Xy(Xy { x, y, series }));
    if known.len() < rows.len() {
        chart.notes.push(format!("Left out for want of {}: {}.", z.label, runs_phrase(rows.len() - known.len())));
    }
    chart
}

/// Two metrics against each other: the Pareto front as a line, what it beats, and what misses the objectives in grey. The
/// objectives are the axes' limits.
pub fn pareto(facts: &Facts, x: Axis, y: Axis, rows: &[ParetoRow]) -> Chart {
    let of = |standing: Standing| {
        let mut points: Vec<Point> = rows
            .iter()
            .filter(|row| row.standing == standing)
            .map(|row| Point {
                x: row.x,
                y: row.y,
                label: if standing == Standing::Front { row.label.clone() } else { String::new() },
                hover: row.hover.clone(),
            })
            .collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x).then(a.y.total_cmp(&b.y)));
        points
    };
    let (front, dominated, failing) = (of(Standing::Front), of(Standing::Dominated), of(Standing::Failing));
    let counted = |text: &str, points: &[Point]| format!("{text} ({})", points.len());
    let series = vec![
        Series {
            label: counted("Pareto front", &front),
            group: String::new(),
            emphasis: Emphasis::Strong,
            marks: Marks::LineAndPoints(front),
        },
        Series {
            label: counted("Not on the front", &dominated),
            group: String::new(),
            emphasis: Emphasis::Plain,
            marks: Marks::Points(dominated),
        },
        Series {
            label: counted("Misses an objective", &failing),
            group: String::new(),
            emphasis: Emphasis::Muted,
            marks: Marks::Points(failing),
        },
    ];
    titled(facts, format!("{} against {}", y.label, x.label), Content::Xy(Xy { x, y, series }))
}

/// How the values of one metric spread. The bins have equal widths, on a logarithmic axis equal ratios; their number
/// follows Freedman and Diaconis (1981) unless it is given. Values that cannot be drawn are left out, and a note says so.
pub fn histogram(facts: &Facts, axis: Axis, values: &[f64], bins: Option<usize>) -> Chart {
    let log = axis.scale == ScaleKind::Log;
    let mut usable: Vec<f64> =
        values.iter().copied().filter_map(drawable).filter(|value| !log || *value > 1e-300).collect();
    usable.sort_by(f64::total_cmp);
    let about = format!("Distribution of {}, {}", axis.label, runs_phrase(usable.len()));
    let series = vec![Series {
        label: String::new(),
        group: String::new(),
        emphasis: Emphasis::Plain,
        marks: Marks::Bins(binned(&usable, log, bins)),
    }];
    let dropped = values.len() - usable.len();
    let mut chart = titled(facts, about, Content::Xy(Xy { x: axis, y: Axis::new("Runs", ""), series }));
    if dropped > 0 {
        chart.notes.push(format!("Left out for want of a usable value: {}.", runs_phrase(dropped)));
    }
    chart
}

/// What fills the memory of one GPU, one bar for each configuration. The device's memory and what vLLM may use are drawn
/// where all configurations share them. CUDA graphs that vLLM takes from outside of what it may use stand after the KV
/// cache.
pub fn memory(title: impl Into<String>, rows: &[MemoryRow]) -> Chart {
    let mut axis = Axis::new("Memory per GPU", "GiB");
    let shared = |value: fn(&MemoryPerGpu) -> f64| {
        let first = value(&rows.first()?.memory);
        rows.iter().all(|row| value(&row.memory).to_bits() == first.to_bits()).then_some(first)
    };
    let limits = [
        (shared(|memory| memory.requested_gib), "vLLM may use"),
        (shared(|memory| memory.total_gib), "the device has"),
    ];
    for (value, label) in limits {
        if let Some(value) = value {
            let label = format!("{label} {} GiB", value_text(value, 4));
            axis = axis.with_limit(Limit { value, label, fails: Side::Above });
        }
    }
    let bars = rows.iter().map(memory_bar).collect();
    let shortfalls: Vec<String> = rows
        .iter()
        .filter(|row| row.memory.kv_cache_gib < 0.0)
        .map(|row| format!("{} by {} GiB", row.label, value_text(-row.memory.kv_cache_gib, 3)))
        .collect();
    let notes =
        if shortfalls.is_empty() { Vec::new() } else { vec![format!("Does not fit: {}.", shortfalls.join(", "))] };
    Chart { title: title.into(), subtitle: String::new(), content: Content::Bars(Bars { axis, bars }), notes }
}

fn memory_bar(row: &MemoryRow) -> Bar {
    let memory = &row.memory;
    let graphs = ("CUDA graphs", memory.cuda_graph_gib);
    let cache = ("KV cache", memory.kv_cache_gib);
    let [second_to_last, last] = if memory.cuda_graph_in_budget { [graphs, cache] } else { [cache, graphs] };
    let parts = [
        ("Weights", memory.weights_gib),
        ("Activation", memory.activation_gib - memory.moe_workspace_gib),
        ("MoE workspace", memory.moe_workspace_gib),
        ("Non-torch", memory.non_torch_gib),
        second_to_last,
        last,
    ];
    let segment = |label: &str, value, emphasis| Segment { label: label.to_owned(), value, emphasis };
    // A shortfall has its own note; nothing else of a plan is below 0.
    let used = parts.into_iter().filter(|(_, value)| *value > 0.0);
    let mut segments: Vec<Segment> = used.map(|(label, value)| segment(label, value, Emphasis::Plain)).collect();
    let free = memory.total_gib - segments.iter().map(|segment| segment.value).sum::<f64>();
    if free > 0.0 {
        segments.push(segment("Not used", free, Emphasis::Muted));
    }
    Bar { label: row.label.clone(), detail: row.detail.clone(), segments }
}

pub(super) fn titled(facts: &Facts, about: String, content: Content) -> Chart {
    let fact = |(label, value): &(String, String)| {
        if label.is_empty() { value.clone() } else { format!("{label}: {value}") }
    };
    let title = facts.iter().map(fact).collect::<Vec<_>>().join(" · ");
    let (title, subtitle) = if title.is_empty() { (about, String::new()) } else { (title, about) };
    Chart { title, subtitle, content, notes: Vec::new() }
}

fn runs_phrase(count: usize) -> String {
    if count == 1 { "1 run".to_owned() } else { format!("{count} runs") }
}

/// One line for each series and group, in the order of their first rows.
fn lines(rows: &[Row], order: impl Fn(&Row) -> f64, label: impl Fn(&Row) -> String) -> Vec<Series> {
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by(|a, b| order(a).total_cmp(&order(b)));
    let mut names: Vec<(&str, &str)> = Vec::new();
    let mut points: std::collections::HashMap<(&str, &str), Vec<Point>> = std::collections::HashMap::new();
    for row in rows {
        let name = (row.group.as_str(), row.series.as_str());
        if points.insert(name, Vec::new()).is_none() {
            names.push(name);
        }
    }
    for row in sorted {
        points.entry((row.group.as_str(), row.series.as_str())).or_default().push(Point {
            x: row.x,
            y: row.y,
            label: label(row),
            hover: row.hover.clone(),
        });
    }
    names
        .into_iter()
        .map(|name| Series {
            label: name.1.to_owned(),
            group: name.0.to_owned(),
            emphasis: Emphasis::Plain,
            marks: Marks::LineAndPoints(points.remove(&name).unwrap_or_default()),
        })
        .collect()
}

/// Bins over ascending values.
fn binned(values: &[f64], log: bool, bins: Option<usize>) -> Vec<Bin> {
    let (Some(&lowest), Some(&highest)) = (values.first(), values.last()) else { return Vec::new() };
    let to = |value: f64| if log { value.log10() } else { value };
    let from = |value: f64| if log { 10_f64.powf(value) } else { value };
    let (low, high) = (to(lowest), to(highest));
    let quartile = |part: f64| to(values[((values.len() - 1) as f64 * part).round() as usize]);
    let wanted = bins.unwrap_or_else(|| {
        let width = 2.0 * (quartile(0.75) - quartile(0.25)) / (values.len() as f64).cbrt();
        ((high - low) / width).ceil().clamp(5.0, 50.0) as usize
    });
    let wanted = wanted.clamp(1, 1000) as f64;
    let mut step = (high - low) / wanted;
    // Values that do not differ, or by less than their own precision, share one bin.
    let magnitude = low.abs().max(high.abs());
    if step <= magnitude * 1e-9 || step < 1e-290 {
        let half = if magnitude < 1e-290 { 0.5 } else { magnitude * 0.05 };
        return vec![Bin { low: from(low - half), high: from(high + half), count: values.len() as f64 }];
    }
    let (mut first, mut count) = (low, wanted);
    if bins.is_none() && !log {
        // Edges at round numbers.
        step = round_step(step);
        first = (low / step).floor() * step;
        count = ((high - first) / step).floor() + 1.0;
    }
    let mut counts = vec![0.0; count as usize];
    for value in values {
        let index = ((to(*value) - first) / step) as usize;
        counts[index.min(count as usize - 1)] += 1.0;
    }
    let edge = |index: usize| from(first + index as f64 * step);
    counts
        .into_iter()
        .enumerate()
        .map(|(index, count)| Bin { low: edge(index), high: edge(index + 1), count })
        .collect()
}
