//! Files in, workloads out: whatever the file is.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use super::foreign::{self, Selection};
use super::trace::{column_values, is_header};
use super::{Distribution, Histogram, Trace, TraceFormat, TraceSource, WorkloadSpec};
use crate::{Error, Result};

/// How to read a workload.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReadOptions {
    /// How to replay the file if it is a trace; its `file` is not read. For a trace that a workload names, the
    /// workload says it.
    pub trace: TraceSource,
    /// Which workload of a file that holds several, and which stage of a ladder.
    pub selection: Selection,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadFile {
    /// The workload. Of a trace, one that only replays it.
    pub workload: WorkloadSpec,
    /// The requests of the trace that the workload replays.
    pub trace: Option<Arc<Trace>>,
    /// What was left out, and fields that say nothing about what is sent.
    pub warnings: Vec<String>,
}

/// Reads a workload (this project's, inference-perf's, an llm-d benchmark template or GuideLLM's) or a trace, which it
/// recognises by their content, with the files that it names.
///
/// # Errors
/// [`Error::Io`] for a file that cannot be read, [`Error::Malformed`] with line or field, [`Error::InvalidSetting`] for
/// values that cannot be drawn from (see [`WorkloadSpec::check`], which the caller does once the workload is complete).
pub fn read_workload(path: &Path, options: &ReadOptions) -> Result<WorkloadFile> {
    let place = path.display().to_string();
    let mut reader = open(path)?;
    // Enough for the header of a CSV file; a longer line is none.
    let start = reader.fill_buf().map_err(|source| Error::Io { path: path.to_owned(), source })?;
    if let Some(format) = options.trace.format.or_else(|| trace_format(start)) {
        let trace = Trace::read(reader, format, &place, &options.trace)?;
        let warnings = trace.warnings().to_vec();
        return Ok(WorkloadFile { workload: WorkloadSpec::default(), trace: Some(Arc::new(trace)), warnings });
    }
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut bytes)
        .map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let (mut workload, mut warnings) = parse_workload(&bytes, &place, &options.selection)?;
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    for distribution in distributions(&mut workload) {
        if let Distribution::File { file, column } = distribution {
            let path = folder.join(file);
            let place = path.display().to_string();
            let values = column_values(open(&path)?, column, &place)?;
            let histogram = Histogram::new(values.into_iter().map(|value| (value, value, 1.0)));
            let histogram = histogram.map_err(|reason| Error::Malformed { place, reason })?;
            *distribution = Distribution::Histogram(histogram);
        }
    }
    let mut trace = None;
    if let Some(source) = &workload.trace {
        let path = folder.join(&source.file);
        let place = path.display().to_string();
        let mut reader = open(&path)?;
        let start = reader.fill_buf().map_err(|source| Error::Io { path: path.clone(), source })?;
        let format = source.format.or_else(|| trace_format(start)).ok_or_else(|| Error::Malformed {
            place: place.clone(),
            reason: "is no trace whose format is known; name it with `format`".to_owned(),
        })?;
        let read = Trace::read(reader, format, &place, source)?;
        warnings.extend_from_slice(read.warnings());
        trace = Some(Arc::new(read));
    }
    Ok(WorkloadFile { workload, trace, warnings })
}

/// A workload from the bytes of a YAML or JSON file, with warnings. Files that it names are not opened.
///
/// # Errors
/// As [`read_workload`].
pub fn parse_workload(bytes: &[u8], place: &str, selection: &Selection) -> Result<(WorkloadSpec, Vec<String>)> {
    match foreign::read(bytes, place, selection)? {
        Some(read) => Ok(read),
        None => Ok((WorkloadSpec::parse(bytes, place)?, Vec::new())),
    }
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    Ok(BufReader::with_capacity(1 << 16, File::open(path).map_err(io)?))
}

/// The format of a file that starts so, if it is a trace.
pub fn trace_format(start: &[u8]) -> Option<TraceFormat> {
    if start.starts_with(b"PAR1") {
        return Some(TraceFormat::Parquet);
    }
    let line = start.split(|&byte| byte == b'\n').find(|line| !line.trim_ascii().is_empty())?;
    // The first line of a workload in JSON is no object of its own, and has no such field.
    let has_timestamp = || line.windows(11).any(|window| window == b"\"timestamp\"");
    if line.trim_ascii_start().starts_with(b"{") && has_timestamp() {
        return Some(TraceFormat::Mooncake);
    }
    is_header(line)
}

/// Every distribution of a workload.
fn distributions(workload: &mut WorkloadSpec) -> impl Iterator<Item = &mut Distribution> {
    let WorkloadSpec { arrivals, input, output, session, classes, .. } = workload;
    let think = match arrivals {
        Some(super::Arrivals::Closed { think_time_s, .. }) => Some(think_time_s),
        _ => None,
    };
    let of_classes = classes.iter_mut().flat_map(|class| {
        let session = class.session.as_mut().map(super::Session::distributions);
        [&mut class.input, &mut class.output].into_iter().flatten().chain(session.into_iter().flatten())
    });
    let session = session.as_mut().map(super::Session::distributions);
    [input, output].into_iter().flatten().chain(think).chain(session.into_iter().flatten()).chain(of_classes)
}

impl super::Session {
    fn distributions(&mut self) -> [&mut Distribution; 3] {
        [&mut self.turns, &mut self.think_time_s, &mut self.context_tokens]
    }
}
