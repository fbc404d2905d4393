//! Destinations of datagrams: many, closed, opened again, and never opened.

use super::session::Session;
use super::{Bench, Failure, Outcome, OverDatagrams, Verdict};
use crate::device::{Count, Datagrams, Destination, DeviceError};

fn another<D: Datagrams, B: Bench<End = OverDatagrams<D>>>(
    session: &mut Session<'_, B>,
) -> Result<Destination, DeviceError> {
    let peer = session.b.end.address();
    session.a.end.device.open(peer)
}

fn opened(result: Result<Destination, DeviceError>) -> Result<Destination, Failure> {
    result.map_err(|error| format!("a destination cannot be opened once more: {error}").into())
}

/// A peer is opened as many destinations at a time; each of them leads there.
pub fn many_destinations<D: Datagrams, B: Bench<End = OverDatagrams<D>>>(bench: &mut B) -> Outcome {
    let mut session = Session::open(bench)?;
    let shortest = session.shortest();
    let mut destinations = Vec::new();
    for _ in 0..32 {
        destinations.push(opened(another(&mut session))?);
    }
    for _ in 0..3 {
        for destination in &destinations {
            session.a.end.send_by(*destination);
            session.exchange(2, 2, |_| shortest)?;
        }
    }
    session.settle()?;
    Ok(Verdict::Shown)
}

/// Destinations are closed and opened many times without an end coming; what is sent to one that is
/// closed, or never was, is dropped and counted.
pub fn closed_destinations<D: Datagrams, B: Bench<End = OverDatagrams<D>>>(
    bench: &mut B,
) -> Outcome {
    let mut session = Session::open(bench)?;
    let shortest = session.shortest();
    for _ in 0..1000 {
        let destination = opened(another(&mut session))?;
        session.a.end.device.close(destination);
    }
    let open = opened(another(&mut session))?;
    let closed = opened(another(&mut session))?;
    session.a.end.device.close(closed);
    // Nothing happens.
    session.a.end.device.close(closed);
    session.a.end.device.close(Destination(u32::MAX));
    for nowhere in [closed, Destination(u32::MAX), Destination(u32::MAX / 2)] {
        session.a.end.send_by(nowhere);
        if session.compose_whole(shortest).is_err() {
            Err("there is no buffer for one packet, and none is under way".to_owned())?;
        }
        let before = session.a.end.device.statistics().sum(&Count::NOT_SENT);
        session.transmit()?;
        session.a.end.send_by(open);
        session.settle()?;
        let counted = session.a.end.device.statistics().sum(&Count::NOT_SENT) - before;
        if counted != 1 {
            Err(format!(
                "a datagram to a destination that is closed was handed over: as not sent, {counted} \
                 are counted, and 1 was expected"
            ))?;
        }
        session.exchange(2, 2, |_| shortest)?;
    }
    session.settle()?;
    Ok(Verdict::Shown)
}
