//! What an hour of an accelerator costs. Orders of magnitude for ranking, never a quote.

use std::path::Path;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{Accelerator, Accelerators, at_line, parse_toml, read_file};
use crate::{Error, Result};

/// What one provider asks for an hour of one accelerator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Name of the accelerator.
    pub accelerator: String,
    /// US dollars for an hour of one device, on demand.
    pub usd_per_hour: f64,
    /// Whose price it is; the file it was read from, where the file does not say.
    #[serde(default)]
    pub provider: String,
    /// When it was asked: year, or year and month.
    pub date: Option<String>,
}

/// Prices of accelerators, several of each where several are known.
#[derive(Debug, Clone, PartialEq)]
pub struct Prices(Vec<Price>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<Row> {
    price: Vec<Row>,
}

static BUILT_IN: LazyLock<Prices> = LazyLock::new(|| {
    let file: File<Price> = parse_toml(include_str!("../../data/prices.toml"), "data/prices.toml")
        .expect("the built-in table is valid (its tests read it)");
    Prices(file.price)
});

impl Prices {
    /// The built-in table (`data/prices.toml`).
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// The price to rank with: the user's, else the first of the table.
    pub fn of(&self, accelerator: &Accelerator) -> Option<&Price> {
        self.quotes(accelerator).next()
    }

    /// Every price that is known of an accelerator.
    pub fn quotes(&self, accelerator: &Accelerator) -> impl Iterator<Item = &Price> {
        self.0.iter().filter(|price| price.accelerator == accelerator.name)
    }

    /// These prices with those that a `--prices` value gives in place of what was known of the same accelerators: a file
    /// of the form of `data/prices.toml`, or `GPU=USD` with the dollars of an hour.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Malformed`] for a file; for `GPU=USD` [`Error::InvalidSetting`] if the dollars are no
    /// price, and the errors of [`Accelerators::find`].
    pub fn with(&self, value: &str, accelerators: &Accelerators) -> Result<Self> {
        let path = Path::new(value);
        let (name, usd) = match value.split_once('=') {
            Some(pair) if !path.exists() => pair,
            _ => return self.with_toml(&read_file(path)?, value, accelerators),
        };
        let price = Price {
            accelerator: accelerators.find(name)?.name.clone(),
            usd_per_hour: usd.trim().trim_start_matches('$').parse().unwrap_or(f64::NAN),
            provider: "--prices".to_owned(),
            date: None,
        };
        match price.fault() {
            Some(fault) => Err(Error::InvalidSetting { setting: format!("--prices {value}"), reason: fault }),
            None => Ok(self.over(vec![price])),
        }
    }

    /// As [`Self::with`], from the text of a file. `place` names it in errors.
    pub fn with_toml(&self, text: &str, place: &str, accelerators: &Accelerators) -> Result<Self> {
        let file: File<Spanned<Price>> = parse_toml(text, place)?;
        let mut prices = Vec::new();
        for row in file.price {
            let line = at_line(text, place, row.span().start);
            let mut price = row.into_inner();
            if let Some(reason) = price.fault() {
                return Err(Error::Malformed { place: line, reason });
            }
            match accelerators.find(&price.accelerator) {
                Ok(accelerator) => price.accelerator.clone_from(&accelerator.name),
                Err(error) => return Err(Error::Malformed { place: line, reason: error.to_string() }),
            }
            if price.provider.is_empty() {
                place.clone_into(&mut price.provider);
            }
            prices.push(price);
        }
        Ok(self.over(prices))
    }

    /// These prices, with others in place of those of the same accelerators.
    fn over(&self, mut prices: Vec<Price>) -> Self {
        let others = self.0.iter().filter(|known| !prices.iter().any(|new| new.accelerator == known.accelerator));
        let others: Vec<_> = others.cloned().collect();
        prices.extend(others);
        Self(prices)
    }
}

impl Price {
    fn fault(&self) -> Option<String> {
        // Above any device's price; it catches cents and a whole node's month.
        const LIMIT: f64 = 1000.0;
        (!(0.0..LIMIT).contains(&self.usd_per_hour))
            .then(|| format!("US dollars for an hour of one device must be a number from 0 to below {LIMIT}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &str) -> Result<Prices> {
        Prices::built_in().with(value, Accelerators::built_in())
    }

    fn price<'a>(prices: &'a Prices, name: &str) -> Option<&'a Price> {
        prices.of(Accelerators::built_in().find(name).unwrap())
    }

    #[test]
    fn built_in_prices_are_of_known_accelerators_by_their_own_names() {
        for price in &Prices::built_in().0 {
            assert_eq!(Accelerators::built_in().find(&price.accelerator).unwrap().name, price.accelerator);
            assert!(price.fault().is_none() && !price.provider.is_empty() && price.date.is_some(), "{price:?}");
        }
    }

    #[test]
    fn the_first_quote_ranks_and_an_accelerator_may_have_none() {
        let reference = price(Prices::built_in(), "H100").unwrap();
        assert!((reference.usd_per_hour - 4.5).abs() < 1e-9 && reference.provider.ends_with("reference"));
        assert_eq!(Prices::built_in().quotes(Accelerators::built_in().find("H100").unwrap()).count(), 5);
        assert_eq!(price(Prices::built_in(), "MI355X"), None);
    }

    #[test]
    fn a_pair_takes_the_place_of_every_quote_of_that_accelerator() {
        let prices = with("h100=$1.99").unwrap();
        assert!((price(&prices, "H100").unwrap().usd_per_hour - 1.99).abs() < 1e-9);
        assert_eq!(prices.quotes(Accelerators::built_in().find("H100").unwrap()).count(), 1);
        assert_eq!(price(&prices, "H200"), price(Prices::built_in(), "H200"));
    }

    #[test]
    fn a_pair_that_is_no_price_is_refused() {
        for value in ["H100=", "H100=cheap", "H100=-1", "H100=nan", "H100=inf", "H100=450000"] {
            assert!(matches!(with(value), Err(Error::InvalidSetting { .. })), "{value}");
        }
        assert!(matches!(with("H1000=2"), Err(Error::Unknown { .. })));
        assert!(matches!(with("no-such-file.toml"), Err(Error::Io { .. })));
    }

    #[test]
    fn a_file_is_read_and_its_errors_say_the_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("prices.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            with(path.to_str().unwrap())
        };
        let prices = read("[[price]]\naccelerator = \"MI355X\"\nusd_per_hour = 5\n").unwrap();
        let mi355x = price(&prices, "MI355X").unwrap();
        assert!((mi355x.usd_per_hour - 5.0).abs() < 1e-9 && mi355x.provider.ends_with("prices.toml"));
        assert!(price(&prices, "H100").is_some());

        let unknown = read("\n[[price]]\naccelerator = \"X1\"\nusd_per_hour = 5\n").unwrap_err().to_string();
        assert!(unknown.ends_with("prices.toml, line 2: unknown accelerator `X1`"), "{unknown}");
        let missing = read("[[price]]\naccelerator = \"L4\"\n").unwrap_err().to_string();
        assert!(missing.contains("line 1") && missing.contains("usd_per_hour"), "{missing}");
    }
}
