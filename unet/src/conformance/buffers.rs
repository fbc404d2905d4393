//! Buffers: none is lost, none is in two places, and none changes while it is held.

use std::collections::VecDeque;

use fbufs::FbufMut;

use super::payload::{self, Found};
use super::session::{Held, Session};
use super::{Bench, Carrier, Failure, Outcome, Verdict};

/// Over many packets ([`Bench::packets`]), of which the receiver holds some for a while: what is held does
/// not change, and at the end every buffer is free or in the stock, once.
pub fn conservation<B: Bench>(bench: &mut B) -> Outcome {
    let packets = bench.packets();
    let mut session = Session::open(bench)?;
    let (window, shortest) = (session.window(), session.shortest());
    let span = session.longest_piece().saturating_sub(shortest).clamp(1, 50);
    let total = session.b.end.device().pool().total();
    let stock = session.b.end.capabilities().stock;
    let most = (total.saturating_sub(stock) / 2).min(total / 4);
    let header = session.b.end.header(0).len();
    let padded = session.b.end.padded().saturating_sub(header);
    let mut held: VecDeque<Held> = VecDeque::new();
    let len = |number: u64| shortest + number as usize % span;
    session.exchange_held(packets, window, len, |end, packet| {
        // Odd ones go back at once, others are held until there are too many.
        if packet.number % 2 == 0 {
            held.push_back(packet);
        } else {
            recycle(end, packet);
        }
        while held.len() > most {
            let Some(packet) = held.pop_front() else { break };
            unchanged(&packet, header, padded)?;
            drop(packet);
        }
        Ok(())
    })?;
    for packet in held {
        unchanged(&packet, header, padded)?;
    }
    session.settle()?;
    every_buffer_once(&mut session)?;
    session.turn();
    every_buffer_once(&mut session)?;
    Ok(Verdict::Shown)
}

fn recycle<E: Carrier>(end: &mut E, packet: Held) {
    packet.pieces.into_iter().for_each(|piece| end.device().pool().recycle(piece.freeze()));
}

/// Whether a packet is still what it was when it arrived.
fn unchanged(packet: &Held, header: usize, padded: usize) -> Result<(), Failure> {
    let bytes: Vec<u8> = packet.pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
    let number = packet.number;
    match payload::read(bytes.get(header..).unwrap_or_default(), None, padded) {
        Found::Whole(found) if found == number => Ok(()),
        Found::Damaged(what) => Err(format!("a buffer changed while it was held: {what}").into()),
        _ => Err(format!("the buffer of packet {number} changed while it was held").into()),
    }
}

/// Takes all buffers of the receiver that are free, fills them, and lets packets arrive: the device must
/// not write where it has no buffer.
fn every_buffer_once<B: Bench>(session: &mut Session<'_, B>) -> Result<(), Failure> {
    let pool = session.b.end.device().pool();
    let (free, total) = (pool.free(), pool.total());
    let mut taken: Vec<FbufMut> = Vec::with_capacity(free);
    while let Ok(mut buffer) = pool.alloc(0) {
        let number = buffer.number();
        if taken.len() > total || taken.iter().any(|other| other.number() == number) {
            Err(format!("buffer {number} was allocated twice at a time"))?;
        }
        let whole = 0..buffer.capacity();
        if !buffer.set_range(whole) {
            Err(format!("buffer {number} has not the bytes that it says it has"))?;
        }
        buffer.fill(number as u8 ^ 0xa5);
        taken.push(buffer);
    }
    if taken.len() != free {
        let got = taken.len();
        Err(format!("{free} buffers were said to be free, and {got} could be allocated"))?;
    }
    for _ in 0..8 {
        let len = session.shortest();
        // Refused where all of the sender's buffers are under way; then there are packets enough.
        _ = session.compose_whole(len);
        session.transmit()?;
        session.bench.idle();
        drop(session.receive()?);
    }
    for buffer in &taken {
        let number = buffer.number();
        if buffer.iter().any(|byte| *byte != number as u8 ^ 0xa5) {
            Err(format!("buffer {number} changed while the caller held it"))?;
        }
    }
    drop(taken);
    session.settle()
}

/// A receiver that holds every buffer there is, while more arrives, and then gives them back: what had no
/// room is counted, what is held does not change, and the device goes on.
pub fn starvation<B: Bench>(bench: &mut B) -> Outcome {
    let mut session = Session::open(bench)?;
    let (window, shortest) = (session.window(), session.shortest());
    let header = session.b.end.header(0).len();
    let padded = session.b.end.padded().saturating_sub(header);
    for _ in 0..3 {
        let mut held: Vec<Held> = Vec::new();
        let total = session.b.end.device().pool().total();
        // Twice as many as there are, in steps that a queue takes.
        for _ in 0..(2 * total).div_ceil(window as usize) {
            for _ in 0..window {
                if session.compose_whole(shortest).is_err() {
                    break;
                }
            }
            session.transmit()?;
            session.bench.idle();
            held.extend(session.receive()?);
        }
        for packet in &held {
            unchanged(packet, header, padded)?;
        }
        drop(held);
        session.settle()?;
        session.exchange(4 * window, window, |_| shortest)?;
        session.settle()?;
    }
    every_buffer_once(&mut session)?;
    Ok(Verdict::Shown)
}
