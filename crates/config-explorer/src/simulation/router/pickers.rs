//! Which of the scored endpoints are taken.

use super::chance::{Chance, Purpose};

/// How a picker chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The highest scores; equal ones in random order.
    MaxScore,
    /// Any.
    Random,
    /// Any, with a probability in proportion to its score: the largest keys `U^(1 / score)` (A-Res, Efraimidis and
    /// Spirakis). Scores of zero and below come last, uniformly.
    WeightedRandom,
}

/// A picker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picker {
    /// How.
    pub choice: Choice,
    /// How many at most.
    pub count: usize,
}

impl Picker {
    /// Cuts the candidates with their scores down to those picked, the first choice first.
    pub fn pick(&self, chance: Chance, scored: &mut Vec<(usize, f64)>) {
        let by_score = |a: &(usize, f64), b: &(usize, f64)| b.1.total_cmp(&a.1);
        match self.choice {
            Choice::MaxScore if self.count == 1 => {
                // Without a tie nothing is drawn: most requests pay for no random number.
                let best = scored.iter().map(|&(_, score)| score).max_by(f64::total_cmp);
                scored.retain(|&(_, score)| Some(score) == best);
                if scored.len() > 1 {
                    let chosen = chance.stream(Purpose::Pick).below(scored.len());
                    scored.swap(0, chosen);
                }
            }
            Choice::MaxScore => {
                chance.stream(Purpose::Pick).shuffle(scored);
                scored.sort_by(by_score);
            }
            Choice::Random => chance.stream(Purpose::Pick).shuffle(scored),
            Choice::WeightedRandom => {
                let mut stream = chance.stream(Purpose::Pick);
                stream.shuffle(scored);
                let mut keyed: Vec<_> = scored
                    .iter()
                    .map(|&(candidate, score)| {
                        // ln U / score orders as U^(1 / score) does, without the loss at small scores.
                        let key = if score > 0.0 { (1.0 - stream.unit()).ln() / score } else { f64::NEG_INFINITY };
                        (candidate, score, key)
                    })
                    .collect();
                keyed.sort_by(|a, b| b.2.total_cmp(&a.2));
                scored.clear();
                scored.extend(keyed.into_iter().map(|(candidate, score, _)| (candidate, score)));
            }
        }
        scored.truncate(self.count);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn takes_as_many_as_asked_and_the_best(scores in prop::collection::vec(-2.0..2.0, 1..20), count in 1_usize..4) {
            let scored: Vec<_> = scores.iter().copied().enumerate().collect();
            let chance = Chance { seed: 1, request: count as u64 };
            for choice in [Choice::MaxScore, Choice::Random, Choice::WeightedRandom] {
                let mut picked = scored.clone();
                Picker { choice, count }.pick(chance, &mut picked);
                prop_assert_eq!(picked.len(), count.min(scores.len()));
                let mut again = scored.clone();
                Picker { choice, count }.pick(chance, &mut again);
                prop_assert_eq!(&picked, &again);
                prop_assert!(choice != Choice::MaxScore || scores.iter().all(|&score| score <= picked[0].1));
            }
        }
    }
}
