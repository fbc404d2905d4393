//! A device for the tests: a hub within the process, whose wires the test can cut, and whose datagrams it
//! can look at, keep, spoil and forge.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::write;
use unet::device::{
    Capabilities, Count, Datagrams, Destination, Device, DeviceError, Driver, Kick, Mode,
    OpenError, Opening, Outgoing, Piece, Received, Statistics,
};
use unet::{Class, Fbuf, FbufMut, Pool, PoolOptions};

/// What happens to a datagram on its way.
pub type Fate = dyn FnMut(SocketAddr, SocketAddr, Vec<u8>) -> Vec<Vec<u8>> + Send;

#[derive(Default)]
struct Hub {
    ports: HashMap<SocketAddr, VecDeque<(SocketAddr, Vec<u8>)>>,
    bells: HashMap<SocketAddr, Arc<OwnedFd>>,
    fate: Option<Box<Fate>>,
    next_port: u16,
    down: bool,
    gone: bool,
    maintained: u32,
}

/// The driver: clone it to give it to several endpoints.
#[derive(Clone, Default)]
pub struct Wires {
    hub: Arc<Mutex<Hub>>,
    pub mtu: Option<usize>,
    pub shape: Shape,
}

/// What a device's pieces are like.
#[derive(Clone, Copy)]
pub struct Shape {
    pub headroom: usize,
    pub piece_bytes: usize,
    pub pieces: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { headroom: 0, piece_bytes: 2048, pieces: 1 }
    }
}

impl Wires {
    /// Decides what becomes of each datagram from now on.
    pub fn decide(
        &self,
        fate: impl FnMut(SocketAddr, SocketAddr, Vec<u8>) -> Vec<Vec<u8>> + Send + 'static,
    ) {
        self.hub.lock().expect("no panic").fate = Some(Box::new(fate));
    }

    /// Delivers everything from now on.
    pub fn deliver_all(&self) {
        self.hub.lock().expect("no panic").fate = None;
    }

    /// Puts a datagram on the wire, whoever it says that it is from.
    pub fn forge(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.hub.lock().expect("no panic").arrive(from, to, bytes.to_vec());
    }

    pub fn set_down(&self, down: bool) {
        self.hub.lock().expect("no panic").down = down;
    }

    pub fn take_away(&self) {
        self.hub.lock().expect("no panic").gone = true;
    }

    /// How often its devices were maintained.
    pub fn maintained(&self) -> u32 {
        self.hub.lock().expect("no panic").maintained
    }

    pub fn bring_back(&self) {
        self.hub.lock().expect("no panic").gone = false;
    }
}

impl Hub {
    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if let Some(queue) = self.ports.get_mut(&to) {
            queue.push_back((from, bytes));
            if let Some(bell) = self.bells.get(&to) {
                let _ = write(&**bell, &1u64.to_ne_bytes());
            }
        }
    }

    fn state(&self) -> Result<(), DeviceError> {
        match (self.gone, self.down) {
            (true, _) => Err(DeviceError::Gone),
            (_, true) => Err(DeviceError::Down),
            _ => Ok(()),
        }
    }
}

impl Driver for Wires {
    fn scheme(&self) -> &'static str {
        "wires"
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn Datagrams>, OpenError> {
        opening.only_options("none")?;
        let mut hub = self.hub.lock().expect("no panic");
        hub.next_port += 1;
        let port = if opening.port == 0 { 40_000 + hub.next_port } else { opening.port };
        let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        if hub.ports.contains_key(&local) {
            return Err(OpenError::AddressInUse);
        }
        let bell = Arc::new(eventfd(0, EventfdFlags::NONBLOCK).expect("a descriptor"));
        hub.ports.insert(local, VecDeque::new());
        hub.bells.insert(local, bell.clone());
        let mut classes = [Class::default(); 6];
        classes[0] = Class { buffer_bytes: 2048, buffers: opening.buffers as u32 };
        let pool = Pool::new(PoolOptions { classes, ..PoolOptions::default() }).expect("memory");
        let mtu = self.mtu.unwrap_or(1472);
        let statistics = Statistics::default();
        let hub = self.hub.clone();
        let (shape, peers, held) = (self.shape, Vec::new(), VecDeque::new());
        Ok(Box::new(Port { hub, local, bell, pool, mtu, shape, statistics, peers, held }))
    }
}

struct Port {
    hub: Arc<Mutex<Hub>>,
    local: SocketAddr,
    bell: Arc<OwnedFd>,
    pool: Pool,
    mtu: usize,
    shape: Shape,
    statistics: Statistics,
    peers: Vec<Option<SocketAddr>>,
    /// What may wait for the next transmit.
    held: VecDeque<Outgoing>,
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut hub = self.hub.lock().expect("no panic");
        hub.ports.remove(&self.local);
        hub.bells.remove(&self.local);
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (*self.bell).as_fd()
    }
}

impl Device for Port {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mode: Mode::Simulated,
            mtu: self.mtu,
            headroom: self.shape.headroom,
            piece_bytes: self.shape.piece_bytes,
            pieces: self.shape.pieces,
            burst: 16,
            stock: 0,
        }
    }

    fn statistics(&mut self) -> Statistics {
        self.statistics
    }

    fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        let hub = self.hub.lock().expect("no panic");
        hub.state()?;
        let _ = rustix::io::read(&*self.bell, &mut [0; 8]);
        Ok(hub.ports[&self.local].is_empty())
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        let mut hub = self.hub.lock().expect("no panic");
        hub.maintained += 1;
        hub.state()
    }
}

impl Datagrams for Port {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn open(&mut self, to: SocketAddr) -> Result<Destination, DeviceError> {
        // As devices of frames do, which know no zones.
        self.peers.push(Some(SocketAddr::new(to.ip().to_canonical(), to.port())));
        Ok(Destination(self.peers.len() as u32 - 1))
    }

    fn close(&mut self, destination: Destination) {
        self.peers[destination.0 as usize] = None;
    }

    fn max_payload(&self, _: Destination) -> usize {
        self.mtu
    }

    fn transmit(&mut self, datagrams: &mut VecDeque<Outgoing>) -> Result<(), DeviceError> {
        let mut hub = self.hub.lock().expect("no panic");
        hub.state()?;
        let mut bytes = Vec::new();
        for Outgoing { to, piece } in self.held.drain(..).chain(datagrams.drain(..)) {
            bytes.extend_from_slice(&piece.bytes);
            if piece.more {
                continue;
            }
            let bytes = std::mem::take(&mut bytes);
            let Some(to) = self.peers[to.0 as usize] else { continue };
            self.statistics.add(Count::Sent, 1);
            let fate = match &mut hub.fate {
                Some(fate) => fate(self.local, to, bytes),
                None => vec![bytes],
            };
            fate.into_iter().for_each(|bytes| hub.arrive(self.local, to, bytes));
        }
        Ok(())
    }

    fn transmit_one(&mut self, to: Destination, payload: Fbuf, kick: Kick) -> Result<(), Fbuf> {
        if self.hub.lock().expect("no panic").state().is_err() {
            return Err(payload);
        }
        self.held.push_back(Outgoing { to, piece: Piece::whole(payload) });
        if kick == Kick::Now {
            self.transmit(&mut VecDeque::new()).expect("it is up");
        }
        Ok(())
    }

    fn receive_one(&mut self) -> Option<(SocketAddr, FbufMut)> {
        let mut hub = self.hub.lock().expect("no panic");
        hub.state().ok()?;
        let room = self.shape.piece_bytes;
        let queue = hub.ports.get_mut(&self.local).expect("it is open");
        let mut fbuf = match queue.front() {
            Some((_, bytes)) if bytes.len() <= room => self.pool.alloc(bytes.len()).ok()?,
            _ => return None,
        };
        let (from, bytes) = queue.pop_front()?;
        fbuf.copy_from_slice(&bytes);
        self.statistics.add(Count::Received, 1);
        Some((from, fbuf))
    }

    fn receive(&mut self, into: &mut Vec<Received>) -> Result<(), DeviceError> {
        let mut hub = self.hub.lock().expect("no panic");
        hub.state()?;
        for _ in 0..16 {
            let queue = hub.ports.get_mut(&self.local).expect("it is open");
            let Some((from, bytes)) = queue.pop_front() else { return Ok(()) };
            let (first, room) = (into.len(), self.shape.piece_bytes);
            for part in bytes.chunks(room).chain(bytes.is_empty().then_some(&[][..])) {
                let Ok(mut fbuf) = self.pool.alloc(part.len()) else {
                    into.truncate(first);
                    break;
                };
                fbuf.copy_from_slice(part);
                into.push(Received { from, piece: Piece { bytes: fbuf, more: true } });
            }
            match into[first..].last_mut() {
                Some(last) => {
                    last.piece.more = false;
                    self.statistics.add(Count::Received, 1);
                }
                None => self.statistics.add(Count::NoBuffer, 1),
            }
        }
        Ok(())
    }
}
