//! Echo and one way over bare ports.

use std::time::{Duration, Instant};

use super::Bare;
use crate::fault::Fault;
use crate::measure::halves::{Arrival, Echo, EchoServer, Losses, Receiver, Sender};
use crate::systems::kernel::{END, PATIENCE, RETRY};

/// How often a message is sent that gets no answer.
const ATTEMPTS: u32 = 10;
/// Frames of one kick.
const BURST: u32 = 32;
/// Looks in vain between two at the clock.
const LOOKS: u32 = 1 << 14;

/// Looks until something has come; false if that takes too long.
#[inline(always)]
fn patiently<P: Bare>(time: Duration, mut look: impl FnMut() -> bool) -> bool {
    let mut begun: Option<Instant> = None;
    loop {
        for _ in 0..LOOKS {
            if look() {
                return true;
            }
            if P::PAUSES {
                std::hint::spin_loop();
            }
        }
        if begun.get_or_insert_with(Instant::now).elapsed() > time {
            return false;
        }
    }
}

/// The client's half.
pub struct Client<P> {
    port: P,
    len: u32,
    sequence: u64,
    /// Numbers that wait for a kick.
    ready: u32,
    losses: Losses,
}

impl<P: Bare> Client<P> {
    /// Puts a port to use whose frames have that length.
    pub fn new(port: P, len: usize) -> Self {
        Self { port, len: len as u32, sequence: 0, ready: 0, losses: Losses::default() }
    }

    #[inline(always)]
    fn exchange(&mut self, word: u64) -> Result<(), Fault> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                self.losses.lost(RETRY);
            }
            self.port.send(word, 1, self.len);
            let (port, losses) = (&mut self.port, &mut self.losses);
            let answered = patiently::<P>(RETRY, || {
                let mut answered = false;
                port.receive(|found| match found == word {
                    true => answered = true,
                    // The answer to what was asked twice: neither was lost.
                    false => losses.found(),
                });
                answered
            });
            if answered {
                return Ok(());
            }
        }
        Err(Fault::Silent)
    }

    /// Sends numbers up to the next one, all of them.
    fn flush(&mut self) -> Result<(), Fault> {
        let (port, len) = (&mut self.port, self.len);
        let (mut number, mut left) = (self.sequence - u64::from(self.ready), self.ready);
        self.ready = 0;
        let sent = patiently::<P>(PATIENCE, || {
            let sent = port.send(number, left, len);
            (number, left) = (number + u64::from(sent), left - sent);
            left == 0
        });
        if sent { Ok(()) } else { Err(Fault::Silent) }
    }
}

impl<P: Bare> Echo for Client<P> {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        self.sequence += 1;
        self.exchange(self.sequence)
    }

    fn finish(&mut self) -> Result<(), Fault> {
        match self.exchange(END) {
            // The server leaves its loop with the first, and tells so elsewhere.
            Err(Fault::Silent) => Ok(()),
            result => result,
        }
    }

    fn losses(&mut self) -> Option<Losses> {
        Some(std::mem::take(&mut self.losses))
    }
}

impl<P: Bare> Sender for Client<P> {
    fn begin(&mut self) {
        (self.sequence, self.ready) = (0, 0);
    }

    #[inline]
    fn send(&mut self) -> Result<(), Fault> {
        self.sequence += 1;
        self.ready += 1;
        if self.ready == BURST { self.flush() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.flush()?;
        let (port, len) = (&mut self.port, self.len);
        let sent = patiently::<P>(PATIENCE, || port.send(END, 1, len) == 1);
        if sent { Ok(()) } else { Err(Fault::Silent) }
    }

    fn lossy(&self) -> bool {
        true
    }
}

/// The server's half.
pub struct Mirror<P> {
    port: P,
    len: u32,
    /// Messages of this phase.
    answered: u64,
    expected: u64,
    lost: u64,
    ended: bool,
}

impl<P: Bare> Mirror<P> {
    /// Puts a port to use whose frames have that length.
    pub fn new(port: P, len: usize) -> Self {
        let (answered, expected, lost, ended) = (0, 0, 0, false);
        Self { port, len: len as u32, answered, expected, lost, ended }
    }
}

impl<P: Bare> EchoServer for Mirror<P> {
    #[inline]
    fn answer(&mut self) -> Result<bool, Fault> {
        let Self { port, len, answered, .. } = self;
        let mut ended = false;
        let came = patiently::<P>(PATIENCE, || {
            port.answer(*len, |word| {
                // An end before all messages is the last phase's, which was sent more than once.
                let counts = word != END || *answered > 0;
                if counts {
                    ended |= word == END;
                    *answered = if ended { 0 } else { *answered + 1 };
                }
                counts
            }) > 0
        });
        if came { Ok(!ended) } else { Err(Fault::Silent) }
    }
}

impl<P: Bare> Receiver for Mirror<P> {
    fn begin(&mut self) -> Result<(), Fault> {
        (self.expected, self.lost, self.ended) = (0, 0, false);
        // The last phase's end was perhaps sent more than once.
        while self.port.receive(|_| {}) > 0 {}
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<Arrival, Fault> {
        if self.ended {
            return Ok(Arrival::End);
        }
        let Self { port, expected, lost, ended, .. } = self;
        let mut counted = 0;
        let came = patiently::<P>(PATIENCE, || {
            port.receive(|word| {
                if word == END {
                    *ended = true;
                    return;
                }
                counted += 1;
                match word.checked_sub(*expected) {
                    Some(skipped) => {
                        *lost += skipped;
                        *expected = word.saturating_add(1);
                    }
                    // It comes late, and was counted as lost.
                    None => *lost = lost.saturating_sub(1),
                }
            }) > 0
        });
        match counted {
            0 if came => Ok(Arrival::End),
            0 => Err(Fault::Silent),
            counted => Ok(Arrival::Messages(counted)),
        }
    }

    fn lost(&self) -> u64 {
        self.lost
    }
}
