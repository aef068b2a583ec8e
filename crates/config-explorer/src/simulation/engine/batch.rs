//! What goes out of a scheduler to the device and what comes back: buffers that the caller uses again and again.

use super::requests::RequestId;

/// What one step computes. A caller holds one for every batch in flight.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Requests in the order of the batch: running ones, then those admitted. Those that cruise are left out
    /// ([`expand`](super::Scheduler::expand) names them).
    pub requests: Vec<Scheduled>,
    /// Requests that cruise: each computes one token and samples one.
    pub cruising: u32,
    /// Tokens that those looked at: the sum of their contexts.
    pub cruising_context: u64,
    /// Tokens of all requests.
    pub num_tokens: u32,
    /// Requests that entered the running list.
    pub admitted: Vec<Admission>,
    /// Requests that lost their blocks, in order.
    pub preempted: Vec<RequestId>,
    /// Requests that begin to load KV from another engine; the caller reports the end of each to
    /// [`finish_load`](super::Scheduler::finish_load).
    pub loads: Vec<Load>,
}

/// A request's share of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduled {
    /// The request.
    pub id: RequestId,
    /// Tokens computed before the step: the context its tokens look at.
    pub context: u32,
    /// Tokens to compute, drafts among them.
    pub tokens: u32,
    /// Draft tokens to verify.
    pub drafts: u32,
    /// The step samples at least one token; else it computes a part of the prompt.
    pub samples: bool,
}

impl Scheduled {
    fn is_decode(&self) -> bool {
        self.tokens == 1 && self.samples
    }

    /// One token, for its output.
    pub(super) fn decode(id: RequestId) -> Self {
        Self { id, context: 0, tokens: 1, drafts: 0, samples: true }
    }
}

/// A request that enters the running list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// The request.
    pub id: RequestId,
    /// Tokens it need not compute: found in the prefix cache or loaded.
    pub computed: u32,
    /// It was preempted before.
    pub resumed: bool,
}

/// A request that begins to load KV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// The request.
    pub id: RequestId,
    /// Tokens to load: those of the prompt that are not in the prefix cache.
    pub tokens: u32,
}

impl Batch {
    /// Requests that compute one token and sample the next, those that cruise among them, and the sum of their contexts.
    pub fn decodes(&self) -> (u32, u64) {
        let named = self.requests.iter().filter(|scheduled| scheduled.is_decode());
        named.fold((self.cruising, self.cruising_context), |(count, context), scheduled| {
            (count + 1, context + u64::from(scheduled.context))
        })
    }

    /// The other requests of the batch: prefills, and decodes that verify drafts.
    pub fn chunks(&self) -> impl Iterator<Item = &Scheduled> {
        self.requests.iter().filter(|scheduled| !scheduled.is_decode())
    }

    pub(super) fn clear(&mut self) {
        self.requests.clear();
        self.cruising = 0;
        self.cruising_context = 0;
        self.num_tokens = 0;
        self.admitted.clear();
        self.preempted.clear();
        self.loads.clear();
    }

    /// Takes a preempted request out of the batch; returns its tokens.
    pub(super) fn withdraw(&mut self, id: RequestId) -> Option<u32> {
        let at = self.requests.iter().position(|scheduled| scheduled.id == id)?;
        Some(self.requests.remove(at).tokens)
    }
}

/// What the output of a batch changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepOutput {
    /// Tokens that went to clients.
    pub num_tokens: u32,
    /// Requests that got them: one each, but for accepted drafts.
    pub num_requests: u32,
    /// Requests that got tokens in this step, and before, but not in the step before this one.
    pub late: Vec<Late>,
    /// Requests whose first token this is.
    pub first_tokens: Vec<RequestId>,
    /// Requests that finished, in order. An id is valid until the next request is added.
    pub finished: Vec<Finished>,
}

impl StepOutput {
    pub(super) fn clear(&mut self) {
        self.num_tokens = 0;
        self.num_requests = 0;
        self.late.clear();
        self.first_tokens.clear();
        self.finished.clear();
    }
}

/// A request that was left out for a step or more: preempted, or beyond the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// The request.
    pub id: RequestId,
    /// The caller's clock when its last token came.
    pub since: u64,
}

/// A finished request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// The request.
    pub id: RequestId,
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens it generated.
    pub generated: u32,
    /// Times it was preempted.
    pub preemptions: u32,
    /// Tokens it did not have to compute at first admission; `None` if it never ran.
    pub cached_tokens: Option<u32>,
    /// Its blocks are held until [`release`](super::Scheduler::release) is called.
    pub held: bool,
}

/// Why a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// It generated its stop token.
    Stop,
    /// It reached `max_tokens` or `max_model_len`.
    Length,
    /// The client gave up.
    Abort,
}
