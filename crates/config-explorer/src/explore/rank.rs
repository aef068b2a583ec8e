//! Best first.

use std::cmp::Ordering;

use crate::reports::{Column, Direction, Run};

/// Sorts runs by a column, best first: the smallest first where less is better or neither is, text by the alphabet.
/// Runs without a value come last. Equal ones keep their order.
pub fn rank(runs: &mut [&Run], column: &Column) {
    let order = |a: &Run, b: &Run| match (column.number(a), column.number(b)) {
        (Some(a), Some(b)) if column.direction == Direction::Higher => b.total_cmp(&a),
        (Some(a), Some(b)) => a.total_cmp(&b),
        (None, None) => {
            let [a, b] = [a, b].map(|run| column.get(run).map(|value| value.to_string()));
            a.is_none().cmp(&b.is_none()).then_with(|| a.cmp(&b))
        }
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
    };
    runs.sort_by(|a, b| order(a, b));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::column;

    #[test]
    fn best_first_and_missing_last() {
        let run = |model: &str, tokens: Option<f64>| {
            let mut run = Run::default();
            run.server.model = Some(model.to_owned()).filter(|model| !model.is_empty());
            run.throughput.output_tokens = tokens;
            run
        };
        let runs = [run("b", Some(1.0)), run("", None), run("a", Some(3.0)), run("c", Some(2.0))];
        let ranked = |name: &str| {
            let mut sorted: Vec<&Run> = runs.iter().collect();
            rank(&mut sorted, column(name).unwrap());
            sorted.iter().map(|run| run.server.model.as_deref().unwrap_or("-")).collect::<String>()
        };
        assert_eq!(ranked("out_tok_s"), "acb-");
        assert_eq!(ranked("model"), "abc-");
    }
}
