//! The server process, as the client sees it: started, pinned, watched, and never left behind.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::cpus;
use crate::fault::{During, Failure, Fault};
use crate::measure::halves::Received;
use crate::measure::load::{Absorb, Absorbed};
use crate::network::Place;
use crate::process::connection::Connection;
use crate::process::control::Control;
use crate::process::ending;
use crate::task::Task;

/// What the client asks of the server process.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Build the server's half of a connection.
    Open(Task),
    /// Answer until the client finishes.
    Echo,
    /// Receive until the client finishes, with a stamp after so many messages.
    Receive(Option<u64>),
    /// Move to another core.
    Pin(usize),
    /// Take the other side of an eventfd ping-pong over the two descriptors sent along.
    Eventfd,
    /// Yield the core without end until the next request.
    Yield,
    /// Do nothing: whatever went on until the next request is over.
    Stop,
    /// Take one step of a load in, until the next request.
    Absorb(Absorb),
}

/// What the server process answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The client may connect, or the loop begins.
    Ready,
    /// The request is carried out.
    Done,
    /// The client has finished.
    Answered(Answered),
    /// The server's half listens there for the client's.
    Port(u16),
    /// One phase's count.
    Received(Received),
    /// One step's.
    Absorbed(Absorbed),
    /// It could not be done.
    Failed(String),
}

/// What a server counted while it answered.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Answered {
    /// How often its thread was switched away from.
    pub switches: u64,
    /// Bytes of payload that it copied, where that is counted.
    pub copied: u64,
}

/// How long a server may take for what is no measurement.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long the watcher leaves the word to the measurement, which knows more.
pub const GRACE: Duration = Duration::from_millis(400);
/// How long a failure waits for its cause: a process that dies has closed its channels before anybody learns how it
/// ended, on a busy machine long before.
const CAUSE: Duration = Duration::from_secs(2);

/// The life of one server process, shared with the thread that watches it.
struct Life {
    pid: u32,
    process: OwnedFd,
    control: Control,
    expected: AtomicBool,
    ended: Mutex<Option<ExitStatus>>,
    changed: Condvar,
}

impl Life {
    fn ended_within(&self, time: Duration) -> Option<ExitStatus> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(ended, time, |status| status.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The sentence about an end that nobody asked for: the server's own last word, or the status.
    fn obituary(&self, status: ExitStatus) -> Failure {
        if let Some(why) = last_word(&self.control) {
            return Fault::Server(why).into();
        }
        let how = match (status.signal(), status.code()) {
            (Some(signal), _) => format!("was killed by signal {signal}"),
            (None, Some(code)) => format!("exited with code {code}"),
            (None, None) => "ended".to_owned(),
        };
        Failure::Run(format!(
            "The server process {} {how} in the middle of the run, so there is no result; run the \
             benchmark again.",
            self.pid
        ))
    }
}

/// A running server process.
pub struct Server {
    control: Control,
    home: Home,
}

/// Where the process is.
enum Home {
    /// This one's child.
    Child(Arc<Life>),
    /// Across a network.
    Network(Connection),
}

impl Server {
    /// Starts this same program as a server on the given core. The calling thread is bound to no
    /// core afterwards.
    pub fn start(cpu: usize) -> Result<Self, Failure> {
        // The server and the threads that watch inherit this: none of them may be stuck on the
        // core where the client spins.
        cpus::roam()?;
        let (control, theirs) = Control::pair()?;
        let program = std::env::current_exe().during("finding this program's own file")?;
        let mut child = Command::new(program)
            .args([super::serve::COMMAND, &cpu.to_string()])
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            // Ctrl-C at the terminal is for the client alone, which then ends its server.
            .process_group(0)
            .spawn()
            .during("starting the server process")?;
        let pid = Pid::from_child(&child);
        let process = pidfd_open(pid, PidfdFlags::empty()).during("watching the server process")?;
        let life = Arc::new(Life {
            pid: child.id(),
            process,
            control,
            expected: AtomicBool::new(false),
            ended: Mutex::new(None),
            changed: Condvar::new(),
        });
        ending::adopt(life.pid, life.process.as_fd())?;
        let watched = Arc::clone(&life);
        thread::spawn(move || {
            let Ok(status) = child.wait() else { return };
            *watched.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
            watched.changed.notify_all();
            // A client that spins on shared memory may never notice: then this thread speaks.
            thread::sleep(GRACE);
            if !watched.expected.load(Ordering::Acquire) {
                ending::fail(&watched.obituary(status));
            }
        });
        let server = Self { control: life.control.try_clone()?, home: Home::Child(life) };
        server.expect_done().map_err(|fault| server.explain(fault))?;
        Ok(server)
    }

    /// Takes a server across a network, which has said that it is there.
    pub fn across(connection: Connection) -> Result<Self, Fault> {
        let control = connection.control.try_clone()?;
        Ok(Self { control, home: Home::Network(connection) })
    }

    /// Where this end meets the server, if that is across a network.
    pub fn place(&self) -> Option<&Place> {
        match &self.home {
            Home::Child(_) => None,
            Home::Network(connection) => Some(&connection.place),
        }
    }

    /// Sends a request with descriptors.
    pub fn ask(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), Fault> {
        self.control().send(request, fds)
    }

    /// The next reply, if it comes within the time.
    pub fn reply_within(&self, time: Duration) -> Result<Option<Reply>, Fault> {
        if !self.control().readable_within(time)? {
            return Ok(None);
        }
        match self.control().receive()?.0 {
            Reply::Failed(why) => Err(Fault::Server(why)),
            reply => Ok(Some(reply)),
        }
    }

    /// Waits for [`Reply::Done`].
    pub fn expect_done(&self) -> Result<(), Fault> {
        match self.reply_within(PATIENCE)? {
            Some(Reply::Done) => Ok(()),
            other => Err(unexpected(other.as_ref())),
        }
    }

    /// Waits for [`Reply::Answered`].
    pub fn expect_answered(&self) -> Result<Answered, Fault> {
        match self.reply_within(PATIENCE)? {
            Some(Reply::Answered(answered)) => Ok(answered),
            other => Err(unexpected(other.as_ref())),
        }
    }

    /// Waits for [`Reply::Port`].
    pub fn expect_port(&self) -> Result<u16, Fault> {
        match self.reply_within(PATIENCE)? {
            Some(Reply::Port(port)) => Ok(port),
            other => Err(unexpected(other.as_ref())),
        }
    }

    /// Waits for [`Reply::Absorbed`].
    pub fn expect_absorbed(&self) -> Result<Absorbed, Fault> {
        match self.reply_within(PATIENCE)? {
            Some(Reply::Absorbed(absorbed)) => Ok(absorbed),
            other => Err(unexpected(other.as_ref())),
        }
    }

    /// Waits for [`Reply::Ready`].
    pub fn expect_ready(&self) -> Result<(), Fault> {
        match self.reply_within(PATIENCE)? {
            Some(Reply::Ready) => Ok(()),
            other => Err(unexpected(other.as_ref())),
        }
    }

    /// Moves the server to another core.
    pub fn pin(&self, cpu: usize) -> Result<(), Fault> {
        self.ask(&Request::Pin(cpu), &[])?;
        self.expect_done()
    }

    /// Turns a fault into the failure that the user reads: a dead server explains it.
    pub fn explain(&self, fault: Fault) -> Failure {
        if !matches!(fault, Fault::PeerGone | Fault::Silent) {
            return fault.into();
        }
        match &self.home {
            Home::Child(life) => match life.ended_within(CAUSE) {
                Some(status) => life.obituary(status),
                None => fault.into(),
            },
            Home::Network(connection) => connection.obituary(GRACE).unwrap_or_else(|| fault.into()),
        }
    }

    fn control(&self) -> &Control {
        &self.control
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The connection orders a server across a network to leave.
        let Home::Child(life) = &self.home else { return };
        life.expected.store(true, Ordering::Release);
        // A closed control socket is the server's order to leave.
        self.control.shut_down();
        if life.ended_within(Duration::from_millis(500)).is_none() {
            let _ = pidfd_send_signal(&life.process, Signal::KILL);
            life.ended_within(PATIENCE);
        }
        ending::disown(life.pid);
    }
}

/// Why the server gave up, if it said so.
pub fn last_word(control: &Control) -> Option<String> {
    while control.readable_within(Duration::ZERO).ok()? {
        if let (Reply::Failed(why), _) = control.receive().ok()? {
            return Some(why);
        }
    }
    None
}

fn unexpected(reply: Option<&Reply>) -> Fault {
    match reply {
        None => Fault::Silent,
        Some(reply) => Fault::Other(format!("the server process gave an odd answer: {reply:?}")),
    }
}
