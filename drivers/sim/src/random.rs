//! Random numbers that a seed determines, in every version of this crate.

/// SplitMix64, after Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators* (OOPSLA
/// 2014). For faults, simulations, and numbers that begin somewhere; nothing that an attacker must not
/// guess.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `bound`; zero if that is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.word()) * u128::from(bound)) >> 64) as u64
    }

    /// Whether something of this probability happens. Draws a number in any case, so that what comes
    /// later does not depend on the probability.
    pub fn happens(&mut self, probability: f64) -> bool {
        let drawn = (self.word() >> 11) as f64 / (1u64 << 53) as f64;
        drawn < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_published_numbers() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.word(), 6_457_827_717_110_365_317);
        assert_eq!(random.word(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn probabilities_of_zero_and_one_are_certain() {
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| !random.happens(0.0)));
        assert!((0..1000).all(|_| random.happens(1.0)));
        assert!((0..1000).all(|_| random.below(3) < 3));
    }
}
