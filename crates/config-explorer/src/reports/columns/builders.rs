//! How a column is made from a place in a [`Run`].

use std::borrow::Cow;

use super::{Access, Column, ColumnKind, Direction, Getter, Group, Value};
use crate::reports::{Run, Statistic, Statistics};

use Direction::{Lower, Neutral};
use Group::Metric;

impl Column {
    pub(super) fn new(name: &'static str, label: &'static str, group: Group, kind: ColumnKind, access: Access) -> Self {
        let stored = !matches!(access, Access::Field(_, None));
        Self {
            name: name.into(),
            aliases: Vec::new(),
            label: label.into(),
            unit: "",
            kind,
            direction: Neutral,
            group,
            stored,
            access,
        }
    }

    pub(super) fn alias(mut self, alias: impl Into<Cow<'static, str>>) -> Self {
        self.aliases.push(alias.into());
        self
    }

    pub(super) fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    pub(super) fn better(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// Settable, but not needed to restore a run.
    pub(super) fn not_stored(mut self) -> Self {
        self.stored = false;
        self
    }
}

pub(super) fn as_float(value: &Value<'_>) -> Result<f64, String> {
    value.number().filter(|number| number.is_finite()).ok_or_else(|| format!("`{value}` is not a finite number"))
}

pub(super) fn as_count(value: &Value<'_>) -> Result<u64, String> {
    match value {
        &Value::Integer(number) => u64::try_from(number).map_err(|_| format!("`{number}` is negative")),
        other => Err(format!("`{other}` is not a whole number")),
    }
}

pub(super) fn as_boolean(value: &Value<'_>) -> Result<bool, String> {
    match value {
        &Value::Boolean(value) => Ok(value),
        other => Err(format!("`{other}` is not true or false")),
    }
}

pub(super) fn text(value: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(value))
}

pub(super) fn owned(value: String) -> Value<'static> {
    Value::Text(Cow::Owned(value))
}

pub(super) fn count(value: u64) -> Value<'static> {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

/// A column of an optional field: its place in the run says how to get and set it.
macro_rules! field {
    (text $name:literal, $label:literal, $group:ident, $($path:ident).+) => {
        field!(@ $name, $label, $group, Text, |value: &Value<'_>| Ok::<_, String>(value.to_string()), |value| text(value), as_deref, $($path).+)
    };
    (float $name:literal, $label:literal, $group:ident, $($path:ident).+) => {
        field!(@ $name, $label, $group, Float, as_float, Value::Float, as_ref copied, $($path).+)
    };
    (count $name:literal, $label:literal, $group:ident, $($path:ident).+) => {
        field!(@ $name, $label, $group, Integer, as_count, count, as_ref copied, $($path).+)
    };
    (boolean $name:literal, $label:literal, $group:ident, $($path:ident).+) => {
        field!(@ $name, $label, $group, Boolean, as_boolean, Value::Boolean, as_ref copied, $($path).+)
    };
    (@ $name:literal, $label:literal, $group:ident, $kind:ident, $from:expr, $into:expr, $($reach:ident)+, $($path:ident).+) => {{
        let get: Getter = |run| run.$($path).+$(.$reach())+.map($into);
        let set: Setter = |run, value| {
            run.$($path).+ = Some($from(value)?);
            Ok(())
        };
        Column::new($name, $label, Group::$group, ColumnKind::$kind, Access::Field(get, Some(set)))
    }};
}

/// The names of an enum, for a message.
pub(super) fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> String {
    all.iter().map(|&one| name(one)).collect::<Vec<_>>().join(", ")
}

/// A column of an enum with names.
macro_rules! choice {
    ($name:literal, $label:literal, $group:ident, $type:ty, $get:expr, $($path:ident).+ $(, $wrap:ident)?) => {{
        let get: Getter = $get;
        let set: Setter = |run, value| {
            let name = value.to_string();
            let choice = <$type>::from_name(&name).ok_or_else(|| {
                format!("`{name}` is not one of {}", names(<$type>::ALL, <$type>::name))
            })?;
            run.$($path).+ = $($wrap)?(choice);
            Ok(())
        };
        Column::new($name, $label, Group::$group, ColumnKind::Text, Access::Field(get, Some(set)))
    }};
}

/// A column that holds JSON.
macro_rules! json {
    ($name:literal, $label:literal, $group:ident, $is_empty:expr, $($path:ident).+) => {{
        let get: Getter = |run| {
            let value = &run.$($path).+;
            if $is_empty(value) { None } else { serde_json::to_string(value).ok().map(owned) }
        };
        let set: Setter = |run, value| {
            run.$($path).+ = serde_json::from_str(&value.to_string()).map_err(|error| error.to_string())?;
            Ok(())
        };
        Column::new($name, $label, Group::$group, ColumnKind::Text, Access::Field(get, Some(set)))
    }};
}

/// A column that is computed from others.
pub(super) fn computed(name: &'static str, label: &'static str, group: Group, kind: ColumnKind, get: Getter) -> Column {
    Column::new(name, label, group, kind, Access::Field(get, None))
}

/// The five columns of a role.
macro_rules! role {
    ($role:ident, $prefix:literal, $alias:literal, $label:literal) => {
        role!(@ $role, $prefix, $alias, $label, [tp "tp" "TP", pp "pp" "PP", dp "dp" "DP", ep "ep" "EP", replicas "replicas" "Replicas"])
    };
    (@ $role:ident, $prefix:literal, $alias:literal, $label:literal, [$($field:ident $name:literal $short:literal),+]) => {
        [$({
            let get: Getter = |run| run.server.roles.$role.as_ref()?.$field.map(count);
            let set: Setter = |run, value| {
                run.server.roles.$role.get_or_insert_with(Role::default).$field = Some(as_count(value)?);
                Ok(())
            };
            Column::new(concat!($prefix, $name), concat!($label, $short), Configuration, ColumnKind::Integer, Access::Field(get, Some(set)))
                .alias(concat!($alias, $short))
        }),+]
    };
}

/// The columns of a configured length distribution.
macro_rules! length {
    ($side:ident, $observed:ident, $name:literal, $label:literal) => {{
        fn side(run: &mut Run) -> &mut LengthDistribution {
            run.workload.$side.get_or_insert(LengthDistribution {
                shape: LengthShape::Other,
                mean: 0.0,
                stddev: None,
                min: None,
                max: None,
            })
        }
        let shape: Setter = |run, value| {
            let name = value.to_string();
            side(run).shape = LengthShape::from_name(&name)
                .ok_or_else(|| format!("`{name}` is not one of {}", names(LengthShape::ALL, LengthShape::name)))?;
            Ok(())
        };
        macro_rules! bound {
            ($suffix:literal, $bound:ident) => {{
                let get: Getter = |run| run.workload.$side?.$bound.map(Value::Float);
                let set: Setter = |run, value| {
                    side(run).$bound = Some(as_float(value)?);
                    Ok(())
                };
                Column::new(
                    concat!($name, $suffix),
                    concat!($label, ", configured ", stringify!($bound)),
                    Workload,
                    ColumnKind::Float,
                    Access::Field(get, Some(set)),
                )
                .unit("tokens")
            }};
        }
        let mean: Setter = |run, value| {
            side(run).mean = as_float(value)?;
            Ok(())
        };
        [
            Column::new(
                $name,
                $label,
                Workload,
                ColumnKind::Float,
                Access::Field(
                    |run| {
                        let configured = run.workload.$side.map(|length| length.mean);
                        configured.or_else(|| Some(run.$observed.mean()?.round_ties_even())).map(Value::Float)
                    },
                    Some(mean),
                ),
            )
            .unit("tokens")
            .not_stored(),
            Column::new(
                concat!($name, "_configured"),
                concat!($label, ", configured"),
                Workload,
                ColumnKind::Float,
                Access::Field(|run| run.workload.$side.map(|length| Value::Float(length.mean)), Some(mean)),
            )
            .unit("tokens"),
            Column::new(
                concat!($name, "_shape"),
                concat!($label, ", distribution"),
                Workload,
                ColumnKind::Text,
                Access::Field(|run| run.workload.$side.map(|length| text(length.shape.name())), Some(shape)),
            ),
            bound!("_configured_stddev", stddev),
            bound!("_configured_min", min),
            bound!("_configured_max", max),
        ]
    }};
}

/// One column for each statistic of a quantity: latencies in milliseconds, lengths in tokens.
///
/// `{}` in `name` stands for the statistic, and likewise in `original`, the original's name.
pub(super) fn statistics(
    name: &str,
    original: Option<&str>,
    label: &str,
    group: Group,
    get: fn(&Run) -> &Statistics,
    get_mut: fn(&mut Run) -> &mut Statistics,
) -> Vec<Column> {
    let (unit, direction) = if group == Metric { ("ms", Lower) } else { ("tokens", Neutral) };
    let columns = Statistic::ALL.into_iter().map(|statistic| {
        let percentile = || format!("P{}", statistic.name()[1..].replace('p', "."));
        let (title, short) = match statistic {
            Statistic::Mean => ("Mean".to_owned(), "Mean".to_owned()),
            Statistic::Stddev => ("Standard Deviation of".to_owned(), "StdDev".to_owned()),
            Statistic::Min => ("Minimum".to_owned(), "Min".to_owned()),
            Statistic::Max => ("Maximum".to_owned(), "Max".to_owned()),
            _ => (percentile(), percentile()),
        };
        Column {
            name: name.replace("{}", statistic.name()).into(),
            aliases: original.map(|original| original.replace("{}", &short).into()).into_iter().collect(),
            label: format!("{title} {label}").into(),
            ..Column::new("", "", group, ColumnKind::Float, Access::Statistic(get, get_mut, statistic))
                .unit(unit)
                .better(direction)
        }
    });
    columns.collect()
}

pub(super) use {choice, field, json, length, role};
