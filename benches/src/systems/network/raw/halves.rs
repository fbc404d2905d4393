//! Echo and one way over bare AF_XDP sockets.

use std::time::{Duration, Instant};

use driver_af_xdp::raw::Socket;

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
fn patiently(time: Duration, mut look: impl FnMut() -> bool) -> bool {
    let mut begun: Option<Instant> = None;
    loop {
        for _ in 0..LOOKS {
            if look() {
                return true;
            }
            std::hint::spin_loop();
        }
        if begun.get_or_insert_with(Instant::now).elapsed() > time {
            return false;
        }
    }
}

/// The client's half.
pub struct Client {
    socket: Socket,
    len: u32,
    sequence: u64,
    /// Numbers that wait for a kick.
    ready: u32,
    losses: Losses,
}

impl Client {
    /// Puts a socket to use whose frames have that length.
    pub fn new(socket: Socket, len: usize) -> Self {
        Self { socket, len: len as u32, sequence: 0, ready: 0, losses: Losses::default() }
    }

    #[inline(always)]
    fn exchange(&mut self, word: u64) -> Result<(), Fault> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                self.losses.lost(RETRY);
            }
            self.socket.send_numbered(word, 1, self.len);
            let (socket, losses) = (&mut self.socket, &mut self.losses);
            let answered = patiently(RETRY, || {
                let mut answered = false;
                socket.receive_numbered(|found| match found == word {
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
        let (socket, len) = (&mut self.socket, self.len);
        let (mut number, mut left) = (self.sequence - u64::from(self.ready), self.ready);
        self.ready = 0;
        let sent = patiently(PATIENCE, || {
            let sent = socket.send_numbered(number, left, len);
            (number, left) = (number + u64::from(sent), left - sent);
            left == 0
        });
        if sent { Ok(()) } else { Err(Fault::Silent) }
    }
}

impl Echo for Client {
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

impl Sender for Client {
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
        let (socket, len) = (&mut self.socket, self.len);
        let sent = patiently(PATIENCE, || socket.send_numbered(END, 1, len) == 1);
        if sent { Ok(()) } else { Err(Fault::Silent) }
    }

    fn lossy(&self) -> bool {
        true
    }
}

/// The server's half.
pub struct Mirror {
    socket: Socket,
    len: u32,
    /// What came at once.
    words: Vec<u64>,
    /// Messages of this phase.
    answered: u64,
    expected: u64,
    lost: u64,
    ended: bool,
}

impl Mirror {
    /// Puts a socket to use whose frames have that length.
    pub fn new(socket: Socket, len: usize) -> Self {
        let (answered, expected, lost, ended) = (0, 0, 0, false);
        Self { socket, len: len as u32, words: Vec::new(), answered, expected, lost, ended }
    }
}

impl EchoServer for Mirror {
    #[inline]
    fn answer(&mut self) -> Result<bool, Fault> {
        let (socket, words) = (&mut self.socket, &mut self.words);
        if !patiently(PATIENCE, || socket.receive_numbered(|word| words.push(word)) > 0) {
            return Err(Fault::Silent);
        }
        let mut ended = false;
        for word in words.drain(..) {
            // An end before all messages is the last phase's, which was sent more than once.
            if word != END || self.answered > 0 {
                ended |= word == END;
                self.answered = if ended { 0 } else { self.answered + 1 };
                socket.send_numbered(word, 1, self.len);
            }
        }
        Ok(!ended)
    }
}

impl Receiver for Mirror {
    fn begin(&mut self) -> Result<(), Fault> {
        (self.expected, self.lost, self.ended) = (0, 0, false);
        // The last phase's end was perhaps sent more than once.
        while self.socket.receive() > 0 {}
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<Arrival, Fault> {
        if self.ended {
            return Ok(Arrival::End);
        }
        let Self { socket, expected, lost, ended, .. } = self;
        let mut counted = 0;
        let came = patiently(PATIENCE, || {
            socket.receive_numbered(|word| {
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
