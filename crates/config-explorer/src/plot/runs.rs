//! Pictures of measured runs: which columns stand on the axes, what the title says, which runs make one line.

use super::chart::{Axis, Chart, Limit, ScaleKind, Side};
use super::charts::{self, ParetoRow, Row, Standing};
use super::scale::value_text;
use crate::explore::{Naming, load_column, pareto_front};
use crate::reports::{Column, ColumnKind, Direction, Kind, Layout, Run, column};
use crate::workload::{Comparison, Objective, Objectives, Quantity};
use crate::{Error, Result};

/// The pictures that runs make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picture {
    /// One metric by another column, one line for each configuration.
    Scenario,
    /// Two metrics, joined and labelled in the order of a third column.
    Tradeoff,
    /// Two metrics, with the Pareto front among what meets the objectives.
    Pareto,
    /// How one metric spreads.
    Histogram,
}

/// What of the runs is shown, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choice<'a> {
    /// Column on the horizontal axis; by default the load of a scenario, and the mean time to first token of the others.
    pub x: Option<&'a Column>,
    /// Column on the vertical axis, by default output tokens per second of one GPU.
    pub y: Option<&'a Column>,
    /// Column that orders and labels the points of a trade-off; by default the load.
    pub z: Option<&'a Column>,
    /// Whether the horizontal axis is logarithmic.
    pub log_x: bool,
    /// Whether the vertical axis is.
    pub log_y: bool,
    /// Number of bars of a histogram; by default it follows the values.
    pub bins: Option<usize>,
}

/// Draws runs. What they have in common becomes the title; a remark that all of them carry stands beneath.
///
/// # Errors
/// [`Error::InvalidSetting`] for a column of text, and for a Pareto front in a column of which neither less nor more is
/// better.
pub fn picture(picture: Picture, runs: &[&Run], choice: &Choice<'_>, objectives: &Objectives) -> Result<Chart> {
    let load = load_column(runs);
    let all = runs;
    let usual = if picture == Picture::Scenario { load } else { "ttft_mean_ms" };
    let x = number_column(choice.x, usual)?;
    let y = number_column(choice.y, "out_tok_s_gpu")?;
    let z = number_column(choice.z, load)?;
    // A histogram has no second column.
    let needed = if picture == Picture::Histogram { &[x][..] } else { &[x, y] };
    let drawn: Vec<&Run> =
        runs.iter().copied().filter(|run| needed.iter().all(|column| column.number(run).is_some())).collect();
    let lacking: Vec<String> = needed.iter().filter_map(|column| lacking(column, runs)).collect();
    let runs = drawn.as_slice();
    let (x_axis, y_axis) = (axis(x, choice.log_x, objectives), axis(y, choice.log_y, objectives));
    // The title is that of what was asked for, drawn or not.
    let facts = facts(if runs.is_empty() { all } else { runs });
    let naming = Naming::of(runs);
    let series_rows = || -> Vec<Row> {
        let hover = |run: &Run| hover(&naming, run, &[x, y, z]);
        let mut rows: Vec<Row> = runs
            .iter()
            .map(|run| Row {
                series: naming.name(run).to_owned(),
                group: group(runs, run),
                x: value(x, run),
                y: value(y, run),
                z: value(z, run),
                hover: hover(run),
            })
            .collect();
        // The usual layout first, with the plain lines.
        rows.sort_by(|a, b| a.group.cmp(&b.group));
        rows
    };
    let mut chart = match picture {
        Picture::Scenario => charts::scenario(&facts, x_axis, y_axis, &series_rows()),
        Picture::Tradeoff => charts::tradeoff(&facts, x_axis, y_axis, &axis(z, false, objectives), &series_rows()),
        Picture::Pareto => {
            let rows = pareto_rows(runs, &naming, x, y, objectives)?;
            let mut chart = charts::pareto(&facts, x_axis, y_axis, &rows);
            if !objectives.0.is_empty() {
                let texts: Vec<String> = objectives.0.iter().map(objective_text).collect();
                chart.notes.push(format!("Objectives: {}.", texts.join(", ")));
            }
            chart
        }
        Picture::Histogram => {
            let values: Vec<f64> = runs.iter().map(|run| value(x, run)).collect();
            charts::histogram(&facts, x_axis, &values, choice.bins)
        }
    };
    chart.notes.extend(lacking);
    chart.notes.extend(remarks(runs));
    Ok(chart)
}

/// How many runs a column leaves out.
fn lacking(column: &Column, runs: &[&Run]) -> Option<String> {
    let count = runs.iter().filter(|run| column.number(run).is_none()).count();
    (count > 0).then(|| format!("Not shown, for want of `{}`: {count} of {} runs.", column.name, runs.len()))
}

fn number_column<'a>(chosen: Option<&'a Column>, usual: &str) -> Result<&'a Column> {
    match chosen {
        Some(column) if matches!(column.kind, ColumnKind::Text | ColumnKind::Json) => {
            let reason = "holds text, and an axis needs numbers".to_owned();
            Err(Error::InvalidSetting { setting: column.name.to_string(), reason })
        }
        Some(column) => Ok(column),
        None => column(usual),
    }
}

fn pareto_rows(
    runs: &[&Run],
    naming: &Naming,
    x: &Column,
    y: &Column,
    objectives: &Objectives,
) -> Result<Vec<ParetoRow>> {
    let standing: Vec<bool> = runs.iter().map(|run| run.meets(objectives)).collect();
    let meeting: Vec<usize> = (0..runs.len()).filter(|&at| standing[at]).collect();
    let candidates: Vec<&Run> = meeting.iter().map(|&at| runs[at]).collect();
    let mut standing: Vec<Standing> =
        standing.iter().map(|&meets| if meets { Standing::Dominated } else { Standing::Failing }).collect();
    for row in pareto_front(&candidates, &[x, y])?.rows {
        standing[meeting[row]] = Standing::Front;
    }
    let row = |(run, standing): (&&Run, Standing)| ParetoRow {
        x: value(x, run),
        y: value(y, run),
        standing,
        label: naming.label(run),
        hover: hover(naming, run, &[x, y]),
    };
    Ok(runs.iter().zip(standing).map(row).collect())
}

fn value(column: &Column, run: &Run) -> f64 {
    column.number(run).unwrap_or(f64::NAN)
}

fn hover(naming: &Naming, run: &Run, columns: &[&Column]) -> String {
    let mut lines = vec![naming.label(run)];
    for (index, column) in columns.iter().enumerate() {
        let seen = columns[..index].iter().any(|other| other.name == column.name);
        if let Some(value) = column.number(run).filter(|_| !seen) {
            lines.push(format!("{}: {} {}", column.label, value_text(value, 4), column.unit).trim_end().to_owned());
        }
    }
    lines.push(format!("run {}", run.short_id()));
    lines.retain(|line| !line.is_empty());
    lines.join("\n")
}

/// Aggregated or disaggregated, where the runs are of both.
fn group(runs: &[&Run], run: &Run) -> String {
    let split = |run: &Run| matches!(run.server.roles.layout(), Some(Layout::Disaggregated { .. }));
    let both = runs.iter().any(|run| split(run)) && runs.iter().any(|run| !split(run));
    match both {
        false => String::new(),
        true if split(run) => "Disaggregated".to_owned(),
        true => "Aggregated".to_owned(),
    }
}

fn axis(column: &Column, log: bool, objectives: &Objectives) -> Axis {
    let hint = match column.direction {
        Direction::Lower => "lower is better",
        Direction::Higher => "higher is better",
        Direction::Neutral => "",
    };
    let scale = if log { ScaleKind::Log } else { ScaleKind::Linear };
    let axis = Axis::new(&*column.label, column.unit).with_scale(scale).with_hint(hint);
    let own = objectives.0.iter().filter(|objective| objective.quantity.column() == column.name);
    own.fold(axis, |axis, objective| {
        let fails = match objective.comparison {
            Comparison::Less | Comparison::LessOrEqual => Side::Above,
            Comparison::Greater | Comparison::GreaterOrEqual => Side::Below,
        };
        axis.with_limit(Limit { value: objective.limit, label: objective_text(objective), fails })
    })
}

/// An objective for people: `p99 TTFT ≤ 2,000 ms`.
fn objective_text(objective: &Objective) -> String {
    let metric = match objective.quantity {
        Quantity::Ttft(_) | Quantity::Tpot(_) | Quantity::Itl(_) => objective.quantity.metric().to_uppercase(),
        Quantity::E2e(_) => "end-to-end latency".to_owned(),
        Quantity::Throughput => "output throughput".to_owned(),
        Quantity::Requests => "request throughput".to_owned(),
    };
    let comparison = match objective.comparison {
        Comparison::Less => "<",
        Comparison::LessOrEqual => "≤",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => "≥",
    };
    let statistic =
        objective.quantity.statistic().map(|statistic| format!("{} ", statistic.name())).unwrap_or_default();
    let unit = match objective.quantity {
        Quantity::Throughput => "tok/s",
        Quantity::Requests => "req/s",
        _ => "ms",
    };
    format!("{statistic}{metric} {comparison} {} {unit}", value_text(objective.limit, 6))
}

/// What all runs have in common: model, accelerators, lengths.
fn facts(runs: &[&Run]) -> Vec<(String, String)> {
    let shared = |name: &str| -> Option<String> {
        let column = column(name).ok()?;
        let first = column.get(runs.first()?)?;
        let text = match first.number() {
            Some(number) => value_text(number, 6),
            None => first.to_string(),
        };
        runs.iter().all(|run| column.get(run).as_ref() == Some(&first)).then_some(text)
    };
    let accelerators = match (shared("n_gpu"), shared("gpu")) {
        (Some(count), Some(gpu)) => Some(format!("{count} × {gpu}")),
        (Some(count), None) => Some(format!("{count} GPUs")),
        (None, gpu) => gpu,
    };
    let lengths = match (shared("isl"), shared("osl")) {
        (Some(input), Some(output)) => Some(format!("{input} tokens in, {output} out")),
        (Some(input), None) => Some(format!("{input} tokens in")),
        (None, output) => output.map(|output| format!("{output} tokens out")),
    };
    [shared("model"), accelerators, lengths].into_iter().flatten().map(|fact| (String::new(), fact)).collect()
}

/// The remark that all runs carry, and which of them nobody measured.
fn remarks(runs: &[&Run]) -> Vec<String> {
    let shared = runs.first().and_then(|run| run.note.clone());
    let shared = shared.filter(|note| runs.iter().all(|run| run.note.as_ref() == Some(note)));
    let unmeasured = [Kind::Simulated, Kind::Estimated].into_iter().filter_map(|kind| {
        let count = runs.iter().filter(|run| run.kind == kind).count();
        (count > 0).then(|| {
            format!("{count} of {} runs {} {}.", runs.len(), if count == 1 { "is" } else { "are" }, kind.name())
        })
    });
    shared.into_iter().chain(unmeasured).collect()
}
