//! Serving encode, prefill and decode in different pools.
//!
//! Rules: llm-d-router ebab687, `pkg/epp/framework/plugins/scheduling/profilehandler/disagg`.

use super::endpoint::{Request, State};

/// Decides whether a stage runs apart from decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decider {
    /// Always.
    Always,
    /// Where the request has images, audio or video.
    Multimodal,
    /// Where enough tokens are not cached on the decode endpoint.
    Prefix {
        /// Tokens that must not be cached; 0 turns the stage off.
        non_cached_tokens: i64,
        /// Tokens the prompt must have.
        prompt_tokens: i64,
        /// Place of the prefix producer.
        producer: usize,
    },
}

impl Decider {
    /// Whether the stage runs. A partial last block that is cached counts as a full one.
    pub fn disaggregates(&self, request: &Request<'_>, decode: Option<&State>) -> bool {
        match *self {
            Self::Always => true,
            Self::Multimodal => request.multimodal,
            Self::Prefix { non_cached_tokens, prompt_tokens, producer } => {
                let tokens = request.token_count;
                let Some(found) = decode.and_then(|state| state.prefix(producer)) else { return false };
                let cached = (found.cached_blocks * found.block_size_tokens) as i64;
                non_cached_tokens > 0
                    && tokens >= prompt_tokens.max(non_cached_tokens)
                    && tokens - cached >= non_cached_tokens
            }
        }
    }
}

/// A part of serving a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The endpoint that answers.
    Decode,
    /// Computes the prompt first.
    Prefill,
    /// Encodes images, audio or video first.
    Encode,
}

impl Stage {
    /// All, the one that answers first.
    pub const ALL: [Self; 3] = [Self::Decode, Self::Prefill, Self::Encode];
}

/// What became of a stage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It has not run yet.
    #[default]
    NotRun,
    /// Its decider was against it, or its filters left nobody.
    Without,
    /// It ran and picked these endpoints.
    Ran(Vec<usize>),
}

impl Outcome {
    /// The first endpoint picked.
    pub fn first(&self) -> Option<usize> {
        match self {
            Self::Ran(picked) => picked.first().copied(),
            _ => None,
        }
    }
}

/// The profile handler of disaggregated serving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disaggregated {
    /// Prefill and encode come before decode, and prefill always runs.
    pub prefill_first: bool,
    /// Names of the profiles, in the order of [`Stage::ALL`].
    pub profiles: [String; 3],
    /// Decides on prefill; without one it never runs after decode.
    pub prefill: Option<Decider>,
    /// Decides on encode.
    pub encode: Option<Decider>,
}

impl Disaggregated {
    /// The stage to run next; `None` when done. A stage that failed is not tried again.
    pub fn next(
        &self,
        request: &Request<'_>,
        states: &[State],
        available: [bool; 3],
        outcomes: &mut [Outcome; 3],
    ) -> Option<Stage> {
        let waits = |outcomes: &[Outcome; 3], stage: Stage| {
            available[stage as usize] && outcomes[stage as usize] == Outcome::NotRun
        };
        let decode = &outcomes[Stage::Decode as usize];
        let answering = decode.first();
        if self.prefill_first {
            if *decode != Outcome::NotRun {
                return None;
            }
            if waits(outcomes, Stage::Prefill) {
                return Some(Stage::Prefill);
            }
        } else if *decode == Outcome::NotRun {
            return waits(outcomes, Stage::Decode).then_some(Stage::Decode);
        } else if answering.is_none() {
            return None;
        }
        for (stage, decider) in [(Stage::Encode, self.encode), (Stage::Prefill, self.prefill)] {
            if waits(outcomes, stage) {
                let decode = answering.and_then(|at| states.get(at));
                if decider.is_some_and(|decider| decider.disaggregates(request, decode)) {
                    return Some(stage);
                }
                outcomes[stage as usize] = Outcome::Without;
            }
        }
        waits(outcomes, Stage::Decode).then_some(Stage::Decode)
    }

    /// The headers for the decode endpoint's sidecar, given the addresses of the endpoints picked: where to have the prompt
    /// computed, and where images encoded. What the client sent under these names is dropped.
    pub fn headers(prefill: Option<&str>, encode: &[&str]) -> Vec<(&'static str, String)> {
        let prefill = prefill.map(|address| ("x-prefiller-host-port", address.to_owned()));
        let encode = (!encode.is_empty()).then(|| ("x-encoder-hosts-ports", encode.join(",")));
        prefill.into_iter().chain(encode).collect()
    }
}
