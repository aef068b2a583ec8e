//! `deploy RECOMMENDATION.json|-`: the llm-d files of what `recommend -o json` answered.

use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use config_explorer::hardware::Accelerators;
use config_explorer::manifest::kubernetes::Texts;
use config_explorer::manifest::{self, Autoscaling, PrefixCache, ProposalOptions, Proposals};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ExitStatus;
use crate::arguments::hardware::HardwareArgs;
use crate::arguments::target::parse_gib;
use crate::output::{self, Answer, Format, Table};

/// Arguments of `deploy`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What `recommend -o json` printed; `-` reads it from stdin.
    #[arg(value_name = "RECOMMENDATION.json|-")]
    recommendation: PathBuf,

    /// Which of its configurations.
    #[arg(long, value_name = "K", default_value_t = 1)]
    rank: usize,

    /// Folder that the files are written to; by default the deployment's name.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Replace files that are there and differ.
    #[arg(long)]
    overwrite: bool,

    /// Name of the deployment, by which router and model servers find each other; by default the model's.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Namespace; by default the name.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// How the router knows which prefixes an engine holds.
    #[arg(long, value_name = "HOW", default_value = "approximate")]
    prefix_cache: PrefixCacheName,

    /// Memory of each pod's host that keeps KV cache, with `--prefix-cache tiered`; by default that of llm-d's guide.
    #[arg(long, value_name = "GIB", default_value_t = 100.0, value_parser = parse_gib)]
    offload_gib: f64,

    /// Let the workload variant autoscaler set the replicas of each role, between these.
    #[arg(long, value_name = "MIN:MAX", value_parser = parse_bounds)]
    autoscaling: Option<Autoscaling>,

    /// What each pod asks for besides, such as `rdma/ib=1`; may be repeated.
    #[arg(long, value_name = "NAME=QUANTITY", value_parser = parse_pair)]
    resource: Vec<(String, String)>,

    /// Label that the nodes must have, such as `nvidia.com/gpu.product=NVIDIA-H200`; may be repeated.
    #[arg(long, value_name = "LABEL=VALUE", value_parser = parse_pair)]
    node_selector: Vec<(String, String)>,

    #[command(flatten)]
    hardware: HardwareArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PrefixCacheName {
    /// By what it sent where.
    Approximate,
    /// By what the engines report.
    Precise,
    /// By what it sent where, on the GPU and in the host's memory.
    Tiered,
}

fn parse_bounds(text: &str) -> Result<Autoscaling, String> {
    let bounds = text.split_once(':').and_then(|(min, max)| Some((min.parse().ok()?, max.parse().ok()?)));
    match bounds {
        Some((min_replicas, max_replicas)) if 1 <= min_replicas && min_replicas <= max_replicas => {
            Ok(Autoscaling { min_replicas, max_replicas })
        }
        _ => Err("must be MIN:MAX with 1 <= MIN <= MAX, such as 1:8".to_owned()),
    }
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty());
    pair.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "must be NAME=VALUE".to_owned())
}

/// What was written.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DeployAnswer {
    /// Name of the deployment.
    name: String,
    /// Its namespace.
    namespace: String,
    /// Hugging Face id of its model.
    model: String,
    /// The folder.
    directory: String,
    /// Its files.
    files: Vec<DeployedFile>,
}

/// A file of a deployment.
#[derive(Debug, Serialize, JsonSchema)]
struct DeployedFile {
    /// Path below the folder.
    path: String,
    /// What happened to it.
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It was not there.
    Written,
    /// It was there, and the same.
    Unchanged,
    /// It was there, and another.
    Overwritten,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Unchanged => "unchanged",
            Self::Overwritten => "overwritten",
        }
    }
}

impl DeployAnswer {
    /// What was written, in a line.
    pub(crate) fn summary(&self) -> String {
        let changed = self.files.iter().filter(|file| file.state != State::Unchanged).count();
        let unchanged = self.files.len() - changed;
        let unchanged = if unchanged == 0 { String::new() } else { format!(", {unchanged} are unchanged") };
        let directory = &self.directory;
        format!("wrote {changed} files to {directory}{unchanged}; {directory}/README.md says how to apply them")
    }
}

impl Answer for DeployAnswer {
    const COMMAND: &'static str = "deploy";

    fn table(&self) -> Table {
        let mut table = Table::new(["path", "state"]);
        for file in &self.files {
            table.push([format!("{}/{}", self.directory, file.path), file.state.word().to_owned()]);
        }
        table
    }

    fn text(&self) -> String {
        let mut text = self.table().draw();
        let _ = writeln!(text, "\n{}", self.summary());
        text
    }
}

/// Writes the files of a rank. Nothing is lost: a file that differs is replaced only where that was asked for.
pub(crate) fn write(
    proposals: &Proposals,
    rank: usize,
    options: &ProposalOptions,
    folder: Option<&Path>,
    overwrite: bool,
    accelerators: &Accelerators,
) -> anyhow::Result<DeployAnswer> {
    let description = proposals.describe(rank, options, accelerators)?;
    let folder = folder.unwrap_or(Path::new(&description.name));
    let mut files = Vec::new();
    for (path, text) in manifest::write_files(&description)? {
        let state = match std::fs::read(folder.join(&path)) {
            Ok(found) if found == text.as_bytes() => State::Unchanged,
            Ok(_) => State::Overwritten,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => State::Written,
            Err(error) => return Err(error).with_context(|| format!("reading {}", folder.join(&path).display())),
        };
        files.push((DeployedFile { path, state }, text));
    }
    let differ: Vec<_> = files.iter().filter(|(file, _)| file.state == State::Overwritten).collect();
    if let (Some((first, _)), false) = (differ.first(), overwrite) {
        anyhow::bail!(
            "{} of the files in {} differ from what would be written, such as {}: nothing was written; name another folder, or \
             give --overwrite",
            differ.len(),
            folder.display(),
            first.path
        );
    }
    for (file, text) in files.iter().filter(|(file, _)| file.state != State::Unchanged) {
        let path = folder.join(&file.path);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
        written.with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(DeployAnswer {
        name: description.name.clone(),
        namespace: description.namespace.clone(),
        model: description.model.clone(),
        directory: folder.display().to_string(),
        files: files.into_iter().map(|(file, _)| file).collect(),
    })
}

/// Writes the files of a recommendation.
pub(crate) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let accelerators = arguments.hardware.accelerators()?;
    let path = &arguments.recommendation;
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("reading stdin")?;
    } else {
        text = std::fs::read_to_string(path)
            .map_err(|source| config_explorer::Error::Io { path: path.clone(), source })?;
    }
    let place = path.display().to_string();
    let answer = serde_json::from_str(&text).with_context(|| format!("{place} is no JSON"))?;
    let options = ProposalOptions {
        name: arguments.name.clone(),
        namespace: arguments.namespace.clone(),
        prefix_cache: match arguments.prefix_cache {
            PrefixCacheName::Approximate => PrefixCache::Approximate,
            PrefixCacheName::Precise => PrefixCache::Precise,
            PrefixCacheName::Tiered => PrefixCache::Tiered { offload_gib: arguments.offload_gib },
        },
        autoscaling: arguments.autoscaling,
        resources: arguments.resource.iter().cloned().collect::<Texts>(),
        node_selector: arguments.node_selector.iter().cloned().collect::<Texts>(),
    };
    let proposals = Proposals::read(answer, &place)?;
    let written =
        write(&proposals, arguments.rank, &options, arguments.out.as_deref(), arguments.overwrite, &accelerators)?;
    output::print(&written, format)
}
