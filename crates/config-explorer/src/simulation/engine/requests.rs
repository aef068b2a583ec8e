//! The requests of one engine, in slots that are used again once a request is gone.

use std::ops::{Index, IndexMut};

use super::content::{BlockSpan, Content, Segment};
use crate::{Error, Result};

/// A request's slot in the scheduler, from [`add_request`](super::Scheduler::add_request) until it is finished and no
/// batch or transfer refers to it any more; then the slot is given to another request.
pub type RequestId = u32;

/// A request as it arrives.
#[derive(Debug, Clone, Copy)]
pub struct NewRequest<'a> {
    /// The prompt. Blocks are shared between prompts whose segments agree from the first token on.
    pub prompt: &'a [Segment],
    /// The text that is generated: what a later turn of a session names in its prompt.
    pub output_id: u32,
    /// Position of the first generated token in that text.
    pub output_start: u32,
    /// Most tokens to generate.
    pub max_tokens: u32,
    /// The generated token, counted from 1, that is a stop token.
    pub stop_at: Option<u32>,
    /// Lower is more urgent; only read under [`Policy::Priority`](super::Policy).
    pub priority: i32,
    /// Time of arrival in any unit: orders requests of equal priority.
    pub arrival: u64,
    /// Keeps prompts of different salts apart (`cache_salt`); 0 is none.
    pub cache_salt: u64,
    /// The KV of the prompt is loaded from another engine (`do_remote_prefill`).
    pub remote_prefill: bool,
    /// The blocks are held after the last token for another engine to load (`do_remote_decode`).
    pub remote_decode: bool,
}

impl<'a> NewRequest<'a> {
    /// A request without priority, salt, stop token or transfer.
    pub fn new(prompt: &'a [Segment], output_id: u32, max_tokens: u32) -> Self {
        Self {
            prompt,
            output_id,
            output_start: 0,
            max_tokens,
            stop_at: None,
            priority: 0,
            arrival: 0,
            cache_salt: 0,
            remote_prefill: false,
            remote_decode: false,
        }
    }
}

/// Where a request is (`RequestStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// The slot is free.
    Vacant,
    /// In a waiting queue, never run.
    Waiting,
    /// Its KV is on the way from another engine (`WAITING_FOR_REMOTE_KVS`).
    Loading,
    /// Its KV has arrived; the next pass over the queue sees it.
    Loaded,
    /// In the running list.
    Running,
    /// In the waiting queue, to be computed again.
    Preempted,
    /// Finished; a batch in flight or a transfer still refers to it.
    Finished,
}

impl Info {
    /// What orders requests under the priority policy, lowest first.
    pub(super) fn urgency(&self) -> (i32, u64, u64) {
        (self.priority, self.arrival, self.sequence)
    }
}

/// Token counts and states of all slots.
///
/// Every step reads nearly all counters of a request, and running requests lie in any slots: a row of counters is one
/// cache line, where columns would be ten. What a step does not read is in `info`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Requests {
    progress: Vec<Progress>,
    pub(super) info: Vec<Info>,
    /// Hashes of the blocks that known tokens fill; computed when they are needed.
    hashes: Vec<Vec<u64>>,
    vacant: Vec<RequestId>,
    added: u64,
}

/// How far a request is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Progress {
    /// Tokens of the prompt.
    pub(super) prompt_len: u32,
    /// Tokens whose value is known: prompt and output (`num_tokens`).
    pub(super) known: u32,
    /// Tokens computed or scheduled to be (`num_computed_tokens`).
    pub(super) computed: u32,
    /// Tokens that batches in flight will sample (`num_output_placeholders`).
    pub(super) placeholders: u32,
    /// Draft tokens to verify in the next step (`spec_token_ids`).
    pub(super) drafts: u32,
    /// Tokens of batches in flight (`num_in_flight_tokens`).
    pub(super) in_flight: u32,
    /// Share of `in_flight` from before a preemption (`num_stale_output_tokens`).
    pub(super) stale: u32,
    /// `known` at which it finishes.
    pub(super) end: u32,
    /// Tokens with which it reaches `max_tokens`.
    pub(super) length_end: u32,
    /// The last step left known tokens uncomputed (`is_prefill_chunk`).
    pub(super) is_chunk: bool,
    pub(super) status: Status,
    /// It cruises: the counters are those after step `last_step`.
    pub(super) cruises: bool,
    /// The last step it was scheduled in (`last_sched_seq`).
    pub(super) last_step: u64,
    /// Orders the running list: number of its last entry into it.
    pub(super) entry: u64,
    /// When its last token came (`Scheduler::clock`); not kept up to date while it cruises.
    pub(super) last_output: u64,
}

impl Index<RequestId> for Requests {
    type Output = Progress;

    fn index(&self, id: RequestId) -> &Progress {
        &self.progress[id as usize]
    }
}

impl IndexMut<RequestId> for Requests {
    fn index_mut(&mut self, id: RequestId) -> &mut Progress {
        &mut self.progress[id as usize]
    }
}

/// What is read a few times in the life of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Info {
    pub(super) content: Content,
    pub(super) max_tokens: u32,
    pub(super) priority: i32,
    pub(super) arrival: u64,
    /// Order of addition: breaks ties of arrival.
    pub(super) sequence: u64,
    pub(super) remote_prefill: bool,
    pub(super) remote_decode: bool,
    pub(super) preemptions: u32,
    /// Tokens found computed when it was first admitted.
    pub(super) cached_tokens: Option<u32>,
    /// End of a prefix that only the full-attention groups have cached (`shared_prefix_boundary`).
    pub(super) shared_prefix: u32,
}

impl Requests {
    pub(super) fn insert(&mut self, new: &NewRequest<'_>, max_model_len: u32) -> Result<RequestId> {
        let prompt_len = new.prompt.iter().try_fold(0u32, |sum, segment| sum.checked_add(segment.len));
        let Some(prompt_len @ 1..) = prompt_len else {
            return Err(invalid("prompt", "a prompt holds at least 1 token and less than 2^32"));
        };
        if new.max_tokens == 0 {
            return Err(invalid("max_tokens", "must be at least 1"));
        }
        if new.stop_at == Some(0) {
            return Err(invalid("stop_at", "the first generated token is number 1"));
        }
        let progress = Progress {
            prompt_len,
            known: prompt_len,
            computed: 0,
            placeholders: 0,
            drafts: 0,
            in_flight: 0,
            stale: 0,
            end: 0,
            length_end: 0,
            is_chunk: false,
            status: Status::Waiting,
            cruises: false,
            last_step: 0,
            entry: 0,
            last_output: 0,
        };
        let id = if let Some(id) = self.vacant.pop() {
            self[id] = progress;
            id
        } else {
            self.progress.push(progress);
            self.info.push(Info::default());
            self.hashes.push(Vec::new());
            self.info.len() as RequestId - 1
        };
        let at = id as usize;
        self.hashes[at].clear();
        let info = &mut self.info[at];
        let mut prompt = std::mem::take(&mut info.content.prompt);
        prompt.clear();
        prompt.extend_from_slice(new.prompt);
        *info = Info {
            content: Content {
                prompt,
                output_id: new.output_id,
                output_start: new.output_start,
                stop_position: u32::MAX,
                salt: new.cache_salt,
            },
            max_tokens: new.max_tokens,
            priority: new.priority,
            arrival: new.arrival,
            sequence: self.added,
            remote_prefill: new.remote_prefill,
            remote_decode: new.remote_decode,
            ..Info::default()
        };
        self.added += 1;
        self.set_stop(id, new.stop_at, max_model_len);
        Ok(id)
    }

    /// Sets the generated token that is a stop token, and with it where the request ends.
    pub(super) fn set_stop(&mut self, id: RequestId, stop_at: Option<u32>, max_model_len: u32) {
        let prompt_len = self[id].prompt_len;
        let info = &mut self.info[id as usize];
        let stop_end = stop_at.map_or(u32::MAX, |tokens| prompt_len.saturating_add(tokens));
        info.content.stop_position = if stop_end == u32::MAX { u32::MAX } else { stop_end - 1 };
        let length_end = prompt_len.saturating_add(info.max_tokens);
        self[id].length_end = length_end;
        // A prompt that fills the model's length yields one token all the same.
        self[id].end = length_end.min(max_model_len.max(prompt_len + 1)).min(stop_end);
    }

    pub(super) fn remove(&mut self, id: RequestId) {
        self[id].status = Status::Vacant;
        self.vacant.push(id);
    }

    /// All slots, vacant ones too.
    pub(super) fn iter(&self) -> impl Iterator<Item = (RequestId, &Progress)> {
        (0..).zip(&self.progress)
    }

    /// Requests ever added.
    pub(super) fn added(&self) -> u64 {
        self.added
    }

    /// It ends with its stop token.
    pub(super) fn is_stopped(&self, id: RequestId) -> bool {
        self[id].known.checked_sub(1) == Some(self.info[id as usize].content.stop_position)
    }

    /// Hashes of the blocks that the first `known` tokens fill (and perhaps of more).
    pub(super) fn block_hashes(&mut self, id: RequestId, known: u32, span: BlockSpan) -> &[u64] {
        let prompt_len = self[id].prompt_len;
        let hashes = &mut self.hashes[id as usize];
        self.info[id as usize].content.extend_hashes(hashes, span, prompt_len, known);
        hashes
    }
}

fn invalid(setting: &str, reason: &str) -> Error {
    Error::InvalidSetting { setting: setting.to_owned(), reason: reason.to_owned() }
}
