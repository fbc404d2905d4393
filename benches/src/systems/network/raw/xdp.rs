//! A bare AF_XDP socket at either end ([`driver_af_xdp::raw`]), on the queue and in the mode that the address
//! names: what nothing over AF_XDP can be faster than. Frames are written once; of each message only its
//! number is written and read.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use driver_af_xdp::options::{Queues, interface_and_queues};
use driver_af_xdp::{Interface, KernelRoutes, Options, raw};
use unet::device::{DeviceError, Opening, Routes};

use super::frame::Ends;
use super::{Bare, Kind, failed};
use crate::fault::Fault;
use crate::network::Place;
use crate::task::Task;

/// How long the other end's Ethernet address is asked for.
const RESOLVING: Duration = Duration::from_secs(2);

/// Bare AF_XDP sockets.
pub struct Xdp;

impl Kind for Xdp {
    const NAME: &'static str = "xdp/raw";
    const SCHEME: &'static str = "xdp";
    const ABOUT: &'static str = "bare AF_XDP sockets on the address's queue, in its mode";
    type Port = Queue;

    /// Opens the queue, with frames to the other end, which is the control connection's.
    fn open(task: &Task, place: &Place) -> Result<Queue, Fault> {
        let address = &place.address;
        let failed = |error: &dyn std::fmt::Display| failed::<Xdp>(place, error);
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (place.local, place.remote) else {
            return Err(failed(&"it is for IPv4"));
        };
        let opening = Opening {
            device: &address.device,
            local: Some(place.local),
            port: address.port,
            remote: None,
            options: &address.options,
            buffers: 2048,
        };
        let options = Options::of(&opening).map_err(|error| failed(&error))?;
        let (name, queues) =
            interface_and_queues(&address.device).map_err(|error| failed(&error))?;
        let Queues::One(queue) = queues else {
            return Err(Fault::Other("the bare loop has one queue: name it".to_owned()));
        };
        let from = Interface::find(name).map_err(|error| failed(&error))?.mac;
        let to = neighbour(name, place.remote).map_err(|error| failed(&error))?;
        let mut socket =
            raw::Socket::open(name, queue, &options).map_err(|error| failed(&error))?;
        let ends = Ends { from, to, source, destination, port: address.port };
        socket.prepare(&ends.frame(task.payload));
        Ok(Queue { socket, words: Vec::new() })
    }
}

/// A bare socket, and what came at once.
pub struct Queue {
    socket: raw::Socket,
    words: Vec<u64>,
}

impl Bare for Queue {
    const PAUSES: bool = true;

    #[inline(always)]
    fn send(&mut self, first: u64, count: u32, len: u32) -> u32 {
        self.socket.send_numbered(first, count, len)
    }

    #[inline(always)]
    fn receive(&mut self, each: impl FnMut(u64)) -> u32 {
        self.socket.receive_numbered(each)
    }

    #[inline(always)]
    fn answer(&mut self, len: u32, mut each: impl FnMut(u64) -> bool) -> u32 {
        let Self { socket, words } = self;
        let came = socket.receive_numbered(|word| words.push(word));
        for word in words.drain(..) {
            if each(word) {
                socket.send_numbered(word, 1, len);
            }
        }
        came
    }
}

/// The Ethernet address of the next hop to a host.
fn neighbour(interface: &str, host: IpAddr) -> Result<[u8; 6], Box<dyn std::error::Error>> {
    let mut routes = KernelRoutes::open(interface)?;
    let begun = Instant::now();
    loop {
        match routes.resolve(host) {
            Ok(way) => return Ok(way.mac),
            Err(DeviceError::Unresolved) if begun.elapsed() < RESOLVING => {
                std::thread::sleep(Duration::from_millis(1));
                _ = routes.maintain()?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
