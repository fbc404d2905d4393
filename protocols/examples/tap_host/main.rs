//! A whole host in a process: it answers the Linux kernel, or anybody else, through a TAP device.
//!
//! ```text
//! tap_host NAME        makes the device NAME and runs until its standard input ends
//! ```
//!
//! It is 192.0.2.2/24 and 2001:db8::2/64; it answers ARP, neighbour discovery and pings, echoes UDP
//! at port 7, and at port 53 answers every question for an address of `host.example`. In the end it
//! prints what its layers counted. Needs to be run by who may make network devices: in a network
//! namespace of one's own that is everybody, see `xtask/src/lab.rs`.

mod dns;

use std::error::Error;
use std::io::{IoSlice, Write as _};
use std::os::fd::AsFd as _;
use std::time::Instant as Clock;

use fbufs::{Class, PoolOptions};
use protocols::{
    Delivery, Description, Graph, Instant, Kinds, Limits, Message, NodeId, Participants, Pool,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tappers::{Interface, Tap};

/// The graph, upper layers first.
const GRAPH: &str = "
    udp: ipv4 ipv6
    icmp: ipv4 ipv6
    ipv4(address=192.0.2.2/24, gateway=192.0.2.1): arp
    arp(mac=02:00:00:00:00:02, address=192.0.2.2): ether
    ipv6(mac=02:00:00:00:00:02, address=2001:db8::2/64, gateway=2001:db8::1): ether
    ether(mac=02:00:00:00:00:02): tap
    tap = device(mtu=1514)
";

const ECHO: u16 = 7;
const DNS: u16 = 53;
/// Room for the headers of whatever is sent from a received buffer.
const HEADROOM: usize = 128;
/// The longest frame that can come.
const FRAME: usize = 1514;
/// Buffers for what comes in: more than the layers together keep of what waits for something.
const BUFFERS: Class = Class { buffer_bytes: 2048, buffers: 256 };
/// Frames taken from the device between two looks at its output.
const BURST: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).ok_or("say which device to make: tap_host NAME")?;
    let mut tap = Tap::new_named(Interface::new(&name)?)?;
    tap.set_nonblocking(true)?;
    let mut host = Host::new(tap)?;
    println!("{name} is there");
    host.run()?;
    let mut out = std::io::stdout().lock();
    host.graph.statistics(|node, what, count| {
        // Nobody reads any more: then nobody wants to know.
        let _ = writeln!(out, "{node} {what} {count}");
    });
    Ok(())
}

struct Host {
    tap: Tap,
    device: NodeId,
    graph: Graph,
    /// Of the frames that come in; the graph has its own for what the layers make.
    pool: Pool,
    start: Clock,
}

impl Host {
    fn new(tap: Tap) -> Result<Self, Box<dyn Error>> {
        let description: Description = GRAPH.parse()?;
        let pool = Pool::new(PoolOptions::default())?;
        let mut graph = Graph::new(&description, &Kinds::standard(), pool, Limits::default())?;
        for port in [ECHO, DNS] {
            let mut who = Participants::default();
            who.local.port = Some(port);
            graph.listen("udp", who)?;
        }
        let device = graph.node("tap").ok_or("the graph has no device")?;
        let mut options = PoolOptions { classes: Default::default(), ..PoolOptions::default() };
        options.classes[0] = BUFFERS;
        let pool = Pool::new(options)?;
        Ok(Self { tap, device, graph, pool, start: Clock::now() })
    }

    fn now(&self) -> Instant {
        Instant(self.start.elapsed().as_nanos() as u64)
    }

    fn run(&mut self) -> Result<(), Box<dyn Error>> {
        let stdin = std::io::stdin();
        loop {
            let now = self.now();
            let sleep = self.graph.next_wake().map(|wake| wake - now);
            let sleep = sleep.map(Timespec::try_from).transpose()?;
            let mut ready = [
                PollFd::from_borrowed_fd(self.tap.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN),
            ];
            match poll(&mut ready, sleep.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if !ready[1].revents().is_empty() {
                return Ok(());
            }
            self.turn()?;
        }
    }

    /// Everything that can be done now.
    fn turn(&mut self) -> Result<(), Box<dyn Error>> {
        loop {
            let now = self.now();
            let mut received = 0;
            while received < BURST
                && let Some(frame) = self.receive()?
            {
                self.graph.receive(now, self.device, frame);
                received += 1;
            }
            while let Some(delivery) = self.graph.received() {
                self.answer(delivery, now);
            }
            self.graph.poll(now);
            while let Some(frame) = self.graph.transmitted(self.device) {
                self.send(&frame)?;
            }
            if received < BURST {
                return Ok(());
            }
        }
    }

    fn receive(&mut self) -> Result<Option<Message>, Box<dyn Error>> {
        let Ok(mut buffer) = self.pool.alloc_with_headroom(HEADROOM, FRAME) else {
            // All are held, by fragments or by the output; the device keeps its frames meanwhile.
            return Ok(None);
        };
        match rustix::io::read(self.tap.as_fd(), &mut buffer[..]) {
            Ok(len) => {
                buffer.truncate(len);
                Ok(Some(buffer.into()))
            }
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn send(&self, frame: &Message) -> Result<(), Box<dyn Error>> {
        let Some(slices) = frame.io_slices() else { return Ok(()) };
        let slices: Vec<IoSlice<'_>> = slices.collect();
        match rustix::io::writev(self.tap.as_fd(), &slices) {
            // Like a full link, or a device that is down: the frame is lost.
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::IO) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The services.
    fn answer(&mut self, delivery: Delivery, now: Instant) {
        let Delivery { session, message, participants } = delivery;
        let answer = match participants.local.port {
            // Another service's port: the two would talk to each other for ever.
            _ if participants.remote.port.is_none_or(|port| port < 1024) => None,
            Some(ECHO) => Some(message),
            Some(DNS) => dns::answer(&message, &mut self.pool, HEADROOM),
            _ => None,
        };
        if let Some(answer) = answer {
            // A session that was closed meanwhile has nobody who waits.
            let _ = self.graph.push_to(now, session, answer, &participants);
        }
    }
}
