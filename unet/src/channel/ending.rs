//! How a channel ends: the peer closes, dies or breaks a rule.

use segment::Fault;
use segment::control::{Kind, Received};
use segment::counters::Counter;

use super::{Channel, CloseReason};

impl Channel {
    /// Asks the kernel whether the peer lives, and takes a doorbell off the socket. Called by the
    /// receiving methods every two milliseconds of polling.
    ///
    /// # Cost
    /// Two system calls.
    pub fn check_liveness(&mut self) {
        self.service_socket();
        if self.closed.is_none() && self.liveness.has_ended() {
            // Its hang-up may still stand behind doorbells.
            self.end(self.departure());
        }
    }

    /// Why a peer that is gone went: in good order, or not.
    fn departure(&self) -> CloseReason {
        if self.bell.peer_has_closed() { CloseReason::PeerClosed } else { CloseReason::PeerDied }
    }

    /// Takes one frame off the socket. `true` if it was a doorbell.
    pub(crate) fn service_socket(&mut self) -> bool {
        match self.socket.receive() {
            Received::Nothing => false,
            Received::Frame(frame, None) if frame.kind == Kind::Doorbell => {
                let due = self.sleeper.accept_ring(frame.value);
                if !due {
                    self.poison(Fault::Doorbell);
                }
                due
            }
            // Nobody sends descriptors on a channel, whether they find room or not.
            Received::Frame(..) | Received::Malformed(_) | Received::OutOfDescriptors => {
                self.poison(Fault::Control);
                false
            }
            Received::HungUp => {
                self.end(self.departure());
                false
            }
        }
    }

    /// Closes the channel because the peer broke a rule: once, counted once.
    #[cold]
    pub(crate) fn poison(&mut self, fault: Fault) -> CloseReason {
        if self.closed.is_none() {
            self.counters.fault(fault);
            // Not louder: a client that comes back again and again may fill no log. The count is in
            // the endpoint's page too.
            tracing::debug!(
                peer = self.credentials.pid,
                fault = fault.name(),
                "the channel is poisoned: {fault}"
            );
            self.end(CloseReason::Poisoned(fault));
            self.sleeper.close();
            self.socket.hang_up();
        }
        self.rest = 0;
        self.closed.expect("just closed")
    }

    /// Closes the channel because a layer above caught the peer breaking a rule.
    pub fn poison_protocol(&mut self) -> CloseReason {
        self.poison(Fault::Protocol)
    }

    #[cold]
    pub(super) fn end(&mut self, reason: CloseReason) {
        if self.closed.is_none() {
            self.closed = Some(reason);
            self.rest = self.consumer.capacity();
            // What the peer returned before it went is taken as returned; a fault changes nothing.
            let _ = self.pool.collect();
            let reclaimed = self.pool.reclaim();
            self.counters.add(Counter::BuffersReclaimed, reclaimed as u64);
            self.publish_totals();
        }
    }

    pub(crate) fn publish_totals(&self) {
        self.counters.set(Counter::Sent, self.producer.sent());
        self.counters.set(Counter::Received, self.consumer.received());
    }
}
