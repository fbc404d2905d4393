//! The server process itself: does what the control socket asks, and leaves when it closes.

use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use crate::cpus;
use crate::fault::Fault;
use crate::limits::hand_off;
use crate::measure::halves::{EchoLoop, ReceiveLoop};
use crate::measure::load;
use crate::process::control::Control;
use crate::process::server::{Answered, Reply, Request};
use crate::systems::{self, ServerHalf};
use crate::task::Task;

/// The hidden subcommand under which this program serves.
pub const COMMAND: &str = "server-process";

/// How long the main thread has to take its half of a connection down.
const TIDYING: Duration = Duration::from_millis(200);

/// Serves until the client closes the control socket.
pub fn run(cpu: usize) -> Result<(), Fault> {
    let control = Control::from_stdin()?;
    let watched = control.try_clone()?;
    // The main thread may be polling shared memory or blocked elsewhere when the client ends.
    thread::spawn(move || {
        watched.wait_for_hang_up();
        // A main thread that waits for the next request leaves by itself, and tidies up.
        thread::sleep(TIDYING);
        std::process::exit(0);
    });
    cpus::pin(cpu)?;
    control.send(&Reply::Done, &[])?;
    let mut half = None;
    loop {
        let (request, fds) = match control.receive() {
            Ok(received) => received,
            Err(Fault::PeerGone) => return Ok(()),
            Err(fault) => return Err(fault),
        };
        match carry_out(request, fds, &control, &mut half) {
            Ok(reply) => control.send(&reply, &[])?,
            Err(fault) => {
                // The client may be waiting for a message instead of this: ending wakes it.
                control.send(&Reply::Failed(fault.to_string()), &[])?;
                return Err(fault);
            }
        }
    }
}

fn carry_out(
    request: Request,
    fds: Vec<OwnedFd>,
    control: &Control,
    half: &mut Option<ServerHalf>,
) -> Result<Reply, Fault> {
    match (request, half) {
        (Request::Open(task), half) => {
            *half = Some(open(&task, fds, control)?);
        }
        (Request::Echo, Some(ServerHalf::Echo(server))) => return echo(server.as_mut(), control),
        (Request::Receive(per_stamp), Some(ServerHalf::OneWay(server))) => {
            return receive(server.as_mut(), per_stamp, control);
        }
        (Request::Absorb(step), Some(ServerHalf::Load(server))) => {
            return load::absorb(server.as_mut(), &step, control);
        }
        (Request::Stop, _) => {}
        (Request::Pin(cpu), _) => cpus::pin(cpu)?,
        (Request::Eventfd, _) => {
            control.send(&Reply::Ready, &[])?;
            hand_off::answer_eventfds(&fds)?;
        }
        (Request::Yield, _) => {
            control.send(&Reply::Ready, &[])?;
            hand_off::yield_until(|| control.readable_within(Duration::ZERO).unwrap_or(true));
        }
        (request @ (Request::Echo | Request::Receive(_) | Request::Absorb(_)), _) => {
            return Err(Fault::Other(format!("{request:?} does not fit what was opened")));
        }
    }
    Ok(Reply::Done)
}

/// Answers messages until the client finishes.
pub fn echo(server: &mut dyn EchoLoop, control: &Control) -> Result<Reply, Fault> {
    let (before, copied) = (cpus::switches_away()?, server.copied());
    control.send(&Reply::Ready, &[])?;
    server.run()?;
    let switches = cpus::switches_away()? - before;
    Ok(Reply::Answered(Answered { switches, copied: server.copied() - copied }))
}

/// Receives messages until the client finishes.
pub fn receive(
    server: &mut dyn ReceiveLoop,
    per_stamp: Option<u64>,
    control: &Control,
) -> Result<Reply, Fault> {
    server.begin()?;
    let (before, copied) = (cpus::switches_away()?, server.copied());
    control.send(&Reply::Ready, &[])?;
    let mut received = server.run(per_stamp)?;
    received.switches = cpus::switches_away()? - before;
    received.copied = server.copied() - copied;
    Ok(Reply::Received(received))
}

fn open(task: &Task, fds: Vec<OwnedFd>, control: &Control) -> Result<ServerHalf, Fault> {
    let system = systems::by_name(&task.system)
        .ok_or_else(|| Fault::Other(format!("there is no system `{}`", task.system)))?;
    system.server(task, fds, &mut || control.send(&Reply::Ready, &[]))
}
