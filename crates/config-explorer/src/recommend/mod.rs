//! The cheapest configuration that meets the objectives, and reasons to believe it.
//!
//! In: a [`Query`]: a model (and checkpoints that could stand for it), the accelerators there are, lengths, a load and
//! objectives. Out: a [`Recommendations`]: configurations in order with what is predicted for each, the Pareto front of
//! cost, latency and throughput, and how many were rejected for which reason; where none will do, the nearest miss.
//!
//! - `space`: every engine that could run, sized by `memory` ([`Query::variants`] times layouts).
//! - `fleet`: how many of them the load needs within the objectives, by `serving`; what rate they hold.
//! - `finalists`: the best by estimate are simulated, until those that are returned all are. `watch`: progress, and the
//!   end of a search that takes too long.
//! - `measured`: runs in the place of predictions. `shard`: deployments as runs for a store, so that parts of a search can
//!   be read together.
//! - `rank`: cost, order, front. `reasons`: what was rejected, and what would flip the choice.
//!
//! Pure and deterministic. Engines are compiled once, in parallel; a load costs microseconds.

mod answer;
mod finalists;
mod fleet;
mod measured;
mod query;
mod rank;
mod reasons;
mod shard;
mod space;
mod watch;

pub use answer::{
    Evidence, Flip, FrontPoint, Layout, Margin, MeasuredRun, MeasuredUse, NearestMiss, Neighbour, Recommendation,
    Recommendations, Rejected, RoleChoice, RouterChoice,
};
pub use query::{Demand, Disaggregation, Measurements, PoolShare, Query, RankBy, Shard, Variant};
pub use rank::{recommend, recommend_watched};
pub use watch::{Stage, Watch};
