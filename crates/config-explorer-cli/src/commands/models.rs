//! `models [TEXT]`: the built-in models, which are known without a network.

use clap::Args;
use config_explorer::model::catalogue;
use schemars::JsonSchema;
use serde::Serialize;

use crate::ExitStatus;
use crate::arguments::names::NameFilter;
use crate::output::{self, Answer, Format, Table};

/// Arguments of `models`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    filter: NameFilter,
}

/// The built-in models, or those that were asked for.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ModelList {
    /// By id.
    models: Vec<BuiltInModel>,
}

/// A built-in model.
#[derive(Debug, Serialize, JsonSchema)]
struct BuiltInModel {
    /// Hugging Face id.
    id: String,
    /// Ids of other repositories with the same architecture and quantisation.
    aliases: Vec<String>,
    /// Weights of the main model, each counted once.
    parameters: u64,
    /// Where the figures come from.
    source: String,
}

impl Answer for ModelList {
    const COMMAND: &'static str = "models";

    fn table(&self) -> Table {
        let mut table = Table::new(["id", "parameters_billion", "aliases"]);
        for model in &self.models {
            let billions = format!("{:.1}", model.parameters as f64 / 1e9);
            table.push([model.id.clone(), billions, model.aliases.join(", ")]);
        }
        table
    }

    fn status(&self) -> ExitStatus {
        ExitStatus::yes_if(!self.models.is_empty())
    }
}

/// Lists the models.
pub(crate) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let wanted = catalogue::all().filter(|model| {
        let names = std::iter::once(&model.id).chain(&model.aliases);
        arguments.filter.accepts(names.map(String::as_str))
    });
    let models = wanted.map(|model| BuiltInModel {
        id: model.id,
        aliases: model.aliases,
        parameters: model.parameters,
        source: model.source,
    });
    output::print(&ModelList { models: models.collect() }, format)
}
