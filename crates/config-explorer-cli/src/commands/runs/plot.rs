//! `runs plot scenario|tradeoff|pareto|histogram PATH… --out FILE`: runs as a picture.

use std::path::PathBuf;

use clap::Args;
use config_explorer::Error;
use config_explorer::plot::{Choice, Picture, picture};
use config_explorer::reports::{Column, column};

use super::selection::{By, Conditions, Goals, Paths};
use crate::ExitStatus;
use crate::arguments::picture::AppearanceArgs;

/// Arguments of `runs plot`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What to draw.
    kind: Kind,

    #[command(flatten)]
    paths: Paths,

    /// The file to write; its ending, `.svg`, `.png` or `.html`, decides the format.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Column on the horizontal axis, or that of a histogram.
    #[arg(short, value_name = "COLUMN")]
    x: Option<String>,

    /// Column on the vertical axis.
    #[arg(short, value_name = "COLUMN")]
    y: Option<String>,

    /// Column that orders and labels the points of a trade-off.
    #[arg(short, value_name = "COLUMN")]
    z: Option<String>,

    /// Make the horizontal axis logarithmic.
    #[arg(long)]
    log_x: bool,

    /// Make the vertical axis logarithmic.
    #[arg(long)]
    log_y: bool,

    /// Number of bars of a histogram.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    bins: Option<u16>,

    /// Draw only the scenario with this number in `runs scenarios`, under the same `--where` and `--by`.
    #[arg(long, value_name = "N")]
    scenario: Option<usize>,

    #[command(flatten)]
    by: By,

    #[command(flatten)]
    conditions: Conditions,

    #[command(flatten)]
    goals: Goals,

    #[command(flatten)]
    appearance: AppearanceArgs,
}

/// The kinds of picture.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// A metric by the load, one line for each configuration.
    Scenario,
    /// Two metrics, joined and labelled in the order of the load.
    Tradeoff,
    /// Two metrics, with the Pareto front among the runs that meet the objectives.
    Pareto,
    /// How a metric spreads.
    Histogram,
}

/// Draws the picture.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitStatus> {
    let objectives = arguments.goals.objectives()?;
    let chosen =
        |name: &Option<String>| -> Result<Option<&'static Column>, Error> { name.as_deref().map(column).transpose() };
    let choice = Choice {
        x: chosen(&arguments.x)?,
        y: chosen(&arguments.y)?,
        z: chosen(&arguments.z)?,
        log_x: arguments.log_x,
        log_y: arguments.log_y,
        bins: arguments.bins.map(usize::from),
    };
    let runs = arguments.paths.read()?;
    let mut selected = arguments.conditions.select(&runs)?;
    let scenarios = arguments.by.scenarios(&selected, false)?.1.scenarios;
    match arguments.scenario {
        Some(number) => {
            let scenario = number.checked_sub(1).and_then(|index| scenarios.get(index));
            let reason = || format!("is not one of 1 to {}; `runs scenarios` lists them", scenarios.len());
            let scenario = scenario
                .ok_or_else(|| Error::InvalidSetting { setting: format!("--scenario {number}"), reason: reason() })?;
            selected.clone_from(&scenario.runs);
        }
        None if scenarios.len() > 1 => {
            anstream::eprintln!(
                "note: the picture mixes {} scenarios; `runs scenarios` lists them, `--scenario N` chooses one",
                scenarios.len()
            );
        }
        None => {}
    }
    let kind = match arguments.kind {
        Kind::Scenario => Picture::Scenario,
        Kind::Tradeoff => Picture::Tradeoff,
        Kind::Pareto => Picture::Pareto,
        Kind::Histogram => Picture::Histogram,
    };
    let chart = picture(kind, &selected, &choice, &objectives)?;
    arguments.appearance.write(&chart, &arguments.out)?;
    Ok(ExitStatus::yes_if(!chart.is_empty()))
}
