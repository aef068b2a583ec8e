//! A model as large as DeepSeek-V3 (92,000 tensors in 163 files): from a hub on the loopback, and from the caches.
//!
//! Limits: 250 ms from the hub (`cold`), and `cached` within the 15 ms of a whole plan.

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/support/mod.rs"]
mod support;

use config_explorer::model::{ModelFiles, Tensors, safetensors};
use divan::Bencher;
use support::{DEEPSEEK_LAYERS, Hub, deepseek_v3, header_only, options};
use tempfile::TempDir;

fn main() {
    divan::main();
}

#[divan::bench(sample_count = 20)]
fn cold(bencher: Bencher<'_, '_>) {
    let hub = Hub::of(deepseek_v3());
    bencher
        .with_inputs(|| TempDir::new().unwrap())
        .bench_refs(|directory| ModelFiles::find("org/name", &hub.options(directory.path())).unwrap());
}

#[divan::bench]
fn cached(bencher: Bencher<'_, '_>) {
    let (hub, directory) = (Hub::of(deepseek_v3()), TempDir::new().unwrap());
    ModelFiles::find("org/name", &hub.options(directory.path())).unwrap();
    let options = options("http://127.0.0.1:1", directory.path());
    bencher.bench(|| {
        let files = ModelFiles::find("org/name", &options).unwrap();
        files.tensors.groups(DEEPSEEK_LAYERS)
    });
}

#[divan::bench]
fn header_of_a_thousand_tensors(bencher: Bencher<'_, '_>) {
    let tensors = (0..1000).map(|expert| (format!("model.layers.0.mlp.experts.{expert}.up_proj.weight"), vec![2, 2]));
    let file = header_only(tensors);
    bencher.bench(|| -> Tensors { safetensors::parse_header(&file[8..], "").unwrap() });
}
