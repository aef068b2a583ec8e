//! `per_request_lifecycle_metrics.json`: every request with its times.

use serde::Deserialize;

use crate::reports::Run;
use crate::reports::formats::sample::{Request, Sample};
use crate::reports::lenient::{List, Map, Number};

/// One request. Times are seconds of a monotonic clock.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::reports::formats) struct RequestRecord {
    start_time: Number,
    end_time: Number,
    info: Map<Info>,
    error: Option<Map<Error>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Error {}

/// Older versions have the numbers here, newer ones in `request_metrics` and `response_metrics`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Info {
    input_tokens: Number,
    output_tokens: Number,
    output_token_times: List<Number>,
    request_metrics: Map<RequestMetrics>,
    response_metrics: Map<ResponseMetrics>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RequestMetrics {
    text: Map<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Text {
    input_tokens: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ResponseMetrics {
    output_tokens: Number,
    output_token_times: List<Number>,
}

/// The run that the requests make together.
pub(in crate::reports::formats) fn run(records: &[Map<RequestRecord>]) -> Run {
    let mut run = Run { load_generator: Some("inference-perf".to_owned()), ..Run::default() };
    let mut sample = Sample::default();
    for record in records {
        let (start_s, end_s) = (record.start_time.finite(), record.end_time.finite());
        if let Some((start_s, end_s)) = start_s.zip(end_s) {
            sample.span(start_s, end_s);
        }
        if record.error.is_some() {
            sample.failures += 1;
            continue;
        }
        let info = &record.info;
        let times = match &*info.output_token_times {
            [] => &*info.response_metrics.output_token_times,
            times => times,
        };
        let times: Vec<f64> = times.iter().filter_map(|time| time.finite()).collect();
        sample.gaps_ms.extend(times.windows(2).map(|pair| (pair[1] - pair[0]) * 1e3));
        let or = |old: Number, new: Number| old.finite().or(new.finite());
        sample.requests.push(Request {
            input_tokens: or(info.input_tokens, info.request_metrics.text.input_tokens),
            output_tokens: or(info.output_tokens, info.response_metrics.output_tokens),
            ttft_ms: start_s.zip(times.first()).map(|(start_s, first_s)| (first_s - start_s) * 1e3),
            e2e_ms: start_s.zip(end_s).map(|(start_s, end_s)| (end_s - start_s) * 1e3),
        });
    }
    sample.measure(&mut run);
    run
}
