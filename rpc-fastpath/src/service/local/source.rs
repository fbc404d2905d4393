//! Where a handler runs, and what its call can ask for there.

use std::os::fd::BorrowedFd;

use lrpc::Progress;
use unet::{AllocError, Credentials, FbufMut};

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

    fn sleep(&self, sleep: &mut dyn FnMut(Option<BorrowedFd<'_>>)) {
        let server = self.call.server();
        match self.workers {
            Some(workers) if workers.arm(server) => sleep(Some(workers.fd())),
            Some(_) => {}
            None => Progress::sleep(server, sleep),
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

    fn sleep(&self, sleep: &mut dyn FnMut(Option<BorrowedFd<'_>>)) {
        sleep(None);
    }
}
