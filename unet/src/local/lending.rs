//! What the peer holds of this side's buffers, and of those that were passed on to it.

use fbufs::LendError;
use segment::counters::Counter;

use super::{LocalChannel, SendError};

impl LocalChannel {
    /// Why a message was not lent: back-pressure, or for good.
    #[cold]
    pub(super) fn not_lent(&mut self, refusal: LendError) -> Result<(), SendError> {
        match refusal {
            LendError::Foreign => {
                self.counters.add(Counter::ForeignBuffer, 1);
                Err(SendError::ForeignBuffer)
            }
            LendError::TooMuch => {
                self.counters.add(Counter::TooLarge, 1);
                Err(SendError::OverQuota)
            }
            LendError::Shared | LendError::Guard(_) => Err(SendError::NotGuarded),
            // It may have given back since: what is asked next is asked anew.
            _ => {
                self.collect();
                if self.pulse.tick() {
                    self.check_liveness();
                }
                self.counters.add(Counter::OverQuota, 1);
                self.closed.map_or(Ok(()), |reason| self.refuse_closed(reason).map(|_| ()))
            }
        }
    }

    /// Takes note of what the peer has given back. How many parts that was.
    pub(super) fn collect(&mut self) -> usize {
        match self.leases.collect(&mut self.pool) {
            Ok(parts) => {
                self.collected = self.collected.wrapping_add(parts as u64);
                parts
            }
            Err(fault) => {
                self.poison(fault);
                0
            }
        }
    }

    /// Gives back to the domains before this one what the peer has given back of theirs: they wait
    /// for it, and this side may have no other reason to look.
    #[inline(always)]
    pub(super) fn pass_back(&mut self) {
        if self.leases.owes() {
            self.collect();
        }
    }

    /// Whether a look is worth while: for a message, or for what is to be passed back.
    #[inline(always)]
    pub(crate) fn wants_a_look(&self) -> bool {
        self.is_ready() || self.leases.owes()
    }

    pub fn revoke(&mut self) -> usize {
        self.collect();
        let revoked = self.leases.revoke(&mut self.pool);
        self.counters.add(Counter::BuffersRevoked, revoked as u64);
        revoked
    }

    pub fn lent(&mut self) -> (usize, u64) {
        self.collect();
        (self.leases.lent(), self.leases.lent_bytes())
    }

    /// Whether so many parts of so many bytes might be lent, or an error.
    pub(super) fn has_leases(&mut self, parts: usize, bytes: u64) -> bool {
        self.collect();
        let room = self.leases.has_room_for(parts, bytes);
        self.closed.is_some() || room != Err(LendError::Quota)
    }
}
