//! Draws series over two number axes.

use super::Theme;
use super::chart::{Axis, Chart, Emphasis, Marks, Point, ScaleKind, Series, Side, Xy};
use super::labels::{Placement, Placer, Rect};
use super::layout::{Entry, MarkerShape, Sizes, Surroundings, Swatch, class_suffix, line_group};
use super::palette::Look;
use super::scale::{Scale, Ticks, value_text};
use super::simplify;
use super::svg::{Escaped, Num, Svg, TextStyle};
use super::text::{self, Weight};

/// Above this number of markers none has its own text under the pointer: the file would be several times larger.
const MOST_HOVERS: usize = 2000;
/// Above this number of markers in one series, those that cover each other are drawn once.
const CROWDED: usize = 10_000;
/// After so many labels without a place there is no use in trying more.
const MOST_MISSES: usize = 2000;

/// A picture being drawn.
struct Canvas<'a> {
    svg: Svg,
    xy: &'a Xy,
    plot: Rect,
    x: Scale,
    y: Scale,
    sizes: Sizes,
    placer: Placer,
}

/// A series, its look and the positions of its points.
struct Drawn<'a> {
    series: &'a Series,
    look: Look,
    positions: Vec<(f64, f64)>,
}

/// The picture; notes on what it leaves out are added to the chart's.
pub(super) fn draw(chart: &Chart, xy: &Xy, width: f64, height: f64, theme: Theme) -> String {
    let x = Scale::of(&xy.x, extent(xy, ScaleKind::Log == xy.x.scale, x_values));
    let y = Scale::of(&xy.y, extent(xy, ScaleKind::Log == xy.y.scale, y_values));
    let mut chart = chart.clone();
    chart.notes.extend(outside(xy, &x, &y));
    let (picture, complete) = draw_once(&chart, xy, (x, y), width, height, theme);
    if complete {
        return picture;
    }
    chart.notes.push("Some point labels are left out for lack of room.".to_owned());
    draw_once(&chart, xy, (x, y), width, height, theme).0
}

fn draw_once(chart: &Chart, xy: &Xy, (x, y): (Scale, Scale), width: f64, height: f64, theme: Theme) -> (String, bool) {
    let sizes = Sizes::of(width, height);
    let looks = looks(&xy.series);
    let y_ticks = |plot_height: f64| y.ticks(((plot_height / (3.0 * sizes.body)) as usize).clamp(2, 12));
    let left_width = |plot_height: f64| {
        let widths = y_ticks(plot_height).major;
        widths.iter().map(|(_, label)| text::width(label, sizes.body, Weight::Regular)).fold(0.0, f64::max)
    };
    let surroundings = Surroundings {
        width,
        height,
        sizes,
        chart,
        legend: legend(&xy.series, &looks),
        x_axis: Some(&xy.x),
        y_axis: Some(&xy.y),
        left_width: &left_width,
    };
    let frame = surroundings.arrange();
    let svg = Svg::new(width, height, theme, &chart.title);
    let mut canvas = Canvas { svg, xy, plot: frame.plot, x, y, sizes, placer: Placer::new(frame.plot) };
    surroundings.draw(&mut canvas.svg, &frame);

    let x_ticks = canvas.x_ticks();
    let y_ticks = y_ticks(frame.plot.height());
    canvas.shade_failing_sides();
    canvas.grid(&x_ticks, &y_ticks);
    let drawn = canvas.drawn(&looks);
    canvas.series(&drawn);
    canvas.axes(&x_ticks, &y_ticks);
    let complete = canvas.labels(&drawn);
    (canvas.svg.finish(), complete)
}

fn x_values(marks: &Marks) -> Vec<f64> {
    let edges = marks.bins().iter().flat_map(|bin| [bin.low, bin.high]);
    marks.points().iter().map(|point| point.x).chain(edges).collect()
}

fn y_values(marks: &Marks) -> Vec<f64> {
    // Half of the smallest count, so that a bar of that count has a height on a logarithmic axis.
    let counts = marks.bins().iter().flat_map(|bin| [bin.count / 2.0, bin.count]);
    marks.points().iter().map(|point| point.y).chain(counts).collect()
}

fn extent(xy: &Xy, positive: bool, values: impl Fn(&Marks) -> Vec<f64>) -> Option<(f64, f64)> {
    let values = xy.series.iter().flat_map(|series| values(&series.marks)).filter(|value| !positive || *value > 0.0);
    values.fold(None, |extent, value| {
        let (low, high) = extent.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

/// Notes on points and limits that the axes do not reach.
fn outside(xy: &Xy, x: &Scale, y: &Scale) -> Vec<String> {
    let points = xy.series.iter().flat_map(|series| series.marks.points());
    let hidden = points.filter(|point| !(x.contains(point.x) && y.contains(point.y))).count();
    let mut notes = Vec::new();
    if hidden > 0 {
        let (noun, verb) = if hidden == 1 { ("point", "lies") } else { ("points", "lie") };
        notes.push(format!("{hidden} {noun} {verb} outside the axes."));
    }
    for (axis, scale) in [(&xy.x, x), (&xy.y, y)] {
        for limit in axis.limits.iter().filter(|limit| !scale.contains(limit.value)) {
            notes.push(format!("The limit {} lies outside the axes.", limit.label));
        }
    }
    notes
}

pub(super) fn looks(series: &[Series]) -> Vec<Look> {
    let mut groups: Vec<&str> = Vec::new();
    let mut index = 0;
    series
        .iter()
        .map(|series| {
            if series.emphasis == Emphasis::Muted {
                return Look::muted();
            }
            let group = (!series.group.is_empty()).then(|| {
                groups.iter().position(|group| *group == series.group).unwrap_or_else(|| {
                    groups.push(&series.group);
                    groups.len() - 1
                })
            });
            index += 1;
            Look::of(index - 1, group)
        })
        .collect()
}

/// Entries by group, in the order in which groups and series first appear.
fn legend(series: &[Series], looks: &[Look]) -> Vec<Entry> {
    let named = || series.iter().zip(looks).filter(|(series, _)| !series.label.is_empty() && !series.marks.is_empty());
    let mut groups: Vec<&str> = Vec::new();
    for (series, _) in named() {
        if !groups.contains(&series.group.as_str()) {
            groups.push(&series.group);
        }
    }
    let mut entries = Vec::new();
    for group in groups {
        if !group.is_empty() {
            entries.push(Entry::heading(group.to_owned()));
        }
        for (series, look) in named().filter(|(series, _)| series.group == group) {
            let (look, strong) = (*look, series.emphasis == Emphasis::Strong);
            let swatch = match &series.marks {
                Marks::Line(_) | Marks::Steps(_) => Swatch::Line { look, markers: false, strong },
                Marks::LineAndPoints(_) => Swatch::Line { look, markers: true, strong },
                Marks::Points(_) => Swatch::Marker(look),
                Marks::Bins(_) => Swatch::Area(look),
            };
            entries.push(Entry::new(series.label.clone(), swatch));
        }
    }
    entries
}

/// The most ticks whose labels do not touch along a horizontal axis.
pub(super) fn horizontal_ticks(scale: &Scale, plot: Rect, sizes: &Sizes) -> Ticks {
    let most = ((plot.width() / (3.2 * sizes.body)) as usize).clamp(2, 16);
    let fits = |ticks: &Ticks| {
        let mut free_from = f64::NEG_INFINITY;
        ticks.major.iter().all(|(value, label)| {
            let half = text::width(label, sizes.body, Weight::Regular) / 2.0;
            let x = plot.left + scale.fraction(*value) * plot.width();
            let fits = x - half >= free_from;
            free_from = x + half + sizes.body;
            fits
        })
    };
    (2..=most).rev().map(|most| scale.ticks(most)).find(fits).unwrap_or_else(|| scale.ticks(2))
}

/// Grid, tick labels and the line of a horizontal axis.
pub(super) fn horizontal_axis(svg: &mut Svg, scale: &Scale, ticks: &Ticks, plot: Rect, sizes: &Sizes) {
    let style = TextStyle::new(sizes.body).anchor("middle");
    for (value, label) in &ticks.major {
        let x = plot.left + scale.fraction(*value) * plot.width();
        svg.line("axis", (x, plot.bottom), (x, plot.bottom + 4.0 * sizes.unit));
        // The margin is no wider than this.
        if x + text::width(label, sizes.body, Weight::Regular) / 2.0 > plot.right + 18.0 * sizes.unit {
            continue;
        }
        svg.text((x, plot.bottom + 1.15 * sizes.body), style, label, label);
    }
    svg.line("axis", (plot.left, plot.bottom), (plot.right, plot.bottom));
}

impl<'a> Canvas<'a> {
    fn position(&self, x: f64, y: f64) -> (f64, f64) {
        (
            self.plot.left + self.x.fraction(x) * self.plot.width(),
            self.plot.bottom - self.y.fraction(y) * self.plot.height(),
        )
    }

    fn x_ticks(&self) -> Ticks {
        horizontal_ticks(&self.x, self.plot, &self.sizes)
    }

    fn shade_failing_sides(&mut self) {
        let plot = self.plot;
        for limit in &self.xy.x.limits {
            let x = self.position(limit.value, 0.0).0.clamp(plot.left, plot.right);
            match limit.fails {
                Side::Above => self.svg.rect("shade", x, plot.top, plot.right - x, plot.height()),
                Side::Below => self.svg.rect("shade", plot.left, plot.top, x - plot.left, plot.height()),
            }
        }
        for limit in &self.xy.y.limits {
            let y = (plot.bottom - self.y.fraction(limit.value) * plot.height()).clamp(plot.top, plot.bottom);
            match limit.fails {
                Side::Above => self.svg.rect("shade", plot.left, plot.top, plot.width(), y - plot.top),
                Side::Below => self.svg.rect("shade", plot.left, y, plot.width(), plot.bottom - y),
            }
        }
    }

    fn grid(&mut self, x_ticks: &Ticks, y_ticks: &Ticks) {
        let plot = self.plot;
        let values = |ticks: &Ticks| ticks.major.iter().map(|(value, _)| *value).collect::<Vec<_>>();
        for (class, xs, ys) in
            [("minor", x_ticks.minor.clone(), y_ticks.minor.clone()), ("grid", values(x_ticks), values(y_ticks))]
        {
            let mut path = String::new();
            for value in xs {
                let x = plot.left + self.x.fraction(value) * plot.width();
                path += &format!("M{} {}V{}", Num(x), Num(plot.top), Num(plot.bottom));
            }
            for value in ys {
                let y = plot.bottom - self.y.fraction(value) * plot.height();
                path += &format!("M{} {}H{}", Num(plot.left), Num(y), Num(plot.right));
            }
            if !path.is_empty() {
                self.svg.raw(format_args!("<path class=\"{class}\" d=\"{path}\"/>\n"));
            }
        }
    }

    fn axes(&mut self, x_ticks: &Ticks, y_ticks: &Ticks) {
        let (plot, sizes) = (self.plot, self.sizes);
        horizontal_axis(&mut self.svg, &self.x, x_ticks, plot, &sizes);
        let style = TextStyle::new(sizes.body).anchor("end");
        for (value, label) in &y_ticks.major {
            let y = plot.bottom - self.y.fraction(*value) * plot.height();
            self.svg.text((plot.left - 7.0 * sizes.unit, y), style, label, label);
        }
        self.svg.line("axis", (plot.left, plot.top), (plot.left, plot.bottom));
    }

    /// The series in the order of drawing: muted, plain, strong.
    fn drawn(&self, looks: &[Look]) -> Vec<Drawn<'a>> {
        let mut drawn: Vec<Drawn<'a>> = self
            .xy
            .series
            .iter()
            .zip(looks)
            .map(|(series, look)| Drawn {
                series,
                look: *look,
                positions: series.marks.points().iter().map(|point| self.position(point.x, point.y)).collect(),
            })
            .collect();
        drawn.sort_by_key(|drawn| match drawn.series.emphasis {
            Emphasis::Muted => 0,
            Emphasis::Plain => 1,
            Emphasis::Strong => 2,
        });
        drawn
    }

    fn series(&mut self, drawn: &[Drawn<'_>]) {
        let plot = self.plot;
        // An inner picture cuts at its border, and needs no name that another picture on the same page could have too.
        let (x, y) = (Num(plot.left), Num(plot.top));
        let (width, height) = (Num(plot.width()), Num(plot.height()));
        self.svg.raw(format_args!(
            "<svg x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" viewBox=\"{x} {y} {width} {height}\">\n"
        ));
        let markers: usize = drawn.iter().map(|drawn| drawn.positions.len()).sum();
        for drawn in drawn {
            self.bins(drawn);
            if drawn.series.marks.has_line() {
                self.line(drawn);
            }
        }
        self.limit_lines();
        for drawn in drawn {
            if drawn.series.marks.has_markers() {
                self.markers(drawn, markers <= MOST_HOVERS);
            }
        }
        self.svg.raw(format_args!("</svg>\n"));
    }

    fn limit_lines(&mut self) {
        let plot = self.plot;
        for limit in self.xy.x.limits.iter().filter(|limit| self.x.contains(limit.value)) {
            let x = self.position(limit.value, 0.0).0;
            self.svg.line("limit", (x, plot.bottom), (x, plot.top));
        }
        for limit in self.xy.y.limits.iter().filter(|limit| self.y.contains(limit.value)) {
            let y = plot.bottom - self.y.fraction(limit.value) * plot.height();
            self.svg.line("limit", (plot.left, y), (plot.right, y));
        }
    }

    fn bins(&mut self, drawn: &Drawn<'_>) {
        let suffix = class_suffix(&drawn.look);
        for bin in drawn.series.marks.bins().iter().filter(|bin| bin.count > 0.0) {
            let (left, top) = self.position(bin.low, bin.count);
            let right = self.position(bin.high, bin.count).0;
            let width = (right - left - 1.0).max(0.5);
            let hover =
                format!("{} to {}: {}", value_text(bin.low, 4), value_text(bin.high, 4), value_text(bin.count, 4));
            self.svg.raw(format_args!(
                "<rect class=\"f{suffix}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}</title></rect>\n",
                Num(left + 0.5),
                Num(top),
                Num(width),
                Num((self.plot.bottom - top).max(0.0)),
                Escaped(&hover)
            ));
        }
    }

    fn line(&mut self, drawn: &Drawn<'_>) {
        let points = simplify::line(&drawn.positions);
        if points.len() < 2 {
            return;
        }
        let steps = matches!(drawn.series.marks, Marks::Steps(_));
        let mut path = String::with_capacity(points.len() * 14);
        for (index, (x, y)) in points.iter().enumerate() {
            path += &match (index, steps) {
                (0, _) => format!("M{} {}", Num(*x), Num(*y)),
                (_, false) => format!("L{} {}", Num(*x), Num(*y)),
                (_, true) => format!("H{}V{}", Num(*x), Num(*y)),
            };
        }
        line_group(&mut self.svg, &drawn.look, drawn.series.emphasis == Emphasis::Strong, self.sizes.unit);
        self.svg.raw(format_args!("<path d=\"{path}\"/></g>\n"));
        if self.has_labels() {
            for pair in points.windows(2) {
                self.placer.avoid_segment(pair[0], pair[1]);
            }
        }
    }

    fn has_labels(&self) -> bool {
        let labelled = |series: &Series| series.marks.points().iter().any(|point| !point.label.is_empty());
        self.xy.series.iter().any(labelled) || !self.xy.x.limits.is_empty() || !self.xy.y.limits.is_empty()
    }

    fn radius(&self, drawn: &Drawn<'_>) -> f64 {
        let base = match drawn.series.emphasis {
            Emphasis::Muted => 3.0,
            Emphasis::Plain => 3.8,
            Emphasis::Strong => 4.4,
        };
        let crowd = match drawn.positions.len() {
            ..=200 => 1.0,
            201..=2000 => 0.8,
            _ => 0.6,
        };
        base * crowd * self.sizes.unit
    }

    fn markers(&mut self, drawn: &Drawn<'_>, hover: bool) {
        let radius = self.radius(drawn);
        let shape = MarkerShape::new(&drawn.look, radius);
        let inside = |index: &usize| {
            let (x, y) = drawn.positions[*index];
            self.plot.contains(x, y)
        };
        let cell = if drawn.positions.len() > CROWDED { radius } else { 0.5 };
        let kept: Vec<usize> = simplify::cells(&drawn.positions, cell).into_iter().filter(inside).collect();
        self.svg.raw(format_args!(
            "<g class=\"mark f{}\" stroke-width=\"{}\">\n",
            class_suffix(&drawn.look),
            Num(0.8 * self.sizes.unit)
        ));
        let points = drawn.series.marks.points();
        if hover {
            for &index in &kept {
                let text = self.hover_text(drawn.series, &points[index]);
                let path = shape.at(drawn.positions[index]);
                self.svg.raw(format_args!("<path d=\"{path}\"><title>{}</title></path>\n", Escaped(&text)));
            }
        } else {
            // Renderers take a path of many thousand markers slowly, and one of a hundred not faster than one by one.
            for chunk in kept.chunks(100) {
                let path: String = chunk.iter().map(|&index| shape.at(drawn.positions[index])).collect();
                self.svg.raw(format_args!("<path d=\"{path}\"/>\n"));
            }
        }
        self.svg.raw(format_args!("</g>\n"));
        if self.has_labels() {
            for index in kept {
                let (x, y) = drawn.positions[index];
                self.placer.avoid(Rect::around(x, y, radius));
            }
        }
    }

    fn hover_text(&self, series: &Series, point: &Point) -> String {
        let values = || {
            let value = |axis: &Axis, value: f64| format!("{}: {}", axis.heading(), value_text(value, 4));
            format!("{}\n{}", value(&self.xy.x, point.x), value(&self.xy.y, point.y))
        };
        let text = if point.hover.is_empty() { values() } else { point.hover.clone() };
        if series.label.is_empty() { text } else { format!("{}\n{text}", series.label) }
    }

    /// Labels of limits, then of points; true where all found a place.
    fn labels(&mut self, drawn: &[Drawn<'_>]) -> bool {
        self.limit_labels();
        let style = TextStyle::new(self.sizes.small).class("halo");
        let most = 170.0 * self.sizes.unit;
        let mut missed = 0;
        let mut complete = true;
        // The strong first: they are drawn last.
        for drawn in drawn.iter().rev().filter(|drawn| drawn.series.emphasis != Emphasis::Muted) {
            let radius = self.radius(drawn);
            for (point, at) in drawn.series.marks.points().iter().zip(&drawn.positions) {
                if point.label.is_empty() || !self.plot.contains(at.0, at.1) {
                    continue;
                }
                if missed >= MOST_MISSES {
                    return false;
                }
                let shown = text::truncated(&point.label, style.size, Weight::Regular, most);
                let size = (text::width(&shown, style.size, Weight::Regular) + 2.0, 1.2 * style.size);
                let Some(Placement { area, leader }) = self.placer.place(*at, radius, size) else {
                    complete = false;
                    missed += 1;
                    continue;
                };
                let middle = (f64::midpoint(area.left, area.right), f64::midpoint(area.top, area.bottom));
                if leader {
                    let end = (at.0.clamp(area.left, area.right), at.1.clamp(area.top, area.bottom));
                    let length = (end.0 - at.0).hypot(end.1 - at.1).max(1.0);
                    let start = (
                        at.0 + (end.0 - at.0) * (radius + 1.0) / length,
                        at.1 + (end.1 - at.1) * (radius + 1.0) / length,
                    );
                    self.svg.line("leader", start, end);
                }
                self.svg.text(middle, style.anchor("middle"), &shown, &point.label);
            }
        }
        complete
    }

    fn limit_labels(&mut self) {
        let (plot, size, x_scale, y_scale) = (self.plot, self.sizes.small, self.x, self.y);
        let style = TextStyle::new(size).class("halo").anchor("middle");
        let thick = 1.3 * size;
        for limit in self.xy.y.limits.iter().filter(|limit| y_scale.contains(limit.value)) {
            let y = plot.bottom - y_scale.fraction(limit.value) * plot.height();
            let shown = text::truncated(&limit.label, size, Weight::Regular, 0.9 * plot.width());
            let long = text::width(&shown, size, Weight::Regular) + 6.0;
            let at = |step: usize, top: f64| {
                let right = plot.right - 2.0 - (plot.width() - long - 4.0).max(0.0) * step as f64 / 12.0;
                Rect { left: right - long, top, right, bottom: top + thick }
            };
            let candidates = (0..=12).flat_map(|step| [at(step, y - thick - 1.0), at(step, y + 1.0)]);
            if let Some(middle) = self.limit_place(candidates) {
                self.svg.text(middle, style, &shown, &limit.label);
            }
        }
        for limit in self.xy.x.limits.iter().filter(|limit| x_scale.contains(limit.value)) {
            let x = plot.left + x_scale.fraction(limit.value) * plot.width();
            let shown = text::truncated(&limit.label, size, Weight::Regular, 0.9 * plot.height());
            let long = text::width(&shown, size, Weight::Regular) + 6.0;
            let at = |step: usize, left: f64| {
                let top = plot.top + 2.0 + (plot.height() - long - 4.0).max(0.0) * step as f64 / 12.0;
                Rect { left, top, right: left + thick, bottom: top + long }
            };
            let candidates = (0..=12).flat_map(|step| [at(step, x - thick - 1.0), at(step, x + 1.0)]);
            if let Some(middle) = self.limit_place(candidates) {
                self.svg.text(middle, style.upright(), &shown, &limit.label);
            }
        }
    }

    /// The middle of the place for a limit's label, which is drawn even where it covers marks.
    fn limit_place(&mut self, candidates: impl Iterator<Item = Rect> + Clone) -> Option<(f64, f64)> {
        let inside =
            |area: &Rect| self.plot.contains(area.left, area.top) && self.plot.contains(area.right, area.bottom);
        let fallback = candidates.clone().find(inside);
        let placed = self.placer.place_in(candidates.map(|area| Placement { area, leader: false }), f64::INFINITY);
        let area = placed.map(|placement| placement.area).or(fallback)?;
        Some((f64::midpoint(area.left, area.right), f64::midpoint(area.top, area.bottom)))
    }
}
