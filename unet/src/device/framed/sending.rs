//! Datagrams out: headers before them, and to the device.

use std::collections::VecDeque;

use fbufs::{Fbuf, FbufMut};

use super::Framed;
use super::checksum::Sum;
use super::table::{Table, Way};
use super::template::{ETHERNET, HEADERS, Template};
use crate::device::{Count, Destination, DeviceError, Frames, Kick, Outgoing, Piece, Routes};

/// How many datagrams get headers before the device is asked to take them; and how many after it did not
/// take all, so that little is done in vain while it is full.
const BURST: usize = 64;
const PROBE: usize = 4;

/// A piece that was given to the device, as it must be taken back if the device does not take it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handed {
    to: Destination,
    /// Bytes of headers before it.
    headers: u8,
    /// It is headers alone, in a buffer of their own.
    is_extra: bool,
}

/// What stands before a datagram: the way's headers, and what is set in them.
struct Form<'a> {
    template: &'a mut Template,
    /// Bytes of payload.
    len: usize,
    sum: Sum,
}

impl Form<'_> {
    #[inline(always)]
    fn bytes(&self) -> usize {
        ETHERNET + self.template.over_ethernet()
    }

    /// Writes the headers before the first piece, in place. `false`, and nothing written, where others
    /// share its buffer or there is no room for them and the device's.
    #[inline(always)]
    fn push(&mut self, first: &mut Fbuf, headroom: usize) -> bool {
        first.range().start >= self.bytes() + headroom
            && self.template.push(first, self.len, self.sum)
    }
}

/// The headers of a datagram, or as what it is to be counted.
#[inline(always)]
fn form<'a>(
    table: &'a mut Table,
    limit: usize,
    to: Destination,
    pieces: &[Fbuf],
) -> Result<Form<'a>, Count> {
    let way = table.get_mut(to).and_then(|entry| entry.way.as_mut());
    let Some(Way { template, mtu }) = way else { return Err(Count::Unresolved) };
    let len = match pieces {
        [one] => one.range().len(),
        many => many.iter().map(|piece| piece.len()).sum(),
    };
    if len + template.over_ethernet() > limit.min(*mtu) {
        return Err(Count::TooLong);
    }
    let sum = if template.is_summed() { sum(pieces) } else { Sum::default() };
    Ok(Form { template, len, sum })
}

impl<F: Frames, R: Routes> Framed<F, R> {
    #[inline(always)]
    pub(super) fn send(&mut self, datagrams: &mut VecDeque<Outgoing>) -> Result<(), DeviceError> {
        if let Some(error) = self.stopped {
            return Err(error);
        }
        let mut most = if self.full { PROBE } else { BURST };
        loop {
            let mut count = 0;
            while count < most
                && let Some(Outgoing { to, piece: Piece { bytes, more } }) = datagrams.pop_front()
            {
                count += 1;
                if more {
                    self.prepare_pieces(to, bytes, datagrams);
                } else {
                    self.prepare(to, bytes);
                }
            }
            let sent = self.device.transmit(&mut self.frames);
            self.full = !self.frames.is_empty();
            if self.full {
                self.put_back(datagrams);
            } else {
                self.handed.clear();
            }
            sent?;
            if self.full || datagrams.is_empty() {
                return Ok(());
            }
            most = BURST;
        }
    }

    /// Sends one datagram in one piece past all queues, or gives it back.
    #[inline(always)]
    pub(super) fn send_one(
        &mut self,
        to: Destination,
        mut payload: Fbuf,
        kick: Kick,
    ) -> Result<(), Fbuf> {
        if self.stopped.is_some() || self.full {
            return Err(payload);
        }
        let form = form(&mut self.table, self.limit, to, std::slice::from_ref(&payload));
        let Ok(mut form) = form else { return Err(payload) };
        let headers = form.bytes();
        if !form.push(&mut payload, self.capabilities.headroom) {
            return Err(payload);
        }
        match self.device.transmit_one(payload, kick) {
            Ok(()) => {
                self.header_bytes += headers as u64;
                Ok(())
            }
            Err(frame) => Err(without(frame, headers)),
        }
    }

    /// Makes a frame of a datagram in one piece.
    #[inline(always)]
    fn prepare(&mut self, to: Destination, payload: Fbuf) {
        // Moved once: it gets its headers where it stays.
        self.frames.push_back(Piece::whole(payload));
        let Some(Piece { bytes: fbuf, .. }) = self.frames.back_mut() else { return };
        match form(&mut self.table, self.limit, to, std::slice::from_ref(fbuf)) {
            Ok(mut form) => {
                let headers = form.bytes();
                if form.push(fbuf, self.capabilities.headroom) {
                    self.remember(to, headers, false);
                } else {
                    self.prepare_copy(to);
                }
            }
            Err(count) => self.drop_last(count),
        }
    }

    /// Remembers what the piece is that was put last.
    #[inline(always)]
    fn remember(&mut self, to: Destination, headers: usize, is_extra: bool) {
        self.header_bytes += headers as u64;
        self.handed.push(Handed { to, headers: headers as u8, is_extra });
    }

    fn hand(&mut self, to: Destination, piece: Piece<Fbuf>, headers: usize, is_extra: bool) {
        self.frames.push_back(piece);
        self.remember(to, headers, is_extra);
    }

    #[cold]
    fn drop_last(&mut self, count: Count) {
        if let Some(piece) = self.frames.pop_back() {
            self.drop_piece(piece.bytes, count);
        }
    }

    fn drop_piece(&mut self, fbuf: Fbuf, count: Count) {
        self.counts.add(count, 1);
        self.device.pool().recycle(fbuf);
    }

    /// Copies the datagram that was put last, whose buffer others share, or that has no room for headers.
    #[cold]
    fn prepare_copy(&mut self, to: Destination) {
        let Some(Piece { bytes: fbuf, .. }) = self.frames.pop_back() else { return };
        match self.copy(to, std::slice::from_ref(&fbuf), fbuf.len()) {
            Ok((copy, headers)) => {
                self.device.pool().recycle(fbuf);
                self.hand(to, Piece::whole(copy), headers, false);
            }
            Err(count) => self.drop_piece(fbuf, count),
        }
    }

    /// A buffer of the device with the headers of a datagram, and behind them the first bytes of its
    /// first piece. And how many bytes the headers are.
    fn copy(
        &mut self,
        to: Destination,
        pieces: &[Fbuf],
        bytes: usize,
    ) -> Result<(Fbuf, usize), Count> {
        let headers = form(&mut self.table, self.limit, to, pieces)?.bytes();
        let mut copy = self.buffer(headers, bytes).ok_or(Count::Failed)?;
        copy.copy_from_slice(pieces[0].get(..bytes).ok_or(Count::Malformed)?);
        let mut copy = copy.freeze();
        let mut form = form(&mut self.table, self.limit, to, pieces)?;
        if !form.push(&mut copy, self.capabilities.headroom) {
            return Err(Count::Malformed);
        }
        self.copies += 1;
        self.device.pool().count_copy(bytes);
        Ok((copy, headers))
    }

    /// A free buffer with room for headers; the device lets go of what it has sent if none is left.
    fn buffer(&mut self, headers: usize, len: usize) -> Option<FbufMut> {
        let headroom = self.capabilities.headroom + headers;
        if let Ok(fbuf) = self.device.pool().alloc_with_headroom(headroom, len) {
            return Some(fbuf);
        }
        _ = self.device.transmit(&mut VecDeque::new());
        self.device.pool().alloc_with_headroom(headroom, len).ok()
    }

    /// Makes a frame of a datagram in several pieces, of which this is the first. One that is not ended,
    /// or goes on to somebody else, is malformed.
    #[cold]
    fn prepare_pieces(&mut self, to: Destination, first: Fbuf, datagrams: &mut VecDeque<Outgoing>) {
        let mut pieces = std::mem::take(&mut self.pieces_out);
        pieces.push(first);
        let mut is_whole = false;
        while !is_whole
            && datagrams.front().is_some_and(|next| next.to == to)
            && let Some(next) = datagrams.pop_front()
        {
            is_whole = !next.piece.more;
            // The rest of what has too many pieces is not kept.
            if pieces.len() <= self.capabilities.pieces {
                pieces.push(next.piece.bytes);
            }
        }
        let prepared = if is_whole && pieces.len() <= self.capabilities.pieces {
            self.join(to, &mut pieces)
        } else {
            Err(Count::Malformed)
        };
        if let Err(count) = prepared {
            self.counts.add(count, 1);
        }
        pieces.drain(..).for_each(|piece| self.device.pool().recycle(piece));
        self.pieces_out = pieces;
    }

    /// Puts headers before pieces and hands them over; they stay if that fails.
    fn join(&mut self, to: Destination, pieces: &mut Vec<Fbuf>) -> Result<(), Count> {
        let mut form = form(&mut self.table, self.limit, to, pieces)?;
        let mut headers = form.bytes();
        let last = pieces.len() - 1;
        let is_pushed = form.push(&mut pieces[0], self.capabilities.headroom);
        if !is_pushed && pieces.len() < self.capabilities.pieces {
            let (extra, _) = self.copy(to, pieces, 0)?;
            self.hand(to, Piece { bytes: extra, more: true }, headers, true);
            headers = 0;
        } else if !is_pushed {
            let bytes = pieces[0].len();
            pieces[0] = self.copy(to, pieces, bytes)?.0;
        }
        for (number, bytes) in pieces.drain(..).enumerate() {
            let piece = Piece { bytes, more: number < last };
            self.hand(to, piece, std::mem::take(&mut headers), false);
        }
        Ok(())
    }

    /// Takes back what the device has not taken, without its headers, to be sent again.
    #[cold]
    fn put_back(&mut self, datagrams: &mut VecDeque<Outgoing>) {
        while let (Some(piece), Some(handed)) = (self.frames.pop_back(), self.handed.pop()) {
            let headers = usize::from(handed.headers);
            self.header_bytes -= headers as u64;
            if handed.is_extra {
                self.device.pool().recycle(piece.bytes);
                continue;
            }
            let bytes = if headers == 0 { piece.bytes } else { without(piece.bytes, headers) };
            datagrams.push_front(Outgoing { to: handed.to, piece: Piece { bytes, ..piece } });
        }
        self.frames.clear();
        self.handed.clear();
    }
}

const _: () = assert!(HEADERS <= u8::MAX as usize);

/// What is behind the headers.
#[cold]
fn without(fbuf: Fbuf, headers: usize) -> Fbuf {
    let range = fbuf.range();
    match fbuf.try_into_mut() {
        Ok(mut unique) => {
            let is_set = unique.set_range(range.start + headers..range.end);
            debug_assert!(is_set, "the headers were pushed");
            unique.freeze()
        }
        Err(shared) => shared.slice(headers..shared.len()).unwrap_or(shared),
    }
}

#[inline(always)]
fn sum(pieces: &[Fbuf]) -> Sum {
    let mut sum = Sum::default();
    let mut place = 0;
    for piece in pieces {
        sum = sum.and(Sum::of(piece).at(place));
        place += piece.len();
    }
    sum
}
