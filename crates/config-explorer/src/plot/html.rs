//! One HTML file with the chart as data, a small build of Apache `ECharts`, and the page's own script.

use serde::Serialize;

use super::Theme;
use super::chart::{Chart, Content};
use super::palette::{Colours, DARK, LIGHT, Look};
use super::svg::Escaped;
use super::text::without_common_start;
use super::xy;

/// What a picture without data says.
pub(super) const NOTHING: &str = "There is nothing to draw.";

/// Characters of a name that the page's legend has room for.
const LONG_NAME: usize = 32;

const PAGE: &str = include_str!("../../assets/chart-page/page.html");
const SCRIPT: &str = include_str!("../../assets/chart-page/page.js");
/// Apache `ECharts`; `package.json` beside it says how it was made.
const ECHARTS: &str = include_str!("../../assets/echarts/echarts.min.js");

/// What the page's script reads.
#[derive(Serialize)]
struct PageData<'a> {
    chart: &'a Chart,
    /// One for each series.
    looks: Vec<PageLook>,
    light: Colours,
    dark: Colours,
    theme: &'static str,
    /// What to say in place of the chart, where there is nothing to draw.
    message: Option<&'static str>,
}

/// A [`Look`] in the terms of `ECharts`.
#[derive(Serialize)]
struct PageLook {
    colour: Option<usize>,
    dash: Vec<f64>,
    symbol: String,
    /// The series' name without the words with which all long names start.
    name: String,
}

impl PageLook {
    fn new(look: Look, name: String) -> Self {
        let outline = look.marker.outline(10.0);
        let corners: Vec<String> = outline.iter().map(|(x, y)| format!("{x:.2},{y:.2}")).collect();
        Self {
            colour: look.colour,
            dash: look.dash.split(' ').filter_map(|length| length.parse().ok()).collect(),
            symbol: if corners.is_empty() { "circle".to_owned() } else { format!("path://M{}Z", corners.join("L")) },
            name,
        }
    }
}

/// The page of a chart whose numbers can all be drawn.
pub(super) fn page(chart: &Chart, theme: Theme) -> String {
    let looks = match &chart.content {
        Content::Xy(xy) => {
            let labels: Vec<&str> = xy.series.iter().map(|series| series.label.as_str()).collect();
            let long = labels.iter().any(|label| label.chars().count() > LONG_NAME);
            let names =
                if long { without_common_start(&labels) } else { labels.into_iter().map(str::to_owned).collect() };
            xy::looks(&xy.series).into_iter().zip(names).map(|(look, name)| PageLook::new(look, name)).collect()
        }
        Content::Bars(_) => Vec::new(),
    };
    let theme = match theme {
        Theme::Auto => "auto",
        Theme::Light => "light",
        Theme::Dark => "dark",
    };
    let data = PageData { chart, looks, light: LIGHT, dark: DARK, theme, message: chart.is_empty().then_some(NOTHING) };
    // Serialising numbers and text cannot fail; the page says so if it ever did.
    let data = serde_json::to_string(&data).unwrap_or_default();
    fill(
        PAGE,
        &[
            ("title", &Escaped(&chart.title).to_string()),
            ("data", &script_safe(&data)),
            ("echarts", ECHARTS),
            ("script", SCRIPT),
        ],
    )
}

/// JSON that can stand inside a `<script>` element of any encoding: nothing in it ends the element or starts a comment,
/// and all of it is ASCII.
fn script_safe(json: &str) -> String {
    let mut safe = String::with_capacity(json.len() + json.len() / 16);
    for character in json.chars() {
        match character {
            '<' | '>' | '&' => safe.push_str(&format!("\\u{:04x}", u32::from(character))),
            ' '..='~' => safe.push(character),
            _ => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    safe.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    safe
}

/// The template with each `{{name}}` replaced once; what is put in is not searched again.
fn fill(template: &str, parts: &[(&str, &str)]) -> String {
    let mut page = String::with_capacity(template.len() + parts.iter().map(|(_, part)| part.len()).sum::<usize>());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        if let Some((_, part)) = parts.iter().find(|(known, _)| *known == name) {
            page.push_str(part);
        }
        rest = after;
    }
    page + rest
}
