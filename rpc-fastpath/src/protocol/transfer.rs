//! The sender's side of a message of several fragments: what was sent, what arrived, what is lost.
//!
//! The receiver says which fragments it has: all below a base, and a [`Map`] of those above. One that is
//! missing while a fragment well behind it arrived is lost and sent again at once, though only once in a
//! round: a round ends when something that was sent after it began has arrived. What is lost at the very
//! end nobody misses, so time must tell: then the first missing one is sent again, and when its arrival is
//! known, everything older that is still missing is lost. After RFC 6675 and RFC 8985, without a time for
//! each fragment.

use super::map::Map;

/// So many fragments may be overtaken before they count as lost.
pub(super) const REORDERED: u32 = 3;

/// One in so many asks in any case.
const ASKED_OF: u32 = 16;

/// Which fragments of a message to send.
#[derive(Debug)]
pub(super) struct Transfer {
    /// The last fragment's number.
    last: u16,
    /// The first that has not arrived; everything below has.
    base: u32,
    /// The first that was never sent.
    next: u32,
    /// Those below this one may be sent, by the receiver's word.
    limit: u32,
    arrived: Map,
    /// To be sent again.
    lost: Map,
    /// Were sent again, or shall be, in this round.
    again: Map,
    /// While a round goes on: the first fragment that was not sent when it began.
    round: Option<u32>,
    /// Was sent because time ran out, and the first that was not sent by then: when it arrives, all that is
    /// older and missing is lost.
    probe: Option<(u32, u32)>,
    /// Time ran out: one fragment is sent whatever else is under way.
    is_urgent: bool,
    /// A fragment that was sent once and asked, and when.
    timed: Option<(u32, u64)>,
    /// The one that was sent last, if it was sent for the first time.
    first: Option<u32>,
}

/// What a word of the receiver's told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Something arrived of which that was not known.
    pub newer: bool,
    /// Something is lost of which that was not known.
    pub lost: bool,
    /// When the fragment was sent whose arrival is known now; it was sent only once.
    pub sent_at: Option<u64>,
}

impl Transfer {
    pub fn new(last: u16, limit: u16) -> Self {
        Self {
            last,
            base: 0,
            next: 0,
            limit: limit.max(1).into(),
            arrived: Map::default(),
            lost: Map::default(),
            again: Map::default(),
            round: None,
            probe: None,
            is_urgent: false,
            timed: None,
            first: None,
        }
    }

    /// Whether this fragment was sent last, and only once.
    pub fn was_first(&self, index: u16) -> bool {
        self.first == Some(index.into())
    }

    /// How many fragments are under way, by what is known.
    pub fn in_flight(&self) -> u32 {
        (self.next - self.base) - self.arrived.union(&self.lost).len()
    }

    /// Whether there is something to send now.
    pub fn is_ready(&self) -> bool {
        !self.lost.is_empty() || self.next < self.end()
    }

    /// Whether one fragment is to be sent whatever else is under way.
    pub fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    /// The first fragment that may not be sent now.
    fn end(&self) -> u32 {
        let window = self.base + u32::from(crate::wire::MAX_CREDITS);
        self.limit.min(window).min(u32::from(self.last) + 1)
    }

    /// The next fragment to send, and whether word shall be asked for: when nothing more can be sent
    /// until it comes, and now and then. At most `room` fragments may be sent.
    pub fn send(&mut self, now: u64, room: u32) -> Option<(u16, bool)> {
        self.is_urgent = false;
        let is_new = self.lost.is_empty();
        let index = if let Some(bit) = self.lost.first() {
            self.lost.remove(bit);
            if self.timed.is_some_and(|(timed, _)| timed == self.base + bit) {
                self.timed = None;
            }
            self.base + bit
        } else if self.next < self.end() {
            self.next += 1;
            self.next - 1
        } else {
            return None;
        };
        self.first = is_new.then_some(index);
        let ask = room <= 1 || !self.is_ready() || index % ASKED_OF == ASKED_OF - 1;
        // What is answered at once tells the network's time; what waits for others to come does not.
        if ask && is_new {
            self.timed.get_or_insert((index, now));
        }
        Some((index as u16, ask))
    }

    /// Takes the receiver's word. What it cannot know, such as that a fragment arrived that was never
    /// sent, is not believed; what is older than what is known tells nothing.
    pub fn on_word(&mut self, base: u32, map: Map, limit: u32) -> Progress {
        let mut progress = Progress::default();
        if base > self.next || base < self.base {
            return progress;
        }
        self.limit = self.limit.max(limit);
        let by = base - self.base;
        let known = self.arrived.advanced(by);
        self.base = base;
        self.arrived = known.union(&map.intersection(&Map::below(self.next - base)));
        self.lost = self.lost.advanced(by).without(&self.arrived);
        self.again = self.again.advanced(by);
        progress.newer = by > 0 || self.arrived != known;
        if let Some((index, at)) = self.timed
            && self.has(index)
        {
            self.timed = None;
            progress.sent_at = Some(at);
        }
        progress.lost = self.find_lost();
        progress
    }

    fn has(&self, index: u32) -> bool {
        index < self.base || self.arrived.contains(index - self.base)
    }

    fn find_lost(&mut self) -> bool {
        let highest = self.arrived.highest().unwrap_or(0);
        if self.round.is_some_and(|round| self.base + highest >= round + REORDERED) {
            self.again = Map::default();
            self.round = None;
        }
        let mut suspects = Map::below((highest + 1).saturating_sub(REORDERED));
        if let Some((probe, next)) = self.probe
            && self.has(probe)
        {
            self.probe = None;
            self.again = Map::default();
            suspects = suspects.union(&Map::below(next.saturating_sub(self.base)));
        }
        let lost = suspects.without(&self.arrived).without(&self.again).without(&self.lost);
        if lost.is_empty() {
            return false;
        }
        self.lost = self.lost.union(&lost);
        self.again = self.again.union(&lost);
        self.round.get_or_insert(self.next);
        true
    }

    /// Nothing was heard for too long: sends the first missing fragment again, if any was sent.
    pub fn on_silence(&mut self) {
        if self.base < self.next {
            self.lost.insert(0);
            self.again.insert(0);
            self.probe = Some((self.base, self.next));
            self.timed = None;
            self.is_urgent = true;
        }
    }
}

#[cfg(test)]
mod tests;
