//! The control connection to a server across a network, as the client sees it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use unet::NetworkAddress;

use crate::cpus;
use crate::fault::{During, Failure, Fault};
use crate::network::netns::Home;
use crate::network::{Place, address};
use crate::process::control::Control;
use crate::process::ending;
use crate::process::server::{GRACE, PATIENCE, Reply, last_word};

/// A connection to a server, watched: its end is the end of the run.
pub struct Connection {
    /// Requests go and replies come here.
    pub control: Control,
    /// The two ends.
    pub place: Place,
    server: SocketAddr,
    expected: Arc<AtomicBool>,
}

impl Connection {
    /// Connects to the first of the addresses that answers, from another namespace if there is one, and waits until the
    /// server is free.
    pub fn open(
        address: &NetworkAddress,
        servers: &[SocketAddr],
        home: Option<&Home>,
    ) -> Result<Self, Fault> {
        let connect = || first_that_answers(servers);
        let stream = match home {
            None => connect(),
            Some(home) => home.within(connect).and_then(|stream| stream),
        };
        let stream = stream.map_err(|why| {
            Fault::Other(format!(
                "no server answers at {address} ({why}): start one there with \
                 `unet-bench serve {address}`"
            ))
        })?;
        let (server, local) = prepare(&stream)?;
        let remote = address::server(address, server.ip());
        let place = Place { address: address.clone(), local: local.ip(), remote };
        let control = Control::over(OwnedFd::from(stream));
        if !control.readable_within(PATIENCE)? {
            return Err(Fault::Silent);
        }
        match control.receive()? {
            (Reply::Done, _) => {}
            (Reply::Failed(why), _) => return Err(Fault::Server(why)),
            (other, _) => return Err(Fault::Other(format!("{server} answers oddly: {other:?}"))),
        }
        let connection = Self { control, place, server, expected: Arc::default() };
        connection.watch()?;
        Ok(connection)
    }

    /// A client that spins on its own socket may never notice the end: then a thread speaks.
    fn watch(&self) -> Result<(), Fault> {
        cpus::roam()?;
        let (control, expected) = (self.control.try_clone()?, Arc::clone(&self.expected));
        let server = self.server;
        thread::spawn(move || {
            control.wait_for_hang_up();
            thread::sleep(GRACE);
            if !expected.load(Ordering::Acquire) {
                ending::fail(&ended(&control, server));
            }
        });
        Ok(())
    }

    /// Why the server ended, if it does within the time.
    pub fn obituary(&self, time: Duration) -> Option<Failure> {
        self.control.hung_up_within(Some(time)).then(|| ended(&self.control, self.server))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.expected.store(true, Ordering::Release);
        self.control.shut_down();
    }
}

fn first_that_answers(servers: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut refused = io::Error::other("it has no address");
    for server in servers {
        match TcpStream::connect_timeout(server, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(why) => refused = why,
        }
    }
    Err(refused)
}

fn ended(control: &Control, server: SocketAddr) -> Failure {
    match last_word(control) {
        Some(why) => Fault::Server(why).into(),
        None => Failure::Run(format!(
            "The server at {server} ended in the middle of the run, so there is no result; run the \
             benchmark again."
        )),
    }
}

/// Bounds every wait of a control connection, and gives its ends: the other's, then this one.
pub fn prepare(stream: &TcpStream) -> Result<(SocketAddr, SocketAddr), Fault> {
    const CHECK: Duration = Duration::from_secs(2);
    let alive = TcpKeepalive::new().with_time(2 * CHECK).with_interval(CHECK).with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&alive).during("watching a connection")?;
    stream.set_nodelay(true).during("setting TCP_NODELAY")?;
    stream.set_read_timeout(Some(PATIENCE)).during("setting a timeout")?;
    stream.set_write_timeout(Some(PATIENCE)).during("setting a timeout")?;
    let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let remote = stream.peer_addr().during("asking who connects")?;
    let local = stream.local_addr().during("asking for a local address")?;
    Ok((canonical(remote), canonical(local)))
}
