//! The configuration of an inference-perf run: a file of its own, or repeated in a benchmark report.
//!
//! Source: `inference_perf/config` of kubernetes-sigs/inference-perf.

use serde::Deserialize;

use crate::reports::Run;
use crate::reports::lenient::{List, Map, Number, Text};
use crate::workload::{LengthDistribution, Load};

/// What the configuration says about the load and the server.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::reports) struct Config {
    data: Map<Data>,
    load: Map<LoadConfig>,
    server: Map<Server>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Data {
    r#type: Text,
    shared_prefix: Map<SharedPrefix>,
    input_distribution: Map<Distribution>,
    output_distribution: Map<Distribution>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct SharedPrefix {
    num_groups: Number,
    num_prompts_per_group: Number,
    system_prompt_len: Number,
    question_len: Number,
    output_len: Number,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Distribution {
    mean: Number,
    std_dev: Number,
    min: Number,
    max: Number,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct LoadConfig {
    stages: List<Map<Stage>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Stage {
    rate: Number,
    concurrency_level: Number,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Server {
    r#type: Text,
    model_name: Text,
}

impl Distribution {
    fn lengths(&self) -> Option<LengthDistribution> {
        let mean = self.mean.finite()?;
        let (min, max) = (self.min.finite(), self.max.finite());
        Some(LengthDistribution {
            min,
            max,
            ..LengthDistribution::gaussian(mean, self.std_dev.finite().unwrap_or(0.0))
        })
    }
}

impl Config {
    /// Stages of the load.
    pub(in crate::reports) fn stages(&self) -> usize {
        self.load.stages.len()
    }

    /// Fills what the run does not know yet. `stage` is the stage that the run measured, where it is one.
    pub(in crate::reports) fn apply(&self, stage: Option<usize>, run: &mut Run) {
        let (server, workload) = (&mut run.server, &mut run.workload);
        server.model = server.model.take().or_else(|| self.server.model_name.0.clone());
        server.engine = server.engine.take().or_else(|| self.server.r#type.0.clone());
        workload.dataset = workload.dataset.take().or_else(|| self.data.r#type.0.clone());

        let shared = &self.data.shared_prefix;
        let prefix = &mut workload.prefix;
        prefix.groups = prefix.groups.or(shared.num_groups.count());
        prefix.prompts_per_group = prefix.prompts_per_group.or(shared.num_prompts_per_group.count());
        prefix.shared_tokens = prefix.shared_tokens.or(shared.system_prompt_len.finite());
        prefix.unique_tokens = prefix.unique_tokens.or(shared.question_len.finite());
        let prompt = shared.system_prompt_len.finite().zip(shared.question_len.finite());
        workload.input = workload
            .input
            .or_else(|| prompt.map(|(shared, unique)| LengthDistribution::fixed(shared + unique)))
            .or_else(|| self.data.input_distribution.lengths());
        workload.output = workload
            .output
            .or_else(|| shared.output_len.finite().map(LengthDistribution::fixed))
            .or_else(|| self.data.output_distribution.lengths());

        let Some(stage) = stage else { return };
        match self.load.stages.get(stage) {
            Some(stage) if run.workload.load.kind.is_none() => {
                let (rate, concurrency) = (stage.rate.finite(), stage.concurrency_level.finite());
                if rate.is_some() || concurrency.is_some() {
                    run.workload.load = Load::of(rate, concurrency, run.counts.requests);
                }
            }
            Some(_) => {}
            None => {
                let stages = self.load.stages.len();
                run.warn("stage", format!("stage {stage} of {stages} stages; its rate is unknown"));
            }
        }
    }
}
