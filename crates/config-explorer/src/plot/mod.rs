//! Pictures of measured and planned configurations.
//!
//! In: a [`Chart`], which says what is shown and nothing about how it is drawn. The functions of [`charts`] make one for
//! each question: how a metric follows the load ([`scenario`]), what one metric costs in another ([`tradeoff`]), which
//! configurations nothing beats ([`pareto`]), how values spread ([`histogram`]), what fills the memory ([`memory`]), how
//! an estimated latency follows the load ([`load_curve`]), what a simulation found ([`latency_cdf`],
//! [`simulation_timeline`], [`latency_by_rate`]); [`picture`] and [`plans`] make them from runs and memory plans.
//! Out: SVG, PNG, or one HTML file that needs nothing else and lets the reader hover, zoom and choose ([`Chart::render`]).
//!
//! The SVG is written here, with a layout of our own: no crate looked at places point labels without overlap, cuts long
//! legends, and keeps sub-pixel curves. The PNG is drawn from it by resvg with an embedded font. The HTML carries a
//! small build of Apache `ECharts` (`assets/echarts`).

mod bars;
mod chart;
pub mod charts;
mod html;
mod labels;
mod layout;
mod load_curve;
mod palette;
mod plans;
mod png;
mod runs;
mod scale;
mod simplify;
mod simulation;
mod svg;
mod text;
mod xy;

use std::path::Path;

pub use chart::{
    Axis, Bar, Bars, Bin, Chart, Content, Emphasis, Limit, Marks, Point, ScaleKind, Segment, Series, Side, Xy,
};
pub use charts::{histogram, memory, pareto, scenario, tradeoff};
pub use load_curve::{Against, Latency, load_curve};
pub use plans::plans;
pub use runs::{Choice, Picture, picture};
pub use simulation::{latency_by_rate, latency_cdf, simulation_timeline};

use crate::{Error, Result};

/// The kinds of file a chart can be written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Vector graphics.
    Svg,
    /// Pixels.
    Png,
    /// An interactive page in one file.
    Html,
}

impl Format {
    /// The format that a file's name asks for.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for any ending but `.svg`, `.png`, `.html` and `.htm`.
    pub fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        match extension.as_str() {
            "svg" => Ok(Self::Svg),
            "png" => Ok(Self::Png),
            "html" | "htm" => Ok(Self::Html),
            _ => Err(Error::InvalidSetting {
                setting: "--out".to_owned(),
                reason: format!("`{}` must end in .svg, .png or .html", path.display()),
            }),
        }
    }
}

/// Light or dark colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    /// What the reader's screen is set to; light in a PNG, which cannot know.
    #[default]
    Auto,
    /// Dark on white.
    Light,
    /// Light on black.
    Dark,
}

/// Size and colours of a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Appearance {
    /// Width in pixels; 240 to 8,000. An HTML page takes the width of its window.
    pub width: u32,
    /// Height in pixels; 160 to 8,000. An HTML page takes the height of its window.
    pub height: u32,
    /// Pixels of a PNG for each of these pixels; 0.5 to 4.
    pub scale: f32,
    /// Colours.
    pub theme: Theme,
}

impl Default for Appearance {
    fn default() -> Self {
        Self { width: 960, height: 600, scale: 2.0, theme: Theme::Auto }
    }
}

impl Appearance {
    fn check(&self) -> Result<()> {
        let reject = |setting: &str, reason: String| Err(Error::InvalidSetting { setting: setting.to_owned(), reason });
        if !(240..=8000).contains(&self.width) {
            return reject("width", format!("{} is not in 240..=8000 pixels", self.width));
        }
        if !(160..=8000).contains(&self.height) {
            return reject("height", format!("{} is not in 160..=8000 pixels", self.height));
        }
        if !(0.5..=4.0).contains(&self.scale) {
            return reject("scale", format!("{} is not in 0.5..=4", self.scale));
        }
        Ok(())
    }
}

impl Chart {
    /// The chart as a file of this format. The same chart gives the same bytes. A chart without data gives a picture that
    /// says so.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for a size out of range.
    pub fn render(&self, format: Format, appearance: &Appearance) -> Result<Vec<u8>> {
        appearance.check()?;
        match format {
            Format::Svg => Ok(self.svg(appearance, appearance.theme).into_bytes()),
            Format::Png => {
                let theme = if appearance.theme == Theme::Auto { Theme::Light } else { appearance.theme };
                png::from_svg(&self.svg(appearance, theme), appearance.width, appearance.height, appearance.scale)
            }
            Format::Html => Ok(html::page(&self.without_unusable(), appearance.theme).into_bytes()),
        }
    }

    fn svg(&self, appearance: &Appearance, theme: Theme) -> String {
        let (width, height) = (f64::from(appearance.width), f64::from(appearance.height));
        let chart = self.without_unusable().without_negative_on_log();
        if chart.is_empty() {
            return layout::message(&chart, html::NOTHING, width, height, theme);
        }
        match &chart.content {
            Content::Xy(xy) => xy::draw(&chart, xy, width, height, theme),
            Content::Bars(bars) => bars::draw(&chart, bars, width, height, theme),
        }
    }
}
