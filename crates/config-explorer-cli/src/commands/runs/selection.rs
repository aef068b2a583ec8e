//! Which runs a command works on.

use std::path::PathBuf;

use clap::Args;
use config_explorer::explore::{Filter, Scenarios, scenarios};
use config_explorer::reports::{Column, ImportOptions, Run, SkipKind, column, import};
use config_explorer::workload::Objectives;

/// Where the runs are.
#[derive(Debug, Args)]
pub(super) struct Paths {
    /// Result files, folders with results, or stores.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

impl Paths {
    /// Reads the runs. Files that should have given one and did not are told on stderr.
    pub(super) fn read(&self) -> anyhow::Result<Vec<Run>> {
        read_runs(&self.paths)
    }
}

/// The runs of files, folders and stores. Files that should have given one and did not are told on stderr.
pub(in crate::commands) fn read_runs(paths: &[PathBuf]) -> anyhow::Result<Vec<Run>> {
    let import = import(paths, &ImportOptions::default(), &|_, _| ())?;
    let (failed, others): (Vec<_>, Vec<_>) =
        import.skipped.iter().partition(|skipped| skipped.kind == SkipKind::Failed);
    for skipped in failed {
        anstream::eprintln!("skipped: {}: {}", skipped.path.display(), skipped.reason);
    }
    if import.runs.is_empty() {
        anstream::eprintln!("no result found; files looked at: {}", import.skipped.len());
        for skipped in others.iter().take(5) {
            anstream::eprintln!("skipped: {}: {}", skipped.path.display(), skipped.reason);
        }
    }
    Ok(import.runs)
}

/// Which of them are wanted.
#[derive(Debug, Args)]
pub(super) struct Conditions {
    /// Only runs that meet these conditions: `gpu=H100,isl_mean>=1000`. Operators are = != < <= > >=; `*` in a text stands
    /// for anything; all conditions must hold, and a run without the value meets none.
    #[arg(long = "where", value_name = "CONDITION,…")]
    conditions: Vec<String>,
}

impl Conditions {
    /// The runs that meet the conditions.
    pub(super) fn select<'a>(&self, runs: &'a [Run]) -> anyhow::Result<Vec<&'a Run>> {
        let filter: Filter = self.conditions.join(",").parse()?;
        let selected: Vec<&Run> = runs.iter().filter(|run| filter.accepts(run)).collect();
        if selected.is_empty() {
            for (column, values) in filter.unmet(runs) {
                let values: Vec<String> = values.iter().take(10).map(|value| format!("`{value}`")).collect();
                let values = if values.is_empty() { "missing in all runs".to_owned() } else { values.join(", ") };
                anstream::eprintln!("hint: `{}` is {values}", column.name);
            }
        }
        Ok(selected)
    }
}

/// What the runs must achieve.
#[derive(Debug, Args)]
pub(super) struct Goals {
    /// Objectives, such as `ttft:p99<=2s;tpot:mean<=50ms`; a run without the value misses the objective.
    #[arg(long = "slo", value_name = "OBJECTIVE;…")]
    objectives: Vec<String>,
}

impl Goals {
    /// The objectives.
    pub(super) fn objectives(&self) -> anyhow::Result<Objectives> {
        Ok(self.objectives.join(";").parse()?)
    }
}

/// The columns of a list of names, joined by commas.
pub(super) fn columns_of(names: &str) -> anyhow::Result<Vec<&'static Column>> {
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(names.map(column).collect::<Result<_, _>>()?)
}

/// The columns that objectives limit.
pub(super) fn columns_of_objectives(objectives: &Objectives) -> anyhow::Result<Vec<&'static Column>> {
    let columns = objectives.0.iter().map(|objective| column(&objective.quantity.column()));
    Ok(columns.collect::<Result<_, _>>()?)
}

/// The columns of `--by`.
#[derive(Debug, Args)]
pub(super) struct By {
    /// Columns whose values make a scenario.
    #[arg(long, value_name = "COLUMN,…", default_value = "model,gpu,isl,osl")]
    by: String,
}

impl By {
    /// The scenarios of some runs, with the columns.
    pub(super) fn scenarios<'a>(
        &self,
        runs: &[&'a Run],
        bounded: bool,
    ) -> anyhow::Result<(Vec<&'static Column>, Scenarios<'a>)> {
        let by = columns_of(&self.by)?;
        let scenarios = scenarios(runs, &by, bounded);
        Ok((by, scenarios))
    }
}
