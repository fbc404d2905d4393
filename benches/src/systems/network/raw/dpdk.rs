//! A bare port of DPDK at either end ([`driver_dpdk::raw`]), with the arguments and rings of the address: DPDK's own
//! buffers, and what is echoed goes back in the buffer in which it came.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use driver_dpdk::raw;
use unet::device::Opening;

use super::frame::{Ends, MAX_PAYLOAD};
use super::{Bare, client_half, server_half};
use crate::fault::Fault;
use crate::network::{Place, address};
use crate::process::server::{Request, Server};
use crate::systems::network::{Announce, Network};
use crate::systems::{ClientHalf, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

/// How long the two ends may take to find each other.
const MEETING: Duration = Duration::from_secs(5);
/// To whoever is at the other end.
const BROADCAST: [u8; 6] = [0xff; 6];
/// Buffers in each direction, as many as a device of ours has.
const BUFFERS: usize = 2048;

/// Bare ports of DPDK.
pub struct Dpdk;

impl System for Dpdk {
    fn name(&self) -> &'static str {
        "dpdk/raw"
    }

    fn transport(&self) -> &'static str {
        "by address"
    }

    fn about(&self) -> &'static str {
        "bare DPDK on the address's port, in its own buffers"
    }

    fn payload(&self, _: Bench, asked: usize) -> usize {
        asked.max(size_of::<u64>())
    }

    fn refuses(&self, _: Bench, payload: usize, _: Wait) -> Option<String> {
        (payload > MAX_PAYLOAD).then(|| format!("carries at most {MAX_PAYLOAD} bytes in a frame"))
    }

    fn remark(&self, _: Bench, _: usize) -> Option<String> {
        Some("dpdk/raw: frames are written once; of a message only its number is".to_owned())
    }

    fn answers(&self, bench: Bench) -> bool {
        matches!(bench, Bench::Rtt | Bench::Rate)
    }

    fn waits(&self) -> Option<&'static [Wait]> {
        Some(&[Wait::Spin])
    }

    fn largest(&self) -> usize {
        MAX_PAYLOAD
    }

    fn network(&self) -> Option<&dyn Network> {
        Some(self)
    }
}

impl Network for Dpdk {
    fn bare(&self) -> Option<&'static str> {
        Some(address::DPDK)
    }

    fn crosses(&self, address: &unet::NetworkAddress) -> bool {
        address.scheme == address::DPDK
    }

    fn connect(&self, task: &Task, place: &Place, server: &Server) -> Result<ClientHalf, Fault> {
        server.ask(&Request::Open(task.clone()), &[])?;
        server.expect_port()?;
        let port = open(task, place)?;
        meet(&port)?;
        server.expect_done()?;
        Ok(client_half(port, task))
    }

    fn serve(
        &self,
        task: &Task,
        place: &Place,
        announce: Announce<'_>,
    ) -> Result<ServerHalf, Fault> {
        if !self.answers(task.bench) || task.payload > MAX_PAYLOAD {
            return Err(Fault::Other("dpdk/raw has round trips and a rate, of one frame".into()));
        }
        let port = open(task, place)?;
        announce(place.address.port)?;
        meet(&port)?;
        Ok(server_half(port, task))
    }
}

impl Bare for raw::Port {
    // Such programs do not.
    const PAUSES: bool = false;

    #[inline(always)]
    fn send(&mut self, first: u64, count: u32, len: u32) -> u32 {
        self.send_numbered(first, count, len)
    }

    #[inline(always)]
    fn receive(&mut self, each: impl FnMut(u64)) -> u32 {
        self.receive_numbered(each)
    }

    #[inline(always)]
    fn answer(&mut self, _: u32, each: impl FnMut(u64) -> bool) -> u32 {
        self.answer_numbered(each)
    }
}

/// Opens the port, with frames to whoever is at its other end.
fn open(task: &Task, place: &Place) -> Result<raw::Port, Fault> {
    let address = &place.address;
    let failed = |error: &dyn std::fmt::Display| {
        Fault::Other(format!("opening a bare port for {address} failed: {error}"))
    };
    if !Dpdk.crosses(address) {
        return Err(failed(&"it is for dpdk:PORT"));
    }
    let opening = Opening {
        device: &address.device,
        local: None,
        port: address.port,
        remote: None,
        options: &address.options,
        buffers: BUFFERS,
    };
    let mut port = raw::Port::open(&opening).map_err(|error| failed(&error))?;
    let v4 = |address| match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    };
    let ends = Ends {
        from: port.mac(),
        to: BROADCAST,
        source: v4(place.local),
        destination: v4(place.remote),
        port: address.port,
    };
    port.prepare(&ends.frame(task.payload));
    Ok(port)
}

/// Waits until the other end is there.
fn meet(port: &raw::Port) -> Result<(), Fault> {
    let begun = Instant::now();
    while !port.is_up() {
        if begun.elapsed() > MEETING {
            return Err(Fault::Other("the other end of the DPDK port is not there".to_owned()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
