//! What became of those who asked.

use driver_af_xdp::lent::message::Refused;

/// Counts since the worker was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections.
    pub connected: u64,
    /// Queues that were given.
    pub granted: u64,
    /// Of these, taken over from a worker that died.
    pub adopted: u64,
    /// Queues that came back.
    pub released: u64,
    /// Of these, because the policy changed.
    pub revoked: u64,
    /// Of these, because a client spoke that had nothing to say any more.
    pub spoke: u64,
    /// Connections that ended without a decision.
    pub left: u64,
    /// Connections that were ended because nothing was asked.
    pub silent: u64,
    refused: [u64; Refused::COUNT],
}

impl Counts {
    pub(super) fn refuse(&mut self, why: Refused) {
        self.refused[why.number()] += 1;
    }

    /// How many were refused for a reason.
    pub fn refused(&self, why: Refused) -> u64 {
        self.refused[why.number()]
    }

    /// All reasons, each with a word.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refused::WORDS.into_iter().zip(self.refused)
    }
}
