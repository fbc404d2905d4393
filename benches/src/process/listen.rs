//! `unet-bench serve`: takes clients one at a time, each in a process of its own.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use unet::NetworkAddress;

use crate::fault::{During, Failure, Fault};
use crate::network::{address, netns};
use crate::process::control::Control;
use crate::process::serve::COMMAND;
use crate::process::server::Reply;

/// How long a client waits for the end of the one before.
const HANDOVER: Duration = Duration::from_secs(1);
/// How often the end of a client is looked for while another one waits.
const LOOK: Duration = Duration::from_millis(5);
/// How long a client that is turned away may take to hear it.
const FAREWELL: Duration = Duration::from_millis(100);

/// Serves in a network namespace until the time is over, or for ever; on a leash, until standard input
/// closes.
pub fn run(
    mut uri: NetworkAddress,
    space: &str,
    cpu: usize,
    time: Option<Duration>,
    leashed: bool,
) -> Result<(), Failure> {
    let deadline = time.and_then(|time| Instant::now().checked_add(time));
    let leash = leashed.then(Control::from_stdin).transpose()?;
    // The kernel's way between the two ends is in neither's namespace, where it knows nothing of the device.
    let listener = match address::beside_kernel(&uri.scheme) {
        true => bind(&uri).and_then(|listener| netns::enter(space).map(|()| listener)),
        false => netns::enter(space).and_then(|()| bind(&uri)),
    };
    let listener = listener.inspect_err(|failure| {
        if let Some(leash) = &leash {
            // Whoever holds the leash tells the user.
            let _ = leash.send(&Reply::Failed(failure.to_string()), &[]);
        }
    })?;
    uri.port = listener.local_addr().during("asking for the port")?.port();
    listener.set_nonblocking(true).during("listening")?;
    match &leash {
        Some(leash) => leash.send(&Reply::Port(uri.port), &[])?,
        None => println!("Listening at {uri}."),
    }
    let mut door = Door { listener, cpu, uri, client: None };
    while door.attend(leash.as_ref(), deadline)? {}
    Ok(())
}

/// The one listener, and the one client.
struct Door {
    listener: TcpListener,
    cpu: usize,
    uri: NetworkAddress,
    client: Option<Child>,
}

impl Door {
    /// Waits for a client and lets it in; false when it is time to end.
    fn attend(
        &mut self,
        leash: Option<&Control>,
        deadline: Option<Instant>,
    ) -> Result<bool, Failure> {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        let stdin = io::stdin();
        let stdin = stdin.as_fd();
        if leash.is_some() {
            fds.push(PollFd::new(&stdin, PollFlags::RDHUP));
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Ok(false),
            Err(Errno::INTR) => return Ok(true),
            result => _ = result.during("waiting for a client")?,
        }
        if fds.get(1).is_some_and(|leash| !leash.revents().is_empty()) {
            return Ok(false);
        }
        match self.listener.accept() {
            Ok((stream, _)) => self.let_in(stream),
            Err(error) if is_passing(&error) => {}
            // Descriptors are short, say: that may pass, but not at once.
            Err(_) => std::thread::sleep(LOOK),
        }
        Ok(true)
    }

    /// Starts a process for a client, or turns it away. Nothing that it does is an error here.
    fn let_in(&mut self, stream: TcpStream) {
        if !self.is_free_within(HANDOVER) {
            return turn_away(stream, "another client is being measured: try again later");
        }
        match self.start(stream.try_clone()) {
            Ok(child) => self.client = Some(child),
            Err(_) => turn_away(stream, "the server cannot start a process for another client"),
        }
    }

    fn start(&self, stream: io::Result<TcpStream>) -> Result<Child, Fault> {
        let stream = stream.during("taking a client")?;
        stream.set_nonblocking(false).during("taking a client")?;
        let program = std::env::current_exe().during("finding this program's own file")?;
        Command::new(program)
            .args([COMMAND, &self.cpu.to_string(), "--at", &self.uri.to_string()])
            .stdin(Stdio::from(OwnedFd::from(stream)))
            .stdout(Stdio::null())
            .spawn()
            .during("starting a process for a client")
    }

    fn is_free_within(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while let Some(client) = &mut self.client {
            match client.try_wait() {
                Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK),
                Ok(None) | Err(_) => return false,
                Ok(Some(_)) => self.client = None,
            }
        }
        true
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(mut client) = self.client.take() {
            let _ = client.kill();
            let _ = client.wait();
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | Interrupted | WouldBlock)
}

fn turn_away(stream: TcpStream, why: &str) {
    let told =
        stream.set_nonblocking(false).and_then(|()| stream.set_write_timeout(Some(FAREWELL)));
    if told.is_ok() {
        let _ = Control::over(OwnedFd::from(stream)).send(&Reply::Failed(why.to_owned()), &[]);
    }
}

fn bind(uri: &NetworkAddress) -> Result<TcpListener, Failure> {
    let addresses = match uri.host.is_empty() && !address::beside_kernel(&uri.scheme) {
        true => Ok(vec![
            (Ipv6Addr::UNSPECIFIED, uri.port).into(),
            (Ipv4Addr::UNSPECIFIED, uri.port).into(),
        ]),
        false => address::control(uri),
    };
    addresses
        .and_then(|addresses: Vec<SocketAddr>| TcpListener::bind(&addresses[..]))
        .map_err(|error| Failure::Run(format!("Nothing can listen at TCP for {uri}: {error}.")))
}
