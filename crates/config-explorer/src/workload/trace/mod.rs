//! Recorded requests: when each came, how long it was, and what it shared with others.
//!
//! | format | what it is | source |
//! |---|---|---|
//! | Mooncake | JSON lines: `timestamp` (ms), `input_length`, `output_length`, `hash_ids` of blocks of 512 tokens | `FAST25-release/traces` of kvcache-ai/Mooncake |
//! | Azure | CSV: `TIMESTAMP`, `ContextTokens`, `GeneratedTokens` | Azure/AzurePublicDataset |
//! | `BurstGPT` | CSV: `Timestamp` (s), `Session ID`, `Elapsed time`, `Model`, `Request tokens`, `Response tokens`, `Total tokens`, `Log Type` | HPMLL/BurstGPT |
//! | requests | CSV or Parquet: `arrival_s`, `input_tokens`, `output_tokens`, and `prefix_group` with `prefix_tokens`, `session`, `class` where they are known | this project |
//!
//! Files are read line by line, and 16 to 28 bytes of a request are kept.

mod csv;
mod mooncake;
mod parquet;
mod time;

use std::collections::HashMap;
use std::io::BufRead;

use schemars::JsonSchema;
use serde::Deserialize;

use super::TraceSource;
use crate::{Error, Result};

pub(super) use csv::{column_values, is_header};

/// Format of a file of recorded requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TraceFormat {
    /// Mooncake's JSON lines.
    Mooncake,
    /// Azure's LLM inference traces.
    Azure,
    /// `BurstGPT`'s traces.
    #[serde(rename = "burstgpt")]
    BurstGpt,
    /// This project's columns, as CSV.
    Requests,
    /// This project's columns, as Parquet.
    Parquet,
}

/// A run of tokens of a text of the trace: equal texts and positions are equal tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Which text, below [`Trace::texts`].
    pub text: u32,
    /// First token in the text.
    pub start: u32,
    /// Tokens.
    pub len: u32,
}

/// A recorded request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceRequest<'a> {
    /// Nanoseconds after the first one.
    pub arrival_ns: u64,
    /// Tokens of the prompt.
    pub input: u32,
    /// Tokens of the answer.
    pub output: u32,
    /// Its session; its own number where none is recorded.
    pub session: u32,
    /// Which of [`Trace::classes`].
    pub class: u16,
    /// What the prompt starts with. Not longer than the prompt.
    pub shared: &'a [Run],
    /// The text that follows: the rest of the prompt, from its position 0 on, then the answer.
    pub own_text: u32,
}

/// Recorded requests in the order of their arrival.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    arrival_ns: Vec<u64>,
    input: Vec<u32>,
    output: Vec<u32>,
    /// Empty where none is recorded.
    session: Vec<u32>,
    /// Empty where none is recorded.
    class: Vec<u16>,
    classes: Vec<(String, u32)>,
    /// Empty where every request has its own.
    own_text: Vec<u32>,
    runs: Vec<Run>,
    /// End of a request's runs; empty where there are none.
    run_ends: Vec<u32>,
    texts: u32,
    warnings: Vec<String>,
}

impl Trace {
    /// Reads a trace. `place` names it in errors.
    ///
    /// # Errors
    /// [`Error::Malformed`], with the line, for a line that cannot be read if [`TraceSource::strict`], for a column that
    /// is missing, and for a trace without requests. [`Error::InvalidSetting`] for options that cannot be.
    pub fn read(reader: impl BufRead, format: TraceFormat, place: &str, options: &TraceSource) -> Result<Self> {
        let mut builder = Builder::new(place, options)?;
        match format {
            TraceFormat::Mooncake => mooncake::read(reader, &mut builder)?,
            TraceFormat::Azure => csv::read(reader, &csv::AZURE, &mut builder)?,
            TraceFormat::BurstGpt => csv::read(reader, &csv::BURST_GPT, &mut builder)?,
            TraceFormat::Requests => csv::read(reader, &csv::REQUESTS, &mut builder)?,
            TraceFormat::Parquet => parquet::read(reader, &mut builder)?,
        }
        builder.finish()
    }

    /// How many requests. Never 0 once read.
    pub fn len(&self) -> usize {
        self.input.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.input.is_empty()
    }

    /// Texts of [`TraceRequest::shared`] and [`TraceRequest::own_text`].
    pub fn texts(&self) -> u32 {
        self.texts
    }

    /// Names of the classes with the part of the requests that each has, 0 to 1. One without a name, if none is recorded.
    pub fn classes(&self) -> impl Iterator<Item = (&str, f64)> {
        let none = self.classes.is_empty().then_some(("", 1.0));
        let requests = self.len().max(1) as f64;
        none.into_iter().chain(self.classes.iter().map(move |(name, count)| (&name[..], f64::from(*count) / requests)))
    }

    /// Whether sessions are recorded.
    pub fn has_sessions(&self) -> bool {
        !self.session.is_empty()
    }

    /// What was left out or changed.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// One of the requests, by its number from 0.
    pub fn request(&self, index: usize) -> Option<TraceRequest<'_>> {
        let runs = self.run_ends.get(index).map_or(0..0, |&end| {
            let begin = index.checked_sub(1).map_or(0, |before| self.run_ends[before]);
            begin as usize..end as usize
        });
        Some(TraceRequest {
            arrival_ns: *self.arrival_ns.get(index)?,
            input: self.input[index],
            output: self.output[index],
            session: self.session.get(index).copied().unwrap_or(index as u32),
            class: self.class.get(index).copied().unwrap_or(0),
            shared: &self.runs[runs],
            own_text: self.own_text.get(index).copied().unwrap_or(index as u32),
        })
    }
}

/// A row as a format's reader finds it.
#[derive(Debug, Clone, Copy, Default)]
struct Row<'a> {
    /// Since any origin, ns.
    arrival_ns: i64,
    input: u32,
    output: u32,
    session: Option<&'a str>,
    class: Option<&'a str>,
    /// Group and tokens of its prefix.
    prefix: Option<(&'a str, u32)>,
    /// Ids of blocks of [`mooncake::BLOCK`] tokens that the prompt consists of.
    blocks: &'a [u64],
}

/// Most tokens of a prompt or an answer.
const MAX_TOKENS: u32 = 1 << 30;
/// Most requests of a trace: texts are numbers of 32 bits.
const MAX_REQUESTS: usize = 1 << 29;

/// Numbers for names, in the order in which they come.
#[derive(Debug, Default)]
struct Names(HashMap<String, u32>);

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.0.get(name) {
            return number;
        }
        let number = self.0.len() as u32;
        self.0.insert(name.to_owned(), number);
        number
    }
}

struct Builder<'a> {
    place: &'a str,
    options: &'a TraceSource,
    time_scale: f64,
    trace: Trace,
    first_ns: Option<i64>,
    /// Arrivals as read, ns.
    arrivals: Vec<i64>,
    sessions: Names,
    classes: Names,
    groups: Names,
    /// Numbers for the ids of blocks, so that no id is too large.
    blocks: HashMap<u64, u32>,
    bad: u64,
    first_bad: Option<String>,
    unanswered: u64,
}

impl<'a> Builder<'a> {
    fn new(place: &'a str, options: &'a TraceSource) -> Result<Self> {
        let refuse = |setting: &str, reason: &str| {
            Err(Error::InvalidSetting { setting: setting.to_owned(), reason: reason.to_owned() })
        };
        let time_scale = options.time_scale.unwrap_or(1.0);
        if !(time_scale > 0.0 && time_scale <= 1e6) {
            return refuse("time_scale", "must be above 0 and at most 10^6");
        }
        if !(0.0..1e9).contains(&options.start_s) {
            return refuse("start_s", "must be at least 0 and below 10^9 seconds");
        }
        if options.limit == Some(0) {
            return refuse("limit", "must be at least 1 request");
        }
        Ok(Self {
            place,
            options,
            time_scale,
            trace: Trace::default(),
            first_ns: None,
            arrivals: Vec::new(),
            sessions: Names::default(),
            classes: Names::default(),
            groups: Names::default(),
            blocks: HashMap::new(),
            bad: 0,
            first_bad: None,
            unanswered: 0,
        })
    }

    fn malformed(&self, line: u64, reason: impl Into<String>) -> Error {
        Error::Malformed { place: format!("{}:{line}", self.place), reason: reason.into() }
    }

    fn io(&self, source: std::io::Error) -> Error {
        Error::Io { path: self.place.into(), source }
    }

    /// Takes a row or what is wrong with it. False if no more are wanted.
    fn take(&mut self, line: u64, row: Result<Row<'_>, String>) -> Result<bool> {
        match row.and_then(|row| self.push(row)) {
            Ok(()) => {}
            Err(reason) if self.options.strict => return Err(self.malformed(line, reason)),
            Err(reason) => {
                self.bad += 1;
                self.first_bad.get_or_insert_with(|| format!("line {line}: {reason}"));
            }
        }
        Ok(self.options.limit.is_none_or(|limit| self.trace.len() < limit as usize))
    }

    fn push(&mut self, row: Row<'_>) -> Result<(), String> {
        if row.input == 0 || row.input > MAX_TOKENS || row.output > MAX_TOKENS {
            return Err(format!("{} and {} tokens; prompts have 1 to 2^30", row.input, row.output));
        }
        let first = *self.first_ns.get_or_insert(row.arrival_ns);
        if row.arrival_ns.saturating_sub(first) < (self.options.start_s * 1e9) as i64 && self.options.start_s > 0.0 {
            return Ok(());
        }
        if row.output == 0 {
            self.unanswered += 1;
            return Ok(());
        }
        let index = self.trace.len();
        let trace = &mut self.trace;
        if index >= MAX_REQUESTS || trace.runs.len() >= u32::MAX as usize / 2 {
            return Err("the trace is too long; give a `limit`".to_owned());
        }
        let class = row.class.map(|class| self.classes.number(class));
        if class.is_some_and(|class| class >= u32::from(u16::MAX)) {
            return Err("more than 65,534 classes".to_owned());
        }
        self.arrivals.push(row.arrival_ns);
        trace.input.push(row.input);
        trace.output.push(row.output);
        // A column is there from its first value on; those before have none.
        if let Some(session) = row.session {
            trace.session.resize(index, NO_SESSION);
            trace.session.push(self.sessions.number(session));
        }
        if class.is_some() || !trace.class.is_empty() {
            // Of requests without a class: the class without a name.
            if trace.class.len() < index {
                let unnamed = self.classes.number("") as u16;
                trace.class.resize(index, unnamed);
            }
            let class = class.unwrap_or_else(|| self.classes.number(""));
            trace.class.push(class as u16);
        }
        let before = trace.runs.len();
        if let Some((group, tokens)) = row.prefix {
            let len = tokens.min(row.input);
            if len > 0 {
                trace.runs.push(Run { text: self.groups.number(group), start: 0, len });
            }
        }
        push_blocks(trace, &mut self.blocks, row.blocks, row.input);
        if trace.runs.len() > before || !trace.run_ends.is_empty() {
            trace.run_ends.resize(index, before as u32);
            trace.run_ends.push(trace.runs.len() as u32);
        }
        Ok(())
    }

    fn finish(self) -> Result<Trace> {
        let Self { place, mut trace, arrivals, classes, groups, blocks, bad, first_bad, unanswered, .. } = self;
        if trace.is_empty() {
            let reason = match &first_bad {
                Some(first) => format!("none of its {bad} lines can be read; {first}"),
                None if unanswered > 0 => "no request of it was answered".to_owned(),
                None => "holds no requests (after `start_s`)".to_owned(),
            };
            return Err(Error::Malformed { place: place.to_owned(), reason });
        }
        if let Some(first) = first_bad {
            trace.warnings.push(format!("{place}: left out {bad} lines that cannot be read; the first: {first}"));
        }
        if unanswered > 0 {
            trace.warnings.push(format!("{place}: left out {unanswered} requests without an answer"));
        }
        if !trace.session.is_empty() {
            trace.session.resize(trace.input.len(), NO_SESSION);
        }
        let mut order: Vec<u32> = (0..trace.len() as u32).collect();
        if !arrivals.is_sorted() {
            order.sort_by_key(|&index| arrivals[index as usize]);
            trace = trace.reordered(&order);
        }
        let first = order.first().map_or(0, |&index| arrivals[index as usize]);
        let scaled = |index: &u32| ((arrivals[*index as usize].saturating_sub(first)) as f64 * self.time_scale) as u64;
        trace.arrival_ns = order.iter().map(scaled).collect();
        let mut names: Vec<_> = classes.0.into_iter().collect();
        names.sort_unstable_by_key(|&(_, number)| number);
        trace.classes = names.into_iter().map(|(name, _)| (name, 0)).collect();
        for &class in &trace.class {
            trace.classes[usize::from(class)].1 += 1;
        }
        let block_texts = (blocks.len() as u32).div_ceil(mooncake::BLOCKS_OF_TEXT);
        let shared_texts = groups.0.len() as u32 + block_texts;
        // Texts of the groups and blocks come first.
        trace.assign_own_texts(shared_texts);
        Ok(trace)
    }
}

/// A request of a trace with sessions that has none.
const NO_SESSION: u32 = u32::MAX;

/// Appends the runs of a prompt's blocks; those that follow each other are one run.
fn push_blocks(trace: &mut Trace, numbers: &mut HashMap<u64, u32>, blocks: &[u64], input: u32) {
    let mut rest = input;
    let begin = trace.runs.len();
    for &block in blocks {
        let len = rest.min(mooncake::BLOCK);
        if len == 0 {
            break;
        }
        rest -= len;
        let next = numbers.len() as u32;
        let number = *numbers.entry(block).or_insert(next);
        let text = number / mooncake::BLOCKS_OF_TEXT;
        let start = number % mooncake::BLOCKS_OF_TEXT * mooncake::BLOCK;
        match trace.runs.get_mut(begin..).and_then(|runs| runs.last_mut()) {
            Some(last) if last.text == text && last.start + last.len == start => last.len += len,
            _ => trace.runs.push(Run { text, start, len }),
        }
    }
}

impl Trace {
    fn reordered(self, order: &[u32]) -> Self {
        fn column<T: Copy>(column: &[T], order: &[u32]) -> Vec<T> {
            if column.is_empty() { Vec::new() } else { order.iter().map(|&index| column[index as usize]).collect() }
        }
        let mut trace = Self {
            input: column(&self.input, order),
            output: column(&self.output, order),
            session: column(&self.session, order),
            class: column(&self.class, order),
            warnings: self.warnings,
            ..Self::default()
        };
        if !self.run_ends.is_empty() {
            for &index in order {
                let begin = (index as usize).checked_sub(1).map_or(0, |before| self.run_ends[before]);
                trace.runs.extend(&self.runs[begin as usize..self.run_ends[index as usize] as usize]);
                trace.run_ends.push(trace.runs.len() as u32);
            }
        }
        trace
    }

    /// Numbers the texts of the requests. A prompt that is as long as the one before it in its session, with the answer,
    /// continues it; a shorter one starts anew.
    fn assign_own_texts(&mut self, first: u32) {
        let requests = self.len() as u32;
        self.texts = first + requests;
        if self.session.is_empty() {
            if first > 0 {
                self.own_text = (first..first + requests).collect();
            }
            return;
        }
        let sessions = self.session.iter().filter(|&&session| session != NO_SESSION).max().map_or(0, |&last| last + 1);
        let mut open: HashMap<u32, (u32, u32)> = HashMap::new();
        for index in 0..requests {
            let at = index as usize;
            let session = self.session[at];
            let (input, output) = (self.input[at], self.output[at]);
            let fresh = first + index;
            if session == NO_SESSION {
                self.own_text.push(fresh);
                continue;
            }
            let (text, tokens) = open.entry(session).or_insert((fresh, 0));
            if input < *tokens {
                *text = fresh;
            }
            *tokens = input + output;
            self.own_text.push(*text);
        }
        // Requests without a session are sessions of their own.
        let without = self.session.iter_mut().filter(|session| **session == NO_SESSION);
        for (next, session) in (sessions..).zip(without) {
            *session = next;
        }
    }
}
