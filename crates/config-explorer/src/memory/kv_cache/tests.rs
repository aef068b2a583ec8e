//! The planner on numbers that real servers printed, and its invariants on arbitrary layers.

use proptest::prelude::*;

use super::*;
use crate::engine::MambaCacheMode;
use crate::engine::{EngineRules, KvCacheRules};

fn rules(version: &str) -> KvCacheRules {
    EngineRules::of(version.parse().unwrap()).unwrap().kv_cache
}

fn heads(kv_heads: u64, head_dim: u64) -> KvHeads {
    KvHeads { kv_heads, head_dim, value_head_dim: head_dim, element_bytes: 2 }
}

fn spec(block_size: u64, kind: CacheKind) -> KvCacheSpec {
    KvCacheSpec { block_size, padded_page_bytes: None, kind }
}

fn full(heads: KvHeads) -> KvCacheSpec {
    spec(16, CacheKind::Full { heads, local: None })
}

fn window(heads: KvHeads, window: u64) -> KvCacheSpec {
    spec(16, CacheKind::Local { heads, local: LocalAttention::SlidingWindow(window) })
}

fn mla(head_dim: u64, element_bytes: u64) -> KvCacheSpec {
    spec(64, CacheKind::Mla { head_dim, element_bytes, cache_type: None })
}

/// `layers` layers, every `period`-th of which is the second kind.
fn pattern(layers: usize, period: usize, first: KvCacheSpec, second: KvCacheSpec) -> Vec<KvCacheSpec> {
    (1..=layers).map(|layer| if layer % period == 0 { second } else { first }).collect()
}

fn layout(layers: Vec<KvCacheSpec>, request: &KvCacheRequest, version: &str) -> Result<KvCacheLayout, KvCacheRefusal> {
    KvCacheLayout::new(&[layers], request, &rules(version))
}

fn request(max_model_len: u64) -> KvCacheRequest {
    KvCacheRequest::new(MaxModelLen::Fixed(max_model_len), 8192)
}

#[test]
fn gemma_3_27b_as_printed_by_0_11() {
    // 109.86 GiB: 89,994 blocks, 205,696 tokens, 50.05x at 4,096.
    let heads = heads(16, 128);
    let layers = pattern(62, 6, window(heads, 1024), full(heads));
    let layout = layout(layers, &request(4096), "0.11.0").unwrap();
    let sizes: Vec<_> = layout.groups().iter().map(|group| group.layers.len()).collect();
    assert_eq!(sizes, [9, 9, 9, 9, 8, 8, 10]);
    let plan = layout.plan(&[89_994 * 131_072 * 10 + 7]).unwrap();
    assert_eq!((plan.num_blocks, plan.tokens_reported), (89_994, 205_696));
    assert_eq!(format!("{:.2}", plan.max_concurrency), "50.05");
}

#[test]
fn gpt_oss_120b_holds_more_than_the_old_log_line_says() {
    // TP2, 131,072 tokens: "2,269,888 tokens", 32.56x (4.27 M tokens).
    let heads = heads(4, 64);
    let layers = pattern(36, 2, window(heads, 128), full(heads));
    let num_blocks = 2_269_888 / 16 * 2;
    let bytes = num_blocks * 18 * 16_384;
    let plan = layout(layers.clone(), &request(131_072), "0.19.1").unwrap().plan(&[bytes]).unwrap();
    assert_eq!((plan.num_blocks, plan.tokens_reported), (num_blocks, 2_269_888));
    assert_eq!(format!("{:.2}", plan.max_concurrency), "32.56");
    assert_eq!(plan.tokens / 10_000, 426);
    let plan = layout(layers, &request(131_072), "0.20.2").unwrap().plan(&[bytes]).unwrap();
    assert_eq!(plan.tokens_reported, plan.tokens);
}

#[test]
fn group_size_is_the_fewest_layers_unless_the_most_are_close() {
    let heads = heads(8, 128);
    let sizes = |full_layers: usize, window_layers: usize, version: &str| {
        let layers = [vec![full(heads); full_layers], vec![window(heads, 1024); window_layers]].concat();
        let layout = layout(layers, &request(4096), version).unwrap();
        layout.groups().iter().map(|group| group.layers.len()).collect::<Vec<_>>()
    };
    assert_eq!(sizes(20, 29, "0.19.1"), [20, 29]);
    assert_eq!(sizes(20, 30, "0.19.1"), [20, 15, 15]);
    assert_eq!(sizes(20, 29, "0.17.1"), [20, 15, 14]);
    assert_eq!(sizes(20, 24, "0.17.1"), [20, 24]);
    assert_eq!(sizes(20, 24, "0.11.0"), [20, 12, 12]);
}

#[test]
fn smaller_pages_get_larger_blocks_or_padding() {
    // Gemma 4: sliding 8 x 256, full 2 x 512.
    let layers = pattern(30, 6, window(heads(8, 256), 1024), full(heads(2, 512)));
    let layout_4 = layout(layers, &request(4096), "0.19.1").unwrap();
    assert_eq!(layout_4.groups().last().unwrap().spec.block_size, 32);

    // Two heads do not divide three.
    let layers = pattern(24, 4, window(heads(2, 128), 512), full(heads(3, 128)));
    let refused = layout(layers.clone(), &request(4096), "0.23.0").unwrap_err();
    assert_eq!(refused, KvCacheRefusal::PagesNotUnifiable { page_bytes: 16_384, largest_page_bytes: 24_576 });
    let padded = layout(layers, &request(4096), "0.24.0").unwrap();
    assert_eq!(padded.groups()[0].spec.padded_page_bytes, Some(24_576));
    assert!(padded.groups().iter().all(|group| group.pages == GroupPages::Equal(24_576)));
}

#[test]
fn mla_layers_of_two_widths_share_the_first_page_until_0_27() {
    // DeepSeek-V3.2 with a bf16 latent and its index keys.
    let layers = [mla(576, 2), mla(132, 1)].repeat(61);
    let bytes = 44_521_218_689;
    let old = layout(layers.clone(), &request(163_840), "0.19.1").unwrap().plan(&[bytes]).unwrap();
    let new = layout(layers, &request(163_840), "0.27.1").unwrap().plan(&[bytes]).unwrap();
    assert_eq!((old.num_blocks, new.num_blocks), (4_949, 8_881));
}

#[test]
fn an_mla_page_that_cannot_be_raised_makes_sliding_layers_full() {
    // The window's page of 192 KiB is no multiple of the latent's 72 KiB.
    let layers = pattern(24, 4, mla(576, 2), KvCacheSpec { block_size: 64, ..window(heads(6, 128), 512) });
    assert!(layout(layers.clone(), &request(4096), "0.24.0").is_err());
    let layout = layout(layers, &request(4096), "0.33.0").unwrap();
    assert_eq!(layout.groups().len(), 1);
    assert!(matches!(layout.groups()[0].pages, GroupPages::Mixed(_)));
    assert_eq!(layout.blocks_per_request(4096), 64);
}

#[test]
fn without_the_hybrid_manager_every_token_is_kept() {
    let heads = heads(16, 128);
    let off = KvCacheRequest { disable_hybrid_kv_cache_manager: true, ..request(32_768) };
    let layers = pattern(62, 6, window(heads, 1024), full(heads));
    let layout_off = layout(layers, &off, "0.19.1").unwrap();
    assert_eq!((layout_off.groups().len(), layout_off.blocks_per_request(32_768)), (1, 2048));

    let two_windows = vec![full(heads), window(heads, 512), window(heads, 1024)];
    assert_eq!(layout(two_windows, &off, "0.33.0").unwrap_err(), KvCacheRefusal::WindowsDiffer);
    let state = spec(32_768, CacheKind::Mamba { state_bytes: 131_072, speculative_blocks: 0 });
    assert_eq!(layout(vec![full(heads), state], &off, "0.19.1").unwrap_err(), KvCacheRefusal::HybridManagerNeeded);
    // Before 0.9 there was no hybrid manager.
    assert_eq!(
        layout(vec![full(heads), state], &request(4096), "0.8.5").unwrap_err(),
        KvCacheRefusal::HybridManagerNeeded
    );
}

#[test]
fn a_state_costs_the_same_at_any_length() {
    let states = |mode, version: &str| {
        let page = full(heads(8, 128)).page_bytes();
        let state = KvCacheSpec {
            padded_page_bytes: Some(page),
            ..spec(16, CacheKind::Mamba { state_bytes: page - 5, speculative_blocks: 3 })
        };
        let request = KvCacheRequest { mamba_cache_mode: mode, ..request(1600) };
        layout(vec![state; 4], &request, version).map(|layout| layout.blocks_per_request(1600))
    };
    assert_eq!(states(MambaCacheMode::None, "0.19.1"), Ok(4));
    assert_eq!(states(MambaCacheMode::Align, "0.19.1"), Ok(5));
    assert_eq!(states(MambaCacheMode::All, "0.19.1"), Ok(100));
    assert_eq!(states(MambaCacheMode::All, "0.23.0"), Ok(103));
    assert_eq!(states(MambaCacheMode::All, "0.33.0"), Err(KvCacheRefusal::MambaCacheModeAll));
}

#[test]
fn batches_in_flight_hold_window_tokens_since_0_27() {
    // gpt-oss-120b on one GPU: 12.01x, 11.34x with asynchronous scheduling.
    let heads = heads(8, 64);
    let layers = pattern(36, 2, window(heads, 128), full(heads));
    let asynchronous = KvCacheRequest { async_scheduling: true, ..request(131_072) };
    let concurrency = |version| {
        let plan = layout(layers.clone(), &asynchronous, version).unwrap().plan(&[61_716_866_679]).unwrap();
        format!("{:.2}", plan.max_concurrency)
    };
    assert_eq!((concurrency("0.24.0"), concurrency("0.27.1")), ("12.01".to_owned(), "11.34".to_owned()));
}

#[test]
fn the_last_stage_limits_and_a_stage_without_cache_is_refused() {
    let layer = full(heads(8, 128));
    let (rules, request) = (rules("0.19.1"), request(131_072));
    let layout = KvCacheLayout::new(&[vec![layer; 16], vec![layer; 16]], &request, &rules).unwrap();
    let plan = layout.plan(&[32_212_254_720, 31_138_512_891]).unwrap();
    assert_eq!(plan.stages.iter().map(|stage| stage.num_blocks).collect::<Vec<_>>(), [30_720, 29_695]);
    assert_eq!((plan.num_blocks, plan.tokens_reported), (29_695, 475_120));

    let refused = layout.plan(&[32_212_254_720, 1 << 30]).unwrap_err();
    let expected = KvCacheRefusal::TooSmall {
        stage: 1,
        max_model_len: 131_072,
        needed_bytes: 8 << 30,
        available_bytes: 1 << 30,
        longest_model_len: 16_384,
    };
    assert_eq!(refused, expected);
    assert_eq!(layout.plan(&[0, 1 << 30]).unwrap_err(), KvCacheRefusal::NoMemory { stage: 0 });

    let layout = KvCacheLayout::new(&[vec![layer; 8], vec![]], &request, &rules).unwrap();
    assert_eq!(layout.plan(&[1 << 40, 1 << 40]).unwrap_err(), KvCacheRefusal::StageWithoutCache { stage: 1 });
}

#[test]
fn the_null_block_and_the_override_count_in_newer_versions() {
    let layers = vec![full(heads(8, 128)); 32];
    let one_request = 4 << 30; // 2,048 blocks of 2 MiB
    let plan = |request: &KvCacheRequest, version: &str, bytes: u64| {
        layout(layers.clone(), request, version).unwrap().plan(&[bytes])
    };
    let concurrency = |plan: Result<KvCachePlan, _>| plan.unwrap().max_concurrency.to_string();
    assert_eq!(concurrency(plan(&request(32_768), "0.27.1", one_request)), "1");
    assert!(plan(&request(32_768), "0.33.0", one_request).is_err());
    assert!(plan(&request(32_768), "0.33.0", one_request + (2 << 20)).is_ok());

    let overridden = KvCacheRequest { num_gpu_blocks_override: Some(100), ..request(8192) };
    assert_eq!(concurrency(plan(&overridden, "0.19.1", one_request)), "0.1953125");
    assert!(plan(&overridden, "0.20.2", one_request).is_err());
}

#[test]
fn auto_finds_the_longest_length() {
    let auto = KvCacheRequest { max_model_len: MaxModelLen::Auto { model_limit: 131_072 }, ..request(0) };
    let plan = |bytes| layout(vec![full(heads(8, 128)); 32], &auto, "0.19.1").unwrap().plan(&[bytes]);
    assert_eq!(plan(3_221_226_249).map(|plan| (plan.max_model_len, plan.max_concurrency)), Ok((24_576, 1.0)));
    assert_eq!(plan(1 << 40).unwrap().max_model_len, 131_072);
    assert_eq!(plan(1_000), Err(KvCacheRefusal::NothingFits));
    let nothing = layout(vec![], &auto, "0.33.0").unwrap().plan(&[0]).unwrap();
    assert_eq!((nothing.num_blocks, nothing.max_model_len), (1, 131_072));
}

#[test]
fn context_parallel_ranks_share_the_tokens() {
    let dcp = KvCacheRequest { decode_context_parallel_size: 8, ..request(262_144) };
    let layout_8 = layout(vec![mla(576, 2); 61], &dcp, "0.19.1").unwrap();
    assert_eq!(layout_8.blocks_per_request(262_144), 512);
    assert_eq!(layout_8.plan(&[512 * 61 * 64 * 576 * 2]).unwrap().tokens_reported, 262_144);
    let refused = layout(vec![window(heads(1, 64), 128)], &dcp, "0.19.1").unwrap_err();
    assert_eq!(refused, KvCacheRefusal::WindowWithContextParallel);
}

#[test]
fn a_block_of_no_size_is_refused() {
    let refused = |spec| layout(vec![full(heads(1, 64)), spec], &request(1), "0.19.1").unwrap_err();
    let expected = KvCacheRefusal::EmptyBlock { layer: 1 };
    assert_eq!(refused(full(heads(0, 64))), expected);
    assert_eq!(refused(KvCacheSpec { block_size: 0, ..mla(576, 2) }), expected);
}

prop_compose! {
    fn any_heads()(
        kv_heads in prop::sample::select(vec![1, 1, 2, 2, 4, 3, 0]),
        head_dim in prop::sample::select(vec![2, 2, 4]),
        value in prop::option::weighted(0.1, 1..3_u64),
    ) -> KvHeads {
        KvHeads { kv_heads, head_dim, value_head_dim: value.unwrap_or(head_dim), element_bytes: 2 }
    }
}

fn any_kind() -> impl Strategy<Value = CacheKind> {
    let local = prop_oneof![
        (0..40_u64).prop_map(LocalAttention::SlidingWindow),
        (0..40_u64).prop_map(LocalAttention::Chunked),
    ];
    let cache_type = prop_oneof![Just(None), Just(Some(MlaCacheType::Auto)), Just(Some(MlaCacheType::Fp8DsMla))];
    prop_oneof![
        any_heads().prop_map(|heads| CacheKind::Full { heads, local: None }),
        (any_heads(), local).prop_map(|(heads, local)| CacheKind::Local { heads, local }),
        (1..6_u64, cache_type).prop_map(|(head_dim, cache_type)| CacheKind::Mla {
            head_dim,
            element_bytes: 2,
            cache_type
        }),
        (prop_oneof![Just(64), Just(128), 1..200_u64], 0..3_u64)
            .prop_map(|(state_bytes, speculative_blocks)| CacheKind::Mamba { state_bytes, speculative_blocks }),
    ]
}

prop_compose! {
    fn any_spec()(
        block_size in prop_oneof![9 => Just(16), 1 => 0..9_u64],
        padded_page_bytes in prop::option::weighted(0.1, 1..4000_u64),
        kind in any_kind(),
    ) -> KvCacheSpec {
        KvCacheSpec { block_size, padded_page_bytes, kind }
    }
}

/// Stages of layers of a few kinds.
fn any_stages() -> impl Strategy<Value = Vec<Vec<KvCacheSpec>>> {
    prop::collection::vec(any_spec(), 1..4)
        .prop_flat_map(|kinds| prop::collection::vec(prop::collection::vec(prop::sample::select(kinds), 0..20), 1..4))
}

prop_compose! {
    fn any_request()(
        max_model_len in prop_oneof![
            (0..5000_u64).prop_map(MaxModelLen::Fixed),
            (0..5000_u64).prop_map(|model_limit| MaxModelLen::Auto { model_limit }),
        ],
        max_num_batched_tokens in 0..100_u64,
        async_scheduling: bool,
        decode_context_parallel_size in 0..3_u64,
        disable_hybrid_kv_cache_manager in prop::bool::weighted(0.2),
        mamba_cache_mode in prop::sample::select(vec![MambaCacheMode::None, MambaCacheMode::Align, MambaCacheMode::All]),
    ) -> KvCacheRequest {
        KvCacheRequest {
            max_model_len,
            max_num_batched_tokens,
            async_scheduling,
            decode_context_parallel_size,
            num_gpu_blocks_override: None,
            disable_hybrid_kv_cache_manager,
            mamba_cache_mode,
        }
    }
}

fn any_version() -> impl Strategy<Value = KvCacheRules> {
    let versions: Vec<_> = EngineRules::versions().map(|version| EngineRules::of(version).unwrap().kv_cache).collect();
    prop::sample::select(versions)
}

proptest! {
    #[test]
    fn every_layer_is_in_one_group_and_groups_have_one_page(stages in any_stages(), request in any_request(), rules in any_version()) {
        let Ok(layout) = KvCacheLayout::new(&stages, &request, &rules) else { return Ok(()) };
        let mut layers: Vec<u32> = layout.groups().iter().flat_map(|group| group.layers.clone()).collect();
        layers.sort_unstable();
        prop_assert_eq!(layers, (0..stages.concat().len() as u32).collect::<Vec<_>>());
        if layout.groups().len() > 1 {
            prop_assert!(layout.groups().iter().all(|group| group.pages == layout.groups()[0].pages));
        }
    }

    #[test]
    fn blocks_fit_into_memory_and_grow_with_it(
        stages in any_stages(), request in any_request(), rules in any_version(),
        bytes in prop::collection::vec(0..3_000_000_u64, 3), more in 0..1_000_000_u64,
    ) {
        let Ok(layout) = KvCacheLayout::new(&stages, &request, &rules) else { return Ok(()) };
        let bytes = &bytes[..stages.len()];
        let larger: Vec<u64> = bytes.iter().map(|bytes| bytes + more).collect();
        let Ok(plan) = layout.plan(bytes) else { return Ok(()) };
        for (stage, &bytes) in plan.stages.iter().zip(bytes) {
            prop_assert!(plan.num_blocks * stage.bytes_per_block <= bytes);
            prop_assert!(stage.needed_bytes <= bytes);
        }
        let larger = layout.plan(&larger).unwrap();
        prop_assert!(larger.num_blocks >= plan.num_blocks && larger.max_model_len >= plan.max_model_len);
        if !layout.groups().is_empty() && plan.blocks_per_request > 0 {
            prop_assert!(plan.max_concurrency >= 1.0);
        }
    }

    #[test]
    fn the_longest_length_fits_and_the_next_does_not(
        stages in any_stages(), request in any_request(), rules in any_version(),
        bytes in 0..3_000_000_u64, limit in 0..100_000_u64,
    ) {
        let Ok(layout) = KvCacheLayout::new(&stages, &request, &rules) else { return Ok(()) };
        let stage = stages.len() - 1;
        let null_block_bytes = if rules.null_block_set_aside { layout.needed_bytes(stage, 1) / layout.blocks_per_request(1).max(1) } else { 0 };
        let usable = bytes.saturating_sub(null_block_bytes);
        let longest = layout.longest_model_len(stage, bytes, limit);
        prop_assert!(longest <= limit);
        prop_assert!(longest == 0 || layout.needed_bytes(stage, longest) <= usable);
        prop_assert!(longest == limit || layout.needed_bytes(stage, longest + 1) > usable);
    }
}
