//! Where a handler runs, and what its call can ask for there.

use std::os::fd::BorrowedFd;

use lrpc::Progress;
use unet::{AllocError, Credentials, FbufMut};

use super::deliveries::Deliveries;
use super::server::turn;
use crate::service::call::Source;
use crate::service::contract::Service;

/// A call on the server's own thread.
pub(super) struct OnServer<'a, 'c, S> {
    pub call: &'a lrpc::Call<'c, S>,
    pub slow: Option<&'a Deliveries<S>>,
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
        turn(self.call.server(), self.slow)
    }

    fn sleep(&self, sleep: &mut dyn FnMut(Option<BorrowedFd<'_>>)) {
        let server = self.call.server();
        match self.slow {
            Some(slow) if slow.arm(server) => sleep(Some(slow.fd())),
            Some(_) => {}
            None => Progress::sleep(server, sleep),
        }
    }
}
