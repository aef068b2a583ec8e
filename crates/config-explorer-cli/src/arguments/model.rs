//! Which model is meant and where it may be looked for.

use clap::Args;
use config_explorer::model::{LoadOptions, Model};

/// A model.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// Hugging Face id, directory with a config.json, or .gguf file.
    pub(crate) model: String,

    /// Branch, tag or commit of the model's repository.
    #[arg(long, value_name = "REV")]
    pub(crate) revision: Option<String>,

    /// Do not use the network.
    #[arg(long)]
    pub(crate) offline: bool,
}

impl ModelArgs {
    /// Finds and reads the model.
    pub(crate) fn load(&self) -> config_explorer::Result<Model> {
        self.load_as(&self.model, self.revision.as_deref())
    }

    /// Finds and reads another model, at its default revision.
    pub(crate) fn load_other(&self, id: &str) -> config_explorer::Result<Model> {
        self.load_as(id, None)
    }

    fn load_as(&self, id: &str, revision: Option<&str>) -> config_explorer::Result<Model> {
        let mut options = LoadOptions::from_env(|name| std::env::var(name).ok());
        options.revision = revision.map(str::to_owned);
        options.offline |= self.offline;
        Model::load(id, &options)
    }
}
