//! Where headings, legend, axes and notes go, and how much is left for the plot. The legend goes beside the plot or
//! beneath it, whichever leaves more.

use super::chart::{Axis, Chart};
use super::labels::Rect;
use super::palette::Look;
use super::svg::{Num, Svg, TextStyle};
use super::text::{self, Weight, without_common_start};

/// Sizes that grow with the picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// 1 at 960 x 600 pixels.
    pub(super) unit: f64,
    pub(super) title: f64,
    pub(super) subtitle: f64,
    pub(super) body: f64,
    pub(super) small: f64,
    pub(super) row: f64,
}

impl Sizes {
    pub(super) fn of(width: f64, height: f64) -> Self {
        let unit = (width * height / (960.0 * 600.0)).sqrt().clamp(0.84, 2.0);
        Self {
            unit,
            title: 17.0 * unit,
            subtitle: 13.0 * unit,
            body: 12.5 * unit,
            small: 11.0 * unit,
            row: 18.5 * unit,
        }
    }
}

/// The sample before a legend entry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Swatch {
    Line { look: Look, markers: bool, strong: bool },
    Marker(Look),
    Area(Look),
}

/// A line of the legend; without a swatch it is a heading.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    text: String,
    full: String,
    swatch: Option<Swatch>,
}

impl Entry {
    pub(super) fn new(text: String, swatch: Swatch) -> Self {
        Self { full: text.clone(), text, swatch: Some(swatch) }
    }

    pub(super) fn heading(text: String) -> Self {
        Self { full: text.clone(), text, swatch: None }
    }

    fn width(&self, size: f64) -> f64 {
        text::width(&self.text, size, if self.swatch.is_some() { Weight::Regular } else { Weight::SemiBold })
    }
}

/// What surrounds the plot.
pub(super) struct Surroundings<'a> {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) sizes: Sizes,
    pub(super) chart: &'a Chart,
    pub(super) legend: Vec<Entry>,
    pub(super) x_axis: Option<&'a Axis>,
    pub(super) y_axis: Option<&'a Axis>,
    /// Width of what is written left of a plot of a given height.
    pub(super) left_width: &'a dyn Fn(f64) -> f64,
}

/// The result: the plot's place, and the legend's.
pub(super) struct Frame {
    pub(super) plot: Rect,
    legend: Vec<(f64, f64, Entry)>,
    legend_text_width: f64,
}

/// What the legend costs in one of its two places.
struct Choice {
    frame: Frame,
    worth: f64,
}

const MOST_NOTE_LINES: usize = 4;

impl Surroundings<'_> {
    fn margin(&self) -> f64 {
        16.0 * self.sizes.unit
    }

    fn title_lines(&self) -> Vec<String> {
        let room = self.width - 2.0 * self.margin();
        text::wrapped(&self.chart.title, self.sizes.title, Weight::SemiBold, room, 2)
    }

    fn subtitle_lines(&self) -> Vec<String> {
        let room = self.width - 2.0 * self.margin();
        text::wrapped(&self.chart.subtitle, self.sizes.subtitle, Weight::Regular, room, 2)
    }

    fn note_lines(&self) -> Vec<String> {
        let room = self.width - 2.0 * self.margin();
        let wrap = |note: &String| text::wrapped(note, self.sizes.small, Weight::Regular, room, 2);
        let mut lines: Vec<String> = self.chart.notes.iter().flat_map(wrap).collect();
        if lines.len() > MOST_NOTE_LINES {
            lines.truncate(MOST_NOTE_LINES - 1);
            lines.push(format!("{} notes in all.", self.chart.notes.len()));
        }
        lines
    }

    fn headings_height(&self) -> f64 {
        let sizes = &self.sizes;
        self.title_lines().len() as f64 * 1.3 * sizes.title
            + self.subtitle_lines().len() as f64 * 1.4 * sizes.subtitle
            + 10.0 * sizes.unit
    }

    fn notes_height(&self) -> f64 {
        let lines = self.note_lines().len() as f64;
        if lines > 0.0 { lines * 1.4 * self.sizes.small + 6.0 * self.sizes.unit } else { 0.0 }
    }

    /// Tick labels and heading of the horizontal axis.
    fn x_axis_height(&self) -> f64 {
        if self.x_axis.is_some() { 3.3 * self.sizes.body } else { 0.0 }
    }

    /// Height of a legend's row where there are many.
    fn least_row(&self) -> f64 {
        1.2 * self.sizes.body
    }

    fn swatch_width(&self) -> f64 {
        30.0 * self.sizes.unit
    }

    fn plot(&self, beside: f64, beneath: f64) -> Rect {
        let top = self.margin() + self.headings_height();
        let bottom = self.height - 0.8 * self.margin() - self.notes_height() - beneath - self.x_axis_height();
        // A picture too small for all its text still has a plot.
        let bottom = bottom.max(top + 20.0);
        let heading = if self.y_axis.is_some() { 1.7 * self.sizes.body } else { 0.0 };
        let left = self.margin() + heading + (self.left_width)(bottom - top) + 8.0 * self.sizes.unit;
        let right = self.width - 1.2 * self.margin() - beside;
        Rect { left, top, right: right.max(left + 20.0), bottom }
    }

    pub(super) fn arrange(&self) -> Frame {
        if self.legend.is_empty() {
            return Frame { plot: self.plot(0.0, 0.0), legend: Vec::new(), legend_text_width: 0.0 };
        }
        let widest =
            |legend: &[Entry]| legend.iter().map(|entry| entry.width(self.sizes.body)).fold(0.0, f64::max).ceil();
        let mut legend = self.legend.clone();
        if widest(&legend) > 0.3 * self.width {
            let mut entries: Vec<&mut Entry> = legend.iter_mut().filter(|entry| entry.swatch.is_some()).collect();
            let names: Vec<&str> = entries.iter().map(|entry| entry.full.as_str()).collect();
            let shorter = without_common_start(&names);
            for (entry, text) in entries.iter_mut().zip(shorter) {
                entry.text = text;
            }
        }
        let widest = widest(&legend);
        let beside = self.beside(&legend, widest);
        let beneath = self.beneath(&legend, widest);
        if beside.worth >= beneath.worth { beside.frame } else { beneath.frame }
    }

    fn beside(&self, legend: &[Entry], widest: f64) -> Choice {
        let gap = 14.0 * self.sizes.unit;
        let text_width = widest.min(0.36 * self.width - self.swatch_width());
        let plot = self.plot(gap + self.swatch_width() + text_width, 0.0);
        // A long legend goes on beside the axis' heading.
        let room = self.height - 0.8 * self.margin() - self.notes_height() - plot.top;
        let entries = shortened(legend.to_vec(), (room / self.least_row()).max(1.0) as usize);
        let row_height = (room / entries.len() as f64).min(self.sizes.row);
        let legend = entries
            .into_iter()
            .enumerate()
            .map(|(row, entry)| (plot.right + gap, plot.top + (row as f64 + 0.5) * row_height, entry))
            .collect();
        self.choice(plot, legend, text_width, widest)
    }

    fn beneath(&self, legend: &[Entry], widest: f64) -> Choice {
        let gap = 18.0 * self.sizes.unit;
        let room = self.width - 2.0 * self.margin();
        let text_width = widest.min(room - self.swatch_width());
        let column_width = self.swatch_width() + text_width + gap;
        let columns = (((room + gap) / column_width).floor().max(1.0) as usize).min(legend.len());
        let room = 0.42 * self.height;
        let most_rows = (room / self.least_row()).max(1.0) as usize;
        let entries = shortened(legend.to_vec(), columns * most_rows);
        let rows = entries.len().div_ceil(columns);
        // Rows of a long legend stand closer, to leave more for the plot.
        let row_height = (0.3 * self.height / rows as f64).clamp(self.least_row(), self.sizes.row);
        let plot = self.plot(0.0, rows as f64 * row_height + 6.0 * self.sizes.unit);
        let top = plot.bottom + self.x_axis_height() + 6.0 * self.sizes.unit;
        let legend = entries
            .into_iter()
            .enumerate()
            .map(|(index, entry)| {
                let (column, row) = (index / rows, index % rows);
                let x = self.margin() + column as f64 * column_width;
                (x, top + (row as f64 + 0.5) * row_height, entry)
            })
            .collect();
        self.choice(plot, legend, text_width, widest)
    }

    fn choice(&self, plot: Rect, legend: Vec<(f64, f64, Entry)>, text_width: f64, widest: f64) -> Choice {
        let cut = if text_width < widest { 0.75 } else { 1.0 };
        let dropped = if legend.len() < self.legend.len() { 0.6 } else { 1.0 };
        // Narrow plots are worse than low ones of the same area.
        let shape = if plot.width() < 1.1 * plot.height() { 0.8 } else { 1.0 };
        Choice {
            worth: plot.width() * plot.height() * cut * dropped * shape,
            frame: Frame { plot, legend, legend_text_width: text_width },
        }
    }

    /// Draws everything but the plot.
    pub(super) fn draw(&self, svg: &mut Svg, frame: &Frame) {
        let sizes = &self.sizes;
        let mut y = self.margin();
        let lines = [
            (self.title_lines(), &self.chart.title, TextStyle::new(sizes.title).semi_bold(), 1.3),
            (self.subtitle_lines(), &self.chart.subtitle, TextStyle::new(sizes.subtitle).class("faint"), 1.4),
        ];
        for (lines, full, style, line_height) in lines {
            for line in lines {
                let hover = if line.ends_with('…') { full } else { &line };
                svg.text((self.margin(), y + 0.5 * line_height * style.size), style, &line, hover);
                y += line_height * style.size;
            }
        }

        let plot = frame.plot;
        let style = TextStyle::new(sizes.body).anchor("middle").class("faint");
        if let Some(axis) = self.x_axis {
            // The heading may be wider than the plot, but not than the picture.
            let middle = f64::midpoint(plot.left, plot.right);
            let room = 2.0 * (middle.min(self.width - middle) - 4.0);
            svg.text_within((middle, plot.bottom + 2.5 * sizes.body), style, &heading(axis, style, room), room);
        }
        if let Some(axis) = self.y_axis {
            let at = (self.margin() + 0.5 * sizes.body, f64::midpoint(plot.top, plot.bottom));
            let room = plot.height() + 8.0 * sizes.unit;
            svg.text_within(at, style.upright(), &heading(axis, style, room), room);
        }

        for (x, y, entry) in &frame.legend {
            let style = TextStyle::new(sizes.body);
            if let Some(swatch) = entry.swatch {
                draw_swatch(svg, swatch, (*x, *y), sizes.unit);
                let shown = text::truncated(&entry.text, style.size, style.weight, frame.legend_text_width);
                svg.text((x + self.swatch_width(), *y), style, &shown, &entry.full);
            } else {
                let room = frame.legend_text_width + self.swatch_width();
                svg.text_within((*x, *y), style.semi_bold(), &entry.text, room);
            }
        }

        let notes = self.note_lines();
        let line_height = 1.4 * sizes.small;
        let mut y = self.height - 0.7 * self.margin() - notes.len() as f64 * line_height;
        for line in &notes {
            svg.text((self.margin(), y + 0.5 * line_height), TextStyle::new(sizes.small).class("faint"), line, line);
            y += line_height;
        }
    }
}

/// Label and unit of an axis, and the hint where there is room for it.
fn heading(axis: &Axis, style: TextStyle<'_>, room: f64) -> String {
    let short = axis.heading();
    let long = format!("{short}, {}", axis.hint);
    if axis.hint.is_empty() || text::width(&long, style.size, style.weight) > room { short } else { long }
}

/// The first entries, with a last one that says how many are missing.
fn shortened(mut entries: Vec<Entry>, most: usize) -> Vec<Entry> {
    if entries.len() > most {
        let dropped = entries.split_off(most - 1);
        let named = dropped.iter().filter(|entry| entry.swatch.is_some()).count();
        entries.push(Entry::heading(format!("and {named} more")));
    }
    entries
}

fn draw_swatch(svg: &mut Svg, swatch: Swatch, (x, y): (f64, f64), unit: f64) {
    let centre = (x + 11.0 * unit, y);
    match swatch {
        Swatch::Line { look, markers, strong } => {
            line_group(svg, &look, strong, unit);
            svg.raw(format_args!("<path d=\"M{} {}h{}\"/></g>\n", Num(x), Num(y), Num(22.0 * unit)));
            if markers {
                single_marker(svg, &look, centre, unit);
            }
        }
        Swatch::Marker(look) => single_marker(svg, &look, centre, unit),
        Swatch::Area(look) => {
            let side = 12.0 * unit;
            svg.rect(&format!("f{}", class_suffix(&look)), centre.0 - side / 2.0, y - side / 2.0, side, side);
        }
    }
}

fn single_marker(svg: &mut Svg, look: &Look, centre: (f64, f64), unit: f64) {
    let shape = MarkerShape::new(look, 3.8 * unit);
    svg.raw(format_args!("<path class=\"mark f{}\" d=\"{}\"/>\n", class_suffix(look), shape.at(centre)));
}

/// The end of a look's class names: `0` to `6`, or `m` for muted.
pub(super) fn class_suffix(look: &Look) -> String {
    look.colour.map_or_else(|| "m".to_owned(), |colour| colour.to_string())
}

/// Opens a group of lines of one look.
pub(super) fn line_group(svg: &mut Svg, look: &Look, strong: bool, unit: f64) {
    let width = if strong { 3.0 } else { 1.9 } * unit;
    svg.raw(format_args!("<g class=\"line l{}\" stroke-width=\"{}\"", class_suffix(look), Num(width)));
    if !look.dash.is_empty() {
        svg.raw(format_args!(" stroke-dasharray=\"{}\" stroke-linecap=\"butt\"", look.dash));
    }
    svg.raw(format_args!(">"));
}

/// A marker's path, written once and moved about.
pub(super) struct MarkerShape {
    start: (f64, f64),
    rest: String,
}

impl MarkerShape {
    pub(super) fn new(look: &Look, radius: f64) -> Self {
        let outline = look.marker.outline(radius);
        let Some(start) = outline.first().copied() else {
            let (r, d) = (Num(radius), Num(2.0 * radius));
            return Self { start: (-radius, 0.0), rest: format!("a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0z") };
        };
        let mut rest = String::from("l");
        for pair in outline.windows(2) {
            let separator = if rest.len() > 1 { " " } else { "" };
            rest += &format!("{separator}{} {}", Num(pair[1].0 - pair[0].0), Num(pair[1].1 - pair[0].1));
        }
        Self { start, rest: rest + "z" }
    }

    pub(super) fn at(&self, (x, y): (f64, f64)) -> String {
        format!("M{} {}{}", Num(x + self.start.0), Num(y + self.start.1), self.rest)
    }
}

/// A picture of headings, one sentence and the notes.
pub(super) fn message(chart: &Chart, sentence: &str, width: f64, height: f64, theme: super::Theme) -> String {
    let sizes = Sizes::of(width, height);
    let surroundings = Surroundings {
        width,
        height,
        sizes,
        chart,
        legend: Vec::new(),
        x_axis: None,
        y_axis: None,
        left_width: &|_| 0.0,
    };
    let frame = surroundings.arrange();
    let mut svg = Svg::new(width, height, theme, &chart.title);
    surroundings.draw(&mut svg, &frame);
    let middle = (width / 2.0, f64::midpoint(frame.plot.top, frame.plot.bottom));
    svg.text(middle, TextStyle::new(sizes.title).anchor("middle").class("faint"), sentence, sentence);
    svg.finish()
}
