//! Scenarios, objectives and Pareto fronts of the original over 105 reports. Where ours differ, `original.md` (e) 25 says
//! why: cells of the table that were wrong, scenarios of one column, the weak front that keeps rows without values.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use config_explorer::explore::{Filter, pareto_front, pareto_front_of, scenarios};
use config_explorer::reports::{Column, Direction, ImportOptions, Run, column, import};
use serde_json::Value as Json;

/// A value as text that is equal where the values are.
fn shown(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.as_f64().map_or_else(|| other.to_string(), |number| number.to_string()),
    }
}

fn cell(column: &Column, run: &Run) -> Option<String> {
    Some(match column.number(run).filter(|_| column.kind != config_explorer::reports::ColumnKind::Boolean) {
        Some(number) => number.to_string(),
        None => column.get(run)?.to_string(),
    })
}

/// The rows of one version of the original, each with our run of the same file.
struct Table {
    version: &'static str,
    rows: BTreeMap<u64, (Json, Run)>,
}

impl Table {
    fn read(data: &Path, version: &'static str) -> Self {
        let inputs = data.join("reports/inputs");
        let runs = import(std::slice::from_ref(&inputs), &ImportOptions::default(), &|_, _| ()).unwrap().runs;
        let rows: Json =
            serde_json::from_slice(&std::fs::read(data.join(format!("reports/{version}_rows.json"))).unwrap()).unwrap();
        let rows = rows["rows"].as_array().unwrap().iter().filter(|row| !row["row"].is_null());
        let rows = rows.map(|row| {
            let file = inputs.join(row["file"].as_str().unwrap());
            let run = runs.iter().find(|run| Path::new(&run.source.path) == file).unwrap();
            (row["index"].as_u64().unwrap(), (row["row"].clone(), run.clone()))
        });
        Self { version, rows: rows.collect() }
    }

    /// Whether the original's cell is another than ours, as `originals_rows` explains cell by cell.
    fn differs(&self, row: u64, name: &str) -> bool {
        let (original, run) = &self.rows[&row];
        let original = original.get(name).filter(|value| !value.is_null());
        match (cell(column(name).unwrap(), run), original) {
            (None, None) => false,
            (Some(ours), Some(original)) => match (ours.parse::<f64>(), original.as_f64()) {
                (Ok(ours), Some(original)) => (ours - original).abs() > 1e-9 * original.abs(),
                _ => ours != shown(original),
            },
            _ => true,
        }
    }

    fn any_differs(&self, rows: impl IntoIterator<Item = u64>, names: &[&str]) -> bool {
        rows.into_iter().any(|row| names.iter().any(|name| self.differs(row, name)))
    }

    fn select(&self, filter: &Filter) -> Vec<u64> {
        self.rows.iter().filter(|(_, (_, run))| filter.accepts(run)).map(|(row, _)| *row).collect()
    }
}

fn indices(result: &Json) -> Vec<u64> {
    result.as_array().unwrap().iter().map(|index| index.as_u64().unwrap()).collect()
}

/// The condition that a row is of a scenario.
fn of_scenario(scenario: &Json) -> Vec<String> {
    let condition = |(name, value): (&String, &Json)| {
        let (name, operator) = match name.strip_prefix("__ge__") {
            Some(name) => (name, ">="),
            None => name.strip_prefix("__le__").map_or((name.as_str(), "="), |name| (name, "<=")),
        };
        format!("{name}{operator}{}", shown(value))
    };
    scenario.as_object().unwrap().iter().map(condition).collect()
}

/// The objectives as conditions: the original's are inclusive, in the direction of the column.
fn of_objectives(slos: &Json) -> Vec<(String, String)> {
    let condition = |slo: &Json| {
        let name = slo[0].as_str().unwrap().to_owned();
        let operator = if column(&name).unwrap().direction == Direction::Lower { "<=" } else { ">=" };
        (name.clone(), format!("{name}{operator}{}", shown(&slo[1])))
    };
    slos.as_array().unwrap().iter().map(condition).collect()
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    equal: usize,
    explained: usize,
}

impl Tally {
    /// Counts an answer: equal to the original's, or another for a reason.
    fn count(&mut self, equal: bool, explained: bool, what: &dyn std::fmt::Display) {
        assert!(equal || explained, "{what}");
        if equal {
            self.equal += 1;
        } else {
            self.explained += 1;
        }
    }
}

fn scenario_operation(table: &Table, operation: &Json, tally: &mut Tally) {
    let names: Vec<&str> = operation["args"]["columns"].as_array().unwrap().iter().filter_map(Json::as_str).collect();
    let bounded = operation["args"]["bounded"].as_bool().unwrap_or(false);
    let Ok(by) = names.iter().map(|name| column(name)).collect::<Result<Vec<_>, _>>() else {
        assert_eq!(operation["error"]["type"], "KeyError");
        return tally.count(true, false, &"");
    };
    let runs: Vec<&Run> = table.rows.values().map(|(_, run)| run).collect();
    let found = scenarios(&runs, &by, bounded);
    let ours: BTreeSet<Vec<String>> = found
        .scenarios
        .iter()
        .map(|scenario| {
            let texts = scenario.values.iter().zip(&by).map(|(extent, column)| {
                let number = |value: &config_explorer::reports::Value<'_>| match value.number() {
                    Some(number) if column.kind != config_explorer::reports::ColumnKind::Boolean => number.to_string(),
                    _ => value.to_string(),
                };
                let (min, max) = (number(&extent.min), number(&extent.max));
                if min == max { min } else { format!("{min}..{max}") }
            });
            texts.collect()
        })
        .collect();
    let theirs: BTreeSet<Vec<String>> = operation["result"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|scenario| {
            let text = |name: &&str| match scenario.get(name) {
                Some(value) => shown(value),
                None => {
                    let bound = |which| shown(&scenario[format!("__{which}__{name}")]);
                    format!("{}..{}", bound("ge"), bound("le"))
                }
            };
            names.iter().map(text).collect()
        })
        .collect();
    // One column alone gives first characters or an error; a bound of a float column is cut to a whole number.
    let whole_bounds = bounded && ours.iter().flatten().any(|text| text.contains("..") && text.contains("7.25"));
    let explained = names.len() == 1 || whole_bounds || table.any_differs(table.rows.keys().copied(), &names);
    if ours != theirs {
        println!("{} {}\n   ours {ours:?}\n   theirs {theirs:?}", table.version, operation["args"]);
    }
    tally.count(ours == theirs, explained, &format_args!("{} {operation}\n{ours:?}", table.version));
}

fn count_operation(table: &Table, operation: &Json, tally: &mut Tally) {
    for scenario in operation["result"].as_array().unwrap() {
        let filter: Filter = of_scenario(&scenario["scenario"]).join(",").parse().unwrap();
        let ours = table.select(&filter).len();
        tally.count(Some(ours as u64) == scenario["count"].as_u64(), false, scenario);
    }
}

fn filter_operation(table: &Table, operation: &Json, tally: &mut Tally) {
    let mut conditions = of_scenario(&operation["args"]["scenario"]);
    let objectives = operation["args"].get("slos").map(of_objectives).unwrap_or_default();
    conditions.extend(objectives.iter().map(|(_, condition)| condition.clone()));
    let ours = table.select(&conditions.join(",").parse().unwrap());
    let theirs = indices(&operation["result"]);
    let names: Vec<&str> = objectives.iter().map(|(name, _)| name.as_str()).collect();
    let (ours_set, theirs_set): (BTreeSet<u64>, BTreeSet<u64>) =
        (ours.iter().copied().collect(), theirs.iter().copied().collect());
    // Every row that only one of both keeps has a cell that differs.
    let explained = ours_set.symmetric_difference(&theirs_set).all(|row| table.any_differs([*row], &names));
    tally.count(ours == theirs, explained, &format_args!("{} {operation}\n{ours:?}", table.version));
}

fn front_operation(table: &Table, operation: &Json, tally: &mut Tally) {
    let arguments = &operation["args"];
    let names = [arguments["col_a"].as_str().unwrap(), arguments["col_b"].as_str().unwrap()];
    let metrics = names.map(|name| column(name).unwrap());
    let objectives = of_objectives(&arguments["slos"]);
    let mut conditions = of_scenario(&arguments["scenario"]);
    let scenario = table.select(&conditions.join(",").parse().unwrap());
    conditions.extend(objectives.iter().map(|(_, condition)| condition.clone()));
    let candidates = table.select(&conditions.join(",").parse().unwrap());
    let runs: Vec<&Run> = candidates.iter().map(|row| &table.rows[row].1).collect();
    let Ok(front) = pareto_front(&runs, &metrics) else {
        assert!(operation["error"]["message"].as_str().unwrap().contains("preferred direction"), "{operation}");
        return tally.count(true, false, &"");
    };
    let ours: BTreeSet<u64> = front.rows.iter().map(|&row| candidates[row]).collect();
    let theirs: BTreeSet<u64> = indices(&operation["result"]).into_iter().collect();
    let involved: Vec<&str> = names.into_iter().chain(objectives.iter().map(|(name, _)| name.as_str())).collect();
    let explained = table.any_differs(scenario, &involved)
        || (ours.is_subset(&theirs)
            && theirs.difference(&ours).all(|row| {
                // Kept without a value, or though another is as good in one metric and better in the other.
                let values = metrics.map(|metric| metric.number(&table.rows[row].1));
                let cost =
                    |value: f64, metric: &Column| if metric.direction == Direction::Lower { value } else { -value };
                let [Some(a), Some(b)] = values else { return true };
                let own = [cost(a, metrics[0]), cost(b, metrics[1])];
                runs.iter().any(|run| {
                    let other = metrics.map(|metric| metric.number(run).map(|value| cost(value, metric)));
                    let [Some(a), Some(b)] = other else { return false };
                    a <= own[0] && b <= own[1] && (a < own[0] || b < own[1])
                })
            }));
    tally.count(ours == theirs, explained, &format_args!("{} {operation}\n{ours:?}", table.version));
}

fn handmade_operation(operation: &Json, tally: &mut Tally) {
    let points = operation["args"]["points_TTFT_low_Thpt_high"].as_array().unwrap();
    let values =
        |at: usize| -> Vec<f64> { points.iter().map(|point| point[at].as_f64().unwrap_or(f64::NAN)).collect() };
    let (x, y) = (values(0), values(1));
    let front = pareto_front_of(&[(&x, Direction::Lower), (&y, Direction::Higher)]);
    let ours: Vec<u64> = front.rows.iter().map(|&row| row as u64).collect();
    let theirs = indices(&operation["result"]);
    let beaten = |row: usize| {
        (0..x.len()).any(|other| x[other] <= x[row] && y[other] >= y[row] && (x[other] < x[row] || y[other] > y[row]))
    };
    let explained = theirs.iter().filter(|row| !ours.contains(row)).all(|&row| {
        let row = row as usize;
        x[row].is_nan() || y[row].is_nan() || beaten(row)
    }) && ours.iter().all(|row| theirs.contains(row));
    tally.count(ours == theirs, explained, &format_args!("{operation}\n{ours:?}"));
}

#[test]
fn the_originals_answers() {
    let Some(data) = super::data() else { return };
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for version in ["seed", "head"] {
        let table = Table::read(&data, version);
        let operations: Json =
            serde_json::from_slice(&std::fs::read(data.join(format!("reports/{version}_operations.json"))).unwrap())
                .unwrap();
        for operation in operations["operations"].as_array().unwrap() {
            let function = operation["function"].as_str().unwrap();
            let mut tally = Tally::default();
            match function {
                "get_scenarios" => scenario_operation(&table, operation, &mut tally),
                "get_scenario_counts" => count_operation(&table, operation, &mut tally),
                "get_scenario_df" | "get_meet_slo_df" => filter_operation(&table, operation, &mut tally),
                "get_pareto_front_df" => front_operation(&table, operation, &mut tally),
                "get_pareto_front_df/handmade" => handmade_operation(operation, &mut tally),
                // How it prints, and which types its objectives refuse.
                _ => continue,
            }
            let sum = tallies.entry(function.to_owned()).or_default();
            sum.equal += tally.equal;
            sum.explained += tally.explained;
        }
    }
    for (function, tally) in &tallies {
        println!("{function}: {} as the original, {} differ by original.md (e) 25", tally.equal, tally.explained);
    }
    let counts: Vec<_> = tallies.values().map(|tally| (tally.equal, tally.explained)).collect();
    assert_eq!(counts, [(69, 3), (220, 68), (8, 12), (11, 0), (8, 0), (14, 14)]);
}
