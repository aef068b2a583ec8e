//! From values to positions, and the ticks between the ends.

use super::chart::{Axis, ScaleKind};

/// One axis with its ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    kind: ScaleKind,
    low: f64,
    high: f64,
}

/// Labelled ticks, and the values of the minor grid.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Ticks {
    pub(super) major: Vec<(f64, String)>,
    pub(super) minor: Vec<f64>,
}

/// Spans smaller than this part of their ends are one value: fewer digits than that are left to tell ticks apart.
const SMALLEST_SPAN: f64 = 1e-9;

impl Scale {
    /// The scale that holds `low..=high` (positive on a logarithmic axis), the axis' own range, and its limits where
    /// they lie near enough not to squeeze the data.
    pub(super) fn of(axis: &Axis, extent: Option<(f64, f64)>) -> Self {
        let kind = axis.scale;
        let (mut low, mut high) = extent.unwrap_or(match kind {
            ScaleKind::Linear => (0.0, 1.0),
            ScaleKind::Log => (1.0, 10.0),
        });
        if kind == ScaleKind::Linear {
            (low, high) = (low.min(0.0), high.max(0.0));
            // Values below 0 make 0 no better a start than any other.
            if low < 0.0 && high == 0.0 && extent.is_some_and(|(_, data_high)| data_high < 0.0) {
                high = 0.0;
            }
        }
        for limit in &axis.limits {
            let (wider_low, wider_high) = (low.min(limit.value), high.max(limit.value));
            if span(kind, wider_low, wider_high) <= 2.0 * span(kind, low, high) {
                (low, high) = (wider_low, wider_high);
            }
        }
        (low, high) = padded(kind, low, high);
        let range = axis.range();
        if let Some(min) = range.min.filter(|min| kind == ScaleKind::Linear || *min > 0.0) {
            low = min;
        }
        if let Some(max) = range.max.filter(|max| kind == ScaleKind::Linear || *max > 0.0) {
            high = max;
        }
        if low >= high {
            // One end is set and all data lie beyond it.
            let unit = low.abs().max(high.abs()).max(1.0);
            (low, high) = match (kind, range.min) {
                (ScaleKind::Linear, Some(_)) => (low, low + unit),
                (ScaleKind::Linear, None) => (high - unit, high),
                (ScaleKind::Log, Some(_)) => (low, low * 10.0),
                (ScaleKind::Log, None) => (high / 10.0, high),
            };
        }
        Self { kind, low, high }
    }

    /// Where a value lies between the ends: 0 at the lower, 1 at the upper.
    pub(super) fn fraction(&self, value: f64) -> f64 {
        match self.kind {
            ScaleKind::Linear => (value - self.low) / (self.high - self.low),
            ScaleKind::Log if value <= 0.0 => f64::NEG_INFINITY,
            ScaleKind::Log => (value.log10() - self.low.log10()) / (self.high.log10() - self.low.log10()),
        }
    }

    pub(super) fn contains(&self, value: f64) -> bool {
        let fraction = self.fraction(value);
        (-1e-9..=1.0 + 1e-9).contains(&fraction)
    }

    /// Round ticks, at most `most` (at least 2) of them.
    pub(super) fn ticks(&self, most: usize) -> Ticks {
        let most = most.max(2);
        match self.kind {
            ScaleKind::Linear => self.linear_ticks(most),
            ScaleKind::Log => self.log_ticks(most),
        }
    }

    fn linear_ticks(&self, most: usize) -> Ticks {
        let step = round_step((self.high - self.low) / most as f64);
        let multiples = |step: f64| {
            let first = (self.low / step - 1e-6).ceil();
            let count = ((self.high / step + 1e-6).floor() - first + 1.0).clamp(0.0, 200.0) as usize;
            (0..count).map(move |index| (first + index as f64) * step)
        };
        let decimals = (-step.log10() - 1e-6).ceil().max(0.0) as usize;
        let largest = self.low.abs().max(self.high.abs());
        Ticks {
            major: multiples(step).map(|value| (value, number(value, decimals, largest))).collect(),
            minor: Vec::new(),
        }
    }

    fn log_ticks(&self, most: usize) -> Ticks {
        let (low_exponent, high_exponent) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let within = |multiples: &[u8], every: i32| -> Vec<f64> {
            (low_exponent..=high_exponent)
                .filter(|exponent| exponent.rem_euclid(every) == 0)
                .flat_map(|exponent| multiples.iter().map(move |multiple| f64::from(*multiple) * 10_f64.powi(exponent)))
                .filter(|value| self.contains(*value))
                .collect()
        };
        let decades = high_exponent - low_exponent + 1;
        let major = [(&[1_u8, 2, 5][..], 1), (&[1, 3], 1), (&[1], 1)]
            .into_iter()
            .map(|(multiples, every)| within(multiples, every))
            .find(|values| values.len() <= most)
            .unwrap_or_else(|| within(&[1], (decades + most as i32 - 1) / most as i32));
        if major.len() < 3 && self.high / self.low < 30.0 {
            return self.linear_ticks(most);
        }
        let minor = match decades {
            ..=7 => within(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 1),
            8..=60 => within(&[1], 1),
            _ => Vec::new(),
        };
        Ticks { major: major.into_iter().map(|value| (value, log_number(value))).collect(), minor }
    }
}

fn span(kind: ScaleKind, low: f64, high: f64) -> f64 {
    match kind {
        ScaleKind::Linear => high - low,
        // One value has no span; a decade is what it would be drawn with.
        ScaleKind::Log => (high.log10() - low.log10()).max(1.0),
    }
}

fn padded(kind: ScaleKind, low: f64, high: f64) -> (f64, f64) {
    match kind {
        ScaleKind::Log => {
            let decades = high.log10() - low.log10();
            let factor = if decades < SMALLEST_SPAN { 2.0 } else { 10_f64.powf(0.05 * decades) };
            // Numbers beyond these ends overflow or lose their digits.
            ((low / factor).max(1e-305), (high * factor).min(1e305))
        }
        ScaleKind::Linear => {
            let magnitude = low.abs().max(high.abs());
            if magnitude < 1e-290 {
                return (0.0, 1.0);
            }
            let pad = 0.06 * (high - low).max(magnitude * SMALLEST_SPAN);
            (if low < 0.0 { low - pad } else { low }, if high > 0.0 { high + pad } else { high })
        }
    }
}

/// The next larger of 1, 2 and 5 times a power of ten.
pub(super) fn round_step(at_least: f64) -> f64 {
    let power = 10_f64.powf(at_least.log10().floor());
    let multiple = [1.0, 2.0, 5.0].into_iter().find(|multiple| multiple * power >= at_least * (1.0 - 1e-9));
    multiple.unwrap_or(10.0) * power
}

fn log_number(value: f64) -> String {
    let decimals = (-value.log10() - 1e-6).ceil().max(0.0) as usize;
    number(value, decimals, value)
}

/// A number as people write it: `12,000`, `1.5M`, `0.02`, `3e-9`; `largest` of the axis decides the form.
fn number(value: f64, decimals: usize, largest: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-6..1e15).contains(&largest) || decimals > 6 {
        // Rust writes the shortest digits that give the same number back; ticks have few, but for the last bit.
        let text = format!("{value:.6e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
        return format!("{mantissa}e{exponent}").replace('-', MINUS);
    }
    let (divisor, suffix) = match largest {
        1e12.. => (1e12, "T"),
        1e9.. => (1e9, "G"),
        1e6.. => (1e6, "M"),
        _ => (1.0, ""),
    };
    let text = if suffix.is_empty() {
        format!("{:.decimals$}", value.abs())
    } else {
        let text = format!("{:.6}", value.abs() / divisor);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let sign = if value < 0.0 { MINUS } else { "" };
    format!("{sign}{}{suffix}", with_separators(&text))
}

const MINUS: &str = "\u{2212}";

/// `1234567.5` as `1,234,567.5`.
pub(super) fn with_separators(digits: &str) -> String {
    let (whole, fraction) = digits.find('.').map_or((digits, ""), |point| digits.split_at(point));
    let mut text = String::with_capacity(digits.len() + 4);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

/// A value to so many significant digits, or to the unit where it has more before the point.
pub(super) fn value_text(value: f64, digits: i32) -> String {
    let magnitude = value.abs();
    if magnitude > 0.0 && !(1e-6..1e15).contains(&magnitude) {
        return format!("{value:.3e}").replace('-', MINUS);
    }
    let decimals = if magnitude > 0.0 { (digits - 1 - magnitude.log10().floor() as i32).max(0) as usize } else { 0 };
    let text = format!("{magnitude:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{}{}", if value < 0.0 { MINUS } else { "" }, with_separators(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, low: f64, high: f64, most: usize) -> Vec<String> {
        Scale::of(axis, Some((low, high))).ticks(most).major.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn linear_axes_start_at_zero_and_have_round_ticks() {
        let axis = Axis::new("throughput", "tok/s");
        assert_eq!(labels(&axis, 130.0, 920.0, 6), ["0", "200", "400", "600", "800"]);
        assert_eq!(labels(&axis, 0.013, 0.11, 6), ["0", "0.02", "0.04", "0.06", "0.08", "0.10"]);
        assert_eq!(labels(&axis, 3.0, 42_000.0, 5), ["0", "10,000", "20,000", "30,000", "40,000"]);
        assert_eq!(labels(&axis, 3.0, 4.2e6, 6), ["0", "1M", "2M", "3M", "4M"]);
        assert_eq!(labels(&axis, -20.0, 10.0, 4), ["\u{2212}20", "\u{2212}10", "0", "10"]);
        assert_eq!(labels(&axis, 0.0, 4e-9, 3), ["0", "2e\u{2212}9", "4e\u{2212}9"]);
    }

    #[test]
    fn log_axes_have_decades_or_their_parts() {
        let axis = Axis::new("TTFT", "ms").with_scale(ScaleKind::Log);
        assert_eq!(labels(&axis, 12.0, 900.0, 8), ["10", "20", "50", "100", "200", "500", "1,000"]);
        assert_eq!(labels(&axis, 12.0, 9e5, 6), ["10", "100", "1,000", "10,000", "100,000", "1M"]);
        assert_eq!(labels(&axis, 1e-12, 1e12, 5).len(), 5);
        assert_eq!(labels(&axis, 42.0, 57.0, 5), ["45", "50", "55"]);
    }

    #[test]
    fn one_value_has_an_axis_around_it() {
        for value in [0.0, 5.0, -3.0, 1e300, -1e300, 1e-300] {
            let scale = Scale::of(&Axis::new("x", ""), Some((value, value)));
            let fraction = scale.fraction(value);
            assert!((0.0..=1.0).contains(&fraction), "{value}: {fraction}");
            assert!(!scale.ticks(5).major.is_empty(), "{value}");
        }
    }

    #[test]
    fn the_widest_log_axis_has_finite_ends() {
        let axis = Axis::new("x", "").with_scale(ScaleKind::Log);
        let scale = Scale::of(&axis, Some((1e-300, 1e300)));
        assert!((0.0..0.5).contains(&scale.fraction(1e-300)) && (0.5..=1.0).contains(&scale.fraction(1e300)));
    }

    #[test]
    fn a_limit_far_away_does_not_squeeze_the_data() {
        let limit =
            |value| super::super::chart::Limit { value, label: String::new(), fails: super::super::chart::Side::Above };
        let near = Scale::of(&Axis::new("x", "").with_limit(limit(15.0)), Some((0.0, 10.0)));
        assert!(near.contains(15.0));
        let far = Scale::of(&Axis::new("x", "").with_limit(limit(500.0)), Some((0.0, 10.0)));
        assert!(!far.contains(500.0));
    }
}
