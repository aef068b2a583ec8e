//! Words for quantities that several answers name.

use config_explorer::memory::ParallelismSummary;

use super::Table;

/// A layout by the sizes that matter, such as `TP 2, EP 2`.
pub(crate) fn layout(layout: ParallelismSummary) -> String {
    let mut words = vec![format!("TP {}", layout.tp)];
    for (name, size) in [("PP", layout.pp), ("DP", layout.dp), ("EP", layout.ep), ("DCP", layout.dcp)] {
        if size > 1 {
            words.push(format!("{name} {size}"));
        }
    }
    words.join(", ")
}

/// So many of something: `1 GPU`, `1,200 GPUs`.
pub(crate) fn count(number: u64, unit: &str) -> String {
    format!("{} {unit}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Engines that do not fit, as rows.
pub(crate) fn does_not_fit_table(reason: &str) -> Table {
    let mut table = Table::new(["fits", "reason"]);
    table.push(["no".to_owned(), reason.to_owned()]);
    table
}

/// Engines that do not fit, for people.
pub(crate) fn does_not_fit(reason: &str) -> String {
    format!("It does not fit: {reason}.\n`config-explorer plan` with the same flags says what to change.\n")
}

/// A whole number with commas.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        assert_eq!([0, 1, 1200].map(|number| count(number, "GPU")), ["0 GPUs", "1 GPU", "1,200 GPUs"]);
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
