//! Chance that depends on nothing but a seed, a purpose and a request, so it is the same in whatever order requests come.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::simulation::random::{ALL_53, bits_53, generator};

/// What a random number is drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Purpose {
    Pick = 1,
    Explore = 2,
    Admit = 3,
}

/// The source of all chance of one request.
#[derive(Debug, Clone, Copy)]
pub struct Chance {
    /// Seed of the whole simulation.
    pub seed: u64,
    /// The request.
    pub request: u64,
}

impl Chance {
    pub(super) fn stream(self, purpose: Purpose) -> Stream {
        Stream(generator(&[self.seed, purpose as u64, self.request]))
    }
}

/// Random numbers for one purpose.
pub(super) struct Stream(ChaCha8Rng);

impl Stream {
    /// A number in [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        bits_53(&mut self.0) / ALL_53
    }

    /// A whole number below `count`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.0.next_u64()) * count as u128) >> 64) as usize
    }

    /// Brings a list into random order (Fisher and Yates).
    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}
