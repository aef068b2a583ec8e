//! One definition for every run, and what does not add up.
//!
//! Runs after the side files and the user have filled what the result file leaves out.

use super::{ItlDefinition, Provenance, Run, Statistic, Statistics, TpotDefinition};
use crate::workload::{LengthShape, Load, LoadKind};

/// Printed and derived values that differ by more are flagged.
const TOLERANCE: f64 = 0.1;
/// A run with more failures measures something else.
const FAILURE_RATE_MAX: f64 = 0.05;
/// Rounding, and tokens counted by two tokenizers.
const TOTAL_TOLERANCE: f64 = 0.02;
/// A closed loop has no more requests in flight than clients, and fewer while it starts and ends.
const IN_FLIGHT_MIN: f64 = 0.5;

/// Settles the definitions of a run, derives what follows from its other fields, and checks it.
pub(super) fn finish(run: &mut Run) {
    if run.server.gpus.is_none() {
        run.server.gpus = run.server.roles.gpus();
        if run.server.gpus.is_some() {
            run.provenance.insert("n_gpu".to_owned(), Provenance::Derived);
        }
    }
    let server = &mut run.server;
    if server.engine_version.is_none()
        && let Some(version) = server.image.as_deref().and_then(version_of_image)
    {
        server.engine_version = Some(version.to_owned());
        run.provenance.insert("engine_version".to_owned(), Provenance::Derived);
    }
    let load = run.workload.load;
    // A concurrency in a file that does not say what it is may be a measured one.
    let is_setting = load.rate_per_s.is_some() || run.provenance.contains_key("concurrency");
    if load.kind.is_none() && is_setting {
        run.workload.load = Load::of(load.rate_per_s, load.concurrency, run.counts.requests);
        run.provenance.insert("load_kind".to_owned(), Provenance::Derived);
    } else if load.kind.is_none() && run.load_generator.as_deref() == Some("inference-perf") {
        run.warn("stages", "no load level is known; the stages of a load together are no operating point");
    }
    settle_tpot(run);
    check(run);
}

/// Images whose tag is the version of the engine in them. That of llm-d's own is llm-d's version.
const ENGINE_IMAGES: [&str; 2] = ["vllm/vllm-openai", "lmsysorg/sglang"];

/// The version of the engine in a container image, by its tag (`vllm/vllm-openai:v0.19.1`).
fn version_of_image(image: &str) -> Option<&str> {
    let (name, tag) = image.rsplit_once(':')?;
    let version = tag.trim_start_matches('v');
    let tells =
        ENGINE_IMAGES.iter().any(|known| name.ends_with(known)) && version.starts_with(|c: char| c.is_ascii_digit());
    tells.then_some(version)
}

/// Whether two values agree within a relative tolerance.
fn agree(value: f64, reference: f64, tolerance: f64) -> bool {
    (value - reference).abs() <= tolerance * reference.abs()
}

/// Converts TPOT to (E2E - TTFT) / (output tokens - 1), keeping what the source printed.
fn settle_tpot(run: &mut Run) {
    // Already settled: a table of runs that was settled before.
    if !run.latency.tpot_raw.is_empty() {
        return;
    }
    let derived_ms = run.tpot_from_means_ms();
    let Some(printed_ms) = run.latency.tpot.mean() else {
        let latency = &mut run.latency;
        if latency.itl_definition == Some(ItlDefinition::PerToken) && latency.tpot.is_empty() && !latency.itl.is_empty()
        {
            latency.tpot = latency.itl.clone();
            latency.tpot_definition = Some(TpotDefinition::WithoutFirstToken);
        } else if let Some(derived_ms) = derived_ms {
            latency.tpot.set(Statistic::Mean, Some(derived_ms));
            latency.tpot_definition.get_or_insert(TpotDefinition::FromMeans);
        } else {
            return;
        }
        run.provenance.insert("tpot_mean_ms".to_owned(), Provenance::Derived);
        return;
    };
    let declared = *run.latency.tpot_definition.get_or_insert(TpotDefinition::Unknown);
    match (declared, derived_ms) {
        (TpotDefinition::WithFirstToken | TpotDefinition::OverAllTokens, _)
            if !is_without_first_token(run, printed_ms, derived_ms) =>
        {
            replace_tpot(run, declared, tpot_without_first_token(run, printed_ms, derived_ms));
        }
        (TpotDefinition::PerChunk | TpotDefinition::Unknown, Some(derived_ms))
            if !agree(printed_ms, derived_ms, TOLERANCE) =>
        {
            run.warn(
                "tpot_definition",
                format!(
                    "printed {printed_ms:.4} ms, (E2E - TTFT) / (output tokens - 1) is {derived_ms:.4} ms, which is used"
                ),
            );
            replace_tpot(run, declared, Some(Statistics::of_mean(derived_ms)));
        }
        (TpotDefinition::WithoutFirstToken, Some(derived_ms)) if !agree(printed_ms, derived_ms, TOLERANCE) => {
            run.warn(
                "e2e",
                format!(
                    "printed {printed_ms:.4} ms a token, (E2E - TTFT) / (output tokens - 1) of the means is {derived_ms:.4} ms"
                ),
            );
        }
        // What agrees with the definition is by the definition.
        (_, Some(_)) => run.latency.tpot_definition = Some(TpotDefinition::WithoutFirstToken),
        (TpotDefinition::PerChunk | TpotDefinition::Unknown, None) => {
            run.warn("tpot_definition", "the source does not say how its TPOT is defined, and nothing tells it");
        }
        (_, None) => {}
    }
}

/// The ITL of a source that means by it what this library means by TPOT.
fn itl_per_token(run: &Run) -> Option<&Statistics> {
    let latency = &run.latency;
    Some(&latency.itl).filter(|itl| latency.itl_definition == Some(ItlDefinition::PerToken) && !itl.is_empty())
}

/// Whether a TPOT that is said to be of another definition is not: it fits the means better than the ITL does, or
/// without one, than E2E / output tokens.
fn is_without_first_token(run: &Run, printed_ms: f64, derived_ms: Option<f64>) -> bool {
    let with_first_ms = || Some(run.latency.e2e.mean()? / run.output_tokens_mean()?);
    let other_ms = itl_per_token(run).and_then(Statistics::mean).or_else(with_first_ms);
    derived_ms.zip(other_ms).is_some_and(|(derived_ms, other_ms)| {
        agree(printed_ms, derived_ms, TOLERANCE) && (printed_ms - derived_ms).abs() < (other_ms - derived_ms).abs()
    })
}

/// The TPOT of a source whose own is of another definition: its ITL where that is per token, else from means.
fn tpot_without_first_token(run: &Run, printed_ms: f64, derived_ms: Option<f64>) -> Option<Statistics> {
    let fits = |itl_ms: f64| derived_ms.is_none_or(|derived_ms| agree(itl_ms, derived_ms, TOLERANCE));
    let itl = itl_per_token(run).filter(|itl| itl.mean().is_some_and(fits));
    itl.cloned().or_else(|| derived_ms.map(Statistics::of_mean)).or_else(|| {
        let tokens = run.output_tokens_mean().filter(|&tokens| tokens > 1.0)?;
        let tpot_ms = (printed_ms * tokens - run.latency.ttft.mean()?) / (tokens - 1.0);
        (tpot_ms > 0.0).then(|| Statistics::of_mean(tpot_ms))
    })
}

fn replace_tpot(run: &mut Run, definition: TpotDefinition, tpot: Option<Statistics>) {
    let latency = &mut run.latency;
    latency.tpot_raw = std::mem::replace(&mut latency.tpot, tpot.unwrap_or_default());
    latency.tpot_definition = Some(definition);
    for (statistic, _) in latency.tpot.iter() {
        run.provenance.insert(format!("tpot_{}_ms", statistic.name()), Provenance::Derived);
    }
}

/// The checks that found real errors when results of eleven tools were collected.
fn check(run: &mut Run) {
    let rates = run.throughput;
    let (input_tokens, output_tokens) = (run.input_length.mean(), run.output_length.mean());
    for (name, rate, tokens) in
        [("output", rates.output_tokens, output_tokens), ("input", rates.input_tokens, input_tokens)]
    {
        if let (Some(rate), Some(requests), Some(tokens)) = (rate, rates.requests, tokens)
            && !agree(rate, requests * tokens, TOLERANCE)
        {
            let expected = requests * tokens;
            run.warn(
                "throughput",
                format!(
                    "{name}: {rate:.2} tokens/s, but {requests:.4} requests/s of {tokens:.1} tokens are {expected:.2}"
                ),
            );
        }
    }
    if let (Some(input), Some(output), Some(total)) = (rates.input_tokens, rates.output_tokens, rates.total_tokens)
        && !agree(total, input + output, TOTAL_TOLERANCE)
    {
        run.warn("total_tokens", format!("total {total:.2} tokens/s, but input and output are {:.2}", input + output));
    }
    if let (Some(LoadKind::Closed), Some(clients), Some(requests), Some(e2e_ms)) =
        (run.workload.load.kind, run.workload.load.concurrency, rates.requests, run.latency.e2e.mean())
    {
        let in_flight = requests * e2e_ms / 1e3;
        if in_flight > clients * (1.0 + TOLERANCE) || in_flight < clients * IN_FLIGHT_MIN {
            run.warn(
                "littles_law",
                format!(
                    "{clients} clients, but {requests:.4} requests/s of {e2e_ms:.1} ms are {in_flight:.1} in flight"
                ),
            );
        }
    }
    if let Some(output) = run.workload.output
        && let Some(observed) = output_tokens
        && output.shape == LengthShape::Fixed
        && observed < output.mean * (1.0 - TOLERANCE)
    {
        run.warn(
            "output_length",
            format!(
                "{observed:.1} tokens an answer, {} were asked for: answers ended early, or were counted otherwise",
                output.mean
            ),
        );
    }
    if let Some(rate) = run.counts.failure_rate().filter(|&rate| rate > FAILURE_RATE_MAX) {
        run.warn("failures", format!("{:.1} % of the requests failed", rate * 100.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::LengthDistribution;

    /// 1,000 ms for 101 tokens, 100 ms of them to the first: 9 ms a token.
    fn run(printed_ms: Option<f64>, definition: TpotDefinition) -> Run {
        let mut run = Run::default();
        run.latency.e2e = Statistics::of_mean(1000.0);
        run.latency.ttft = Statistics::of_mean(100.0);
        run.output_length = Statistics::of_mean(101.0);
        if let Some(printed_ms) = printed_ms {
            run.latency.tpot =
                [(Statistic::Mean, printed_ms), (Statistic::P90, 1.5 * printed_ms)].into_iter().collect();
            run.latency.tpot_definition = Some(definition);
        }
        run
    }

    fn codes(run: &Run) -> Vec<&str> {
        run.warnings.iter().map(|warning| warning.code.as_str()).collect()
    }

    #[test]
    fn a_right_definition_is_kept_and_disagreement_flagged() {
        let mut same = run(Some(9.1), TpotDefinition::WithoutFirstToken);
        finish(&mut same);
        assert_eq!((same.tpot_mean_ms(), codes(&same)), (Some(9.1), vec![]));
        let mut other = run(Some(12.0), TpotDefinition::WithoutFirstToken);
        finish(&mut other);
        assert_eq!((other.tpot_mean_ms(), codes(&other)), (Some(12.0), vec!["e2e"]));
    }

    #[test]
    fn chunks_are_replaced_and_kept_as_raw() {
        let mut halved = run(Some(4.5), TpotDefinition::PerChunk);
        finish(&mut halved);
        assert_eq!(halved.tpot_mean_ms(), Some(9.0));
        assert_eq!(halved.latency.tpot.get(Statistic::P90), None, "its percentiles are of another quantity");
        assert_eq!(halved.latency.tpot_raw.get(Statistic::P90), Some(6.75));
        assert_eq!(codes(&halved), ["tpot_definition"]);
        let settled = halved.clone();
        finish(&mut halved);
        assert_eq!(halved.latency, settled.latency);
        let mut right = run(Some(9.2), TpotDefinition::PerChunk);
        finish(&mut right);
        assert_eq!((right.tpot_mean_ms(), codes(&right)), (Some(9.2), vec![]));
        assert_eq!(right.latency.tpot_definition, Some(TpotDefinition::WithoutFirstToken));
    }

    #[test]
    fn the_first_token_is_taken_out() {
        let mut with_itl = run(Some(1000.0 / 101.0), TpotDefinition::WithFirstToken);
        with_itl.latency.itl = [(Statistic::Mean, 9.0), (Statistic::P90, 11.0)].into_iter().collect();
        with_itl.latency.itl_definition = Some(ItlDefinition::PerToken);
        finish(&mut with_itl);
        assert_eq!(with_itl.latency.tpot, with_itl.latency.itl);
        assert_eq!(with_itl.latency.tpot_raw.mean(), Some(1000.0 / 101.0));
        let mut without_itl = run(Some(1000.0 / 101.0), TpotDefinition::WithFirstToken);
        without_itl.latency.e2e = Statistics::default();
        finish(&mut without_itl);
        assert!((without_itl.tpot_mean_ms().unwrap() - 9.0).abs() < 1e-9);
        let mut mislabelled = run(Some(9.0), TpotDefinition::WithFirstToken);
        finish(&mut mislabelled);
        assert_eq!(mislabelled.latency.tpot_definition, Some(TpotDefinition::WithoutFirstToken));
        assert!(mislabelled.latency.tpot_raw.is_empty());
    }

    #[test]
    fn a_missing_tpot_is_derived() {
        let mut missing = run(None, TpotDefinition::Unknown);
        finish(&mut missing);
        assert_eq!(missing.tpot_mean_ms(), Some(9.0));
        assert_eq!(missing.latency.tpot_definition, Some(TpotDefinition::FromMeans));
        assert_eq!(missing.provenance["tpot_mean_ms"], Provenance::Derived);
    }

    #[test]
    fn an_image_tells_the_engine_version() {
        assert_eq!(version_of_image("vllm/vllm-openai:v0.19.1"), Some("0.19.1"));
        assert_eq!(version_of_image("docker.io/lmsysorg/sglang:v0.5.9-rocm700"), Some("0.5.9-rocm700"));
        for other in ["vllm/vllm-openai:nightly", "ghcr.io/llm-d/llm-d-cuda:v0.3.0", "vllm/vllm-openai", ""] {
            assert_eq!(version_of_image(other), None, "{other}");
        }
    }

    #[test]
    fn what_does_not_add_up_is_flagged() {
        let mut good = run(None, TpotDefinition::Unknown);
        good.workload.load = Load::of(None, Some(10.0), Some(1000));
        good.throughput.requests = Some(9.5);
        good.throughput.output_tokens = Some(960.0);
        good.throughput.input_tokens = Some(950.0);
        good.throughput.total_tokens = Some(1910.0);
        good.input_length = Statistics::of_mean(100.0);
        good.counts.requests = Some(1000);
        good.counts.failures = Some(50);
        good.workload.output = Some(LengthDistribution::fixed(101.0));
        let mut bad = good.clone();
        finish(&mut good);
        assert_eq!(codes(&good), Vec::<&str>::new());
        bad.throughput.requests = Some(20.0);
        bad.throughput.total_tokens = Some(960.0);
        bad.counts.failures = Some(51);
        bad.workload.output = Some(LengthDistribution::fixed(200.0));
        finish(&mut bad);
        assert_eq!(
            codes(&bad),
            ["throughput", "throughput", "total_tokens", "littles_law", "output_length", "failures"]
        );
    }
}
