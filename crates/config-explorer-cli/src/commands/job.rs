//! `job --shards N -- recommend …`: a search spread over a Kubernetes cluster.

use clap::Args;
use config_explorer::Error;
use config_explorer::manifest::ShardJob;

use crate::ExitStatus;
use crate::cli::{Cli, Command};
use crate::output;

/// Arguments of `job`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many shards the search is cut into, one a pod.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    shards: u32,

    /// How many pods run at once; by default all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    parallelism: Option<u32>,

    /// Name of the Job and of the volume that the shards are written to.
    #[arg(long, value_name = "NAME", default_value = "config-explorer")]
    name: String,

    /// Namespace; by default the one that it is applied to.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Image; by default that of this release.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,

    /// CPUs of a pod.
    #[arg(long, value_name = "QUANTITY", default_value = "4")]
    cpu: String,

    /// Memory of a pod.
    #[arg(long, value_name = "QUANTITY", default_value = "4Gi")]
    memory: String,

    /// Size of the volume.
    #[arg(long, value_name = "QUANTITY", default_value = "1Gi")]
    storage: String,

    /// Storage class of the volume, which several nodes must be able to write (`ReadWriteMany`); by default the cluster's.
    #[arg(long, value_name = "NAME")]
    storage_class: Option<String>,

    /// The search, as it would be typed without `--shard` and `--shard-out`. Files that it names must be in the image.
    #[arg(last = true, required = true, value_name = "recommend …")]
    command: Vec<String>,
}

/// Prints the Job and its volume.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitStatus> {
    let words = &arguments.command;
    let wrong = |reason: String| Error::InvalidSetting { setting: "-- recommend …".to_owned(), reason };
    if words.iter().any(|word| word.starts_with("--shard")) {
        return Err(wrong("each pod gets its own `--shard` and `--shard-out`: leave them out".to_owned()).into());
    }
    let program = ["config-explorer".to_owned()];
    let parsed = crate::cli::parse(program.iter().chain(words).map(Into::into)).map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().next().unwrap_or_default();
        wrong(reason.trim_start_matches("error: ").to_owned())
    })?;
    if !matches!(parsed, Cli { command: Command::Recommend(_), .. }) {
        return Err(wrong("only `recommend` is done in shards".to_owned()).into());
    }
    let job = ShardJob {
        name: arguments.name.clone(),
        namespace: arguments.namespace.clone(),
        shards: arguments.shards,
        parallelism: arguments.parallelism.unwrap_or(arguments.shards),
        image: arguments.image.clone(),
        words: words.clone(),
        cpu: arguments.cpu.clone(),
        memory: arguments.memory.clone(),
        storage: arguments.storage.clone(),
        storage_class: arguments.storage_class.clone(),
    };
    output::write(&job.to_yaml()?)?;
    Ok(ExitStatus::Success)
}
