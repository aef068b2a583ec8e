//! Measured kernels as a better source than the fitted curves: what tables say of exactly these shapes.
//!
//! In: the tables of an accelerator ([`KernelTables`]). Out: [`MeasuredKernels`]: those that pass the [`rules`], and why
//! others were refused. Matrix multiplications: the logarithm of the time is linear between measured rows, columns and
//! tokens in their logarithms; beyond the largest it grows as the roofline does. Experts: only layers of exactly a measured
//! shape (hidden size, slice, experts, experts of a token) without expert parallelism, at the mildest uneven routing that
//! was measured (`power_law_1.01`, else `power_law_1.2`, else `balanced`). Attention: the step's own linear law, fitted to
//! the rows with exactly these heads; layers that see all of their context. All-reduce: the same number of GPUs, inside of
//! CUDA graphs where both were measured. More work never takes less time: each time is the least of those of more work.
//!
//! Tables are benchmarks of single kernels as the curves are, so the calibration's multipliers apply to both.

mod rules;

use std::collections::BTreeMap;

use nalgebra::{Matrix3, Vector3};

use super::Format;
use crate::hardware::Accelerator;
use crate::reports::{KernelOperator, KernelTable, KernelTables};
use rules::{Judged, refusal};

/// Times by amount of work (tokens or bytes), ascending in both.
pub(super) type Points = Vec<(f64, f64)>;
type Raw = BTreeMap<u64, f64>;

/// Rows and columns, with the times by tokens.
type Grid = BTreeMap<(u64, u64), Points>;

/// Shape of the experts of a layer on one rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ExpertsShape {
    pub(super) hidden: u64,
    pub(super) slice: u64,
    pub(super) experts: u64,
    pub(super) per_token: u64,
}

/// Heads of a layer on one rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HeadsShape {
    pub(super) query: u64,
    pub(super) kv: u64,
    pub(super) width: u64,
    pub(super) fp8_cache: bool,
}

/// Measured kernels of one accelerator.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MeasuredKernels {
    gemm: BTreeMap<Format, Grid>,
    experts: BTreeMap<(Format, ExpertsShape), Points>,
    /// Floor, us for each token of context.
    decode: BTreeMap<HeadsShape, [f64; 2]>,
    /// Floor, us for each pair of a query and a key, us for each token.
    prefill: BTreeMap<HeadsShape, [f64; 3]>,
    /// By GPUs; work is bytes.
    all_reduce: BTreeMap<u32, Points>,
    /// Tables that are used.
    pub used: Vec<String>,
    /// Tables, or formats in them, that are not, and why.
    pub refused: Vec<String>,
}

/// Fewest rows that a law is fitted to: a law of three terms wants a few more than that.
const ROWS_MIN: usize = 6;
/// Rounds of the fit: three terms settle in fewer.
const ROUNDS: usize = 500;

/// The format that a table's name means.
fn format_of(text: &str) -> Option<Format> {
    Some(match text {
        "bfloat16" => Format::Bf16,
        "fp8" => Format::Fp8,
        "fp8_block" => Format::Fp8Block,
        "nvfp4" => Format::Nvfp4,
        "int4_wo" => Format::Int4,
        "w4a16_mxfp4" => Format::Mxfp4,
        _ => return None,
    })
}

fn name_of(format: Format) -> String {
    serde_json::to_value(format).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

impl MeasuredKernels {
    /// Judges the tables of an accelerator. What the nearest version lacks, or is refused for, comes from the next one.
    pub fn new(tables: &KernelTables, accelerator: &Accelerator) -> Self {
        let mut kernels = Self { refused: tables.unreadable.clone(), ..Self::default() };
        for (operator, table) in &tables.tables {
            let (kept, refused) = match operator {
                KernelOperator::Gemm => kernels.add_gemm(table, accelerator),
                KernelOperator::Experts => kernels.add_experts(table, accelerator),
                KernelOperator::Decode => kernels.add_decode(table, accelerator),
                KernelOperator::Prefill => kernels.add_prefill(table, accelerator),
                KernelOperator::AllReduce => kernels.add_all_reduce(table),
            };
            if kept {
                kernels.used.push(table.name.clone());
            }
            kernels.refused.extend(refused.into_iter().map(|reason| format!("{}: {reason}", table.name)));
        }
        kernels
    }

    fn add_gemm(&mut self, table: &KernelTable, accelerator: &Accelerator) -> (bool, Vec<String>) {
        let mut formats: BTreeMap<Format, BTreeMap<(u64, u64), Raw>> = BTreeMap::new();
        for row in 0..table.rows() {
            let Some(format) = format_of(table.text("gemm_dtype", row)) else { continue };
            let [m, n, k] = ["m", "n", "k"].map(|column| table.number(column, row) as u64);
            insert(formats.entry(format).or_default().entry((n, k)).or_default(), m, table.number("latency", row));
        }
        let bandwidth = accelerator.memory_bandwidth_gb_per_s * 1e3;
        let roofline = |format: Format, (n, k): &(u64, u64), m: u64| {
            gemm_roofline(accelerator, bandwidth, format, [m, *n, *k].map(|size| size as f64))
        };
        self.add_formats(&formats, roofline, |kernels, format, grid| {
            if kernels.gemm.contains_key(&format) {
                return false;
            }
            kernels.gemm.insert(format, grid);
            true
        })
    }

    fn add_experts(&mut self, table: &KernelTable, accelerator: &Accelerator) -> (bool, Vec<String>) {
        const DISTRIBUTIONS: [&str; 3] = ["power_law_1.01", "power_law_1.2", "balanced"];
        type Key = (ExpertsShape, usize);
        let mut formats: BTreeMap<Format, BTreeMap<Key, Raw>> = BTreeMap::new();
        for row in 0..table.rows() {
            let size = |column: &str| table.number(column, row) as u64;
            let Some(format) = format_of(table.text("moe_dtype", row)) else { continue };
            let distribution = DISTRIBUTIONS.iter().position(|name| *name == table.text("distribution", row));
            let (Some(distribution), 1) = (distribution, size("moe_ep_size")) else { continue };
            let shape = ExpertsShape {
                hidden: size("hidden_size"),
                slice: size("inter_size") / size("moe_tp_size").max(1),
                experts: size("num_experts"),
                per_token: size("topk"),
            };
            let curve = formats.entry(format).or_default().entry((shape, distribution)).or_default();
            insert(curve, size("num_tokens"), table.number("latency", row));
        }
        let bandwidth = accelerator.memory_bandwidth_gb_per_s * 1e3;
        let roofline = |format: Format, (shape, _): &Key, tokens: u64| {
            // The routing may have sent every token to the same experts.
            let weights = 3.0 * shape.hidden as f64 * shape.slice as f64 * shape.per_token.min(shape.experts) as f64;
            let compute = 2.0 * weights * tokens as f64 / format.peak(accelerator);
            (weights * format.weight_bytes() / bandwidth).max(compute)
        };
        self.add_formats(&formats, roofline, |kernels, format, curves| {
            let mut any = false;
            // Distributions of a shape come in the order of their preference.
            for ((shape, _), points) in curves {
                if let std::collections::btree_map::Entry::Vacant(free) = kernels.experts.entry((format, shape)) {
                    free.insert(points);
                    any = true;
                }
            }
            any
        })
    }

    /// Judges each format of a table, and keeps it where it passes.
    fn add_formats<K: Ord + Copy>(
        &mut self,
        formats: &BTreeMap<Format, BTreeMap<K, Raw>>,
        roofline: impl Fn(Format, &K, u64) -> f64,
        keep: impl Fn(&mut Self, Format, BTreeMap<K, Points>) -> bool,
    ) -> (bool, Vec<String>) {
        let sixteen_bit = formats.get(&Format::Bf16);
        let (mut kept, mut refused) = (false, Vec::new());
        for (format, curves) in formats {
            let beside = sixteen_bit.filter(|_| *format != Format::Bf16);
            let mut judged = Vec::new();
            let mut accepted = BTreeMap::new();
            for (key, curve) in curves {
                let known = beside.and_then(|curves| curves.get(key));
                let limit = |work: u64| roofline(*format, key, work);
                judged.extend(judge(curve, &limit, |work| known.and_then(|curve| curve.get(&work)).copied()));
                accepted.insert(*key, monotone(curve, &limit));
            }
            match refusal(&judged) {
                Some(reason) => refused.push(format!("{}: {reason}", name_of(*format))),
                None => kept |= keep(self, *format, accepted),
            }
        }
        (kept, refused)
    }

    fn add_decode(&mut self, table: &KernelTable, accelerator: &Accelerator) -> (bool, Vec<String>) {
        // Shorter contexts are all launch; the largest batches cost by the sequence, and no engine runs them.
        const CONTEXT_MIN: u64 = 128;
        const BATCH_MAX: u64 = 512;
        let bandwidth = accelerator.memory_bandwidth_gb_per_s * 1e3;
        let bytes =
            |shape: &HeadsShape| 2.0 * (shape.kv * shape.width) as f64 * if shape.fp8_cache { 1.0 } else { 2.0 };
        self.add_attention(
            table,
            "step",
            |shape, batch, step| {
                // The token itself is in the cache too.
                let tokens = (batch * (step + 1)) as f64;
                (
                    bytes(shape) * tokens / bandwidth,
                    (step + 1 >= CONTEXT_MIN && batch <= BATCH_MAX).then_some([1.0, tokens, 0.0]),
                )
            },
            |kernels, shape, [floor, per_token, _]| {
                let law = [floor, per_token.max(bytes(&shape) / bandwidth)];
                kernels.decode.entry(shape).or_insert(law);
            },
        )
    }

    fn add_prefill(&mut self, table: &KernelTable, accelerator: &Accelerator) -> (bool, Vec<String>) {
        const CHUNK_MIN: u64 = 64;
        let peak = Format::Bf16.peak(accelerator);
        let flop = |shape: &HeadsShape| 4.0 * (shape.query * shape.width) as f64;
        self.add_attention(
            table,
            "isl",
            |shape, batch, length| {
                let tokens = length as f64;
                let pairs = tokens * tokens / 2.0;
                let roofline_us = batch as f64 * flop(shape) * pairs / peak;
                // A step computes prompts one by one.
                (roofline_us, (length >= CHUNK_MIN && batch == 1).then_some([1.0, pairs, tokens]))
            },
            |kernels, shape, [floor, per_pair, per_token]| {
                let law = [floor, per_pair.max(flop(&shape) / peak), per_token];
                kernels.prefill.entry(shape).or_insert(law);
            },
        )
    }

    /// Judges a table of attention, and fits the law of each shape of heads.
    fn add_attention(
        &mut self,
        table: &KernelTable,
        length: &str,
        terms: impl Fn(&HeadsShape, u64, u64) -> (f64, Option<[f64; 3]>),
        keep: impl Fn(&mut Self, HeadsShape, [f64; 3]),
    ) -> (bool, Vec<String>) {
        let mut curves: BTreeMap<(HeadsShape, u64), Raw> = BTreeMap::new();
        for row in 0..table.rows() {
            let size = |column: &str| table.number(column, row) as u64;
            if size("window_size") != 0 {
                continue;
            }
            let shape = HeadsShape {
                query: size("num_heads"),
                kv: size("num_key_value_heads"),
                width: size("head_dim"),
                fp8_cache: table.text("kv_cache_dtype", row).starts_with("fp8"),
            };
            let curve = curves.entry((shape, size("batch_size"))).or_default();
            insert(curve, size(length), table.number("latency", row));
        }
        let mut judged = Vec::new();
        let mut rows: BTreeMap<HeadsShape, Vec<([f64; 3], f64)>> = BTreeMap::new();
        for ((shape, batch), curve) in &curves {
            let limit = |length: u64| terms(shape, *batch, length).0;
            judged.extend(judge(curve, &limit, |_| None));
            let of_shape = rows.entry(*shape).or_default();
            for (length, us) in curve {
                of_shape.extend(terms(shape, *batch, *length).1.map(|terms| (terms, us.max(limit(*length)))));
            }
        }
        if let Some(reason) = refusal(&judged) {
            return (false, vec![reason]);
        }
        let mut kept = false;
        for (shape, rows) in rows.into_iter().filter(|(_, rows)| rows.len() >= ROWS_MIN) {
            keep(self, shape, fit_law(&rows));
            kept = true;
        }
        (kept, Vec::new())
    }

    fn add_all_reduce(&mut self, table: &KernelTable) -> (bool, Vec<String>) {
        let rows = || 0..table.rows();
        let in_graph = |row: usize| table.text("backend", row).contains("graph");
        let graphs = rows().any(in_graph);
        let mut curves: BTreeMap<u32, Raw> = BTreeMap::new();
        for row in rows().filter(|row| !graphs || in_graph(*row)) {
            // A message's size is in elements of 16 bits (the shape of the collector's tensor).
            let bytes = 2 * table.number("message_size", row) as u64;
            let gpus = table.number("num_gpus", row) as u32;
            insert(curves.entry(gpus).or_default(), bytes, table.number("latency", row));
        }
        let judged: Vec<Judged> = curves.values().flat_map(|curve| judge(curve, &|_| 0.0, |_| None)).collect();
        if let Some(reason) = refusal(&judged) {
            return (false, vec![reason]);
        }
        let mut kept = false;
        for (gpus, curve) in &curves {
            self.all_reduce.entry(*gpus).or_insert_with(|| {
                kept = true;
                monotone(curve, &|_| 0.0)
            });
        }
        (kept, Vec::new())
    }

    /// A matrix of `outputs` x `inputs`.
    pub(super) fn gemm(&self, accelerator: &Accelerator, outputs: f64, inputs: f64, format: Format) -> Option<Points> {
        let grid = self.gemm.get(&format)?;
        let [rows, columns] = [grid.keys().map(|key| key.0).collect(), grid.keys().map(|key| key.1).collect()].map(
            |mut sizes: Vec<u64>| {
                sizes.sort_unstable();
                sizes.dedup();
                sizes
            },
        );
        let (n, k) = (between(&rows, outputs)?, between(&columns, inputs)?);
        let corners = [
            (grid.get(&(n.low, k.low))?, (1.0 - n.share) * (1.0 - k.share)),
            (grid.get(&(n.high, k.low))?, n.share * (1.0 - k.share)),
            (grid.get(&(n.low, k.high))?, (1.0 - n.share) * k.share),
            (grid.get(&(n.high, k.high))?, n.share * k.share),
        ];
        let bandwidth = accelerator.memory_bandwidth_gb_per_s * 1e3;
        let points = corners[0].0.iter().map(|(tokens, _)| {
            let logarithm: f64 = corners
                .iter()
                .filter(|(_, weight)| *weight > 0.0)
                .map(|(points, weight)| weight * at(points, *tokens).ln())
                .sum();
            let roofline = |n: f64, k: f64| gemm_roofline(accelerator, bandwidth, format, [*tokens, n, k]);
            // Beyond the table a matrix costs as much more as its roofline is higher.
            let beyond = roofline(outputs, inputs) / roofline(n.inside, k.inside);
            (*tokens, (logarithm.exp() * beyond).max(roofline(outputs, inputs)))
        });
        Some(points.collect())
    }

    pub(super) fn experts(&self, format: Format, shape: ExpertsShape) -> Option<&Points> {
        self.experts.get(&(format, shape))
    }

    /// Floor (us), us for each token of context.
    pub(super) fn decode(&self, shape: HeadsShape) -> Option<[f64; 2]> {
        self.decode.get(&shape).copied()
    }

    /// Floor (us), us for each pair of a query and a key, us for each token.
    pub(super) fn prefill(&self, shape: HeadsShape) -> Option<[f64; 3]> {
        self.prefill.get(&shape).copied()
    }

    /// Work is bytes.
    pub(super) fn all_reduce(&self, gpus: u32) -> Option<&Points> {
        self.all_reduce.get(&gpus)
    }
}

/// The time that a matrix of `[tokens, outputs, inputs]` takes at least, us.
fn gemm_roofline(accelerator: &Accelerator, bandwidth: f64, format: Format, [m, n, k]: [f64; 3]) -> f64 {
    let bytes = n * k * format.weight_bytes() + m * k * format.activation_bytes() + 2.0 * m * n;
    // A table's 4-bit activations are half a byte.
    let bytes = if format == Format::Nvfp4 { bytes - m * k / 2.0 } else { bytes };
    (bytes / bandwidth).max(2.0 * m * n * k / format.peak(accelerator))
}

/// Adds a row: of several measurements of one point the fastest counts, as the engine would choose its kernel.
fn insert(curve: &mut Raw, work: u64, latency_ms: f64) {
    if work > 0 && latency_ms > 0.0 {
        let known = curve.entry(work).or_insert(f64::INFINITY);
        *known = known.min(latency_ms * 1e3);
    }
}

fn judge<'a>(
    curve: &'a Raw,
    roofline: &'a dyn Fn(u64) -> f64,
    sixteen_bit: impl Fn(u64) -> Option<f64> + 'a,
) -> impl Iterator<Item = Judged> + 'a {
    curve.iter().scan(0.0_f64, move |less_work_us, (work, us)| {
        let judged = Judged {
            us: *us,
            roofline_us: roofline(*work),
            less_work_us: *less_work_us,
            sixteen_bit_us: sixteen_bit(*work),
        };
        *less_work_us = less_work_us.max(*us);
        Some(judged)
    })
}

/// Each time is the least of those of as much work or more, and not below the roofline.
fn monotone(curve: &Raw, roofline: &dyn Fn(u64) -> f64) -> Points {
    let mut least = f64::INFINITY;
    let mut points: Points = curve
        .iter()
        .rev()
        .map(|(work, us)| {
            least = least.min(us.max(roofline(*work)));
            (*work as f64, least)
        })
        .collect();
    points.reverse();
    points
}

/// A size among those of a table.
struct Between {
    low: u64,
    high: u64,
    /// Share of the way from low to high, in logarithms.
    share: f64,
    /// The size itself, or the end of the table that is nearest.
    inside: f64,
}

fn between(sizes: &[u64], size: f64) -> Option<Between> {
    let (first, last) = (*sizes.first()?, *sizes.last()?);
    let inside = size.clamp(first as f64, last as f64);
    let above = sizes.partition_point(|known| (*known as f64) < inside);
    let high = *sizes.get(above)?;
    let low = if (high as f64) > inside { *sizes.get(above.checked_sub(1)?)? } else { high };
    let span = (high as f64 / low as f64).ln();
    let share = if span > 0.0 { (inside / low as f64).ln() / span } else { 0.0 };
    Some(Between { low, high, share, inside })
}

/// The time at an amount of work: log-log linear between points, that of the least below, proportional beyond.
pub(super) fn at(points: &Points, work: f64) -> f64 {
    let above = points.partition_point(|(known, _)| *known < work);
    match (above.checked_sub(1).and_then(|below| points.get(below)), points.get(above)) {
        (None, Some((_, us))) => *us,
        (Some((known, us)), None) => us * work / known,
        (Some((low, low_us)), Some((high, high_us))) => {
            let share = (work / low).ln() / (high / low).ln();
            (low_us.ln() * (1.0 - share) + high_us.ln() * share).exp()
        }
        (None, None) => 0.0,
    }
}

/// Coefficients, none below 0, of the terms that give the times: least squares of relative errors.
fn fit_law(rows: &[([f64; 3], f64)]) -> [f64; 3] {
    let (mut normal, mut right) = (Matrix3::zeros(), Vector3::zeros());
    for (terms, us) in rows {
        let scaled = Vector3::from(*terms) / *us;
        normal += scaled * scaled.transpose();
        right += scaled;
    }
    // Coordinate descent: each in turn takes its best value at or above 0.
    let mut law = Vector3::zeros();
    for _ in 0..ROUNDS {
        for term in 0..3 {
            let curvature: f64 = normal[(term, term)];
            if curvature > 0.0 {
                let rest: f64 = (normal.row(term) * law)[0] - curvature * law[term];
                law[term] = ((right[term] - rest) / curvature).max(0.0);
            }
        }
    }
    law.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_between_points_are_log_log_linear() {
        let points = vec![(1.0, 10.0), (4.0, 40.0), (16.0, 40.0)];
        for (work, us) in [(0.5, 10.0), (1.0, 10.0), (2.0, 20.0), (4.0, 40.0), (8.0, 40.0), (32.0, 80.0)] {
            assert!((at(&points, work) - us).abs() < 1e-9, "{work}");
        }
    }

    #[test]
    fn more_work_never_takes_less() {
        let curve = Raw::from([(1, 5.0), (2, 9.0), (4, 7.0), (8, 20.0)]);
        assert_eq!(monotone(&curve, &|_| 6.0), [(1.0, 6.0), (2.0, 7.0), (4.0, 7.0), (8.0, 20.0)]);
    }

    #[test]
    fn a_law_is_found_from_its_own_times() {
        let rows: Vec<_> = [64.0, 256.0, 1024.0, 4096.0, 8192.0, 16384.0]
            .map(|tokens: f64| {
                ([1.0, tokens * tokens / 2.0, tokens], 12.0 + 1e-5 * tokens * tokens / 2.0 + 0.01 * tokens)
            })
            .to_vec();
        let [floor, per_pair, per_token] = fit_law(&rows);
        assert!((floor - 12.0).abs() < 0.2 && (per_pair - 1e-5).abs() < 1e-7 && (per_token - 0.01).abs() < 1e-3);
    }
}
