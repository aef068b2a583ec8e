//! What holds for the plan of any built-in model on any accelerator, whatever the layout and the settings.

use std::sync::LazyLock;

use config_explorer::deployment::{Nodes, Parallelism};
use config_explorer::engine::{Core, EngineRules, EngineSettings, ServeArgs, Version};
use config_explorer::hardware::{Accelerator, Accelerators};
use config_explorer::memory::{ExplainStep, MemoryPlan, PlanRequest, explain, plan, suggest};
use config_explorer::model::{Architecture, DType, Model, ModelFiles, catalogue};
use proptest::prelude::*;

static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| catalogue::all().map(model).collect());

fn model(entry: catalogue::CatalogueModel) -> Model {
    ModelFiles::from(entry).into_model().unwrap()
}

/// Checkpoints that store the head, although it is the embedding.
const STORED_HEADS: [&str; 2] = ["Qwen/Qwen3-0.6B", "Qwen/Qwen3-1.7B"];

#[test]
fn the_catalogue_counts_what_the_architecture_holds() {
    let mut different = Vec::new();
    for entry in catalogue::all() {
        let (parameters, stored) = (entry.parameters, entry.stored_elements());
        let model = model(entry);
        if model.parameters != parameters {
            different.push(format!("{}: {} computed, {parameters} listed", model.id, model.parameters));
        }
        let mut elements = model.weights.elements_by_dtype();
        if STORED_HEADS.contains(&model.id.as_str()) {
            let Architecture { vocab_size, hidden_size, .. } = model.architecture;
            *elements.get_mut(&DType::BF16).unwrap() += vocab_size * hidden_size;
        }
        if let Some(stored) = stored
            && stored != elements
        {
            different.push(format!("{}: {elements:?} computed, {stored:?} listed", model.id));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// What is asked: a model, an accelerator, a version, the words of a `vllm serve` command and the requests it should hold.
#[derive(Debug, Clone)]
struct Question {
    model: &'static Model,
    accelerator: &'static Accelerator,
    version: Version,
    words: Vec<String>,
    concurrency: Option<u64>,
}

/// A request with the rules it borrows.
fn with_request<T>(question: &Question, change: &str, answer: impl FnOnce(&PlanRequest<'_>) -> T) -> Option<T> {
    let mut words = question.words.clone();
    words.extend(change.split_whitespace().map(str::to_owned));
    let args = ServeArgs::parse(&words).unwrap();
    let rules = EngineRules::of(question.version).unwrap();
    let Question { model, accelerator, .. } = *question;
    let total_gib = accelerator.memory_gib;
    let settings = EngineSettings::resolve(&args, &rules, &model.architecture, total_gib, &accelerator.name).ok()?;
    Some(answer(&PlanRequest {
        model,
        accelerator,
        total_gib,
        rules: &rules,
        settings,
        parallelism: Parallelism::from_args(&args).unwrap(),
        nodes: Nodes { count: None, gpus_per_node: accelerator.gpus_per_node },
        concurrency: question.concurrency,
    }))
}

fn questions() -> impl Strategy<Value = Question> {
    // V0's batch limit follows the length, so that a shorter request is another engine.
    let is_v1 = |version: &Version| EngineRules::of(*version).unwrap().core == Core::V1;
    let versions: Vec<Version> = EngineRules::versions().filter(is_v1).collect();
    let accelerators: Vec<&Accelerator> = Accelerators::built_in().iter().collect();
    let layout = (
        prop::sample::select(vec![1, 2, 3, 4, 8, 16]),
        prop::sample::select(vec![1, 1, 1, 2, 3, 4]),
        prop::sample::select(vec![1, 1, 2]),
        any::<bool>(),
    );
    let flags = (
        prop::option::of(0.5..0.99),
        prop::option::of(prop::sample::select(vec!["auto", "1", "1000", "4096", "32768", "131072"])),
        prop::option::of(1_u32..10_000),
        prop::option::of(prop::sample::select(vec![2048, 8192, 16384])),
        any::<bool>(),
        any::<bool>(),
    );
    let model = (0..MODELS.len()).prop_map(|index| &MODELS[index]);
    let concurrency = prop::option::of(1_u64..64);
    (model, prop::sample::select(accelerators), prop::sample::select(versions), layout, flags, concurrency).prop_map(
        |(model, accelerator, version, (tensor, pipeline, data, experts), flags, concurrency)| {
            let (utilization, len, seqs, tokens, eager, fp8) = flags;
            let given = [
                Some(format!("-tp {tensor} -pp {pipeline} -dp {data}")),
                experts.then(|| "--enable-expert-parallel".to_owned()),
                utilization.map(|share| format!("--gpu-memory-utilization {share}")),
                len.map(|len| format!("--max-model-len {len}")),
                seqs.map(|seqs| format!("--max-num-seqs {seqs}")),
                tokens.map(|tokens| format!("--max-num-batched-tokens {tokens}")),
                eager.then(|| "--enforce-eager".to_owned()),
                fp8.then(|| "--kv-cache-dtype fp8".to_owned()),
            ];
            let words = given.into_iter().flatten().collect::<Vec<_>>().join(" ");
            Question { model, accelerator, version, words: words.split(' ').map(str::to_owned).collect(), concurrency }
        },
    )
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn blocks(plan: &MemoryPlan) -> u64 {
    plan.kv_cache.map_or(0, |kv| kv.num_blocks)
}

/// The number at the start of a step's result.
fn result(step: &ExplainStep) -> f64 {
    let digits: String = step.result.chars().take_while(|char| char.is_ascii_digit() || "-.".contains(*char)).collect();
    digits.parse().unwrap_or(f64::NAN)
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn parts_make_up_what_is_requested(question in questions()) {
        let Some(plan) = with_request(&question, "", plan) else { return Ok(()) };
        prop_assert_eq!(plan.fits, plan.reason.is_none());
        if let Some(memory) = plan.memory_per_gpu {
            let graphs = if memory.cuda_graph_in_budget { memory.cuda_graph_gib } else { 0.0 };
            let parts = [memory.weights_gib, memory.activation_gib, memory.non_torch_gib, graphs, memory.kv_cache_gib];
            prop_assert!((parts.iter().sum::<f64>() - memory.requested_gib).abs() < 1e-6, "{memory:?}");
            prop_assert!(parts[..4].iter().all(|part| *part >= 0.0) && memory.requested_gib <= memory.total_gib);
            prop_assert!(plan.fits <= plan.kv_cache.is_some());
        }
    }

    #[test]
    fn more_memory_never_holds_less(question in questions(), more in 1.0_f64..1.5, fewer in 1_u64..1024) {
        with_request(&question, "", |request| {
            let before = blocks(&plan(request));
            let larger = PlanRequest { total_gib: request.total_gib * more, ..request.clone() };
            prop_assert!(blocks(&plan(&larger)) >= before, "{more} x memory");
            let mut fuller = request.clone();
            fuller.settings.gpu_memory_utilization = f64::min(1.0, more * fuller.settings.gpu_memory_utilization);
            prop_assert!(blocks(&plan(&fuller)) >= before, "utilization {}", fuller.settings.gpu_memory_utilization);
            let mut smaller = request.clone();
            smaller.settings.max_num_seqs = fewer.min(smaller.settings.max_num_seqs);
            prop_assert!(blocks(&plan(&smaller)) >= before, "{} sequences", smaller.settings.max_num_seqs);
            Ok(())
        }).unwrap_or(Ok(()))?;
    }

    #[test]
    fn steps_add_up_to_the_plan(question in questions()) {
        let Some((plan, steps)) = with_request(&question, "", |request| (plan(request), explain(request))) else {
            return Ok(());
        };
        let Some(memory) = plan.memory_per_gpu else {
            prop_assert_eq!(Some(&steps[0].arithmetic), plan.reason.as_ref());
            return Ok(());
        };
        let of = |quantity: &str| steps.iter().find(|step| step.quantity == quantity).map(result);
        for (quantity, gib) in [
            ("requested", memory.requested_gib),
            ("weights", memory.weights_gib),
            ("activation", memory.activation_gib),
            ("non-torch", memory.non_torch_gib),
            ("CUDA graphs", memory.cuda_graph_gib),
            ("available for KV cache", memory.kv_cache_gib),
        ] {
            prop_assert!(of(quantity).is_some_and(|shown| (shown - gib).abs() < 6e-4), "{quantity}: {gib}\n{steps:#?}");
        }
        let parts: Vec<f64> = steps.iter().filter(|step| step.quantity.starts_with("weights: ")).map(result).collect();
        let kept = steps.iter().find(|step| step.quantity == "weights").unwrap();
        let kept = kept.arithmetic.split_whitespace().find_map(|word| word.parse::<f64>().ok()).unwrap();
        let sum = parts.iter().sum::<f64>() + kept;
        prop_assert!((sum - memory.weights_gib).abs() < 6e-4 * (parts.len() + 2) as f64, "{sum}\n{steps:#?}");
        if let Some(kv) = plan.kv_cache {
            prop_assert_eq!(of("blocks"), Some(kv.num_blocks as f64));
            prop_assert_eq!(of("tokens"), Some(kv.tokens as f64));
            let groups = steps.iter().filter(|step| step.quantity.starts_with("KV group: "));
            prop_assert_eq!(groups.map(|step| result(step) as u64).sum::<u64>(), kv.blocks_per_request);
        }
    }

    #[test]
    fn the_longest_request_fits_and_a_longer_one_does_not(question in questions()) {
        let question = Question { concurrency: None, ..question };
        let Some(before) = with_request(&question, "", plan) else { return Ok(()) };
        let longest = before.max_model_len_that_fits;
        prop_assume!(longest > 0);
        let with_len = |len: u64| with_request(&question, &format!("--max-model-len {len}"), plan);
        prop_assert!(with_len(longest).unwrap().fits, "{longest}");
        let longer = with_len(longest + 1);
        prop_assert!(longer.is_none_or(|plan| !plan.fits), "{longest} + 1 fits too");
    }
}

proptest! {
    #![proptest_config(config(32))]

    #[test]
    fn suggestions_work(question in questions()) {
        let suggested = with_request(&question, "", |request| suggest(request, &plan(request)));
        for suggestion in suggested.unwrap_or_default() {
            let after = with_request(&question, &suggestion.change, plan);
            prop_assert!(after.as_ref().is_some_and(|plan| plan.fits), "{}: {:?}", suggestion.change, after.map(|plan| plan.reason));
        }
    }
}

#[test]
fn fewer_tokens_than_requests_are_not_suggested() {
    let question = Question {
        model: MODELS.iter().find(|model| model.id == "Qwen/Qwen3-32B").unwrap(),
        accelerator: Accelerators::built_in().find("H100").unwrap(),
        version: EngineRules::of_default_version().version,
        words: ["--max-model-len", "4096", "--max-num-seqs", "8000", "--max-num-batched-tokens", "8192"]
            .map(str::to_owned)
            .to_vec(),
        concurrency: None,
    };
    let suggested = with_request(&question, "", |request| suggest(request, &plan(request))).unwrap();
    assert!(!suggested.is_empty());
    for suggestion in suggested {
        assert!(with_request(&question, &suggestion.change, plan).is_some(), "{}", suggestion.change);
    }
}
