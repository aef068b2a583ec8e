//! A queue of waiting requests (`v1/core/sched/request_queue.py`).

use std::collections::{BTreeMap, VecDeque};

use super::config::Policy;
use super::requests::{Info, RequestId};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum WaitingQueue {
    Fcfs(VecDeque<RequestId>),
    Priority(BTreeMap<(i32, u64, u64), RequestId>),
}

impl WaitingQueue {
    pub(super) fn new(policy: Policy) -> Self {
        match policy {
            Policy::Fcfs => Self::Fcfs(VecDeque::new()),
            Policy::Priority => Self::Priority(BTreeMap::new()),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Fcfs(queue) => queue.len(),
            Self::Priority(queue) => queue.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn first(&self) -> Option<RequestId> {
        match self {
            Self::Fcfs(queue) => queue.front().copied(),
            Self::Priority(queue) => queue.values().next().copied(),
        }
    }

    pub(super) fn pop(&mut self) -> Option<RequestId> {
        match self {
            Self::Fcfs(queue) => queue.pop_front(),
            Self::Priority(queue) => queue.pop_first().map(|(_, id)| id),
        }
    }

    pub(super) fn push(&mut self, id: RequestId, info: &Info) {
        match self {
            Self::Fcfs(queue) => queue.push_back(id),
            Self::Priority(queue) => drop(queue.insert(info.urgency(), id)),
        }
    }

    /// Puts a request before all others; under [`Policy::Priority`] where it belongs.
    pub(super) fn push_front(&mut self, id: RequestId, info: &Info) {
        match self {
            Self::Fcfs(queue) => queue.push_front(id),
            Self::Priority(_) => self.push(id, info),
        }
    }

    pub(super) fn remove(&mut self, id: RequestId, info: &Info) {
        match self {
            Self::Fcfs(queue) => queue.retain(|&other| other != id),
            Self::Priority(queue) => drop(queue.remove(&info.urgency())),
        }
    }

    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = RequestId> + '_> {
        match self {
            Self::Fcfs(queue) => Box::new(queue.iter().copied()),
            Self::Priority(queue) => Box::new(queue.values().copied()),
        }
    }
}
