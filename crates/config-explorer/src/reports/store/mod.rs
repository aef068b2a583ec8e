//! Runs kept as Parquet: one file, or a folder with a file for each model and accelerator.
//!
//! In: [`Run`]s. Out: the same runs, each once. A file holds the stored columns of [`columns`](super::columns) under
//! their names and as plain types, so that `DuckDB`, pandas, Polars and Spark read it as it is. A folder is partitioned
//! as Hive does it (`model=…/gpu=…/runs.parquet`), which the same programs understand.
//!
//! A file is replaced whole: written beside the old one, flushed to the disk, and renamed over it. A reader sees the old
//! file or the new one, and a process that is killed leaves at most a hidden file, which the next one removes. Writers
//! wait for each other on a hidden lock file. In a folder this holds for each file: of an import that is killed between
//! two of them, the first is added, and importing again adds the other.

mod file;
mod partition;
mod seal;

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use walkdir::WalkDir;

use super::{Run, RunId, SkipKind};
use crate::{Error, Result};
use file::Table;

/// The name of a store's file in each folder of a partitioned one.
const PART: &str = "runs.parquet";

/// What [`add`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Added {
    /// Runs that the store did not hold.
    pub new: usize,
    /// Runs that it held, or that were given twice.
    pub known: usize,
    /// Runs that it holds now.
    pub total: usize,
}

/// Adds runs to a store, and makes the store where there is none.
///
/// A path that ends in `.parquet` is one file, any other a partitioned folder. Runs that the store holds stay as they
/// are. Several processes may add at once. An error where the file is no store, is damaged, or has columns of a newer
/// version, which writing it again would lose.
pub fn add(path: &Path, runs: Vec<Run>) -> Result<Added> {
    let is_file = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"));
    let folder = if is_file { parent(path) } else { path };
    fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.to_owned(), source })?;
    // A link stays a link; what it points to is replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let _lock = lock(&if is_file { path.clone() } else { path.join(PART) })?;

    let (files, left) = files_of(path)?;
    for file in left {
        fs::remove_file(&file).map_err(|source| Error::Io { path: file, source })?;
    }
    let mut tables: BTreeMap<PathBuf, Table> = read_all(files)?.into_iter().collect();
    let mut seen: HashSet<RunId> = tables.values().flat_map(|table| &table.runs).map(|run| run.id).collect();
    let mut added = Added::default();
    let mut changed: HashSet<PathBuf> = HashSet::new();
    for run in runs {
        if !seen.insert(run.id) {
            added.known += 1;
            continue;
        }
        added.new += 1;
        let file = if is_file { path.clone() } else { path.join(partition::folder(&run)).join(PART) };
        tables.entry(file.clone()).or_default().runs.push(run);
        changed.insert(file);
    }
    added.total = seen.len();
    for (file, table) in tables.iter().filter(|(file, _)| changed.contains(*file)) {
        if let Some(column) = table.unknown.first() {
            let reason =
                format!("has the column `{column}`, which this version does not know and would lose; update first");
            return Err(malformed(file, &reason));
        }
        let left_out: &[&str] = if is_file { &[] } else { &partition::COLUMNS };
        replace(file, &table.runs, left_out)?;
    }
    Ok(added)
}

/// Reads the runs of a store, each once: those of a file in its order, those of a folder in the order of its files.
pub fn load(path: &Path) -> Result<Vec<Run>> {
    let metadata = fs::metadata(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let files = if metadata.is_dir() { files_of(path)?.0 } else { vec![path.to_owned()] };
    let mut tables = read_all(files)?;
    if let [(_, table)] = &mut tables[..] {
        return Ok(std::mem::take(&mut table.runs));
    }
    let mut seen = HashSet::new();
    let runs = tables.into_iter().flat_map(|(_, table)| table.runs);
    Ok(runs.filter(|run| seen.insert(run.id)).collect())
}

/// Writes runs as one Parquet file, in place of what is there.
pub fn write(path: &Path, runs: &[Run]) -> Result<()> {
    let _lock = lock(path)?;
    replace(path, runs, &[])
}

/// Why bytes are no runs.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    /// Whether they should be.
    pub(super) kind: SkipKind,
    /// The reason.
    pub(super) reason: String,
}

impl Refusal {
    fn damaged(reason: impl Into<String>) -> Self {
        Self { kind: SkipKind::Failed, reason: reason.into() }
    }
}

/// Whether a file starts as Parquet does.
pub(super) fn looks_like(bytes: &[u8]) -> bool {
    bytes.starts_with(seal::MAGIC)
}

/// Whether a file is one that a store keeps for itself: its lock, or what a killed process left.
pub(super) fn is_own(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.') && (name.ends_with(".parquet.lock") || name.ends_with(".parquet.tmp"))
}

/// The runs of a file of a store.
pub(super) fn read(source: &mut (impl io::Read + io::Seek), path: &Path) -> Result<Vec<Run>, Refusal> {
    read_table(source, path).map(|table| table.runs)
}

/// The runs of the bytes of such a file.
pub(super) fn read_bytes(bytes: &[u8], path: &Path) -> Result<Vec<Run>, Refusal> {
    read(&mut Cursor::new(bytes), path)
}

fn read_table(source: &mut (impl io::Read + io::Seek), path: &Path) -> Result<Table, Refusal> {
    let bytes = seal::open(source)?;
    let (mut table, missing) = file::decode(&bytes).map_err(Refusal::damaged)?;
    for (column, value) in partition::values(path) {
        if missing.contains(&&*column.name) {
            table
                .runs
                .iter_mut()
                .try_for_each(|run| column.set(run, &value))
                .map_err(|e| Refusal::damaged(e.to_string()))?;
        }
    }
    Ok(table)
}

fn read_all(files: Vec<PathBuf>) -> Result<Vec<(PathBuf, Table)>> {
    files
        .into_par_iter()
        .map(|path| {
            let mut file = File::open(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
            let table = read_table(&mut file, &path).map_err(|refusal| malformed(&path, &refusal.reason))?;
            Ok((path, table))
        })
        .collect()
}

/// The files of a store by name, and those that a killed process left in it.
fn files_of(store: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    if !store.is_dir() {
        let there = |path: PathBuf| path.exists().then_some(path).into_iter().collect();
        return Ok((there(store.to_owned()), there(beside(store, "tmp"))));
    }
    let (mut files, mut left) = (Vec::new(), Vec::new());
    for entry in WalkDir::new(store).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(store).to_owned();
            Error::Io { path, source: error.into() }
        })?;
        let extension = entry.path().extension().unwrap_or_default();
        if !entry.file_type().is_file() {
            continue;
        }
        if is_own(entry.file_name()) && extension == "tmp" {
            left.push(entry.into_path());
        } else if extension.eq_ignore_ascii_case("parquet") {
            files.push(entry.into_path());
        }
    }
    Ok((files, left))
}

/// Waits for the other writers of a file. The lock ends with the value, or with the process.
fn lock(path: &Path) -> Result<File> {
    let lock = beside(path, "lock");
    let locked = File::create(&lock).and_then(|file| file.lock().map(|()| file));
    locked.map_err(|source| Error::Io { path: lock, source })
}

/// Replaces a file, under the lock, so that it is the old one or the new one at any moment.
fn replace(path: &Path, runs: &[Run], left_out: &[&str]) -> Result<()> {
    let bytes = file::encode(runs, left_out).map_err(|reason| malformed(path, &reason))?;
    let temporary = beside(path, "tmp");
    let written = || {
        fs::create_dir_all(parent(path))?;
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        if let Ok(old) = fs::metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        file.sync_all()?;
        drop(file);
        fs::rename(&temporary, path)?;
        // The name is kept in the folder, which Windows cannot flush.
        if let Ok(folder) = File::open(parent(path)) {
            let _ = folder.sync_all();
        }
        Ok(())
    };
    written().map_err(|source| {
        let _ = fs::remove_file(&temporary);
        Error::Io { path: path.to_owned(), source }
    })
}

/// The hidden file beside a file: `.runs.parquet.lock` beside `runs.parquet`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{suffix}"));
    parent(path).join(name)
}

/// The folder of a file.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn malformed(path: &Path, reason: &str) -> Error {
    Error::Malformed { place: path.display().to_string(), reason: reason.to_owned() }
}
