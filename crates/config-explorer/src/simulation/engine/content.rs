//! What tokens are, without any token: a prompt is a list of segments, and blocks are hashed from segments.
//!
//! Two blocks are equal if and only if they hold the same tokens. A token is (segment, position in the segment), so the
//! tokens of a block are a list of runs, and runs that continue each other are joined before they are hashed: how a
//! prompt was cut into segments does not matter.

/// A run of tokens: `len` tokens of the text `id`, from position `start` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Which text. Equal ids are equal text. [`Segment::CONSTANT`] is one token repeated; `u32::MAX` is taken.
    pub id: u32,
    /// First token in the text.
    pub start: u32,
    /// Tokens.
    pub len: u32,
}

impl Segment {
    /// The text that is one and the same token at every position.
    pub const CONSTANT: u32 = 0;

    /// The text of stop tokens.
    const STOP: u32 = u32::MAX;

    fn is_constant(self) -> bool {
        matches!(self.id, Self::CONSTANT | Self::STOP)
    }

    /// `len` tokens from the `skip`th token on.
    fn part(self, skip: u32, len: u32) -> Self {
        let start = if self.is_constant() { 0 } else { self.start.wrapping_add(skip) };
        Self { id: self.id, start, len: len.min(self.len - skip) }
    }

    fn is_continued_by(self, next: Self) -> bool {
        self.id == next.id && (self.is_constant() || self.start.wrapping_add(self.len) == next.start)
    }

    fn mixed_into(self, hash: u64) -> u64 {
        mix(
            hash.wrapping_add(u64::from(self.len).wrapping_mul(SEED)),
            (u64::from(self.id) << 32) | u64::from(self.start),
        )
    }
}

/// The tokens that the hash of a block covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockSpan {
    /// Of the block.
    pub(super) tokens: u32,
    /// After it.
    pub(super) lookahead: u32,
}

/// The tokens of a request: its prompt, then what it generates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::simulation) struct Content {
    pub(in crate::simulation) prompt: Vec<Segment>,
    /// Text that is generated.
    pub(in crate::simulation) output_id: u32,
    /// Position of the first generated token in that text.
    pub(in crate::simulation) output_start: u32,
    /// Position of the stop token; `u32::MAX` if none is generated.
    pub(in crate::simulation) stop_position: u32,
    /// Enters the hash of the first block (`cache_salt`); 0 is none.
    pub(in crate::simulation) salt: u64,
}

impl Content {
    /// The run that starts at `position`, at most `len` tokens; searched from `place` on, which moves to it.
    fn run(&self, place: &mut Place, position: u32, len: u32) -> Segment {
        while let Some(segment) = self.prompt.get(place.segment) {
            let skip = position - place.begin;
            if skip < segment.len {
                return segment.part(skip, len);
            }
            place.begin += segment.len;
            place.segment += 1;
        }
        if position == self.stop_position {
            return Segment { id: Segment::STOP, start: 0, len: 1 };
        }
        let end = if position < self.stop_position { self.stop_position } else { u32::MAX };
        let output = Segment { id: self.output_id, start: self.output_start, len: u32::MAX };
        output.part(position - place.begin, len.min(end - position))
    }

    /// Appends the hashes of all blocks that `known` tokens fill; each also covers the hash of the block before.
    pub(super) fn extend_hashes(&self, hashes: &mut Vec<u64>, span: BlockSpan, prompt_len: u32, known: u32) {
        let whole = span.tokens + span.lookahead;
        let mut begin = hashes.len() as u32 * span.tokens;
        if known < begin + whole {
            return;
        }
        let mut parent = hashes.last().copied().unwrap_or_else(|| mix(SEED, self.salt));
        let mut place = Place::default();
        if begin >= prompt_len {
            // Without a search, for what is generated.
            place = Place { segment: self.prompt.len(), begin: prompt_len };
        }
        while begin + whole <= known {
            parent = self.mixed(&mut place, begin, begin + whole, parent);
            hashes.push(parent);
            begin += span.tokens;
        }
    }

    /// Mixes the tokens from `begin` to `end` into the hash of those before; `place` moves to the first of them.
    fn mixed(&self, place: &mut Place, begin: u32, end: u32, mut parent: u64) -> u64 {
        let mut run = self.run(place, begin, end - begin);
        let mut ahead = *place;
        let mut position = begin + run.len;
        while position < end {
            let next = self.run(&mut ahead, position, end - position);
            position += next.len;
            if run.is_continued_by(next) {
                run.len += next.len;
            } else {
                parent = run.mixed_into(parent);
                run = next;
            }
        }
        run.mixed_into(parent)
    }

    /// Appends the keys of the blocks of `block` tokens of the prompt, the last one possibly shorter, at most
    /// `max_blocks`. A block that ends where a block of `unit` tokens of an engine ends has the key under which the engine
    /// caches that one ([`CacheEvent`](super::CacheEvent)).
    pub(in crate::simulation) fn prompt_keys(&self, block: u32, unit: u32, max_blocks: usize, keys: &mut Vec<u64>) {
        let len = self.prompt.iter().map(|segment| segment.len).sum();
        let unit = if block.is_multiple_of(unit) { unit } else { block };
        let mut parent = mix(SEED, self.salt);
        let (mut place, mut begin) = (Place::default(), 0u32);
        for _ in 0..max_blocks {
            let block_end = begin.saturating_add(block).min(len);
            if begin == block_end {
                break;
            }
            while begin < block_end {
                let end = (begin + unit).min(block_end);
                parent = self.mixed(&mut place, begin, end, parent);
                begin = end;
            }
            keys.push(cache_key(parent, 0));
        }
    }
}

/// A segment of a prompt and the position of its first token.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    segment: usize,
    begin: u32,
}

/// Key of a block of a group in the cache table: equal content of two groups is two entries. Never 0.
pub(super) fn cache_key(hash: u64, group: usize) -> u64 {
    hash.wrapping_add((group as u64).wrapping_mul(SEED)).max(1)
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// 64-bit mix: both halves of a 128-bit product (the step of wyhash). With n hashes the chance that two differ in
/// content and agree in hash is about n^2 / 2^65: 3 in 100 million for a million blocks.
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0xa076_1d64_78bd_642f) * u128::from(b ^ 0xe703_7ed1_a0b4_28db);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(prompt: &[(u32, u32, u32)], known: u32, lookahead: u32) -> Vec<u64> {
        let prompt: Vec<_> = prompt.iter().map(|&(id, start, len)| Segment { id, start, len }).collect();
        let prompt_len = prompt.iter().map(|segment| segment.len).sum();
        let content = Content { prompt, output_id: 0, output_start: 0, stop_position: u32::MAX, salt: 0 };
        let mut hashes = Vec::new();
        content.extend_hashes(&mut hashes, BlockSpan { tokens: 4, lookahead }, prompt_len, known);
        hashes
    }

    #[test]
    fn cuts_between_segments_do_not_matter() {
        let whole = hashes(&[(1, 0, 12)], 12, 0);
        assert_eq!(whole.len(), 3);
        assert_eq!(hashes(&[(1, 0, 3), (1, 3, 7), (1, 10, 2)], 12, 0), whole);
        assert_ne!(hashes(&[(1, 0, 3), (1, 4, 9)], 12, 0)[0], whole[0]);
        assert_ne!(hashes(&[(1, 1, 12)], 12, 0)[0], whole[0]);
        // The constant text equals itself at every position, generated or not.
        assert_eq!(hashes(&[(0, 0, 12)], 12, 0), hashes(&[(0, 5, 3), (0, 0, 2)], 12, 0));
    }

    #[test]
    fn keys_of_larger_blocks_are_those_of_the_blocks_they_end_with() {
        let prompt = vec![Segment { id: 1, start: 0, len: 7 }, Segment { id: 2, start: 0, len: 20 }];
        let content = Content { prompt, output_id: 0, output_start: 0, stop_position: u32::MAX, salt: 3 };
        let (mut small, mut large) = (Vec::new(), Vec::new());
        content.extend_hashes(&mut small, BlockSpan { tokens: 4, lookahead: 0 }, 27, 27);
        content.prompt_keys(8, 4, usize::MAX, &mut large);
        assert_eq!((small.len(), large.len()), (6, 4));
        assert_eq!(large[..3], [small[1], small[3], small[5]]);
        large.clear();
        content.prompt_keys(8, 4, 2, &mut large);
        assert_eq!(large, [small[1], small[3]]);
    }

    #[test]
    fn a_hash_covers_everything_before_it() {
        let (one, other) = (hashes(&[(1, 0, 12)], 12, 0), hashes(&[(2, 0, 4), (1, 4, 8)], 12, 0));
        assert!(one.iter().zip(&other).all(|(one, other)| one != other));
    }

    #[test]
    fn lookahead_covers_the_next_token() {
        assert_eq!(hashes(&[(1, 0, 12)], 12, 1).len(), 2);
        let (one, other) = (hashes(&[(1, 0, 12)], 12, 1), hashes(&[(1, 0, 8), (2, 0, 4)], 12, 1));
        assert!(one[0] == other[0] && one[1] != other[1]);
    }

    #[test]
    fn a_text_goes_on_in_what_is_generated() {
        let content = |prompt, output_start| Content {
            prompt: vec![Segment { id: 1, start: 0, len: prompt }],
            output_id: 1,
            output_start,
            stop_position: u32::MAX,
            salt: 0,
        };
        let hashes = |content: Content, prompt_len| {
            let mut hashes = Vec::new();
            content.extend_hashes(&mut hashes, BlockSpan { tokens: 4, lookahead: 0 }, prompt_len, 16);
            hashes
        };
        assert_eq!(hashes(content(6, 6), 6), hashes(content(14, 14), 14));
        assert_ne!(hashes(content(6, 0), 6), hashes(content(14, 14), 14));
    }

    #[test]
    fn hashes_do_not_depend_on_when_they_are_computed() {
        let content = Content {
            prompt: vec![Segment { id: 3, start: 7, len: 5 }, Segment { id: 4, start: 0, len: 6 }],
            output_id: 9,
            output_start: 3,
            stop_position: 21,
            salt: 5,
        };
        let span = BlockSpan { tokens: 4, lookahead: 0 };
        let mut whole = Vec::new();
        content.extend_hashes(&mut whole, span, 11, 24);
        let mut stepwise = Vec::new();
        for known in 0..=24 {
            content.extend_hashes(&mut stepwise, span, 11, known);
        }
        assert_eq!(whole, stepwise);
        let mut unstopped = Vec::new();
        Content { stop_position: u32::MAX, ..content }.extend_hashes(&mut unstopped, span, 11, 24);
        assert!(whole[..5] == unstopped[..5] && whole[5] != unstopped[5]);
    }
}
