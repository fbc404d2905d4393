//! Packets that should all arrive: how many, how long, in which strides.

use super::session::Session;
use super::{Bench, Carrier, Outcome, Verdict};
use crate::device::Count;

/// Transmitting and receiving nothing does nothing, and counts nothing.
pub fn nothing<B: Bench>(bench: &mut B) -> Outcome {
    let mut session = Session::open(bench)?;
    for _ in 0..100 {
        session.transmit()?;
        session.receive()?;
    }
    session.settle()?;
    let said = session.a.end.device().statistics();
    let (sent, not_sent) = (said[Count::Sent], said.sum(&Count::NOT_SENT));
    if sent + not_sent > 0 {
        Err(format!("nothing was sent, and {sent} packets count as sent, {not_sent} as not sent"))?;
    }
    Ok(Verdict::Shown)
}

/// Packets arrive in the order in which they were sent, in both directions; all of them, where the network
/// loses none. Where it may reorder, all of them.
pub fn order<B: Bench>(bench: &mut B) -> Outcome {
    let count = (bench.packets() / 10).max(100);
    let mut session = Session::open(bench)?;
    for _ in 0..2 {
        let (window, shortest) = (session.window(), session.shortest());
        let span = session.longest_piece().saturating_sub(shortest).clamp(1, 200) as u64;
        session.exchange(count, window, |number| shortest + (number * 37 % span) as usize)?;
        session.settle()?;
        session.turn();
    }
    Ok(Verdict::Shown)
}

/// Payloads of every length, from the shortest to the longest, arrive with every byte right.
pub fn every_length<B: Bench>(bench: &mut B) -> Outcome {
    let whole = bench.allowed().nothing();
    let mut session = Session::open(bench)?;
    let (window, shortest) = (session.window(), session.shortest());
    let longest = session.longest_piece();
    // Those without a number are told apart by being alone on the way.
    for len in (0..shortest.min(longest + 1)).filter(|_| whole) {
        session.exchange(1, 1, |_| len)?;
    }
    let base = session.next;
    if let Some(count) = (longest + 1).checked_sub(shortest) {
        session.exchange(count as u64, window, |number| shortest + (number - base) as usize)?;
    }
    session.settle()?;
    Ok(Verdict::Shown)
}

/// Bursts of nothing, of one, of about as many as one call takes, and of more than there are buffers.
pub fn burst_edges<B: Bench>(bench: &mut B) -> Outcome {
    let mut session = Session::open(bench)?;
    let burst = session.a.end.capabilities().burst.max(session.b.end.capabilities().burst);
    let total = session.a.end.device().pool().total();
    for size in [0, 1, burst.saturating_sub(1), burst, burst + 1, total + burst] {
        // Once by each way of handing a burst over.
        for _ in 0..2 {
            send_at_once(&mut session, size)?;
            session.settle()?;
        }
    }
    Ok(Verdict::Shown)
}

/// Sends as many as asked for before anything is received: what the receiver has no room for, it counts.
fn send_at_once<B: Bench>(session: &mut Session<'_, B>, size: usize) -> Result<(), super::Failure> {
    let shortest = session.shortest();
    let mut composed = 0;
    // The buffers of a device that takes nothing while the receiver reads nothing do not come back.
    for _ in 0..size + 100 {
        while composed < size && session.compose_whole(shortest).is_ok() {
            composed += 1;
        }
        session.transmit()?;
        if composed == size && session.a.waiting() == 0 {
            break;
        }
        session.bench.idle();
    }
    Ok(())
}

/// Goes around every queue many times, in strides that do not divide its size.
pub fn ring_wrap<B: Bench>(bench: &mut B) -> Outcome {
    let packets = bench.packets();
    let mut session = Session::open(bench)?;
    let (window, shortest) = (session.window(), session.shortest());
    let strides = [1, 3, 7, 13, 31, 61].map(|stride: u64| stride.min(window));
    let mut sent = 0;
    while sent < packets / 2 {
        for stride in strides {
            session.exchange(stride, stride, |_| shortest)?;
            sent += stride;
        }
    }
    session.settle()?;
    Ok(Verdict::Shown)
}

/// Packets in several pieces, where the device carries such: up to as many as it says, of odd lengths.
pub fn pieces<B: Bench>(bench: &mut B) -> Outcome {
    let mut session = Session::open(bench)?;
    let capabilities = session.a.end.capabilities();
    if capabilities.pieces < 2 {
        return Ok(Verdict::LeftOut("the device carries packets of one piece only"));
    }
    let (longest, header) = (session.a.end.longest(), session.a.end.header(0).len());
    let room = session.first_piece();
    let whole = longest.min(room * capabilities.pieces - header.min(room));
    for first in [1, header + 1, header + 17, room / 2 + 1, room] {
        let first = first.clamp(header.max(1), room);
        for len in [16, 17, 100, room - header, room + 1, whole - 1, whole] {
            if len > whole || (header + len).div_ceil(first) > capabilities.pieces {
                continue;
            }
            if session.compose(len, first).is_err() {
                Err(format!("there are no buffers for a packet of {len} bytes"))?;
            }
            session.exchange(0, 1, |_| 0)?;
        }
    }
    session.settle()?;
    Ok(Verdict::Shown)
}
