//! Echo and one way over a channel that may lose messages.
//!
//! Sequence numbers go on from phase to phase, so that what comes late is known for what it is; the
//! message that ends a phase says how many were sent before it.

use unet::{Arrival as Incoming, Channel, ChannelId, Delivery, Endpoint, Event};

use super::letter::{BURST, Letter, Said, send_end};
use crate::fault::Fault;
use crate::measure::halves::{Arrival, Echo, EchoServer, Losses, Receiver, Sender};
use crate::process::agent::Agent;
use crate::systems::kernel::RETRY;
use crate::systems::unet::closed;
use crate::task::{Bench, Task};

/// How often a message is sent that gets no answer.
const ATTEMPTS: u32 = 10;

/// The client's half.
pub struct Client {
    channel: Channel,
    letter: Letter,
    message: Delivery,
    sequence: u64,
    losses: Losses,
    /// Behind the channel, which ends first.
    _agent: Option<Agent>,
}

impl Client {
    /// Puts a channel to use.
    pub fn new(channel: Channel, task: &Task) -> Self {
        let (letter, message) = (Letter::new(task), Delivery::default());
        let losses = Losses::default();
        Self { channel, letter, message, sequence: 0, losses, _agent: None }
    }

    /// Keeps the agent that the channel leads through.
    pub fn by(self, agent: Agent) -> Self {
        Self { _agent: Some(agent), ..self }
    }

    /// Receives what comes within the time of an answer.
    #[inline(always)]
    fn receive(&mut self) -> Result<bool, Fault> {
        self.channel.recv_timeout_into(&mut self.message, RETRY).map_err(closed)
    }

    /// Waits for the answer; false if it does not come in time.
    #[inline(always)]
    fn answered(&mut self) -> Result<bool, Fault> {
        while self.receive()? {
            match Said::of(&self.message) {
                Some(Said::Number(found)) if found == self.sequence => return Ok(true),
                // The answer to what was asked twice: neither was lost.
                Some(Said::Number(found)) if found < self.sequence => self.losses.found(),
                Some(Said::End(_)) => {}
                other => {
                    let found = if let Some(Said::Number(found)) = other { found } else { 0 };
                    return Err(Fault::OutOfOrder { expected: self.sequence, found });
                }
            }
        }
        Ok(false)
    }

    #[cold]
    fn ask_again(&mut self) -> Result<(), Fault> {
        for _ in 1..ATTEMPTS {
            self.losses.lost(RETRY);
            self.letter.send(&mut self.channel, self.sequence)?;
            if self.answered()? {
                return Ok(());
            }
        }
        Err(Fault::Silent)
    }
}

impl Echo for Client {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        self.sequence += 1;
        self.letter.send(&mut self.channel, self.sequence)?;
        if self.answered()? { Ok(()) } else { self.ask_again() }
    }

    fn finish(&mut self) -> Result<(), Fault> {
        for _ in 0..ATTEMPTS {
            send_end(&mut self.channel, self.sequence)?;
            while self.receive()? {
                if matches!(Said::of(&self.message), Some(Said::End(at)) if at == self.sequence) {
                    return Ok(());
                }
            }
        }
        // The server leaves its loop with the first, and tells so elsewhere.
        Ok(())
    }

    fn losses(&mut self) -> Option<Losses> {
        Some(std::mem::take(&mut self.losses))
    }
}

impl Sender for Client {
    fn begin(&mut self) {}

    #[inline]
    fn send(&mut self) -> Result<(), Fault> {
        self.letter.post(&mut self.channel, self.sequence)?;
        self.sequence += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.letter.push(&mut self.channel);
        send_end(&mut self.channel, self.sequence)
    }

    fn lossy(&self) -> bool {
        true
    }
}

/// The server's half.
pub struct Mirror {
    endpoint: Endpoint,
    letter: Letter,
    message: Delivery,
    /// Private memory that messages are copied to, where that is the question.
    content: Option<Vec<u8>>,
    /// How many were sent before this phase.
    begun: u64,
    expected: u64,
    lost: u64,
    ended: bool,
}

impl Mirror {
    /// Puts an endpoint to use that has its one channel.
    pub fn new(endpoint: Endpoint, task: &Task) -> Self {
        let (letter, message) = (Letter::new(task), Delivery::default());
        let content = (task.bench == Bench::Bandwidth).then(|| vec![0; task.payload]);
        let (begun, expected, lost, ended) = (0, 0, 0, false);
        Self { endpoint, letter, message, content, begun, expected, lost, ended }
    }

    #[inline(always)]
    fn next(&mut self) -> Result<ChannelId, Fault> {
        loop {
            match self.endpoint.recv_into(&mut self.message) {
                Incoming::Message(from) => return Ok(from),
                Incoming::Other => attend(&mut self.endpoint)?,
            }
        }
    }

    /// The next message, if it is there already.
    #[inline(always)]
    fn try_next(&mut self) -> Result<bool, Fault> {
        match self.endpoint.try_recv_into(&mut self.message) {
            Some(Incoming::Message(_)) => Ok(true),
            Some(Incoming::Other) => attend(&mut self.endpoint).map(|()| false),
            None => Ok(false),
        }
    }

    /// Counts on to a sequence number, if it is none that was counted before.
    #[inline(always)]
    fn count_to(&mut self, found: u64) {
        if found < self.expected {
            // It comes late, and was counted as lost.
            self.lost = self.lost.saturating_sub(1);
            return;
        }
        self.lost = self.lost.saturating_add(found - self.expected);
        self.expected = found.saturating_add(1);
    }

    /// Looks at the message that came: whether it is one that counts.
    #[inline(always)]
    fn count(&mut self) -> bool {
        match Said::of(&self.message) {
            Some(Said::Number(found)) => {
                self.count_to(found);
                self.open();
                true
            }
            // The last phase's end may come more than once. Each phase has a message, at least.
            Some(Said::End(sent)) if sent > self.begun => {
                self.lost = self.lost.saturating_add(sent.saturating_sub(self.expected));
                self.expected = self.expected.max(sent);
                self.ended = true;
                false
            }
            Some(Said::End(_)) | None => false,
        }
    }

    /// Copies a message out, where that is the question.
    #[inline(always)]
    fn open(&mut self) {
        let Some(content) = &mut self.content else { return };
        let inline = self.message.inline();
        let beside = inline.len().min(content.len());
        let (head, rest) = content.split_at_mut(beside);
        head.copy_from_slice(&inline[..head.len()]);
        let len = rest.len().min(self.message.message().len());
        // There are as many bytes.
        let _ = self.message.message().peek(0, &mut rest[..len]);
        std::hint::black_box(content);
    }
}

/// Deals with what is no message: a client is there already, and others are refused.
#[cold]
pub fn attend(endpoint: &mut Endpoint) -> Result<(), Fault> {
    match endpoint.take_event() {
        Some(Event::Closed(_, reason)) => return Err(closed(reason)),
        Some(Event::Incoming(stranger)) => endpoint.refuse(stranger, 0),
        _ => {}
    }
    Ok(())
}

impl EchoServer for Mirror {
    #[inline]
    fn answer(&mut self) -> Result<bool, Fault> {
        loop {
            let from = self.next()?;
            let said = Said::of(&self.message);
            let channel = self.endpoint.channel_mut(from).ok_or(Fault::PeerGone)?;
            // The message's buffer goes back when the next one is asked for.
            match said {
                Some(Said::Number(number)) => {
                    return self.letter.send(channel, number).map(|()| true);
                }
                Some(Said::End(sent)) if sent > self.begun => {
                    self.begun = sent;
                    return send_end(channel, sent).map(|()| false);
                }
                // The last phase's, which was sent more than once.
                Some(Said::End(_)) | None => {}
            }
        }
    }
}

impl Receiver for Mirror {
    fn begin(&mut self) -> Result<(), Fault> {
        (self.begun, self.lost, self.ended) = (self.expected, 0, false);
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<Arrival, Fault> {
        if self.ended {
            return Ok(Arrival::End);
        }
        let mut counted = 0;
        loop {
            if counted == 0 {
                self.next()?;
            } else if !self.try_next()? {
                return Ok(Arrival::Messages(counted));
            }
            counted += u64::from(self.count());
            if self.ended || counted == u64::from(BURST) {
                return Ok(if counted > 0 { Arrival::Messages(counted) } else { Arrival::End });
            }
        }
    }

    fn lost(&self) -> u64 {
        self.lost
    }
}
