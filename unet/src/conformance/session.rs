//! A pair of devices at work: what was sent, what arrived, and whether it is what was sent.

use std::collections::VecDeque;
use std::time::Instant;

use fbufs::{Fbuf, FbufMut};

use super::payload::{self, Found, STAMP};
use super::{Bench, Carrier, Failure};
use crate::device::{Count, DeviceError, Piece};

/// One of the two, and what it was seen to do.
pub(super) struct Side<E> {
    pub end: E,
    queue: VecDeque<Piece<Fbuf>>,
    arriving: Vec<Piece<FbufMut>>,
    /// Packets that it took, and that it handed over, and their bytes.
    pub taken: u64,
    pub taken_bytes: u64,
    pub handed: u64,
    pub handed_bytes: u64,
    /// Packets handed over that were not the peer's.
    pub strangers: u64,
}

impl<E: Carrier> Side<E> {
    fn new(end: E) -> Self {
        let (queue, arriving) = (VecDeque::new(), Vec::new());
        Self {
            end,
            queue,
            arriving,
            taken: 0,
            taken_bytes: 0,
            handed: 0,
            handed_bytes: 0,
            strangers: 0,
        }
    }

    /// How many packets wait to be taken.
    pub fn waiting(&self) -> usize {
        self.queue.iter().filter(|piece| !piece.more).count()
    }

    /// Puts a packet into the queue, as it is.
    pub fn queue(&mut self, pieces: impl IntoIterator<Item = Fbuf>) {
        let mut pieces = pieces.into_iter().peekable();
        while let Some(bytes) = pieces.next() {
            self.queue.push_back(Piece { bytes, more: pieces.peek().is_some() });
        }
    }

    /// Hands over what waits; how many packets were taken. Also takes back what was sent before.
    pub fn transmit(&mut self) -> Result<u64, DeviceError> {
        let before = self.waiting();
        let bytes =
            |queue: &VecDeque<Piece<Fbuf>>| queue.iter().map(|piece| piece.bytes.len()).sum();
        let bytes_before: usize = bytes(&self.queue);
        let outcome = self.end.transmit(&mut self.queue);
        self.taken_bytes += bytes_before.saturating_sub(bytes(&self.queue)) as u64;
        let taken = before.saturating_sub(self.waiting()) as u64;
        self.taken += taken;
        outcome.map(|()| taken)
    }
}

/// A packet that arrived and is held.
pub(super) struct Held {
    pub number: u64,
    pub pieces: Vec<FbufMut>,
}

/// What goes one way, from `a` to `b`.
pub(super) struct Session<'b, B: Bench> {
    pub bench: &'b mut B,
    pub a: Side<B::End>,
    pub b: Side<B::End>,
    /// The number of the next packet.
    pub next: u64,
    seen: Vec<u64>,
    last: Option<u64>,
    /// Second copies, and wrong ones, that arrived.
    pub twice: u64,
    pub damaged: u64,
    /// The length of the one payload that is under way and has no number.
    short: Option<usize>,
}

/// A packet that could not be composed: all buffers are in use.
pub(super) struct NoBuffers;

impl<'b, B: Bench> Session<'b, B> {
    /// Makes a pair, and makes each the other's peer.
    pub fn open(bench: &'b mut B) -> Result<Self, Failure> {
        let (mut a, mut b) = bench.pair()?;
        let deadline = Instant::now() + bench.patience();
        loop {
            match a.meet(&b).and_then(|()| b.meet(&a)) {
                Ok(()) => break,
                Err(error) if error.is_passing() && Instant::now() < deadline => bench.idle(),
                Err(error) => Err(format!("the devices do not find each other: {error}"))?,
            }
        }
        let (a, b) = (Side::new(a), Side::new(b));
        let (seen, last, short) = (Vec::new(), None, None);
        Ok(Self { bench, a, b, next: 0, seen, last, twice: 0, damaged: 0, short })
    }

    /// The other direction, with all accounts as they are.
    pub fn turn(&mut self) {
        std::mem::swap(&mut self.a, &mut self.b);
        self.last = None;
    }

    /// The shortest payload with a number in it.
    pub fn shortest(&self) -> usize {
        STAMP
    }

    /// The longest payload in one piece.
    pub fn longest_piece(&mut self) -> usize {
        let longest = self.a.end.longest();
        longest.min(self.first_piece().saturating_sub(self.a.end.header(0).len()))
    }

    /// The most bytes of a first piece, header and all.
    pub fn first_piece(&mut self) -> usize {
        let capabilities = self.a.end.capabilities();
        let buffer = self.a.end.device().pool().largest();
        capabilities.piece_bytes.min(buffer.saturating_sub(capabilities.headroom))
    }

    /// How many packets may be under way without any being lost.
    pub fn window(&mut self) -> u64 {
        let (a, b) = (self.a.end.capabilities(), self.b.end.capabilities());
        let stock = if b.stock > 0 { b.stock } else { b.burst };
        let pool = self.a.end.device().pool().total() / 4;
        (a.burst.min(stock).min(pool) / 2).clamp(1, 64) as u64
    }

    /// Writes a packet whose first piece has at most `first` bytes, and puts it into the queue.
    pub fn compose(&mut self, len: usize, first: usize) -> Result<(), NoBuffers> {
        let capabilities = self.a.end.capabilities();
        let header = self.a.end.header(len);
        let number = self.next;
        let mut pieces = Vec::with_capacity(1);
        let (mut done, mut headroom, mut room) = (0, capabilities.headroom, first);
        let whole = header.len() + len;
        loop {
            let part = (whole - done).min(room.max(1));
            let pool = self.a.end.device().pool();
            let Ok(mut buffer) = pool.alloc_with_headroom(headroom, part) else {
                return Err(NoBuffers);
            };
            let of_header = header.len().saturating_sub(done).min(part);
            let (front, rest) = buffer.split_at_mut(of_header);
            front.copy_from_slice(&header[done.min(header.len())..][..of_header]);
            let from = (done + of_header).saturating_sub(header.len());
            payload::write(number, len, from, rest);
            done += part;
            pieces.push(buffer.freeze());
            (headroom, room) = (0, capabilities.piece_bytes.min(first.max(1)));
            if done >= whole {
                break;
            }
        }
        self.a.queue(pieces);
        if len < STAMP {
            self.short = Some(len);
        }
        self.next += 1;
        Ok(())
    }

    /// As [`Session::compose`], in as few pieces as possible.
    pub fn compose_whole(&mut self, len: usize) -> Result<(), NoBuffers> {
        let first = self.first_piece();
        self.compose(len, first)
    }

    /// Receives at `b` once, and checks what arrived.
    pub fn receive(&mut self) -> Result<Vec<Held>, Failure> {
        let burst = self.b.end.capabilities().burst;
        let result = self.b.end.receive(&mut self.b.arriving);
        let packets = self.b.arriving.iter().filter(|piece| !piece.more).count();
        if packets > burst {
            Err(format!("one call received {packets} packets, and the burst is {burst}"))?;
        }
        if self.b.arriving.last().is_some_and(|piece| piece.more) {
            Err("a packet was handed over in part: its last piece says that more follows"
                .to_owned())?;
        }
        if let Err(error) = result
            && (!error.is_passing() || packets > 0)
        {
            Err(format!("receiving ended with {packets} packets and an error: {error}"))?;
        }
        let mut arrived = Vec::with_capacity(packets);
        let mut pieces = Vec::new();
        for Piece { bytes, more } in std::mem::take(&mut self.b.arriving) {
            pieces.push(bytes);
            if !more {
                arrived.extend(self.note(std::mem::take(&mut pieces))?);
            }
        }
        if let Some(what) = self.b.end.misattributed()
            && !self.bench.allowed().corruption
        {
            Err(what)?;
        }
        Ok(arrived)
    }

    /// Checks a packet that arrived.
    fn note(&mut self, pieces: Vec<FbufMut>) -> Result<Option<Held>, Failure> {
        let allowed = self.bench.allowed();
        let most = self.b.end.capabilities().pieces;
        if pieces.len() > most {
            Err(format!("a packet arrived in {} pieces, of at most {most}", pieces.len()))?;
        }
        let joined;
        let bytes: &[u8] = match &pieces[..] {
            [one] => one,
            several => {
                joined = several.concat_pieces();
                &joined
            }
        };
        self.b.handed += 1;
        self.b.handed_bytes += bytes.len() as u64;
        if !self.b.end.is_from_peer(bytes) && !allowed.corruption {
            self.b.strangers += 1;
            return Ok(None);
        }
        let header = self.b.end.header(0).len();
        let padded = self.b.end.padded().saturating_sub(header);
        let found = payload::read(bytes.get(header..).unwrap_or_default(), self.short, padded);
        match found {
            Found::Damaged(_) if allowed.corruption => self.damaged += 1,
            Found::Damaged(what) => Err(what)?,
            Found::Short(_) => self.short = None,
            Found::Whole(number) => {
                self.in_its_place(number)?;
                return Ok(Some(Held { number, pieces }));
            }
        }
        Ok(None)
    }

    fn in_its_place(&mut self, number: u64) -> Result<(), Failure> {
        let allowed = self.bench.allowed();
        if number >= self.next {
            Err(format!("packet {number} arrived, and was not sent"))?;
        }
        let (word, bit) = ((number / 64) as usize, 1u64 << (number % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            self.twice += 1;
            if !allowed.duplicates {
                Err(format!("packet {number} arrived twice"))?;
            }
        }
        self.seen[word] |= bit;
        if let Some(last) = self.last.replace(number)
            && last > number
            && !allowed.disorder
        {
            Err(format!("packet {number} arrived after packet {last}: out of order"))?;
        }
        Ok(())
    }

    /// Sends `count` packets and receives them, at most `window` under way at a time. On a network that
    /// loses nothing, every one must arrive.
    pub fn exchange(
        &mut self,
        count: u64,
        window: u64,
        len: impl FnMut(u64) -> usize,
    ) -> Result<(), Failure> {
        self.exchange_held(count, window, len, |_, _| Ok(()))
    }

    /// As [`Session::exchange`]; what arrived is given to `hold`.
    pub fn exchange_held(
        &mut self,
        count: u64,
        window: u64,
        mut len: impl FnMut(u64) -> usize,
        mut hold: impl FnMut(&mut B::End, Held) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let end = self.next + count;
        let mut under_way = self.a.waiting() as u64;
        let mut deadline = Instant::now() + self.bench.patience();
        while self.next < end || under_way > 0 {
            let mut stuck = true;
            while self.next < end && under_way < window {
                let len = len(self.next);
                if self.compose_whole(len).is_err() {
                    break;
                }
                under_way += 1;
            }
            let sent = self.transmit()?;
            stuck &= sent == 0;
            let before = self.b.handed - self.b.strangers;
            for held in self.receive()? {
                hold(&mut self.b.end, held)?;
            }
            let arrived = self.b.handed - self.b.strangers - before;
            under_way = under_way.saturating_sub(arrived);
            stuck &= arrived == 0;
            if !stuck {
                deadline = Instant::now() + self.bench.patience();
                continue;
            }
            self.bench.idle();
            let missing = self.missing();
            if self.bench.allowed().miscarriage() {
                under_way = (missing.max(0) as u64) + self.a.waiting() as u64;
            }
            if Instant::now() > deadline {
                Err(self.silence(under_way, missing))?;
            }
        }
        Ok(())
    }

    #[cold]
    fn silence(&mut self, under_way: u64, missing: i64) -> String {
        let (a, b) = (self.a.end.device().statistics(), self.b.end.device().statistics());
        let (not_sent, dropped) = (a.sum(&Count::NOT_SENT), b.sum(&Count::DROPPED));
        let waiting = self.a.waiting();
        format!(
            "{under_way} packets do not arrive, though nothing should hinder them: {waiting} were not \
             taken by the sender, {not_sent} not sent, {dropped} dropped by the receiver, and {missing} \
             are unaccounted for"
        )
    }

    /// Transmits at `a` what waits there. A device that is down for the moment takes nothing.
    pub fn transmit(&mut self) -> Result<u64, Failure> {
        match self.a.transmit() {
            Ok(taken) => Ok(taken),
            Err(error) if error.is_passing() => Ok(0),
            Err(error) => Err(format!("transmitting ended with an error: {error}").into()),
        }
    }
}

trait ConcatPieces {
    fn concat_pieces(&self) -> Vec<u8>;
}

impl ConcatPieces for [FbufMut] {
    fn concat_pieces(&self) -> Vec<u8> {
        self.iter().flat_map(|piece| piece.iter().copied()).collect()
    }
}
