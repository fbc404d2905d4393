//! A client of a service: its session, and what waits to be sent to it.

use unet::{Channel, ChannelId};

use super::handling::Decline;
use super::{Counts, ServiceOptions};
use crate::endpoint::clock::draw;
use crate::endpoint::connection::fragment;
use crate::endpoint::content::{Content, Piece};
use crate::endpoint::outbox::{Outbox, Sent, Unsent};
use crate::protocol::{
    AcceptError, Identity, Limits, Pending, Server, ServerEvent, Timers, stale_answer,
};

/// The most packets that are sent to a client in its turn.
const TURN: u32 = 16;

pub(super) struct Session {
    pub id: ChannelId,
    pub machine: Option<Server<Content, Piece>>,
    outbox: Outbox,
    /// Whether there is a network between.
    pub is_far: bool,
    /// When the channel was accepted, or its last session ended.
    pub since: u64,
    /// Its calls that are answered later, whichever of its sessions they were of.
    pub later: usize,
    /// Whether it is in the list of those that send.
    pub is_listed: bool,
    /// Packets of sessions that are over.
    dropped: (u64, u64),
}

/// What of a service a session is opened and ended with.
pub(super) struct Scene<'a> {
    pub options: &'a ServiceOptions,
    pub identity: Identity,
    /// When the message came, and when the clock was last looked at.
    pub came: u64,
    pub now: u64,
    pub counts: &'a mut Counts,
}

impl Session {
    pub fn new(id: ChannelId, now: u64, channel: &Channel) -> Self {
        let mut outbox = Outbox::default();
        outbox.begin(channel);
        Self {
            id,
            machine: None,
            outbox,
            is_far: channel.peer_address().is_some(),
            since: now,
            later: 0,
            is_listed: false,
            dropped: (0, 0),
        }
    }

    pub fn is_open(&self) -> bool {
        self.machine.is_some()
    }

    /// Whether it is of the session that there is.
    pub fn has(&self, pending: &Pending) -> bool {
        let cookie = pending.request().cookie;
        self.machine.as_ref().is_some_and(|machine| machine.terms().cookie == cookie)
    }

    /// The most bytes of a packet's payload, as agreed.
    pub fn fragment(&self) -> usize {
        self.machine.as_ref().map_or(0, |machine| machine.terms().fragment as usize)
    }

    pub fn add_to(&self, counts: &mut Counts) {
        let (malformed, foreign) = self.machine.as_ref().map_or((0, 0), Server::dropped);
        counts.malformed += self.dropped.0 + malformed;
        counts.foreign += self.dropped.1 + foreign;
    }

    /// Whether it is to be let go of: it asks for no session, or does not read, for longer than the patience.
    pub fn is_idle(&self, now: u64, patience: u64) -> bool {
        match self.is_open() {
            true => self.outbox.is_stuck(now, patience),
            false => now.saturating_sub(self.since) > patience,
        }
    }

    /// When to look again whether there is room for what waits.
    pub fn next_try(&self, now: u64) -> Option<u64> {
        self.is_listed.then(|| self.outbox.next_try(now))
    }

    /// Whether its client lacks something that was answered: see [`Server::owes`].
    pub fn owes(&self, now: u64, silence: u64) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.owes(now, silence))
    }

    pub fn fence(&mut self, now: u64) {
        if let Some(machine) = &mut self.machine {
            machine.fence(now);
        }
    }

    /// Answers a call that its handler has given back.
    #[inline(always)]
    pub fn answer(
        &mut self,
        now: u64,
        counts: &mut Counts,
        pending: Pending,
        said: Result<Content, Decline>,
    ) {
        let Some(machine) = &mut self.machine else { return };
        match said {
            Ok(content) => {
                let len = content.len();
                if machine.reply(now, pending, content, len).is_err() {
                    counts.too_large += 1;
                }
            }
            Err(Decline::Refuse(why)) => {
                counts.refused += 1;
                machine.refuse(now, pending, why);
            }
            Err(Decline::Fail(why)) => {
                counts.failed += 1;
                machine.fail(now, pending, why);
            }
        }
    }

    #[cold]
    pub fn take_other(
        &mut self,
        scene: &mut Scene<'_>,
        channel: &mut Channel,
        head: &[u8],
        event: ServerEvent<Piece>,
    ) {
        match event {
            ServerEvent::OtherSession => self.open(scene, channel, head),
            ServerEvent::Closed => self.end_session(scene.now),
            _ => {}
        }
    }

    fn end_session(&mut self, now: u64) {
        let Some(machine) = self.machine.take() else { return };
        self.since = now;
        let (malformed, foreign) = machine.dropped();
        self.dropped.0 += malformed;
        self.dropped.1 += foreign;
    }

    #[cold]
    pub fn take_without_session(
        &mut self,
        scene: &mut Scene<'_>,
        channel: &mut Channel,
        head: &[u8],
    ) {
        self.open(scene, channel, head);
        if self.machine.is_none() {
            scene.counts.sessionless += 1;
            if let Some(answer) = stale_answer(head) {
                // It is asked for again where it is lost.
                let _ = channel.try_send(&answer);
            }
        }
    }

    /// Makes the session that a packet asks for, in place of the one that there is.
    fn open(&mut self, scene: &mut Scene<'_>, channel: &mut Channel, head: &[u8]) {
        let ServiceOptions { limits, timers, .. } = *scene.options;
        let limits = Limits { fragment: limits.fragment.min(fragment(channel)), ..limits };
        // The channel tells when the client is gone.
        let timers = Timers { suspicion: 0, ..timers };
        // Without a random number there is no session now: the client asks again.
        let Ok(cookie) = draw() else { return };
        match Server::accept(scene.came, head, scene.identity, cookie, limits, timers) {
            Ok(machine) => {
                self.end_session(scene.now);
                self.outbox.begin(channel);
                self.machine = Some(machine);
            }
            Err(AcceptError::Rejected { answer, .. }) => {
                scene.counts.rejected += 1;
                let _ = channel.try_send(&answer);
            }
            Err(_) => {}
        }
    }

    /// Sends what there is, a turn's worth.
    #[inline(always)]
    pub fn send(&mut self, channel: &mut Channel, now: u64, counts: &mut Counts) -> Sent {
        let Some(machine) = &mut self.machine else { return Sent::All };
        match self.outbox.send(channel, machine, now, TURN) {
            Ok(sent) => sent,
            // The endpoint tells of the channel's end.
            Err(Unsent::Closed(_) | Unsent::Revoked(_)) => Sent::All,
            Err(Unsent::TooLarge) => {
                // The client is told that there is no such session, and asks for another.
                self.end_session(now);
                counts.unsendable += 1;
                Sent::All
            }
        }
    }
}
