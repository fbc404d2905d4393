//! What goes wrong in a network, and the numbers that decide about it.

use std::time::Duration;

use unet::device::{OpenError, Opening};

use crate::random::Random;

/// What a network does to packets. By default nothing.
///
/// Losses and bursts are those of Gilbert, *Capacity of a Burst-Noise Channel* (1960), and Elliott (1963).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// The probability that a packet is lost, outside bursts.
    pub loss: f64,
    /// The probability, at each packet, that a burst of losses begins.
    pub burst: f64,
    /// The probability, at each packet, that a burst is over.
    pub recover: f64,
    /// The probability that a packet is lost in a burst.
    pub burst_loss: f64,
    /// The probability that a packet arrives twice.
    pub duplicate: f64,
    /// The probability that a bit of a packet is wrong: also of a datagram's payload, for a simulated
    /// datagram has no checksum.
    pub corrupt: f64,
    /// The probability that a packet takes `late` longer.
    pub reorder: f64,
    /// How much longer that is.
    pub late: Duration,
    /// How long a packet takes.
    pub delay: Duration,
    /// How much longer it may take, evenly: thereby packets overtake each other.
    pub jitter: Duration,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            loss: 0.0,
            burst: 0.0,
            recover: 0.25,
            burst_loss: 1.0,
            duplicate: 0.0,
            corrupt: 0.0,
            reorder: 0.0,
            late: Duration::from_millis(1),
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
        }
    }
}

/// The options of an address that say what goes wrong.
pub(crate) const OPTIONS: &str = "seed, loss, burst, recover, burst-loss, duplicate, corrupt, \
                                  reorder, late, delay, jitter, mtu, queue";

impl Faults {
    /// From an address.
    pub(crate) fn of(opening: &Opening<'_>) -> Result<Self, OpenError> {
        let mut faults = Self::default();
        let chances = [
            ("loss", &mut faults.loss),
            ("burst", &mut faults.burst),
            ("recover", &mut faults.recover),
            ("burst-loss", &mut faults.burst_loss),
            ("duplicate", &mut faults.duplicate),
            ("corrupt", &mut faults.corrupt),
            ("reorder", &mut faults.reorder),
        ];
        for (name, to) in chances {
            let Some(text) = opening.option(name) else { continue };
            let value = text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
            *to = value.ok_or(OpenError::BadValue("a probability from 0 to 1, such as 0.01"))?;
        }
        let times = [
            ("late", &mut faults.late),
            ("delay", &mut faults.delay),
            ("jitter", &mut faults.jitter),
        ];
        for (name, to) in times {
            let Some(text) = opening.option(name) else { continue };
            let value = duration(text).filter(|time| *time <= LONGEST);
            *to = value.ok_or(OpenError::BadValue("a time up to 10s, such as 50us, 3ms or 1s"))?;
        }
        Ok(faults)
    }
}

/// The longest time that a packet is under way for one of the reasons above.
pub(crate) const LONGEST: Duration = Duration::from_secs(10);

fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let nanoseconds: u64 = match &text[digits.len()..] {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return None,
    };
    Some(Duration::from_nanos(digits.parse::<u64>().ok()?.checked_mul(nanoseconds)?))
}

/// What happens to one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    pub lost: bool,
    /// Which bit is turned over: counted from a place that the length is to be folded on.
    pub flip: Option<u64>,
    /// How long it takes.
    pub first: Duration,
    /// How long its second copy takes, if there is one.
    pub second: Option<Duration>,
}

impl Fate {
    /// Turns the bit over that is to be. `false` if there is none.
    pub fn corrupt(&self, bytes: &mut [u8]) -> bool {
        let bits = bytes.len() as u64 * 8;
        let Some(bit) = self.flip.and_then(|bit| bit.checked_rem(bits)) else { return false };
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        true
    }
}

/// Decides what happens to the packets of one sender.
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    random: Random,
    in_burst: bool,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), in_burst: false }
    }

    /// The fate of the next packet. Draws as many numbers whatever happens, so that one fault does not
    /// change when the others strike.
    pub fn next(&mut self, faults: &Faults) -> Fate {
        let change = if self.in_burst { faults.recover } else { faults.burst };
        self.in_burst ^= self.random.happens(change);
        let loss = if self.in_burst { faults.burst_loss } else { faults.loss };
        let lost = self.random.happens(loss);
        let corrupt = self.random.happens(faults.corrupt);
        let bit = self.random.word();
        let twice = self.random.happens(faults.duplicate);
        let (first, second) = (self.time(faults), self.time(faults));
        Fate { lost, flip: corrupt.then_some(bit), first, second: twice.then_some(second) }
    }

    fn time(&mut self, faults: &Faults) -> Duration {
        let jitter = u64::try_from(faults.jitter.as_nanos()).unwrap_or(u64::MAX);
        let jitter = Duration::from_nanos(self.random.below(jitter));
        let late = self.random.happens(faults.reorder);
        let late = if late { faults.late } else { Duration::ZERO };
        faults.delay.saturating_add(jitter).saturating_add(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_does_not_change_when_another_strikes() {
        let lossy = Faults { loss: 0.2, ..Faults::default() };
        let both = Faults { duplicate: 0.5, corrupt: 0.5, jitter: LONGEST, ..lossy };
        let (mut one, mut other) = (Dice::new(3), Dice::new(3));
        for _ in 0..1000 {
            assert_eq!(one.next(&lossy).lost, other.next(&both).lost);
        }
    }

    #[test]
    fn bursts_last_as_long_as_recovery_says() {
        let faults = Faults { burst: 0.02, recover: 0.25, ..Faults::default() };
        let mut dice = Dice::new(1);
        let lost: Vec<bool> = (0..100_000).map(|_| dice.next(&faults).lost).collect();
        let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        let mean = lost.iter().filter(|lost| **lost).count() as f64 / bursts as f64;
        assert!((3.5..4.5).contains(&mean), "{mean}");
    }

    #[test]
    fn a_time_needs_a_unit() {
        assert_eq!(duration("50us"), Some(Duration::from_micros(50)));
        assert_eq!(duration("1s"), Some(Duration::from_secs(1)));
        for bad in ["", "50", "us", "-1ms", "5 ms", "99999999999999999999s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
