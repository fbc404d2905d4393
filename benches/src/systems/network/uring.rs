//! The kernel's UDP and TCP by io_uring, in the plainest way ([`driver_udp::raw`]), spinning.

use std::io;
use std::time::{Duration, Instant};

use driver_udp::raw::Ring;

use crate::fault::{During, Fault};
use crate::network::{Place, address};
use crate::process::server::Server;
use crate::systems::kernel::{Line, PATIENCE, RETRY, client_half, server_half};
use crate::systems::network::sockets::Kind;
use crate::systems::network::{Announce, Network};
use crate::systems::{ClientHalf, ServerHalf, System};
use crate::task::{Bench, MAX_DATAGRAM, MAX_STREAMED, Task, Wait};

/// Looks in vain between two at the clock.
const LOOKS: u32 = 1 << 14;
/// The least of a buffer that the kernel fills.
const BUFFER_BYTES: usize = 2048;

/// Both of them.
pub const ALL: &[Uring] = &[
    Uring { name: "udp/io-uring", kind: Kind { stream: false, busy_poll: None } },
    Uring { name: "tcp/io-uring", kind: Kind { stream: true, busy_poll: None } },
];

/// Connected sockets, received from by io_uring.
pub struct Uring {
    name: &'static str,
    kind: Kind,
}

impl System for Uring {
    fn name(&self) -> &'static str {
        self.name
    }

    fn transport(&self) -> &'static str {
        if self.kind.stream { "tcp:" } else { "udp:" }
    }

    fn about(&self) -> &'static str {
        "received by one lasting request of io_uring, without end"
    }

    fn payload(&self, _: Bench, asked: usize) -> usize {
        asked.max(size_of::<u64>())
    }

    fn refuses(&self, _: Bench, payload: usize, _: Wait) -> Option<String> {
        (!self.kind.stream && payload > MAX_DATAGRAM)
            .then(|| format!("carries at most {MAX_DATAGRAM} bytes in a datagram"))
    }

    fn remark(&self, _: Bench, _: usize) -> Option<String> {
        None
    }

    fn answers(&self, bench: Bench) -> bool {
        matches!(bench, Bench::Rtt | Bench::Rate | Bench::Bandwidth)
    }

    fn waits(&self) -> Option<&'static [Wait]> {
        Some(&[Wait::Spin])
    }

    fn largest(&self) -> usize {
        if self.kind.stream { MAX_STREAMED } else { MAX_DATAGRAM }
    }

    fn network(&self) -> Option<&dyn Network> {
        Some(self)
    }
}

impl Network for Uring {
    fn bare(&self) -> Option<&'static str> {
        Some(if self.kind.stream { "tcp" } else { "udp" })
    }

    fn crosses(&self, to: &unet::NetworkAddress) -> bool {
        to.scheme != address::DPDK
    }

    fn connect(&self, task: &Task, place: &Place, server: &Server) -> Result<ClientHalf, Fault> {
        let patience = if self.kind.stream { PATIENCE } else { RETRY };
        let socket = self.kind.connect(task, place, server)?;
        Ok(client_half(self.line(socket, task, patience)?, task))
    }

    fn serve(
        &self,
        task: &Task,
        place: &Place,
        announce: Announce<'_>,
    ) -> Result<ServerHalf, Fault> {
        if task.bench == Bench::Sweep {
            return Err(Fault::Other(format!("{} takes no load in", self.name)));
        }
        let socket = self.kind.serve(task, place, announce)?;
        Ok(server_half(self.line(socket, task, PATIENCE)?, task))
    }
}

impl Uring {
    fn line(
        &self,
        socket: std::os::fd::OwnedFd,
        task: &Task,
        patience: Duration,
    ) -> Result<Received, Fault> {
        rustix::io::ioctl_fionbio(&socket, true).during("choosing how to wait")?;
        let datagrams = !self.kind.stream;
        let ring = Ring::open(socket, datagrams, task.payload.max(BUFFER_BYTES));
        let ring = ring.during("setting up io_uring")?;
        Ok(Received { ring, datagrams, patience })
    }
}

/// A socket whose bytes come by io_uring.
struct Received {
    ring: Ring,
    datagrams: bool,
    patience: Duration,
}

impl Received {
    /// Repeats a look until there is something.
    #[inline(always)]
    fn patiently<T>(
        &mut self,
        mut look: impl FnMut(&mut Ring) -> Result<Option<T>, Fault>,
    ) -> Result<T, Fault> {
        let mut begun: Option<Instant> = None;
        loop {
            for _ in 0..LOOKS {
                if let Some(found) = look(&mut self.ring)? {
                    return Ok(found);
                }
                std::hint::spin_loop();
            }
            if begun.get_or_insert_with(Instant::now).elapsed() > self.patience {
                return Err(Fault::Silent);
            }
        }
    }
}

impl Line for Received {
    #[inline(always)]
    fn datagrams(&self) -> bool {
        self.datagrams
    }

    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        match self.patiently(|ring| ring.try_receive(buffer).during("receiving by io_uring"))? {
            0 => Err(Fault::PeerGone),
            count => Ok(count),
        }
    }

    #[inline]
    fn write(&mut self, mut message: &[u8]) -> Result<(), Fault> {
        while !message.is_empty() {
            let sent = self.patiently(|ring| match ring.send(message) {
                Ok(sent) => Ok(Some(sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error).during("sending a message"),
            })?;
            message = &message[sent..];
        }
        Ok(())
    }

    fn empty(&mut self) -> Result<(), Fault> {
        while self.ring.try_receive(&mut []).during("receiving by io_uring")?.is_some() {}
        Ok(())
    }
}
