//! Where a handler runs, and what its call can ask for there.

use std::os::fd::BorrowedFd;

use unet::{AllocError, Credentials, FbufMut};

use super::Progress;
use super::call::Source;
use super::server::turn;
use super::workers::Workers;
use crate::service::contract::Service;

/// A call on the server's own thread.
pub(super) struct OnServer<'a, 'c, S> {
    pub call: &'a lrpc::Call<'c, S>,
    pub workers: Option<&'a Workers<S>>,
}

impl<S: Service> Source for OnServer<'_, '_, S> {
    fn caller(&self) -> Option<Credentials> {
        self.call.caller()
    }

    fn alloc(&self, len: usize) -> Result<FbufMut, AllocError> {
        self.call.alloc(len)
    }
}

impl<S: Service> Progress for OnServer<'_, '_, S> {
    fn poll(&self) -> bool {
        turn(self.call.server(), self.workers)
    }

    fn arm(&self) -> bool {
        let server = self.call.server();
        self.workers.map_or_else(|| server.arm(), |workers| workers.arm(server))
    }

    fn with_fd(&self, with: &mut dyn FnMut(BorrowedFd<'_>)) {
        match self.workers {
            Some(workers) => with(workers.fd()),
            None => self.call.server().with_fd(with),
        }
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

    fn arm(&self) -> bool {
        false
    }

    fn with_fd(&self, _with: &mut dyn FnMut(BorrowedFd<'_>)) {}
}
