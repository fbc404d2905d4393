//! A client's session, and the one that follows it.

use super::{ConnectionOptions, End, How, Token};
use crate::endpoint::clock::{NoRandom, draw};
use crate::endpoint::content::{Bytes, Content, Piece, View};
use crate::protocol::{
    Call, Client, Event, Limits, Outcome, QueryError, Refusal, RequestId, SessionEnd, Terms, Timers,
};

/// The machine of one session, and how many of its calls have not ended.
pub(super) struct Session {
    pub machine: Client<Content, Piece>,
    count: usize,
}

/// The calls of a client, in whichever session they are.
pub(super) struct Calls {
    pub session: Session,
    /// Takes the calls while the current session, which is of an epoch that is over, still has some.
    next: Option<Session>,
    /// Whether calls have been executed since this was last asked.
    pub went_well: bool,
    tokens: u64,
    end: Option<SessionEnd>,
    is_suspected: bool,
    malformed: u64,
    service: u64,
    epoch: u64,
    limits: Limits,
    timers: Timers,
}

impl Calls {
    pub fn new(now: u64, options: &ConnectionOptions) -> Result<Self, NoRandom> {
        let ConnectionOptions { service, epoch, limits, timers, .. } = *options;
        let machine = Client::new(now, draw()?, service, epoch, limits, timers);
        Ok(Self {
            session: Session { machine, count: 0 },
            next: None,
            went_well: false,
            tokens: 0,
            end: None,
            is_suspected: false,
            malformed: 0,
            service,
            epoch,
            limits,
            timers,
        })
    }

    fn fresh(&self, now: u64) -> Result<Session, NoRandom> {
        let Self { service, epoch, limits, timers, .. } = *self;
        let machine = Client::new(now, draw()?, service, epoch, limits, timers);
        Ok(Session { machine, count: 0 })
    }

    pub fn terms(&self) -> Option<&Terms> {
        self.session.machine.terms().filter(|_| !self.session.machine.is_over())
    }

    pub fn end(&self) -> Option<SessionEnd> {
        self.end
    }

    pub fn is_suspected(&self) -> bool {
        self.is_suspected
    }

    pub fn count(&self) -> usize {
        self.session.count + self.next.as_ref().map_or(0, |next| next.count)
    }

    /// Says to a session that begins what its channel is like. On this host there is no network to be crowded:
    /// who is slow there is slow, and pushes back by itself.
    pub fn fit(&mut self, fragment: u32, is_far: bool) {
        let allowance = if is_far { self.timers.allowance } else { u64::MAX };
        self.session.machine.set_channel(fragment.min(self.limits.fragment), allowance);
    }

    /// Whether there are two sessions.
    pub fn has_next(&self) -> bool {
        self.next.is_some()
    }

    pub fn malformed(&self) -> u64 {
        self.malformed + self.session.machine.malformed()
    }

    pub fn drop_malformed(&mut self, packets: u64) {
        self.malformed += packets;
    }

    pub fn set_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    #[inline(always)]
    pub fn start(
        &mut self,
        now: u64,
        (method, payload): (u16, Content),
        deadline: Option<u64>,
        how: How,
    ) -> Result<Token, Refusal> {
        self.tokens += 1;
        let token = self.tokens;
        let (len, How { max_reply, one_way, .. }) = (payload.len(), how);
        let max_reply = max_reply.min(self.limits.max_message);
        let call = Call { token, method, payload, len, deadline, max_reply, one_way };
        let session = self.next.as_mut().unwrap_or(&mut self.session);
        session.machine.start(now, call).map_err(|error| error.why)?;
        session.count += 1;
        Ok(Token(token))
    }

    pub fn query(&mut self, now: u64, request: RequestId) -> Result<(), QueryError> {
        self.session.machine.query(now, request)?;
        self.session.count += 1;
        Ok(())
    }

    /// Passes an event on; what it left where it came is `here`.
    #[inline(always)]
    pub fn on_event(
        &mut self,
        now: u64,
        event: Event<Piece>,
        here: View<'_>,
        each: &mut impl FnMut(End<'_>),
    ) {
        match event {
            Event::Ended { token, request, outcome } => {
                self.session.count -= 1;
                let outcome = match &outcome {
                    Outcome::Executed(payload) => {
                        self.went_well = true;
                        Outcome::Executed(Bytes::of(payload, here))
                    }
                    Outcome::Delivered => Outcome::Delivered,
                    Outcome::Failed(why) => Outcome::Failed(*why),
                    Outcome::Refused(why) => Outcome::Refused(*why),
                    Outcome::Unknown(doubt) => Outcome::Unknown(*doubt),
                };
                let is_epoch_over = matches!(outcome, Outcome::Refused(Refusal::WrongEpoch));
                each(End { token: Token(token), request, outcome });
                if is_epoch_over && self.next.is_none() {
                    // Further calls go by another session. Without a random number for it, it is made after the
                    // next refusal.
                    self.next = self.fresh(now).ok();
                }
            }
            Event::Opened(_) => self.end = None,
            Event::Suspected => self.is_suspected = true,
            Event::Restored => self.is_suspected = false,
            Event::SessionOver(end) => self.end = Some(end),
        }
    }

    /// Tells what happened beside what was received. What else is to be told of a session that is over has been,
    /// after this.
    #[inline(always)]
    pub fn tell(&mut self, now: u64, each: &mut impl FnMut(End<'_>)) {
        self.session.machine.on_timer(now);
        while let Some(event) = self.session.machine.poll_event(now) {
            self.on_event(now, event, View::Slice(&[]), each);
        }
    }

    /// Whether the session is over, or of an epoch that is and without calls.
    #[inline(always)]
    pub fn is_done(&self) -> bool {
        self.session.machine.is_over() || self.next.is_some() && self.session.count == 0
    }

    /// Goes on to the next session, where one is done. Whether the kernel had a random number for it.
    #[cold]
    pub fn renew(&mut self, now: u64) -> bool {
        self.malformed += self.session.machine.malformed();
        let next = self.next.take().or_else(|| self.fresh(now).ok());
        let is_there = next.is_some();
        if let Some(next) = next {
            self.session = next;
        }
        is_there
    }
}
