//! The kernel's UDP and TCP across a network, by how both sides wait.

use std::time::Duration;

use crate::fault::Fault;
use crate::measure::load::STAMP;
use crate::network::{Place, address};
use crate::process::server::Server;
use crate::systems::kernel::{End, Ends, RETRY, client_half, server_half};
use crate::systems::network::mailboxes::{Datagrams, Stream};
use crate::systems::network::sockets::Kind;
use crate::systems::network::{Announce, Network};
use crate::systems::{ClientHalf, ServerHalf, System};
use crate::task::{Bench, MAX_DATAGRAM, MAX_STREAMED, Task, Wait};

/// How long the kernel polls for a socket before it sleeps.
const BUSY_POLL: Option<Duration> = Some(Duration::from_micros(50));

/// All of them.
pub const ALL: &[Kernel] = &[
    Kernel {
        name: "udp/blocking",
        about: "blocking reads",
        kind: Kind { stream: false, busy_poll: None },
        wait: Wait::Park,
    },
    Kernel {
        name: "udp/spin",
        about: "reads that do not block, without end",
        kind: Kind { stream: false, busy_poll: None },
        wait: Wait::Spin,
    },
    Kernel {
        name: "udp/busy-poll",
        about: "blocking reads in which the kernel polls the device (SO_BUSY_POLL)",
        kind: Kind { stream: false, busy_poll: BUSY_POLL },
        wait: Wait::Park,
    },
    Kernel {
        name: "tcp/blocking",
        about: "blocking reads, with TCP_NODELAY",
        kind: Kind { stream: true, busy_poll: None },
        wait: Wait::Park,
    },
    Kernel {
        name: "tcp/spin",
        about: "reads that do not block, without end, with TCP_NODELAY",
        kind: Kind { stream: true, busy_poll: None },
        wait: Wait::Spin,
    },
    Kernel {
        name: "tcp/busy-poll",
        about: "blocking reads in which the kernel polls the device, with TCP_NODELAY",
        kind: Kind { stream: true, busy_poll: BUSY_POLL },
        wait: Wait::Park,
    },
];

/// Connected sockets, used in one way.
pub struct Kernel {
    name: &'static str,
    about: &'static str,
    kind: Kind,
    wait: Wait,
}

impl System for Kernel {
    fn name(&self) -> &'static str {
        self.name
    }

    fn transport(&self) -> &'static str {
        if self.kind.stream { "tcp:" } else { "udp:" }
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn payload(&self, bench: Bench, asked: usize) -> usize {
        asked.max(if bench == Bench::Sweep { STAMP } else { size_of::<u64>() })
    }

    fn refuses(&self, _: Bench, payload: usize, _: Wait) -> Option<String> {
        (!self.kind.stream && payload > MAX_DATAGRAM)
            .then(|| format!("carries at most {MAX_DATAGRAM} bytes in a datagram"))
    }

    fn remark(&self, _: Bench, _: usize) -> Option<String> {
        self.kind.busy_poll.map(|_| {
            "busy-poll: a device without interrupts of its own, such as lo or veth, has nothing to \
             poll"
                .to_owned()
        })
    }

    fn answers(&self, bench: Bench) -> bool {
        matches!(bench, Bench::Rtt | Bench::Rate | Bench::Bandwidth | Bench::Sweep)
    }

    fn waits(&self) -> Option<&'static [Wait]> {
        Some(if self.wait == Wait::Spin { &[Wait::Spin] } else { &[Wait::Park] })
    }

    fn largest(&self) -> usize {
        if self.kind.stream { MAX_STREAMED } else { MAX_DATAGRAM }
    }

    fn network(&self) -> Option<&dyn Network> {
        Some(self)
    }
}

impl Network for Kernel {
    fn bare(&self) -> Option<&'static str> {
        Some(if self.kind.stream { "tcp" } else { "udp" })
    }

    fn crosses(&self, to: &unet::NetworkAddress) -> bool {
        to.scheme != address::DPDK
    }

    fn connect(&self, task: &Task, place: &Place, server: &Server) -> Result<ClientHalf, Fault> {
        let socket = self.kind.connect(task, place, server)?;
        if task.bench != Bench::Sweep {
            let end = End::new(Ends::of_socket(socket)?, task, !self.kind.stream)?;
            return Ok(client_half(end.within(RETRY), task));
        }
        Ok(ClientHalf::Load(match self.kind.stream {
            true => Box::new(Stream::new(socket, task)?),
            false => Box::new(Datagrams::new(socket, task)?),
        }))
    }

    fn serve(
        &self,
        task: &Task,
        place: &Place,
        announce: Announce<'_>,
    ) -> Result<ServerHalf, Fault> {
        let socket = self.kind.serve(task, place, announce)?;
        if task.bench != Bench::Sweep {
            return Ok(server_half(
                End::new(Ends::of_socket(socket)?, task, !self.kind.stream)?,
                task,
            ));
        }
        Ok(ServerHalf::Load(match self.kind.stream {
            true => Box::new(Stream::new(socket, task)?),
            false => Box::new(Datagrams::new(socket, task)?),
        }))
    }
}
