//! The descriptor that a caller waits on.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::session::Session;
use super::{Bench, Carrier, Failure, Outcome, Verdict};

/// Whether the descriptor of `b` is readable, waiting so long for it.
fn is_readable<B: Bench>(session: &mut Session<'_, B>, wait: Duration) -> Result<bool, Failure> {
    let fd = session.b.end.device().as_fd();
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let wait = segment::control::timespec(wait);
    match poll(&mut fds, Some(&wait)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(errno) => Err(format!("the descriptor cannot be waited on: {errno}").into()),
    }
}

fn arm<B: Bench>(session: &mut Session<'_, B>) -> Result<bool, Failure> {
    let armed = session.b.end.device().arm();
    armed.map_err(|error| format!("the device cannot be armed: {error}").into())
}

/// Nothing arrives: the descriptor is not readable, so that whoever waits on it sleeps.
pub fn descriptor_at_rest<B: Bench>(bench: &mut B) -> Outcome {
    let mut session = Session::open(bench)?;
    let (window, shortest) = (session.window(), session.shortest());
    for _ in 0..3 {
        // A few wake-ups without a reason do no harm; without an end, they do.
        let mut vain = 0;
        while !arm(&mut session)? || is_readable(&mut session, Duration::from_millis(1))? {
            drop(session.receive()?);
            vain += 1;
            if vain > 20 {
                Err("nothing arrives, and the descriptor is readable or the device says that \
                     something is there, over and over: whoever waits would spin"
                    .to_owned())?;
            }
        }
        session.exchange(window, window, |_| shortest)?;
        session.drain()?;
    }
    session.settle()?;
    Ok(Verdict::Shown)
}

/// Something arrives after the device was armed, or just before: its descriptor becomes readable, or
/// arming says so.
pub fn descriptor_wakes<B: Bench>(bench: &mut B) -> Outcome {
    if bench.allowed().loss || bench.allowed().corruption {
        return Ok(Verdict::LeftOut("the network may lose the packet that is waited for"));
    }
    let mut session = Session::open(bench)?;
    let shortest = session.shortest();
    for round in 0..20 {
        let before = round % 2 == 0;
        let armed_at_first = if before { true } else { arm(&mut session)? };
        if session.compose_whole(shortest).is_err() {
            Err("there is no buffer for one packet, and none is under way".to_owned())?;
        }
        session.transmit()?;
        let mut armed = if before { arm(&mut session)? } else { armed_at_first };
        let deadline = Instant::now() + session.bench.patience();
        let handed = session.b.handed;
        while session.b.handed == handed {
            if !armed || is_readable(&mut session, Duration::from_millis(1))? {
                drop(session.receive()?);
                armed = arm(&mut session)?;
            } else if Instant::now() > deadline {
                Err(
                    "a packet was sent, and the descriptor that was armed does not become readable"
                        .to_owned(),
                )?;
            } else {
                session.transmit()?;
                session.bench.idle();
            }
        }
        session.drain()?;
    }
    session.settle()?;
    Ok(Verdict::Shown)
}

/// A burst was not taken whole: once there is room again, the descriptor becomes readable, or arming says
/// so, or the device just takes the rest.
pub fn room_to_send<B: Bench>(bench: &mut B) -> Outcome {
    let mut session = Session::open(bench)?;
    let shortest = session.shortest();
    let total = session.a.end.device().pool().total();
    for _ in 0..total {
        if session.compose_whole(shortest).is_err() {
            break;
        }
    }
    session.transmit()?;
    if session.a.waiting() == 0 {
        session.settle()?;
        return Ok(Verdict::LeftOut("the device takes as many packets as there are buffers"));
    }
    // From here on the sender is the one that waits: `b`, after the turn.
    session.turn();
    let deadline = Instant::now() + session.bench.patience();
    while session.b.waiting() > 0 {
        if Instant::now() > deadline {
            Err("a burst was not taken whole; the receiver has taken what there was, and the \
                 sender's descriptor does not become readable"
                .to_owned())?;
        }
        let woken = !arm(&mut session)? || is_readable(&mut session, Duration::from_millis(1))?;
        if woken {
            drop(session.receive()?);
            if let Err(error) = session.b.transmit()
                && !error.is_passing()
            {
                Err(format!("transmitting the rest of a burst ended with: {error}"))?;
            }
        }
        session.turn();
        drop(session.receive()?);
        session.turn();
        session.bench.idle();
    }
    session.settle()?;
    Ok(Verdict::Shown)
}
