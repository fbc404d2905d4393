//! Putting the fragments of datagrams together, for both versions of IP.

use std::time::Duration;

use fbufs::MAX_PARTS;

use super::joining;
use crate::{Context, Instant, Message, Reason};

/// What may be held at once, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Unfinished datagrams. If another begins, the oldest is given up.
    pub datagrams: usize,
    /// Fragments of one datagram.
    pub fragments: usize,
    /// Fragments of all datagrams: each keeps a whole buffer of the device's. If more come, the
    /// oldest datagrams are given up.
    pub pieces: usize,
    /// Parts of all fragments, for one may be a rope itself. If more come, the oldest datagrams are
    /// given up. One datagram has [`MAX_PARTS`] at most.
    pub parts: usize,
    /// Bytes of all fragments. If more come, the oldest datagrams are given up.
    pub bytes: usize,
    /// The longest payload that can be put together.
    pub longest: usize,
    /// From a datagram's first fragment until it is given up.
    pub time: Duration,
}

/// A fragment's place in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// In bytes.
    pub offset: usize,
    /// Whether others follow.
    pub more: bool,
}

/// What counts a fragment that is given up; [`Context::count`] in a layer.
pub(super) trait Count {
    fn count(&mut self, reason: Reason);
}

impl Count for Context {
    fn count(&mut self, reason: Reason) {
        Context::count(self, reason);
    }
}

#[derive(Debug)]
struct Piece {
    offset: usize,
    len: usize,
    message: Message,
}

impl Piece {
    fn end(&self) -> usize {
        self.offset + self.len
    }
}

/// An unfinished datagram.
#[derive(Debug)]
struct Unfinished<K> {
    key: K,
    deadline: Instant,
    /// By offset, none overlapping another.
    pieces: Vec<Piece>,
    /// Parts of all pieces.
    parts: usize,
    /// Bytes of all pieces.
    held: usize,
    /// Known from the last fragment on.
    total: Option<usize>,
    /// Two fragments contradicted each other: no later one is taken either (RFC 5722).
    refused: bool,
}

/// Unfinished datagrams, by what tells them apart.
///
/// Payload stays where it is: a fragment is a message, and the whole is a rope of them. Bounded in
/// number, bytes and time by [`Bounds`], whatever comes;
/// so is the number of parts of the whole. Fragments that overlap discredit their
/// datagram, as RFC 5722 rules for version 6; we do the same for version 4, where putting either
/// one first has let attacks pass filters. An exact copy of a place is merely dropped, since
/// networks do duplicate (RFC 8200, section 4.5).
#[derive(Debug)]
pub(super) struct Reassembly<K> {
    bounds: Bounds,
    /// The oldest first: all have the same time, so their deadlines are in order too.
    unfinished: Vec<Unfinished<K>>,
    held: usize,
    pieces: usize,
    parts: usize,
    /// Empty lists with their room, for the next ones.
    spare: Vec<Vec<Piece>>,
}

impl<K: Copy + Eq> Reassembly<K> {
    /// With nothing in it.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            unfinished: Vec::with_capacity(bounds.datagrams),
            held: 0,
            pieces: 0,
            parts: 0,
            spare: Vec::with_capacity(bounds.datagrams),
        }
    }

    /// Takes a fragment; answers the whole payload if that was the one that was missing.
    ///
    /// # Errors
    /// Why this fragment is dropped. What else is given up because of it is counted.
    ///
    /// # Cost
    /// A search among the datagrams and, from the end, among the pieces: short if they are in order.
    pub(super) fn take(
        &mut self,
        key: K,
        place: Place,
        mut message: Message,
        now: Instant,
        count: &mut impl Count,
    ) -> Result<Option<Message>, Reason> {
        // Who is told about what is late is told when it is due, not here.
        self.expire(now, count, |_, _| {});
        let len = message.len();
        let end = place.offset.saturating_add(len);
        if len == 0 || (place.more && !len.is_multiple_of(8)) {
            return Err(Reason::Malformed);
        }
        joining::give_back_headroom(&mut message);
        let parts = message.parts().len();
        if end > self.bounds.longest || parts > self.bounds.parts {
            return Err(Reason::TooLarge);
        }
        while self.is_too_much(len, parts) && !self.unfinished.is_empty() {
            self.give_up(0, count);
        }
        let index = match self.unfinished.iter().position(|unfinished| unfinished.key == key) {
            Some(index) => index,
            None => self.begin(key, now, count),
        };
        let fragments = self.bounds.fragments;
        let unfinished = &mut self.unfinished[index];
        match unfinished.add(place, message, fragments) {
            Ok(()) => {
                self.held += len;
                self.pieces += 1;
                self.parts += parts;
            }
            Err(Reason::Duplicate) => return Err(Reason::Duplicate),
            Err(reason) => {
                self.pieces -= unfinished.pieces.len();
                self.parts -= unfinished.parts;
                self.held -= unfinished.discredit(reason, count);
                return Err(reason);
            }
        }
        if unfinished.total == Some(unfinished.held) {
            return self.finish(index).map(Some);
        }
        Ok(None)
    }

    /// Whether one more fragment of so many bytes and parts would be more than may be held.
    fn is_too_much(&self, len: usize, parts: usize) -> bool {
        self.held + len > self.bounds.bytes
            || self.pieces >= self.bounds.pieces
            || self.parts + parts > self.bounds.parts
    }

    /// Gives up what is not complete in time, and counts it; the beginnings, where they have come,
    /// are passed to `late`.
    pub(super) fn expire<C: Count>(
        &mut self,
        now: Instant,
        count: &mut C,
        mut late: impl FnMut(K, Message),
    ) {
        while self.unfinished.first().is_some_and(|oldest| oldest.deadline <= now) {
            if let Some((key, first)) = self.give_up(0, count) {
                late(key, first);
            }
        }
    }

    /// When [`expire`](Self::expire) has something to do, if ever.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.unfinished.first().map(|oldest| oldest.deadline)
    }

    /// How many datagrams are unfinished, and how many bytes they hold.
    pub(super) fn holds(&self) -> (usize, usize) {
        (self.unfinished.len(), self.held)
    }

    fn begin(&mut self, key: K, now: Instant, count: &mut impl Count) -> usize {
        if self.unfinished.len() >= self.bounds.datagrams {
            self.give_up(0, count);
        }
        let fragments = self.bounds.fragments;
        self.unfinished.push(Unfinished {
            key,
            deadline: now + self.bounds.time,
            pieces: self.spare.pop().unwrap_or_else(|| Vec::with_capacity(fragments)),
            parts: 0,
            held: 0,
            total: None,
            refused: false,
        });
        self.unfinished.len() - 1
    }

    /// Forgets a datagram; answers its beginning if that has come.
    fn give_up(&mut self, index: usize, count: &mut impl Count) -> Option<(K, Message)> {
        let mut gone = self.unfinished.remove(index);
        self.held -= gone.held;
        self.pieces -= gone.pieces.len();
        self.parts -= gone.parts;
        let mut first = None;
        for piece in gone.pieces.drain(..) {
            count.count(Reason::Incomplete);
            if piece.offset == 0 {
                first = Some((gone.key, piece.message));
            }
        }
        self.spare.push(gone.pieces);
        first
    }

    fn finish(&mut self, index: usize) -> Result<Message, Reason> {
        let mut done = self.unfinished.remove(index);
        self.held -= done.held;
        self.pieces -= done.pieces.len();
        self.parts -= done.parts;
        let mut whole = Message::new();
        let mut pieces = done.pieces.drain(..);
        let joined = pieces.try_for_each(|piece| joining::append(&mut whole, piece.message));
        drop(pieces);
        self.spare.push(done.pieces);
        joined.map(|()| whole)
    }
}

impl<K> Unfinished<K> {
    fn add(&mut self, place: Place, message: Message, fragments: usize) -> Result<(), Reason> {
        let piece = Piece { offset: place.offset, len: message.len(), message };
        if self.refused {
            return Err(Reason::Overlap);
        }
        // Where it belongs: they mostly come in order, so the search begins at the end.
        let after = self.pieces.iter().rposition(|other| other.offset <= piece.offset);
        let at = after.map_or(0, |after| after + 1);
        let before = after.map(|after| &self.pieces[after]);
        let behind = self.pieces.get(at);
        if let Some(before) = before {
            if before.offset == piece.offset && before.len == piece.len {
                return Err(Reason::Duplicate);
            }
            if before.end() > piece.offset {
                return Err(Reason::Overlap);
            }
        }
        if behind.is_some_and(|behind| behind.offset < piece.end()) {
            return Err(Reason::Overlap);
        }
        let ends = self.pieces.last().map_or(0, Piece::end).max(piece.end());
        let total = if place.more { self.total } else { Some(piece.end()) };
        // Of two ends one is a lie, and so is what lies behind the end.
        if (self.total.is_some() && total != self.total) || total.is_some_and(|total| ends > total)
        {
            return Err(Reason::Overlap);
        }
        let parts = self.parts + piece.message.parts().len();
        if self.pieces.len() >= fragments || parts > MAX_PARTS {
            return Err(Reason::TooLarge);
        }
        self.total = total;
        self.parts = parts;
        self.held += piece.len;
        self.pieces.insert(at, piece);
        Ok(())
    }

    /// Drops what is held, and refuses what is still to come; answers how much was held.
    fn discredit(&mut self, reason: Reason, count: &mut impl Count) -> usize {
        self.refused = true;
        self.total = None;
        self.parts = 0;
        self.pieces.drain(..).for_each(|_| count.count(reason));
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests;
