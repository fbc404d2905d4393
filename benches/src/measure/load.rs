//! A load and what takes it in: messages that carry the moment they were due.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::cpus::switches_away;
use crate::fault::Fault;
use crate::measure::schedule::Schedule;
use crate::measure::spread::Spread;
use crate::process::control::Control;
use crate::process::server::Reply;

/// Bytes of a stamp, at the beginning of each message.
pub const STAMP: usize = 16;
/// The longest sleep of a side that waits in its sleep.
pub const NAP: Duration = Duration::from_millis(10);
/// Looks at the mailbox between two at what else there is.
const LOOKS: u32 = 256;
/// How long what is under way at the end of a step may still arrive.
const DRAIN: Duration = Duration::from_secs(1);
/// How long an echo may take before it counts as lost.
const GIVEN_UP: Duration = Duration::from_millis(100);

/// What a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its number among those that were sent.
    pub sequence: u64,
    /// When it was to be sent, on the monotonic clock.
    pub due_ns: u64,
}

impl Stamp {
    /// Puts it at the beginning of a message.
    #[inline(always)]
    pub fn write(self, message: &mut [u8]) {
        let words = [self.sequence.to_le_bytes(), self.due_ns.to_le_bytes()];
        if let Some(first) = message.first_chunk_mut::<STAMP>() {
            first.copy_from_slice(words.as_flattened());
        }
    }

    /// Reads it, if it is there.
    #[inline(always)]
    pub fn read(message: &[u8]) -> Option<Self> {
        let (sequence, rest) = message.split_first_chunk()?;
        let due_ns = rest.first_chunk()?;
        Some(Self { sequence: u64::from_le_bytes(*sequence), due_ns: u64::from_le_bytes(*due_ns) })
    }
}

/// The monotonic clock, which all processes of a host share.
#[inline(always)]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // It counts from the start of the machine, and is never negative.
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// One side of a connection. Nothing in it waits but [`Mailbox::wait`].
pub trait Mailbox {
    /// The most that a side which is behind sends before it looks for echoes.
    const MOST_ALONG: u32 = 32;
    /// Takes a message to be sent, unless the queue is full: false. It may wait for others, until
    /// [`Mailbox::push`].
    fn try_send(&mut self, stamp: Stamp) -> Result<bool, Fault>;
    /// Sends what waits: how many that were taken since the last time could not be sent after all.
    fn push(&mut self) -> Result<u64, Fault> {
        Ok(0)
    }
    /// Takes what has arrived.
    fn try_receive(&mut self) -> Result<Option<Stamp>, Fault>;
    /// Goes on with a message that was taken in part; false if it still is.
    fn flush(&mut self) -> Result<bool, Fault> {
        Ok(true)
    }
    /// Passes a moment by the way of waiting; true if it slept in vain.
    fn wait(&mut self) -> Result<bool, Fault>;
}

/// How messages of a step are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As many a second, at moments that were drawn beforehand.
    Drawn(f64),
    /// As fast as they go; with a number, no more than so many without their echo.
    Flood(Option<u64>),
}

/// One step of a load.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The pace.
    pub pace: Pace,
    /// Whether the server sends each message back.
    pub echo: bool,
    /// The number of the first message.
    pub first: u64,
    /// When it begins.
    pub from_ns: u64,
    /// When it ends.
    pub until_ns: u64,
}

/// What the client did in a step, and saw of the echoes.
pub struct Offered {
    /// Messages that went.
    pub sent: u64,
    /// Messages that have a number, whether they went or not.
    pub numbered: u64,
    /// Those that the queue had no room for.
    pub refused: u64,
    /// Those that were due and not tried, because this side was behind.
    pub late: u64,
    /// Echoes that came.
    pub echoed: u64,
    /// Those of them that came before the end.
    pub in_time: u64,
    /// Their latencies.
    pub spread: Spread,
}

/// [`Mailbox`], as the client uses it.
pub trait Offers {
    /// Offers the messages of a step.
    fn offer(&mut self, step: &Step, schedule: &mut Schedule) -> Result<Offered, Fault>;
}

impl<M: Mailbox> Offers for M {
    fn offer(&mut self, step: &Step, schedule: &mut Schedule) -> Result<Offered, Fault> {
        let spread = Spread::new();
        let (sent, numbered, refused, late, echoed, in_time) = (0, 0, 0, 0, 0, 0);
        let mut all = Offered { sent, numbered, refused, late, echoed, in_time, spread };
        let gap = match step.pace {
            Pace::Drawn(per_second) => 1e9 / per_second,
            Pace::Flood(_) => 0.0,
        };
        let mut due = step.from_ns as f64 + schedule.next(gap);
        let (mut heard, mut given_up, mut behind) = (step.from_ns, 0, 0);
        loop {
            let now = now_ns();
            if now >= step.until_ns {
                break;
            }
            let (wanted, due_ns) = match step.pace {
                Pace::Drawn(_) => (due as u64 <= now, due as u64),
                Pace::Flood(Some(most)) => {
                    // Echoes that do not come for long are lost, and make room.
                    if now > heard + STALLED_NS {
                        (heard, given_up) = (now, all.sent - all.echoed);
                    }
                    ((all.sent - all.echoed).saturating_sub(given_up) < most, now)
                }
                Pace::Flood(None) => (now >= step.from_ns, now),
            };
            if wanted {
                let stamp = Stamp { sequence: step.first + all.numbered, due_ns };
                match self.try_send(stamp)? {
                    true => (all.sent, all.numbered) = (all.sent + 1, all.numbered + 1),
                    false => all.refused += 1,
                }
                due += schedule.next(gap);
                behind = (behind + 1).min(M::MOST_ALONG);
                // Who is behind sends what is due already along.
                let along = match step.pace {
                    Pace::Drawn(_) => due as u64 <= now,
                    Pace::Flood(None) => true,
                    Pace::Flood(Some(most)) => {
                        (all.sent - all.echoed).saturating_sub(given_up) < most
                    }
                };
                if along && (!step.echo || behind < M::MOST_ALONG) {
                    continue;
                }
                push(self, &mut all)?;
            } else {
                std::hint::spin_loop();
            }
            // More than are sent, so that nothing piles up.
            let looks = 2 + 2 * std::mem::take(&mut behind);
            for _ in 0..if step.echo { looks } else { 0 } {
                match collect(self, step, &mut all)? {
                    true => heard = now,
                    false => break,
                }
            }
        }
        push(self, &mut all)?;
        if let Pace::Drawn(_) = step.pace {
            while (due as u64) < step.until_ns {
                all.late += 1;
                due += schedule.next(gap);
            }
        }
        drain(self, step, &mut all)?;
        Ok(all)
    }
}

/// Sends what waits to be sent.
#[inline(always)]
fn push<M: Mailbox>(mailbox: &mut M, all: &mut Offered) -> Result<(), Fault> {
    let refused = mailbox.push()?;
    all.sent = all.sent.saturating_sub(refused);
    all.refused += refused;
    Ok(())
}

/// A window whose echoes do not come is opened again after that time.
const STALLED_NS: u64 = 5_000_000;

/// Takes an echo, if one is there.
#[inline(always)]
fn collect<M: Mailbox>(mailbox: &mut M, step: &Step, all: &mut Offered) -> Result<bool, Fault> {
    let Some(stamp) = mailbox.try_receive()? else { return Ok(false) };
    // What belongs to an earlier step, or to none, is not counted.
    if (step.first..step.first + all.numbered).contains(&stamp.sequence) {
        let now = now_ns();
        all.echoed += 1;
        all.in_time += u64::from(now <= step.until_ns);
        all.spread.add(now.saturating_sub(stamp.due_ns).saturating_mul(1000), 1);
    }
    Ok(true)
}

fn drain<M: Mailbox>(mailbox: &mut M, step: &Step, all: &mut Offered) -> Result<(), Fault> {
    let begun = Instant::now();
    while !mailbox.flush()? && begun.elapsed() < DRAIN {
        std::hint::spin_loop();
    }
    let mut heard = Instant::now();
    while step.echo && all.echoed < all.sent && begun.elapsed() < DRAIN {
        match collect(mailbox, step, all)? {
            true => heard = Instant::now(),
            false if heard.elapsed() > GIVEN_UP => break,
            false => std::hint::spin_loop(),
        }
        // What is refused on the other side does not come.
        push(mailbox, all)?;
    }
    Ok(())
}

/// What the server is told of a step.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Absorb {
    /// Whether each message goes back.
    pub echo: bool,
    /// The number of the first message.
    pub first: u64,
    /// The end of the step on this host's clock, if it is the client's host, too.
    pub until_ns: u64,
}

/// What the server counted in a step.
#[derive(Debug, Serialize, Deserialize)]
pub struct Absorbed {
    /// Messages that came.
    pub received: u64,
    /// Those of them that came before the end.
    pub in_time: u64,
    /// Echoes that the queue had no room for.
    pub refused: u64,
    /// How often its thread was switched away from.
    pub switches: u64,
    /// Latencies, where messages do not go back.
    pub spread: Vec<(u64, u64)>,
}

/// [`Mailbox`], as the server uses it.
pub trait Absorbs {
    /// Takes messages in until `over` says that there will be no more, and then what is there.
    fn absorb(
        &mut self,
        step: &Absorb,
        over: &mut dyn FnMut() -> Result<bool, Fault>,
    ) -> Result<Absorbed, Fault>;
}

impl<M: Mailbox> Absorbs for M {
    fn absorb(
        &mut self,
        step: &Absorb,
        over: &mut dyn FnMut() -> Result<bool, Fault>,
    ) -> Result<Absorbed, Fault> {
        let mut spread = Spread::new();
        let (mut received, mut in_time, mut refused) = (0, 0, 0);
        let mut looks = 0_u32;
        let mut last: Option<Instant> = None;
        loop {
            let mut vain = false;
            match self.try_receive()? {
                Some(stamp) if stamp.sequence < step.first => {}
                Some(stamp) => {
                    received += 1;
                    if step.echo {
                        refused += u64::from(!self.try_send(stamp)?);
                    } else {
                        let now = now_ns();
                        in_time += u64::from(now <= step.until_ns);
                        spread.add(now.saturating_sub(stamp.due_ns).saturating_mul(1000), 1);
                    }
                }
                None if last.is_some() => break,
                None => {
                    refused += self.push()?;
                    self.flush()?;
                    vain = self.wait()?;
                }
            }
            looks = looks.wrapping_add(1);
            if vain || looks.is_multiple_of(LOOKS) {
                match last {
                    Some(since) if since.elapsed() > DRAIN => break,
                    Some(_) => {}
                    None => last = over()?.then(Instant::now),
                }
            }
        }
        let spread = spread.buckets();
        Ok(Absorbed { received, in_time, refused, switches: 0, spread })
    }
}

/// Takes a step in, until the next request is there.
pub fn absorb(server: &mut dyn Absorbs, step: &Absorb, control: &Control) -> Result<Reply, Fault> {
    let before = switches_away()?;
    control.send(&Reply::Ready, &[])?;
    let mut absorbed = server.absorb(step, &mut || control.readable_within(Duration::ZERO))?;
    absorbed.switches = switches_away()?.saturating_sub(before);
    Ok(Reply::Absorbed(absorbed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Holds so many messages, and loses every tenth.
    struct Loop {
        queue: VecDeque<Stamp>,
        room: usize,
        counted: u64,
    }

    impl Mailbox for Loop {
        fn try_send(&mut self, stamp: Stamp) -> Result<bool, Fault> {
            if self.queue.len() >= self.room {
                return Ok(false);
            }
            self.counted += 1;
            if !self.counted.is_multiple_of(10) {
                self.queue.push_back(stamp);
            }
            Ok(true)
        }

        fn try_receive(&mut self) -> Result<Option<Stamp>, Fault> {
            Ok(self.queue.pop_front())
        }

        fn wait(&mut self) -> Result<bool, Fault> {
            Ok(false)
        }
    }

    fn step(pace: Pace, echo: bool) -> Step {
        let from_ns = now_ns();
        Step { pace, echo, first: 100, from_ns, until_ns: from_ns + 30_000_000 }
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamp = Stamp { sequence: 3, due_ns: u64::MAX };
        let mut message = [0; 20];
        stamp.write(&mut message);
        assert_eq!(Stamp::read(&message), Some(stamp));
        assert_eq!(Stamp::read(&message[..15]), None);
    }

    #[test]
    fn what_is_lost_does_not_hold_the_others_up() {
        let mut mailbox = Loop { queue: VecDeque::new(), room: 1000, counted: 0 };
        let step = step(Pace::Drawn(20_000.0), true);
        let all = mailbox.offer(&step, &mut Schedule::new()).unwrap();
        let due = all.sent + all.late;
        assert!((400..800).contains(&due), "{due} of about 600 were due");
        assert_eq!(all.refused, 0);
        assert_eq!(all.sent - all.echoed, all.sent / 10);
    }

    #[test]
    fn a_full_queue_refuses_at_the_source() {
        let mut mailbox = Loop { queue: VecDeque::new(), room: 50, counted: 0 };
        let step = step(Pace::Drawn(100_000.0), false);
        let all = mailbox.offer(&step, &mut Schedule::new()).unwrap();
        // Every tenth was lost and took no room.
        assert!((50..60).contains(&all.sent), "{}", all.sent);
        // Where other work had the core, what was due meanwhile is late at worst.
        let due = all.sent + all.refused + all.late;
        assert!(all.refused > 0 && (2500..3500).contains(&due), "{} of {due}", all.refused);
    }

    #[test]
    fn what_belongs_to_an_earlier_step_is_not_counted() {
        let old = (0..5).map(|sequence| Stamp { sequence, due_ns: 0 });
        let new = (5..9).map(|sequence| Stamp { sequence, due_ns: 0 });
        let mut mailbox = Loop { queue: old.chain(new).collect(), room: 0, counted: 0 };
        let step = Absorb { echo: false, first: 5, until_ns: u64::MAX };
        let absorbed = mailbox.absorb(&step, &mut || Ok(true)).unwrap();
        assert_eq!((absorbed.received, absorbed.in_time), (4, 4));
    }
}
