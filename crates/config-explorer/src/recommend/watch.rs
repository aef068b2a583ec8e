//! What a long search tells while it runs, and how it is asked to stop.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::prelude::*;

/// What the search is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Engines are sized and compiled.
    Engines,
    /// Deployments of them are estimated.
    Deployments,
    /// Finalists are simulated.
    Simulations,
}

/// Follows a search. Its answer does not depend on it, unless it is stopped.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Told how many are done of how many, from any thread.
    pub progress: &'a (dyn Fn(Stage, usize, usize) + Sync),
    /// Set to end the search with the best so far.
    pub stop: Option<&'a AtomicBool>,
}

impl Watch<'_> {
    /// Nobody looks.
    pub(super) const NONE: Watch<'static> = Watch { progress: &|_, _, _| (), stop: None };

    /// Whether the search was asked to stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// Does one of `total` after the other in parallel, in order; `None` for what was not begun when the search was stopped.
    pub(super) fn map<T: Send, R: Send>(
        &self,
        stage: Stage,
        items: Vec<T>,
        each: impl Fn(T) -> R + Sync + Send,
    ) -> Vec<Option<R>> {
        let (done, total) = (AtomicUsize::new(0), items.len());
        let one = |item| {
            let outcome = (!self.is_stopped()).then(|| each(item));
            (self.progress)(stage, done.fetch_add(1, Ordering::Relaxed) + 1, total);
            outcome
        };
        items.into_par_iter().map(one).collect()
    }
}
