//! Placing a request on one of 16 endpoints, by the router's default configuration.

use config_explorer::simulation::router::{Endpoint, LoadOptions, Metrics, Request, Router, RouterConfig};

fn main() {
    divan::main();
}

/// A request of 64 prompts in turn, 1024 tokens each.
#[divan::bench]
fn schedule(bencher: divan::Bencher<'_, '_>) {
    let config = RouterConfig::load("", &LoadOptions::default(), "bench").expect("the default loads");
    let endpoint = |at: usize| Endpoint { name: format!("pod-{at}"), ..Endpoint::default() };
    let mut router = Router::new(&config, (0..16).map(endpoint).collect(), 1).expect("the default runs");
    for at in 0..16 {
        let metrics = Metrics { waiting: at as u64 % 5, kv_usage: at as f64 / 20.0, ..Metrics::default() };
        *router.metrics_mut(at).expect("there are 16") = metrics;
    }
    let prompts: Vec<Vec<Vec<u32>>> = (0..64).map(|kind| vec![(kind..kind + 1024).collect()]).collect();
    let mut id = 0;
    bencher.bench_local(|| {
        let prompt = prompts[id as usize % prompts.len()].as_slice();
        let request = Request { id, token_count: 1024, prompt: &prompt, ..Request::EMPTY };
        let decision = router.schedule(&request, id as f64).expect("all are alive");
        router.answered(id, true);
        id += 1;
        decision
    });
}
