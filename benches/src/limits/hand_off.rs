//! Handing the core, or the news, from one process to another through the kernel.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::thread::sched_yield;

use crate::cpus::switches_away;
use crate::fault::{During, Fault};
use crate::process::server::{Request, Server};

/// One event.
const EVENT: u64 = 1;
/// The event that ends the ping-pong.
const STOP: u64 = 2;
/// Round trips between two looks at the clock.
const BATCH: u64 = 16;

/// The mean round trip of an eventfd ping-pong with the server process, wherever it is pinned.
pub fn eventfd_ping_pong(server: &Server, time: Duration) -> Result<f64, Fault> {
    let make = || eventfd(0, EventfdFlags::CLOEXEC).during("making an eventfd");
    let (there, back) = (make()?, make()?);
    server.ask(&Request::Eventfd, &[there.as_fd(), back.as_fd()])?;
    server.expect_ready()?;
    let exchange = |event| {
        signal(&there, event)?;
        wait(&back)
    };
    for _ in 0..BATCH {
        exchange(EVENT)?;
    }
    let started = Instant::now();
    let mut trips = 0;
    while started.elapsed() < time {
        for _ in 0..BATCH {
            exchange(EVENT)?;
        }
        trips += BATCH;
    }
    let mean = started.elapsed().as_nanos() as f64 / trips as f64;
    exchange(STOP)?;
    server.expect_done()?;
    Ok(mean)
}

/// The server's side of [`eventfd_ping_pong`].
pub fn answer_eventfds(fds: &[OwnedFd]) -> Result<(), Fault> {
    let [there, back] = fds else {
        return Err(Fault::Other("two eventfds were to come along".into()));
    };
    loop {
        let event = wait(there)?;
        signal(back, EVENT)?;
        if event == STOP {
            return Ok(());
        }
    }
}

fn signal(fd: &OwnedFd, event: u64) -> Result<(), Fault> {
    rustix::io::write(fd, &event.to_ne_bytes()).during("signalling an eventfd")?;
    Ok(())
}

fn wait(fd: &OwnedFd) -> Result<u64, Fault> {
    let mut event = [0; 8];
    loop {
        match rustix::io::read(fd, &mut event) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).during("waiting on an eventfd"),
            Ok(_) => return Ok(u64::from_ne_bytes(event)),
        }
    }
}

/// The mean round trip of the core between this process and the server process, both of which do
/// nothing but yield. The server must be pinned to this thread's core.
///
/// Every switch away from this process that it did not sleep for is one hand-over, and with nobody
/// else on the core the server hands it back: the kernel's own count tells how many there were.
pub fn yield_ping_pong(server: &Server, time: Duration) -> Result<f64, Fault> {
    server.ask(&Request::Yield, &[])?;
    server.expect_ready()?;
    for _ in 0..BATCH {
        sched_yield();
    }
    let before = switches_away()?;
    let started = Instant::now();
    while started.elapsed() < time {
        for _ in 0..BATCH {
            sched_yield();
        }
    }
    let elapsed = started.elapsed();
    let switches = switches_away()? - before;
    server.ask(&Request::Stop, &[])?;
    server.expect_done()?;
    server.expect_done()?;
    Ok(elapsed.as_nanos() as f64 / switches.max(1) as f64)
}

/// The server's side of [`yield_ping_pong`].
pub fn yield_until(over: impl Fn() -> bool) {
    loop {
        for _ in 0..BATCH * 16 {
            sched_yield();
        }
        if over() {
            return;
        }
    }
}
