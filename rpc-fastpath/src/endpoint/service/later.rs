//! Replies that are given later, by any thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use unet::ChannelId;

use super::handling::Decline;
use crate::endpoint::content::Content;
use crate::endpoint::sleeping::Bell;
use crate::protocol::{Failure, Pending, Refusal};

/// An answer on its way to the thread that serves.
pub(super) struct Answer {
    pub client: ChannelId,
    pub pending: Pending,
    pub said: Result<Content, Decline>,
}

/// What workers have answered.
pub(super) struct Answers {
    given: Mutex<Vec<Answer>>,
    /// Whether the list has some: written under its lock.
    is_given: AtomicBool,
    sleeps: AtomicBool,
    pub bell: Bell,
}

impl Answers {
    pub fn new() -> Result<Arc<Self>, Errno> {
        let (given, bell) = (Mutex::default(), Bell::new()?);
        Ok(Arc::new(Self { given, is_given: false.into(), sleeps: false.into(), bell }))
    }

    fn give(&self, answer: Answer) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.push(answer);
        // PAIRS: say_sleeps. Either the sleeper sees the answer, or this sees the sleeper.
        self.is_given.store(true, Ordering::SeqCst);
        drop(given);
        if self.sleeps.load(Ordering::SeqCst) {
            self.bell.ring();
        }
    }

    #[inline(always)]
    pub fn has_some(&self) -> bool {
        self.is_given.load(Ordering::SeqCst)
    }

    /// Takes what was given, into an empty list.
    pub fn take(&self, into: &mut Vec<Answer>) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_given.store(false, Ordering::SeqCst);
        std::mem::swap(&mut *given, into);
    }

    /// Says that the serving thread sleeps, and is to be woken; or that it is awake. Whether it may sleep.
    pub fn say_sleeps(&self, sleeps: bool) -> bool {
        // Before the store: what rings after it is to wake.
        self.bell.hush();
        // PAIRS: give.
        self.sleeps.store(sleeps, Ordering::SeqCst);
        !self.has_some()
    }
}

/// A call that is answered later, from any thread. Dropped without an answer, the call ends as
/// [`Failure::Abandoned`].
#[must_use = "a call that is not answered is abandoned"]
pub struct Later {
    pub(super) client: ChannelId,
    pub(super) pending: Option<Pending>,
    pub(super) answers: Arc<Answers>,
}

impl Later {
    /// Answers.
    ///
    /// # Cost
    /// A lock, and a system call if the serving thread sleeps.
    pub fn reply(mut self, content: impl Into<Content>) {
        self.say(Ok(content.into()));
    }

    /// Says that it was begun and has no reply.
    pub fn fail(mut self, why: Failure) {
        self.say(Err(Decline::Fail(why)));
    }

    /// Says that it was not begun, and never will be.
    pub fn refuse(mut self, why: Refusal) {
        self.say(Err(Decline::Refuse(why)));
    }

    fn say(&mut self, said: Result<Content, Decline>) {
        if let Some(pending) = self.pending.take() {
            self.answers.give(Answer { client: self.client, pending, said });
        }
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        self.say(Err(Decline::Fail(Failure::Abandoned)));
    }
}

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Later").field("pending", &self.pending).finish_non_exhaustive()
    }
}
