//! A port of DPDK: found, configured, started; stopped and taken away when it is dropped.
//!
//! # Invariants
//!
//! 1. A port's functions are called by one thread at a time: by whoever has the [`Port`], which is no other's.
//! 2. It is stopped and closed before the mempools and the memory that it takes from are gone.
//! 3. Ports, mempools and memory are made and taken away by one thread at a time, which [`setup`] has: DPDK does not
//!    promise that several may.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dpdk_sys as sys;
use fbufs::RegisteredMemory;
use rustix::io::Errno;

use crate::eal::{Memory, check, said};
use crate::error::{Error, Said};
use crate::guard::{Guard, Hold};
use crate::listener::Listener;
use crate::manner::Manner;
use crate::registered::Registered;
use crate::rings;

/// How a port is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where DPDK has its tables; of the first port in a process.
    pub memory: Memory,
    /// How many buffers the device's pool has.
    pub buffers: u32,
    /// Bytes of each: a power of two from 2048 to 32,768.
    pub buffer_bytes: u32,
    /// Entries of each ring, as far as the port has as many.
    pub ring: u16,
    /// Copy what is received and sent even where the port could use the pool's memory.
    pub copy: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory: Memory::default(),
            buffers: 2048,
            buffer_bytes: 2048,
            ring: 512,
            copy: false,
        }
    }
}

/// A step, by its name.
pub(crate) const RECEIVE_QUEUE: &str = "set up the receive queue";

/// What DPDK's interrupt thread does not do in time.
const STUCK: Errno = Errno::TIMEDOUT;

/// The names of the ports that are open.
static OPEN: Mutex<Option<HashSet<String>>> = Mutex::new(None);

/// Whose turn it is to change what DPDK has.
pub(crate) fn setup() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known of a port before it is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub mac: [u8; 6],
    pub mtu: usize,
    /// Whether a packet may be sent in several pieces.
    pub chains: bool,
    /// Entries of its ring to send.
    pub transmit_ring: u16,
}

/// A port that was found, and is closed with this.
pub(crate) struct Port {
    id: u16,
    device: *mut sys::rte_device,
    socket: i32,
    started: bool,
    /// What its hardware can reach.
    mapped: Option<RegisteredMemory>,
    info: sys::rte_eth_dev_info,
    /// Of a port that DPDK's interrupt thread takes down.
    guard: Option<Guard>,
    /// Where it listens, so that DPDK does not for ever.
    listener: Option<Listener>,
    /// Where it is one of a pair.
    end: Option<rings::End>,
    name: Name,
}

/// A port's name, as long as the port is open.
struct Name(String);

impl Name {
    fn take(name: &str) -> Result<Self, Error> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_or_insert_default().insert(name.to_owned()) {
            true => Ok(Self(name.to_owned())),
            false => Err(Error::Busy(name.to_owned())),
        }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.get_or_insert_default().remove(&self.0);
    }
}

/// Whether DPDK's device arguments begin with a PCI address: `0000:3b:00.0`, or without the domain.
pub(crate) fn is_card(arguments: &str) -> bool {
    let name = arguments.split(',').next().unwrap_or_default();
    let is_hex = |text: &str, digits: std::ops::RangeInclusive<usize>| {
        digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut parts = name.rsplit(':');
    let (last, bus) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let domain = parts.next().unwrap_or("0000");
    let is_function = last.split_once('.').is_some_and(|(device, function)| {
        is_hex(device, 1..=2) && matches!(function.as_bytes(), [b'0'..=b'7'])
    });
    parts.next().is_none() && is_function && is_hex(bus, 1..=2) && is_hex(domain, 1..=8)
}

/// What a step that failed is.
pub(crate) fn step(step: &'static str, errno: Errno) -> Error {
    Error::Step { step, errno, said: said() }
}

fn done(what: &'static str, returned: i32) -> Result<i32, Error> {
    check(returned).map_err(|errno| step(what, errno))
}

impl Port {
    /// Finds a port by DPDK's device arguments: `net_memif0,role=client`.
    pub fn find(arguments: &str) -> Result<Self, Error> {
        let name = arguments.split(',').next().unwrap_or_default();
        let no_port = |errno, said| Error::NoPort { name: name.to_owned(), errno, said };
        let is_name = |byte: u8| byte.is_ascii_graphic();
        if name.is_empty() || !arguments.bytes().all(is_name) {
            return Err(no_port(Errno::INVAL, Said::default()));
        }
        let held = Name::take(name)?;
        let [of_device, of_port] =
            [arguments, name].map(|text| CString::new(text).unwrap_or_default());
        let _ = said();
        let hold = Hold::take().ok_or_else(|| step("wait for its interrupt thread", STUCK))?;
        // SAFETY: DPDK has begun, as for all that follows; it copies the text.
        let probed = unsafe { sys::rte_dev_probe(of_device.as_ptr()) };
        check(probed).map_err(|errno| no_port(errno, said()))?;
        let mut id = 0;
        // SAFETY: the name and the number live for the call.
        let found = unsafe { sys::rte_eth_dev_get_port_by_name(of_port.as_ptr(), &mut id) };
        check(found).map_err(|errno| no_port(errno, said()))?;
        drop(hold);
        let mut port = Self::of(id, held)?;
        if port.manner(false).guarded {
            port.listener = Listener::of(arguments);
            port.listener.iter().for_each(Listener::enter);
        }
        Ok(port)
    }

    /// Makes a port of one end of two rings.
    pub fn of_rings(name: &str, end: rings::End) -> Result<Self, Error> {
        let held = Name::take(&format!("net_ring_{name}"))?;
        let name = CString::new(name).unwrap_or_default();
        let _ = said();
        let mut port = Self::of(end.make_port(&name)?, held)?;
        port.end = Some(end);
        Ok(port)
    }

    fn of(id: u16, name: Name) -> Result<Self, Error> {
        let mut info = sys::rte_eth_dev_info::default();
        // SAFETY: `info` lives for the call.
        done("ask the port what it is", unsafe { sys::rte_eth_dev_info_get(id, &mut info) })?;
        // SAFETY: the port was found.
        let socket = unsafe { sys::rte_eth_dev_socket_id(id) };
        let mut port = Self {
            id,
            device: info.device,
            socket,
            started: false,
            mapped: None,
            info,
            guard: None,
            listener: None,
            end: None,
            name,
        };
        if port.manner(false).guarded {
            port.guard = Some(Guard::new()?);
        }
        Ok(port)
    }

    /// Has the port do something with frames: `None` if it is not to, for the moment.
    #[inline(always)]
    pub fn burst<T>(&self, burst: impl FnOnce(u16) -> T) -> Option<T> {
        match &self.guard {
            None => Some(burst(self.id)),
            Some(guard) => guard.burst(|| burst(self.id)),
        }
    }

    /// As [`Port::burst`], for what is to be sent: it may wait for a fifth of a millisecond.
    #[inline(always)]
    pub fn burst_soon<T>(&self, mut burst: impl FnMut(u16) -> T) -> Option<T> {
        match &self.guard {
            None => Some(burst(self.id)),
            Some(guard) => guard.burst_soon(|| burst(self.id)),
        }
    }

    /// Whether it is hardware, by its name: a PCI address.
    pub fn is_card(&self) -> bool {
        is_card(&self.name.0)
    }

    /// The number of the kernel's interface under it: zero where there is none.
    pub fn interface(&self) -> u32 {
        self.info.if_index
    }

    /// How it is treated.
    pub fn manner(&self, copy: bool) -> Manner {
        let name = self.info.driver_name;
        if name.is_null() {
            return Manner::of("", copy);
        }
        // SAFETY: DPDK says that the driver's name stands there, for as long as the driver is loaded.
        let name = unsafe { CStr::from_ptr(name) };
        Manner::of(&name.to_string_lossy(), copy)
    }

    /// The memory that it is nearest to.
    pub fn socket(&self) -> i32 {
        self.socket
    }

    /// Has the port's hardware reach a memory. `false` if it has hardware that cannot.
    pub fn map(&mut self, registered: &mut Registered) -> Result<bool, Error> {
        registered.register()?;
        let memory = *registered.memory();
        let (address, len) = (memory.address as *mut _, memory.buffers * memory.buffer_bytes);
        // SAFETY: the memory outlives the port (invariant 2). A virtual one may refuse: its driver copies, or reads by
        // this process's addresses, which these are.
        if unsafe { sys::rte_dev_dma_map(self.device, address, address as u64, len) } == 0 {
            self.mapped = Some(memory);
        }
        if self.mapped.is_none() && self.is_card() {
            registered.forget();
            return Ok(false);
        }
        Ok(true)
    }

    /// Sets up one queue a direction. Its packets come from a mempool.
    pub fn start(&mut self, mempool: *mut sys::rte_mempool, ring: u16) -> Result<Facts, Error> {
        let id = self.id;
        let chains = self.info.tx_offload_capa & sys::UNET_MULTI_SEGS != 0;
        let mut how = sys::rte_eth_conf::default();
        if chains {
            how.txmode.offloads |= sys::UNET_MULTI_SEGS;
        }
        let socket = self.socket as u32;
        let (mut receive, mut transmit) = (ring, ring);
        let mut mac = sys::rte_ether_addr::default();
        let mut mtu = 0;
        // SAFETY: invariant 1; what is pointed at lives for each call, the mempool for as long as the port is
        // started (invariant 2). A step follows only those that succeeded.
        unsafe {
            done("configure the port", sys::rte_eth_dev_configure(id, 1, 1, &how))?;
            let adjusted = sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut receive, &mut transmit);
            done("size the port's rings", adjusted)?;
            let none = std::ptr::null();
            let queue = sys::rte_eth_rx_queue_setup(id, 0, receive, socket, none, mempool);
            done(RECEIVE_QUEUE, queue)?;
            let queue = sys::rte_eth_tx_queue_setup(id, 0, transmit, socket, std::ptr::null());
            done("set up the transmit queue", queue)?;
            done("start the port", sys::rte_eth_dev_start(id))?;
            self.started = true;
            done("ask for the port's address", sys::rte_eth_macaddr_get(id, &mut mac))?;
            done("ask for the port's MTU", sys::rte_eth_dev_get_mtu(id, &mut mtu))?;
        }
        let facts = Facts { mac: mac.addr_bytes, mtu: mtu.into(), chains, transmit_ring: transmit };
        Ok(facts)
    }

    /// Whether it has a link.
    pub fn is_up(&self) -> bool {
        // SAFETY: invariant 1.
        let is_up = unsafe { sys::unet_is_up(self.id) != 0 };
        if let Some(guard) = &self.guard {
            guard.set_link(is_up);
        }
        is_up
    }

    pub fn mtu(&self) -> Option<usize> {
        let mut mtu = 0;
        // SAFETY: invariant 1; the number lives for the call.
        check(unsafe { sys::rte_eth_dev_get_mtu(self.id, &mut mtu) }).ok().map(|_| mtu.into())
    }

    pub fn statistics(&self) -> sys::rte_eth_stats {
        let mut counts = sys::rte_eth_stats::default();
        // SAFETY: invariant 1; the counts live for the call. Who cannot count leaves zeros.
        unsafe { sys::rte_eth_stats_get(self.id, &mut counts) };
        counts
    }

    /// Stops and closes it, and takes its device away: nothing of a mempool is in its hands afterwards, unless
    /// another port has it. `false` if it cannot be closed, since DPDK's interrupt thread does not come back: then it
    /// stays, with its name and with all that it may use.
    #[must_use]
    pub fn close(&mut self) -> bool {
        if self.device.is_null() {
            return true;
        }
        let device = std::mem::replace(&mut self.device, std::ptr::null_mut());
        let Some(hold) = Hold::take() else {
            tracing::error!(
                port = self.name.0,
                "a port cannot be closed: DPDK's interrupt thread hangs"
            );
            std::mem::forget(std::mem::replace(&mut self.name, Name(String::new())));
            return false;
        };
        // SAFETY: invariants 1 and 3; it is not used again.
        unsafe {
            if self.started {
                sys::rte_eth_dev_stop(self.id);
            }
            sys::rte_eth_dev_close(self.id);
            if let Some(memory) = self.mapped.take() {
                let (address, len) =
                    (memory.address as *mut _, memory.buffers * memory.buffer_bytes);
                sys::rte_dev_dma_unmap(device, address, memory.address as u64, len);
            }
            sys::rte_dev_remove(device);
        }
        if let Some(listener) = self.listener.take() {
            listener.leave();
        }
        if let Some(end) = self.end.take() {
            end.take_back();
        }
        hold.settle();
        true
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_known_by_its_address() {
        for card in ["0000:3b:00.0", "3b:00.7", "10000:01:1f.3,queues=1", "0:0:0.0"] {
            assert!(is_card(card), "{card}");
        }
        for other in [
            "net_memif0",
            "",
            "3b",
            "00.0",
            "3b:00.8",
            "0000:3b:00",
            "a:0000:3b:00.0",
            "net:g0:00.0",
        ] {
            assert!(!is_card(other), "{other}");
        }
    }
}
