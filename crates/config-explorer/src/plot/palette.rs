//! Colours, markers and dashes. The colours are those of Okabe and Ito, "Color Universal Design" (2008), which people
//! with any colour vision tell apart, without the yellow (too faint on white); those of the dark theme are the same hues,
//! lighter.

use serde::Serialize;

/// Colours of one theme, as `#rrggbb`.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Colours {
    pub(super) background: &'static str,
    pub(super) text: &'static str,
    pub(super) faint_text: &'static str,
    pub(super) axis: &'static str,
    pub(super) grid: &'static str,
    pub(super) minor_grid: &'static str,
    /// Muted marks.
    pub(super) muted: &'static str,
    /// The failing side of a limit.
    pub(super) shade: &'static str,
    pub(super) series: [&'static str; COLOUR_COUNT],
    /// Text that is legible on the colour of the same index.
    pub(super) on_series: [&'static str; COLOUR_COUNT],
}

pub(super) const COLOUR_COUNT: usize = 7;

pub(super) const LIGHT: Colours = Colours {
    background: "#ffffff",
    text: "#1f2328",
    faint_text: "#59636e",
    axis: "#8c959f",
    grid: "#e1e4e8",
    minor_grid: "#f0f2f4",
    muted: "#b4bbc3",
    shade: "#f3f4f6",
    series: ["#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#3d3d3d"],
    on_series: ["#ffffff", "#1f2328", "#1f2328", "#1f2328", "#1f2328", "#1f2328", "#ffffff"],
};

pub(super) const DARK: Colours = Colours {
    background: "#14171c",
    text: "#e6edf3",
    faint_text: "#9aa4af",
    axis: "#6b7480",
    grid: "#2a2f37",
    minor_grid: "#1e2228",
    muted: "#59616b",
    shade: "#1b1f25",
    series: ["#3d9be0", "#f47b36", "#1fbf92", "#f0b429", "#e08fbd", "#9ad4f5", "#d0d4da"],
    on_series: ["#14171c"; COLOUR_COUNT],
};

/// Dash patterns in pixels: of the first seven series, of the next seven, and so on, or of each group.
pub(super) const DASHES: [&str; 4] = ["", "7 4", "2 3.5", "10 3.5 2 3.5"];

/// Marker shapes. Their number has no common factor with [`COLOUR_COUNT`], so that 56 series differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    TriangleDown,
    Plus,
    Cross,
    Pentagon,
}

const MARKERS: [Marker; 8] = [
    Marker::Circle,
    Marker::Square,
    Marker::Triangle,
    Marker::Diamond,
    Marker::TriangleDown,
    Marker::Plus,
    Marker::Cross,
    Marker::Pentagon,
];

/// How the series of one index looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Index into [`Colours::series`]; `None` for muted.
    pub(super) colour: Option<usize>,
    pub(super) dash: &'static str,
    pub(super) marker: Marker,
}

impl Look {
    /// Of the `index`th series that is not muted; `group` counts the groups, where there are any.
    pub(super) fn of(index: usize, group: Option<usize>) -> Self {
        Self {
            colour: Some(index % COLOUR_COUNT),
            dash: DASHES[group.unwrap_or(index / COLOUR_COUNT) % DASHES.len()],
            marker: MARKERS[index % MARKERS.len()],
        }
    }

    pub(super) fn muted() -> Self {
        Self { colour: None, dash: "", marker: Marker::Circle }
    }
}

impl Marker {
    /// A closed path around `0,0` with relative commands, of a shape that looks as large as a circle of this radius.
    pub(super) fn outline(self, radius: f64) -> Vec<(f64, f64)> {
        let polygon = |scale: f64, points: &[(f64, f64)]| {
            points.iter().map(|(x, y)| (x * radius * scale, y * radius * scale)).collect()
        };
        match self {
            Self::Circle => Vec::new(),
            Self::Square => polygon(0.9, &[(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]),
            Self::Triangle => polygon(1.25, &[(0.0, -1.0), (0.95, 0.7), (-0.95, 0.7)]),
            Self::TriangleDown => polygon(1.25, &[(0.0, 1.0), (-0.95, -0.7), (0.95, -0.7)]),
            Self::Diamond => polygon(1.3, &[(0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)]),
            Self::Plus => polygon(1.2, &PLUS),
            Self::Cross => {
                let turned = PLUS.map(|(x, y)| {
                    ((x - y) * std::f64::consts::FRAC_1_SQRT_2, (x + y) * std::f64::consts::FRAC_1_SQRT_2)
                });
                polygon(1.2, &turned)
            }
            Self::Pentagon => {
                polygon(1.15, &[(0.0, -1.0), (0.951, -0.309), (0.588, 0.809), (-0.588, 0.809), (-0.951, -0.309)])
            }
        }
    }
}

const PLUS: [(f64, f64); 12] = [
    (-0.36, -1.0),
    (0.36, -1.0),
    (0.36, -0.36),
    (1.0, -0.36),
    (1.0, 0.36),
    (0.36, 0.36),
    (0.36, 1.0),
    (-0.36, 1.0),
    (-0.36, 0.36),
    (-1.0, 0.36),
    (-1.0, -0.36),
    (-0.36, -0.36),
];
