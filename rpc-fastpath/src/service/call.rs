//! What a handler can know of its call, and ask of the server.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use lrpc::Progress;
use unet::{AllocError, Credentials, FbufMut};

use super::deadline::{NEVER, now};

/// The call that a handler handles: a parameter of that type, the first after `self`, is given by the
/// server and no part of the service.
pub struct Call<'a> {
    source: &'a dyn Source,
    expires: u64,
}

/// What a transport tells of a call.
pub(crate) trait Source: Progress {
    fn caller(&self) -> Option<Credentials>;
    fn alloc(&self, len: usize) -> Result<FbufMut, AllocError>;
}

impl<'a> Call<'a> {
    #[inline(always)]
    pub(crate) fn new(source: &'a dyn Source, expires: u64) -> Self {
        Self { source, expires }
    }

    /// Who calls, by the kernel's word. `None` if the client is gone, or on another host.
    pub fn caller(&self) -> Option<Credentials> {
        self.source.caller()
    }

    /// Takes a buffer, to be written and returned as bulk.
    ///
    /// # Errors
    /// [`AllocError`]; `Exhausted` if the client holds all there are, or is gone, and for workers.
    pub fn alloc(&self, len: usize) -> Result<FbufMut, AllocError> {
        self.source.alloc(len)
    }

    /// How long somebody waits for the outcome. `None` if the method has no deadline.
    pub fn remaining(&self) -> Option<Duration> {
        (self.expires != NEVER).then(|| Duration::from_nanos(self.expires.saturating_sub(now())))
    }
}

impl Progress for Call<'_> {
    fn poll(&self) -> bool {
        self.source.poll()
    }

    fn sleep(&self, sleep: &mut dyn FnMut(Option<BorrowedFd<'_>>)) {
        self.source.sleep(sleep);
    }

    fn remaining(&self) -> Option<Duration> {
        self.remaining()
    }
}

impl std::fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}

/// A call on a worker's thread, which has no part in serving.
pub(super) struct OnWorker {
    pub caller: Option<Credentials>,
}

impl Source for OnWorker {
    fn caller(&self) -> Option<Credentials> {
        self.caller
    }

    fn alloc(&self, _len: usize) -> Result<FbufMut, AllocError> {
        Err(AllocError::Exhausted)
    }
}

impl Progress for OnWorker {
    fn poll(&self) -> bool {
        false
    }

    fn sleep(&self, sleep: &mut dyn FnMut(Option<BorrowedFd<'_>>)) {
        sleep(None);
    }
}
