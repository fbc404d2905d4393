//! The sessions of both versions of IP.

use crate::{Demultiplexer, Demux, Reason, Refusal, Slot, Slots, Upper};

/// Upper layers.
const UPPERS: usize = 16;
/// Sessions.
const SESSIONS: usize = 4096;

/// With whom a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key<A> {
    /// `None`: with everybody who is in no other session of the protocol.
    remote: Option<A>,
    protocol: u8,
}

/// What is fixed for a session's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InternetSession<A> {
    /// Which protocol is above.
    pub protocol: u8,
    /// The other side and what leads there; without it, the attributes of each message say it.
    pub remote: Option<A>,
}

/// By remote address and protocol, one session each; those that nobody opened are one for the whole
/// protocol. So hosts nobody talks to cannot make us keep anything, however many there are.
#[derive(Debug)]
pub(super) struct InternetSessions<A> {
    slots: Slots<InternetSession<A>>,
    by_key: Demultiplexer<Key<A>>,
    listeners: Vec<(u8, Upper)>,
}

impl<A: Copy + Eq + std::hash::Hash> InternetSessions<A> {
    /// None are open.
    pub(super) fn new() -> Self {
        let slots = Slots::new(SESSIONS);
        Self { slots, by_key: Demultiplexer::new(), listeners: Vec::new() }
    }

    #[inline]
    pub(super) fn get(&self, slot: Slot) -> Option<&InternetSession<A>> {
        self.slots.get(slot)
    }

    /// The session with these, made if there is none.
    pub(super) fn open(&mut self, protocol: u8, remote: Option<A>) -> Result<Slot, Refusal> {
        let key = Key { remote, protocol };
        if let Some(slot) = self.by_key.find(key) {
            return Ok(slot);
        }
        let session = InternetSession { protocol, remote };
        let slot = self.slots.insert(session).map_err(|_| Refusal::Limit)?;
        // The key has just been looked up.
        let _new = self.by_key.insert(key, slot);
        Ok(slot)
    }

    pub(super) fn listen(&mut self, protocol: u8, upper: Upper) -> Result<(), Refusal> {
        match self.listeners.iter().find(|(known, _)| *known == protocol) {
            Some((_, known)) if *known == upper => Ok(()),
            Some(_) => Err(Refusal::InUse),
            None if self.listeners.len() >= UPPERS => Err(Refusal::Limit),
            None => {
                self.listeners.push((protocol, upper));
                Ok(())
            }
        }
    }

    /// Where a message goes. All sessions of a protocol lead to the same layer, which looks itself
    /// for whom it is; so the common one is looked for first, and found without a look-up.
    #[inline]
    pub(super) fn demux(&mut self, protocol: u8, remote: A) -> Demux {
        if let Some(slot) = self.by_key.find(Key { remote: None, protocol }) {
            return Demux::To(slot);
        }
        self.demux_slowly(protocol, remote)
    }

    #[cold]
    fn demux_slowly(&mut self, protocol: u8, remote: A) -> Demux {
        if let Some((_, upper)) = self.listeners.iter().find(|(known, _)| *known == protocol) {
            let upper = *upper;
            return match self.open(protocol, None) {
                Ok(slot) => Demux::New(slot, upper),
                Err(_) => Demux::Drop(Reason::SessionLimit),
            };
        }
        match self.by_key.find(Key { remote: Some(remote), protocol }) {
            Some(slot) => Demux::To(slot),
            None => Demux::Drop(Reason::NoSession),
        }
    }

    pub(super) fn close(&mut self, slot: Slot) {
        if let Some(InternetSession { protocol, remote }) = self.slots.remove(slot) {
            self.by_key.remove(Key { remote, protocol });
        }
    }
}
