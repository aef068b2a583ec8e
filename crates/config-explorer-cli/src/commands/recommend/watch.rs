//! A long search on a terminal: how far it is, and Ctrl-C for the best so far.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use config_explorer::recommend::{Query, Recommendations, Stage, Watch, recommend_watched};
use indicatif::{ProgressBar, ProgressStyle};

/// Searches that are shorter draw nothing.
const LONG: Duration = Duration::from_millis(500);
/// Exit status of what Ctrl-C ended, as a shell gives it.
const INTERRUPTED: i32 = 130;

/// Searches. The first Ctrl-C ends it with the best so far, the second one at once.
pub(super) fn search(query: &Query<'_>) -> anyhow::Result<Recommendations> {
    let stop = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if handler.swap(true, Ordering::Relaxed) {
            #[expect(clippy::exit, reason = "asked for twice: nothing is worth waiting for")]
            std::process::exit(INTERRUPTED);
        }
    })?;
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}, {elapsed}; Ctrl-C for the best so far")?;
    let start = Instant::now();
    // Drawn on a terminal only.
    let bar = OnceLock::new();
    let progress = |stage: Stage, done: usize, total: usize| {
        if start.elapsed() < LONG {
            return;
        }
        let bar = bar.get_or_init(|| ProgressBar::new(0).with_style(style.clone()));
        bar.set_message(match stage {
            Stage::Engines => "engines sized",
            Stage::Deployments => "deployments estimated",
            Stage::Simulations => "finalists simulated",
        });
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    };
    let found = recommend_watched(query, &Watch { progress: &progress, stop: Some(&stop) });
    if let Some(bar) = bar.get() {
        bar.finish_and_clear();
    }
    Ok(found?)
}
