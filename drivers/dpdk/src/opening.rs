//! Opening: DPDK is begun, a port found, its memory made and registered, its queues set up, and whatever was made is
//! taken back where a step fails.

use std::collections::VecDeque;
use std::ptr;
use std::thread;
use std::time::Duration;

use fbufs::{Class, Pool};
use unet::device::held::{Places, Receiving};
use unet::device::{DeviceError, Statistics};

use crate::device::{BURST, DpdkPort, Tables, stock_up};
use crate::eal;
use crate::error::{Error, Said};
use crate::interface::Interface;
use crate::manner::Manner;
use crate::mbufs::Mbufs;
use crate::packets::Packets;
use crate::port::{Options, Port, RECEIVE_QUEUE, is_card, setup, step};
use crate::registered::Registered;
use crate::{rings, upkeep};

const BUFFER_BYTES: std::ops::RangeInclusive<u32> = 2048..=32_768;

/// How often, and how long afterwards, a port is tried again whose former owner has closed it, and the kernel not yet.
const RETRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(20);

impl DpdkPort {
    /// Opens a port by DPDK's device arguments, such as `net_memif0,role=client,socket=/run/memif`, or `0000:3b:00.0`
    /// for a network card, which must be the first port of the process.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// # Cost
    /// The first one begins DPDK: some 100 ms.
    pub fn open(arguments: &str, options: &Options) -> Result<Self, Error> {
        begin(options, is_card(arguments))?;
        let mut tries = 0;
        loop {
            match Self::with(options, || Port::find(arguments)) {
                Err(Error::Step { step: RECEIVE_QUEUE, .. })
                    if Manner::leaves_late(arguments) && tries < RETRIES =>
                {
                    tries += 1;
                    thread::sleep(PAUSE);
                }
                opened => return opened,
            }
        }
    }

    /// Two ports of one process that are joined: what one sends, the other receives. Their names to DPDK are
    /// `net_ring_NAME0` and `net_ring_NAME1`.
    ///
    /// # Errors
    /// [`Error`].
    #[doc(hidden)]
    pub fn pair(name: &str, options: &Options) -> Result<(Self, Self), Error> {
        begin(options, false)?;
        let [first, second] = {
            let _turn = setup();
            rings::pair(name, options.ring)?
        };
        let one = |number: u8, end| {
            Self::with(options, || Port::of_rings(&format!("{name}{number}"), end))
        };
        Ok((one(0, first)?, one(1, second)?))
    }

    /// A device over a port that is found when DPDK is ready.
    fn with(options: &Options, find: impl FnOnce() -> Result<Port, Error>) -> Result<Self, Error> {
        let _turn = setup();
        let class = Class { buffer_bytes: options.buffer_bytes, buffers: options.buffers };
        let pool = Pool::for_device(class, false);
        let mut pool = pool.map_err(|error| Error::Memory(Said(error.to_string())))?;
        let memory =
            pool.memory().ok_or(Error::Unsupported("its pool has no memory of its own"))?;
        let timer = upkeep::timer().map_err(|errno| step("make a timer", errno))?;
        let mut registered = Registered::new(memory);
        // From here on it is closed before what stands above is gone, wherever this ends.
        let mut port = find()?;
        let interface =
            Interface::of(port.interface()).map_err(|errno| step("make a socket", errno))?;
        let mut manner = port.manner(options.copy);
        if manner.shows_all && Registered::all() > 0 {
            return Err(Error::Unsupported(
                "it would show its peer the buffers of other ports, and cannot: give it a process of its own, or have \
                 the others copy (copy=yes)",
            ));
        }
        // A card that cannot reach the pool's memory has packets where it can.
        manner.copies = manner.copies || !port.map(&mut registered)?;
        let socket = port.socket();
        let (packets, receive) = if manner.copies {
            (Some(Packets::new(manner, options.ring, memory.buffer_bytes, socket)?), None)
        } else {
            (None, Some(Mbufs::new(memory.buffers, &memory, socket, !manner.alone)?))
        };
        let places = Places::new(memory.address, memory.buffer_bytes);
        let mut receiving = Receiving::new(places, memory.buffers);
        let mut stock = 0;
        if let Some(receive) = &receive {
            stock = (usize::from(options.ring) + BURST).min(memory.buffers / 2).max(1);
            // A port may take its first ones while it is set up.
            stock_up(&mut pool, &mut receiving, receive, (stock, memory.buffer_bytes));
        }
        let mempool = packets.as_ref().map(Packets::mempool);
        let mempool = mempool.or(receive.as_ref().map(Mbufs::mempool)).unwrap_or(ptr::null_mut());
        let ready = port.start(mempool, options.ring).and_then(|facts| {
            let under_way = usize::from(facts.transmit_ring) + BURST;
            match receive.is_some() {
                true => Ok((
                    facts,
                    Some(Mbufs::new(under_way, &memory, socket, !manner.alone)?),
                    under_way,
                )),
                false => Ok((facts, None, 0)),
            }
        });
        let (facts, transmit, under_way) = match ready {
            Ok(ready) => ready,
            Err(error) => {
                let closed = port.close();
                if closed {
                    packets.map(Packets::free);
                }
                let out = memory.buffers - receiving.count();
                if receive.is_some_and(|receive| !closed || !receive.free(out)) {
                    receiving.leak();
                }
                return Err(error);
            }
        };
        let mbufs = receive.zip(transmit).map(|(receive, transmit)| Tables { receive, transmit });
        let mut device = Self {
            link: Err(DeviceError::Down),
            port,
            registered,
            facts,
            manner,
            interface,
            mbufs,
            packets,
            receiving,
            sent: (0..under_way).map(|_| None).collect(),
            pool,
            places,
            idle: (0..under_way as u32).collect(),
            queue: Vec::with_capacity(under_way.max(BURST)),
            early: VecDeque::with_capacity(BURST),
            burst: vec![ptr::null_mut(); BURST].into(),
            counts: Statistics::default(),
            cramped: false,
            timer,
            nap: upkeep::SHORTEST_NAP,
            armed: false,
            stock,
            longest: 0,
        };
        device.look_at_link();
        Ok(device)
    }
}

/// Begins DPDK for a port, unless what is asked for makes no sense.
fn begin(options: &Options, card: bool) -> Result<(), Error> {
    if !options.buffer_bytes.is_power_of_two() || !BUFFER_BYTES.contains(&options.buffer_bytes) {
        return Err(Error::Unsupported(
            "its buffers are no power of two from 2048 to 32,768 bytes",
        ));
    }
    eal::begin(options.memory, card)
}
