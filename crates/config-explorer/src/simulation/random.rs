//! Random numbers that depend on the seed, what they are for, and the request: nothing else, so that two configurations
//! are offered the same requests (common random numbers) whatever each does with them.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a number is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Gap = 1,
    InputLength,
    OutputLength,
    PrefixGroup,
    Prompt,
    Class,
    Turns,
    Context,
    TurnThinkTime,
    ClientThinkTime,
    Decode,
    Prefill,
}

/// The numbers of one purpose: request n owns the words 4n to 4n + 3 of the purpose's `ChaCha8` stream.
#[derive(Debug, Clone)]
pub(super) struct Draws {
    rng: ChaCha8Rng,
    /// The request at whose words the generator stands.
    next: u64,
}

/// 32-bit words of a request: two numbers of 64 bits.
const WORDS: u128 = 4;

/// The generator of a key; words that are not given are 0.
pub(super) fn generator(words: &[u64]) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (place, word) in key.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// 53 random bits: as many as the numbers between 0 and 1 have.
pub(super) fn bits_53(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64
}

/// What [`bits_53`] is a part of.
pub(super) const ALL_53: f64 = (1_u64 << 53) as f64;

fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = generator(&[seed]);
    rng.set_stream(stream);
    rng
}

impl Draws {
    pub(super) fn new(seed: u64, purpose: Purpose) -> Self {
        Self { rng: stream(seed, purpose as u64), next: 0 }
    }

    /// The request's two numbers, uniform between 0 and 1, both excluded.
    pub(super) fn uniforms(&mut self, request: u64) -> [f64; 2] {
        if request != self.next {
            self.rng.set_word_pos(u128::from(request) * WORDS);
        }
        self.next = request + 1;
        [(); 2].map(|()| (bits_53(&mut self.rng) + 0.5) / ALL_53)
    }

    /// A standard normal number (Box and Muller).
    pub(super) fn normal(&mut self, request: u64) -> f64 {
        let [radius, angle] = self.uniforms(request);
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}

/// A stream of its own for a request that needs an unknown number of words.
pub(super) fn unbounded(seed: u64, purpose: Purpose, request: u64) -> ChaCha8Rng {
    stream(seed, (request + 1) << 8 | purpose as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_on_the_request_not_on_the_order() {
        let mut one = Draws::new(7, Purpose::Gap);
        let forward: Vec<_> = (0..50).map(|request| one.uniforms(request)).collect();
        let mut other = Draws::new(7, Purpose::Gap);
        let backward: Vec<_> = (0..50).rev().map(|request| other.uniforms(request)).collect();
        assert!(forward.iter().eq(backward.iter().rev()));
        let others = [Draws::new(8, Purpose::Gap), Draws::new(7, Purpose::InputLength)];
        assert!(others.into_iter().all(|mut draws| (draws.uniforms(0)[0] - forward[0][0]).abs() > 1e-9));
    }
}
