//! A packet taken, and the call executed that it completes.

use unet::ChannelId;

use super::Service;
use super::handling::{Context, Handler, Reply, handle};
use super::serving::session;
use super::session::Scene;
use crate::endpoint::arriving::Arrived;
use crate::endpoint::content::{Bytes, Content, Piece};
use crate::protocol::{Refusal, Request, ServerEvent};
use crate::wire;

impl Service {
    /// Takes a packet of a message that came at that time; executes the call that it completes.
    #[inline(always)]
    pub(super) fn take_packet(
        &mut self,
        from: ChannelId,
        came: u64,
        packet: Arrived<'_>,
        handler: &mut impl Handler,
    ) {
        let Some(session) = session(&mut self.sessions, from) else { return };
        let Some(machine) = &mut session.machine else {
            return self.take_other(from, came, packet.head, None);
        };
        // Where the last tick stands for the time, a deadline is not to pass too early.
        let came = match self.is_near && wire::has_time(packet.head) {
            true => self.clock.now().min(came.saturating_add(self.clock.tick)),
            false => came,
        };
        machine.set_woken(came < self.woken_until);
        // Who is near does not crowd a network.
        if session.is_far {
            machine.set_alone(self.callers.is_alone(from, came, wire::is_of_call(packet.head)));
        }
        // What waits behind others of its message waits here, not in the network.
        let request = match machine.receive(came, packet.head, packet.len, packet.piece) {
            None => return,
            Some(ServerEvent::Request(request)) => request,
            Some(event) => return self.take_other(from, came, packet.head, Some(event)),
        };
        let arguments = Bytes::of(&request.payload, packet.here);
        // The handle of what is lent stays here, while the rest goes on.
        let Request { method, deadline, one_way, pending, .. } = &request;
        let (method, deadline, one_way) = (*method, *deadline, *one_way);
        let call = pending.request();
        // Calls before it may have taken their time. A one-way call counts as handed over already.
        if let Some(deadline) = deadline
            && !one_way
            && let now = self.clock.now()
            && deadline <= now
        {
            return machine.refuse(now, request.pending, Refusal::DeadlinePassed);
        }
        let clock = self.clock;
        let context = Context { method, request: call, client: from, one_way, deadline, clock };
        let reply = Reply {
            content: Content::default(),
            pending: Some(request.pending),
            client: from,
            service: self,
        };
        let said = handle(handler, &context, arguments, reply);
        self.answer(from, said);
    }

    /// Answers what a handler has given back, if its client is there yet.
    #[inline(always)]
    fn answer(
        &mut self,
        client: ChannelId,
        said: Option<(crate::protocol::Pending, Result<Content, super::Decline>)>,
    ) {
        let Some(session) = session(&mut self.sessions, client) else {
            self.counts.late += u64::from(said.is_some());
            return;
        };
        if session.is_far {
            // A slow handler is not to be taken for a slow network.
            self.now = self.clock.now();
        }
        if let Some((pending, said)) = said {
            session.answer(self.now, &mut self.counts, pending, said);
        }
    }

    /// Takes what is no request, or belongs to no session.
    #[cold]
    fn take_other(
        &mut self,
        from: ChannelId,
        came: u64,
        head: &[u8],
        event: Option<ServerEvent<Piece>>,
    ) {
        let Self { options, identity, now, counts, .. } = self;
        let mut scene = Scene { options, identity: *identity, came, now: *now, counts };
        let Some(session) = session(&mut self.sessions, from) else { return };
        let Some(channel) = self.endpoint.channel_mut(from) else { return };
        match event {
            Some(event) => session.take_other(&mut scene, channel, head, event),
            None => session.take_without_session(&mut scene, channel, head),
        }
    }
}
