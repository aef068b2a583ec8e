//! Pareto fronts of a million rows: the target is 150 ms for two metrics.

use config_explorer::explore::pareto_front_of;
use config_explorer::reports::Direction::{Higher, Lower};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

const ROWS: u32 = 1_000_000;

/// Numbers from 0 to 1 that look like chance and are the same on every machine.
fn noise(seed: u32) -> Vec<f64> {
    let part = |row: u32| {
        let mut bits = row.wrapping_add(seed.wrapping_mul(0x9E37_79B9)).wrapping_mul(0x85EB_CA6B);
        bits ^= bits >> 13;
        bits = bits.wrapping_mul(0xC2B2_AE35);
        f64::from(bits ^ (bits >> 16)) / f64::from(u32::MAX)
    };
    (0..ROWS).map(part).collect()
}

/// Independent metrics: the front is short.
#[divan::bench]
fn two_metrics(bencher: Bencher<'_, '_>) {
    let (x, y) = (noise(1), noise(2));
    bencher.bench_local(|| pareto_front_of(black_box(&[(&x, Lower), (&y, Higher)])));
}

/// Better in one is worse in the other: every row is on the front.
#[divan::bench]
fn two_metrics_all_on_the_front(bencher: Bencher<'_, '_>) {
    let x = noise(1);
    bencher.bench_local(|| pareto_front_of(black_box(&[(&x, Lower), (&x, Higher)])));
}

#[divan::bench]
fn three_metrics(bencher: Bencher<'_, '_>) {
    let (x, y, z) = (noise(1), noise(2), noise(3));
    bencher.bench_local(|| pareto_front_of(black_box(&[(&x, Lower), (&y, Higher), (&z, Lower)])));
}

/// With more, each row is compared with the front so far.
#[divan::bench(sample_count = 5)]
fn four_metrics(bencher: Bencher<'_, '_>) {
    let (x, y, z, w) = (noise(1), noise(2), noise(3), noise(4));
    bencher.bench_local(|| pareto_front_of(black_box(&[(&x, Lower), (&y, Higher), (&z, Lower), (&w, Lower)])));
}
