//! fmperf / LMBenchmark: a CSV of requests, `LMBench_<scenario>_output_<qps>.csv`.
//!
//! Source: a file of llm-d/llm-d-benchmark's `collected` data. Times are in seconds: `ttft` from the request to the
//! first token, `generation_time` from there to the last. Scenario and rate stand only in the file's name.

use super::sample::{Request, Sample};
use crate::reports::Run;
use crate::reports::lenient::Number;

/// Columns that make a CSV file this format.
pub(in crate::reports) const COLUMNS: [&str; 4] = ["prompt_tokens", "generation_tokens", "ttft", "generation_time"];

/// The run that the lines make together.
pub(super) fn run(bytes: &[u8]) -> Result<Run, String> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(bytes);
    let headers = reader.headers().map_err(|error| error.to_string())?.clone();
    let at = |name: &str| headers.iter().position(|header| header == name);
    let [input_at, output_at, ttft_at, generation_at] = COLUMNS.map(at);
    let (launch_at, finish_at) = (at("launch_time"), at("finish_time"));

    let mut run = Run { load_generator: Some("fmperf".to_owned()), ..Run::default() };
    let mut sample = Sample::default();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let number = |at: Option<usize>| Number::parse(record.get(at?)?).finite();
        let (ttft_s, generation_s) = (number(ttft_at), number(generation_at));
        if let Some((launch_s, finish_s)) = number(launch_at).zip(number(finish_at)) {
            sample.span(launch_s, finish_s);
        }
        if ttft_s.is_none() {
            sample.failures += 1;
            continue;
        }
        sample.requests.push(Request {
            input_tokens: number(input_at),
            output_tokens: number(output_at),
            ttft_ms: ttft_s.map(|ttft_s| ttft_s * 1e3),
            e2e_ms: ttft_s.zip(generation_s).map(|(ttft_s, generation_s)| (ttft_s + generation_s) * 1e3),
        });
    }
    sample.measure(&mut run);
    Ok(run)
}
