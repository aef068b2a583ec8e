//! What a picture shows, whatever draws it.

use serde::Serialize;

use crate::{Error, Result};

/// One picture: headings, and either axes with series or stacked bars.
///
/// Values that cannot be drawn (NaN, infinities, numbers at or below 0 on a logarithmic axis) may be in it. The renderers
/// leave them out and say so beneath the picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chart {
    /// Heading.
    pub title: String,
    /// Second heading, smaller; empty for none.
    pub subtitle: String,
    /// What is drawn.
    pub content: Content,
    /// Remarks printed beneath the picture.
    pub notes: Vec<String>,
}

/// The two kinds of picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Two number axes with series.
    Xy(Xy),
    /// Horizontal stacked bars.
    Bars(Bars),
}

/// Series over two number axes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Xy {
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Drawn in this order; muted ones first.
    pub series: Vec<Series>,
}

/// Horizontal stacked bars, the first at the top.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bars {
    /// The number axis along which the bars lie.
    pub axis: Axis,
    /// The bars.
    pub bars: Vec<Bar>,
}

/// One stacked bar.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bar {
    /// Name, left of the bar.
    pub label: String,
    /// Second, smaller line beneath the name; empty for none.
    pub detail: String,
    /// Parts from left to right, each at least 0. Parts of one label have one colour in all bars.
    pub segments: Vec<Segment>,
}

/// One part of a stacked bar.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Segment {
    /// Name in the legend.
    pub label: String,
    /// Length in the axis' unit.
    pub value: f64,
    /// Whether it stands out.
    pub emphasis: Emphasis,
}

/// How much a series or segment stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Emphasis {
    /// Grey and behind the others: what fails the objectives, memory that is not used.
    Muted,
    /// As usual.
    #[default]
    Plain,
    /// Thicker and on top: the Pareto front.
    Strong,
}

/// An axis with numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Axis {
    /// Quantity, such as `Mean time to first token`.
    pub label: String,
    /// Unit, such as `ms`; empty for none.
    pub unit: String,
    /// A word on how to read it, such as `lower is better`; empty for none.
    pub hint: String,
    /// Linear or logarithmic.
    pub scale: ScaleKind,
    /// Objectives, drawn as lines with the failing side shaded.
    pub limits: Vec<Limit>,
    range: Range,
}

/// Ends of an axis that the user has set.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(super) struct Range {
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

/// How an axis maps numbers to lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleKind {
    /// Equal differences have equal lengths. Starts at 0 unless there are values below 0 or a range is set.
    #[default]
    Linear,
    /// Equal ratios have equal lengths.
    Log,
}

/// An objective on one axis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Limit {
    /// Where it lies, in the axis' unit.
    pub value: f64,
    /// Text along the line, such as `p90 TTFT ≤ 2,000 ms`.
    pub label: String,
    /// The side that misses the objective.
    pub fails: Side,
}

/// A side of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Values greater than the limit.
    Above,
    /// Values smaller than the limit.
    Below,
}

/// Marks of one colour and one legend entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// Name in the legend; empty for no entry.
    pub label: String,
    /// Heading in the legend, shared by series that belong together; empty for none. A group has its own dash pattern.
    pub group: String,
    /// Whether it stands out.
    pub emphasis: Emphasis,
    /// What is drawn.
    pub marks: Marks,
}

/// How a series is drawn.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Marks {
    /// Straight lines from point to point, in the order given.
    Line(Vec<Point>),
    /// Lines, and a marker at each point.
    LineAndPoints(Vec<Point>),
    /// Markers.
    Points(Vec<Point>),
    /// A staircase: each value holds until the next point.
    Steps(Vec<Point>),
    /// A histogram.
    Bins(Vec<Bin>),
}

/// One point of a series.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Point {
    /// Horizontal value.
    pub x: f64,
    /// Vertical value.
    pub y: f64,
    /// Text beside the marker, where there is room for it; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// Text shown under the pointer, lines separated by `\n`; empty for the two values.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hover: String,
}

/// One bar of a histogram: the values `low <= v < high` (the last one includes `high`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Lower edge.
    pub low: f64,
    /// Upper edge.
    pub high: f64,
    /// Number of values, or any other height.
    pub count: f64,
}

impl Axis {
    /// A linear axis whose ends follow the data.
    pub fn new(label: impl Into<String>, unit: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            unit: unit.into(),
            hint: String::new(),
            scale: ScaleKind::Linear,
            limits: Vec::new(),
            range: Range::default(),
        }
    }

    /// The same axis, linear or logarithmic.
    #[must_use]
    pub fn with_scale(mut self, scale: ScaleKind) -> Self {
        self.scale = scale;
        self
    }

    /// The same axis with a word on how to read it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The same axis with one objective more.
    #[must_use]
    pub fn with_limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// The same axis with fixed ends; `None` leaves an end to the data.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] where an end is not a number that can be drawn, or the lower one is not below the upper.
    pub fn with_range(mut self, min: Option<f64>, max: Option<f64>) -> Result<Self> {
        let reject =
            |reason: String| Err(Error::InvalidSetting { setting: format!("range of {}", self.label), reason });
        for end in [min, max].into_iter().flatten() {
            if drawable(end).is_none() {
                return reject(format!("{end} is not a number that can be drawn"));
            }
        }
        if let (Some(min), Some(max)) = (min, max)
            && min >= max
        {
            return reject(format!("the lower end {min} must be below the upper end {max}"));
        }
        self.range = Range { min, max };
        Ok(self)
    }

    pub(super) fn range(&self) -> Range {
        self.range
    }

    /// Label and unit, such as `Time per output token (ms)`.
    pub(super) fn heading(&self) -> String {
        if self.unit.is_empty() { self.label.clone() } else { format!("{} ({})", self.label, self.unit) }
    }
}

impl Marks {
    /// The points; none for a histogram.
    pub fn points(&self) -> &[Point] {
        match self {
            Self::Line(points) | Self::LineAndPoints(points) | Self::Points(points) | Self::Steps(points) => points,
            Self::Bins(_) => &[],
        }
    }

    /// The bars of a histogram; none for anything else.
    pub fn bins(&self) -> &[Bin] {
        if let Self::Bins(bins) = self { bins } else { &[] }
    }

    pub(super) fn has_line(&self) -> bool {
        matches!(self, Self::Line(_) | Self::LineAndPoints(_) | Self::Steps(_))
    }

    pub(super) fn has_markers(&self) -> bool {
        matches!(self, Self::LineAndPoints(_) | Self::Points(_))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.points().is_empty() && self.bins().is_empty()
    }

    fn retain(&mut self, mut keep: impl FnMut(f64, f64) -> bool) -> usize {
        match self {
            Self::Line(points) | Self::LineAndPoints(points) | Self::Points(points) | Self::Steps(points) => {
                let before = points.len();
                points.retain(|point| keep(point.x, point.y));
                before - points.len()
            }
            Self::Bins(bins) => {
                let before = bins.len();
                bins.retain(|bin| keep(bin.low, bin.count) && keep(bin.high, bin.count) && bin.low < bin.high);
                before - bins.len()
            }
        }
    }
}

/// Numbers beyond this size cannot be subtracted from each other safely; no measurement comes near them.
const LARGEST: f64 = 1e300;

/// The number, if it is one that can be drawn.
pub(super) fn drawable(value: f64) -> Option<f64> {
    (value.abs() <= LARGEST).then_some(value)
}

fn points_phrase(count: usize) -> String {
    if count == 1 { "1 point".to_owned() } else { format!("{count} points") }
}

fn verb(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

impl Chart {
    /// True where nothing can be drawn.
    pub fn is_empty(&self) -> bool {
        match &self.content {
            Content::Xy(xy) => !xy.series.iter().any(|series| {
                let drawable = |x: f64, y: f64| drawable(x).is_some() && drawable(y).is_some();
                series.marks.points().iter().any(|point| drawable(point.x, point.y))
                    || series.marks.bins().iter().any(|bin| drawable(bin.low, bin.high))
            }),
            Content::Bars(bars) => {
                !bars.bars.iter().any(|bar| bar.segments.iter().any(|segment| drawable(segment.value).is_some()))
            }
        }
    }

    /// The chart without values that no renderer can draw; the notes say how many were left out.
    pub(super) fn without_unusable(&self) -> Self {
        let mut chart = self.clone();
        match &mut chart.content {
            Content::Xy(xy) => {
                let dropped: usize = xy
                    .series
                    .iter_mut()
                    .map(|series| series.marks.retain(|x, y| drawable(x).is_some() && drawable(y).is_some()))
                    .sum();
                if dropped > 0 {
                    chart.notes.push(format!(
                        "{} without a usable value {} not shown.",
                        points_phrase(dropped),
                        verb(dropped)
                    ));
                }
                for axis in [&mut xy.x, &mut xy.y] {
                    axis.limits.retain(|limit| drawable(limit.value).is_some());
                }
            }
            Content::Bars(bars) => {
                for bar in &mut bars.bars {
                    let label = &bar.label;
                    bar.segments.retain(|segment| {
                        let usable = drawable(segment.value).is_some_and(|value| value >= 0.0);
                        if !usable {
                            chart.notes.push(format!("{label}: {} of {} is not shown.", segment.label, segment.value));
                        }
                        usable
                    });
                }
                bars.axis.limits.retain(|limit| drawable(limit.value).is_some());
            }
        }
        chart
    }

    /// The chart without values at or below 0 on logarithmic axes, for renderers whose axes are fixed.
    pub(super) fn without_negative_on_log(mut self) -> Self {
        let Content::Xy(xy) = &mut self.content else { return self };
        let log = [xy.x.scale == ScaleKind::Log, xy.y.scale == ScaleKind::Log];
        // 1e-300 keeps the powers of ten that ticks are made of away from the smallest numbers there are.
        let fits = |log: bool, value: f64| !log || value >= 1e-300;
        let dropped: usize = xy
            .series
            .iter_mut()
            // A histogram's counts start at 0 by nature: the renderer lets such bars begin at the axis.
            .map(|series| {
                let bins = matches!(series.marks, Marks::Bins(_));
                series.marks.retain(|x, y| fits(log[0], x) && (bins || fits(log[1], y)))
            })
            .sum();
        for (axis, log) in [&mut xy.x, &mut xy.y].into_iter().zip(log) {
            axis.limits.retain(|limit| fits(log, limit.value));
        }
        if dropped > 0 {
            self.notes.push(format!(
                "{} at or below 0 {} not shown on the logarithmic axis.",
                points_phrase(dropped),
                verb(dropped)
            ));
        }
        self
    }
}
