//! Workloads in, requests out: every example of `docs/workloads.md`, the definitions of other tools, traces, and whatever
//! a file may hold.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use config_explorer::simulation::Traffic;
use config_explorer::workload::{
    Arrivals, Distribution, Gaps, LengthDistribution, ReadOptions, Selection, Trace, TraceFormat, TraceSource,
    WorkloadFile, WorkloadSpec, parse_workload, read_workload, trace_format,
};
use parquet::arrow::arrow_writer::ArrowWriter;
use proptest::prelude::*;
use tempfile::TempDir;

const MOONCAKE: &str = "{\"timestamp\": 600000, \"input_length\": 700, \"output_length\": 20, \"hash_ids\": [1, 2]}\n\
                        {\"timestamp\": 1300000, \"input_length\": 700, \"output_length\": 20, \"hash_ids\": [1, 3]}\n";
const AZURE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
                     2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n";
const BURST_GPT: &str = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n\
                         5,s1,1.5,GPT-4,100,50,150,Conversation log\n\
                         9.5,,1,ChatGPT,472,18,490,API log\n\
                         30,s1,2,GPT-4,170,40,210,Conversation log\n\
                         31,s1,0,GPT-4,300,0,300,Conversation log\n\
                         40,s1,2,GPT-4,20,40,60,Conversation log\n";
const REQUESTS: &str = "class,output_tokens,input_tokens,arrival_s,prefix_group,prefix_tokens\n\
                        chat,10,100,2.5,a,64\nbatch,20,200,1.5,a,64\nchat,30,300.0,3.5,,\n";

fn read(text: &str) -> config_explorer::Result<WorkloadFile> {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("conversation.jsonl", MOONCAKE);
    write("requests.csv", REQUESTS);
    write("workload", text);
    read_workload(&folder.path().join("workload"), &ReadOptions::default())
}

fn trace(text: &str, options: &TraceSource) -> config_explorer::Result<Trace> {
    Trace::read(text.as_bytes(), trace_format(text.as_bytes()).unwrap(), "t.csv", options)
}

#[test]
fn every_example_of_the_documentation_is_drawn_from() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/workloads.md");
    let text = fs::read_to_string(path).unwrap();
    let examples: Vec<_> = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 7);
    for example in examples {
        let file = read(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
        let traffic = Traffic::of_file(file, 1);
        let summary = traffic.summary(500).unwrap_or_else(|error| panic!("{error}\n{example}"));
        assert!(summary.requests > 0 && summary.input_tokens > 1.0 && summary.output_tokens >= 1.0, "{example}");
    }
}

#[test]
fn unknown_fields_are_named_with_their_line() {
    for (text, expected) in [
        ("requests: 1\nrate: 5\n", "rate"),
        ("requests: 1\ninput: {mean: 5, median: 4}\n", "median"),
        ("arrivals: {open: {rate_per_s: 1, gap: poisson}}\n", "gap"),
        ("arrivals: {sine: {rate_per_s: 1}}\n", "sine"),
        ("input: {values: [1, 2], weights: [1]}\n", "2 values have 1 weights"),
        ("input: {values: [1], mean: 4}\n", "give one of"),
        ("slo: ttft<2\n", "name a statistic"),
        ("session: {think_time_s: 4}\n", "turns"),
    ] {
        let error = WorkloadSpec::parse(text.as_bytes(), "w.yaml").unwrap_err().to_string();
        assert!(error.starts_with("w.yaml: ") && error.contains(expected) && error.contains("line"), "{error}");
    }
}

#[test]
fn lengths_come_from_a_file() {
    let text =
        "requests: 50\narrivals: {closed: {clients: 1}}\noutput: 3\ninput: {file: requests.csv, column: input_tokens}";
    let traffic = Traffic::of_file(read(text).unwrap(), 1);
    let mean = traffic.summary(50).unwrap().input_tokens;
    assert!((150.0..250.0).contains(&mean), "{mean}");
    let error = read(&text.replace("input_tokens", "tokens")).unwrap_err().to_string();
    assert!(error.contains("requests.csv:1: has no column `tokens`"), "{error}");
}

#[test]
fn traces_of_every_format_are_read() {
    let options = TraceSource::default();
    let mooncake = trace(MOONCAKE, &options).unwrap();
    assert_eq!((mooncake.len(), mooncake.request(1).unwrap().arrival_ns), (2, 700_000_000_000));
    let azure = trace(AZURE, &options).unwrap();
    let last = azure.request(1).unwrap();
    assert_eq!((last.arrival_ns, last.input, last.output), (52_000_000, 3180, 8));

    let burst = trace(BURST_GPT, &options).unwrap();
    assert_eq!(burst.len(), 4);
    assert!(burst.warnings()[0].contains("1 requests without an answer"), "{:?}", burst.warnings());
    let requests: Vec<_> = (0..4).map(|index| burst.request(index).unwrap()).collect();
    // The second request of the session continues the first; the third is shorter and starts anew.
    assert!(requests[0].session == requests[2].session && requests[2].session == requests[3].session);
    assert!(requests[0].own_text == requests[2].own_text && requests[2].own_text != requests[3].own_text);
    assert!(requests[1].session != requests[0].session && requests[1].own_text != requests[0].own_text);
    assert_eq!(burst.classes().collect::<Vec<_>>(), [("Conversation log", 0.75), ("API log", 0.25)]);

    let own = trace(REQUESTS, &options).unwrap();
    let requests: Vec<_> = (0..3).map(|index| own.request(index).unwrap()).collect();
    assert!(requests.iter().map(|request| request.input).eq([200, 100, 300]), "in the order of arrival");
    assert!(requests.iter().map(|request| request.arrival_ns).eq([0, 1_000_000_000, 2_000_000_000]));
    assert!(requests[0].shared == requests[1].shared && requests[0].shared[0].len == 64);
    assert!(requests[2].shared.is_empty());
    assert_eq!(requests.iter().map(|request| request.class).collect::<Vec<_>>(), [1, 0, 0]);
}

/// The requests of [`REQUESTS`] as Parquet.
fn parquet_bytes() -> Vec<u8> {
    let columns: [(&str, ArrayRef); 5] = [
        ("arrival_s", Arc::new(Float64Array::from(vec![2.5, 1.5, 3.5]))),
        ("input_tokens", Arc::new(Int64Array::from(vec![100, 200, 300]))),
        ("output_tokens", Arc::new(Int64Array::from(vec![10, 20, 30]))),
        ("session", Arc::new(Int64Array::from(vec![Some(7), None, Some(7)]))),
        ("class", Arc::new(StringArray::from(vec!["chat", "batch", "chat"]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn parquet_is_a_trace_too() {
    let bytes = parquet_bytes();
    let format = trace_format(&bytes).unwrap();
    let trace = Trace::read(&bytes[..], format, "t.parquet", &TraceSource::default()).unwrap();
    let requests: Vec<_> = (0..3).map(|index| trace.request(index).unwrap()).collect();
    assert!(requests.iter().map(|request| (request.input, request.class)).eq([(200, 1), (100, 0), (300, 0)]));
    assert!(requests[1].session == requests[2].session && requests[0].session != requests[1].session);
    let cut_off = &bytes[..bytes.len() - 9];
    let error = Trace::read(cut_off, format, "t.parquet", &TraceSource::default()).unwrap_err().to_string();
    assert!(error.starts_with("t.parquet: "), "{error}");
}

#[test]
fn traces_are_scaled_and_cut() {
    let options = TraceSource { time_scale: Some(0.5), start_s: 10.0, limit: Some(1), ..TraceSource::default() };
    let burst = trace(BURST_GPT, &options).unwrap();
    assert_eq!((burst.len(), burst.request(0).unwrap().input), (1, 170));
    let half = trace(REQUESTS, &TraceSource { time_scale: Some(0.5), ..TraceSource::default() }).unwrap();
    assert_eq!(half.request(2).unwrap().arrival_ns, 1_000_000_000);
    for options in [
        TraceSource { time_scale: Some(0.0), ..TraceSource::default() },
        TraceSource { start_s: f64::NAN, ..TraceSource::default() },
        TraceSource { limit: Some(0), ..TraceSource::default() },
    ] {
        assert!(trace(AZURE, &options).is_err(), "{options:?}");
    }
}

#[test]
fn broken_traces_say_where() {
    let strict = TraceSource { strict: true, ..TraceSource::default() };
    let lenient = TraceSource::default();
    let azure = AZURE.replace("3180", "many");
    let error = trace(&azure, &strict).unwrap_err().to_string();
    assert_eq!(error, "t.csv:3: `many` is not a number of tokens");
    let read = trace(&azure, &lenient).unwrap();
    assert_eq!(read.len(), 1);
    assert!(
        read.warnings()[0].contains("left out 1 lines that cannot be read; the first: line 3"),
        "{:?}",
        read.warnings()
    );
    let mooncake = format!("{MOONCAKE}{{\"timestamp\": 1\n{MOONCAKE}");
    let error = trace(&mooncake, &strict).unwrap_err().to_string();
    assert!(error.starts_with("t.csv:3: "), "{error}");
    assert_eq!(trace(&mooncake, &lenient).unwrap().len(), 4);
    for (text, expected) in [
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "holds no requests"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nx,1,1\n", "none of its 1 lines can be read"),
        ("ContextTokens,GeneratedTokens\n1,1\n", "t.csv:1: has no column `TIMESTAMP`"),
        ("arrival_s,input_tokens,output_tokens,prefix_group\n", "belong together"),
        ("arrival_s,input_tokens,output_tokens\n0,5,0\n", "no request of it was answered"),
        ("arrival_s,input_tokens,output_tokens\n1e300,5,1\n", "out of range"),
    ] {
        let error = trace(text, &lenient).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

fn converted(text: &str, stage: Option<usize>) -> (WorkloadSpec, Vec<String>) {
    parse_workload(text.as_bytes(), "w.yaml", &Selection { workload: None, stage }).unwrap()
}

#[test]
fn inference_perf_is_converted() {
    let text = "
workload:
  agentic:
    load: {type: concurrent, num_workers: 8, stages: [{num_requests: 100, concurrency_level: 5}]}
    data:
      type: conversation_replay
      conversation_replay:
        shared_system_prompt_len: 3000
        num_conversations: 5
        turns_per_conversation: {type: lognormal, min: 1, max: 3000, mean: 540, std_dev: 48600}
        input_tokens_per_turn: {type: fixed, mean: 1500}
        output_tokens_per_turn: {type: uniform, min: 50, max: 100}
        tool_call_latency_sec: {min: 1, max: 100, mean: 15, std_dev: 55}
        max_model_len: 262144
    report: {request_lifecycle: {summary: true}}
    future: 5
harness: {name: inference-perf}
";
    let (workload, warnings) = converted(text, None);
    assert_eq!((workload.requests, workload.system_prompt_tokens), (Some(100), 3000));
    assert_eq!(workload.input, Some(Distribution::fixed(1500.0)));
    assert_eq!(workload.output, Some(LengthDistribution::uniform(50.0, 100.0).into()));
    let session = workload.session.unwrap();
    let cut =
        |lengths, min, max| Distribution::Shaped(LengthDistribution { min: Some(min), max: Some(max), ..lengths });
    assert_eq!(session.turns, cut(LengthDistribution::lognormal(540.0, 48600.0), 1.0, 3000.0));
    assert_eq!(session.think_time_s, cut(LengthDistribution::gaussian(15.0, 55.0), 1.0, 100.0));
    assert_eq!(session.max_context_tokens, Some(262_144));
    assert!(matches!(workload.arrivals, Some(Arrivals::Closed { clients: 5, .. })));
    let warnings = warnings.join("\n");
    for expected in ["unknown fields: workload.agentic.future", "workload.agentic.report", "harness", "num_workers"] {
        assert!(warnings.contains(expected), "{warnings}");
    }

    let stages = "
load: {type: poisson, interval: 2, stages: [{rate: 5, duration: 60}, {rate: 9, duration: 30}]}
data: {type: random, input_distribution: {mean: 10, min: 1, max: 20, std_dev: 0}, output_distribution: {mean: 7}}
";
    let (workload, _) = converted(stages, None);
    let Some(Arrivals::Schedule { stages: list, cycle: false, gaps: Gaps::Poisson, .. }) = workload.arrivals else {
        panic!("{:?}", workload.arrivals)
    };
    assert!(list.iter().map(|stage| (stage.rate_per_s, stage.duration_s)).eq([(5.0, 60.0), (0.0, 2.0), (9.0, 30.0)]));
    let (workload, _) = converted(stages, Some(1));
    assert!(matches!(&workload.arrivals, Some(Arrivals::Schedule { stages, .. }) if stages.len() == 1));

    let config_map = format!(
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  config.yaml: |\n{}\n---\nkind: Job\n",
        stages.lines().map(|line| format!("    {line}\n")).collect::<String>()
    );
    assert_eq!(converted(&config_map, Some(1)).0, workload);
}

#[test]
fn guidellm_is_converted() {
    let old = "{\"profile\": \"concurrent\", \"rate\": [1, 5, 25], \"max-seconds\": \"600\", \"data\": \
               {\"prompt_tokens\": 512, \"prompt_tokens_stdev\": 128, \"output_tokens\": 64}}";
    let (workload, _) = converted(old, Some(1));
    assert!(matches!(workload.arrivals, Some(Arrivals::Closed { clients: 5, .. })));
    assert_eq!(workload.duration_s, Some(600.0));
    assert_eq!(workload.input, Some(LengthDistribution::gaussian(512.0, 128.0).into()));
    let text = "rate-type: constant\nrate: 2\nmax_requests: 9\ndata: 'prompt_tokens=256,output_tokens=128'\n";
    let (workload, _) = converted(text, None);
    assert!(matches!(workload.arrivals, Some(Arrivals::Open { gaps: Gaps::Constant, concurrency: None, .. })));
    assert_eq!((workload.requests, workload.output), (Some(9), Some(LengthDistribution::gaussian(128.0, 0.0).into())));
    let new = "
spec:
  profile: {kind: poisson, rate: [2.0]}
  constraints: [{kind: max_requests, count: 20}]
  data:
    - kind: synthetic_text
      prompt_tokens: 32
      output_tokens: 8
      turns: 2
      prefix_buckets: [{bucket_weight: 30, prefix_count: 4, prefix_tokens: 16}, {bucket_weight: 70}]
  backend: {kind: openai_http}
";
    let (workload, warnings) = converted(new, None);
    assert_eq!(workload.requests, Some(20));
    assert_eq!(workload.session.as_ref().unwrap().turns, Distribution::fixed(2.0));
    let shares: Vec<_> = workload.classes.iter().map(|class| (class.share, class.prefix.map(|p| p.groups))).collect();
    assert_eq!(shares, [(Some(30.0), Some(4)), (Some(70.0), None)]);
    assert_eq!(warnings, ["w.yaml: fields that say nothing about what is sent: spec.data.kind, spec.backend"]);
}

#[test]
fn what_cannot_be_converted_says_what_to_do() {
    for (text, expected) in [
        ("profile: concurrent\nrate: [1, 5]\ndata: {prompt_tokens: 1, output_tokens: 1}", "`rate` has 2 entries"),
        ("profile: constant\nrate: 1\ndata: some/dataset", "the lengths of the data set"),
        ("load: {type: constant}\ndata: {type: shareGPT}", "give `input_distribution`"),
        ("load: {type: concurrent, stages: [{concurrency_level: '${LEVEL}'}]}\ndata: {}", "fill the template in first"),
        ("load: {type: trace_session_replay}\ndata: {}", "trace_session_replay"),
        ("workload: {a: {}, b: {}}", "select one of its workloads: a, b"),
        ("load: [1]\ndata: {}", "not a map"),
    ] {
        let error = parse_workload(text.as_bytes(), "w.yaml", &Selection::default()).unwrap_err().to_string();
        assert!(error.starts_with("w.yaml: ") && error.contains(expected), "{error}");
    }
}

/// Whatever can be read is refused or can be drawn from.
fn draw(workload: WorkloadSpec, trace: Option<Trace>) {
    let traffic = Traffic { workload, trace: trace.map(Into::into), seed: 1 };
    if traffic.check().is_ok() {
        traffic.summary(50).unwrap();
    }
}

fn mutated(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let change =
        (any::<prop::sample::Index>(), prop_oneof![Just(b'0'), Just(b','), Just(b'\n'), Just(b'-'), any::<u8>()]);
    (prop::sample::select(texts), prop::collection::vec(change, 1..12)).prop_map(|(text, changes)| {
        let mut bytes = text.as_bytes().to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes
    })
}

const WORKLOADS: &[&str] = &[
    "requests: 9\narrivals: {schedule: {stages: [{burst: 3, rate_per_s: 2, to_rate_per_s: 9, duration_s: 8}], cycle: true}}\n\
     input: {distribution: pareto, mean: 20, stddev: 30, max: 99}\noutput: {min: 3, max: 9}\n\
     prefix: {tokens: 9, groups: 3, prompts_per_group: 4, popularity: {zipf: {exponent: 1}}}\n\
     session: {turns: 4, think_time_s: 2, context_tokens: 9, max_context_tokens: 99}\n",
    "sessions: 9\narrivals: {closed: {clients: 8, think_time_s: {histogram: [{min: 1, max: 2, weight: 3}]}}}\n\
     classes: [{name: a, share: 3, input: 4, output: 5, slo: 'ttft:p99<2s'}, {name: b, input: {values: [4, 5]}, output: 5}]\n",
    "load: {type: poisson, interval: 2, stages: [{rate: 5, duration: 60}, {rate: 9, duration: 30}]}\n\
     data: {type: shared_prefix, shared_prefix: {num_groups: 3, question_len: {mean: 9, min: 1}, output_len: 4}}\n",
    "profile: {kind: poisson, rate: 3}\nmax_requests: 5\ndata: {prompt_tokens: 5, output_tokens: 4, turns: 3, \
     prefix_buckets: [{bucket_weight: 3, prefix_count: 4, prefix_tokens: 16}, {}]}\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_workload_makes_it_panic(bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), mutated(WORKLOADS)]) {
        if let Ok((workload, _)) = parse_workload(&bytes, "fuzz", &Selection::default()) {
            draw(workload, None);
        }
    }

    #[test]
    fn no_trace_makes_it_panic(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), mutated(&[MOONCAKE, AZURE, BURST_GPT, REQUESTS])],
        format in prop::sample::select(vec![
            TraceFormat::Mooncake, TraceFormat::Azure, TraceFormat::BurstGpt, TraceFormat::Requests, TraceFormat::Parquet,
        ]),
        strict in any::<bool>(),
    ) {
        let format = trace_format(&bytes).unwrap_or(format);
        let options = TraceSource { strict, ..TraceSource::default() };
        if let Ok(trace) = Trace::read(&bytes[..], format, "fuzz", &options) {
            draw(WorkloadSpec::default(), Some(trace));
        }
    }
}
