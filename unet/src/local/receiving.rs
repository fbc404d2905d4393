//! How a channel receives, and what is still received when it has closed.

use fbufs::{Part, PeerFbuf};
use segment::failpoint;
use segment::ring::Popped;

use super::{CloseReason, LocalChannel};
use crate::Delivery;
use crate::delivery::Partial;

/// So many buffers with the peer that some of them may have come back.
const SEVERAL: usize = 2;

impl LocalChannel {
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<Option<Delivery>, CloseReason> {
        let mut message = Delivery::default();
        Ok(self.try_recv_into(&mut message)?.then_some(message))
    }

    #[inline(always)]
    pub fn try_recv_into(&mut self, message: &mut Delivery) -> Result<bool, CloseReason> {
        // Before the look, so that nothing stands between a message and its answer.
        if message.has_fbufs() {
            self.give_back_all(message);
        }
        let taken = self.pop(message)?;
        if !taken && self.pulse.tick() {
            self.check_liveness();
        }
        Ok(taken)
    }

    /// As [`LocalChannel::try_recv_into`], for an owner that looks after the peer's health itself.
    #[inline(always)]
    pub(crate) fn pop(&mut self, message: &mut Delivery) -> Result<bool, CloseReason> {
        if let Some(reason) = self.closed {
            self.take_of_rest(reason)?;
        }
        match self.consumer.try_pop(message.cell_mut()) {
            Ok(Popped::Cell) => self.producer.anticipate(),
            Ok(Popped::CellAndCredit) => self.ring(),
            Ok(Popped::Nothing) => return self.nothing_there(),
            Err(fault) => return Err(self.poison(fault)),
        }
        failpoint::hit("receive.1-popped");
        match message.complete(&mut self.holdings, &mut self.partial) {
            Ok(whole) => Ok(whole),
            Err(fault) => Err(self.poison(fault)),
        }
    }

    #[inline]
    pub fn give_back(&mut self, fbuf: PeerFbuf) {
        self.holdings.give_back(fbuf);
    }

    /// Gives back what came with the last message; and takes note of what the peer gave back, for who
    /// receives the next one into its place has time now, and none when it allocates.
    #[inline]
    pub(crate) fn give_back_all(&mut self, message: &mut Delivery) {
        while let Some(part) = message.take_last_part() {
            if let Part::Peer(fbuf) = part {
                self.give_back(fbuf);
            }
        }
        if self.leases.lent() >= SEVERAL {
            self.collect();
        }
    }

    /// Allows one more cell of a closed channel, if its queue can have held one when it closed: a
    /// peer that hung up may still be writing.
    #[cold]
    pub(super) fn take_of_rest(&mut self, reason: CloseReason) -> Result<(), CloseReason> {
        let Some(rest) = self.rest.checked_sub(1) else { return Err(self.nothing_more(reason)) };
        self.rest = rest;
        Ok(())
    }

    #[inline(always)]
    pub(super) fn nothing_there(&mut self) -> Result<bool, CloseReason> {
        match self.closed {
            None => {
                self.pass_back();
                Ok(false)
            }
            Some(reason) => Err(self.nothing_more(reason)),
        }
    }

    /// Nothing more is received. The end of a message whose beginning has come will not come.
    #[cold]
    fn nothing_more(&mut self, reason: CloseReason) -> CloseReason {
        self.rest = 0;
        self.partial = Partial::default();
        reason
    }

    #[inline(always)]
    pub fn is_ready(&self) -> bool {
        self.consumer.is_ready() || self.closed.is_some()
    }
}
