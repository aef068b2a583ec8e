//! A table of runs: the measured-latency table, and what `runs export --format csv` writes.
//!
//! The columns are those of [`columns`](crate::reports::columns) or their aliases; others are kept as `extra`. One row
//! is one run.

use crate::reports::{Column, Role, Run, Statistics, TpotDefinition, Value, column};

/// Whether a header is one of such a table: it has a metric, and most of what it has is known.
pub(in crate::reports) fn is_header(names: &[&str]) -> bool {
    let known: Vec<&Column> = names.iter().filter_map(|name| column(name).ok()).collect();
    let metrics = known.iter().filter(|column| column.group == crate::reports::Group::Metric).count();
    metrics > 0 && known.len() >= 3 && known.len() * 2 >= names.len()
}

/// The runs of a table.
pub(super) fn runs(bytes: &[u8]) -> Result<Vec<Run>, String> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let headers = reader.headers().map_err(|error| error.to_string())?.clone();
    let columns: Vec<(&str, Option<&Column>)> = headers
        .iter()
        .map(|name| (name.trim(), column(name.trim()).ok().filter(|column| column.is_settable())))
        .collect();
    let mut runs = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let mut run = Run::default();
        for ((name, column), text) in columns.iter().zip(&record) {
            let refuse = |error: crate::Error| {
                let line = record.position().map_or(0, csv::Position::line);
                format!("line {line}, column `{name}`: {error}")
            };
            match column {
                _ if text.trim().is_empty() => {}
                // The last word on TPOT: after the loop, whatever the order of the columns.
                _ if *name == "tpot_best_ms" => {}
                Some(column) if column.name == "layout" => {
                    if !disaggregated(text, &mut run) {
                        column.set(&mut run, &Value::Text(text.into())).map_err(refuse)?;
                    }
                }
                Some(column) => {
                    if let Some(value) = column.parse(text).map_err(refuse)? {
                        column.set(&mut run, &value).map_err(refuse)?;
                    }
                }
                // Computed columns of our own tables are computed again.
                None if crate::reports::column(name).is_ok() => {}
                None => {
                    run.extra.insert((*name).to_owned(), text.to_owned());
                }
            }
        }
        let best = columns.iter().position(|(name, _)| *name == "tpot_best_ms").and_then(|at| record.get(at));
        if let Some(best_ms) = best.and_then(|text| crate::reports::lenient::Number::parse(text).finite()) {
            set_best_tpot(&mut run, best_ms);
        }
        runs.push(run);
    }
    Ok(runs)
}

/// Makes `best_ms` the mean TPOT. Where it is not the printed one, the printed statistics are of another definition.
fn set_best_tpot(run: &mut Run, best_ms: f64) {
    let latency = &mut run.latency;
    let printed = latency.tpot.mean();
    if printed.is_none_or(|printed_ms| (printed_ms - best_ms).abs() > 1e-6 * best_ms.abs()) {
        latency.tpot_raw = std::mem::replace(&mut latency.tpot, Statistics::of_mean(best_ms));
        latency.tpot_definition.get_or_insert(if printed.is_some() {
            TpotDefinition::Unknown
        } else {
            TpotDefinition::FromMeans
        });
    } else {
        latency.tpot_definition.get_or_insert(TpotDefinition::WithoutFirstToken);
    }
}

/// Sets the roles from a layout such as `P/D 1P(tp4,adp1,ep4)+3D(tp16,adp1,ep16)`. False for any other text.
fn disaggregated(layout: &str, run: &mut Run) -> bool {
    let role = |text: &str, letter: char| -> Option<Role> {
        let (replicas, sizes) = text.trim().strip_suffix(')')?.split_once('(')?;
        let size = |name: &str| sizes.split(',').find_map(|size| size.trim().strip_prefix(name)?.parse().ok());
        Some(Role {
            replicas: Some(replicas.strip_suffix(letter)?.parse().ok()?),
            tp: Some(size("tp")?),
            ep: size("ep"),
            ..Role::default()
        })
    };
    let parts = layout.strip_prefix("P/D ").and_then(|layout| layout.split_once('+'));
    let Some((prefill, decode)) = parts.and_then(|(p, d)| Some((role(p, 'P')?, role(d, 'D')?))) else { return false };
    let roles = &mut run.server.roles;
    (roles.both, roles.prefill, roles.decode) = (None, Some(prefill), Some(decode));
    run.server.layout_description = Some(layout.to_owned());
    true
}
