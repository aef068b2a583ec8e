//! Draws horizontal stacked bars.

use super::Theme;
use super::chart::{Bar, Bars, Chart, Emphasis, Limit, Segment, Side};
use super::labels::Rect;
use super::layout::{Entry, Sizes, Surroundings, Swatch, class_suffix};
use super::palette::Look;
use super::scale::{Scale, value_text};
use super::svg::{Escaped, Num, Svg, TextStyle};
use super::text::{self, Weight};
use super::xy::{horizontal_axis, horizontal_ticks};

/// The picture; a note on bars that find no room is added to the chart's.
pub(super) fn draw(chart: &Chart, bars: &Bars, width: f64, height: f64, theme: Theme) -> String {
    let sizes = Sizes::of(width, height);
    let mut chart = chart.clone();
    let most = ((0.6 * height) / (1.25 * sizes.body)).max(1.0) as usize;
    let shown = &bars.bars[..bars.bars.len().min(most)];
    if shown.len() < bars.bars.len() {
        chart.notes.push(format!("{} more bars find no room in this picture.", bars.bars.len() - shown.len()));
    }

    let longest = bars.bars.iter().map(length).fold(0.0, f64::max);
    let scale = Scale::of(&bars.axis, Some((0.0, longest)));
    for limit in bars.axis.limits.iter().filter(|limit| !scale.contains(limit.value)) {
        chart.notes.push(format!("The limit {} lies outside the axis.", limit.label));
    }
    let names = part_names(bars);
    let legend = names.iter().map(|(name, look)| Entry::new((*name).to_owned(), Swatch::Area(*look))).collect();
    let label_width = shown
        .iter()
        .flat_map(|bar| [(&bar.label, sizes.body), (&bar.detail, sizes.small)])
        .map(|(label, size)| text::width(label, size, Weight::Regular))
        .fold(0.0, f64::max)
        .min(0.3 * width);
    let surroundings = Surroundings {
        width,
        height,
        sizes,
        chart: &chart,
        legend,
        x_axis: Some(&bars.axis),
        y_axis: None,
        left_width: &|_| label_width,
    };
    let mut frame = surroundings.arrange();
    // The labels of limits stand above the bars.
    let limits = limit_rows(bars, &scale, frame.plot, &sizes);
    frame.plot.top += limits.iter().map(|(_, row)| row + 1).max().unwrap_or(0) as f64 * 1.4 * sizes.small;
    let plot = frame.plot;
    let mut svg = Svg::new(width, height, theme, &chart.title);
    surroundings.draw(&mut svg, &frame);

    let position = |value: f64| plot.left + scale.fraction(value) * plot.width();
    for (limit, _) in &limits {
        let x = position(limit.value);
        let (left, right) = if limit.fails == Side::Above { (x, plot.right) } else { (plot.left, x) };
        svg.rect("shade", left, plot.top, right - left, plot.height());
    }
    let ticks = horizontal_ticks(&scale, plot, &sizes);
    for (value, _) in &ticks.major {
        svg.line("grid", (position(*value), plot.top), (position(*value), plot.bottom));
    }

    let row = plot.height() / shown.len().max(1) as f64;
    let thickness = (0.68 * row).min(44.0 * sizes.unit);
    for (index, bar) in shown.iter().enumerate() {
        let middle = plot.top + (index as f64 + 0.5) * row;
        let mut start = 0.0;
        for segment in &bar.segments {
            let (left, right) = (position(start), position(start + segment.value));
            start += segment.value;
            let look = names.iter().find(|(name, _)| *name == segment.label).map_or(Look::muted(), |(_, look)| *look);
            let area = Rect { left, top: middle - thickness / 2.0, right, bottom: middle + thickness / 2.0 };
            draw_segment(&mut svg, segment, &look, area, &bars.axis.unit, &sizes);
        }
        let style = TextStyle::new(sizes.body).anchor("end");
        let x = plot.left - 8.0 * sizes.unit;
        if bar.detail.is_empty() || row < 2.6 * sizes.body {
            svg.text_within((x, middle), style, &bar.label, label_width);
        } else {
            let small = TextStyle { size: sizes.small, ..style }.class("faint");
            svg.text_within((x, middle - 0.65 * sizes.body), style, &bar.label, label_width);
            svg.text_within((x, middle + 0.65 * sizes.body), small, &bar.detail, label_width);
        }
    }

    for (limit, row) in &limits {
        let at = position(limit.value);
        let y = plot.top - (*row as f64 + 0.5) * 1.4 * sizes.small;
        svg.line("limit", (at, plot.bottom), (at, y - 0.6 * sizes.small));
        let style = TextStyle::new(sizes.small).anchor("end");
        svg.text_within((at - 5.0, y), style, &limit.label, at - 10.0);
    }
    horizontal_axis(&mut svg, &scale, &ticks, plot, &sizes);
    svg.line("axis", (plot.left, plot.top), (plot.left, plot.bottom));
    svg.finish()
}

fn length(bar: &Bar) -> f64 {
    bar.segments.iter().map(|segment| segment.value).sum()
}

/// The distinct parts in order of appearance, each with its look.
fn part_names(bars: &Bars) -> Vec<(&str, Look)> {
    let mut names: Vec<(&str, Look)> = Vec::new();
    let mut plain = 0;
    for segment in bars.bars.iter().flat_map(|bar| &bar.segments) {
        if names.iter().any(|(name, _)| *name == segment.label) {
            continue;
        }
        let look = if segment.emphasis == Emphasis::Muted {
            Look::muted()
        } else {
            plain += 1;
            Look::of(plain - 1, None)
        };
        names.push((&segment.label, look));
    }
    // The muted are at the end of the legend, as they are at the end of a bar.
    names.sort_by_key(|(_, look)| look.colour.is_none());
    names
}

/// The limits within the axis in ascending order, and the row above the plot of each one's label. The label ends at its
/// line, so the lines of greater limits pass to the right of it.
fn limit_rows<'a>(bars: &'a Bars, scale: &Scale, plot: Rect, sizes: &Sizes) -> Vec<(&'a Limit, usize)> {
    let mut limits: Vec<&Limit> = bars.axis.limits.iter().filter(|limit| scale.contains(limit.value)).collect();
    limits.sort_by(|a, b| a.value.total_cmp(&b.value));
    let mut ends: Vec<f64> = Vec::new();
    let place = |limit: &'a Limit| {
        let right = plot.left + scale.fraction(limit.value) * plot.width();
        let left = right - text::width(&limit.label, sizes.small, Weight::Regular) - 12.0;
        let row = ends.iter().position(|end| *end <= left).unwrap_or(ends.len());
        ends.truncate(row);
        ends.push(right);
        (limit, row)
    };
    limits.into_iter().map(place).collect()
}

fn draw_segment(svg: &mut Svg, segment: &Segment, look: &Look, area: Rect, unit: &str, sizes: &Sizes) {
    let suffix = class_suffix(look);
    let value = value_text(segment.value, 4);
    svg.raw(format_args!(
        "<rect class=\"mark f{suffix}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}: {} {}</title></rect>\n",
        Num(area.left),
        Num(area.top),
        Num(area.width().max(0.0)),
        Num(area.height()),
        Escaped(&segment.label),
        Escaped(&value),
        Escaped(unit)
    ));
    let style = TextStyle::new(sizes.small).anchor("middle");
    let short = value_text(segment.value, 3);
    let fits = text::width(&short, style.size, Weight::Regular) + 6.0 <= area.width();
    if fits && 1.3 * style.size <= area.height() {
        let middle = (f64::midpoint(area.left, area.right), f64::midpoint(area.top, area.bottom));
        svg.text(middle, style.class(&format!("t{suffix}")), &short, &short);
    }
}
