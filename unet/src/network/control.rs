//! How channels over a network come about and end: what is said beside data.
//!
//! ```text
//!   client                                    listener
//!   Hello (again until answered) ───────────►  is it known? Welcome again. Else: the application decides
//!         ◄─────────────────────────────────── Welcome, or Refusal
//!   data ◄──────────────────────────────────►  data
//!   Probe ──────────────────────────────────►  Alive          where nothing was heard for long
//!   anything for what is not there ─────────►  Stale
//!   Bye ────────────────────────────────────►
//! ```

use std::net::SocketAddr;

use fbufs::FbufMut;
use segment::Incarnation;
use segment::control::MAX_PRIVATE;
use segment::counters::Counter;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::account::LinkCount;
use super::link::{Asking, Happened, Link, Phase};
use crate::channel::CloseReason;
use crate::device::{Destination, DeviceError};
use crate::handshake::{AcceptError, Refusal};
use crate::wire::{Fields, HEADER_BYTES, Kind, NO_CHANNEL};

/// How many clients may wait for a decision; further ones are told to come back.
const MAX_UNDECIDED: usize = 64;
/// How many refused clients are remembered.
const MAX_REFUSED: usize = 64;

/// What a Welcome begins with, and all of a Stale.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Name {
    channel: U32,
    incarnation: U64,
}

/// All of a Refusal.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Reason {
    reason: U32,
    code: U32,
}

impl Link {
    #[cold]
    pub(super) fn take_control(&mut self, from: SocketAddr, fields: Fields, bytes: FbufMut) {
        let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
        let taken = match fields.kind {
            Kind::Hello => self.take_hello(from, fields, body),
            Kind::Stale => self.take_stale_word(from, body),
            _ => self.take_peers_word(from, fields, body),
        };
        match taken {
            Ok(()) => LinkCount::ControlTaken.add(&self.counters, 1),
            Err(counter) => self.counters.add(counter, 1),
        }
        self.recycle(bytes);
    }

    /// What a peer says of a channel.
    ///
    /// # Errors
    /// As what it is to be counted if it is for no channel here, or makes no sense; so with the others.
    fn take_peers_word(
        &mut self,
        from: SocketAddr,
        fields: Fields,
        body: &[u8],
    ) -> Result<(), Counter> {
        let counter = match self.state(fields.channel) {
            Some(state) if state.own.0 != fields.incarnation => Counter::WireStale,
            Some(state) if !state.is_from(from) => Counter::WireForeign,
            Some(state) => {
                state.heard = true;
                return self.take_own_peers_word(fields, body);
            }
            None => Counter::WireUnknown,
        };
        if fields.kind == Kind::Probe {
            self.say_stale(from, fields);
        }
        Err(counter)
    }

    fn take_own_peers_word(&mut self, fields: Fields, body: &[u8]) -> Result<(), Counter> {
        const NONSENSE: Result<(), Counter> = Err(Counter::WireMalformed);
        let channel = fields.channel;
        let Some(state) = self.state(channel) else { return NONSENSE };
        if matches!(fields.kind, Kind::Bye | Kind::Probe | Kind::Alive) {
            state.reached(fields.sequence);
        }
        match (fields.kind, state.phase) {
            (Kind::Welcome, Phase::Asking) => {
                let Ok((name, private)) = Name::ref_from_prefix(body) else { return NONSENSE };
                if private.len() > MAX_PRIVATE {
                    return NONSENSE;
                }
                state.private = private.to_vec();
                self.answered = true;
                self.join(channel, name.channel.get(), Incarnation(name.incarnation.get()));
            }
            (Kind::Refusal, Phase::Asking) => {
                let Ok(reason) = Reason::ref_from_bytes(body) else { return NONSENSE };
                let refusal = Refusal::from_numbers(reason.reason.get().into(), reason.code.get());
                state.phase = Phase::Refused(refusal);
                self.answered = true;
            }
            // What is said twice was answered twice.
            (Kind::Welcome | Kind::Refusal, _) | (Kind::Alive, Phase::Open) => {}
            (Kind::Probe, Phase::Open) => self.send_to_peer(channel, Kind::Alive, &[]),
            (Kind::Bye, Phase::Open) => self.end(channel, CloseReason::PeerClosed),
            _ => return NONSENSE,
        }
        Ok(())
    }

    /// Both sides know each other: from now on the channel carries data.
    fn join(&mut self, channel: u32, number: u32, incarnation: Incarnation) {
        let checksum = self.options.checksum;
        let fields = self.control_fields(Kind::Data, number, incarnation.0);
        let Some(state) = self.state(channel) else { return };
        state.peer = (number, incarnation);
        state.template = Fields { checksum, ..fields }.to_header(0);
        state.phase = Phase::Open;
    }

    /// Asks to be connected, once more.
    pub(super) fn say_hello(&mut self, channel: u32, private: &[u8]) {
        let Some(state) = self.state(channel) else { return };
        let (to, own) = (state.to, state.own);
        let fields = self.control_fields(Kind::Hello, NO_CHANNEL, own.0);
        let body = [U32::from(channel).as_bytes(), private].concat();
        self.send_control(to, fields, &body);
    }

    fn take_hello(&mut self, from: SocketAddr, fields: Fields, body: &[u8]) -> Result<(), Counter> {
        let malformed = Counter::WireMalformed;
        let (number, private) = U32::ref_from_prefix(body).map_err(|_| malformed)?;
        if fields.channel != NO_CHANNEL || private.len() > MAX_PRIVATE {
            return Err(malformed);
        }
        let asking: Asking = (from, number.get(), fields.incarnation);
        if let Some(channel) = self.accepted.get(&asking).copied() {
            // Its address may be a lie, and whoever lied may have it repeated without end.
            if self.may_say_more() {
                self.say_welcome(channel);
            }
        } else if let Some((_, why)) = self.refused.iter().find(|(other, _)| *other == asking) {
            self.say_refusal(asking, *why);
        } else if !self.listens {
            return Err(Counter::WireUnknown);
        } else if self.undecided.iter().any(|(other, _)| *other == asking) {
            // It is the application's turn.
        } else if self.undecided.len() >= MAX_UNDECIDED {
            self.counters.add(Counter::RefusedResources, 1);
            self.say_refusal(asking, Refusal::Busy);
        } else {
            match self.device.open(from) {
                Ok(to) => {
                    self.undecided.push((asking, to));
                    self.happened.push_back(Happened::Asked(asking, private.to_vec()));
                }
                // Its next hello finds the neighbour known.
                Err(DeviceError::Unresolved) => {}
                Err(_) => self.counters.add(Counter::RefusedResources, 1),
            }
        }
        Ok(())
    }

    /// The way to a client that waited for a decision, which is made now.
    fn decide(&mut self, asking: Asking) -> Option<Destination> {
        let place = self.undecided.iter().position(|(other, _)| *other == asking)?;
        Some(self.undecided.swap_remove(place).1)
    }

    /// Accepts a client that asked: the channel's number.
    pub fn accept(
        &mut self,
        asking: Asking,
        private: &[u8],
        theirs: &[u8],
    ) -> Result<u32, AcceptError> {
        if private.len() > MAX_PRIVATE {
            return Err(AcceptError::PrivateTooLarge);
        }
        let (from, number, incarnation) = asking;
        let kernel = || AcceptError::Kernel(rustix::io::Errno::AGAIN);
        let own = Incarnation::draw().ok_or_else(kernel)?;
        let to = self.decide(asking).ok_or(AcceptError::PeerGone)?;
        let template = self.control_fields(Kind::Data, number, incarnation).to_header(0);
        let channel = match self.add(from, to, own, template) {
            Ok(channel) => channel,
            Err(error) => {
                self.device.close(to);
                return Err(error.into());
            }
        };
        self.join(channel, number, Incarnation(incarnation));
        self.accepted.insert(asking, channel);
        if let Some(state) = self.state(channel) {
            state.asking = Some(asking);
            state.welcome = private.to_vec();
            state.private = theirs.to_vec();
        }
        self.say_welcome(channel);
        Ok(channel)
    }

    fn say_welcome(&mut self, channel: u32) {
        let Some(state) = self.state(channel) else { return };
        let name = Name { channel: channel.into(), incarnation: state.own.0.into() };
        let body = [name.as_bytes(), &state.welcome].concat();
        self.send_to_peer(channel, Kind::Welcome, &body);
    }

    /// Refuses a client that asked, or that may not even ask.
    pub fn refuse_client(&mut self, asking: Asking, why: Refusal) {
        if let Some(to) = self.decide(asking) {
            self.device.close(to);
        }
        self.remember_refused(asking, why);
        self.say_refusal(asking, why);
    }

    /// Answers a hello that comes once more as the one before.
    pub(super) fn remember_refused(&mut self, asking: Asking, why: Refusal) {
        if self.refused.len() >= MAX_REFUSED {
            self.refused.pop_front();
        }
        self.refused.push_back((asking, why));
    }

    fn say_refusal(&mut self, (to, number, incarnation): Asking, why: Refusal) {
        let (reason, code) = why.to_numbers();
        let reason = Reason { reason: (reason as u32).into(), code: code.into() };
        let fields = self.control_fields(Kind::Refusal, number, incarnation);
        self.say_once(to, fields, reason.as_bytes());
    }

    /// Data for a channel that there is not, or not any more.
    #[cold]
    pub(super) fn take_stale(
        &mut self,
        from: SocketAddr,
        fields: Fields,
        bytes: FbufMut,
        counter: Counter,
    ) {
        self.say_stale(from, fields);
        self.refuse(counter, bytes);
    }

    fn say_stale(&mut self, to: SocketAddr, about: Fields) {
        let name = Name { channel: about.channel.into(), incarnation: about.incarnation.into() };
        let fields = self.control_fields(Kind::Stale, NO_CHANNEL, 0);
        self.say_once(to, fields, name.as_bytes());
    }

    /// Whether something may still be said to strangers: a few times a period, for anybody can make this
    /// side do so.
    fn may_say_more(&mut self) -> bool {
        let left = self.stale_left.checked_sub(1);
        self.stale_left = left.unwrap_or(0);
        left.is_some()
    }

    /// Says something to whom no channel leads.
    fn say_once(&mut self, to: SocketAddr, fields: Fields, body: &[u8]) {
        if !self.may_say_more() {
            return;
        }
        let Ok(to) = self.device.open(to) else { return };
        self.send_control(to, fields, body);
        self.close_when_sent(to);
    }

    fn close_when_sent(&mut self, to: Destination) {
        self.take_back(to);
        self.device.close(to);
    }

    fn take_stale_word(&mut self, from: SocketAddr, body: &[u8]) -> Result<(), Counter> {
        let name = Name::ref_from_bytes(body).map_err(|_| Counter::WireMalformed)?;
        let peer = (name.channel.get(), Incarnation(name.incarnation.get()));
        let is_it = |state: &super::link::State| {
            state.phase == Phase::Open && state.peer == peer && state.is_from(from)
        };
        let found = self.channels.iter().position(|s| s.as_ref().is_some_and(is_it));
        let channel = found.ok_or(Counter::WireStale)?;
        self.end(channel as u32, CloseReason::PeerRestarted);
        Ok(())
    }

    /// Closes a channel from this side, and tells the peer.
    pub fn close(&mut self, channel: u32) {
        // What has come for it by now is lost with it, and counted so. A failure ends it anyway.
        let _ = self.poll();
        let tell = self
            .state(channel)
            .is_some_and(|state| state.phase == Phase::Open && state.closed.is_none());
        if tell {
            self.send_to_peer(channel, Kind::Bye, &[]);
        }
        self.remove(channel);
    }
}
