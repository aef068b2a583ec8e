//! Files and folders in, runs out.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::detect::detect;
use super::formats::{Content, read as read_format};
use super::normalise::finish;
use super::sidecar::Sidecar;
use super::{Column, Provenance, Run, RunId, Value, column, columns, json, path};
use crate::{Error, Result};

/// Larger files are not read. Detailed results of 10,000 requests are some tens of megabytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// How to import.
#[derive(Debug, Default)]
pub struct ImportOptions {
    overrides: Vec<(&'static Column, Value<'static>)>,
}

impl ImportOptions {
    /// Overrides a column of every run (`--set gpu=H100`).
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let invalid =
            |reason: &str| Error::InvalidSetting { setting: format!("--set {assignment}"), reason: reason.into() };
        let (name, text) = assignment.split_once('=').ok_or_else(|| invalid("is not `column=value`"))?;
        let column = column(name.trim())?;
        let value = column.parse(text)?.ok_or_else(|| invalid("has no value"))?;
        column.set(&mut Run::default(), &value)?;
        self.overrides.push((column, value));
        Ok(())
    }
}

/// Why a file gave no run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipKind {
    /// It is no result: a README, a log, a file of another purpose.
    NotAResult,
    /// It should have been one: unreadable, too large, cut off, malformed.
    Failed,
}

/// A file that gave no run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// Whether it should have given one.
    pub kind: SkipKind,
    /// The reason.
    pub reason: String,
}

/// What an import found.
#[derive(Debug, Default)]
pub struct Import {
    /// The runs, in the order of the paths given and of file names below them; each run once.
    pub runs: Vec<Run>,
    /// Files that gave no run, by path.
    pub skipped: Vec<Skipped>,
    /// Side files that were used.
    pub sidecars: Vec<PathBuf>,
    /// Files that hold only runs which another file gave.
    pub duplicates: Vec<PathBuf>,
}

/// Progress of an import: files read so far, and files in all.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// Imports files, and folders with all that is below them.
///
/// Side files speak for the results in their folder and below it, where they are among what is imported. A file that
/// cannot be read or understood is reported in [`Import::skipped`] and the rest imported. Links are
/// followed, but not in circles. Files are read in parallel, one at a time by each thread and none above 256 MiB; the
/// result does not depend on their number. An error only for a path that does not exist.
pub fn import(paths: &[PathBuf], options: &ImportOptions, progress: Progress<'_>) -> Result<Import> {
    let mut import = Import::default();
    let mut files = Vec::new();
    for path in paths {
        // A path that the user named must be there.
        std::fs::metadata(path).map_err(|source| Error::Io { path: path.clone(), source })?;
        walk(path, &mut files, &mut import.skipped);
    }
    let (done, total) = (AtomicUsize::new(0), files.len());
    let read: Vec<(PathBuf, Result<Content, Skipped>)> = files
        .into_par_iter()
        .map_with(Vec::new(), |buffer, path| {
            let content = read_file(&path, buffer);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            (path, content)
        })
        .collect();

    let mut sidecars: Vec<(PathBuf, Sidecar)> = Vec::new();
    let mut found: Vec<(PathBuf, Vec<Run>)> = Vec::new();
    for (path, content) in read {
        match content {
            Ok(Content::Runs(runs)) => found.push((path, runs)),
            Ok(Content::Sidecar(sidecar)) => sidecars.push((path, sidecar)),
            Ok(Content::Nothing(reason)) => {
                import.skipped.push(Skipped { path, kind: SkipKind::NotAResult, reason: reason.to_owned() });
            }
            Err(skipped) => import.skipped.push(skipped),
        }
    }
    // The deepest side file speaks first.
    sidecars.sort_by_key(|(path, _)| std::cmp::Reverse(path.components().count()));
    found.par_iter_mut().for_each(|(path, runs)| {
        let stage = path::stage(path);
        for run in runs {
            for (place, sidecar) in &sidecars {
                if place.parent().is_some_and(|folder| path.starts_with(folder)) {
                    fill(run, Provenance::Sidecar, |run| sidecar.apply(stage, run));
                }
            }
            fill(run, Provenance::Path, |run| {
                for (column, text) in path::values(path) {
                    if column.get(run).is_none()
                        && let Ok(Some(value)) = column.parse(&text)
                    {
                        // The path is a hint: what does not fit is no error.
                        let _ = column.set(run, &value);
                    }
                }
            });
            for (column, value) in &options.overrides {
                // Checked when the option was given.
                if column.set(run, value).is_ok() {
                    run.provenance.insert(column.name.to_string(), Provenance::User);
                }
            }
            finish(run);
        }
    });
    let mut seen = HashSet::new();
    for (path, runs) in found {
        let before = import.runs.len();
        import.runs.extend(runs.into_iter().filter(|run| seen.insert(run.id)));
        if import.runs.len() == before {
            import.duplicates.push(path);
        }
    }
    import.sidecars = sidecars.into_iter().map(|(path, _)| path).collect();
    import.sidecars.sort();
    import.skipped.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(import)
}

/// Reads the runs of one result file from its bytes, without side files, path and overrides.
///
/// The error says what is wrong with the content.
pub fn read(bytes: &[u8], path: &Path) -> Result<Vec<Run>> {
    let malformed = |reason: String| Error::Malformed { place: path.display().to_string(), reason };
    match read_bytes(bytes, path).map_err(|skipped| malformed(skipped.reason))? {
        Content::Runs(mut runs) => {
            runs.iter_mut().for_each(finish);
            Ok(runs)
        }
        Content::Sidecar(_) => Err(malformed("is a side file, which holds no run".to_owned())),
        Content::Nothing(reason) => Err(malformed(reason.to_owned())),
    }
}

/// Notes where the columns came from that `change` sets.
fn fill(run: &mut Run, provenance: Provenance, change: impl FnOnce(&mut Run)) {
    let missing: Vec<&Column> = columns().iter().filter(|column| column.stored && column.get(run).is_none()).collect();
    change(run);
    for column in missing {
        if column.get(run).is_some() && !matches!(&*column.name, "warnings" | "provenance" | "extra") {
            run.provenance.insert(column.name.to_string(), provenance);
        }
    }
}

/// Adds the regular files below a path, sorted by name.
fn walk(path: &Path, files: &mut Vec<PathBuf>, skipped: &mut Vec<Skipped>) {
    for entry in WalkDir::new(path).follow_links(true).sort_by_file_name() {
        match entry {
            Ok(entry) if entry.file_type().is_file() => files.push(entry.into_path()),
            Ok(entry) if entry.file_type().is_dir() => {}
            // Reading a pipe or a device would wait for ever.
            Ok(entry) => skipped.push(Skipped {
                path: entry.into_path(),
                kind: SkipKind::NotAResult,
                reason: "is no regular file".to_owned(),
            }),
            Err(error) => {
                let reason = match error.loop_ancestor() {
                    Some(ancestor) => format!("is a link back to `{}`", ancestor.display()),
                    None => error.io_error().map_or_else(|| error.to_string(), ToString::to_string),
                };
                let kind = if error.loop_ancestor().is_some() { SkipKind::NotAResult } else { SkipKind::Failed };
                skipped.push(Skipped { path: error.path().unwrap_or(path).to_owned(), kind, reason });
            }
        }
    }
}

/// Reads a file into the buffer, which a thread keeps from file to file, and then its content.
fn read_file(path: &Path, buffer: &mut Vec<u8>) -> Result<Content, Skipped> {
    let failed = |reason: String| Skipped { path: path.to_owned(), kind: SkipKind::Failed, reason };
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let size = file.metadata().map_err(|error| failed(error.to_string()))?.len();
    let too_large = || failed(format!("is larger than {} MiB", FILE_BYTES_MAX >> 20));
    if size > FILE_BYTES_MAX {
        return Err(too_large());
    }
    buffer.clear();
    // One large file must not hold its memory for the rest of the import.
    buffer.shrink_to(1 << 20);
    // The file may grow while it is read, or not know its size.
    file.take(FILE_BYTES_MAX + 1).read_to_end(buffer).map_err(|error| failed(error.to_string()))?;
    if buffer.len() as u64 > FILE_BYTES_MAX {
        return Err(too_large());
    }
    read_bytes(buffer, path)
}

/// Reads the content of a file, and gives its runs their identity and source.
fn read_bytes(bytes: &[u8], path: &Path) -> Result<Content, Skipped> {
    let skip = |kind, reason| Skipped { path: path.to_owned(), kind, reason };
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let format = detect(text).map_err(|reason| match json::early_end(text) {
        Some(end) => skip(SkipKind::Failed, format!("is JSON that is cut off: {end}")),
        None => skip(SkipKind::NotAResult, reason),
    })?;
    let mut content = read_format(format, text).map_err(|reason| skip(SkipKind::Failed, reason))?;
    if let Content::Runs(runs) = &mut content {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        for (index, run) in runs.iter_mut().enumerate() {
            // A table of runs brings the identity that each had in its own file.
            if run.id == RunId::default() {
                run.id = RunId { content: digest, index: index as u32 };
            }
            if run.source.path.is_empty() {
                run.source.path = path.to_string_lossy().into_owned();
            }
            if run.source.format.is_empty() {
                format.name().clone_into(&mut run.source.format);
            }
        }
    }
    Ok(content)
}
