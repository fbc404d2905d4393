//! A device of datagrams on a network that all processes of a host can join.
//!
//! A network is a prefix of names in the abstract namespace (unix(7)), a device a datagram socket bound to
//! one: `unet-sim/NETWORK/ADDRESS:PORT`. Who sent a datagram is the kernel's word, for the name of a
//! sender is the one that it has bound. Names have no owners: any process of the same network namespace
//! can join a network, and can take any address that is free.
//!
//! The sender decides what goes wrong; when a packet is due stands in it, and the receiver keeps it until
//! then. A receiver that does not run and whose queue in the kernel is full holds its senders up for
//! [`PATIENCE`] each, after which what is for it is dropped, and counted as [`Count::Failed`].

mod name;
mod receiving;
mod wire;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, sendto, socket_with,
};
use unet::Pool;
use unet::device::{
    Capabilities, Count, Datagrams as _, Destination, Device, DeviceError, OpenError, Outgoing,
    Received, Statistics,
};

use crate::datagrams::EPHEMERAL;
use crate::destinations::{self, Destinations};
use crate::faults::{Dice, Fate};
use crate::stock::{Stock, count, first_packet};
use crate::wake::Wake;
use crate::{Account, DeviceOptions, Faults};
use receiving::Receiving;

/// How long a sender waits for the queue of one receiver.
const PATIENCE: Duration = Duration::from_millis(10);
/// When a sender that was held up tries again.
const RETRY: Duration = Duration::from_micros(100);

/// A device that carries datagrams between the processes of this host.
pub struct HostDatagrams {
    network: String,
    local: SocketAddr,
    options: DeviceOptions,
    faults: Faults,
    dice: Dice,
    /// The fate of the packet that stands first and was not taken.
    drawn: Option<Fate>,
    stock: Stock,
    destinations: Destinations<Peer>,
    socket: OwnedFd,
    receiving: Receiving,
    wake: Wake,
    epoll: OwnedFd,
    armed: bool,
    wants_to_send: bool,
    said: Statistics,
    account: Ledger,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Peer {
    name: SocketAddrUnix,
    /// Since when its queue is full.
    full_since: Option<Duration>,
}

/// What a device's network did with what the device sent: to be read also where the device is a trait
/// object.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Account>>);

impl Ledger {
    /// The account as it is now. What goes wrong is decided, and counted, by the sender: `carried` is what
    /// the kernel took.
    pub fn read(&self) -> Account {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Account)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

enum Sent {
    Yes,
    Full,
    Failed,
}

fn refused(step: &'static str) -> impl Fn(Errno) -> OpenError {
    move |errno| OpenError::Kernel { step, errno }
}

impl HostDatagrams {
    /// Joins a network by its name: 1 to 32 characters. The address need not exist outside; port 0 is any
    /// that is free. What goes wrong with what it sends comes from `seed`.
    ///
    /// # Errors
    /// [`OpenError::AddressInUse`] if a process has the address; [`OpenError::BadValue`];
    /// [`OpenError::Kernel`].
    pub fn join(
        network: &str,
        local: SocketAddr,
        seed: u64,
        faults: Faults,
        options: DeviceOptions,
    ) -> Result<Self, OpenError> {
        options.check(options.mtu)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
            .map_err(refused("make a socket"))?;
        let stock = Stock::new(&options)?;
        let wake = Wake::new().map_err(refused("make a timer"))?;
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(refused("make an epoll"))?;
        for fd in [socket.as_fd(), wake.as_fd()] {
            epoll::add(&epoll, fd, EventData::new_u64(0), EventFlags::IN)
                .map_err(refused("watch a descriptor"))?;
        }
        let local = bind_any(&socket, network, local)?;
        Ok(Self {
            network: network.to_owned(),
            local,
            options,
            faults,
            dice: Dice::new(seed),
            drawn: None,
            stock,
            destinations: Destinations::new(),
            receiving: Receiving::new(network, options),
            socket,
            wake,
            epoll,
            armed: false,
            wants_to_send: false,
            said: Statistics::default(),
            account: Ledger::default(),
            scratch: Vec::new(),
        })
    }

    /// What the network did with what this device sent.
    pub fn ledger(&self) -> Ledger {
        self.account.clone()
    }

    /// Sends what lies in `scratch` behind the header.
    fn send(&mut self, to: Destination, delay: Duration) -> Sent {
        let now = wire::now();
        let header = wire::header(now.saturating_add(delay));
        self.scratch[..wire::HEADER].copy_from_slice(&header);
        let Some(peer) = self.destinations.get_mut(to) else { return Sent::Failed };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendto(&self.socket, &self.scratch, flags, &peer.name) {
            Ok(_) => {
                peer.full_since = None;
                self.account.change(|account| account.carried += 1);
                Sent::Yes
            }
            Err(Errno::CONNREFUSED | Errno::NOENT) => {
                peer.full_since = None;
                self.account.change(|account| account.nowhere += 1);
                Sent::Yes
            }
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => {
                let since = *peer.full_since.get_or_insert(now);
                if now.saturating_sub(since) < PATIENCE { Sent::Full } else { Sent::Failed }
            }
            Err(_) => Sent::Failed,
        }
    }

    /// Sends the packet that was copied to `scratch`, or does what goes wrong with it. `false` if there is
    /// no room.
    fn try_send(&mut self, to: Destination, len: usize) -> bool {
        let fate = match self.drawn.take() {
            Some(fate) => fate,
            None => self.dice.next(&self.faults),
        };
        let corrupted = !fate.lost && fate.corrupt(&mut self.scratch[wire::HEADER..]);
        let sent = if fate.lost { Sent::Yes } else { self.send(to, fate.first) };
        match sent {
            Sent::Full => {
                self.drawn = Some(fate);
                return false;
            }
            Sent::Failed => {
                self.said.add(Count::Failed, 1);
                return true;
            }
            Sent::Yes => count(&mut self.said, Count::Sent, Count::SentBytes, len),
        }
        // A second copy that finds no room is none.
        let second = fate.second.filter(|_| !fate.lost);
        let twice = second.is_some_and(|delay| matches!(self.send(to, delay), Sent::Yes));
        let delay = self.faults.delay;
        self.account.change(|account| {
            account.sent += 1;
            account.lost += u64::from(fate.lost);
            account.duplicated += u64::from(twice);
            account.corrupted += u64::from(corrupted) * (1 + u64::from(twice));
            account.delayed += u64::from(!fate.lost && fate.first > delay);
            account.delayed += u64::from(second.is_some_and(|second| twice && second > delay));
        });
        true
    }
}

/// Binds a socket to an address's name, or to that of any port that is free.
fn bind_any(
    socket: &OwnedFd,
    network: &str,
    mut local: SocketAddr,
) -> Result<SocketAddr, OpenError> {
    let any = local.port() == 0;
    let candidates = if any { EPHEMERAL } else { local.port()..=local.port() };
    for port in candidates {
        local.set_port(port);
        match bind(socket, &name::of(network, local)?) {
            Ok(()) => return Ok(local),
            Err(Errno::ADDRINUSE) => {}
            Err(errno) => return Err(OpenError::Kernel { step: "bind the name", errno }),
        }
    }
    Err(OpenError::AddressInUse)
}

impl AsFd for HostDatagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Device for HostDatagrams {
    fn capabilities(&self) -> Capabilities {
        self.options.capabilities(self.options.mtu)
    }

    fn statistics(&mut self) -> Statistics {
        self.said
    }

    fn pool(&mut self) -> &mut Pool {
        &mut self.stock.pool
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        self.receiving.take_in(&self.socket, &mut self.said);
        let now = wire::now();
        let next = self.receiving.next_due();
        if next.is_some_and(|due| due <= now) {
            return Ok(false);
        }
        let retry = self.wants_to_send.then_some(now.saturating_add(RETRY));
        self.armed = true;
        match next.into_iter().chain(retry).min() {
            Some(due) => self.wake.after(due.saturating_sub(now)),
            None => self.wake.off(),
        }
        Ok(true)
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        self.receiving.take_in(&self.socket, &mut self.said);
        self.stock.refill();
        Ok(())
    }
}

impl unet::device::Datagrams for HostDatagrams {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn open(&mut self, to: SocketAddr) -> Result<Destination, DeviceError> {
        destinations::check(self.local, to)?;
        let name = name::of(&self.network, to).map_err(|_| DeviceError::Unreachable)?;
        self.destinations.open(Peer { name, full_since: None })
    }

    fn close(&mut self, destination: Destination) {
        self.destinations.close(destination);
    }

    fn max_payload(&self, _: Destination) -> usize {
        self.options.mtu
    }

    fn transmit(&mut self, datagrams: &mut VecDeque<Outgoing>) -> Result<(), DeviceError> {
        self.stock.refill();
        self.wants_to_send = false;
        while let Some(pieces) = first_packet(datagrams, |outgoing| outgoing.piece.more) {
            let Some(to) = datagrams.front().map(|outgoing| outgoing.to) else { break };
            let packet = || datagrams.iter().take(pieces).map(|outgoing| &outgoing.piece.bytes);
            let refusal = self.stock.refusal(packet(), self.options.pieces, 0..=self.options.mtu);
            let unknown = self.destinations.get(to).is_none().then_some(Count::Unresolved);
            let taken = if let Some(reason) = refusal.or(unknown) {
                self.said.add(reason, 1);
                true
            } else {
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear();
                scratch.resize(wire::HEADER, 0);
                packet().for_each(|piece| scratch.extend_from_slice(piece));
                let len = scratch.len() - wire::HEADER;
                self.scratch = scratch;
                self.try_send(to, len)
            };
            if !taken {
                self.wants_to_send = true;
                break;
            }
            for outgoing in datagrams.drain(..pieces) {
                self.stock.pool.recycle(outgoing.piece.bytes);
            }
        }
        Ok(())
    }

    fn receive(&mut self, into: &mut Vec<Received>) -> Result<(), DeviceError> {
        if std::mem::take(&mut self.armed) {
            self.wake.off();
        }
        self.receiving.take_in(&self.socket, &mut self.said);
        self.stock.refill();
        let now = wire::now();
        for _ in 0..self.options.burst {
            let Some((from, bytes)) = self.receiving.pop(now) else { break };
            let hand = |piece| into.push(Received { from, piece });
            if self.stock.land(&bytes, hand) {
                count(&mut self.said, Count::Received, Count::ReceivedBytes, bytes.len());
            } else {
                self.said.add(Count::NoBuffer, 1);
            }
            self.receiving.give_back(bytes);
        }
        self.stock.refill();
        Ok(())
    }
}

impl std::fmt::Debug for HostDatagrams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("HostDatagrams");
        out.field("network", &self.network).field("local", &self.local()).finish()
    }
}
