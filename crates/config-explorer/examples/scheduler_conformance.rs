//! Replays recorded scenarios of vLLM's scheduler: `scheduler_conformance [--records] DIR`.
//!
//! Prints one JSON line per scenario and version: whether the replay equals the record, and where it first differs. With
//! `--records` also what the replay wrote down. Nothing but the input of a scenario enters the replay. Exit status: 0 if
//! all records are equal, 3 if one differs, 1 if something could not be read, 2 for wrong usage.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

#[path = "../tests/conformance/scheduler_replay.rs"]
mod scheduler_replay;

fn main() -> ExitCode {
    let mut records = false;
    let mut folder = None;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--records" => records = true,
            _ if folder.is_none() => folder = Some(PathBuf::from(argument)),
            _ => folder = None,
        }
    }
    let Some(folder) = folder else {
        let _ = writeln!(io::stderr(), "usage: scheduler_conformance [--records] DIR");
        return ExitCode::from(2);
    };
    match run(&folder, records) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Path, records: bool) -> Result<bool, Box<dyn std::error::Error>> {
    let mut files: Vec<_> = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut all_equal = true;
    for file in files {
        let place = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = std::fs::read_to_string(&file).map_err(|error| place(&error))?;
        for comparison in scheduler_replay::compare(&text).map_err(|error| place(&error))? {
            all_equal &= comparison.equal != Some(false);
            let mut line = json!({
                "scenario": file.file_stem().map(|stem| stem.to_string_lossy()),
                "version": comparison.version,
                // Null without a record to compare with.
                "equal": comparison.equal,
                "first_difference": comparison.first_difference,
            });
            if records && let (Value::Object(line), Value::Object(replay)) = (&mut line, comparison.replay) {
                line.extend(replay);
            }
            writeln!(out, "{line}")?;
        }
    }
    out.flush()?;
    Ok(all_equal)
}
