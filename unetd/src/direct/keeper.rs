//! The keeper: a process that does next to nothing, and so does not die. It starts the worker, holds what
//! the worker must not lose, and starts another one when it dies, which gets all of that back.
//!
//! Programs stay attached, ports reserved, names bound and clients connected as long as any descriptor of
//! theirs is open: the keeper's are. When the keeper dies too, the kernel closes the last of them: programs
//! are detached, and clients' connections end. Nothing is left in a file system.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use segment::control::Socket;

use super::store::{Record, Said, done_frame, hear, put_frame, send};

/// How long nothing is looked at but the worker's messages.
const TURN: Duration = Duration::from_millis(50);
/// The pauses before a worker is started again: twice as long each time, if it did not live long.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(10));
const LONG_ENOUGH: Duration = Duration::from_secs(10);
/// How long a worker that was told to end, or has let go of its keeper, may live.
const GRACE: Duration = Duration::from_secs(5);
/// The most that is kept.
const MAX_RECORDS: usize = 4096;

/// What the keeper is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// Send the worker a SIGHUP.
    Reload,
    /// End the worker, and everything.
    End,
}

/// Raises this process's limit of descriptors as far as it may, since it keeps several for each client.
pub fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it is not allowed, the limit stays as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

struct Worker {
    child: Child,
    socket: Socket,
    since: Instant,
}

/// Starts a worker by the command, and again whenever it dies or fails, until it ends well, or fails before
/// anything was kept, or the keeper is told to end. The command's standard input becomes the store ([`super::Store::inherit`]). `told` is asked
/// some twenty times a second: it says what signals said.
///
/// # Errors
/// The kernel's, when no process can be started.
pub fn keep(
    mut command: impl FnMut() -> Command,
    mut told: impl FnMut() -> Told,
) -> io::Result<ExitStatus> {
    let mut kept = BTreeMap::new();
    let mut pause = PAUSES.0;
    loop {
        let mut worker = start(command())?;
        let status = attend(&mut worker, &mut kept, &mut told)?;
        // What it said before it died.
        for _ in 0..MAX_RECORDS / 256 * 4 {
            if !listen(&worker.socket, &mut kept) {
                break;
            }
        }
        let Some(status) = status else { return worker.child.wait() };
        // One that failed and left nothing has never begun: another one would not either.
        if status.success() || (kept.is_empty() && status.code().is_some()) {
            return Ok(status);
        }
        if worker.since.elapsed() >= LONG_ENOUGH {
            pause = PAUSES.0;
        }
        tracing::error!(%status, kept = kept.len(), ?pause, "the worker died: another one takes over");
        let end = Instant::now() + pause;
        while Instant::now() < end {
            if told() == Told::End {
                return Ok(status);
            }
            std::thread::sleep(TURN.min(end.saturating_duration_since(Instant::now())));
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

fn start(mut command: Command) -> io::Result<Worker> {
    let (socket, theirs) = Socket::pair()?;
    command.stdin(OwnedFd::from(theirs));
    // The command has the other end open as well, and goes with this function.
    let child = command.spawn()?;
    Ok(Worker { child, socket, since: Instant::now() })
}

/// Stays with a worker until it has died; `None` if the keeper was told to end, and the worker is to be
/// waited for.
fn attend(
    worker: &mut Worker,
    kept: &mut BTreeMap<u64, Record>,
    told: &mut impl FnMut() -> Told,
) -> io::Result<Option<ExitStatus>> {
    let given = kept.values().try_for_each(|record| {
        let frame = put_frame(record.key, record.of, &record.about);
        let descriptors: Vec<BorrowedFd<'_>> = record.descriptors.iter().map(AsFd::as_fd).collect();
        frame.map_or(Ok(()), |frame| send(&worker.socket, &frame, &descriptors))
    });
    if given.and_then(|()| send(&worker.socket, &done_frame(), &[])).is_err() {
        // It is dead, or as good as that.
        worker.child.kill()?;
    }
    let mut alone: Option<Instant> = None;
    loop {
        worker.socket.wait_readable(TURN);
        if !listen(&worker.socket, kept) && alone.is_none() {
            alone = Some(Instant::now());
        }
        if let Some(status) = worker.child.try_wait()? {
            return Ok(Some(status));
        }
        if let Some(since) = alone {
            // The socket is readable for ever now.
            std::thread::sleep(Duration::from_millis(1));
            if since.elapsed() > GRACE {
                worker.child.kill()?;
            }
        }
        match told() {
            Told::Nothing => {}
            Told::Reload => signal(worker, Signal::HUP),
            Told::End => {
                signal(worker, Signal::TERM);
                let deadline = Instant::now() + GRACE;
                while worker.child.try_wait()?.is_none() {
                    if Instant::now() >= deadline {
                        worker.child.kill()?;
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                return Ok(None);
            }
        }
    }
}

fn signal(worker: &Worker, signal: Signal) {
    // It is a child that was not waited for: its number is nobody else's.
    let pid = i32::try_from(worker.child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal);
    }
}

/// Does what the worker says, as far as it has said anything; whether it may say more.
fn listen(socket: &Socket, kept: &mut BTreeMap<u64, Record>) -> bool {
    // So that the worker's death is noticed however much it says.
    for _ in 0..256 {
        match hear(socket) {
            Said::Put(record) if kept.len() < MAX_RECORDS => {
                kept.insert(record.key, record);
            }
            Said::Put(record) => tracing::error!(key = record.key, "too much is to be kept"),
            Said::Forget(key) => {
                kept.remove(&key);
            }
            Said::Done | Said::Nonsense => {
                tracing::error!("a message of the worker was lost: raise the limit of descriptors");
            }
            Said::Nothing => return true,
            Said::HungUp => return false,
        }
    }
    true
}
