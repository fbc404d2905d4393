//! Packets that a device cannot carry: taken, dropped, counted once, and their buffers free again.

use fbufs::{Class, Fbuf, MAX_CLASSES, Pool, PoolOptions};

use super::session::Session;
use super::{Bench, Carrier, Failure, Outcome, Verdict};
use crate::device::Count;

/// Sends what cannot be sent, between packets that can, and sees it counted and nothing else harmed.
fn refused<B: Bench>(
    session: &mut Session<'_, B>,
    what: &str,
    mut make: impl FnMut(&mut Session<'_, B>) -> Option<Vec<Fbuf>>,
) -> Result<(), Failure> {
    let (window, shortest) = (session.window(), session.shortest());
    for times in 1..=5u64 {
        let Some(packet) = make(session) else {
            return Err(format!("there are no buffers for {what}").into());
        };
        let before = session.a.end.device().statistics().sum(&Count::NOT_SENT);
        session.a.queue(packet);
        session.exchange_after_refusal(window, shortest, what)?;
        session.settle()?;
        let counted = session.a.end.device().statistics().sum(&Count::NOT_SENT) - before;
        if counted != 1 {
            Err(format!(
                "{what} was handed over to be sent, for the {times}th time: as not sent, {counted} \
                 packets are counted, and 1 was expected"
            ))?;
        }
    }
    Ok(())
}

impl<B: Bench> Session<'_, B> {
    fn exchange_after_refusal(
        &mut self,
        window: u64,
        len: usize,
        what: &str,
    ) -> Result<(), Failure> {
        let left = (0..100).find(|_| {
            let empty = self.transmit().is_ok() && self.a.waiting() == 0;
            if !empty {
                self.bench.idle();
            }
            empty
        });
        if left.is_none() {
            Err(format!("{what} stays in the queue to be sent, and blocks what comes after it"))?;
        }
        self.exchange(window.min(4), window, |_| len)
    }
}

fn filled(pool: &mut Pool, headroom: usize, len: usize) -> Option<Fbuf> {
    let mut buffer = pool.alloc_with_headroom(headroom, len).ok()?;
    buffer.fill(0x5a);
    Some(buffer.freeze())
}

/// A packet longer than the device carries.
pub fn oversize<B: Bench>(bench: &mut B) -> Outcome {
    let mut session = Session::open(bench)?;
    let capabilities = session.a.end.capabilities();
    let longest = session.a.end.longest() + session.a.end.header(0).len();
    let (room, most) = (session.first_piece(), capabilities.pieces);
    if room.saturating_mul(most) <= longest {
        return Ok(Verdict::LeftOut("the device's buffers hold nothing longer than it carries"));
    }
    let headroom = capabilities.headroom;
    refused(&mut session, "a packet longer than the device carries", |session| {
        let pool = session.a.end.device().pool();
        let (mut packet, mut left, mut headroom) = (Vec::new(), longest + 1, headroom);
        while left > 0 {
            let len = left.min(room);
            packet.push(filled(pool, std::mem::take(&mut headroom), len)?);
            left -= len;
        }
        Some(packet)
    })?;
    Ok(Verdict::Shown)
}

/// A frame that is shorter than an Ethernet header, or empty.
pub fn undersize<B: Bench>(bench: &mut B) -> Outcome {
    let mut session = Session::open(bench)?;
    let headroom = session.a.end.capabilities().headroom;
    for len in [0, 1, 13] {
        refused(&mut session, &format!("a frame of {len} bytes"), |session| {
            Some(vec![filled(session.a.end.device().pool(), headroom, len)?])
        })?;
    }
    Ok(Verdict::Shown)
}

/// A packet in more pieces than the device takes.
pub fn too_many_pieces<B: Bench>(bench: &mut B) -> Outcome {
    let mut session = Session::open(bench)?;
    let capabilities = session.a.end.capabilities();
    let pool = session.a.end.device().pool();
    if capabilities.pieces >= pool.total() / 2 {
        return Ok(Verdict::LeftOut("the device takes more pieces than there are buffers"));
    }
    let (headroom, header) = (capabilities.headroom, session.a.end.header(0).len().max(1));
    refused(&mut session, "a packet in too many pieces", |session| {
        let pool = session.a.end.device().pool();
        let first = filled(pool, headroom, header)?;
        let rest = (0..capabilities.pieces).map(|_| filled(pool, 0, 8));
        std::iter::once(Some(first)).chain(rest).collect()
    })?;
    Ok(Verdict::Shown)
}

/// A packet in a buffer of another pool, whose memory the device does not know.
pub fn foreign_buffer<B: Bench>(bench: &mut B) -> Outcome {
    let mut session = Session::open(bench)?;
    let mut options =
        PoolOptions { classes: [Class::default(); MAX_CLASSES], ..Default::default() };
    options.classes[0] = Class { buffer_bytes: 2048, buffers: 8 };
    let mut foreign = Pool::new(options).map_err(|error| format!("no foreign pool: {error}"))?;
    let headroom = session.a.end.capabilities().headroom;
    refused(&mut session, "a packet in a buffer of another pool", |session| {
        let header = session.a.end.header(16).len();
        Some(vec![filled(&mut foreign, headroom, header + 16)?])
    })?;
    let (free, total) = (foreign.free(), foreign.total());
    if free != total {
        Err(format!("of another pool's {total} buffers {free} came back"))?;
    }
    Ok(Verdict::Shown)
}
