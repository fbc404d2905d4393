//! Devices that end and begin anew, and links that go down and come up.

use std::time::Instant;

use fbufs::FbufMut;

use super::session::Session;
use super::{Bench, Carrier, Failure, Outcome, Verdict};
use crate::device::DeviceError;

/// Devices are dropped in the midst of traffic and opened anew, many times; what was received from the
/// former ones stays as it is.
pub fn reset<B: Bench>(bench: &mut B) -> Outcome {
    let mut kept: Vec<(FbufMut, Vec<u8>)> = Vec::new();
    for round in 0..10 {
        let mut session = Session::open(bench)?;
        let (window, shortest) = (session.window(), session.shortest());
        session.exchange_held(
            2 * window,
            window,
            |_| shortest,
            |_, packet| {
                if kept.len() < 2 * (round + 1) {
                    kept.extend(packet.pieces.into_iter().map(|piece| {
                        let bytes = piece.to_vec();
                        (piece, bytes)
                    }));
                }
                Ok(())
            },
        )?;
        // Leaves packets under way.
        for _ in 0..window {
            if session.compose_whole(shortest).is_err() {
                break;
            }
        }
        session.transmit()?;
        if round % 2 == 1 {
            one_alone(session)?;
        }
    }
    if let Some(number) = kept.iter().position(|(piece, bytes)| **piece != bytes[..]) {
        Err(format!("piece {number}, received from a device that was dropped since, has changed"))?;
    }
    Ok(Verdict::Shown)
}

/// A device whose peer was dropped is still usable: it sends into the void, and says so or counts it.
fn one_alone<B: Bench>(session: Session<'_, B>) -> Result<(), Failure> {
    let Session { bench, mut a, b, .. } = session;
    drop(b);
    for _ in 0..20 {
        match a.transmit() {
            Ok(_) => {}
            Err(error) if error.is_passing() || error == DeviceError::Gone => {}
            Err(error) => Err(format!("sending to a peer that is gone ended with: {error}"))?,
        }
        let mut arrived = Vec::new();
        // What the peer's end does to this one is not of interest here: that it returns is.
        _ = a.end.receive(&mut arrived);
        bench.idle();
    }
    Ok(())
}

/// The link goes down: no panic, an error or a counted drop for what is sent. It comes up: the device goes
/// on, and the accounts add up.
pub fn link_down_and_up<B: Bench>(bench: &mut B) -> Outcome {
    let mut session = Session::open(bench)?;
    let (window, shortest) = (session.window(), session.shortest());
    for _ in 0..3 {
        session.exchange(2 * window, window, |_| shortest)?;
        if !session.bench.set_link(false)? {
            return Ok(Verdict::LeftOut("the bench has no way to take the link down"));
        }
        said_down(&mut session)?;
        for _ in 0..window {
            if session.compose_whole(shortest).is_err() {
                break;
            }
            session.transmit()?;
            session.bench.idle();
        }
        session.bench.set_link(true)?;
        said_up(&mut session)?;
        session.settle()?;
    }
    session.exchange(2 * window, window, |_| shortest)?;
    session.settle()?;
    Ok(Verdict::Shown)
}

fn said_down<B: Bench>(session: &mut Session<'_, B>) -> Result<(), Failure> {
    let deadline = Instant::now() + session.bench.patience();
    loop {
        match session.a.end.device().maintain() {
            Err(DeviceError::Down) => return Ok(()),
            Err(error) if !error.is_passing() => {
                return Err(format!("a link that is down is said to be: {error}").into());
            }
            _ if Instant::now() > deadline => {
                return Err("the link is down, and maintain does not say so".to_owned().into());
            }
            _ => session.bench.idle(),
        }
    }
}

fn said_up<B: Bench>(session: &mut Session<'_, B>) -> Result<(), Failure> {
    let deadline = Instant::now() + session.bench.patience();
    loop {
        let (a, b) = (session.a.end.device().maintain(), session.b.end.device().maintain());
        match a.and(b) {
            Ok(()) => return Ok(()),
            Err(error) if !error.is_passing() || Instant::now() > deadline => {
                return Err(format!("the link is up again, and the device says: {error}").into());
            }
            Err(_) => session.bench.idle(),
        }
    }
}
