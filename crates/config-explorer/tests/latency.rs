//! What holds for the estimate of any built-in model on any accelerator under any load.
//!
//! `PROPTEST_CASES=10000 cargo test --release -p config-explorer --test latency` is the long run.

use std::sync::LazyLock;

use config_explorer::deployment::{Nodes, Parallelism};
use config_explorer::engine::{EngineRules, EngineSettings, ServeArgs};
use config_explorer::hardware::{Accelerator, Accelerators};
use config_explorer::latency::{Calibration, Chunk, Decodes, StepTimes};
use config_explorer::memory::PlanRequest;
use config_explorer::model::{Attention, FeedForward, Model, ModelFiles, catalogue};
use config_explorer::serving::{Bound, Capacity, Deployment, Engine, Load, Prediction, Traffic, estimate};
use proptest::prelude::*;

static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| catalogue::all().map(model).collect());

fn model(entry: catalogue::CatalogueModel) -> Model {
    ModelFiles::from(entry).into_model().unwrap()
}

fn find(id: &str) -> &'static Model {
    MODELS.iter().find(|model| model.id == id).unwrap()
}

#[derive(Clone)]
struct Case {
    model: &'static Model,
    accelerator: &'static Accelerator,
    parallelism: Parallelism,
    input: f64,
    output: f64,
    hit_rate: f64,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { model, accelerator, parallelism, input, output, hit_rate } = self;
        let (model, gpu) = (&model.id, &accelerator.name);
        write!(formatter, "{model} on {gpu}, {parallelism:?}, {input} + {output} tokens, hit rate {hit_rate}")
    }
}

impl Case {
    fn named(id: &str, gpu: &str, tensor: u32) -> Self {
        let accelerator = Accelerators::built_in().find(gpu).unwrap();
        let parallelism = Parallelism::new(tensor, 1, 1, false, 1).unwrap();
        Self { model: find(id), accelerator, parallelism, input: 1000.0, output: 200.0, hit_rate: 0.0 }
    }

    fn traffic(&self, load: Load) -> config_explorer::Result<Traffic> {
        Traffic::new(self.input, self.output, self.hit_rate, load)
    }

    /// The engine, if the model is modelled and a request is within its limits.
    fn engine(&self) -> config_explorer::Result<Engine> {
        let rules = EngineRules::of_default_version();
        let Self { model, accelerator, parallelism, .. } = *self;
        let (args, total_gib) = (ServeArgs::default(), accelerator.memory_gib);
        let settings = EngineSettings::resolve(&args, &rules, &model.architecture, total_gib, &accelerator.name)?;
        let nodes = Nodes { count: None, gpus_per_node: accelerator.gpus_per_node };
        let request = PlanRequest {
            model,
            accelerator,
            total_gib,
            rules: &rules,
            settings,
            parallelism,
            nodes,
            concurrency: None,
        };
        Engine::new(&request, &self.traffic(closed(1.0))?)
    }
}

fn closed(clients: f64) -> Load {
    Load::Closed { clients, requests: Some(clients * 10.0) }
}

fn open(rate_per_s: f64) -> Load {
    Load::Open { rate_per_s }
}

fn cases() -> impl Strategy<Value = Case> {
    let accelerators: Vec<&Accelerator> = Accelerators::built_in().iter().collect();
    let layout = (
        prop::sample::select(vec![1, 2, 4, 8]),
        prop::sample::select(vec![1, 1, 1, 2]),
        prop::sample::select(vec![1, 1, 1, 2]),
        any::<bool>(),
    );
    let model = (0..MODELS.len()).prop_map(|index| &MODELS[index]);
    // Lengths and loads over their magnitudes.
    let lengths = (0.0..4.5_f64, 0.0..3.5_f64, prop::sample::select(vec![0.0, 0.0, 0.5, 0.9, 1.0]));
    (model, prop::sample::select(accelerators), layout, lengths).prop_map(
        |(model, accelerator, (tensor, pipeline, data, experts), (input, output, hit_rate))| Case {
            model,
            accelerator,
            parallelism: Parallelism::new(tensor, pipeline, data, experts, 1).unwrap(),
            input: 10_f64.powf(input),
            output: 10_f64.powf(output),
            hit_rate,
        },
    )
}

fn compile(engine: &Engine) -> StepTimes {
    StepTimes::compile(&engine.configuration(Calibration::built_in()))
}

/// Bytes that a rank reads in every step whatever is in it: the weights of a dense decoder without its embedding, at
/// the datasheet's bandwidth, in us. 0 where other weights are in the checkpoint too.
fn weights_us(case: &Case, engine: &Engine) -> f64 {
    let architecture = &case.model.architecture;
    let dense = architecture.layers.iter().all(|layer| matches!(layer.feed_forward, FeedForward::Dense { .. }));
    let text_only = architecture.vision.is_none() && architecture.mtp_layers.is_empty();
    if !(dense && text_only && case.parallelism.pipeline() == 1) {
        return 0.0;
    }
    let embedding = architecture.vocab_size * architecture.hidden_size * 2;
    let bytes = case.model.weights.bytes().saturating_sub(embedding) as f64 / f64::from(case.parallelism.tensor());
    bytes / (engine.accelerator.memory_bandwidth_gb_per_s * 1e3)
}

/// What reading the keys and values of so much context takes at the datasheet's bandwidth, us. 0 where a layer does not
/// read all of it, or others share its keys and values.
fn cache_us(case: &Case, engine: &Engine, context_tokens: f64) -> f64 {
    let element_bytes = if engine.fp8_kv_cache { 1 } else { 2 };
    let layers = case.model.architecture.layers.iter();
    let bytes_per_token: Option<u64> = layers
        .map(|layer| match layer.attention {
            Attention::Full(heads) => {
                let kv_heads = heads.kv_heads.div_ceil(u64::from(case.parallelism.tensor()));
                Some(kv_heads * (heads.head_dim + heads.value_head_dim) * element_bytes)
            }
            _ => None,
        })
        .sum();
    context_tokens * bytes_per_token.unwrap_or(0) as f64 / (engine.accelerator.memory_bandwidth_gb_per_s * 1e3)
}

fn finite(prediction: &Prediction) -> bool {
    let latencies = [prediction.ttft_ms, prediction.e2e_ms, Some(prediction.tpot_ms), Some(prediction.itl_ms)];
    let ordered = latencies.into_iter().flatten().all(|statistics| {
        let all = [statistics.p50, statistics.p90, statistics.p95, statistics.p99];
        all.is_sorted() && all.into_iter().chain([statistics.mean]).all(|ms| ms.is_finite() && ms > 0.0)
    });
    let throughput = &prediction.throughput;
    ordered
        && throughput.requests_per_s.is_finite()
        && throughput.requests_per_s > 0.0
        && prediction
            .breakdown
            .iter()
            .all(|line| line.ms.is_finite() && line.ms >= line.roofline_ms.unwrap_or(0.0) * 0.999_999)
        && prediction.ttft_ms.is_none() == prediction.saturated
        && prediction.interval_80.tpot_mean_ms.is_sorted()
}

/// Steps get slower in jumps, where the next CUDA graph begins, so that a load may have several steady states close to
/// each other; the one that is found may be the faster for the heavier load, by up to this much.
const GRAPHS: f64 = 0.03;
/// The same where the number of sequences is limited, and changes with the length.
const LIMITED: f64 = 0.1;

/// Not below, rounding and the tolerance of the fixed point apart.
fn at_least(more: f64, less: f64) -> bool {
    more >= less * (1.0 - 2e-3)
}

proptest! {
    #[test]
    fn a_step_is_above_the_roofline_and_monotone(
        case in cases(),
        sequences in 1_u32..2000,
        context in 0.0..5.0_f64,
        chunk in 1.0..20_000.0_f64,
    ) {
        let Ok(engine) = case.engine() else { return Ok(()) };
        let step = compile(&engine);
        let sequences = f64::from(sequences);
        let context_tokens = sequences * 10_f64.powf(context);
        let decodes = Decodes { sequences, context_tokens };
        let time = step.step_us(decodes, &[], 0.0);
        prop_assert!(time.is_finite());
        prop_assert!(time >= weights_us(&case, &engine));
        prop_assert!(time >= cache_us(&case, &engine, context_tokens));
        let longer = Decodes { context_tokens: context_tokens * 1.5, ..decodes };
        prop_assert!(at_least(step.step_us(longer, &[], 0.0), time));
        let more = Decodes { sequences: sequences + 1.0, ..decodes };
        prop_assert!(step.step_us(more, &[], 0.0) >= time * (1.0 - 1e-9));
        // Chunks: longer, and with more before them.
        let chunk = Chunk { tokens: chunk.min(step.max_num_batched_tokens), context: 0.0 };
        let with = |chunk: Chunk| step.step_us(decodes, &[chunk], 1.0);
        prop_assert!(with(chunk) >= time);
        let longer = Chunk { tokens: chunk.tokens + 1.0, ..chunk };
        prop_assert!(with(longer) >= with(chunk) * (1.0 - 1e-9));
        let later = Chunk { context: 1000.0, ..chunk };
        prop_assert!(with(later) >= with(chunk));
        // Two chunks cost at least what one of all their tokens does; smaller ones may save the launches that CUDA
        // graphs hold.
        let half = Chunk { tokens: chunk.tokens / 2.0, context: 0.0 };
        let second = Chunk { context: half.tokens, ..half };
        let none = Decodes::default();
        let once = step.step_us(none, &[chunk], 1.0);
        prop_assert!(half.tokens <= 512.0 || step.step_us(none, &[half], 0.0) + step.step_us(none, &[second], 1.0) >= once * 0.999);
    }

    #[test]
    fn an_estimate_is_finite_and_monotone(case in cases(), load in 0.0..3.5_f64, by_rate in any::<bool>()) {
        let Ok(engine) = case.engine() else { return Ok(()) };
        let calibration = Calibration::built_in();
        let Ok(role) = engine.role(1, calibration) else { return Ok(()) };
        let load = 10_f64.powf(load);
        let predict = |replicas: u32, case: &Case, load: f64| {
            let load = if by_rate { open(load / 100.0) } else { closed(load) };
            let role = config_explorer::serving::Role { replicas, ..role };
            estimate(&Deployment::Aggregated(role), &case.traffic(load).unwrap())
        };
        let Ok(base) = predict(1, &case, load) else { return Ok(()) };
        prop_assert!(finite(&base), "{base:?}");
        let heavier = predict(1, &case, load * 1.3).unwrap();
        prop_assert!(finite(&heavier));
        let replicated = predict(2, &case, load).unwrap();
        let throughput = |prediction: &Prediction| prediction.throughput.requests_per_s;
        prop_assert!(at_least(throughput(&replicated), throughput(&base)));
        // More clients may get less: where one more sequence makes a step run the next larger CUDA graph, all get slower.
        prop_assert!(!by_rate || at_least(throughput(&heavier), throughput(&base)));
        // Where the KV cache is full, or prompts fill the steps, fewer of the longer requests run together, in smaller
        // CUDA graphs.
        let full = |prediction: &Prediction| prediction.bound_by == Bound::KvCapacity || prediction.saturated;
        let started = case.output * engine.settings.max_num_batched_tokens as f64;
        let full_of_prompts = !by_rate && started < load * 1.3 * case.input * 1.3;
        let slower = |other: &Prediction, what: &str, value: fn(&Prediction) -> Option<f64>| {
            let limited = full_of_prompts || full(&base) || full(other);
            let tolerance = if limited { LIMITED } else { GRAPHS };
            let [other, base] = [other, &base].map(|prediction| value(prediction).unwrap_or(f64::INFINITY));
            prop_assert!(other >= base * (1.0 - tolerance), "{what} {base} -> {other}");
            Ok(())
        };
        let tpot = |prediction: &Prediction| Some(prediction.tpot_ms.mean);
        let ttft = |prediction: &Prediction| prediction.ttft_ms.map(|ttft| ttft.mean);
        let e2e = |prediction: &Prediction| prediction.e2e_ms.map(|e2e| e2e.mean);
        slower(&heavier, "load, TPOT", tpot)?;
        slower(&heavier, "load, TTFT", ttft)?;
        slower(&heavier, "load, E2E", e2e)?;
        if let Ok(longer) = predict(1, &Case { input: case.input * 1.3, ..case.clone() }, load) {
            slower(&longer, "input, TTFT", ttft)?;
            slower(&longer, "input, E2E", e2e)?;
            if !(full_of_prompts || full(&base) || full(&longer)) {
                slower(&longer, "input, TPOT", tpot)?;
            }
        }
        if let Ok(longer) = predict(1, &Case { output: case.output * 1.3, ..case.clone() }, load) {
            slower(&longer, "output, E2E", e2e)?;
        }
    }
}

#[test]
fn what_cannot_be_asked_is_told() {
    let case = Case::named("Qwen/Qwen3-8B", "H100", 1);
    let reason = |case: &Case| case.engine().unwrap_err().to_string();
    assert!(reason(&Case { input: 50_000.0, ..case.clone() }).contains("a request may have 40960"));
    assert!(reason(&Case { input: 0.0, ..case.clone() }).contains("at least 1 token"));
    assert!(case.traffic(closed(0.0)).is_err());
    assert!(case.traffic(open(0.0)).is_err());
    assert!(case.traffic(open(f64::NAN)).is_err());
    let large = Case::named("meta-llama/Llama-3.3-70B-Instruct", "H100", 1).engine().unwrap();
    assert!(matches!(&large.capacity, Capacity::DoesNotFit { reason } if reason.contains("GiB")));
    assert!(large.role(1, Calibration::built_in()).is_err());
}

#[test]
fn beyond_saturation_there_is_a_throughput_and_no_time_to_first_token() {
    let case = Case::named("Qwen/Qwen3-8B", "H100", 1);
    let engine = case.engine().unwrap();
    let role = engine.role(1, Calibration::built_in()).unwrap();
    let at = |rate: f64| estimate(&Deployment::Aggregated(role), &case.traffic(open(rate)).unwrap()).unwrap();
    let (below, beyond) = (at(1.0), at(10_000.0));
    assert!(!below.saturated && (below.throughput.requests_per_s - 1.0).abs() < 1e-6);
    assert!(beyond.saturated && beyond.ttft_ms.is_none() && beyond.e2e_ms.is_none());
    // A rate just below what it can serve is not saturated, one just above is.
    let most = beyond.throughput.requests_per_s;
    assert!(at(most * 1.02).saturated && !at(most * 0.9).saturated, "{most}");
}

#[test]
fn prefill_and_decode_pools_answer_like_engines() {
    let case = Case::named("Qwen/Qwen3-8B", "H100", 1);
    let engine = case.engine().unwrap();
    let role = engine.role(2, Calibration::built_in()).unwrap();
    let pools = Deployment::Disaggregated { prefill: role, decode: role };
    let [few, many] = [2.0, 10.0].map(|rate| estimate(&pools, &case.traffic(open(rate)).unwrap()).unwrap());
    assert!(finite(&few) && finite(&many) && at_least(many.tpot_ms.mean, few.tpot_ms.mean));
    let together = estimate(&Deployment::Aggregated(role), &case.traffic(open(10.0)).unwrap()).unwrap();
    assert!(many.tpot_ms.mean < together.tpot_ms.mean, "no prompt interrupts a decode pool");
    // Every client is somewhere: in a queue, or being served (Little's law).
    let uneven = Deployment::Disaggregated { prefill: engine.role(1, Calibration::built_in()).unwrap(), decode: role };
    for clients in [1.0, 64.0, 500.0, 5000.0] {
        let served = estimate(&uneven, &case.traffic(closed(clients)).unwrap()).unwrap();
        assert!(finite(&served) && !served.warnings.is_empty());
        let present = served.throughput.requests_per_s * served.e2e_ms.unwrap().mean / 1e3;
        assert!((0.97..1.03).contains(&(present / clients)), "{present} of {clients}");
    }
}
