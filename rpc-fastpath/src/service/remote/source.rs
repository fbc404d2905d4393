//! What a handler can ask of the server while it handles a call that came by a channel.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;

use lrpc::Progress;
use unet::{AllocError, Credentials, FbufMut};

use super::buffers::Buffers;
use super::methods::{Executor, Within};
use crate::endpoint::Reply;
use crate::service::call::Source;

/// A call on the server's own thread.
pub(super) struct OnChannel<'a, 'r> {
    /// In use while others are served.
    pub reply: RefCell<&'a mut Reply<'r>>,
    pub buffers: RefCell<&'a mut Buffers>,
    pub served: &'a [Executor],
}

impl Source for OnChannel<'_, '_> {
    fn caller(&self) -> Option<Credentials> {
        self.reply.try_borrow_mut().ok()?.caller()
    }

    fn alloc(&self, len: usize) -> Result<FbufMut, AllocError> {
        let in_use = |_| AllocError::Exhausted;
        let own = self.reply.try_borrow_mut().map_err(in_use)?.alloc(len);
        own.unwrap_or_else(|| self.buffers.borrow_mut().alloc(len))
    }
}

impl Progress for OnChannel<'_, '_> {
    fn poll(&self) -> bool {
        let Ok(mut reply) = self.reply.try_borrow_mut() else { return false };
        reply.serve(&mut Within::new(self.served)) > 0
    }

    fn sleep(&self, sleep: &mut dyn FnMut(Option<BorrowedFd<'_>>)) {
        if let Ok(mut reply) = self.reply.try_borrow_mut() {
            reply.arm_with(|fd| sleep(Some(fd)));
        }
    }
}
