//! What a side permits and how long it waits.

use crate::wire::{MAX_CREDITS, MAX_LAST, MAX_WINDOW, span};

/// The largest message: arguments or reply.
pub const MAX_MESSAGE: usize = 64 << 20;

/// What one side can take. What is agreed for a session is the lesser of both sides'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls under way at once: a power of two, at most [`MAX_WINDOW`].
    pub window: u16,
    /// Fragments of a message under way unacknowledged, at most [`MAX_CREDITS`].
    pub credits: u16,
    /// Payload bytes of a full packet, which the channel must carry behind the header.
    pub fragment: u32,
    /// The longest message that is received here: a server's request, a client's reply.
    pub max_message: u32,
    /// Of a client: calls that wait for a place in the window. Of a server: calls that wait or are being
    /// executed. More are refused.
    pub backlog: u16,
    /// Of a server: bytes of unfinished long requests that are kept, by the lengths they announce.
    pub unfinished: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: 8,
            credits: 64,
            fragment: 1408,
            max_message: MAX_MESSAGE as u32,
            backlog: 64,
            unfinished: 2 * MAX_MESSAGE as u32,
        }
    }
}

impl Limits {
    /// The same within what the protocol knows.
    pub(super) fn checked(self) -> Self {
        // The power of two below; one for none.
        let window = self.window.clamp(1, MAX_WINDOW);
        Self {
            window: 1 << window.ilog2(),
            credits: self.credits.clamp(1, MAX_CREDITS),
            fragment: self.fragment.clamp(1, MAX_MESSAGE as u32),
            max_message: self.max_message.min(MAX_MESSAGE as u32),
            backlog: self.backlog,
            unfinished: self.unfinished,
        }
    }

    /// The number of a message's last fragment, if there are not too many.
    #[inline(always)]
    pub(super) fn last(fragment: u32, len: usize) -> Option<u16> {
        if len <= fragment as usize {
            return Some(0);
        }
        let last = (len - 1) / fragment as usize;
        u16::try_from(last).ok().filter(|last| *last <= MAX_LAST)
    }
}

/// How long a side waits, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// For the first answer, before any round trip was measured.
    pub rto_initial: u64,
    /// For an answer at least, so that a peer which is being scheduled is not asked twice.
    pub rto_min: u64,
    /// For an answer at most, also after many times in vain.
    pub rto_max: u64,
    /// For any sign of progress of a call, after which its outcome is unknown.
    pub patience: u64,
    /// Without word of the peer, until it is asked for one. Zero asks never.
    pub keepalive: u64,
    /// Without word of the peer that was asked, until it is suspected. Zero suspects nobody.
    pub suspicion: u64,
    /// What a round trip may be longer than the shortest one, before it counts as congestion.
    pub allowance: u64,
    /// The same for long calls while nobody else calls: no other client of the server, by its word, and no short call
    /// of the same session. Never less than the allowance.
    pub allowance_alone: u64,
}

impl Default for Timers {
    fn default() -> Self {
        const MILLISECOND: u64 = 1_000_000;
        Self {
            rto_initial: 20 * MILLISECOND,
            rto_min: MILLISECOND,
            rto_max: 500 * MILLISECOND,
            patience: 5_000 * MILLISECOND,
            keepalive: 250 * MILLISECOND,
            suspicion: 1_000 * MILLISECOND,
            allowance: MILLISECOND / 100,
            allowance_alone: MILLISECOND / 10,
        }
    }
}

impl Timers {
    /// The same within what can be reckoned with.
    pub(super) fn checked(self) -> Self {
        let rto_min = self.rto_min.clamp(1, span::LONGEST);
        let rto_max = self.rto_max.clamp(rto_min, span::LONGEST);
        Self {
            rto_initial: self.rto_initial.clamp(rto_min, rto_max),
            rto_min,
            rto_max,
            patience: self.patience.clamp(1, span::LONGEST),
            keepalive: self.keepalive.min(span::LONGEST),
            suspicion: self.suspicion.min(span::LONGEST),
            allowance: self.allowance.min(span::LONGEST),
            allowance_alone: self.allowance_alone.max(self.allowance).min(span::LONGEST),
        }
    }
}
