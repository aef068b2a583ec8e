//! `calibrate PATH… --out FILE`: coefficients from measured runs, for `--coefficients`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use config_explorer::latency::Calibration;
use config_explorer::model::{LoadOptions, Model};
use config_explorer::reports::{ImportOptions, SkipKind, import};
use config_explorer::validate::latency::{
    Coefficient, Coverage, FittedCoefficient, LatencyAccuracy, MeasuredModels, MeasuredRun, MeasuredRuns, Scored, fit,
    intervals, leave_groups_out, observation, unidentified,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ExitStatus;
use crate::arguments::hardware::HardwareArgs;
use crate::output::{self, Answer, Format, Table, words};

/// Arguments of `calibrate`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Stores of runs, result files of any benchmark tool, folders with them, or a CSV file with a row for each measured
    /// operating point.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Directory of ORG--NAME/config.json folders, which runs name in `config`; by default models are found by their
    /// names, as `plan` finds them.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,

    /// Do not use the network to find models.
    #[arg(long)]
    offline: bool,

    /// File to write, in TOML.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// What the runs are, for the reader of the file; by default the names of the files.
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,

    #[command(flatten)]
    hardware: HardwareArgs,
}

/// The coefficients, and what they are worth.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CalibrateAnswer {
    /// Runs that the fit used.
    rows: usize,
    /// Errors with the built-in coefficients, with the fitted ones, and with those fitted without each run's model (or
    /// deployment, or load, where there is one of the larger groups only).
    accuracy: Vec<LatencyAccuracy>,
    /// What the runs cover.
    coverage: Option<Coverage>,
    /// Every coefficient.
    coefficients: Vec<CoefficientLine>,
    /// What the data cannot tell.
    warnings: Vec<String>,
}

/// One coefficient.
#[derive(Debug, Serialize, JsonSchema)]
struct CoefficientLine {
    /// Generation of accelerators; empty for engine times.
    generation: String,
    /// The coefficient.
    name: String,
    /// Its value.
    value: f64,
    /// Its value without measurements.
    neutral: f64,
    /// Share of what is known of it that comes from the data, percent.
    identified_percent: f64,
}

impl From<FittedCoefficient> for CoefficientLine {
    fn from(fitted: FittedCoefficient) -> Self {
        let (generation, name) = match &fitted.coefficient {
            Coefficient::Engine(time) => (String::new(), serde_json::to_value(time)),
            Coefficient::Kernel(generation, multiplier) => (generation.clone(), serde_json::to_value(multiplier)),
        };
        let name = name.ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
        let FittedCoefficient { value, neutral, identified, .. } = fitted;
        Self { generation, name, value, neutral, identified_percent: 100.0 * identified }
    }
}

impl Answer for CalibrateAnswer {
    const COMMAND: &'static str = "calibrate";

    fn table(&self) -> Table {
        let mut table = Table::new(["generation", "coefficient", "value", "neutral", "identified_percent"]);
        for line in &self.coefficients {
            table.push([
                line.generation.clone(),
                line.name.clone(),
                format!("{:.4}", line.value),
                format!("{:.4}", line.neutral),
                format!("{:.0}", line.identified_percent),
            ]);
        }
        table
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n\n{}\n", words::count(self.rows as u64, "run"), self.table().draw());
        for accuracy in &self.accuracy {
            let _ = write!(text, "{}:", accuracy.group);
            for (name, errors) in [("TPOT", accuracy.tpot), ("TTFT", accuracy.ttft)] {
                let Some(errors) = errors else { continue };
                let _ = write!(
                    text,
                    " {name} median {:.1} %, mean {:.1} %, {:.0} % within 20 %;",
                    errors.median_percent, errors.mean_percent, errors.within_20_percent
                );
            }
            text += "\n";
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "Note: {warning}");
        }
        text
    }
}

/// Fits, and writes the file.
pub(crate) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let accelerators = arguments.hardware.accelerators()?;
    let (rows, models) = arguments.read()?;
    let mut skipped = Vec::new();
    let mut cases = Vec::new();
    for row in &rows {
        match models.case(row, &accelerators) {
            Ok(case) if observation(row, &case).is_some() => cases.push((row, case)),
            Ok(_) => skipped
                .push("a fit uses credible runs of a closed loop on one engine without shared prefixes".to_owned()),
            Err(error) => skipped.push(error.to_string()),
        }
    }
    let observations: Vec<_> = cases.iter().filter_map(|(row, case)| observation(row, case)).collect();
    if observations.is_empty() {
        let why = common(&skipped)
            .map_or_else(String::new, |(reason, count)| format!(" ({reason}: {})", words::count(count, "run")));
        anyhow::bail!("no run can be used{why}");
    }
    let source = arguments.source.clone().unwrap_or_else(|| {
        let files: Vec<String> = arguments.paths.iter().map(|path| path.display().to_string()).collect();
        format!("{} of {}", words::count(cases.len() as u64, "run"), files.join(", "))
    });
    let (mut calibration, coefficients) = fit(&observations, &source);

    // The errors of groups that were left out are what an unseen one will see.
    let known: Vec<_> = cases.iter().map(|(row, case)| (*row, case)).collect();
    let (held, unseen) = leave_groups_out(&known);
    let predict = |calibration: &dyn Fn(&MeasuredRun) -> Calibration| -> anyhow::Result<Vec<_>> {
        cases.iter().map(|(row, case)| Ok((*row, case.predict(&calibration(row))?))).collect()
    };
    let of_unseen = predict(&|row| {
        let accelerators = calibration.accelerators.clone();
        let left = unseen.get(&held.group(row)).cloned().unwrap_or_default();
        Calibration { accelerators, ..left }
    })?;
    let scored: Vec<Scored<'_>> = of_unseen.iter().map(|(row, prediction)| Scored { row, prediction }).collect();
    calibration.interval = intervals(&scored, &format!("of {}s left out of the fit", held.words()));

    let mut accuracy = Vec::new();
    for (name, predictions) in [
        ("before (built-in)".to_owned(), predict(&|_| Calibration::built_in().clone())?),
        ("after, in sample".to_owned(), predict(&|_| calibration.clone())?),
        (format!("after, each {} left out", held.words()), of_unseen),
    ] {
        let scored: Vec<Scored<'_>> = predictions.iter().map(|(row, prediction)| Scored { row, prediction }).collect();
        accuracy.push(LatencyAccuracy::of(name, &scored));
    }
    let coverage = Coverage::of(cases.iter().map(|(row, _)| *row));
    let mut warnings = coverage.iter().flat_map(Coverage::gaps).collect::<Vec<_>>();
    warnings.extend(unidentified(&coefficients));
    if let Some((reason, count)) = common(&skipped) {
        let all = words::count(skipped.len() as u64, "run");
        warnings.push(format!("{all} of {} not used, {count} of them: {reason}", rows.len()));
    }
    if calibration.interval.is_empty() {
        warnings.push("too few runs for intervals: those of `estimate` will be a judgement".to_owned());
    }
    std::fs::write(&arguments.out, calibration.to_toml()?)
        .with_context(|| format!("writing {}", arguments.out.display()))?;
    let coefficients = coefficients.into_iter().map(Into::into).collect();
    output::print(&CalibrateAnswer { rows: cases.len(), accuracy, coverage, coefficients, warnings }, format)
}

/// The most frequent of some reasons, and how often it is one.
fn common(reasons: &[String]) -> Option<(&str, u64)> {
    let count = |reason: &String| reasons.iter().filter(|other| *other == reason).count();
    reasons.iter().max_by_key(|reason| count(reason)).map(|reason| (reason.as_str(), count(reason) as u64))
}

impl Arguments {
    /// The rows, and the models that they name.
    fn read(&self) -> anyhow::Result<(Vec<MeasuredRun>, MeasuredModels)> {
        // A table of its own columns, such as the one behind the built-in coefficients, tells more than an import keeps.
        if let ([path], Some(models)) = (self.paths.as_slice(), &self.models)
            && path.extension().is_some_and(|extension| extension == "csv")
        {
            let rows = MeasuredRuns::open(path)?.rows;
            let models = MeasuredModels::read(models, &rows);
            return Ok((rows, models));
        }
        let imported = import(&self.paths, &ImportOptions::default(), &|_, _| ())?;
        for skipped in imported.skipped.iter().filter(|skipped| skipped.kind == SkipKind::Failed) {
            anstream::eprintln!("skipped: {}: {}", skipped.path.display(), skipped.reason);
        }
        let rows: Vec<MeasuredRun> = imported.runs.iter().filter_map(MeasuredRun::of_run).collect();
        let mut models = match &self.models {
            Some(directory) => MeasuredModels::read(directory, &rows),
            None => MeasuredModels::default(),
        };
        if self.models.is_none() {
            let mut options = LoadOptions::from_env(|name| std::env::var(name).ok());
            options.offline |= self.offline;
            let mut seen = BTreeSet::new();
            for row in &rows {
                if seen.insert((&row.config, &row.precision)) {
                    models.insert(row, Model::load(&row.model, &options));
                }
            }
        }
        Ok((rows, models))
    }
}
