//! One client's session, in a process of its own: what a stranger asks for is checked, bounded in size
//! and time, and cannot harm the process that listens.

use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};
use unet::NetworkAddress;

use crate::cpus;
use crate::fault::{During, Fault};
use crate::measure::load;
use crate::network::{Place, address};
use crate::process::connection::prepare;
use crate::process::control::Control;
use crate::process::serve;
use crate::process::server::{Reply, Request};
use crate::systems::{ServerHalf, network};
use crate::task::{Bench, Task};

/// How long a client may take for its first request; later ones have a measurement between them.
const FIRST: Duration = Duration::from_secs(5);
/// How long it may do without another request.
const IDLE: Duration = Duration::from_secs(60);
/// The longest session: a measurement of the longest duration, with what lies around it.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// How long the main thread has to take its half of a connection down.
const TIDYING: Duration = Duration::from_millis(200);

/// Serves the client whose connection is the standard input.
pub fn run(cpu: usize, at: NetworkAddress) -> Result<(), Fault> {
    // Whoever listens answers for this process, and takes it along.
    set_parent_process_death_signal(Some(Signal::KILL)).during("staying with the listener")?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned();
    let stream = TcpStream::from(socket.during("taking the connection from standard input")?);
    let (remote, local) = prepare(&stream)?;
    let local = address::server(&at, local.ip());
    let place = Place { address: at, local, remote: remote.ip() };
    let control = Control::over(OwnedFd::from(stream)).wary();
    let watched = control.try_clone()?;
    thread::spawn(move || {
        // The main thread may be polling or blocked elsewhere when the client ends.
        let _ = watched.hung_up_within(Some(LONGEST));
        thread::sleep(TIDYING);
        std::process::exit(0);
    });
    cpus::pin(cpu)?;
    control.send(&Reply::Done, &[])?;
    let mut half = None;
    let mut patience = FIRST;
    while control.readable_within(patience)? {
        patience = IDLE;
        let request = match control.receive() {
            Ok((request, _)) => request,
            Err(Fault::PeerGone) => return Ok(()),
            Err(fault) => return Err(refuse(&control, fault)),
        };
        match carry_out(request, &place, &control, &mut half) {
            Ok(reply) => control.send(&reply, &[])?,
            Err(fault) => return Err(refuse(&control, fault)),
        }
    }
    Err(refuse(&control, Fault::Other("no request came for too long".into())))
}

/// Tells the client, if it listens.
fn refuse(control: &Control, fault: Fault) -> Fault {
    let _ = control.send(&Reply::Failed(fault.to_string()), &[]);
    fault
}

fn carry_out(
    request: Request,
    place: &Place,
    control: &Control,
    half: &mut Option<ServerHalf>,
) -> Result<Reply, Fault> {
    match (request, half) {
        (Request::Open(task), half) => {
            let system = check(&task)?;
            *half = None;
            let announce = &mut |port| control.send(&Reply::Port(port), &[]);
            *half = Some(system.serve(&task, place, announce)?);
            Ok(Reply::Done)
        }
        (Request::Echo, Some(ServerHalf::Echo(server))) => serve::echo(server.as_mut(), control),
        (Request::Receive(per_stamp), Some(ServerHalf::OneWay(server))) => {
            serve::receive(server.as_mut(), per_stamp, control)
        }
        (Request::Absorb(step), Some(ServerHalf::Load(server))) => {
            load::absorb(server.as_mut(), &step, control)
        }
        (Request::Stop, _) => Ok(Reply::Done),
        (request, _) => Err(Fault::Other(format!(
            "{request:?} is not for a server across a network, or not now"
        ))),
    }
}

/// Checks what a stranger wants opened.
fn check(task: &Task) -> Result<&'static dyn network::Network, Fault> {
    let system = network::by_name(&task.system);
    let system = system
        .ok_or_else(|| Fault::Other(format!("there is no network system `{:.40}`", task.system)))?;
    let most = system.largest();
    let known = match task.bench {
        Bench::Scale | Bench::Fbuf => false,
        Bench::Beside => system.makes_calls(),
        _ => true,
    };
    let least = match task.bench {
        Bench::Sweep => load::STAMP,
        Bench::NullRpc if system.takes_nothing() => 0,
        _ => size_of::<u64>(),
    };
    let refused = match () {
        () if !known => Some(format!("{} is no question across a network", task.bench.name())),
        () if !(least..=most).contains(&task.payload) => {
            Some(format!("{} B is no size of a message", task.payload))
        }
        () if task.idle_bindings > 0 || task.domains != 2 => {
            Some("there are two ends across a network, and nothing idle".to_owned())
        }
        () if system.waits().is_some_and(|ways| !ways.contains(&task.wait)) => {
            Some(format!("{} does not wait that way", task.system))
        }
        () => task.calls.refused(task.payload).map(|why| format!("{} {why}", task.system)),
    };
    refused.map_or(Ok(system), |why| Err(Fault::Other(why)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Calls, Wait};

    fn task() -> Task {
        Task {
            system: "udp/spin".to_owned(),
            bench: Bench::Rtt,
            payload: 64,
            wait: Wait::Spin,
            same_core: false,
            idle_bindings: 0,
            domains: 2,
            position: 0,
            rendezvous: String::new(),
            port: 1,
            agent_cpu: 0,
            calls: Calls::default(),
        }
    }

    #[test]
    fn what_a_stranger_may_not_ask_is_refused() {
        assert!(check(&task()).is_ok());
        for wrong in [
            Task { system: "fbuf/volatile".to_owned(), ..task() },
            Task { system: "x".repeat(10_000), ..task() },
            Task { bench: Bench::Fbuf, ..task() },
            Task { payload: 0, ..task() },
            Task { payload: usize::MAX, ..task() },
            Task { payload: 8, bench: Bench::Sweep, ..task() },
            Task { idle_bindings: usize::MAX, ..task() },
            Task { bench: Bench::Beside, ..task() },
            Task { calls: Calls { flows: 9, ..Calls::default() }, ..task() },
            Task { calls: Calls { window: 65, ..Calls::default() }, ..task() },
            Task { calls: Calls { batch: 2, ..Calls::default() }, ..task() },
            Task { calls: Calls { batch: 0, ..Calls::default() }, ..task() },
            Task { system: "rpc".to_owned(), payload: (64 << 20) + 1, ..task() },
            Task {
                system: "rpc".to_owned(),
                payload: 64 << 20,
                calls: Calls { window: 5, ..Calls::default() },
                ..task()
            },
        ] {
            let Err(fault) = check(&wrong) else { panic!("{wrong:?} is accepted") };
            assert!(fault.to_string().len() < 200);
        }
    }
}
