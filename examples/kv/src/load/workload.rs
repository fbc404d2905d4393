//! Keys, operations and values, all of them drawn before the clock runs.

use std::fmt;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp1, Zipf};

use super::LoadError;

/// Bytes of every key: `user` and twenty digits.
pub const KEY_BYTES: usize = 24;
/// The least bytes of a value: it says which key it belongs to.
pub const MIN_VALUE: usize = 8;
/// Zipf's exponent: that of YCSB.
const EXPONENT: f64 = 0.99;
/// How many gaps are drawn.
const GAPS: usize = 1 << 14;
/// The bit of a drawn operation that makes it a put.
const PUT: u32 = 1 << 31;

/// Which operations there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Mix {
    /// As many reads as updates.
    A,
    /// Of a hundred, five are updates.
    B,
    /// Reads only.
    C,
}

impl Mix {
    /// The share of updates.
    fn updates(self) -> f64 {
        match self {
            Self::A => 0.5,
            Self::B => 0.05,
            Self::C => 0.0,
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
        })
    }
}

/// What a load is made of.
#[derive(Clone, Copy, Debug)]
pub struct WorkloadOptions {
    /// Reads and updates.
    pub mix: Mix,
    /// How many keys there are; at most 2³¹, at least one.
    pub keys: u32,
    /// Bytes of each value; at least [`MIN_VALUE`].
    pub value: usize,
    /// How many operations are drawn; after them they come again. At least one.
    pub operations: usize,
    /// What everything is drawn from.
    pub seed: u64,
}

/// A load, drawn.
pub struct Workload {
    keys: Vec<[u8; KEY_BYTES]>,
    operations: Vec<u32>,
    /// Gaps between arrivals that come independently of each other, in the mean 1.
    gaps: Vec<f64>,
    value: usize,
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation<'a> {
    /// The key's number.
    pub number: u32,
    /// The key.
    pub key: &'a [u8],
    /// What to put; `None` to get.
    pub put: Option<&'a [u8]>,
}

impl Workload {
    /// Draws one.
    pub fn draw(options: WorkloadOptions) -> Self {
        let WorkloadOptions { mix, keys, value, operations, seed } = options;
        let (keys, drawn) = (keys.clamp(1, PUT - 1), operations.max(1));
        let mut random = StdRng::seed_from_u64(seed);
        let zipf = Zipf::new(f64::from(keys), EXPONENT).expect("at least one key");
        let operations = (0..drawn)
            .map(|_| {
                let rank = zipf.sample(&mut random) as u32;
                let put = random.random_bool(mix.updates());
                (rank.clamp(1, keys) - 1) | if put { PUT } else { 0 }
            })
            .collect();
        let gaps = (0..GAPS).map(|_| Exp1.sample(&mut random)).collect();
        // The ranks' names are scattered over the order of the keys.
        let keys = (0..keys).map(|number| name(scattered(u64::from(number)))).collect();
        Self { keys, operations, gaps, value: value.max(MIN_VALUE) }
    }

    /// How many keys there are.
    pub fn keys(&self) -> u32 {
        self.keys.len() as u32
    }

    /// Room for a value, to be lent to [`Workload::operation`].
    pub fn room(&self) -> Vec<u8> {
        (0..self.value).map(|at| at as u8).collect()
    }

    /// The `nth` operation. A value that is put is written into `room`.
    #[inline]
    pub fn operation<'a>(&'a self, nth: u64, room: &'a mut [u8]) -> Operation<'a> {
        let drawn = self.operations[nth as usize % self.operations.len()];
        let number = drawn & !PUT;
        if drawn & PUT != 0 {
            return self.put(number, room);
        }
        Operation { number, key: &self.keys[number as usize], put: None }
    }

    /// The operation that puts a key.
    #[inline]
    pub fn put<'a>(&'a self, number: u32, room: &'a mut [u8]) -> Operation<'a> {
        room[..MIN_VALUE].copy_from_slice(&u64::from(number).to_le_bytes());
        Operation { number, key: &self.keys[number as usize], put: Some(room) }
    }

    /// The `nth` gap between arrivals, in the mean 1.
    #[inline]
    pub fn gap(&self, nth: u64) -> f64 {
        self.gaps[nth as usize % self.gaps.len()]
    }
}

/// Checks a value that was got, by its length and its beginning.
///
/// # Errors
/// `WrongValue`.
#[inline]
pub fn check(
    number: u32,
    len: usize,
    head: [u8; MIN_VALUE],
    expected: usize,
) -> Result<(), LoadError> {
    if len == expected && u64::from_le_bytes(head) == u64::from(number) {
        return Ok(());
    }
    Err(LoadError::WrongValue { key: number })
}

/// Splitmix64's finaliser: different numbers stay different.
fn scattered(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn name(number: u64) -> [u8; KEY_BYTES] {
    let mut name = *b"user00000000000000000000";
    let mut rest = number;
    for digit in name[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWN: usize = 1 << 17;

    fn drawn(mix: Mix, keys: u32) -> Workload {
        Workload::draw(WorkloadOptions { mix, keys, value: 100, operations: DRAWN, seed: 1 })
    }

    #[test]
    fn the_mixes_have_their_share_of_updates() {
        for (mix, share) in [(Mix::A, 0.5), (Mix::B, 0.05), (Mix::C, 0.0)] {
            let load = drawn(mix, 1000);
            let puts = load.operations.iter().filter(|drawn| **drawn & PUT != 0).count();
            assert!((puts as f64 / DRAWN as f64 - share).abs() < 0.01, "{mix}: {puts}");
        }
    }

    #[test]
    fn keys_are_drawn_by_zipfs_law() {
        let load = drawn(Mix::C, 1000);
        let count = |rank: u32| load.operations.iter().filter(|drawn| **drawn == rank).count();
        // P(k) is (1/k)^0.99 divided by the sum of these.
        let sum: f64 = (1..=1000).map(|k| f64::from(k).powf(-EXPONENT)).sum();
        for rank in [0, 1, 9, 99] {
            let expected = DRAWN as f64 * f64::from(rank + 1).powf(-EXPONENT) / sum;
            let found = count(rank) as f64;
            // Six times the spread of such a count.
            assert!((found - expected).abs() < 6.0 * expected.sqrt(), "{rank}: {found} {expected}");
        }
        assert!(load.operations.iter().all(|drawn| *drawn < 1000));
    }

    #[test]
    fn keys_differ_and_the_same_seed_draws_the_same() {
        let (load, again) = (drawn(Mix::A, 5000), drawn(Mix::A, 5000));
        assert_eq!(load.operations, again.operations);
        let mut keys = load.keys.clone();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 5000);
        assert!(keys.iter().all(|key| key.starts_with(b"user")));
    }

    #[test]
    fn a_value_tells_its_key() {
        let load = drawn(Mix::A, 10);
        let mut room = load.room();
        let value = load.put(7, &mut room).put.expect("a put").to_vec();
        let head = *value.first_chunk().expect("long enough");
        assert!(check(7, value.len(), head, 100).is_ok());
        assert!(check(8, value.len(), head, 100).is_err());
        assert!(check(7, value.len() - 1, head, 100).is_err());
    }
}
