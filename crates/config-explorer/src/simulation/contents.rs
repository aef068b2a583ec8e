//! What requests hold: drawn by their number alone, so that it does not matter when they are sent.

use std::sync::Arc;

use super::engine::Segment;
use super::random::{Draws, Purpose};
use super::traffic::{FIRST_TEXT, Traffic, parameters};
use crate::Result;
use crate::workload::{self, Distribution, Histogram, LengthDistribution, LengthShape, Popularity, Prefix, Trace};

/// The text of the system prompt.
const SYSTEM_TEXT: u32 = FIRST_TEXT - 1;

/// Most tokens of a session: positions in a text have 32 bits.
const MAX_SESSION_TOKENS: u32 = 1 << 30;

/// Draws numbers from a distribution that has been checked.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    distribution: Distribution,
    parameters: (f64, f64),
    draws: Draws,
}

impl Numbers {
    pub(super) fn new(distribution: &Distribution, seed: u64, purpose: Purpose) -> Self {
        let parameters = match distribution {
            Distribution::Shaped(lengths) => parameters(lengths),
            _ => (0.0, 0.0),
        };
        Self { distribution: distribution.clone(), parameters, draws: Draws::new(seed, purpose) }
    }

    /// The number that goes with a key: at least 0.
    pub(super) fn value(&mut self, key: u64) -> f64 {
        let (first, second) = self.parameters;
        let LengthDistribution { shape, min, max, .. } = match &self.distribution {
            Distribution::Shaped(lengths) => *lengths,
            Distribution::Histogram(histogram) => return Histogram::value(self.draws.uniforms(key), histogram),
            // Refused before.
            Distribution::File { .. } => return 0.0,
        };
        let (min, max) = (min.unwrap_or(0.0), max.unwrap_or(f64::from(1u32 << 30)));
        let value = match shape {
            LengthShape::Fixed | LengthShape::Other => first,
            LengthShape::Uniform => min + (max - min) * self.draws.uniforms(key)[0],
            LengthShape::Gaussian => first + second * self.draws.normal(key),
            LengthShape::Lognormal => (first + second * self.draws.normal(key)).exp(),
            LengthShape::Exponential => -first * self.draws.uniforms(key)[0].ln(),
            LengthShape::Pareto => second * self.draws.uniforms(key)[0].powf(-1.0 / first),
        };
        value.min(max).max(min)
    }

    /// As a whole number of at least 1.
    pub(super) fn count(&mut self, key: u64) -> u32 {
        if let Distribution::Shaped(LengthDistribution { shape: LengthShape::Uniform, min, max, .. }) =
            self.distribution
        {
            // All whole numbers between the limits are equally likely, the limits included.
            let (first, last) = (min.unwrap_or(0.0).max(1.0).ceil(), max.unwrap_or(0.0).floor());
            let count = first + (self.draws.uniforms(key)[0] * (last - first + 1.0)).floor();
            return count.min(last).max(1.0) as u32;
        }
        self.value(key).round().max(1.0) as u32
    }
}

/// A session under way; a single request is one of one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Session {
    /// Its number, from 0.
    pub(super) id: u32,
    class: u16,
    /// Of the next request, from 0.
    turn: u32,
    turns: u32,
    /// The text of its prefix group and the tokens of it.
    group: (u32, u32),
    /// Its own text, and what its numbers are drawn with.
    text: u32,
    key: u32,
    /// Tokens of its text up to the next request.
    tokens: u32,
}

impl Session {
    /// Whether it has sent nothing yet.
    pub(super) fn is_new(&self) -> bool {
        self.turn == 0
    }
}

/// The request of a turn.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    pub(super) class: u16,
    pub(super) priority: i32,
    pub(super) session: u32,
    pub(super) input: u32,
    pub(super) output: u32,
    pub(super) prompt: Prompt,
    /// The text of the answer and the position of its first token in it.
    pub(super) answer: (u32, u32),
}

/// The segments of a prompt: few in a vector of its own would cost an allocation.
#[derive(Debug, Clone)]
pub(super) enum Prompt {
    Few([Segment; 3], u8),
    Many(Vec<Segment>),
}

impl Prompt {
    pub(super) fn segments(&self) -> &[Segment] {
        match self {
            Self::Few(segments, count) => &segments[..usize::from(*count)],
            Self::Many(segments) => segments,
        }
    }

    /// Of those that are not empty.
    fn of(all: [Segment; 3]) -> Self {
        let mut segments = all;
        let mut count = 0;
        for segment in all.into_iter().filter(|segment| segment.len > 0) {
            segments[usize::from(count)] = segment;
            count += 1;
        }
        Self::Few(segments, count)
    }
}

/// Where the contents come from.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub(super) enum Contents {
    Drawn { classes: Vec<Class>, which: Draws, system_tokens: u32, first_text: u32, ends: u32 },
    Trace { trace: Arc<Trace>, priorities: Vec<i32> },
}

/// What the requests of a class are drawn from.
#[derive(Debug, Clone)]
pub(super) struct Class {
    /// Sum of the shares up to and with this one.
    cumulated: f64,
    priority: i32,
    input: Numbers,
    output: Numbers,
    prefix: Option<Groups>,
    session: Option<Turns>,
}

#[derive(Debug, Clone)]
struct Groups {
    prefix: Prefix,
    /// Texts of the groups, then of their prompts.
    first_text: u32,
    /// Sums of the shares of the groups, for [`Popularity::Zipf`].
    cumulated: Vec<f64>,
    /// The prompts, or groups, in their order, for [`Popularity::Shuffled`].
    order: Vec<u32>,
    group: Draws,
    prompt: Draws,
}

#[derive(Debug, Clone)]
#[expect(clippy::struct_field_names, reason = "the field's own term")]
struct Turns {
    turns: Numbers,
    think_time_s: Numbers,
    context: Numbers,
    max_context: Option<u32>,
}

impl Groups {
    fn new(prefix: Prefix, first_text: u32, seed: u64) -> Self {
        let mut cumulated = Vec::new();
        if let Popularity::Zipf { exponent } = prefix.popularity {
            let mut sum = 0.0;
            for rank in 1..=prefix.groups {
                sum += f64::from(rank).powf(-exponent);
                cumulated.push(sum);
            }
            cumulated.iter_mut().for_each(|share| *share /= sum);
        }
        let [group, mut prompt] = [Purpose::PrefixGroup, Purpose::Prompt].map(|purpose| Draws::new(seed, purpose));
        let mut order = Vec::new();
        if prefix.popularity == Popularity::Shuffled {
            order = (0..prefix.groups * prefix.prompts_per_group.unwrap_or(1)).collect();
            order.sort_by_cached_key(|&at| prompt.uniforms(u64::from(at))[0].to_bits());
        }
        Self { prefix, first_text, cumulated, order, group, prompt }
    }

    /// Group of a session and, where prompts repeat, the number of its prompt.
    fn of(&mut self, id: u32) -> (u32, Option<u32>) {
        let Prefix { groups, prompts_per_group, popularity, .. } = self.prefix;
        let below = |part: f64, count: u32| ((part * f64::from(count)) as u32).min(count - 1);
        let group = match popularity {
            Popularity::Uniform if groups == 1 => 0,
            Popularity::Uniform => below(self.group.uniforms(u64::from(id))[0], groups),
            Popularity::InTurn => id % groups,
            Popularity::Shuffled => {
                let at = self.order[id as usize % self.order.len()];
                return (at / prompts_per_group.unwrap_or(1), prompts_per_group.map(|_| at));
            }
            Popularity::Zipf { .. } => {
                let part = self.group.uniforms(u64::from(id))[0];
                (self.cumulated.partition_point(|&share| share < part) as u32).min(groups - 1)
            }
        };
        let prompt = prompts_per_group.map(|prompts| match popularity {
            Popularity::InTurn => group * prompts + id / groups % prompts,
            _ => group * prompts + below(self.prompt.uniforms(u64::from(id))[0], prompts),
        });
        (group, prompt)
    }
}

impl Contents {
    /// The traffic has been checked.
    pub(super) fn new(traffic: &Traffic) -> Result<Self> {
        let classes = traffic.classes();
        if let Some(trace) = &traffic.trace {
            let priorities = classes.iter().map(|class| class.priority).collect();
            return Ok(Self::Trace { trace: Arc::clone(trace), priorities });
        }
        let seed = traffic.seed;
        let (mut text, mut cumulated) = (FIRST_TEXT, 0.0);
        let mut drawn = Vec::new();
        let mut ends = 0;
        for (class, contents) in classes.iter().zip(traffic.workload.contents()?) {
            cumulated += class.share;
            let workload::Contents { input, output, prefix, session } = contents;
            let turns = |session: workload::Session| Turns {
                turns: Numbers::new(&session.turns, seed, Purpose::Turns),
                think_time_s: Numbers::new(&session.think_time_s, seed, Purpose::TurnThinkTime),
                context: Numbers::new(&session.context_tokens, seed, Purpose::Context),
                max_context: session.max_context_tokens,
            };
            ends += u32::from(session.is_some());
            drawn.push(Class {
                cumulated,
                priority: class.priority,
                input: Numbers::new(&input, seed, Purpose::InputLength),
                output: Numbers::new(&output, seed, Purpose::OutputLength),
                prefix: prefix.map(|prefix| Groups::new(prefix, text, seed)),
                session: session.map(turns),
            });
            text += prefix.map_or(0, |prefix| prefix.groups * (1 + prefix.prompts_per_group.unwrap_or(0)));
        }
        Ok(Self::Drawn {
            classes: drawn,
            which: Draws::new(seed, Purpose::Class),
            system_tokens: traffic.workload.system_prompt_tokens,
            first_text: text,
            ends,
        })
    }

    /// Whether sessions can have several turns, each of which waits for the one before.
    pub(super) fn has_sessions(&self) -> bool {
        matches!(self, Self::Drawn { ends, .. } if *ends > 0)
    }

    /// A session before its first turn.
    pub(super) fn begin(&mut self, id: u32) -> Session {
        let Self::Drawn { classes, which, system_tokens, first_text, .. } = self else {
            return Session { id, class: 0, turn: 0, turns: 1, group: (0, 0), text: 0, key: id, tokens: 0 };
        };
        let mut index = 0;
        if classes.len() > 1 {
            let part = which.uniforms(u64::from(id))[0];
            index = classes.partition_point(|class| class.cumulated < part).min(classes.len() - 1);
        }
        let class = &mut classes[index];
        let (mut group, mut text, mut key) = ((0, 0), *first_text + id, id);
        if let Some(groups) = &mut class.prefix {
            let (number, prompt) = groups.of(id);
            group = (groups.first_text + number, groups.prefix.tokens);
            if let Some(prompt) = prompt {
                (text, key) = (groups.first_text + groups.prefix.groups + prompt, prompt);
            }
        }
        let (mut turns, mut tokens) = (1, 0);
        if let Some(session) = &mut class.session {
            turns = session.turns.count(u64::from(key));
            tokens = session.context.value(u64::from(key)).round() as u32;
            if let Some(max) = session.max_context {
                let first = class.input.count(u64::from(key)).saturating_add(class.output.count(u64::from(key)));
                let others = first.saturating_add(*system_tokens).saturating_add(group.1);
                tokens = tokens.min(max.saturating_sub(others));
            }
        }
        Session { id, class: index as u16, turn: 0, turns, group, text, key, tokens }
    }

    /// The next request of a session.
    pub(super) fn turn(&mut self, session: &Session) -> Turn {
        match self {
            Self::Drawn { classes, system_tokens, .. } => {
                let class = &mut classes[usize::from(session.class)];
                let key = u64::from(session.turn) << 32 | u64::from(session.key);
                let (new, output) = (class.input.count(key), class.output.count(key));
                let own = session.tokens.saturating_add(new);
                let (group, shared) = session.group;
                Turn {
                    class: session.class,
                    priority: class.priority,
                    session: session.id,
                    input: own.saturating_add(shared).saturating_add(*system_tokens),
                    output,
                    prompt: Prompt::of([
                        Segment { id: SYSTEM_TEXT, start: 0, len: *system_tokens },
                        Segment { id: group, start: 0, len: shared },
                        Segment { id: session.text, start: 0, len: own },
                    ]),
                    answer: (session.text, own),
                }
            }
            Self::Trace { trace, priorities } => of_trace(trace, priorities, session.id),
        }
    }

    /// The session after a turn; none if that was its last one.
    pub(super) fn after(&mut self, session: &Session, turn: &Turn) -> Option<Session> {
        let next = Session { turn: session.turn + 1, tokens: turn.answer.1.saturating_add(turn.output), ..*session };
        if next.turn >= next.turns || next.tokens > MAX_SESSION_TOKENS {
            return None;
        }
        let Self::Drawn { classes, .. } = self else { return None };
        let max = classes[usize::from(session.class)].session.as_ref()?.max_context;
        if let Some(max) = max {
            let turn = self.turn(&next);
            if turn.input.saturating_add(turn.output) > max {
                return None;
            }
        }
        Some(next)
    }

    /// Seconds before the next request of a session.
    pub(super) fn think_time_s(&mut self, session: &Session) -> f64 {
        let Self::Drawn { classes, .. } = self else { return 0.0 };
        let key = u64::from(session.turn) << 32 | u64::from(session.key);
        classes[usize::from(session.class)].session.as_mut().map_or(0.0, |turns| turns.think_time_s.value(key))
    }
}

fn of_trace(trace: &Trace, priorities: &[i32], index: u32) -> Turn {
    // No more are started than there are.
    let Some(request) = trace.request(index as usize) else { unreachable!("request {index} of {}", trace.len()) };
    let shared = |run: &workload::Run| Segment { id: FIRST_TEXT + run.text, start: run.start, len: run.len };
    let own = request.input - request.shared.iter().map(|run| run.len).sum::<u32>();
    let text = FIRST_TEXT + request.own_text;
    let own_segment = Segment { id: text, start: 0, len: own };
    let nothing = Segment { len: 0, ..own_segment };
    let prompt = match request.shared {
        [] => Prompt::of([nothing, nothing, own_segment]),
        [one] => Prompt::of([nothing, shared(one), own_segment]),
        [one, other] => Prompt::of([shared(one), shared(other), own_segment]),
        many => Prompt::Many(many.iter().map(shared).chain((own > 0).then_some(own_segment)).collect()),
    };
    Turn {
        class: request.class,
        priority: priorities.get(usize::from(request.class)).copied().unwrap_or(0),
        session: request.session,
        input: request.input,
        output: request.output,
        prompt,
        answer: (text, own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(distribution: impl Into<Distribution>) -> Numbers {
        Numbers::new(&distribution.into(), 3, Purpose::InputLength)
    }

    fn moments(values: impl Iterator<Item = f64>) -> (f64, f64) {
        let values: Vec<_> = values.collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, variance.sqrt())
    }

    #[test]
    fn numbers_have_their_mean_and_deviation() {
        let shaped =
            |shape, stddev| LengthDistribution { shape, stddev: Some(stddev), ..LengthDistribution::fixed(500.0) };
        for lengths in [
            LengthDistribution::gaussian(500.0, 80.0),
            LengthDistribution::lognormal(500.0, 400.0),
            shaped(LengthShape::Exponential, 500.0),
            shaped(LengthShape::Pareto, 150.0),
        ] {
            let mut draws = numbers(lengths);
            let (mean, stddev) = moments((0..40_000).map(|key| f64::from(draws.count(key))));
            assert!((mean / 500.0 - 1.0).abs() < 0.02, "{lengths:?}: {mean}");
            // The tail of Pareto's makes the deviation of a sample uncertain.
            let tolerance = if lengths.shape == LengthShape::Pareto { 0.15 } else { 0.04 };
            assert!((stddev / lengths.stddev.unwrap() - 1.0).abs() < tolerance, "{lengths:?}: {stddev}");
        }
    }

    #[test]
    fn numbers_stay_in_their_limits() {
        let mut uniform = numbers(LengthDistribution::uniform(3.0, 7.0));
        let drawn: std::collections::BTreeSet<_> = (0..500).map(|key| uniform.count(key)).collect();
        assert!(drawn.into_iter().eq(3..=7));
        let cut =
            LengthDistribution { min: Some(400.0), max: Some(600.0), ..LengthDistribution::lognormal(500.0, 400.0) };
        let mut cut = numbers(cut);
        let drawn: std::collections::BTreeSet<_> = (0..500).map(|key| cut.count(key)).collect();
        assert!(drawn.first() == Some(&400) && drawn.last() == Some(&600) && drawn.len() > 20);
        let histogram = Histogram::new([(1.0, 1.0, 3.0), (10.0, 20.0, 1.0), (5.0, 5.0, 0.0)]).unwrap();
        let mut histogram = numbers(Distribution::Histogram(histogram));
        let drawn: Vec<_> = (0..4000).map(|key| histogram.count(key)).collect();
        let ones = drawn.iter().filter(|&&count| count == 1).count();
        assert!((2850..3150).contains(&ones), "{ones}");
        assert!(drawn.iter().all(|count| *count == 1 || (10..=20).contains(count)));
    }

    #[test]
    fn a_round_of_shuffled_prompts_holds_each_once() {
        for prompts_per_group in [None, Some(3)] {
            let prefix = Prefix { tokens: 9, groups: 40, prompts_per_group, popularity: Popularity::Shuffled };
            let mut groups = Groups::new(prefix, 10, 1);
            let prompts = 40 * prompts_per_group.unwrap_or(1);
            let order: Vec<_> = (0..2 * prompts).map(|id| groups.of(id)).collect();
            let (first, second) = order.split_at(prompts as usize);
            assert_eq!(first, second);
            assert!(!first.is_sorted());
            assert_eq!(first.iter().collect::<std::collections::BTreeSet<_>>().len(), first.len());
        }
    }

    #[test]
    fn popular_groups_come_more_often() {
        let counts = |popularity| {
            let prefix = Prefix { tokens: 9, groups: 4, prompts_per_group: Some(2), popularity };
            let mut groups = Groups::new(prefix, 10, 1);
            let mut counts = [0; 4];
            for id in 0..12_000 {
                let (group, prompt) = groups.of(id);
                counts[group as usize] += 1;
                assert_eq!(prompt.unwrap() / 2, group);
            }
            counts
        };
        assert_eq!(counts(Popularity::InTurn), [3000; 4]);
        assert_eq!(counts(Popularity::Shuffled), [3000; 4]);
        assert!(counts(Popularity::Uniform).iter().all(|count| (2800..3200).contains(count)));
        // 1, 1/2, 1/3, 1/4 of 25/12.
        let expected = [5760, 2880, 1920, 1440];
        let zipf = counts(Popularity::Zipf { exponent: 1.0 });
        assert!(
            zipf.iter().zip(expected).all(|(count, expected): (&i32, i32)| (count - expected).abs() < 200),
            "{zipf:?}"
        );
    }
}
