//! What `recommend` answers.

use std::fmt::Write;

use config_explorer::recommend::{Demand, Evidence, Query, Recommendation, Recommendations, RoleChoice};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ExitStatus;
use crate::output::words;
use crate::output::{Answer, Table};

/// A load.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Load {
    /// Mean length of a prompt.
    input_tokens: f64,
    /// Mean length of an output.
    output_tokens: f64,
    /// Requests per second; `null` for users.
    rate_per_s: Option<f64>,
    /// Users in a closed loop; `null` for a rate.
    users: Option<f64>,
}

impl Load {
    /// The load of a query.
    pub(super) fn of(query: &Query<'_>) -> Self {
        let (rate_per_s, users) = match query.demand {
            Demand::Rate(rate) => (Some(rate), None),
            Demand::Users(users) => (None, Some(users)),
        };
        Self { input_tokens: query.input_tokens, output_tokens: query.output_tokens, rate_per_s, users }
    }
}

/// Configurations that meet the objectives, best first.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RecommendAnswer {
    /// Hugging Face id or path.
    pub(super) model: String,
    /// vLLM's version.
    pub(super) engine_version: String,
    /// Time the search took.
    pub(super) elapsed_ms: f64,
    /// The load that was asked for.
    pub(super) load: Load,
    /// What was found.
    #[serde(flatten)]
    pub(super) found: Recommendations,
    #[serde(skip)]
    pub(super) explain: bool,
    /// A part of a search, which need not find anything.
    #[serde(skip)]
    pub(super) is_part: bool,
}

/// The engines of a role in words: `4 x TP 2`.
fn engines(role: &RoleChoice) -> String {
    let name = if role.role == "both" { String::new() } else { format!("{} ", role.role) };
    format!("{name}{} x {}", role.replicas, words::layout(role.parallelism))
}

fn configuration(recommendation: &Recommendation) -> String {
    recommendation.roles.iter().map(engines).collect::<Vec<_>>().join(", ")
}

fn evidence(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Measured => "measured",
        Evidence::Simulated => "simulated",
        Evidence::Estimated => "estimated",
    }
}

fn dollars(usd: Option<f64>) -> String {
    usd.map_or_else(|| "-".to_owned(), |usd| format!("{usd:.2}"))
}

fn milliseconds(value: Option<f64>) -> String {
    value.map_or_else(
        || "-".to_owned(),
        |value| if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") },
    )
}

impl Answer for RecommendAnswer {
    const COMMAND: &'static str = "recommend";

    fn table(&self) -> Table {
        let mut table = Table::new([
            "rank",
            "configuration",
            "gpu",
            "gpus",
            "usd_per_hour",
            "usd_per_million_output_tokens",
            "ttft_p99_ms",
            "tpot_mean_ms",
            "itl_p99_ms",
            "max_rate_within_slo",
            "evidence",
        ]);
        for recommendation in &self.found.recommendations {
            let predicted = &recommendation.predicted;
            table.push([
                recommendation.rank.to_string(),
                configuration(recommendation),
                recommendation.gpu.clone(),
                recommendation.gpus.to_string(),
                dollars(recommendation.usd_per_hour),
                dollars(recommendation.usd_per_million_output_tokens),
                milliseconds(predicted.ttft_ms.map(|ttft| ttft.p99)),
                milliseconds(Some(predicted.tpot_ms.mean)),
                milliseconds(Some(predicted.itl_ms.p99)),
                format!("{:.2}", recommendation.max_rate_within_slo),
                evidence(recommendation.evidence).to_owned(),
            ]);
        }
        table
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn status(&self) -> ExitStatus {
        ExitStatus::yes_if(self.is_part || !self.found.recommendations.is_empty())
    }
}

impl RecommendAnswer {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let found = &self.found;
        writeln!(
            text,
            "{} with vLLM {}: {} deployments looked at, {} simulated, {} meet the objectives",
            self.model, self.engine_version, found.evaluated, found.simulated, found.feasible
        )?;
        if !found.complete {
            writeln!(text, "The search was stopped before its end: this is the best so far.")?;
        }
        if let Some(best) = found.recommendations.first() {
            writeln!(text, "\n{}", self.table().draw().trim_end())?;
            writeln!(text)?;
            for margin in &best.margin {
                let predicted = milliseconds(margin.predicted);
                let basis = if best.evidence == Evidence::Estimated { "predicted" } else { evidence(best.evidence) };
                let room = margin.percent.map_or_else(String::new, |percent| format!(", {percent:.0} % of room"));
                let end = if margin.met_at_interval_end { "also" } else { "not" };
                writeln!(
                    text,
                    "{}: {predicted} {basis}{room}; {end} met at the worse end of the 80 % interval",
                    margin.objective
                )?;
            }
            for role in &best.roles {
                let name = if role.role == "both" { String::new() } else { format!("{}: ", role.role) };
                let engines = if role.replicas == 1 {
                    "one engine".to_owned()
                } else {
                    format!("{} engines, each", role.replicas)
                };
                writeln!(text, "\n{name}{engines} with\n  {}", role.command)?;
            }
            writeln!(text, "\nRouter: {} ({})", best.router.profile, best.router.reason)?;
            if !best.runs.is_empty() {
                writeln!(text, "\nMeasured by")?;
                for run in &best.runs {
                    writeln!(text, "  {} of {}", run.id, run.file)?;
                }
            }
            for warning in &best.predicted.warnings {
                writeln!(text, "\nwarning: {warning}")?;
            }
        }
        if let Some(told) = &found.measured {
            writeln!(
                text,
                "\nMeasured runs: {} of {} are of these models, accelerators and loads, in {} configurations: {} answer, {} do \
                 not surround the question, {} are not in the space, {} lack a statistic that is asked for",
                told.matching,
                told.runs,
                told.configurations,
                told.used,
                told.not_surrounding,
                told.outside_space,
                told.without_objective
            )?;
        }
        if let Some(miss) = &found.nearest_miss {
            writeln!(text, "\nNearest miss: {}. It would take", miss.configuration)?;
            for change in &miss.it_would_take {
                writeln!(text, "  {change}")?;
            }
        }
        if !found.rejected.is_empty() {
            writeln!(text, "\nRejected")?;
            for rejected in &found.rejected {
                writeln!(text, "  {} {}, for example {}", rejected.count, rejected.reason, rejected.example)?;
            }
        }
        if self.explain {
            writeln!(text, "\nNeighbours of the first choice")?;
            for neighbour in &found.neighbours {
                writeln!(text, "  {}: {}", neighbour.configuration, neighbour.reason)?;
            }
            writeln!(text, "\nWhat would flip the choice")?;
            for flip in &found.flips {
                writeln!(text, "  {}: then {}", flip.assumption, flip.then)?;
            }
            writeln!(text, "\nNothing beats, in cost, latency and rate")?;
            for point in &found.pareto {
                writeln!(
                    text,
                    "  {}: {} GPUs, {} $/h, {} ms a request, {:.2} requests/s",
                    point.configuration,
                    point.gpus,
                    dollars(point.usd_per_hour),
                    milliseconds(Some(point.e2e_mean_ms)),
                    point.max_rate_within_slo
                )?;
            }
        }
        Ok(())
    }
}
