//! Questions about measured runs: which are there, which meet the objectives, which does nothing beat, which is better.
//!
//! In: [`Run`]s and the [`Column`]s of their table. Out: the runs that a [`Filter`] lets through, [`scenarios`], the
//! [`pareto_front`], repeated runs with their [`Spread`], a [`compare`]d pair of configurations, an order of [`rank`], and
//! names for configurations ([`Naming`]). The questions are those of the original `config_explorer` (`explorer.py`),
//! answered as its documentation means them: fronts are strict, orders do not change from call to call, and a row with a
//! missing value is counted, never kept in silence.

mod compare;
mod filter;
mod naming;
mod pareto;
mod rank;
mod repeats;
mod scenarios;

pub use compare::{Better, Comparison, MetricDifference, compare, runs_of};
pub use filter::{Condition, Filter, Operator};
pub use naming::{Naming, load_column, load_name, shape_name};
pub use pareto::{Front, pareto_front, pareto_front_of};
pub use rank::rank;
pub use repeats::{Repeats, Spread, repeats};
pub use scenarios::{Extent, Scenario, Scenarios, scenarios};

use std::collections::HashMap;
use std::hash::Hash;

use crate::reports::{Column, Group, Run, columns};

/// The columns of a group that tell what was set up, not what came of it.
fn setting_columns(group: Group) -> impl Iterator<Item = &'static Column> {
    columns().iter().filter(move |column| column.group == group && column.stored && !column.is_statistic())
}

/// Runs by a key, in the order of the first run of each.
fn grouped<'a, K: Clone + Eq + Hash>(runs: &[&'a Run], key: impl Fn(&Run) -> K) -> Vec<(K, Vec<&'a Run>)> {
    let mut places = HashMap::new();
    let mut groups: Vec<(K, Vec<&'a Run>)> = Vec::new();
    for &run in runs {
        let key = key(run);
        let place = *places.entry(key.clone()).or_insert_with(|| {
            groups.push((key, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(run);
    }
    groups
}

/// What the runs of one key have in common, as text that is equal where the values are.
fn key<'a>(run: &Run, columns: impl Iterator<Item = &'a Column>) -> Vec<Option<String>> {
    columns.map(|column| column.get(run).map(|value| value.to_string())).collect()
}
