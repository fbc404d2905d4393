//! Datagrams in: headers taken off, or a count of why not.

use std::net::SocketAddr;
use std::ops::Range;

use fbufs::FbufMut;

use super::Framed;
use super::checksum::Sum;
use super::parse::{Headers, Plain, parse_headers, plain};
use crate::device::{Count, DeviceError, Frames, Piece, Received, Routes};

impl<F: Frames, R: Routes> Framed<F, R> {
    #[inline(always)]
    pub(super) fn take_in(&mut self, into: &mut Vec<Received>) -> Result<(), DeviceError> {
        let received = self.device.receive(&mut self.arrived);
        // Most looks are in vain.
        if self.arrived.is_empty() {
            return received;
        }
        // Taken from the end, which is the shortest way out of a vector.
        self.arrived.reverse();
        while let Some(piece) = self.arrived.pop() {
            if piece.more {
                self.take_pieces(piece.bytes, into);
            } else {
                self.take_whole(piece.bytes, into);
            }
        }
        received
    }

    /// Takes a frame in one piece past all queues, if there is one.
    #[inline(always)]
    pub(super) fn take_one(&mut self) -> Option<(SocketAddr, FbufMut)> {
        let frame = self.device.receive_one()?;
        self.open_frame(frame)
    }

    #[inline(always)]
    fn take_whole(&mut self, frame: FbufMut, into: &mut Vec<Received>) {
        if let Some((from, payload)) = self.open_frame(frame) {
            into.push(Received { from, piece: Piece::whole(payload) });
        }
    }

    /// Takes the headers off a frame, or counts why not.
    #[inline(always)]
    fn open_frame(&mut self, frame: FbufMut) -> Option<(SocketAddr, FbufMut)> {
        // Each to its end by itself: where they meet, the sender's address would be put together anew.
        match plain(&frame, &self.filter) {
            Plain::V4(headers) => self.finish(frame, headers),
            Plain::V6(headers) => self.finish(frame, headers),
            Plain::Not => self.open_other(frame),
        }
    }

    #[cold]
    fn open_other(&mut self, frame: FbufMut) -> Option<(SocketAddr, FbufMut)> {
        let headers = parse_headers(&frame, frame.len(), &self.filter);
        let headers = headers.and_then(|headers| headers.verified(&frame));
        self.finish(frame, headers)
    }

    /// Hands on what is right, and whose headers were taken off.
    #[inline(always)]
    fn finish(
        &mut self,
        mut frame: FbufMut,
        headers: Result<Headers<impl Into<SocketAddr>>, Count>,
    ) -> Option<(SocketAddr, FbufMut)> {
        let headers = match headers {
            Ok(headers) => headers,
            Err(count) => return self.refuse(frame, count),
        };
        let Headers { from, start, end, .. } = headers;
        let place = frame.headroom();
        if !frame.set_range(place + start..place + end) {
            return self.refuse(frame, Count::BadHeader);
        }
        self.counts.add(Count::Received, 1);
        self.counts.add(Count::ReceivedBytes, (end - start) as u64);
        Some((from.into(), frame))
    }

    #[cold]
    fn refuse(&mut self, frame: FbufMut, count: Count) -> Option<(SocketAddr, FbufMut)> {
        if count == Count::Foreign {
            self.routes.hear(&frame);
            self.speak();
        }
        self.counts.add(count, 1);
        self.device.pool().recycle_received(frame.freeze());
        None
    }

    /// Takes a frame in several pieces, of which this is the first.
    #[cold]
    fn take_pieces(&mut self, first: FbufMut, into: &mut Vec<Received>) {
        let mut pieces = std::mem::take(&mut self.pieces_in);
        pieces.push(first);
        let mut is_whole = false;
        while !is_whole && let Some(piece) = self.arrived.pop() {
            is_whole = !piece.more;
            if pieces.len() <= self.capabilities.pieces {
                pieces.push(piece.bytes);
            }
        }
        let checked = if is_whole && pieces.len() <= self.capabilities.pieces {
            self.check_pieces(&pieces)
        } else {
            Err(Count::Truncated)
        };
        match checked {
            Ok(headers) => self.hand_on(&mut pieces, &headers, into),
            Err(count) => {
                let mut all = pieces.drain(..);
                if let Some(first) = all.next() {
                    let _ = self.refuse(first, count);
                }
                all.for_each(|piece| self.device.pool().recycle_received(piece.freeze()));
            }
        }
        self.pieces_in = pieces;
    }

    fn check_pieces(&self, pieces: &[FbufMut]) -> Result<Headers, Count> {
        let len = pieces.iter().map(|piece| piece.len()).sum();
        let headers = parse_headers(&pieces[0], len, &self.filter)?;
        let Some(mut sum) = headers.unverified else { return Ok(headers) };
        let mut place = 0;
        for piece in pieces {
            let part = part(piece.len(), place, headers.summed_from(), headers.end);
            let bytes = Sum::of(&piece[part.clone()]);
            sum = sum.and(bytes.at(place + part.start - headers.summed_from()));
            place += piece.len();
        }
        if sum.is_right() { Ok(headers) } else { Err(Count::BadChecksum) }
    }

    /// Hands the payload on, without pieces that have nothing of it.
    fn hand_on(&mut self, pieces: &mut Vec<FbufMut>, headers: &Headers, into: &mut Vec<Received>) {
        let from = headers.from;
        let first = into.len();
        let mut place = 0;
        for mut piece in pieces.drain(..) {
            let part = part(piece.len(), place, headers.start, headers.end);
            place += piece.len();
            let start = piece.headroom();
            let is_set = piece.set_range(start + part.start..start + part.end);
            debug_assert!(is_set, "a part of it");
            // An empty datagram is a piece too.
            if part.is_empty() && (into.len() > first || place < headers.end) {
                self.device.pool().recycle_received(piece.freeze());
            } else {
                into.push(Received { from, piece: Piece { bytes: piece, more: true } });
            }
        }
        if let Some(last) = into[first..].last_mut() {
            last.piece.more = false;
        }
        self.counts.add(Count::Received, 1);
        self.counts.add(Count::ReceivedBytes, (headers.end - headers.start) as u64);
    }
}

/// Which part of a piece of `len` bytes, that begins at `place` of its frame, is from `start` to `end`.
fn part(len: usize, place: usize, start: usize, end: usize) -> Range<usize> {
    start.saturating_sub(place).min(len)..end.saturating_sub(place).min(len)
}
