//! Offering a load and measuring what becomes of it.

use std::time::Duration;

use hdrhistogram::Histogram;
use quanta::Instant;

use super::{End, LoadError, Target, Workload};

/// When operations are begun.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Closed loop: the next when one of those under way has ended.
    Closed,
    /// Open loop: so many a second, at moments that were drawn beforehand, whatever became of those
    /// before. Latency counts from these moments.
    Open(f64),
}

/// How a load is offered.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many operations may be under way at once.
    pub window: usize,
    /// When they are begun.
    pub pace: Pace,
    /// How long.
    pub duration: Duration,
}

/// What became of a load.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Operations that were done.
    pub done: u64,
    /// Operations that the server refused.
    pub refused: u64,
    /// Operations that were due and not begun when the time was up.
    pub late: u64,
    /// From the first operation to the end of the last.
    pub elapsed: Duration,
    /// Nanoseconds from when an operation was begun (in an open loop: was due) to its end. Of those that
    /// were done.
    pub latency: Histogram<u64>,
}

impl Measured {
    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.done as f64 / self.elapsed.as_secs_f64()
    }
}

/// How long nothing may be answered.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so many vain looks the core is offered to others.
const LOOKS: u32 = 1 << 8;
/// The longest latency in nanoseconds that is told apart, an hour; and how finely: by a hundredth.
const LONGEST: u64 = 3_600_000_000_000;
const DIGITS: u8 = 2;

/// Puts every key once.
///
/// # Errors
/// [`LoadError`].
pub fn fill(target: &mut impl Target, workload: &Workload, window: usize) -> Result<(), LoadError> {
    let mut room = workload.room();
    let mut flight = Flight::new(window);
    let mut next = 0;
    while next < workload.keys() || flight.under_way > 0 {
        while next < workload.keys() && flight.has_room() {
            let now = Instant::now();
            if !flight.begin(target, &workload.put(next, &mut room), now)? {
                break;
            }
            next += 1;
        }
        flight.take(target, |_, end| match end {
            End::Done => Ok(()),
            End::Refused => Err(LoadError::Other("the store refuses to be filled".into())),
        })?;
    }
    Ok(())
}

/// Offers a load. Operations are numbered from `first` on, so that a second run goes on where a warm-up
/// has ended.
///
/// # Errors
/// [`LoadError`].
///
/// # Cost
/// This thread polls: it takes a whole core.
pub fn drive(
    target: &mut impl Target,
    workload: &Workload,
    load: Load,
    first: u64,
) -> Result<Measured, LoadError> {
    let mut room = workload.room();
    let mut flight = Flight::new(load.window);
    let latency = Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("these are bounds");
    let mut measured = Measured { done: 0, refused: 0, late: 0, elapsed: Duration::ZERO, latency };
    let start = Instant::now();
    let (mut nth, mut due, mut now) = (first, 0.0, start);
    loop {
        let over = now - start >= load.duration;
        while !over && flight.has_room() {
            let intended = match load.pace {
                Pace::Closed => now,
                Pace::Open(_) => start + Duration::from_secs_f64(due),
            };
            if intended > now {
                break;
            }
            if !flight.begin(target, &workload.operation(nth, &mut room), intended)? {
                break;
            }
            if let Pace::Open(rate) = load.pace {
                due += workload.gap(nth) / rate;
            }
            nth += 1;
        }
        if over && flight.under_way == 0 {
            break;
        }
        now = flight.take(target, |nanoseconds, end| {
            match end {
                End::Done => {
                    measured.done += 1;
                    measured.latency.saturating_record(nanoseconds);
                }
                End::Refused => measured.refused += 1,
            }
            Ok(())
        })?;
    }
    measured.elapsed = now - start;
    if let Pace::Open(rate) = load.pace {
        while due < load.duration.as_secs_f64() {
            due += workload.gap(nth) / rate;
            nth += 1;
            measured.late += 1;
        }
    }
    Ok(measured)
}

/// Operations under way, and when each was begun or due.
struct Flight {
    began: Vec<Option<Instant>>,
    free: Vec<u32>,
    under_way: usize,
    heard: Instant,
    vain: u32,
}

impl Flight {
    fn new(window: usize) -> Self {
        let window = window.clamp(1, 1 << 16);
        Self {
            began: vec![None; window],
            free: (0..window as u32).rev().collect(),
            under_way: 0,
            heard: Instant::now(),
            vain: 0,
        }
    }

    fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// `false` if the target has no room.
    #[inline]
    fn begin(
        &mut self,
        target: &mut impl Target,
        operation: &super::Operation<'_>,
        at: Instant,
    ) -> Result<bool, LoadError> {
        let Some(&slot) = self.free.last() else { return Ok(false) };
        if !target.begin(u64::from(slot), operation)? {
            return Ok(false);
        }
        self.free.pop();
        self.began[slot as usize] = Some(at);
        self.under_way += 1;
        Ok(true)
    }

    /// Takes what has ended, with its nanoseconds; gives the time.
    #[inline]
    fn take(
        &mut self,
        target: &mut impl Target,
        mut each: impl FnMut(u64, End) -> Result<(), LoadError>,
    ) -> Result<Instant, LoadError> {
        let mut told = Ok(());
        // One look at the clock for all that end together.
        let mut stamp = None;
        target.ended(&mut |slot, end| {
            let now = *stamp.get_or_insert_with(Instant::now);
            let Some(began) = self.began.get_mut(slot as usize).and_then(Option::take) else {
                told = Err(LoadError::Other(format!("operation {slot} ended twice")));
                return;
            };
            self.free.push(slot as u32);
            self.under_way -= 1;
            if told.is_ok() {
                told = each((now - began).as_nanos() as u64, end);
            }
        })?;
        told?;
        if let Some(now) = stamp {
            (self.heard, self.vain) = (now, 0);
            return Ok(now);
        }
        let now = Instant::now();
        self.vain += 1;
        if self.vain.is_multiple_of(LOOKS) {
            if self.under_way == 0 {
                self.heard = now;
            } else if now - self.heard > PATIENCE {
                return Err(LoadError::Silent(PATIENCE.as_secs()));
            }
            std::thread::yield_now();
        }
        Ok(now)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::super::{Mix, Operation, WorkloadOptions};
    use super::*;

    /// Ends each operation after so many looks.
    struct Slow {
        delay: u32,
        room: usize,
        refuses: bool,
        under_way: VecDeque<(u64, u32)>,
        most: usize,
        puts: u32,
    }

    impl Slow {
        fn new(delay: u32, room: usize) -> Self {
            Self { delay, room, refuses: false, under_way: VecDeque::new(), most: 0, puts: 0 }
        }
    }

    impl Target for Slow {
        fn begin(&mut self, token: u64, operation: &Operation<'_>) -> Result<bool, LoadError> {
            if self.under_way.len() == self.room {
                return Ok(false);
            }
            self.puts += u32::from(operation.put.is_some());
            self.under_way.push_back((token, self.delay));
            self.most = self.most.max(self.under_way.len());
            Ok(true)
        }

        fn ended(&mut self, each: &mut dyn FnMut(u64, End)) -> Result<(), LoadError> {
            for waiting in &mut self.under_way {
                waiting.1 = waiting.1.saturating_sub(1);
            }
            while let Some((token, 0)) = self.under_way.front() {
                each(*token, if self.refuses { End::Refused } else { End::Done });
                self.under_way.pop_front();
            }
            Ok(())
        }
    }

    fn workload() -> Workload {
        Workload::draw(WorkloadOptions {
            mix: Mix::A,
            keys: 100,
            value: 8,
            operations: 1000,
            seed: 1,
        })
    }

    fn closed(window: usize) -> Load {
        Load { window, pace: Pace::Closed, duration: Duration::from_millis(30) }
    }

    #[test]
    fn filling_puts_every_key_once() {
        let mut target = Slow::new(3, 4);
        fill(&mut target, &workload(), 16).expect("it ends");
        assert_eq!((target.puts, target.under_way.len()), (100, 0));
        target.refuses = true;
        assert!(fill(&mut target, &workload(), 16).is_err());
    }

    #[test]
    fn a_closed_loop_keeps_to_its_window_and_to_the_room_of_the_store() {
        let mut target = Slow::new(2, 100);
        let measured = drive(&mut target, &workload(), closed(5), 0).expect("it ends");
        assert_eq!(target.most, 5);
        assert_eq!(measured.done, measured.latency.len());
        assert!(measured.done > 100 && measured.late == 0 && measured.refused == 0);
        assert!(measured.elapsed >= Duration::from_millis(30));
        let mut narrow = Slow::new(2, 3);
        drive(&mut narrow, &workload(), closed(5), 0).expect("it ends");
        assert_eq!(narrow.most, 3);
    }

    #[test]
    fn an_open_loop_counts_latency_from_when_operations_were_due() {
        let open = |rate| Load { pace: Pace::Open(rate), ..closed(1) };
        let mut target = Slow::new(0, 100);
        let measured = drive(&mut target, &workload(), open(10_000.0), 0).expect("it ends");
        // All that were due in 30 ms, about 300.
        let offered = measured.done + measured.late;
        assert!((200..400).contains(&offered), "{offered}");
        // A store that is far too slow: what was due waits, and that is counted.
        let mut slow = Slow::new(1 << 8, 100);
        let measured = drive(&mut slow, &workload(), open(1e6), 0).expect("it ends");
        assert!(measured.late > 20_000, "{}", measured.late);
        // The first was due at once, the last some ten microseconds later, after all that it waited for.
        let each = measured.elapsed.as_nanos() as u64 / measured.done;
        let (first, last) = (measured.latency.min(), measured.latency.max());
        assert!(measured.done > 1 && last > first + each / 2, "{first} {last} {each}");
    }

    #[test]
    fn what_is_refused_is_counted_apart() {
        let mut target = Slow::new(1, 100);
        target.refuses = true;
        let measured = drive(&mut target, &workload(), closed(2), 0).expect("it ends");
        assert!(measured.refused > 0 && measured.done == 0 && measured.latency.is_empty());
    }
}
