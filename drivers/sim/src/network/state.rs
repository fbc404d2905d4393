//! What is behind the handle of a network.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use unet::device::{DeviceError, OpenError, Statistics};

use super::{Arrived, Name, Port, PortId};
use crate::faults::Dice;
use crate::random::Random;
use crate::wake::Wake;
use crate::{Account, DeviceOptions, Faults};

/// The most devices of a network.
const MAX_PORTS: usize = 4096;
/// The most buffers kept for packets to come.
const SPARE: usize = 1024;

#[derive(Debug)]
enum Clock {
    Virtual(Duration),
    Real(Instant),
}

/// A packet on its way. The first due is the least; of those due together, the one sent first.
#[derive(Debug)]
struct Flight {
    due: Duration,
    order: u64,
    from: Name,
    sender: PortId,
    to: PortId,
    bytes: Vec<u8>,
}

impl Ord for Flight {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Flight {}

/// See the module.
pub(crate) struct State {
    pub seed: u64,
    pub faults: Faults,
    pub mtu: usize,
    pub account: Account,
    clock: Clock,
    ports: Vec<Option<Port>>,
    names: HashMap<Name, PortId>,
    joined: u32,
    flights: BinaryHeap<Reverse<Flight>>,
    order: u64,
    spare: Vec<Vec<u8>>,
}

impl State {
    pub fn new(seed: u64, faults: Faults, real: bool) -> Self {
        let clock = if real { Clock::Real(Instant::now()) } else { Clock::Virtual(Duration::ZERO) };
        Self {
            seed,
            faults,
            mtu: usize::MAX,
            account: Account::default(),
            clock,
            ports: Vec::new(),
            names: HashMap::new(),
            joined: 0,
            flights: BinaryHeap::new(),
            order: 0,
            spare: Vec::new(),
        }
    }

    /// Joins a device. What goes wrong with its packets depends on the seed and on how many were joined
    /// before.
    pub fn join(
        &mut self,
        name: Name,
        options: &DeviceOptions,
        ready: usize,
        wake: Arc<Wake>,
    ) -> Result<PortId, OpenError> {
        if self.names.contains_key(&name) {
            return Err(OpenError::AddressInUse);
        }
        let free = self.ports.iter().position(Option::is_none);
        let place = free.unwrap_or(self.ports.len());
        if place >= MAX_PORTS {
            return Err(OpenError::Busy("a simulated network has 4096 devices at most"));
        }
        self.joined = self.joined.wrapping_add(1);
        let own = Random::new(!self.seed).word() ^ Random::new(self.joined.into()).word();
        let port = Port {
            name,
            generation: self.joined,
            up: true,
            gone: false,
            dice: Dice::new(own),
            sending: 0,
            most: options.queue,
            queue: Default::default(),
            room: ready,
            piece_bytes: options.buffer_bytes as usize,
            pieces: options.pieces,
            dropped: Statistics::default(),
            wake,
            armed: false,
            wakes_at: Duration::MAX,
            wants_to_send: false,
        };
        if place == self.ports.len() {
            self.ports.push(None);
        }
        self.ports[place] = Some(port);
        let id = PortId { place: place as u32, generation: self.joined };
        self.names.insert(name, id);
        Ok(id)
    }

    pub fn is_taken(&self, name: Name) -> bool {
        self.names.contains_key(&name)
    }

    pub fn port(&mut self, id: PortId) -> Option<&mut Port> {
        let port = self.ports.get_mut(id.place as usize)?.as_mut()?;
        (port.generation == id.generation).then_some(port)
    }

    /// Takes a device away: what it counted is there until it is dropped.
    pub fn unplug(&mut self, id: PortId) -> bool {
        let Some(port) = self.port(id).filter(|port| !port.gone) else { return false };
        port.gone = true;
        let (name, waiting) = (port.name, port.queue.drain(..).len());
        if port.armed {
            port.wake.after(Duration::ZERO);
        }
        self.account.abandoned += waiting as u64;
        self.names.remove(&name);
        true
    }

    /// Forgets a device.
    pub fn remove(&mut self, id: PortId) {
        self.unplug(id);
        if self.port(id).is_some() {
            self.ports[id.place as usize] = None;
        }
    }

    pub fn set_link(&mut self, id: PortId, up: bool) -> bool {
        self.pump();
        let Some(port) = self.port(id).filter(|port| !port.gone) else { return false };
        port.up = up;
        if port.armed {
            port.wake.after(Duration::ZERO);
        }
        true
    }

    /// The port of a device, if its link is up.
    pub fn usable(&mut self, id: PortId) -> Result<&mut Port, DeviceError> {
        let port = self.port(id).filter(|port| !port.gone).ok_or(DeviceError::Gone)?;
        if port.up { Ok(port) } else { Err(DeviceError::Down) }
    }

    pub fn now(&self) -> Duration {
        match self.clock {
            Clock::Virtual(now) => now,
            Clock::Real(began) => began.elapsed(),
        }
    }

    pub fn advance(&mut self, by: Duration) {
        if let Clock::Virtual(now) = &mut self.clock {
            *now = now.saturating_add(by);
        }
        self.pump();
    }

    pub fn next_arrival(&self) -> Option<Duration> {
        self.flights.peek().map(|Reverse(flight)| flight.due)
    }

    pub fn under_way(&self) -> (usize, usize) {
        let waiting = self.ports.iter().flatten().map(|port| port.queue.len()).sum();
        (self.flights.len(), waiting)
    }

    /// A buffer for a packet.
    pub fn take_spare(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    pub fn put_spare(&mut self, mut bytes: Vec<u8>) {
        if self.spare.len() < SPARE {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// Takes a packet of a device whose link is up: it is the network's from here on.
    pub fn carry(&mut self, sender: PortId, to: Name, counted_len: usize, mut bytes: Vec<u8>) {
        self.account.sent += 1;
        let faults = self.faults;
        let Some(port) = self.port(sender) else {
            self.account.lost += 1;
            return;
        };
        let fate = port.dice.next(&faults);
        if counted_len > self.mtu || fate.lost {
            let too_long = counted_len > self.mtu;
            let reason = if too_long { &mut self.account.too_long } else { &mut self.account.lost };
            *reason += 1;
            return self.put_spare(bytes);
        }
        let twice = u64::from(fate.second.is_some());
        self.account.duplicated += twice;
        let corrupted = fate.corrupt(&mut bytes);
        self.account.corrupted += u64::from(corrupted) * (1 + twice);
        for delay in [fate.second, Some(fate.first)].into_iter().flatten() {
            self.account.delayed += u64::from(delay > faults.delay);
        }
        if let Some(second) = fate.second {
            let mut copy = self.take_spare();
            copy.extend_from_slice(&bytes);
            // The second copy is the later one, where both take as long.
            self.dispatch(sender, to, fate.first, bytes, corrupted);
            self.dispatch(sender, to, second, copy, corrupted);
        } else {
            self.dispatch(sender, to, fate.first, bytes, corrupted);
        }
    }

    /// Finds out where a packet goes: to one, to nobody, or to everybody else.
    fn dispatch(&mut self, sender: PortId, to: Name, delay: Duration, bytes: Vec<u8>, wrong: bool) {
        match to {
            Name::Frames(mac) if mac[0] & 1 == 1 => self.flood(sender, delay, bytes, wrong),
            _ => match self.names.get(&to).copied() {
                Some(to) => self.fly(sender, to, delay, bytes),
                None => {
                    self.account.nowhere += 1;
                    self.put_spare(bytes);
                }
            },
        }
    }

    fn flood(&mut self, sender: PortId, delay: Duration, bytes: Vec<u8>, wrong: bool) {
        let mut reached = 0;
        for place in 0..self.ports.len() {
            let Some(port) = &self.ports[place] else { continue };
            let to = PortId { place: place as u32, generation: port.generation };
            if to == sender || port.gone || !matches!(port.name, Name::Frames(_)) {
                continue;
            }
            let mut copy = self.take_spare();
            copy.extend_from_slice(&bytes);
            self.fly(sender, to, delay, copy);
            reached += 1;
        }
        self.put_spare(bytes);
        match reached {
            0 => self.account.nowhere += 1,
            _ => {
                self.account.flooded += reached - 1;
                self.account.corrupted += u64::from(wrong) * (reached - 1);
            }
        }
    }

    fn fly(&mut self, sender: PortId, to: PortId, delay: Duration, bytes: Vec<u8>) {
        let due = self.now().saturating_add(delay);
        let real = matches!(self.clock, Clock::Real(_));
        let Some(port) = self.port(sender) else { return };
        port.sending += 1;
        let from = port.name;
        if let Some(port) = self.port(to).filter(|port| real && port.armed && due < port.wakes_at) {
            port.wakes_at = due;
            port.wake.after(delay);
        }
        self.flights.push(Reverse(Flight { due, order: self.order, from, sender, to, bytes }));
        self.order += 1;
    }

    /// Brings what is due to the devices' queues.
    pub fn pump(&mut self) {
        let now = self.now();
        while self.next_arrival().is_some_and(|due| due <= now) {
            let Some(Reverse(flight)) = self.flights.pop() else { return };
            if let Some(sender) = self.port(flight.sender) {
                sender.sending = sender.sending.saturating_sub(1);
                if sender.armed && sender.wants_to_send {
                    sender.wake.after(Duration::ZERO);
                }
            }
            let (arrived, account) =
                (Arrived { from: flight.from, bytes: flight.bytes }, &mut self.account);
            let port = self.ports.get_mut(flight.to.place as usize).and_then(Option::as_mut);
            let is_there = |port: &&mut Port| port.generation == flight.to.generation && !port.gone;
            let port = port.filter(is_there);
            let refused = match port {
                None => {
                    account.nowhere += 1;
                    Err(arrived.bytes)
                }
                Some(port) if !port.up => {
                    account.down += 1;
                    Err(arrived.bytes)
                }
                Some(port) => {
                    account.carried += 1;
                    port.accept(arrived)
                }
            };
            if let Err(bytes) = refused {
                self.put_spare(bytes);
            }
        }
    }

    /// Asks that a device be woken when something happens that it waits for. `false` if it has happened.
    pub fn arm(&mut self, id: PortId) -> Result<bool, DeviceError> {
        self.pump();
        let next = self.next_for(id);
        let now = self.now();
        let port = self.port(id).filter(|port| !port.gone).ok_or(DeviceError::Gone)?;
        let has_room = port.wants_to_send && port.has_room();
        if !port.queue.is_empty() || has_room {
            port.wants_to_send &= !has_room;
            return Ok(false);
        }
        port.armed = true;
        match next {
            Some(due) => {
                port.wakes_at = due;
                port.wake.after(due.saturating_sub(now));
            }
            None => {
                port.wakes_at = Duration::MAX;
                port.wake.off();
            }
        }
        Ok(true)
    }

    /// When something is due that a device waits for, in real time.
    fn next_for(&mut self, id: PortId) -> Option<Duration> {
        let Clock::Real(_) = self.clock else { return None };
        let sending = self.port(id)?.wants_to_send;
        let concerns =
            |flight: &&Reverse<Flight>| flight.0.to == id || sending && flight.0.sender == id;
        self.flights.iter().filter(concerns).map(|flight| flight.0.due).min()
    }
}
