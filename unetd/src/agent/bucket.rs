//! A token bucket: so many messages a second, and a tenth of a second's at once.

use std::time::{Duration, Instant};

pub(crate) struct Bucket {
    per_second: Option<u32>,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub fn new(per_second: Option<u32>, now: Instant) -> Self {
        let mut bucket = Self { per_second, tokens: 0.0, at: now };
        bucket.tokens = bucket.depth();
        bucket
    }

    fn depth(&self) -> f64 {
        self.per_second.map_or(0.0, |rate| (f64::from(rate) / 10.0).max(1.0))
    }

    pub fn set(&mut self, per_second: Option<u32>) {
        self.per_second = per_second;
        self.tokens = self.tokens.min(self.depth());
    }

    /// Takes a token, or says after how long there is one. Where nothing is limited it looks at no clock.
    pub fn take(&mut self) -> Result<(), Duration> {
        match self.per_second {
            None => Ok(()),
            Some(rate) => self.take_at(rate, Instant::now()),
        }
    }

    fn take_at(&mut self, rate: u32, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * f64::from(rate)).min(self.depth());
        self.at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / f64::from(rate)))
    }

    /// Gives a token back that was not used.
    pub fn give_back(&mut self) {
        self.tokens += 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_and_no_more_than_its_depth_at_once() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(Some(100), begin);
        let at_once = (0..1000).filter(|_| bucket.take_at(100, begin).is_ok()).count();
        assert_eq!(at_once, 10);
        let mut taken = 0;
        for ms in 0..1000 {
            taken += u32::from(bucket.take_at(100, begin + Duration::from_millis(ms)).is_ok());
        }
        assert!((98..=100).contains(&taken), "{taken}");
        let wait = bucket
            .take_at(100, begin + Duration::from_secs(1))
            .map_or_else(|wait| wait, |()| Duration::ZERO);
        assert!(wait <= Duration::from_millis(10));
        assert_eq!(Bucket::new(None, begin).take(), Ok(()));
    }
}
