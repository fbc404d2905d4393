//! Every way the program ends early: a signal, or a server process that died.
//!
//! Whoever comes first ends the program; the others wait to be ended with it.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{process, thread};

use indicatif::ProgressBar;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::fault::{During, Failure, Fault};

static ENDING: AtomicBool = AtomicBool::new(false);
static SERVERS: Mutex<Vec<(u32, OwnedFd)>> = Mutex::new(Vec::new());
static PROGRESS: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Ends the program cleanly on Ctrl-C and on the other signals that ask for it.
pub fn on_signals() -> Result<(), Fault> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).during("catching Ctrl-C")?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            leave(128 + signal, "Interrupted: no result.");
        }
    });
    Ok(())
}

/// Remembers the progress bar, which must not stay on the screen.
pub fn clears(progress: &ProgressBar) {
    *lock(&PROGRESS) = Some(progress.clone());
}

/// Remembers a server process to kill when the program ends early.
pub fn adopt(pid: u32, server: BorrowedFd<'_>) -> Result<(), Fault> {
    let server = server.try_clone_to_owned().during("watching the server process")?;
    lock(&SERVERS).push((pid, server));
    Ok(())
}

/// Forgets a server process: it has ended.
pub fn disown(pid: u32) {
    lock(&SERVERS).retain(|(other, _)| *other != pid);
}

/// Ends the program with a failure's sentence and exit code.
pub fn fail(failure: &Failure) -> ! {
    leave(failure.exit_code(), &failure.to_string())
}

fn leave(code: i32, sentence: &str) -> ! {
    if ENDING.swap(true, Ordering::AcqRel) {
        loop {
            thread::park();
        }
    }
    if let Some(progress) = lock(&PROGRESS).take() {
        progress.finish_and_clear();
    }
    for (_, server) in std::mem::take(&mut *lock(&SERVERS)) {
        let _ = pidfd_send_signal(&server, Signal::KILL);
        // Gone means gone: wait until it is, so that nothing outlives this program.
        let _ = poll(&mut [PollFd::new(&server.as_fd(), PollFlags::IN)], None);
    }
    let _ = writeln!(std::io::stderr(), "unet-bench: {sentence}");
    process::exit(code)
}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
