//! How requests arrive.

use schemars::JsonSchema;
use serde::Deserialize;

use super::named;

named! {
    /// The three ways to send requests.
    pub enum LoadKind {
        /// A fixed number of clients; each sends its next request when the last one ends.
        Closed = "closed",
        /// Requests arrive at a rate, whatever the server does.
        Open = "open",
        /// All requests at once. Time to first token then measures the queue, not the server.
        Burst = "burst",
    }
}

/// Kind and level of a load.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// How requests arrive, where it is known.
    pub kind: Option<LoadKind>,
    /// Requests in flight: the clients of a closed loop, the cap of an open one. None without a limit.
    ///
    /// Not always whole: GuideLLM reports the mean number that it measured.
    pub concurrency: Option<f64>,
    /// Arrivals per second. None where requests are sent as fast as they can.
    pub rate_per_s: Option<f64>,
}

impl Load {
    /// The load that a request rate and a concurrency limit make together, as `vllm bench serve` defines them.
    ///
    /// No rate (or an infinite one) and no limit is a burst; so is a closed loop with no more requests than clients,
    /// because every request is then sent at once.
    pub fn of(rate_per_s: Option<f64>, concurrency: Option<f64>, requests: Option<u64>) -> Self {
        let rate_per_s = rate_per_s.filter(|rate| rate.is_finite());
        let concurrency = concurrency.filter(|limit| limit.is_finite());
        let kind = match (rate_per_s, concurrency) {
            (Some(_), _) => LoadKind::Open,
            (None, Some(limit)) if requests.is_none_or(|requests| requests as f64 > limit) => LoadKind::Closed,
            (None, _) => LoadKind::Burst,
        };
        Self { kind: Some(kind), concurrency, rate_per_s }
    }
}

/// How the gaps between the arrivals of an open load vary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Gaps {
    /// All are equal.
    Constant,
    /// Exponentially distributed: arrivals do not know of each other.
    #[default]
    Poisson,
    /// Gamma distributed. `vllm bench serve --burstiness B` is `cv = 1 / sqrt(B)`.
    Gamma {
        /// Coefficient of variation: standard deviation over mean; 1 is Poisson, more is burstier.
        cv: f64,
    },
    /// Weibull distributed; give the shape or the coefficient of variation.
    Weibull {
        /// Shape: 1 is Poisson, less is burstier.
        #[serde(default)]
        shape: Option<f64>,
        /// Coefficient of variation, as of `gamma`.
        #[serde(default)]
        cv: Option<f64>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_limit_make_the_kind() {
        assert_eq!(Load::of(Some(3.6), None, Some(200)).kind, Some(LoadKind::Open));
        assert_eq!(Load::of(Some(f64::INFINITY), Some(64.0), Some(500)).kind, Some(LoadKind::Closed));
        assert_eq!(Load::of(None, Some(64.0), Some(64)).kind, Some(LoadKind::Burst));
        assert_eq!(Load::of(Some(f64::INFINITY), None, Some(500)).kind, Some(LoadKind::Burst));
        assert_eq!(Load::of(Some(f64::INFINITY), None, None).rate_per_s, None);
    }
}
