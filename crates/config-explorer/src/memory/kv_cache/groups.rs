//! Layers in groups. The layers of a group share a block table; all groups draw from one pool of blocks, so their blocks
//! must be of one size (`get_kv_cache_groups`).

use super::{CacheKind, KvCacheRefusal, KvCacheSpec, KvHeads, LocalAttention};
use crate::engine::KvCacheRules;

/// Layers that share a block table.
#[derive(Debug, Clone, PartialEq)]
pub struct KvCacheGroup {
    /// Positions of its layers among the cached layers of all stages, in model order.
    pub layers: Vec<u32>,
    /// What its layers cache, in blocks of the size they have in the pool; of mixed pages, the first layer's.
    pub spec: KvCacheSpec,
    /// Bytes of one block in each layer.
    pub pages: GroupPages,
}

impl KvCacheGroup {
    /// Bytes of one block in the group's `index`-th layer.
    pub(super) fn layer_page_bytes(&self, index: usize) -> u64 {
        match &self.pages {
            GroupPages::Equal(bytes) => *bytes,
            GroupPages::Mixed(bytes) => bytes[index],
        }
    }
}

/// Bytes of one block in each layer of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupPages {
    /// The same in every layer.
    Equal(u64),
    /// By layer: layers of one type and different width (`UniformTypeKVCacheSpecs`).
    Mixed(Vec<u64>),
}

/// Layers with one spec.
struct Kind {
    spec: KvCacheSpec,
    layers: Vec<u32>,
}

/// Deals the cached layers of the whole model into groups; without the hybrid manager there is one.
pub(super) fn group_layers(
    layers: &[KvCacheSpec],
    hybrid_manager: bool,
    rules: &KvCacheRules,
) -> Result<Vec<KvCacheGroup>, KvCacheRefusal> {
    let mut kinds: Vec<Kind> = Vec::new();
    for (position, spec) in layers.iter().enumerate() {
        if spec.block_size == 0 || spec.page_bytes() == 0 {
            return Err(KvCacheRefusal::EmptyBlock { layer: position });
        }
        add(&mut kinds, as_version_sees(*spec, rules), position as u32);
    }
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    let mut group = single_group(&kinds, rules)?;
    if group.is_none() && !hybrid_manager {
        promote_local_layers(&mut kinds, rules);
        group = Some(single_group(&kinds, rules)?.ok_or(KvCacheRefusal::HybridManagerNeeded)?);
    }
    if let Some(group) = group {
        return Ok(vec![group]);
    }
    match unify_pages(&kinds, rules) {
        Ok(kinds) => Ok(deal(&kinds, rules)),
        Err(refusal) => full_allocation_fallback(&mut kinds, rules)?.map(|group| vec![group]).ok_or(refusal),
    }
}

/// Puts a layer to its kind; kinds stand in order of first appearance.
fn add(kinds: &mut Vec<Kind>, spec: KvCacheSpec, position: u32) {
    match kinds.iter_mut().find(|kind| kind.spec == spec) {
        Some(kind) => kind.layers.push(position),
        None => kinds.push(Kind { spec, layers: vec![position] }),
    }
}

/// The spec with what this version overlooks taken out.
fn as_version_sees(mut spec: KvCacheSpec, rules: &KvCacheRules) -> KvCacheSpec {
    if let CacheKind::Local { heads, .. } = &mut spec.kind
        && rules.sliding_value_head_ignored
    {
        heads.value_head_dim = heads.head_dim;
    }
    spec
}

/// One group of all layers, if they can share one.
fn single_group(kinds: &[Kind], rules: &KvCacheRules) -> Result<Option<KvCacheGroup>, KvCacheRefusal> {
    let layer_count: usize = kinds.iter().map(|kind| kind.layers.len()).sum();
    let (spec, pages) = match merged(kinds, rules)? {
        Some(spec) => (spec, GroupPages::Equal(spec.page_bytes())),
        None if is_one_type(kinds, rules) => {
            let mut pages = vec![0; layer_count];
            for kind in kinds {
                for &layer in &kind.layers {
                    pages[layer as usize] = kind.spec.page_bytes();
                }
            }
            (kinds[0].spec, GroupPages::Mixed(pages))
        }
        None => return Ok(None),
    };
    Ok(Some(KvCacheGroup { layers: (0..layer_count as u32).collect(), spec, pages }))
}

/// The one spec that all layers can share, if there is one (`is_kv_cache_spec_uniform`).
fn merged(kinds: &[Kind], rules: &KvCacheRules) -> Result<Option<KvCacheSpec>, KvCacheRefusal> {
    let [first, others @ ..] = kinds else { return Ok(None) };
    match first.spec.kind {
        _ if others.is_empty() => Ok(Some(first.spec)),
        CacheKind::Full { heads, .. } => merged_full(kinds, heads, first.spec, rules),
        CacheKind::Mla { cache_type, .. } if rules.merges_mla_widths => {
            let same_type =
                |kind: &Kind| matches!(kind.spec.kind, CacheKind::Mla { cache_type: other, .. } if other == cache_type);
            Ok(others.iter().all(same_type).then_some(first.spec))
        }
        _ => Ok(None),
    }
}

/// Full-attention layers that differ in nothing but how far their attention sees.
fn merged_full(
    kinds: &[Kind],
    heads: KvHeads,
    first: KvCacheSpec,
    rules: &KvCacheRules,
) -> Result<Option<KvCacheSpec>, KvCacheRefusal> {
    let bare = |spec: KvCacheSpec, heads: KvHeads| KvCacheSpec { kind: CacheKind::Full { heads, local: None }, ..spec };
    let mut locals: Vec<LocalAttention> = Vec::new();
    let mut equal = true;
    for kind in kinds {
        let CacheKind::Full { heads: mut other, local } = kind.spec.kind else { return Ok(None) };
        if rules.sliding_value_head_ignored {
            other.value_head_dim = heads.value_head_dim;
        }
        equal &= bare(kind.spec, other) == bare(first, heads);
        locals.extend(local.filter(|local| !locals.contains(local)));
    }
    let windows = locals.iter().filter(|local| matches!(local, LocalAttention::SlidingWindow(_))).count();
    if windows > 1 || locals.len() - windows > 1 {
        return Err(KvCacheRefusal::WindowsDiffer);
    }
    let spec = KvCacheSpec { kind: CacheKind::Full { heads, local: locals.first().copied() }, ..first };
    Ok((equal && locals.len() <= 1).then_some(spec))
}

/// Whether every layer needs blocks for the same tokens (`UniformTypeKVCacheSpecs.is_uniform_type`).
fn is_one_type(kinds: &[Kind], rules: &KvCacheRules) -> bool {
    let Some(first) = kinds.first().map(|kind| kind.spec) else { return true };
    kinds.iter().all(|kind| {
        kind.spec.block_size == first.block_size
            && match (first.kind, kind.spec.kind) {
                (CacheKind::Full { .. } | CacheKind::Mla { .. }, CacheKind::Full { .. } | CacheKind::Mla { .. }) => {
                    true
                }
                (CacheKind::Local { local, .. }, CacheKind::Local { local: other, .. }) => local == other,
                (CacheKind::Mamba { speculative_blocks, .. }, CacheKind::Mamba { speculative_blocks: other, .. }) => {
                    speculative_blocks == other
                        && (!rules.mamba_type_by_page || kind.spec.page_bytes() == first.page_bytes())
                }
                _ => false,
            }
    })
}

/// Keeps every token of local-attention layers, where there are full-attention layers to follow.
fn promote_local_layers(kinds: &mut [Kind], rules: &KvCacheRules) {
    let full = |kind: &&Kind| matches!(kind.spec.kind, CacheKind::Full { .. } | CacheKind::Mla { .. });
    let Some(full_block_size) = kinds.iter().find(full).map(|kind| kind.spec.block_size) else { return };
    let one_size = kinds.iter().filter(full).all(|kind| kind.spec.block_size == full_block_size);
    for kind in kinds {
        if let CacheKind::Local { heads, local } = kind.spec.kind {
            kind.spec.kind = CacheKind::Full { heads, local: Some(local) };
            if rules.promotes_local_layers && one_size {
                kind.spec.block_size = full_block_size;
            }
        }
    }
}

/// One group after all, where an MLA page can be neither raised nor padded: sliding-window layers beside it keep every
/// token (`_try_get_full_allocation_fallback_groups`).
fn full_allocation_fallback(kinds: &mut [Kind], rules: &KvCacheRules) -> Result<Option<KvCacheGroup>, KvCacheRefusal> {
    let chunked = |kind: &Kind| matches!(kind.spec.kind, CacheKind::Local { local: LocalAttention::Chunked(_), .. });
    let mla = |kind: &Kind| matches!(kind.spec.kind, CacheKind::Mla { .. });
    if !rules.promotes_local_layers || kinds.iter().any(chunked) || !kinds.iter().any(mla) {
        return Ok(None);
    }
    promote_local_layers(kinds, rules);
    single_group(kinds, rules)
}

/// Makes all pages as large as the largest: with more tokens to a block, or padding (`unify_kv_cache_spec_page_size`).
fn unify_pages(kinds: &[Kind], rules: &KvCacheRules) -> Result<Vec<Kind>, KvCacheRefusal> {
    let largest_page_bytes = kinds.iter().map(|kind| kind.spec.page_bytes()).max().unwrap_or(0);
    let mut unified: Vec<Kind> = Vec::with_capacity(kinds.len());
    for kind in kinds {
        let spec = raise_page(kind.spec, largest_page_bytes, rules)?;
        // Kinds that differed in nothing but their block size are now one.
        match unified.iter_mut().find(|other| other.spec == spec) {
            Some(other) => {
                other.layers.extend(&kind.layers);
                other.layers.sort_unstable();
            }
            None => unified.push(Kind { spec, layers: kind.layers.clone() }),
        }
    }
    Ok(unified)
}

/// The spec with a page of the given size.
fn raise_page(
    mut spec: KvCacheSpec,
    largest_page_bytes: u64,
    rules: &KvCacheRules,
) -> Result<KvCacheSpec, KvCacheRefusal> {
    let page_bytes = spec.page_bytes();
    let divides = largest_page_bytes.is_multiple_of(page_bytes);
    match spec.kind {
        _ if page_bytes == largest_page_bytes => {}
        CacheKind::Mamba { .. } if rules.pads_mamba_pages => spec.padded_page_bytes = Some(largest_page_bytes),
        CacheKind::Mamba { .. } if divides => {
            return Err(KvCacheRefusal::StateNotPadded { page_bytes, largest_page_bytes });
        }
        _ if divides => spec.block_size *= largest_page_bytes / page_bytes,
        CacheKind::Full { .. } | CacheKind::Local { .. } if rules.pads_indivisible_pages => {
            spec.padded_page_bytes = Some(largest_page_bytes);
        }
        _ => return Err(KvCacheRefusal::PagesNotUnifiable { page_bytes, largest_page_bytes }),
    }
    Ok(spec)
}

/// Splits every kind into groups of about equal size; the groups that have fewer layers than the largest waste the rest
/// (`_get_kv_cache_groups_uniform_page_size`).
fn deal(kinds: &[Kind], rules: &KvCacheRules) -> Vec<KvCacheGroup> {
    let counts = || kinds.iter().map(|kind| kind.layers.len());
    let (fewest, most) = (counts().min().unwrap_or(1), counts().max().unwrap_or(1));
    let group_size = if (most as f64) < fewest as f64 * rules.group_size_ratio { most } else { fewest };
    let mut groups = Vec::new();
    for kind in kinds {
        // Every n-th layer, so that each pipeline stage gets about as many layers of every group.
        let group_count = kind.layers.len().div_ceil(group_size);
        groups.extend((0..group_count).map(|first| KvCacheGroup {
            layers: kind.layers.iter().skip(first).step_by(group_count).copied().collect(),
            spec: kind.spec,
            pages: GroupPages::Equal(kind.spec.page_bytes()),
        }));
    }
    groups
}
