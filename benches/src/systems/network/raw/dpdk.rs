//! A bare port of DPDK at either end ([`driver_dpdk::raw`]), with the arguments and rings of the address: DPDK's own
//! buffers, and what is echoed goes back in the buffer in which it came.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use driver_dpdk::raw;
use unet::device::Opening;

use super::frame::Ends;
use super::{Bare, Kind, failed};
use crate::fault::Fault;
use crate::network::{Place, address};
use crate::task::Task;

/// How long the two ends may take to find each other.
const MEETING: Duration = Duration::from_secs(5);
/// To whoever is at the other end.
const BROADCAST: [u8; 6] = [0xff; 6];
/// Buffers in each direction, as many as a device of ours has.
const BUFFERS: usize = 2048;

/// Bare ports of DPDK.
pub struct Dpdk;

impl Kind for Dpdk {
    const NAME: &'static str = "dpdk/raw";
    const SCHEME: &'static str = address::DPDK;
    const ABOUT: &'static str = "bare DPDK on the address's port, in its own buffers";
    type Port = raw::Port;

    /// Opens the port, with frames to whoever is at its other end.
    fn open(task: &Task, place: &Place) -> Result<raw::Port, Fault> {
        let address = &place.address;
        let opening = Opening {
            device: &address.device,
            local: None,
            port: address.port,
            remote: None,
            options: &address.options,
            buffers: BUFFERS,
        };
        let mut port = raw::Port::open(&opening).map_err(|error| failed::<Dpdk>(place, &error))?;
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
    fn meet(port: &mut raw::Port) -> Result<(), Fault> {
        let begun = Instant::now();
        while !port.is_up() {
            if begun.elapsed() > MEETING {
                return Err(Fault::Other("the other end of the DPDK port is not there".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
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
