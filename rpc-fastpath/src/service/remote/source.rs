//! What a handler can ask of the server while it handles a call that came by a channel.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;

use lrpc::Progress;
use unet::{AllocError, Credentials, FbufMut};

use super::buffers::Buffers;
use crate::endpoint::Reply;
use crate::service::call::Source;

/// A call on the server's own thread.
pub(super) struct OnChannel<'a, 'r> {
    pub reply: RefCell<&'a mut Reply<'r>>,
    pub buffers: RefCell<&'a mut Buffers>,
}

impl Source for OnChannel<'_, '_> {
    fn caller(&self) -> Option<Credentials> {
        self.reply.borrow().caller()
    }

    fn alloc(&self, len: usize) -> Result<FbufMut, AllocError> {
        let own = self.reply.borrow_mut().alloc(len);
        own.unwrap_or_else(|| self.buffers.borrow_mut().alloc(len))
    }
}

/// The server is not served by its own handlers: who waits in one for another service waits.
impl Progress for OnChannel<'_, '_> {
    fn poll(&self) -> bool {
        false
    }

    fn sleep(&self, sleep: &mut dyn FnMut(Option<BorrowedFd<'_>>)) {
        sleep(None);
    }
}
