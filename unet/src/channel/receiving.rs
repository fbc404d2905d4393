//! How a channel receives, and waits.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use segment::wait::Waiter;

use super::{Channel, CloseReason, by_way};
use crate::local::LocalChannel;
use crate::{Delivery, PeerFbuf};

impl Channel {
    /// Takes the next message, if there is one. What the peer sent before it closed or died is
    /// still delivered; of a poisoned channel nothing is.
    ///
    /// # Errors
    /// [`CloseReason`], once nothing is left to be taken.
    ///
    /// # Cost
    /// One cache line read. Every two milliseconds of vain looks, two system calls for the peer's
    /// health.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<Option<Delivery>, CloseReason> {
        let mut message = Delivery::default();
        Ok(self.try_recv_into(&mut message)?.then_some(message))
    }

    /// As [`Channel::try_recv`], into a message of the caller's: the fastest way, for nothing is
    /// moved. `false` if there was none. A buffer that the message still holds is given back first.
    ///
    /// # Errors
    /// [`CloseReason`], once nothing is left to be taken.
    ///
    /// # Cost
    /// As [`Channel::try_recv`].
    #[inline(always)]
    pub fn try_recv_into(&mut self, message: &mut Delivery) -> Result<bool, CloseReason> {
        by_way!(
            &mut self.way,
            local => local.try_recv_into(message),
            remote => remote.try_recv_into(message)
        )
    }

    /// Takes the next message; waits for it by the channel's wait strategy.
    ///
    /// # Errors
    /// [`CloseReason`], once nothing is left to be taken.
    ///
    /// # Cost
    /// While messages come quickly, or the strategy is to spin: no system call but two every two
    /// milliseconds for the peer's health. Adaptive where both sides share a core: one for each
    /// vain look, which yields.
    #[inline(always)]
    pub fn recv(&mut self) -> Result<Delivery, CloseReason> {
        let mut message = Delivery::default();
        self.recv_into(&mut message)?;
        Ok(message)
    }

    /// As [`Channel::recv`], into a message of the caller's: the fastest way.
    ///
    /// # Errors
    /// [`CloseReason`], once nothing is left to be taken.
    ///
    /// # Cost
    /// As [`Channel::recv`].
    #[inline(always)]
    pub fn recv_into(&mut self, message: &mut Delivery) -> Result<(), CloseReason> {
        by_way!(
            &mut self.way,
            local => local.recv_into(message),
            remote => remote.recv_into(message)
        )
    }

    /// As [`Channel::recv`]; `None` if nothing came in time.
    ///
    /// # Errors
    /// [`CloseReason`], once nothing is left to be taken.
    ///
    /// # Cost
    /// As [`Channel::recv`], and a look at the clock.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Delivery>, CloseReason> {
        let mut message = Delivery::default();
        Ok(self.recv_timeout_into(&mut message, timeout)?.then_some(message))
    }

    /// As [`Channel::recv_into`]; `false` if nothing came in time.
    ///
    /// # Errors
    /// [`CloseReason`], once nothing is left to be taken.
    ///
    /// # Cost
    /// As [`Channel::recv_timeout`].
    #[inline(always)]
    pub fn recv_timeout_into(
        &mut self,
        message: &mut Delivery,
        timeout: Duration,
    ) -> Result<bool, CloseReason> {
        by_way!(
            &mut self.way,
            local => local.recv_timeout_into(message, timeout),
            remote => remote.recv_timeout_into(message, timeout)
        )
    }

    /// Gives a received buffer back, as dropping it does, but cheaper.
    ///
    /// # Cost
    /// One locked instruction and two stores; a system call if the peer sleeps.
    #[inline]
    pub fn give_back(&mut self, fbuf: PeerFbuf) {
        by_way!(&mut self.way, local => local.give_back(fbuf), _remote => drop(fbuf))
    }

    #[inline]
    pub(crate) fn give_back_all(&mut self, message: &mut Delivery) {
        by_way!(
            &mut self.way,
            local => local.give_back_all(message),
            remote => remote.give_back_all(message)
        )
    }

    /// Whether [`Channel::try_recv`] would return something else than nothing.
    #[inline(always)]
    pub fn is_ready(&self) -> bool {
        by_way!(&self.way, local => local.is_ready(), remote => remote.is_ready())
    }

    /// Whether the peer last waited on this thread's core. For layers that wait themselves.
    #[inline(always)]
    pub fn shares_core(&mut self) -> bool {
        by_way!(&mut self.way, local => local.shares_core(), _remote => false)
    }

    /// Sleeps until there is something to be received, or the waiter's deadline, or `other` is readable.
    /// For layers that wait themselves.
    ///
    /// # Cost
    /// Three system calls.
    pub fn park_beside(&mut self, waiter: &Waiter, other: Option<BorrowedFd<'_>>) {
        by_way!(
            &mut self.way,
            local => local.park_beside(waiter, other),
            remote => remote.park(waiter.remaining(), other)
        )
    }

    /// Announces that this thread will wait for [`Channel::doorbell`]. `false` if there is something to
    /// be received already, or no doorbell: then do that, do not wait.
    ///
    /// For event loops of layers that wait themselves: after `true`, wait until the descriptor is
    /// readable, call [`Channel::wake`], receive until there is nothing, then `arm` again. Looks and sends
    /// in between leave the bell to the loop; who sleeps on the channel takes it, and arms again.
    ///
    /// # Cost
    /// Two system calls.
    pub fn arm(&mut self) -> bool {
        by_way!(&mut self.way, local => local.arm(), _remote => false)
    }

    /// Ends the waiting that [`Channel::arm`] began, and asks the kernel about the peer.
    ///
    /// # Cost
    /// Two system calls.
    pub fn wake(&mut self) {
        by_way!(&mut self.way, local => local.wake(), _remote => ())
    }

    /// What becomes readable when something is to be received after [`Channel::arm`], or the peer has
    /// ended. `None` over a network, where an [`Endpoint`](crate::Endpoint) is waited for.
    pub fn doorbell(&self) -> Option<BorrowedFd<'_>> {
        self.local().map(LocalChannel::socket)
    }
}
