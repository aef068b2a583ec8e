//! The requests in flight, in slots that are used again.

use crate::simulation::engine::{Content, RequestId};
use crate::simulation::source::Sent;

/// Stands for no engine.
pub(super) const NONE: u32 = u32::MAX;

/// A request's slot among those in flight.
pub(super) type LiveId = u32;

/// Where in the cluster a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The engine core (or set of cores in lockstep).
    pub(super) engine: u32,
    pub(super) rank: u32,
    pub(super) id: RequestId,
}

/// What is being done for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The slot is free.
    Vacant,
    /// It waits at the router.
    Queued,
    /// Its prompt is computed for another engine.
    Prefill,
    /// It is answered, perhaps after KV was loaded.
    Decode,
}

/// A request in flight.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) stage: Stage,
    /// Counts the fates of the slot: what was planned for an earlier one is void.
    pub(super) serial: u32,
    pub(super) request: u32,
    pub(super) class: u16,
    /// Lower is more urgent.
    pub(super) priority: i32,
    pub(super) input: u32,
    pub(super) output: u32,
    pub(super) sent: u64,
    pub(super) admitted: u64,
    pub(super) first_token: u64,
    pub(super) content: Content,
    /// The replica that answers.
    pub(super) decode: u32,
    /// The replica that computes the prompt for it, or [`NONE`].
    pub(super) prefill: u32,
    /// Where it is scheduled now.
    pub(super) place: Option<Place>,
    /// Where blocks are held for it to load.
    pub(super) held: Option<Place>,
    /// Tokens found in the cache where the prompt was computed for another engine.
    pub(super) cached: Option<u32>,
    pub(super) preemptions: u32,
    pub(super) retried: bool,
    /// It loads KV: since when (ns), and of how many tokens.
    pub(super) is_loading: bool,
    pub(super) load_began: u64,
    pub(super) load_tokens: u32,
}

/// All requests in flight.
#[derive(Debug, Default)]
pub(super) struct Requests {
    slots: Vec<Live>,
    vacant: Vec<LiveId>,
}

impl std::ops::Index<LiveId> for Requests {
    type Output = Live;

    fn index(&self, id: LiveId) -> &Live {
        &self.slots[id as usize]
    }
}

impl std::ops::IndexMut<LiveId> for Requests {
    fn index_mut(&mut self, id: LiveId) -> &mut Live {
        &mut self.slots[id as usize]
    }
}

impl Requests {
    pub(super) fn insert(&mut self, sent: &Sent) -> LiveId {
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Live {
                stage: Stage::Vacant,
                serial: 0,
                request: 0,
                class: 0,
                priority: 0,
                input: 0,
                output: 0,
                sent: 0,
                admitted: 0,
                first_token: 0,
                content: Content::default(),
                decode: NONE,
                prefill: NONE,
                place: None,
                held: None,
                cached: None,
                preemptions: 0,
                retried: false,
                is_loading: false,
                load_began: 0,
                load_tokens: 0,
            });
            self.slots.len() as LiveId - 1
        });
        let live = &mut self[id];
        live.request = sent.request;
        live.input = sent.input;
        live.output = sent.output;
        live.sent = sent.time;
        live.content.prompt.clear();
        let new = sent.new_request();
        live.content.prompt.extend_from_slice(new.prompt);
        live.content.output_id = new.output_id;
        live.content.output_start = new.output_start;
        live.priority = new.priority;
        live.class = sent.class;
        live.content.stop_position = u32::MAX;
        live.retried = false;
        live.restart();
        id
    }

    /// Frees the slot.
    pub(super) fn remove(&mut self, id: LiveId) {
        let live = &mut self[id];
        debug_assert!(live.stage != Stage::Vacant, "INV-1: a request ends twice");
        live.stage = Stage::Vacant;
        live.serial = live.serial.wrapping_add(1);
        self.vacant.push(id);
    }

    /// Requests in flight.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    /// The requests in flight, by slot.
    pub(super) fn ids(&self) -> impl Iterator<Item = LiveId> {
        (0..self.slots.len() as LiveId).filter(|&id| self[id].stage != Stage::Vacant)
    }

    /// What was planned for this fate of the slot still holds.
    pub(super) fn is_current(&self, id: LiveId, serial: u32) -> bool {
        self[id].serial == serial && self[id].stage != Stage::Vacant
    }
}

impl Live {
    /// As if it had just been sent.
    pub(super) fn restart(&mut self) {
        self.stage = Stage::Queued;
        self.serial = self.serial.wrapping_add(1);
        (self.decode, self.prefill) = (NONE, NONE);
        (self.place, self.held) = (None, None);
        (self.admitted, self.first_token) = (u64::MAX, 0);
        self.cached = None;
        self.preemptions = 0;
        self.is_loading = false;
    }
}
