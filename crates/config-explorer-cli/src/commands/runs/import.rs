//! `runs import PATH… [--store FILE.parquet] [--set COLUMN=VALUE] [--strict]`

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use config_explorer::reports::{ImportOptions, SkipKind, Skipped, import, store};
use indicatif::{ProgressBar, ProgressStyle};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ExitStatus;
use crate::output::{self, Answer, Format, Table};

/// Arguments of `runs import`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Result files of any tool, stores, and folders with all that is below them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Store to add to: a file that ends in `.parquet`, or a folder with a file for each model and accelerator.
    #[arg(long, value_name = "FILE.parquet", default_value = "runs.parquet")]
    store: PathBuf,

    /// Set a column of every run, such as `gpu=H100`, before what the files say. May be repeated. Runs that the store
    /// holds stay as they are.
    #[arg(long, value_name = "COLUMN=VALUE")]
    set: Vec<String>,

    /// Add nothing if a file cannot be read.
    #[arg(long)]
    strict: bool,
}

/// What an import did.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ImportAnswer {
    /// The store.
    store: PathBuf,
    /// Runs that were added.
    imported: usize,
    /// Runs that the store held already.
    known: usize,
    /// Runs that the store holds now; none if nothing was added because a file failed.
    total: Option<usize>,
    /// Files that held only runs of other files.
    duplicates: Vec<PathBuf>,
    /// Files that said something about the results beside them.
    sidecars: Vec<PathBuf>,
    /// Files that gave no run.
    skipped: Vec<SkippedFile>,
}

/// A file that gave no run.
#[derive(Debug, Serialize, JsonSchema)]
struct SkippedFile {
    /// The file.
    path: PathBuf,
    /// It should have given one: it is unreadable, too large, cut off or malformed. Otherwise it is no result.
    failed: bool,
    /// Why it gave none.
    reason: String,
}

impl From<Skipped> for SkippedFile {
    fn from(Skipped { path, kind, reason }: Skipped) -> Self {
        Self { path, failed: kind == SkipKind::Failed, reason }
    }
}

impl Answer for ImportAnswer {
    const COMMAND: &'static str = "runs-import";

    fn table(&self) -> Table {
        let mut table = Table::new(["path", "failed", "reason"]);
        for SkippedFile { path, failed, reason } in &self.skipped {
            table.push([path.display().to_string(), failed.to_string(), reason.clone()]);
        }
        table
    }

    fn text(&self) -> String {
        let mut text = match self.total {
            Some(total) => format!(
                "imported {}, already known {}, now {total} in {}\n",
                runs(self.imported),
                self.known,
                self.store.display()
            ),
            None => "imported nothing: a file failed, and --strict was given\n".to_owned(),
        };
        if !self.duplicates.is_empty() {
            let _ = writeln!(text, "{} with runs of other files only", files(self.duplicates.len()));
        }
        for (failed, what) in [(true, "failed"), (false, "no results")] {
            let mut of_kind = self.skipped.iter().filter(|file| file.failed == failed).peekable();
            if of_kind.peek().is_some() {
                let _ = writeln!(text, "{what}: {}", files(of_kind.clone().count()));
            }
            for SkippedFile { path, reason, .. } in of_kind {
                let _ = writeln!(text, "  {}: {reason}", path.display());
            }
        }
        text
    }

    fn status(&self) -> ExitStatus {
        if self.total.is_some() { ExitStatus::Success } else { ExitStatus::Failure }
    }
}

fn runs(count: usize) -> String {
    format!("{count} run{}", if count == 1 { "" } else { "s" })
}

fn files(count: usize) -> String {
    format!("{count} file{}", if count == 1 { "" } else { "s" })
}

/// Imports, and tells what was skipped and why.
pub(crate) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let mut options = ImportOptions::default();
    arguments.set.iter().try_for_each(|assignment| options.set(assignment))?;
    let found = {
        // Drawn on a terminal only.
        let bar = ProgressBar::no_length()
            .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} files, {per_sec}, {eta} left")?);
        let found = import(&arguments.paths, &options, &|done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        found?
    };
    let refused = arguments.strict && found.skipped.iter().any(|skipped| skipped.kind == SkipKind::Failed);
    let added = if refused { None } else { Some(store::add(&arguments.store, found.runs)?) };
    let store::Added { new, known, .. } = added.unwrap_or_default();
    let answer = ImportAnswer {
        store: arguments.store.clone(),
        imported: new,
        known,
        total: added.map(|added| added.total),
        duplicates: found.duplicates,
        sidecars: found.sidecars,
        skipped: found.skipped.into_iter().map(SkippedFile::from).collect(),
    };
    output::print(&answer, format)
}
