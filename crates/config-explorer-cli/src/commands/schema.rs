//! `schema [COMMAND]`: the JSON Schema of a command's output, or of the file that `--workload` takes.

use clap::Args;
use clap::builder::PossibleValuesParser;
use config_explorer::workload::WorkloadSpec;
use schemars::{JsonSchema, Schema, schema_for};
use serde::Serialize;

use super::accelerators::AcceleratorList;
use super::calibrate::CalibrateAnswer;
use super::check::CheckAnswer;
use super::deploy::DeployAnswer;
use super::estimate::EstimateAnswer;
use super::models::ModelList;
use super::plan::PlanAnswer;
use super::recommend::RecommendAnswer;
use super::runs::{CompareAnswer, ImportAnswer, RepeatList, RunList, ScenarioList};
use super::simulate::SimulateAnswer;
use super::validate::{LatencyAnswer, LogAnswer, MemoryAnswer};
use crate::ExitStatus;
use crate::output::{self, Answer, Format, Table};

/// The answers and files that have a schema.
const SCHEMAS: [Entry; 19] = [
    Entry::of::<PlanAnswer>(),
    Entry::of::<EstimateAnswer>(),
    Entry::of::<SimulateAnswer>(),
    Entry::of::<RecommendAnswer>(),
    Entry::of::<DeployAnswer>(),
    Entry::of::<CheckAnswer>(),
    Entry::of::<AcceleratorList>(),
    Entry::of::<ModelList>(),
    Entry::of::<ImportAnswer>(),
    Entry::of::<RunList<'_>>(),
    Entry::of::<ScenarioList>(),
    Entry::of::<CompareAnswer>(),
    Entry::of::<RepeatList>(),
    Entry::of::<MemoryAnswer>(),
    Entry::of::<LatencyAnswer>(),
    Entry::of::<LogAnswer>(),
    Entry::of::<CalibrateAnswer>(),
    Entry::of::<SchemaList>(),
    Entry { command: "workload", schema: workload },
];

/// A command and the schema of its answer.
struct Entry {
    command: &'static str,
    schema: fn() -> Schema,
}

impl Entry {
    const fn of<A: Answer>() -> Self {
        Self { command: A::COMMAND, schema: output::schema_of::<A> }
    }
}

/// The schema of the file that `--workload` takes.
fn workload() -> Schema {
    let mut schema = schema_for!(WorkloadSpec);
    schema.insert("title".to_owned(), output::schema_id("workload").into());
    schema
}

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The command; without it, the commands that have a schema are listed.
    #[arg(value_parser = PossibleValuesParser::new(SCHEMAS.map(|entry| entry.command)))]
    command: Option<String>,
}

/// The commands whose output has a schema.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SchemaList {
    /// One for each command.
    schemas: Vec<SchemaName>,
}

/// A command and the schema that its output names.
#[derive(Debug, Serialize, JsonSchema)]
struct SchemaName {
    /// The command.
    command: &'static str,
    /// Value of `schema` in its output.
    id: String,
}

impl Answer for SchemaList {
    const COMMAND: &'static str = "schema";

    fn table(&self) -> Table {
        let mut table = Table::new(["command", "schema"]);
        for schema in &self.schemas {
            table.push([schema.command.to_owned(), schema.id.clone()]);
        }
        table
    }
}

/// Prints the schema of one command, or lists those that have one.
pub(crate) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let Some(command) = &arguments.command else {
        let name = |entry: Entry| SchemaName { command: entry.command, id: output::schema_id(entry.command) };
        return output::print(&SchemaList { schemas: SCHEMAS.map(name).into() }, format);
    };
    let entry = SCHEMAS.into_iter().find(|entry| entry.command == command);
    let schema = (entry.expect("the parser accepts the commands of the list only").schema)();
    output::write(&(serde_json::to_string_pretty(&schema)? + "\n"))?;
    Ok(ExitStatus::Success)
}
