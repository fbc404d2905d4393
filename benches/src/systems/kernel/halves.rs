//! Echo and one way over a line, with a sequence number in each message.

use crate::fault::Fault;
use crate::measure::halves::{Arrival, Echo, EchoServer, Losses, Receiver, Sender};
use crate::systems::{ClientHalf, ServerHalf};
use crate::task::Task;

use super::end::{Line, RETRY};
use super::{END, first_word, set_first_word};

/// What a receiver of a byte stream takes from the kernel at once.
const CHUNK: usize = 64 << 10;
/// How often a message is sent that gets no answer.
const ATTEMPTS: u32 = 10;

/// The client's half over descriptors that are connected.
pub fn client_half<L: Line + 'static>(line: L, task: &Task) -> ClientHalf {
    let out = vec![0; task.payload];
    let client =
        Client { line, sequence: 0, out, back: vec![0; task.payload], losses: Losses::default() };
    match task.bench.one_way() {
        true => ClientHalf::OneWay(Box::new(client)),
        false => ClientHalf::Echo(Box::new(client)),
    }
}

/// The server's half.
pub fn server_half<L: Line + 'static>(line: L, task: &Task) -> ServerHalf {
    if !task.bench.one_way() {
        return ServerHalf::Echo(Box::new(Mirror {
            line,
            buffer: vec![0; task.payload],
            answered: 0,
        }));
    }
    let chunk = if line.datagrams() { task.payload } else { CHUNK.max(task.payload) };
    ServerHalf::OneWay(Box::new(Inbox {
        line,
        payload: task.payload,
        buffer: vec![0; chunk + task.payload],
        filled: 0,
        expected: 0,
        lost: 0,
        ended: false,
    }))
}

struct Client<L> {
    line: L,
    sequence: u64,
    out: Vec<u8>,
    back: Vec<u8>,
    losses: Losses,
}

impl<L: Line> Client<L> {
    #[inline]
    fn exchange(&mut self, word: u64) -> Result<(), Fault> {
        set_first_word(&mut self.out, word);
        self.line.write(&self.out)?;
        match self.answer(word) {
            Err(Fault::Silent) if self.line.datagrams() => self.exchange_again(word),
            result => result,
        }
    }

    /// The message or its answer was lost.
    #[cold]
    fn exchange_again(&mut self, word: u64) -> Result<(), Fault> {
        for _ in 1..ATTEMPTS {
            self.losses.lost(RETRY);
            self.line.write(&self.out)?;
            match self.answer(word) {
                Err(Fault::Silent) => {}
                result => return result,
            }
        }
        Err(Fault::Silent)
    }

    #[inline]
    fn answer(&mut self, word: u64) -> Result<(), Fault> {
        loop {
            self.line.fill(&mut self.back)?;
            match first_word(&self.back) {
                found if found == word => return Ok(()),
                // The answer to what was asked twice: neither was lost.
                found if self.line.datagrams() && (found < word || found == END) => {
                    self.losses.found();
                }
                found => return Err(Fault::OutOfOrder { expected: word, found }),
            }
        }
    }
}

impl<L: Line> Echo for Client<L> {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        self.sequence += 1;
        self.exchange(self.sequence)
    }

    fn finish(&mut self) -> Result<(), Fault> {
        match self.exchange(END) {
            // The server leaves its loop with the first, and tells so elsewhere.
            Err(Fault::Silent) if self.line.datagrams() => Ok(()),
            result => result,
        }
    }

    fn losses(&mut self) -> Option<Losses> {
        self.line.datagrams().then(|| std::mem::take(&mut self.losses))
    }
}

impl<L: Line> Sender for Client<L> {
    fn begin(&mut self) {
        self.sequence = 0;
    }

    #[inline]
    fn send(&mut self) -> Result<(), Fault> {
        set_first_word(&mut self.out, self.sequence);
        self.sequence += 1;
        self.line.write(&self.out)
    }

    fn finish(&mut self) -> Result<(), Fault> {
        set_first_word(&mut self.out, END);
        self.line.write(&self.out)
    }

    fn lossy(&self) -> bool {
        self.line.datagrams()
    }
}

struct Mirror<L> {
    line: L,
    buffer: Vec<u8>,
    /// Messages of this phase.
    answered: u64,
}

impl<L: Line> EchoServer for Mirror<L> {
    #[inline]
    fn answer(&mut self) -> Result<bool, Fault> {
        loop {
            self.line.fill(&mut self.buffer)?;
            let ends = first_word(&self.buffer) == END;
            if ends && self.answered == 0 {
                // The last phase's, which was sent more than once.
                continue;
            }
            self.answered = if ends { 0 } else { self.answered + 1 };
            self.line.write(&self.buffer)?;
            return Ok(!ends);
        }
    }
}

struct Inbox<L> {
    line: L,
    payload: usize,
    buffer: Vec<u8>,
    filled: usize,
    expected: u64,
    lost: u64,
    /// The end came in the same read as the last messages.
    ended: bool,
}

impl<L: Line> Receiver for Inbox<L> {
    fn begin(&mut self) -> Result<(), Fault> {
        (self.filled, self.expected, self.lost, self.ended) = (0, 0, 0, false);
        if self.line.datagrams() {
            // Where messages get lost, the last phase's end was sent more than once.
            self.line.empty()?;
        }
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<Arrival, Fault> {
        if self.ended {
            return Ok(Arrival::End);
        }
        loop {
            self.filled += self.line.read(&mut self.buffer[self.filled..])?;
            let whole = self.filled / self.payload;
            for number in 0..whole {
                let word = first_word(&self.buffer[number * self.payload..]);
                if word == END {
                    self.ended = true;
                    return Ok(match number {
                        0 => Arrival::End,
                        before => Arrival::Messages(before as u64),
                    });
                }
                if word != self.expected && !self.line.datagrams() {
                    return Err(Fault::OutOfOrder { expected: self.expected, found: word });
                }
                if word < self.expected {
                    // A network may deliver it late: it was counted as lost before.
                    self.lost = self.lost.saturating_sub(1);
                    continue;
                }
                self.lost = self.lost.saturating_add(word - self.expected);
                self.expected = word + 1;
            }
            let used = whole * self.payload;
            self.buffer.copy_within(used..self.filled, 0);
            self.filled -= used;
            if whole > 0 {
                return Ok(Arrival::Messages(whole as u64));
            }
        }
    }

    fn lost(&self) -> u64 {
        self.lost
    }
}
