//! Time to draw 10,000 points.

use config_explorer::plot::charts::Row;
use config_explorer::plot::{Appearance, Axis, Chart, Format, scenario};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// Twenty series of 500 points.
fn points_10_000() -> Chart {
    let rows: Vec<Row> = (0..10_000_u32)
        .map(|index| Row {
            series: format!("configuration {}", index % 20),
            x: f64::from(index / 20),
            y: f64::from(index * 7919 % 10_007),
            ..Row::default()
        })
        .collect();
    scenario(&[], Axis::new("Request rate", "req/s"), Axis::new("TTFT", "ms"), &rows)
}

#[divan::bench]
fn svg_of_10_000_points(bencher: Bencher<'_, '_>) {
    let chart = points_10_000();
    bencher.bench(|| black_box(&chart).render(Format::Svg, &Appearance::default()));
}
