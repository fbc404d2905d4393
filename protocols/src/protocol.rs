//! The uniform interface of every layer.

use crate::{Context, Message, Participants, Reason};

/// Under which number a layer keeps one of its sessions. The layer chooses it, from zero up without
/// large gaps: see [`Slots`](crate::Slots).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// Who above a layer wants the messages of a session. Made by the graph, kept by the layer, given
/// back with [`Demux::New`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Upper(pub(crate) u32);

impl Upper {
    /// Nobody: the session is for messages to the layer itself, which takes them all.
    pub const NOBODY: Upper = Upper(u32::MAX);
}

/// A node below a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lower {
    /// Its name in the graph.
    pub name: String,
    /// What it is.
    pub kind: String,
}

/// What is to become of a message that a layer was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the graph must be told what became of the message"]
pub enum Verdict {
    /// It goes on to the next layer, and what the layer emitted follows it.
    Pass,
    /// The layer took it: it keeps it, or has emitted what became of it, or it was for the layer.
    Taken,
    /// It goes no further; counted for this node.
    Drop(Reason),
}

/// To which session a message belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demux {
    /// To this one.
    To(Slot),
    /// To one that was made for it just now, since somebody listens for it.
    New(Slot, Upper),
    /// To none; counted for this node.
    Drop(Reason),
}

/// A session that a layer has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Where the layer keeps it. If it is one that was open before, it is shared.
    pub slot: Slot,
    /// Over which of the nodes below it runs, by their order in the description. Of no meaning for a
    /// layer that has none.
    pub lower: usize,
}

/// What a session can rely on below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Below {
    /// The longest message that can be pushed.
    pub max_message: usize,
    /// How many bytes in front of a message the layers below will fill; with so much headroom no
    /// layer needs another buffer.
    pub headroom: usize,
    /// From which network address the session's messages go, where a layer below knows that: what
    /// sums over it is made above.
    pub local: Option<std::net::IpAddr>,
}

impl Below {
    /// What is left to the layer above one that adds a header of `bytes`.
    pub fn under_header(self, bytes: usize) -> Below {
        Below {
            max_message: self.max_message.saturating_sub(bytes),
            headroom: self.headroom + bytes,
            ..self
        }
    }
}

/// Why a layer does not open a session, or does not listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A part of the participants that the layer needs is not there.
    #[error("the {0} is missing: name it among the participants")]
    Missing(&'static str),
    /// Somebody else has it.
    #[error("it is in use: close the other session or listen for something else")]
    InUse,
    /// There are as many sessions as there may be.
    #[error("there are as many sessions as there may be: close some, or raise the limit")]
    Limit,
    /// Nothing leads there.
    #[error("nothing leads to that destination: add a route or another lower protocol")]
    NoRoute,
    /// The layer does not do that.
    #[error("this layer does not do that")]
    Unsupported,
}

/// A question or an order to a layer, or to the first one below it that understands it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request<'a> {
    /// Who talks here?
    Participants,
    /// What can be relied on?
    Below,
    /// One of the layer's numbers, by its name: see [`Protocol::statistics`].
    Number(&'a str),
    /// Change one of the layer's options.
    Set(&'a str, &'a str),
}

/// What a layer answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// These talk here.
    Participants(Participants),
    /// This can be relied on.
    Below(Below),
    /// That number.
    Number(u64),
    /// It is done.
    Done,
}

/// A layer: a protocol object with its sessions.
///
/// A layer is either *linear*, with one session for each session below it, or it *multiplexes*
/// several over one. A linear layer needs [`open`](Self::open), [`push`](Self::push) and
/// [`pop`](Self::pop); one that multiplexes, [`listen`](Self::listen) and [`demux`](Self::demux) too.
///
/// A layer has no clock, no socket, no thread: it asks its [`Context`] for the time, to be called
/// again later, and to run what it makes. It never calls another layer.
///
/// Everything that comes from below is hostile: no message may make a layer panic, loop or hold
/// without a bound.
pub trait Protocol: Send {
    /// Takes its place in a graph, over these nodes. Called once, before anything else; a layer that
    /// wants messages nobody above it asked for listens here, with [`Context::listen_below`].
    fn start(&mut self, lowers: &[Lower], context: &mut Context) {
        let _ = (lowers, context);
    }

    /// Whether several sessions share one session below. Constant.
    fn multiplexes(&self) -> bool {
        false
    }

    /// Opens a session with these participants: for the application or an upper layer, or, in a
    /// linear layer that somebody listens above, for the first message from below. The layer notes
    /// in `who` what the layer below must know.
    ///
    /// # Errors
    /// [`Refusal`]; nothing is opened then.
    fn open(&mut self, who: &mut Participants, context: &mut Context) -> Result<Opened, Refusal>;

    /// The layers below a session are open, or have changed, and offer this; answers what is offered
    /// to the one above.
    fn opened(&mut self, slot: Slot, below: Below) -> Below {
        let _ = slot;
        below
    }

    /// From now on, messages for these participants that belong to no session get a new one, for
    /// `upper`; the layer notes in `who` what the layers below must listen for. The same again for
    /// the same `upper` has no effect. Never called if the layer does not multiplex.
    ///
    /// # Errors
    /// [`Refusal`].
    fn listen(&mut self, who: &mut Participants, upper: Upper) -> Result<(), Refusal> {
        let _ = (who, upper);
        Err(Refusal::Unsupported)
    }

    /// Finds the session of a message from below, which is not changed. Never called if the layer
    /// does not multiplex.
    fn demux(&mut self, message: &Message, context: &mut Context) -> Demux {
        let _ = (message, context);
        Demux::Drop(Reason::NoSession)
    }

    /// A message goes down. To keep it, the layer takes it out of `message`.
    fn push(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict;

    /// A message comes up. To keep it, the layer takes it out of `message`.
    fn pop(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict;

    /// The layer above wants none of the message that this one has just popped for it, and has
    /// counted that; a layer whose protocol has an answer for the sender takes the message and makes
    /// one.
    fn refused(
        &mut self,
        slot: Slot,
        message: &mut Message,
        reason: Reason,
        context: &mut Context,
    ) {
        let _ = (slot, message, reason, context);
    }

    /// It is as late as the layer asked to be called with [`Context::wake_at`], or later.
    fn wake(&mut self, context: &mut Context) {
        let _ = context;
    }

    /// Emits, in order, all that the session holds and that can still be delivered: it is about to
    /// be closed or taken out of the stack.
    fn drain(&mut self, slot: Slot, context: &mut Context) {
        let _ = (slot, context);
    }

    /// Forgets the session; what it still held is dropped and counted.
    fn close(&mut self, slot: Slot, context: &mut Context) {
        let _ = (slot, context);
    }

    /// Answers a request about a session, or about the layer. `None` if it is none of its business:
    /// then the layer below is asked.
    fn control(&mut self, slot: Slot, request: Request<'_>) -> Option<Answer> {
        let _ = (slot, request);
        None
    }

    /// Tells the names and values of what the layer counts, beside its drops.
    fn statistics(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        let _ = tell;
    }
}
