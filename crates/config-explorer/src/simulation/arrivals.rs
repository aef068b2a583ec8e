//! When requests that wait for nobody are sent.

use std::sync::Arc;

use rand_distr::{Distribution as _, Gamma};

use super::NS_PER_S;
use super::random::{Draws, Purpose, unbounded};
use crate::workload::{Gaps, Stage, Trace};

/// The times of arrivals, one after the other.
#[derive(Debug, Clone)]
pub(super) enum Times {
    /// At an even rate: seconds between two on average, and the time of the last one.
    Rate { mean_s: f64, last_s: f64, gaps: Box<GapDraws> },
    /// The requests that were due up to the last one.
    Schedule { schedule: Schedule, due: f64, gaps: Box<GapDraws> },
    /// As recorded.
    Trace(Arc<Trace>),
}

impl Times {
    /// Nanoseconds of the next one, whose number is given; none if there are no more.
    pub(super) fn next(&mut self, number: u32) -> Option<u64> {
        match self {
            Self::Rate { mean_s, last_s, gaps } => {
                *last_s += *mean_s * gaps.before(u64::from(number));
                Some((*last_s * NS_PER_S) as u64)
            }
            Self::Schedule { schedule, due, gaps } => {
                *due += gaps.before(u64::from(number));
                schedule.time_s(*due).map(|time| (time * NS_PER_S) as u64)
            }
            Self::Trace(trace) => trace.request(number as usize).map(|request| request.arrival_ns),
        }
    }
}

/// Draws the gaps between arrivals, 1 on average.
#[derive(Debug, Clone)]
pub(super) struct GapDraws {
    gaps: Gaps,
    /// Shape and scale of a Weibull distribution.
    weibull: (f64, f64),
    seed: u64,
    draws: Draws,
}

impl GapDraws {
    /// The gaps have been checked.
    pub(super) fn new(gaps: Gaps, seed: u64) -> Self {
        let shape = match gaps {
            Gaps::Weibull { shape: Some(shape), .. } => shape,
            Gaps::Weibull { cv: Some(cv), .. } => weibull_shape(cv),
            _ => 1.0,
        };
        let weibull = (shape, (-ln_gamma(1.0 + 1.0 / shape)).exp());
        Self { gaps, weibull, seed, draws: Draws::new(seed, Purpose::Gap) }
    }

    /// The gap before a request.
    pub(super) fn before(&mut self, request: u64) -> f64 {
        match self.gaps {
            Gaps::Constant => 1.0,
            Gaps::Poisson => -self.draws.uniforms(request)[0].ln(),
            Gaps::Gamma { cv } => {
                let variance = cv * cv;
                let mut rng = unbounded(self.seed, Purpose::Gap, request);
                // The parameters have been checked.
                Gamma::new(variance.recip(), variance).map_or(1.0, |gamma| gamma.sample(&mut rng))
            }
            Gaps::Weibull { .. } => {
                let (shape, scale) = self.weibull;
                scale * (-self.draws.uniforms(request)[0].ln()).powf(1.0 / shape)
            }
        }
    }
}

/// The shape of a Weibull distribution with a coefficient of variation between 0.02 and 100, which falls with the shape:
/// `cv^2 = gamma(1 + 2/k) / gamma(1 + 1/k)^2 - 1`.
fn weibull_shape(cv: f64) -> f64 {
    let (mut low, mut high) = (0.05, 200.0);
    for _ in 0..60 {
        let shape: f64 = f64::midpoint(low, high);
        let square = (ln_gamma(1.0 + 2.0 / shape) - 2.0 * ln_gamma(1.0 + 1.0 / shape)).exp_m1();
        if square > cv * cv { low = shape } else { high = shape }
    }
    f64::midpoint(low, high)
}

/// Logarithm of the gamma function above 0: Stirling's series at 10 or more, reached with `gamma(x + 1) = x gamma(x)`.
fn ln_gamma(mut x: f64) -> f64 {
    let mut product = 1.0;
    while x < 10.0 {
        product *= x;
        x += 1.0;
    }
    let square = x * x;
    let series = (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - 1.0 / (1680.0 * square)) / square) / square) / x;
    (x - 0.5) * x.ln() - x + (std::f64::consts::TAU).ln() / 2.0 + series - product.ln()
}

/// A rate that changes: how many requests are due up to a time, and back.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    parts: Vec<Part>,
    /// Of one round.
    requests: f64,
    /// Of one round.
    duration_s: f64,
    cycle: bool,
}

/// A stage, and the requests and seconds before it.
#[derive(Debug, Clone, Copy)]
struct Part {
    stage: Stage,
    requests_before: f64,
    start_s: f64,
}

impl Schedule {
    /// The stages have been checked.
    pub(super) fn new(stages: &[Stage], cycle: bool) -> Self {
        let (mut requests, mut duration_s) = (0.0, 0.0);
        let mut parts = Vec::with_capacity(stages.len());
        for &stage in stages {
            parts.push(Part { stage, requests_before: requests, start_s: duration_s });
            requests += stage.requests();
            duration_s += stage.duration_s;
        }
        Self { parts, requests, duration_s, cycle }
    }

    /// When so many requests are due.
    fn time_s(&self, due: f64) -> Option<f64> {
        // The last request of a round is sent at its end, not after the pause that may follow.
        let rounds = if self.cycle { ((due / self.requests).ceil() - 1.0).max(0.0) } else { 0.0 };
        // The last request of a schedule of whole numbers is sent at its end, in spite of rounding.
        if !self.cycle && due > self.requests * (1.0 + 1e-12) {
            return None;
        }
        let due = due - rounds * self.requests;
        let after = self.parts.partition_point(|part| part.requests_before < due);
        let part = self.parts.get(after.saturating_sub(1))?;
        let Stage { burst, rate_per_s, to_rate_per_s, duration_s } = part.stage;
        let due = due - part.requests_before - burst;
        let mut inside = 0.0;
        if due > 0.0 && duration_s > 0.0 {
            // The root of due = rate t + slope t^2 / 2, in the form that stands a slope of 0.
            let slope = (to_rate_per_s.unwrap_or(rate_per_s) - rate_per_s) / duration_s;
            let root = (rate_per_s * rate_per_s + 2.0 * slope * due).max(0.0).sqrt();
            inside = (2.0 * due / (rate_per_s + root)).min(duration_s);
        }
        Some(rounds * self.duration_s + part.start_s + inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(actual: f64, expected: f64, tolerance: f64) {
        assert!((actual / expected - 1.0).abs() < tolerance, "{actual} is not {expected}");
    }

    #[test]
    fn gaps_have_their_mean_and_variation() {
        for (gaps, cv) in [
            (Gaps::Poisson, 1.0),
            (Gaps::Gamma { cv: 2.0 }, 2.0),
            (Gaps::Gamma { cv: 0.5 }, 0.5),
            (Gaps::Weibull { shape: None, cv: Some(2.0) }, 2.0),
            (Gaps::Weibull { shape: None, cv: Some(0.3) }, 0.3),
            (Gaps::Weibull { shape: Some(1.0), cv: None }, 1.0),
        ] {
            let mut draws = GapDraws::new(gaps, 1);
            let values: Vec<_> = (0..40_000).map(|request| draws.before(request)).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
            close(mean, 1.0, 0.03);
            close(variance.sqrt() / mean, cv, 0.04);
        }
        assert!((GapDraws::new(Gaps::Constant, 1).before(9) - 1.0).abs() < 1e-12);
        // gamma(5) = 24, gamma(1/2) = sqrt(pi).
        close(ln_gamma(5.0), 24_f64.ln(), 1e-9);
        close(ln_gamma(0.5), std::f64::consts::PI.ln() / 2.0, 1e-9);
    }

    #[test]
    fn schedules_send_what_their_stages_say() {
        let stage = |rate_per_s, duration_s| Stage { rate_per_s, duration_s, ..Stage::default() };
        let ramp = Stage { to_rate_per_s: Some(4.0), ..stage(0.0, 2.0) };
        let burst = Stage { burst: 2.0, ..Stage::default() };
        let stages = [stage(2.0, 1.0), stage(0.0, 3.0), ramp, burst];
        let times = |schedule: &Schedule| (1..20).map_while(|due| schedule.time_s(f64::from(due))).collect::<Vec<_>>();
        let near = |actual: &[f64], expected: &[f64]| {
            assert_eq!(actual.len(), expected.len(), "{actual:?}");
            assert!(actual.iter().zip(expected).all(|(one, other)| (one - other).abs() < 1e-9), "{actual:?}");
        };
        // The ramp has sent t^2 requests after t seconds.
        let once = [0.5, 1.0, 5.0, 4.0 + 2_f64.sqrt(), 4.0 + 3_f64.sqrt(), 6.0, 6.0, 6.0];
        near(&times(&Schedule::new(&stages, false)), &once);
        let again: Vec<_> = (0..19).map(|index| once[index % 8] + 6.0 * (index / 8) as f64).collect();
        near(&times(&Schedule::new(&stages, true)), &again);
    }
}
