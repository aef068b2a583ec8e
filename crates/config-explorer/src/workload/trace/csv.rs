//! CSV traces: columns by name.

use std::io::{BufRead, Read};

use csv::{ReaderBuilder, StringRecord};

use super::time::{nanoseconds, timestamp};
use super::{Builder, Row, TraceFormat};
use crate::{Error, Result};

/// Names of the columns of a format; the first name that the header has counts.
pub(super) struct Columns {
    format: TraceFormat,
    arrival: &'static [&'static str],
    /// Arrivals are points in time, not seconds.
    is_timestamp: bool,
    input: &'static [&'static str],
    output: &'static [&'static str],
    session: &'static [&'static str],
    class: &'static [&'static str],
    prefix_group: &'static [&'static str],
    prefix_tokens: &'static [&'static str],
}

const NONE: &[&str] = &[];

pub(super) const AZURE: Columns = Columns {
    format: TraceFormat::Azure,
    arrival: &["TIMESTAMP"],
    is_timestamp: true,
    input: &["ContextTokens"],
    output: &["GeneratedTokens"],
    session: NONE,
    class: NONE,
    prefix_group: NONE,
    prefix_tokens: NONE,
};

/// Requests of the API have no session; the log type tells them from conversations.
pub(super) const BURST_GPT: Columns = Columns {
    format: TraceFormat::BurstGpt,
    arrival: &["Timestamp"],
    is_timestamp: false,
    input: &["Request tokens"],
    output: &["Response tokens"],
    session: &["Session ID"],
    class: &["Log Type"],
    prefix_group: NONE,
    prefix_tokens: NONE,
};

pub(super) const REQUESTS: Columns = Columns {
    format: TraceFormat::Requests,
    arrival: &["arrival_s", "sent_s"],
    is_timestamp: false,
    input: &["input_tokens"],
    output: &["output_tokens"],
    session: &["session"],
    class: &["class"],
    prefix_group: &["prefix_group"],
    prefix_tokens: &["prefix_tokens"],
};

/// The format whose columns the first line of a file names.
pub(in crate::workload) fn is_header(line: &[u8]) -> Option<TraceFormat> {
    let mut names = StringRecord::new();
    ReaderBuilder::new().has_headers(false).from_reader(line).read_record(&mut names).ok()?;
    let has = |known: &[&str]| known.iter().any(|known| names.iter().any(|name| is_name(name, known)));
    let formats = [&AZURE, &BURST_GPT, &REQUESTS];
    formats.into_iter().find(|columns| has(columns.input) && has(columns.output)).map(|columns| columns.format)
}

fn is_name(name: &str, known: &str) -> bool {
    name.trim_start_matches('\u{feff}').trim().eq_ignore_ascii_case(known)
}

/// Where the columns of a format are in a file.
pub(super) struct Places {
    arrival: usize,
    is_timestamp: bool,
    input: usize,
    output: usize,
    session: Option<usize>,
    class: Option<usize>,
    prefix: Option<(usize, usize)>,
}

impl Columns {
    /// Finds the columns by their names. The error is a reason.
    pub(super) fn places(&self, names: &[&str]) -> Result<Places, String> {
        let find = |known: &[&str]| names.iter().position(|name| known.iter().any(|known| is_name(name, known)));
        let need = |known: &[&str]| find(known).ok_or_else(|| format!("has no column `{}`", known.join("` or `")));
        Ok(Places {
            arrival: need(self.arrival)?,
            is_timestamp: self.is_timestamp,
            input: need(self.input)?,
            output: need(self.output)?,
            session: find(self.session),
            class: find(self.class),
            prefix: match (find(self.prefix_group), find(self.prefix_tokens)) {
                (Some(group), Some(tokens)) => Some((group, tokens)),
                (None, None) => None,
                _ => return Err("`prefix_group` and `prefix_tokens` belong together".to_owned()),
            },
        })
    }
}

impl Places {
    /// Whether a column is one of them.
    pub(super) fn contains(&self, column: usize) -> bool {
        let (group, tokens) = self.prefix.unzip();
        [Some(self.arrival), Some(self.input), Some(self.output), self.session, self.class, group, tokens]
            .contains(&Some(column))
    }
}

/// The row whose cells are given; empty ones are missing.
pub(super) fn row<'a>(places: &Places, cells: &impl Fn(usize) -> Option<&'a str>) -> Result<Row<'a>, String> {
    let name = |column: Option<usize>| cells(column?).map(str::trim).filter(|cell| !cell.is_empty());
    let need = |column| name(Some(column)).ok_or_else(|| "a column is empty".to_owned());
    let time = need(places.arrival)?;
    let arrival_ns = if places.is_timestamp {
        timestamp(time)?
    } else {
        nanoseconds(time.parse().map_err(|_| format!("`{time}` is not a number of seconds"))?, 1e9)?
    };
    let prefix = match places.prefix.and_then(|(group, length)| Some((name(Some(group))?, length))) {
        Some((group, length)) => Some((group, tokens(need(length)?)?)),
        None => None,
    };
    Ok(Row {
        arrival_ns,
        input: tokens(need(places.input)?)?,
        output: tokens(need(places.output)?)?,
        session: name(places.session),
        class: name(places.class),
        prefix,
        blocks: &[],
    })
}

pub(super) fn read(reader: impl BufRead, columns: &Columns, builder: &mut Builder<'_>) -> Result<()> {
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(reader);
    let header = reader.headers().map_err(|error| failed(error, builder.place))?;
    let places = columns.places(&header.iter().collect::<Vec<_>>());
    let places = places.map_err(|reason| builder.malformed(1, reason))?;
    let mut record = StringRecord::new();
    loop {
        let line = reader.position().line();
        let read = match reader.read_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => row(&places, &|column| record.get(column)),
            Err(error) if error.is_io_error() => return Err(failed(error, builder.place)),
            Err(error) => Err(error.to_string()),
        };
        if !builder.take(line, read)? {
            return Ok(());
        }
    }
}

fn failed(error: csv::Error, place: &str) -> Error {
    let (line, reason) = (error.position().map_or(1, csv::Position::line), error.to_string());
    match error.into_kind() {
        csv::ErrorKind::Io(source) => Error::Io { path: place.into(), source },
        _ => Error::Malformed { place: format!("{place}:{line}"), reason },
    }
}

/// A number of tokens; writers of data frames print `512.0`.
fn tokens(text: &str) -> Result<u32, String> {
    let number = text.parse::<f64>().ok();
    let whole = number.filter(|number| (0.0..=f64::from(u32::MAX)).contains(number) && number.fract() == 0.0);
    whole.map(|number| number as u32).ok_or_else(|| format!("`{text}` is not a number of tokens"))
}

/// The numbers of a column.
pub(in crate::workload) fn column_values(reader: impl Read, column: &str, place: &str) -> Result<Vec<f64>> {
    let malformed = |line: u64, reason: String| Error::Malformed { place: format!("{place}:{line}"), reason };
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(reader);
    let names = reader.headers().map_err(|error| failed(error, place))?;
    let index = names.iter().position(|name| is_name(name, column));
    let index = index.ok_or_else(|| malformed(1, format!("has no column `{column}`")))?;
    let mut values = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| failed(error, place))?;
        let text = record.get(index).map(str::trim).unwrap_or_default();
        let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
        let line = record.position().map_or(0, csv::Position::line);
        values.push(value.ok_or_else(|| malformed(line, format!("`{text}` is not a number")))?);
    }
    Ok(values)
}
