//! Engines as memory plans them and latency times them, simulated.

use std::path::Path;
use std::sync::LazyLock;

use config_explorer::deployment::{Nodes, Parallelism};
use config_explorer::engine::{EngineRules, EngineSettings, ServeArgs};
use config_explorer::hardware::Accelerators;
use config_explorer::latency::{Calibration, Chunk, Decodes, StepTimes};
use config_explorer::memory::PlanRequest;
use config_explorer::model::{Model, ModelFiles, ModelSource, Tensors, catalogue};
use config_explorer::plot::{Appearance, Format, latency_by_rate, latency_cdf, simulation_timeline};
use config_explorer::reports::{Kind, Server, read, to_benchmark_report};
use config_explorer::serving::{self, Engine, Load};
use config_explorer::simulation::engine::GroupAttention;
use config_explorer::simulation::{
    CLIENT_THINK_S, DeploymentOptions, EngineRole, PlannedEngine, RequestsFormat, Routing, SimulatedDeployment,
    SimulatedPool, Traffic, run_of,
};
use config_explorer::workload::{
    Arrivals, Distribution, Gaps, LengthDistribution, Objectives, Statistic, Workload, WorkloadSpec,
};
use proptest::prelude::*;

static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| catalogue::all().map(model).collect());

fn model(entry: catalogue::CatalogueModel) -> Model {
    let files = ModelFiles {
        config_place: entry.id.clone(),
        config: entry.config().to_owned(),
        hf_quant_config: entry.hf_quant_config().map(str::to_owned),
        id: entry.id,
        revision: None,
        source: ModelSource::Catalogue,
        tensors: Tensors::default(),
        warnings: Vec::new(),
    };
    files.into_model().unwrap()
}

/// An engine on H100s, for the simulation and for the steady state.
struct Case {
    pool: SimulatedPool,
    engine: Engine,
}

fn case(id: &str, flags: &str, traffic: &serving::Traffic) -> Case {
    let model = MODELS.iter().find(|model| model.id == id).unwrap();
    let accelerator = Accelerators::built_in().find("H100").unwrap();
    let rules = EngineRules::of_default_version();
    let args = ServeArgs::parse_shell(flags).unwrap();
    let total_gib = accelerator.memory_gib;
    let request = PlanRequest {
        model,
        accelerator,
        total_gib,
        rules: &rules,
        settings: EngineSettings::resolve(&args, &rules, &model.architecture, total_gib, &accelerator.name).unwrap(),
        parallelism: Parallelism::from_args(&args).unwrap(),
        nodes: Nodes { count: None, gpus_per_node: accelerator.gpus_per_node },
        concurrency: None,
    };
    let engine = Engine::new(&request, traffic).unwrap();
    let step = StepTimes::compile(&engine.configuration(Calibration::built_in()));
    let planned = PlannedEngine::new(&request).unwrap();
    Case { pool: SimulatedPool { role: EngineRole::Both, engine: planned, step, replicas: 1 }, engine }
}

fn deployment(case: &Case, replicas: u32) -> SimulatedDeployment {
    let pool = SimulatedPool { replicas, ..case.pool.clone() };
    SimulatedDeployment { pools: vec![pool], routing: Routing::LeastRequests, transfer: None }
}

fn steady(input: u32, output: u32, load: Load) -> serving::Traffic {
    serving::Traffic::new(f64::from(input), f64::from(output), 0.0, load).unwrap()
}

fn closed(clients: u32, input: u32, output: f64, spread: f64, requests: u32) -> Traffic {
    let workload = WorkloadSpec {
        input: Some(Distribution::fixed(f64::from(input))),
        output: Some(LengthDistribution::gaussian(output, spread * output).into()),
        arrivals: Some(Arrivals::Closed { clients, think_time_s: Distribution::fixed(CLIENT_THINK_S) }),
        requests: Some(requests),
        ..WorkloadSpec::default()
    };
    Traffic { workload, trace: None, seed: 0 }
}

const LLAMA: &str = "meta-llama/Llama-3.1-8B-Instruct";
const GPT_OSS: &str = "openai/gpt-oss-120b";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A request alone takes the steps of its prompt, then those of its tokens, and nothing else.
    #[test]
    fn a_request_alone_takes_the_sum_of_its_steps(
        id in prop::sample::select(vec![LLAMA, GPT_OSS]),
        (input, output) in (1u32..20_000, 2u32..80),
        synchronous in any::<bool>(),
    ) {
        let flags = if synchronous { "--tp 2 --no-async-scheduling" } else { "--tp 2" };
        let case = case(id, flags, &steady(input, output, Load::Closed { clients: 1.0, requests: None }));
        let outcome = deployment(&case, 1)
            .simulate(&closed(1, input, f64::from(output), 0.0, 1), DeploymentOptions::default())
            .unwrap();
        let step = &case.pool.step;
        let budget = case.pool.engine.config.max_num_batched_tokens;
        let mut prompt_us = 0.0;
        for start in (0..input).step_by(budget as usize) {
            let tokens = budget.min(input - start);
            let last = f64::from(u8::from(start + tokens == input));
            // A step of one token that samples is a decode to vLLM.
            prompt_us += if tokens == 1 && last > 0.0 {
                step.step_us(Decodes { sequences: 1.0, context_tokens: f64::from(start) }, &[], 0.0)
            } else {
                let chunk = Chunk { tokens: f64::from(tokens), context: f64::from(start) };
                step.step_us(Decodes::default(), &[chunk], last)
            };
        }
        let decodes = (input..input + output - 1).map(|context| {
            step.step_us(Decodes { sequences: 1.0, context_tokens: f64::from(context) }, &[], 0.0)
        });
        let decode_ms = decodes.sum::<f64>() / 1e3;
        let (fixed_us, token_us, stream_us) = step.request_us;
        let outside_us = fixed_us + token_us * f64::from(input) + 1000.0 + 0.5 * f64::from(input);
        let finished = &outcome.finished;
        let (ttft_ms, e2e_ms) = (finished.ttft_ms().mean().unwrap(), finished.e2e_ms().mean().unwrap());
        // Up to one stream is open; a nanosecond is lost per step.
        let rounding_ms = 1e-5 * f64::from(output + input / budget + 3);
        let spent_ms = ttft_ms - (prompt_us + outside_us) / 1e3;
        prop_assert!((-rounding_ms..=stream_us / 1e3 + rounding_ms).contains(&spent_ms), "TTFT off by {spent_ms}");
        prop_assert!((e2e_ms - ttft_ms - decode_ms).abs() < rounding_ms, "{e2e_ms} - {ttft_ms} != {decode_ms}");
    }
}

/// The steady state and the simulation of it are near each other.
#[test]
fn a_closed_loop_settles_near_the_steady_state() {
    for (clients, input, output) in [(1, 1000, 200), (16, 1000, 200), (64, 512, 256), (8, 8000, 400)] {
        let load = Load::Closed { clients: f64::from(clients), requests: Some(f64::from(40 * clients)) };
        let traffic = steady(input, output, load);
        let case = case(LLAMA, "--tp 1", &traffic);
        let sent = closed(clients, input, f64::from(output), 0.2, 40 * clients);
        let outcome = deployment(&case, 1).simulate(&sent, DeploymentOptions::default()).unwrap();
        let role = case.engine.role(1, Calibration::built_in()).unwrap();
        let estimate = serving::estimate(&serving::Deployment::Aggregated(role), &traffic).unwrap();
        let finished = &outcome.finished;
        let tpot = finished.tpot_ms().mean().unwrap() / estimate.tpot_ms.mean;
        let ttft = finished.ttft_ms().mean().unwrap() / estimate.ttft_ms.unwrap().mean;
        let rate = outcome.output_tokens_per_s() / estimate.throughput.output_tokens_per_s;
        assert!((0.92..1.08).contains(&tpot), "{clients} clients: TPOT x {tpot}");
        assert!((0.75..1.3).contains(&ttft), "{clients} clients: TTFT x {ttft}");
        assert!((0.9..1.1).contains(&rate), "{clients} clients: throughput x {rate}");
    }
}

#[test]
fn hybrid_models_have_the_groups_that_memory_plans() {
    let traffic = steady(1000, 100, Load::Closed { clients: 1.0, requests: None });
    let planned = case(GPT_OSS, "--tp 2 --max-num-seqs 64", &traffic).pool.engine;
    let attentions: Vec<_> = planned.config.kv_groups.iter().map(|group| group.attention).collect();
    assert_eq!(attentions, [GroupAttention::SlidingWindow { window: 128 }, GroupAttention::Full]);
    assert!(planned.config.enable_prefix_caching && planned.warnings.is_empty());
    assert_eq!((planned.config.max_num_seqs, planned.config.max_model_len), (64, 131_072));
    let whole = case(GPT_OSS, "--tp 2 --disable-hybrid-kv-cache-manager --max-model-len 8192", &traffic).pool.engine;
    assert_eq!(whole.config.kv_groups.len(), 1);
    assert!(whole.config.num_gpu_blocks < planned.config.num_gpu_blocks);
}

/// A simulation is written and read back as one, and says everywhere that nobody measured it.
#[test]
fn a_simulation_is_explored_as_a_run() {
    let case = case(LLAMA, "--tp 1", &steady(500, 50, Load::Open { rate_per_s: 5.0 }));
    let mut traffic = closed(1, 500, 50.0, 0.0, 40);
    traffic.workload.arrivals = Some(Arrivals::Open { rate_per_s: 5.0, gaps: Gaps::Poisson, concurrency: None });
    let outcome = deployment(&case, 2).simulate(&traffic, DeploymentOptions::default()).unwrap();
    let server = Server { model: Some(LLAMA.to_owned()), gpu: Some("H100".to_owned()), ..Server::default() };
    let workload = Workload {
        input: Some(LengthDistribution::fixed(500.0)),
        output: Some(LengthDistribution::fixed(50.0)),
        ..Workload::default()
    };
    let run = run_of(&outcome, server, workload, 40);
    let report = to_benchmark_report(&run).unwrap();
    assert!(report.left_out.is_empty(), "{:?}", report.left_out);
    let again = read(report.yaml.as_bytes(), Path::new("simulated.yaml")).unwrap().remove(0);
    assert_eq!(again.kind, Kind::Simulated);
    assert_eq!(again.latency.ttft, run.latency.ttft);
    assert_eq!(again.counts, run.counts);

    let csv = String::from_utf8(outcome.finished.file(RequestsFormat::Csv).unwrap()).unwrap();
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().starts_with("kind,request,sent_s,queueing_ms,ttft_ms"));
    assert_eq!(lines.clone().count(), 40);
    assert!(lines.all(|line| line.starts_with("simulated,") && line.split(',').count() == 11));
    assert!(outcome.finished.file(RequestsFormat::Parquet).unwrap().starts_with(b"PAR1"));

    let charts = [
        latency_cdf(&[], &outcome.finished),
        simulation_timeline(&[], &outcome.timeline),
        latency_by_rate(&[], &[(5.0, outcome.clone())]),
    ];
    for chart in charts {
        assert!(!chart.is_empty() && chart.notes.contains(&"Simulated.".to_owned()));
        assert!(chart.render(Format::Svg, &Appearance::default()).unwrap().len() > 1000);
    }
}

#[test]
fn goodput_counts_requests_and_objectives_their_statistics() {
    let case = case(LLAMA, "--tp 1", &steady(500, 50, Load::Closed { clients: 32.0, requests: None }));
    let traffic = closed(32, 500, 50.0, 0.2, 320);
    let outcome = deployment(&case, 1).simulate(&traffic, DeploymentOptions::default()).unwrap();
    let p50 = outcome.finished.ttft_ms().get(Statistic::P50).unwrap();
    let objectives: Objectives = format!("ttft:p99<={p50}ms").parse().unwrap();
    let goodput = outcome.goodput(&objectives, 320);
    assert!((goodput.share - 0.5).abs() < 0.01, "{goodput:?}");
    assert!((goodput.requests_per_s - outcome.requests_per_s() / 2.0).abs() < 0.5);
    assert!(!objectives.are_met_by(|quantity| outcome.quantity(quantity)));
    let all: Objectives = "ttft:p99<1h;tpot:p50<1h".replace("1h", "3600s").parse().unwrap();
    assert!(all.are_met_by(|quantity| outcome.quantity(quantity)));
    assert!((outcome.goodput(&all, 320).share - 1.0).abs() < 1e-9);
    assert!(outcome.coarse_timeline(10).len() <= 10);
}
