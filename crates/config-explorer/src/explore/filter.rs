//! Which runs: `gpu=H100,isl_mean>=1000`.

use std::fmt;
use std::str::FromStr;

use crate::reports::{Column, ColumnKind, Run, Value, column};
use crate::{Error, Result};

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=` or `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Operator {
    /// The operators as they are written; those of two characters first.
    const ALL: [(&'static str, Self); 7] = [
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
        ("<=", Self::LessOrEqual),
        (">=", Self::GreaterOrEqual),
        ("=", Self::Equal),
        ("<", Self::Less),
        (">", Self::Greater),
    ];

    fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// What a value is compared with.
#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Number(f64),
    /// In lower case.
    Text(String),
}

/// One comparison of a column with a constant.
#[derive(Debug, Clone)]
pub struct Condition {
    column: &'static Column,
    operator: Operator,
    operand: Operand,
    text: String,
}

impl Condition {
    /// Whether a run meets it. A missing value meets nothing, not even `!=`.
    ///
    /// Numbers compare as numbers, `true` and `false` as 1 and 0, text without regard to case. In `=` and `!=`, `*` in a
    /// text stands for anything: `model=*qwen*`.
    pub fn is_met_by(&self, run: &Run) -> bool {
        match &self.operand {
            Operand::Number(limit) => {
                let order = self.column.number(run).and_then(|value| value.partial_cmp(limit));
                order.is_some_and(|order| self.operator.holds(order))
            }
            Operand::Text(pattern) => self.column.get(run).is_some_and(|value| {
                let value = value.to_string().to_lowercase();
                match self.operator {
                    Operator::Equal => matches(pattern, &value),
                    Operator::NotEqual => !matches(pattern, &value),
                    ordering => ordering.holds(value.as_str().cmp(pattern)),
                }
            }),
        }
    }

    /// The column that is compared.
    pub fn column(&self) -> &'static Column {
        self.column
    }
}

impl FromStr for Condition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let wrong = |reason: String| Error::InvalidSetting { setting: text.to_owned(), reason };
        let no_comparison = || wrong("has no comparison; write `column OP value`, OP one of = != < <= > >=".to_owned());
        let at = text.find(['=', '!', '<', '>']).ok_or_else(no_comparison)?;
        let (name, rest) = text.split_at(at);
        let (symbol, operator) =
            Operator::ALL.into_iter().find(|(symbol, _)| rest.starts_with(symbol)).ok_or_else(no_comparison)?;
        let column = column(name.trim())?;
        let value = rest[symbol.len()..].trim();
        if value.is_empty() {
            return Err(wrong("has no value; a missing value meets no condition".to_owned()));
        }
        let operand = match column.kind {
            ColumnKind::Text | ColumnKind::Json => Operand::Text(value.to_lowercase()),
            ColumnKind::Boolean => match column.parse(value)?.and_then(|value| value.number()) {
                Some(number) => Operand::Number(number),
                None => return Err(wrong(format!("`{value}` is not true or false"))),
            },
            ColumnKind::Integer | ColumnKind::Float => match value.parse::<f64>() {
                Ok(number) if number.is_finite() => Operand::Number(number),
                _ => return Err(wrong(format!("`{value}` is not a number, and `{}` holds numbers", column.name))),
            },
        };
        Ok(Self { column, operator, operand, text: text.to_owned() })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Conditions that must all be met.
#[derive(Debug, Clone, Default)]
pub struct Filter(pub Vec<Condition>);

impl Filter {
    /// Whether a run meets every condition.
    pub fn accepts(&self, run: &Run) -> bool {
        self.0.iter().all(|condition| condition.is_met_by(run))
    }

    /// For each condition on a text that none of the runs meets, the column and the texts that they do hold there.
    pub fn unmet<'a>(&self, runs: &'a [Run]) -> Vec<(&'static Column, Vec<Value<'a>>)> {
        let unmet = self.0.iter().filter(|condition| {
            matches!(condition.operand, Operand::Text(_)) && !runs.iter().any(|run| condition.is_met_by(run))
        });
        unmet
            .map(|condition| {
                let mut values: Vec<Value<'a>> = Vec::new();
                for value in runs.iter().filter_map(|run| condition.column.get(run)) {
                    if !values.contains(&value) {
                        values.push(value);
                    }
                }
                (condition.column, values)
            })
            .collect()
    }
}

impl FromStr for Filter {
    type Err = Error;

    /// Conditions joined by commas.
    fn from_str(text: &str) -> Result<Self> {
        text.split(',').filter(|part| !part.trim().is_empty()).map(str::parse).collect::<Result<_>>().map(Self)
    }
}

/// Whether a text is what a pattern says, where `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        let mut run = Run::default();
        run.server.model = Some("Qwen/Qwen3-32B".to_owned());
        run.server.gpus = Some(4);
        run.date = Some("2026-02-03".to_owned());
        run.throughput.output_tokens = Some(1000.0);
        run.server.async_scheduling = Some(true);
        run
    }

    fn accepts(filter: &str) -> bool {
        filter.parse::<Filter>().unwrap().accepts(&run())
    }

    #[test]
    fn conditions() {
        for filter in [
            "model=qwen/qwen3-32b",
            "model = *Qwen3*",
            "Model==Qwen*32b",
            "model!=*llama*",
            "n_gpu>=4, Num_GPUs<=4.0",
            "out_tok_s>999.9,out_tok_s<1001,out_tok_s=1e3",
            "output_tokens_per_s_per_gpu=250",
            "date>=2026-01-01",
            "async_scheduling=true",
            "async_scheduling!=0",
            "",
        ] {
            assert!(accepts(filter), "{filter}");
        }
        for filter in ["model=qwen", "model!=Qwen*", "n_gpu<4", "n_gpu=4,n_gpu>4", "async_scheduling=false"] {
            assert!(!accepts(filter), "{filter}");
        }
    }

    #[test]
    fn a_missing_value_meets_nothing() {
        for filter in ["tp=1", "tp!=1", "gpu!=H100", "gpu=*", "ttft_mean_ms>=0", "is_pd!=true"] {
            assert!(!accepts(filter), "{filter}");
        }
    }

    #[test]
    fn errors_say_what_is_right() {
        let error = |text: &str| text.parse::<Filter>().unwrap_err();
        for (text, expected) in [
            ("gpu", "has no comparison"),
            ("gpu!H100", "has no comparison"),
            ("tp=", "has no value"),
            ("tp>=two", "`two` is not a number, and `tp` holds numbers"),
            ("is_pd=perhaps", "is not true or false"),
        ] {
            assert!(error(text).to_string().contains(expected), "{text}: {}", error(text));
        }
        let Error::Unknown { similar, .. } = error("ttft_mean>1") else { panic!("unknown") };
        assert_eq!(similar[0], "ttft_mean_ms");
    }
}
