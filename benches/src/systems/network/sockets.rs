//! Connected sockets of the kernel between client and server, each bound to the way that the control
//! connection took.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use crate::fault::{During, Fault};
use crate::network::{Place, address};
use crate::process::server::{Request, Server};
use crate::systems::kernel::{PATIENCE, RETRY};
use crate::systems::network::Announce;
use crate::task::Task;

/// What a socket buffers of what arrives, where the kernel's limit allows it.
const ROOM: usize = 4 << 20;
/// How long the client may take to connect.
const MEETING: Duration = Duration::from_secs(5);
/// Strangers that may connect before the client does.
const STRANGERS: usize = 16;

/// How a socket is made.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// TCP, else UDP.
    pub stream: bool,
    /// How long the kernel polls the device before it puts a receiver to sleep.
    pub busy_poll: Option<Duration>,
}

impl Kind {
    /// The client's socket; the server is asked for its own.
    pub fn connect(self, task: &Task, place: &Place, server: &Server) -> Result<OwnedFd, Fault> {
        if place.address.scheme == address::DPDK {
            return Err(Fault::Other(format!("the kernel has no way to {}", place.address)));
        }
        if self.stream {
            server.ask(&Request::Open(task.clone()), &[])?;
            let address = SocketAddr::new(place.remote, server.expect_port()?);
            let stream =
                TcpStream::connect_timeout(&address, MEETING).during("connecting over TCP")?;
            server.expect_done()?;
            return self.finish(stream, PATIENCE);
        }
        let socket = datagrams(place.local)?;
        let port = socket.local_addr().during("asking for a UDP port")?.port();
        server.ask(&Request::Open(Task { port, ..task.clone() }), &[])?;
        let address = SocketAddr::new(place.remote, server.expect_port()?);
        socket.connect(address).during("connecting a UDP socket")?;
        server.expect_done()?;
        self.finish(socket, RETRY)
    }

    /// The server's socket, connected to the client that asks for it and to nobody else.
    pub fn serve(
        self,
        task: &Task,
        place: &Place,
        announce: Announce<'_>,
    ) -> Result<OwnedFd, Fault> {
        if self.stream {
            let listener = TcpListener::bind((place.local, 0)).during("listening on TCP")?;
            announce(listener.local_addr().during("listening on TCP")?.port())?;
            return self.finish(accept(&listener, place.remote)?, PATIENCE);
        }
        let socket = datagrams(place.local)?;
        // The address is the control connection's: nobody can have us send to a third party.
        socket.connect((place.remote, task.port)).during("connecting a UDP socket")?;
        announce(socket.local_addr().during("asking for a UDP port")?.port())?;
        self.finish(socket, PATIENCE)
    }

    fn finish<S: Into<OwnedFd>>(self, socket: S, patience: Duration) -> Result<OwnedFd, Fault> {
        let socket = socket.into();
        let options = SockRef::from(&socket);
        if self.stream {
            options.set_tcp_nodelay(true).during("setting TCP_NODELAY")?;
        }
        // What is lost, or comes from a host that is gone, must not hold a sleeping side for ever.
        options.set_read_timeout(Some(patience)).during("setting a timeout")?;
        options.set_write_timeout(Some(PATIENCE)).during("setting a timeout")?;
        if let Some(time) = self.busy_poll {
            let microseconds = time.as_micros() as u32;
            options.set_busy_poll(microseconds).map_err(|error| {
                Fault::Other(format!("SO_BUSY_POLL, which needs CAP_NET_ADMIN, failed: {error}"))
            })?;
        }
        Ok(socket)
    }
}

fn datagrams(local: IpAddr) -> Result<UdpSocket, Fault> {
    let socket = UdpSocket::bind((local, 0)).during("making a UDP socket")?;
    // As much as the kernel's limit allows, which is no error.
    SockRef::from(&socket).set_recv_buffer_size(ROOM).during("sizing a buffer")?;
    Ok(socket)
}

fn accept(listener: &TcpListener, client: IpAddr) -> Result<TcpStream, Fault> {
    listener.set_nonblocking(true).during("accepting over TCP")?;
    let deadline = Instant::now() + MEETING;
    for _ in 0..STRANGERS {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        poll(&mut [PollFd::new(listener, PollFlags::IN)], timeout.as_ref())
            .during("accepting over TCP")?;
        match listener.accept() {
            Ok((stream, from)) if from.ip().to_canonical() == client => {
                stream.set_nonblocking(false).during("accepting over TCP")?;
                return Ok(stream);
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error).during("accepting over TCP"),
        }
    }
    Err(Fault::Other("the client did not connect".into()))
}
