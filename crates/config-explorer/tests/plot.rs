//! Charts as files: what they look like in small, and what no input may do to them.

use config_explorer::memory::{ActivationPhase, MemoryPerGpu};
use config_explorer::plot::charts::{MemoryRow, Row};
use config_explorer::plot::{
    Appearance, Axis, Chart, Content, Emphasis, Format, Limit, Marks, Point, ScaleKind, Series, Side, Theme, Xy,
    histogram, memory, scenario, tradeoff,
};
use proptest::prelude::*;

const SMALL: Appearance = Appearance { width: 320, height: 200, scale: 1.0, theme: Theme::Light };

fn text_of(chart: &Chart, format: Format, appearance: &Appearance) -> String {
    String::from_utf8(chart.render(format, appearance).expect("the size is allowed")).expect("the file is text")
}

fn svg(chart: &Chart) -> String {
    text_of(chart, Format::Svg, &SMALL)
}

fn chart(points: &[(f64, f64)], x: ScaleKind, y: ScaleKind) -> Chart {
    let points = points.iter().map(|&(x, y)| Point { x, y, ..Point::default() }).collect();
    let series = Series {
        label: "TP=2".to_owned(),
        group: String::new(),
        emphasis: Emphasis::Plain,
        marks: Marks::LineAndPoints(points),
    };
    Chart {
        title: "A title".to_owned(),
        subtitle: String::new(),
        content: Content::Xy(Xy {
            x: Axis::new("Rate", "req/s").with_scale(x),
            y: Axis::new("TTFT", "ms").with_scale(y),
            series: vec![series],
        }),
        notes: Vec::new(),
    }
}

fn linear(points: &[(f64, f64)]) -> Chart {
    chart(points, ScaleKind::Linear, ScaleKind::Linear)
}

/// Markers in the plot; the legend's one has no text under the pointer.
fn markers(svg: &str) -> usize {
    svg.matches("<title>TP=2").count()
}

/// Without the style sheet, which says the same in every picture.
fn shapes(svg: &str) -> String {
    let (start, rest) = svg.split_once("<style>").expect("there is a style sheet");
    start.to_owned() + rest.split_once("</style>").expect("it ends").1
}

#[test]
fn small_line_chart() {
    insta::assert_snapshot!(shapes(&svg(&linear(&[(1.0, 120.0), (2.0, 180.0), (4.0, 640.0)]))));
}

#[test]
fn small_memory_chart() {
    let plan = MemoryPerGpu {
        total_gib: 80.0,
        requested_gib: 72.0,
        weights_gib: 30.0,
        activation_gib: 5.0,
        activation_bound_by: ActivationPhase::Sampler,
        moe_workspace_gib: 2.0,
        non_torch_gib: 1.0,
        cuda_graph_gib: 1.5,
        cuda_graph_in_budget: false,
        kv_cache_gib: 36.0,
    };
    let chart = memory("Memory", &[MemoryRow { label: "TP 2".to_owned(), detail: String::new(), memory: plan }]);
    let Content::Bars(bars) = &chart.content else { panic!("memory is a bar") };
    let parts: Vec<(&str, f64)> =
        bars.bars[0].segments.iter().map(|segment| (segment.label.as_str(), segment.value)).collect();
    // The workspace is a part of the activation, and these graphs lie outside of what vLLM may use.
    let expected = [
        ("Weights", 30.0),
        ("Activation", 3.0),
        ("MoE workspace", 2.0),
        ("Non-torch", 1.0),
        ("KV cache", 36.0),
        ("CUDA graphs", 1.5),
        ("Not used", 6.5),
    ];
    assert_eq!(parts, expected);
    insta::assert_snapshot!(shapes(&svg(&chart)));
}

#[test]
fn what_does_not_fit_is_said() {
    let plan = MemoryPerGpu {
        total_gib: 80.0,
        requested_gib: 72.0,
        weights_gib: 75.0,
        activation_gib: 1.0,
        activation_bound_by: ActivationPhase::Forward,
        moe_workspace_gib: 0.0,
        non_torch_gib: 0.5,
        cuda_graph_gib: 0.5,
        cuda_graph_in_budget: true,
        kv_cache_gib: -5.0,
    };
    let chart = memory("Memory", &[MemoryRow { label: "TP 1".to_owned(), detail: String::new(), memory: plan }]);
    assert_eq!(chart.notes, ["Does not fit: TP 1 by 5 GiB."]);
}

#[test]
fn foreign_text_stays_text() {
    let evil = "</script><script>alert(1)</script> \"&' </text> <!-- {{echarts}}";
    let row = Row { series: evil.to_owned(), hover: evil.to_owned(), x: 1.0, y: 1.0, ..Row::default() };
    let limit = Limit { value: 1.0, label: evil.to_owned(), fails: Side::Above };
    let chart = scenario(
        &[(evil.to_owned(), evil.to_owned())],
        Axis::new(evil, evil).with_limit(limit),
        Axis::new("y", ""),
        &[row],
    );
    let picture = svg(&chart);
    assert!(!picture.contains("<script") && !picture.contains("<!--"));
    chart.render(Format::Png, &SMALL).expect("the picture is well-formed");

    let page = text_of(&chart, Format::Html, &SMALL);
    let honest = text_of(&linear(&[(1.0, 1.0)]), Format::Html, &SMALL);
    for markup in ["<script", "</script", "<!--"] {
        assert_eq!(page.matches(markup).count(), honest.matches(markup).count(), "{markup}");
    }
}

#[test]
fn nothing_to_draw_is_said() {
    for chart in [
        linear(&[]),
        linear(&[(f64::NAN, 1.0)]),
        chart(&[(1.0, -1.0)], ScaleKind::Linear, ScaleKind::Log),
        histogram(&[], Axis::new("TTFT", "ms"), &[], None),
        memory("Memory", &[]),
    ] {
        assert!(svg(&chart).contains("There is nothing to draw."), "{chart:?}");
        chart.render(Format::Png, &SMALL).expect("a picture without data is a picture");
    }
}

#[test]
fn one_point_and_equal_values_are_drawn() {
    for scale in [ScaleKind::Linear, ScaleKind::Log] {
        assert_eq!(markers(&svg(&chart(&[(3.0, 7.0)], scale, scale))), 1);
        assert_eq!(markers(&svg(&chart(&[(1.0, 7.0), (10.0, 7.0), (100.0, 7.0)], scale, scale))), 3);
    }
    let bins = histogram(&[], Axis::new("TTFT", "ms"), &[5.0; 40], None);
    assert_eq!(svg(&bins).matches("<rect class=\"f0\"").count(), 1);
}

#[test]
fn what_cannot_be_drawn_is_left_out_and_counted() {
    let points = [(1.0, 5.0), (2.0, f64::NAN), (3.0, f64::INFINITY), (4.0, 9.0)];
    assert_eq!(markers(&svg(&linear(&points))), 2);
    let logarithmic = svg(&chart(&[(1.0, 5.0), (2.0, 0.0), (3.0, 50.0)], ScaleKind::Linear, ScaleKind::Log));
    assert_eq!(markers(&logarithmic), 2);
    assert!(logarithmic.contains("1 point at or below 0 is not shown"), "{logarithmic}");

    let rows = [1.0, f64::NAN].map(|z| Row { x: 1.0, y: 1.0, z, ..Row::default() });
    let labelled = tradeoff(&[], Axis::new("x", ""), Axis::new("y", ""), &Axis::new("Concurrency", ""), &rows);
    assert_eq!(labelled.notes, ["Left out for want of Concurrency: 1 run."]);
}

/// Numbers of an attribute in order of the file.
fn numbers(element: &str, attribute: &str) -> Option<f64> {
    element.split_once(&format!(" {attribute}=\""))?.1.split_once('"')?.0.parse().ok()
}

#[test]
fn the_names_of_twenty_series_do_not_overlap() {
    let rows: Vec<Row> = (0..20)
        .flat_map(|series| {
            (1..9).map(move |x| Row {
                series: format!("configuration-{series}"),
                x: f64::from(x),
                y: f64::from(x * (series + 3)),
                ..Row::default()
            })
        })
        .collect();
    let chart = scenario(&[], Axis::new("Rate", "req/s"), Axis::new("TTFT", "ms"), &rows);
    for (width, height) in [(640, 400), (960, 600), (1600, 1000)] {
        let picture = text_of(&chart, Format::Svg, &Appearance { width, height, ..SMALL });
        let places: Vec<(f64, f64, f64)> = picture
            .split("<text")
            .filter(|element| element.contains(">configuration-"))
            .filter_map(|text| Some((numbers(text, "x")?, numbers(text, "y")?, numbers(text, "font-size")?)))
            .collect();
        assert_eq!(places.len(), 20, "{width}");
        for (index, a) in places.iter().enumerate() {
            assert!(a.1 < f64::from(height), "{width}: {a:?} is below the picture");
            for b in &places[..index] {
                // A name has more than 16 letters of half its size.
                let apart = (a.1 - b.1).abs() >= a.2 || (a.0 - b.0).abs() >= 8.0 * a.2;
                assert!(apart, "{width}: {a:?} {b:?}");
            }
        }
    }
}

#[test]
fn a_hundred_thousand_points_make_a_small_picture() {
    let points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), f64::from(i * 7919 % 10_007))).collect();
    let picture = svg(&linear(&points));
    assert!(picture.len() < 2_000_000, "{} bytes", picture.len());
}

#[test]
fn sizes_out_of_range_are_refused() {
    for appearance in [
        Appearance { width: 0, ..SMALL },
        Appearance { height: 9000, ..SMALL },
        Appearance { scale: f32::NAN, ..SMALL },
    ] {
        assert!(linear(&[(1.0, 1.0)]).render(Format::Svg, &appearance).is_err(), "{appearance:?}");
    }
}

fn scale_kind() -> impl Strategy<Value = ScaleKind> {
    prop_oneof![Just(ScaleKind::Linear), Just(ScaleKind::Log)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_numbers_give_finite_coordinates(
        points in prop::collection::vec((any::<f64>(), any::<f64>()), 0..40),
        (x, y) in (scale_kind(), scale_kind()),
        name in any::<String>(),
    ) {
        let mut chart = chart(&points, x, y);
        chart.title.clone_from(&name);
        if let Content::Xy(xy) = &mut chart.content {
            xy.series[0].label = name;
        }
        let picture = svg(&chart);
        for path in picture.split(" d=\"").skip(1).filter_map(|rest| rest.split_once('"')) {
            prop_assert!(!path.0.contains("NaN") && !path.0.contains("inf"), "{}", path.0);
        }
        prop_assert!(chart.render(Format::Png, &SMALL).is_ok());
        prop_assert!(chart.render(Format::Html, &SMALL).is_ok());
    }

    #[test]
    fn any_values_give_a_histogram(values in prop::collection::vec(any::<f64>(), 0..60), scale in scale_kind()) {
        let usable = values
            .iter()
            .filter(|value| value.abs() <= 1e300 && (scale == ScaleKind::Linear || **value > 1e-300))
            .count();
        let chart = histogram(&[], Axis::new("TTFT", "ms").with_scale(scale), &values, None);
        let Content::Xy(xy) = &chart.content else { panic!("a histogram has two axes") };
        let counted: f64 = xy.series[0].marks.bins().iter().map(|bin| bin.count).sum();
        prop_assert_eq!(counted as usize, usable);
        prop_assert!(chart.render(Format::Png, &SMALL).is_ok());
    }
}
