//! Handlers of the layers above: they say themselves what becomes of a call, also later.

use std::marker::PhantomData;

use unet::{AllocError, ChannelId, Fbuf, FbufMut};

use super::{Call, Server};
use crate::outcome::Reason;
use crate::wire::{CallWord, status};
use crate::{Interface, Procedure};

/// What a handler answers.
#[derive(Debug)]
pub enum Answer<T> {
    /// The procedure was executed; its results.
    Results(T),
    /// It was not executed, and will not be. Reasons that only a client finds arrive as
    /// [`Reason::BadArguments`].
    Refused(Reason),
    /// It was begun, and failed: what it did is done.
    Failed,
    /// It was executed, and its results are larger than can be sent.
    ResultsTooLarge,
    /// Whoever has [`Call::later`] answers, by [`Server::answer_later`].
    Later,
}

/// A call that is answered later; may be kept by another thread meanwhile. Its caller waits until it is
/// answered, or the binding ends: who loses it keeps that one waiting.
#[derive(Debug)]
#[must_use = "the caller waits for an answer"]
pub struct Later<P> {
    from: ChannelId,
    word: CallWord,
    _procedure: PhantomData<fn() -> P>,
}

impl<I: Interface> Server<I> {
    /// As [`Server::on`], for a handler that says itself what becomes of the call.
    #[must_use]
    pub fn on_answering<P: Procedure<Interface = I>>(
        mut self,
        handler: impl Fn(&Call<'_, I>, P::Arguments) -> Answer<P::Results> + Send + 'static,
    ) -> Self {
        self.handlers[usize::from(P::INDEX)] = Some(Box::new(move |call| {
            let arguments = call.server.arguments::<P>(call)?;
            let answer = handler(call, arguments);
            call.server.settle::<P>(call.from, call.word, call.reply_bulk.take(), answer)
        }));
        self
    }

    /// Answers a call that was put off, with a buffer of [`Server::alloc_for`] or none. Nothing happens
    /// if its caller is gone.
    pub fn answer_later<P: Procedure<Interface = I>>(
        &self,
        later: Later<P>,
        answer: Answer<P::Results>,
        bulk: Option<Fbuf>,
    ) {
        let Later { from, word, .. } = later;
        if let Err(reason) = self.settle::<P>(from, word, bulk, answer) {
            self.refuse(from, word, reason);
        }
    }

    /// Takes a buffer, to be sent with the answer to a call that was put off.
    ///
    /// # Errors
    /// As [`Call::alloc`].
    pub fn alloc_for<P>(&self, later: &Later<P>, len: usize) -> Result<FbufMut, AllocError> {
        let mut endpoint = self.endpoint.borrow_mut();
        endpoint.channel_mut(later.from).ok_or(AllocError::Exhausted)?.alloc(len)
    }

    #[inline(always)]
    fn settle<P: Procedure<Interface = I>>(
        &self,
        from: ChannelId,
        word: CallWord,
        bulk: Option<Fbuf>,
        answer: Answer<P::Results>,
    ) -> Result<(), Reason> {
        match answer {
            Answer::Results(results) => self.reply::<P>(from, word, bulk, &results),
            Answer::Refused(reason) => return Err(reason),
            Answer::Failed => self.answer(from, word, status::FAILED),
            Answer::ResultsTooLarge => self.answer(from, word, status::RESULTS_TOO_LARGE),
            Answer::Later => {}
        }
        Ok(())
    }
}

impl<I: Interface> Call<'_, I> {
    /// The binding by which it came: each client has one of its own, and its number is not given again
    /// to another while the server lives.
    pub fn binding(&self) -> ChannelId {
        self.from
    }

    /// The means to answer this call later, when its handler says [`Answer::Later`].
    pub fn later<P: Procedure<Interface = I>>(&self) -> Later<P> {
        Later { from: self.from, word: self.word, _procedure: PhantomData }
    }
}
