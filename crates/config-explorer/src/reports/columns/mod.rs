//! The one table of columns: what a [`Run`] looks like as a row.
//!
//! CSV, Parquet, JSON, filters, scenarios and plots all take their columns from [`columns`]. Names are those of the
//! measured-latency table (`ttft_mean_ms`, `out_tok_s`, …) where it has one; the names of the original
//! `config_explorer` (`Mean_TTFT_ms`, `Thpt_per_GPU`, …) are aliases.

mod builders;
mod table;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use super::{Run, Statistic, Statistics};
use crate::{Error, Result};

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// Text.
    Text,
    /// Whole numbers.
    Integer,
    /// Numbers.
    Float,
    /// True or false.
    Boolean,
}

/// Which way a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Less is better.
    Lower,
    /// More is better.
    Higher,
    /// Neither.
    Neutral,
}

/// What a column describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The run itself: identity, source, time.
    Run,
    /// The deployment.
    Configuration,
    /// What was asked of it.
    Workload,
    /// What was measured.
    Metric,
}

/// A value of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Of a [`ColumnKind::Text`] column.
    Text(Cow<'a, str>),
    /// Of a [`ColumnKind::Integer`] column.
    Integer(i64),
    /// Of a [`ColumnKind::Float`] column. Finite.
    Float(f64),
    /// Of a [`ColumnKind::Boolean`] column.
    Boolean(bool),
}

impl Value<'_> {
    /// The value as a number; none for text. True is 1.
    pub fn number(&self) -> Option<f64> {
        match *self {
            Self::Text(_) => None,
            Self::Integer(value) => Some(value as f64),
            Self::Float(value) => Some(value),
            Self::Boolean(value) => Some(f64::from(u8::from(value))),
        }
    }
}

impl std::fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(value) => f.write_str(value),
            Self::Integer(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Boolean(value) => value.fmt(f),
        }
    }
}

/// Why a value cannot be set, without the column's name.
type Refusal = String;
type Getter = fn(&Run) -> Option<Value<'_>>;
type Setter = fn(&mut Run, &Value<'_>) -> Result<(), Refusal>;

/// How a column reaches into a run.
#[derive(Debug)]
enum Access {
    /// A field, or something computed from several (then there is no setter).
    Field(Getter, Option<Setter>),
    /// One statistic of a quantity.
    Statistic(fn(&Run) -> &Statistics, fn(&mut Run) -> &mut Statistics, Statistic),
}

/// One column of the table of runs.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Other names that mean the same.
    pub aliases: Vec<Cow<'static, str>>,
    /// For people: on axes and in headers, without the unit.
    pub label: Cow<'static, str>,
    /// Unit of its values; empty for none.
    pub unit: &'static str,
    /// What its values are.
    pub kind: ColumnKind,
    /// Which way it is better.
    pub direction: Direction,
    /// What it describes.
    pub group: Group,
    /// Whether the column holds something of its own. The stored columns together restore a run exactly; the others
    /// are computed from them.
    pub stored: bool,
    access: Access,
}

impl Column {
    /// The value of a run.
    pub fn get<'a>(&self, run: &'a Run) -> Option<Value<'a>> {
        match &self.access {
            Access::Field(get, _) => get(run),
            Access::Statistic(get, _, statistic) => get(run).get(*statistic).map(Value::Float),
        }
    }

    /// The value of a run as a number.
    pub fn number(&self, run: &Run) -> Option<f64> {
        match &self.access {
            Access::Field(get, _) => get(run)?.number(),
            Access::Statistic(get, _, statistic) => get(run).get(*statistic),
        }
    }

    /// Whether [`Column::set`] can work.
    pub fn is_settable(&self) -> bool {
        !matches!(self.access, Access::Field(_, None))
    }

    /// Sets the value of a run. An error if the column is computed or the value is not one of its values.
    pub fn set(&self, run: &mut Run, value: &Value<'_>) -> Result<()> {
        let done = match (&self.access, value) {
            (Access::Field(_, Some(set)), _) => set(run, value),
            (Access::Field(_, None), _) => Err("is computed from other columns".to_owned()),
            (Access::Statistic(_, get, statistic), value) => match value.number() {
                Some(number) => {
                    get(run).set(*statistic, Some(number));
                    Ok(())
                }
                None => Err(format!("`{value}` is not a number")),
            },
        };
        done.map_err(|reason| self.refuse(reason))
    }

    /// A value of this column from text, as in CSV and `--set`. None for empty text and for what is not finite.
    pub fn parse(&self, text: &str) -> Result<Option<Value<'static>>> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let value = match self.kind {
            ColumnKind::Text => Some(Value::Text(Cow::Owned(text.to_owned()))),
            ColumnKind::Boolean => match text {
                "1" | "true" | "True" => Some(Value::Boolean(true)),
                "0" | "false" | "False" => Some(Value::Boolean(false)),
                _ => return Err(self.refuse(format!("`{text}` is not true or false"))),
            },
            ColumnKind::Float | ColumnKind::Integer => {
                let number: f64 = text.parse().map_err(|_| self.refuse(format!("`{text}` is not a number")))?;
                if !number.is_finite() {
                    None
                } else if self.kind == ColumnKind::Float {
                    Some(Value::Float(number))
                } else if number.fract() == 0.0 && number.abs() < 9e15 {
                    // Tables that went through a data frame write whole numbers as `8.0`.
                    Some(Value::Integer(number as i64))
                } else {
                    return Err(self.refuse(format!("`{text}` is not a whole number")));
                }
            }
        };
        Ok(value)
    }

    /// The label with its unit, as on an axis.
    pub fn label_with_unit(&self) -> String {
        if self.unit.is_empty() { self.label.to_string() } else { format!("{} ({})", self.label, self.unit) }
    }

    fn refuse(&self, reason: Refusal) -> Error {
        Error::InvalidSetting { setting: self.name.to_string(), reason }
    }
}

/// Every column, in the order of the tables.
pub fn columns() -> &'static [Column] {
    static COLUMNS: LazyLock<Vec<Column>> = LazyLock::new(table::columns);
    &COLUMNS
}

/// The column of a name or an alias.
pub fn column(name: &str) -> Result<&'static Column> {
    static BY_NAME: LazyLock<HashMap<&'static str, &'static Column>> = LazyLock::new(|| {
        let aliases = columns().iter().flat_map(|column| column.aliases.iter().map(move |alias| (&**alias, column)));
        let names = columns().iter().map(|column| (&*column.name, column));
        aliases.chain(names).collect()
    });
    BY_NAME.get(name).copied().ok_or_else(|| {
        let likeness = |known: &str| strsim::jaro_winkler(&known.to_lowercase(), &name.to_lowercase());
        let mut similar: Vec<(f64, &str)> = BY_NAME.keys().map(|known| (likeness(known), *known)).collect();
        similar.retain(|(likeness, _)| *likeness > 0.85);
        similar.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let similar = similar.into_iter().take(3).map(|(_, known)| known.to_owned()).collect();
        Error::Unknown { kind: "column", name: name.to_owned(), similar }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Quantity;

    #[test]
    fn names_and_aliases_are_unique() {
        let mut seen = std::collections::HashSet::new();
        for column in columns() {
            for name in std::iter::once(&column.name).chain(&column.aliases) {
                assert!(seen.insert(name.clone()), "`{name}` twice");
            }
        }
    }

    #[test]
    fn objectives_name_columns() {
        let mut run = Run::default();
        for (column, value) in columns().iter().filter(|column| column.is_settable()).zip(1..) {
            let _ = column.set(&mut run, &Value::Float(f64::from(value)));
        }
        let latencies = [Quantity::Ttft, Quantity::Tpot, Quantity::Itl, Quantity::E2e];
        let latencies = latencies.into_iter().flat_map(|latency| Quantity::STATISTICS.map(latency));
        for quantity in latencies.chain([Quantity::Throughput, Quantity::Requests]) {
            let column = column(&quantity.column()).unwrap();
            assert_eq!(column.number(&run), run.quantity(quantity), "{}", column.name);
            assert!(column.number(&run).is_some());
        }
    }

    #[test]
    fn every_settable_column_gives_back_what_it_was_given() {
        for column in columns().iter().filter(|column| column.is_settable()) {
            let mut run = Run::default();
            let text = match &*column.name {
                "id" => format!("{}-3", "a0".repeat(32)),
                "kind" => "simulated".to_owned(),
                "isl_shape" | "osl_shape" => "uniform".to_owned(),
                "load_kind" => "closed".to_owned(),
                "tpot_definition" => "with_first_token".to_owned(),
                "itl_definition" => "per_token".to_owned(),
                "layout" => "4P2D".to_owned(),
                "router" => r#"[{"kind":"queue-scorer","weight":2.0}]"#.to_owned(),
                "extra" => r#"{"row_id":"7"}"#.to_owned(),
                "provenance" => r#"{"gpu":"user"}"#.to_owned(),
                "warnings" => r#"[{"code":"e2e","message":"off"}]"#.to_owned(),
                _ if column.kind == ColumnKind::Boolean => "true".to_owned(),
                _ => "8".to_owned(),
            };
            column.set(&mut run, &column.parse(&text).unwrap().unwrap()).unwrap();
            assert_eq!(column.get(&run).unwrap().to_string(), text, "{}", column.name);
        }
    }

    #[test]
    fn parse_refuses_what_the_column_cannot_hold() {
        let set = |name: &str, text: &str| {
            let column = column(name)?;
            column.parse(text)?.map_or(Ok(()), |value| column.set(&mut Run::default(), &value))
        };
        assert!(set("tp", "two").is_err());
        assert!(set("tp", "2.5").is_err());
        assert!(set("tp", "-2").is_err());
        assert!(set("tp", "2.0").is_ok());
        assert!(set("load_kind", "sometimes").is_err());
        assert!(set("Is_PD", "true").is_err(), "computed");
        assert!(set("rate_rps", "inf").is_ok());
        let Err(Error::Unknown { similar, .. }) = set("ttft_mean", "1") else { panic!("unknown") };
        assert_eq!(similar[0], "ttft_mean_ms");
    }
}
