//! A client's session, and the calls that wait for the one that follows it.

use std::collections::VecDeque;

use segment::wait::Wait;

use super::{ConnectionOptions, End, How, Token};
use crate::endpoint::clock::{NoRandom, draw};
use crate::endpoint::content::{Bytes, Content, Piece, View};
use crate::protocol::{
    Call, Client, Event, Limits, MAX_MESSAGE, Outcome, QueryError, Refusal, RequestId, ServiceId,
    SessionEnd, Terms, Timers,
};

/// The machine of one session, and how many of its calls have not ended.
pub(super) struct Session {
    pub machine: Client<Content, Piece>,
    count: usize,
}

/// Calls that wait for the next session.
struct Waiting {
    calls: VecDeque<Call<Content>>,
    /// The first deadline of theirs.
    due: u64,
}

/// The calls of a client, in whichever session they are.
pub(super) struct Calls {
    pub session: Session,
    /// Takes the calls while the current session, which is of an epoch that is over, still has some. The patience
    /// for the next one counts from when it is asked for.
    next: Option<Waiting>,
    /// Whether calls have been executed or delivered since this was last asked.
    pub went_well: bool,
    tokens: u64,
    end: Option<SessionEnd>,
    is_suspected: bool,
    malformed: u64,
    asks: Asks,
}

/// What each session is asked for with.
struct Asks {
    service: ServiceId,
    epoch: u64,
    limits: Limits,
    timers: Timers,
    never_sleeps: bool,
}

impl Asks {
    fn session(&self, now: u64) -> Result<Session, NoRandom> {
        let Self { service, epoch, limits, timers, never_sleeps } = *self;
        let mut machine = Client::new(now, draw()?, service, epoch, limits, timers);
        if never_sleeps {
            machine.never_sleep();
        }
        Ok(Session { machine, count: 0 })
    }
}

impl Calls {
    pub fn new(now: u64, options: &ConnectionOptions) -> Result<Self, NoRandom> {
        let ConnectionOptions { service, epoch, limits, timers, wait, .. } = *options;
        let asks = Asks { service, epoch, limits, timers, never_sleeps: wait == Wait::Spin };
        Ok(Self {
            session: asks.session(now)?,
            next: None,
            went_well: false,
            tokens: 0,
            end: None,
            is_suspected: false,
            malformed: 0,
            asks,
        })
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
        self.session.count + self.next.as_ref().map_or(0, |next| next.calls.len())
    }

    /// Says to a session that begins what its channel is like. On this host there is no network to be crowded:
    /// who is slow there is slow, and pushes back by itself.
    pub fn fit(&mut self, fragment: u32, is_far: bool) {
        self.session.machine.set_channel(fragment.min(self.asks.limits.fragment), is_far);
    }

    pub fn patience(&self) -> u64 {
        self.asks.timers.patience
    }

    pub fn malformed(&self) -> u64 {
        self.malformed + self.session.machine.malformed()
    }

    pub fn drop_malformed(&mut self, packets: u64) {
        self.malformed += packets;
    }

    pub fn set_epoch(&mut self, epoch: u64) {
        self.asks.epoch = epoch;
    }

    #[inline(always)]
    pub fn start(
        &mut self,
        now: u64,
        token: Option<Token>,
        (method, payload): (u16, Content),
        deadline: Option<u64>,
        how: How,
    ) -> Result<Token, Refusal> {
        let Token(token) = token.unwrap_or_else(|| {
            self.tokens += 1;
            Token(self.tokens)
        });
        let (len, How { max_reply, one_way, .. }) = (payload.len(), how);
        let max_reply = max_reply.min(self.asks.limits.max_message);
        let call = Call { token, method, payload, len, deadline, max_reply, one_way };
        match &mut self.next {
            None => {
                self.session.machine.start(now, call).map_err(|error| error.why)?;
                self.session.count += 1;
            }
            Some(next) => next.take(call, self.asks.limits.backlog)?,
        }
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
                    Outcome::Delivered => {
                        self.went_well = true;
                        Outcome::Delivered
                    }
                    Outcome::Failed(why) => Outcome::Failed(*why),
                    Outcome::Refused(why) => Outcome::Refused(*why),
                    Outcome::Unknown(doubt) => Outcome::Unknown(*doubt),
                };
                let is_epoch_over = matches!(outcome, Outcome::Refused(Refusal::WrongEpoch));
                each(End { token: Token(token), request, outcome });
                if is_epoch_over && self.next.is_none() {
                    // Further calls go by another session.
                    self.next = Some(Waiting { calls: VecDeque::new(), due: u64::MAX });
                }
            }
            Event::Opened(_) => (self.end, self.is_suspected) = (None, false),
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
            self.on_event(event, View::Slice(&[]), each);
        }
        if let Some(next) = &mut self.next {
            next.expire(now, each);
        }
    }

    /// When there is something to tell or to do, if nothing comes: at once, if a session is done.
    #[inline(always)]
    pub fn due(&self, now: u64) -> u64 {
        if self.is_done() {
            return now;
        }
        let due = self.session.machine.next_timer();
        self.next.as_ref().map_or(due, |next| due.min(next.due))
    }

    /// Whether the session is over, or of an epoch that is and without calls.
    #[inline(always)]
    pub fn is_done(&self) -> bool {
        self.session.machine.is_over() || self.next.is_some() && self.session.count == 0
    }

    /// Goes on to the next session, where one is done. Whether the kernel had a random number for it.
    #[cold]
    pub fn renew(&mut self, now: u64, each: &mut impl FnMut(End<'_>)) -> bool {
        let Ok(fresh) = self.asks.session(now) else { return false };
        self.malformed += self.session.machine.malformed();
        self.session = fresh;
        for call in self.next.take().into_iter().flat_map(|next| next.calls) {
            let token = call.token;
            match self.session.machine.start(now, call) {
                Ok(()) => self.session.count += 1,
                Err(error) => each(refused(token, error.why)),
            }
        }
        true
    }

    /// Ends what waits for the next session.
    pub fn give_up(&mut self, each: &mut impl FnMut(End<'_>)) {
        for call in self.next.take().into_iter().flat_map(|next| next.calls) {
            each(refused(call.token, Refusal::NoSession));
        }
    }
}

impl Waiting {
    #[cold]
    fn take(&mut self, call: Call<Content>, most: u16) -> Result<(), Refusal> {
        if call.len > MAX_MESSAGE {
            return Err(Refusal::TooLarge);
        }
        if self.calls.len() >= most.into() {
            return Err(Refusal::Overload);
        }
        self.due = self.due.min(call.deadline.unwrap_or(u64::MAX));
        self.calls.push_back(call);
        Ok(())
    }

    /// Ends the calls that are past their deadline.
    #[cold]
    fn expire(&mut self, now: u64, each: &mut impl FnMut(End<'_>)) {
        if now < self.due {
            return;
        }
        self.due = u64::MAX;
        self.calls.retain(|call| {
            let deadline = call.deadline.unwrap_or(u64::MAX);
            let waits = now < deadline;
            match waits {
                true => self.due = self.due.min(deadline),
                false => each(refused(call.token, Refusal::DeadlinePassed)),
            }
            waits
        });
    }
}

fn refused(token: u64, why: Refusal) -> End<'static> {
    End { token: Token(token), request: None, outcome: Outcome::Refused(why) }
}
