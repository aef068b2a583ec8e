//! Time to plan the KV cache: grouping, and what a change of memory or length costs afterwards.

use config_explorer::engine::EngineRules;
use config_explorer::memory::kv_cache::{
    CacheKind, KvCacheLayout, KvCacheRequest, KvCacheSpec, KvHeads, MaxModelLen, MlaCacheType,
};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// DeepSeek-V3: 61 equal layers.
fn deepseek_v3() -> Vec<KvCacheSpec> {
    let kind = CacheKind::Mla { head_dim: 576, element_bytes: 2, cache_type: Some(MlaCacheType::Auto) };
    vec![KvCacheSpec { block_size: 64, padded_page_bytes: None, kind }; 61]
}

/// Qwen3.5-27B: 48 states and 16 full-attention layers.
fn qwen35_27b() -> Vec<KvCacheSpec> {
    let heads = KvHeads { kv_heads: 4, head_dim: 256, value_head_dim: 256, element_bytes: 2 };
    let attention =
        KvCacheSpec { block_size: 784, padded_page_bytes: None, kind: CacheKind::Full { heads, local: None } };
    let state = KvCacheSpec {
        block_size: 262_144,
        padded_page_bytes: Some(attention.page_bytes()),
        kind: CacheKind::Mamba { state_bytes: 3_207_168, speculative_blocks: 0 },
    };
    [state, state, state, attention].repeat(16)
}

fn bench(bencher: Bencher<'_, '_>, layers: Vec<KvCacheSpec>) {
    let rules = EngineRules::of_default_version().kv_cache;
    let request = KvCacheRequest::new(MaxModelLen::Fixed(131_072), 8192);
    let stages = [layers];
    bencher.bench_local(|| {
        let layout = KvCacheLayout::new(black_box(&stages), &request, &rules).unwrap();
        layout.plan(black_box(&[40 << 30])).unwrap()
    });
}

#[divan::bench]
fn plan_61_equal_layers(bencher: Bencher<'_, '_>) {
    bench(bencher, deepseek_v3());
}

#[divan::bench]
fn plan_hybrid_of_64_layers(bencher: Bencher<'_, '_>) {
    bench(bencher, qwen35_27b());
}

#[divan::bench]
fn longest_length_of_a_hybrid(bencher: Bencher<'_, '_>) {
    let rules = EngineRules::of_default_version().kv_cache;
    let request = KvCacheRequest::new(MaxModelLen::Fixed(131_072), 8192);
    let layout = KvCacheLayout::new(&[qwen35_27b()], &request, &rules).unwrap();
    bencher.bench_local(|| layout.longest_model_len(0, black_box(40 << 30), 1 << 24));
}
