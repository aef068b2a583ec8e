//! Service-level objectives: `metric:stat OP value[unit]`, joined by `;`.

use std::fmt;
use std::str::FromStr;

use super::Statistic;
use crate::{Error, Result};

/// How a value is compared with its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    /// Every comparison; those of two characters first, so that a parser that tries them in order is right.
    const ALL: [Self; 4] = [Self::LessOrEqual, Self::GreaterOrEqual, Self::Less, Self::Greater];

    /// As the user writes it.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    /// The limit is the most there may be.
    pub fn is_upper_bound(self) -> bool {
        matches!(self, Self::Less | Self::LessOrEqual)
    }

    /// Whether `value` stands so to `limit`. Nothing compares with NaN.
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Less => value < limit,
            Self::LessOrEqual => value <= limit,
            Self::Greater => value > limit,
            Self::GreaterOrEqual => value >= limit,
        }
    }
}

/// What an objective limits.
///
/// The statistic of a latency is one of [`Quantity::STATISTICS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Time to first token, ms.
    Ttft(Statistic),
    /// Time per output token after the first, ms.
    Tpot(Statistic),
    /// Gap between two tokens or chunks, ms.
    Itl(Statistic),
    /// From the request to its last token, ms.
    E2e(Statistic),
    /// Output tokens per second of the whole deployment.
    Throughput,
    /// Finished requests per second.
    Requests,
}

impl Quantity {
    /// Statistics that an objective can name.
    pub const STATISTICS: [Statistic; 5] =
        [Statistic::Mean, Statistic::P50, Statistic::P90, Statistic::P95, Statistic::P99];

    /// Name of the metric.
    pub fn metric(self) -> &'static str {
        match self {
            Self::Ttft(_) => "ttft",
            Self::Tpot(_) => "tpot",
            Self::Itl(_) => "itl",
            Self::E2e(_) => "e2e",
            Self::Throughput => "throughput",
            Self::Requests => "requests",
        }
    }

    /// The statistic of a latency; none for a rate.
    pub fn statistic(self) -> Option<Statistic> {
        match self {
            Self::Ttft(statistic) | Self::Tpot(statistic) | Self::Itl(statistic) | Self::E2e(statistic) => {
                Some(statistic)
            }
            Self::Throughput | Self::Requests => None,
        }
    }

    /// The column of a table of runs that holds it.
    pub fn column(self) -> String {
        match (self, self.statistic()) {
            (_, Some(statistic)) => format!("{}_{}_ms", self.metric(), statistic.name()),
            (Self::Requests, None) => "req_s".to_owned(),
            (_, None) => "out_tok_s".to_owned(),
        }
    }
}

/// One objective: a quantity, a comparison and a limit (ms, or per second).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// What is limited.
    pub quantity: Quantity,
    /// How.
    pub comparison: Comparison,
    /// The limit: milliseconds of a latency, per second of a rate. Finite and not negative.
    pub limit: f64,
}

impl Objective {
    /// Whether a value meets the objective. A missing value does not.
    pub fn is_met_by(&self, value: Option<f64>) -> bool {
        value.is_some_and(|value| self.comparison.holds(value, self.limit))
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { quantity, comparison, limit } = self;
        f.write_str(quantity.metric())?;
        if let Some(statistic) = quantity.statistic() {
            return write!(f, ":{}{}{limit}ms", statistic.name(), comparison.symbol());
        }
        write!(f, "{}{limit}/s", comparison.symbol())
    }
}

impl FromStr for Objective {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |reason: String| Error::InvalidSetting { setting: format!("--slo {}", text.trim()), reason };
        let (at, comparison) = Comparison::ALL
            .into_iter()
            .filter_map(|comparison| Some((text.find(comparison.symbol())?, comparison)))
            // The leftmost operator; of `<=` and `<` at one place, the longer.
            .min_by_key(|&(at, comparison)| (at, std::cmp::Reverse(comparison.symbol().len())))
            .ok_or_else(|| wrong("has no comparison; write `metric:stat OP value`, OP one of < <= > >=".to_owned()))?;
        let left = text[..at].trim();
        let (metric, statistic) = match left.split_once(':') {
            Some((metric, statistic)) => (metric.trim(), Some(statistic.trim())),
            None => (left, None),
        };
        let latency: fn(Statistic) -> Quantity = match metric {
            "ttft" => Quantity::Ttft,
            "tpot" => Quantity::Tpot,
            "itl" => Quantity::Itl,
            "e2e" => Quantity::E2e,
            "throughput" | "requests" => {
                if let Some(statistic) = statistic {
                    return Err(wrong(format!("`{metric}` has no statistic; leave `:{statistic}` out")));
                }
                let quantity = if metric == "requests" { Quantity::Requests } else { Quantity::Throughput };
                let limit = parse_limit(text[at + comparison.symbol().len()..].trim(), &RATE_UNITS).map_err(wrong)?;
                return Ok(Self { quantity, comparison, limit });
            }
            _ => {
                return Err(wrong(format!(
                    "unknown metric `{metric}`; it is one of ttft, tpot, itl, e2e, throughput, requests"
                )));
            }
        };
        let names = Quantity::STATISTICS.map(Statistic::name).join(", ");
        let statistic = statistic.ok_or_else(|| wrong(format!("name a statistic: `{metric}:` and one of {names}")))?;
        let statistic = Quantity::STATISTICS
            .into_iter()
            .find(|known| known.name() == statistic)
            .ok_or_else(|| wrong(format!("unknown statistic `{statistic}`; it is one of {names}")))?;
        let limit = parse_limit(text[at + comparison.symbol().len()..].trim(), &TIME_UNITS).map_err(wrong)?;
        Ok(Self { quantity: latency(statistic), comparison, limit })
    }
}

/// Units of a time, with what a value is multiplied by to be in milliseconds. The first is the default.
const TIME_UNITS: [(&str, f64); 3] = [("ms", 1.0), ("us", 0.001), ("s", 1000.0)];
/// Units of a rate. All are per second.
const RATE_UNITS: [(&str, f64); 5] =
    [("/s", 1.0), ("tok/s", 1.0), ("tokens/s", 1.0), ("req/s", 1.0), ("per second", 1.0)];

fn parse_limit(text: &str, units: &[(&str, f64)]) -> Result<f64, String> {
    // An `e` belongs to the number only where a digit or sign follows, so that `1e3ms` works.
    let end = text
        .char_indices()
        .find(|&(at, c)| {
            let exponent = matches!(c, 'e' | 'E')
                && text[at + 1..].starts_with(|next: char| next.is_ascii_digit() || matches!(next, '+' | '-'));
            !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-') || exponent)
        })
        .map_or(text.len(), |(at, _)| at);
    let (number, unit) = (&text[..end], text[end..].trim());
    let known = units.iter().map(|&(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let value: f64 = number.parse().map_err(|_| format!("`{text}` is not a number with a unit ({known})"))?;
    let factor = if unit.is_empty() {
        1.0
    } else {
        units
            .iter()
            .find(|&&(name, _)| name == unit)
            .map(|&(_, factor)| factor)
            .ok_or_else(|| format!("unknown unit `{unit}`; it is one of {known}"))?
    };
    let limit = value * factor;
    if limit.is_finite() && limit >= 0.0 {
        Ok(limit)
    } else {
        Err(format!("the limit `{text}` must be a number that is not negative"))
    }
}

/// Objectives that must all be met.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Objectives(pub Vec<Objective>);

impl Objectives {
    /// Whether all are met; `value` gives the value of a quantity.
    pub fn are_met_by(&self, mut value: impl FnMut(Quantity) -> Option<f64>) -> bool {
        self.0.iter().all(|objective| objective.is_met_by(value(objective.quantity)))
    }
}

impl TryFrom<String> for Objectives {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Objectives {
    type Err = Error;

    /// Parses objectives joined by `;`. Empty parts are passed over, so that a trailing `;` does no harm.
    fn from_str(text: &str) -> Result<Self> {
        text.split(';').filter(|part| !part.trim().is_empty()).map(str::parse).collect::<Result<Vec<_>>>().map(Self)
    }
}

impl fmt::Display for Objectives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, objective) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(";")?;
            }
            write!(f, "{objective}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the limits are exact in binary")]
mod tests {
    use super::*;

    fn parse(text: &str) -> Objectives {
        text.parse().unwrap()
    }

    #[test]
    fn parses_what_the_interface_shows() {
        let Objectives(objectives) = parse("ttft:p99<2s;itl:p99<50ms");
        assert_eq!(objectives[0].quantity, Quantity::Ttft(Statistic::P99));
        assert_eq!(objectives[0].comparison, Comparison::Less);
        assert_eq!((objectives[0].limit, objectives[1].limit), (2000.0, 50.0));
        assert_eq!(objectives[1].quantity.column(), "itl_p99_ms");
    }

    #[test]
    fn units_and_spaces() {
        assert_eq!(parse("ttft:mean <= 250").0[0].limit, 250.0);
        assert_eq!(parse("tpot:p50<=900us").0[0].limit, 0.9);
        assert_eq!(parse("e2e:p95 < 1e3ms ;").0[0].limit, 1000.0);
        assert_eq!(parse("throughput >= 500 tok/s").0[0].limit, 500.0);
        assert_eq!(parse("requests>1.5/s").0[0].comparison, Comparison::Greater);
    }

    #[test]
    fn prints_what_it_parses() {
        for text in ["ttft:p99<2000ms;itl:p99<=50ms", "throughput>=500/s;requests>1.5/s", ""] {
            assert_eq!(parse(text).to_string(), text);
        }
    }

    #[test]
    fn missing_values_fail() {
        let objectives = parse("ttft:p99<=2s");
        assert!(objectives.are_met_by(|_| Some(2000.0)));
        assert!(!objectives.are_met_by(|_| None));
        assert!(!objectives.are_met_by(|_| Some(f64::NAN)));
    }

    #[test]
    fn errors_say_what_is_right() {
        for (text, expected) in [
            ("ttft:p99", "has no comparison"),
            ("ttft<2s", "name a statistic: `ttft:` and one of mean, p50, p90, p95, p99"),
            ("ttft:p98<2s", "unknown statistic `p98`"),
            ("latency:p99<2s", "unknown metric `latency`"),
            ("ttft:p99<2h", "unknown unit `h`; it is one of `ms`, `us`, `s`"),
            ("ttft:p99<fast", "is not a number"),
            ("ttft:p99<-1", "not negative"),
            ("throughput:p99>1", "has no statistic"),
        ] {
            let error = text.parse::<Objectives>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
