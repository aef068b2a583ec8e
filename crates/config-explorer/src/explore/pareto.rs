//! What nothing beats.

use std::collections::BTreeMap;

use crate::reports::{Column, Direction, Run};
use crate::{Error, Result};

/// The rows that nothing beats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Front {
    /// Their places, ascending.
    pub rows: Vec<usize>,
    /// Rows that lack a value of one of the metrics. They are never on the front and beat nothing.
    pub missing: usize,
}

/// The strict Pareto front of runs in some metrics: a run is on it if no other is at least as good in all of them and
/// better in one. Runs that are equal in all stay together.
///
/// # Errors
/// [`Error::InvalidSetting`] for a column of which neither less nor more is better, and for no column at all.
pub fn pareto_front(runs: &[&Run], metrics: &[&Column]) -> Result<Front> {
    let columns: Vec<Vec<f64>> =
        metrics.iter().map(|metric| runs.iter().map(|run| metric.number(run).unwrap_or(f64::NAN)).collect()).collect();
    let columns: Vec<(&[f64], Direction)> =
        columns.iter().zip(metrics).map(|(values, metric)| (values.as_slice(), metric.direction)).collect();
    if let Some(neutral) = metrics.iter().find(|metric| metric.direction == Direction::Neutral) {
        let reason = "is not a metric of which less or more is better".to_owned();
        return Err(Error::InvalidSetting { setting: neutral.name.to_string(), reason });
    }
    if metrics.is_empty() {
        let reason = "a front needs a metric".to_owned();
        return Err(Error::InvalidSetting { setting: "metrics".to_owned(), reason });
    }
    Ok(pareto_front_of(&columns))
}

/// The strict Pareto front of rows whose metrics stand in columns of one length (what a longer one has more is passed
/// over); NaN is a missing value, and less is better where the direction is neutral.
///
/// O(n log n) for up to three metrics: in lexicographic order, whatever beats a row stands before it, so that one sweep
/// with the best second metric, or with the staircase of the second and third, decides (Kung, Luccio and Preparata 1975).
/// For more, each row is compared with the front so far.
pub fn pareto_front_of(metrics: &[(&[f64], Direction)]) -> Front {
    let rows = metrics.iter().map(|(values, _)| values.len()).min().unwrap_or(0);
    let at = |row: usize, metric: usize| key(metrics[metric].0[row], metrics[metric].1);
    match metrics.len() {
        1 => {
            let mut best = None;
            sweep(keys(rows, |row| Some([at(row, 0)?])), |_| best.replace(()).is_none())
        }
        2 => {
            let mut best = None;
            sweep(keys(rows, |row| Some([at(row, 0)?, at(row, 1)?])), |&[_, second]| {
                let better = best.is_none_or(|best| second < best);
                if better {
                    best = Some(second);
                }
                better
            })
        }
        3 => {
            let mut stairs = BTreeMap::new();
            sweep(keys(rows, |row| Some([at(row, 0)?, at(row, 1)?, at(row, 2)?])), |&[_, second, third]| {
                climb(&mut stairs, second, third)
            })
        }
        count => {
            let mut front: Vec<Vec<u64>> = Vec::new();
            sweep(keys(rows, |row| (0..count).map(|metric| at(row, metric)).collect::<Option<Vec<u64>>>()), |row| {
                let beaten = front.iter().any(|other| other.iter().zip(row).all(|(other, own)| other <= own));
                if !beaten {
                    front.push(row.clone());
                }
                !beaten
            })
        }
    }
}

/// A number whose order is that of the value, smallest best. None for NaN.
fn key(value: f64, direction: Direction) -> Option<u64> {
    if value.is_nan() {
        return None;
    }
    // Adding 0 makes one zero of the two.
    let value = if direction == Direction::Higher { -value } else { value } + 0.0;
    let bits = value.to_bits();
    // As in `f64::total_cmp`: the sign bit is turned, and with it the order of the negative numbers.
    Some(if bits >> 63 == 1 { !bits } else { bits | 1 << 63 })
}

fn keys<K>(rows: usize, key: impl Fn(usize) -> Option<K>) -> (Vec<(K, u32)>, usize) {
    let keys: Vec<(K, u32)> = (0..rows).filter_map(|row| Some((key(row)?, row as u32))).collect();
    let missing = rows - keys.len();
    (keys, missing)
}

/// Visits the rows in lexicographic order; `admit` says whether nothing before is as good in every metric but the first.
/// A row equal to the one before it shares its fate.
fn sweep<K>((mut keys, missing): (Vec<(K, u32)>, usize), mut admit: impl FnMut(&K) -> bool) -> Front
where
    K: Ord + Clone + AsRef<[u64]>,
{
    // One row that is good in all metrics beats most of the others in most data, which then need not be sorted.
    let cost = |(key, _): &&(K, u32)| key.as_ref().iter().map(|&value| u128::from(value)).sum::<u128>();
    if let Some((good, _)) = keys.iter().min_by_key(cost).cloned() {
        keys.retain(|(key, _)| *key == good || key.as_ref().iter().zip(good.as_ref()).any(|(own, good)| own < good));
    }
    keys.sort_unstable();
    let mut rows = Vec::new();
    let mut admitted = false;
    for (index, (key, row)) in keys.iter().enumerate() {
        let repeated = index.checked_sub(1).is_some_and(|before| keys[before].0 == *key);
        admitted = if repeated { admitted } else { admit(key) };
        if admitted {
            rows.push(*row as usize);
        }
    }
    rows.sort_unstable();
    Front { rows, missing }
}

/// Adds a point to a staircase of falling `third` over rising `second`, unless a point of it is as good in both.
fn climb(stairs: &mut BTreeMap<u64, u64>, second: u64, third: u64) -> bool {
    if stairs.range(..=second).next_back().is_some_and(|(_, best)| *best <= third) {
        return false;
    }
    // The steps that the new one undercuts.
    while let Some((&other, _)) = stairs.range(second..).next().filter(|(_, best)| **best >= third) {
        stairs.remove(&other);
    }
    stairs.insert(second, third);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use Direction::{Higher, Lower};

    fn front(points: &[(f64, f64)]) -> Vec<usize> {
        let (x, y): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
        pareto_front_of(&[(&x, Lower), (&y, Higher)]).rows
    }

    #[test]
    fn the_front_is_strict_and_keeps_duplicates() {
        assert_eq!(front(&[(1.0, 2.0), (2.0, 2.0), (2.0, 3.0)]), [0, 2]);
        assert_eq!(front(&[(1.0, 2.0), (1.0, 2.0), (1.0, 1.0)]), [0, 1]);
        assert_eq!(front(&[(0.0, 1.0), (-0.0, 1.0)]), [0, 1]);
        assert_eq!(front(&[(f64::NAN, 9.0), (1.0, f64::NAN), (5.0, 1.0)]), [2]);
        assert_eq!(front(&[]), [0; 0]);
    }

    #[test]
    fn a_neutral_column_has_no_front() {
        let column = crate::reports::column("isl").unwrap();
        assert!(pareto_front(&[], &[column]).is_err());
        assert!(pareto_front(&[], &[]).is_err());
    }

    /// A few values, so that ties and duplicates are common; NaN is missing.
    fn table() -> impl Strategy<Value = Vec<Vec<f64>>> {
        let value = prop_oneof![9 => (-3_i32..4).prop_map(f64::from), 1 => Just(f64::NAN), 1 => Just(-0.0)];
        (1_usize..=5, 0_usize..60).prop_flat_map(move |(metrics, rows)| {
            prop::collection::vec(prop::collection::vec(value.clone(), rows), metrics)
        })
    }

    fn direction(metric: usize) -> Direction {
        if metric.is_multiple_of(2) { Lower } else { Higher }
    }

    fn front_of(table: &[Vec<f64>]) -> Front {
        let metrics: Vec<(&[f64], Direction)> =
            table.iter().enumerate().map(|(metric, values)| (values.as_slice(), direction(metric))).collect();
        pareto_front_of(&metrics)
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(table in table()) {
            let rows = table[0].len();
            let cost = |row: usize, metric: usize| {
                let value = table[metric][row];
                if direction(metric) == Higher { -value } else { value }
            };
            let metrics = 0..table.len();
            let known = |row: usize| metrics.clone().all(|metric| !cost(row, metric).is_nan());
            let beats = |a: usize, b: usize| {
                metrics.clone().all(|metric| cost(a, metric) <= cost(b, metric))
                    && metrics.clone().any(|metric| cost(a, metric) < cost(b, metric))
            };
            let expected: Vec<usize> =
                (0..rows).filter(|&row| known(row) && !(0..rows).any(|other| beats(other, row))).collect();
            let front = front_of(&table);
            prop_assert_eq!(front.rows, expected);
            prop_assert_eq!(front.missing, (0..rows).filter(|&row| !known(row)).count());
        }

        #[test]
        fn the_order_of_rows_does_not_matter(table in table()) {
            let reversed: Vec<Vec<f64>> = table.iter().map(|values| values.iter().rev().copied().collect()).collect();
            let last = table[0].len().saturating_sub(1);
            let mut back: Vec<usize> = front_of(&reversed).rows.into_iter().map(|row| last - row).collect();
            back.sort_unstable();
            prop_assert_eq!(back, front_of(&table).rows);
        }
    }
}
