//! The device passes the suite for devices of frames, over a veth pair, in both modes that veth has, with
//! frames of one piece and of several.

mod support;

use std::time::{Duration, Instant};

use driver_af_xdp::{AfXdp, EveryQueue, Options, Way};
use support::{Pair, frame::Udp4, ip, options};
use unet::conformance::{self, Bench, OverFrames, Verdict};
use unet::device::{Device, Frames, Piece};

/// Left out by a device of one piece.
const PIECES: &str = "pieces";
/// On veth the kernel sends within the system call: there is room again before there is none. What does not
/// fit into the ring is tested in `traffic`.
const ROOM: &str = "room_to_send";

/// One veth pair after the other, each with a device at both ends.
struct OnVeth {
    way: Way,
    mtu: u32,
    buffers: u32,
    packets: u64,
    pair: Option<Pair>,
}

fn header(from: [u8; 6], to: [u8; 6], payload: usize) -> Vec<u8> {
    let mut frame = Udp4::between(from, to, support::PORT).frame(&vec![0; payload]);
    frame.truncate(42);
    frame
}

impl OnVeth {
    fn end(&self, name: &str) -> Result<OverFrames<AfXdp>, String> {
        let options = Options { ..options(self.way, self.buffers) };
        let device = AfXdp::open(name, 0, &options).map_err(|error| error.to_string())?;
        Ok(OverFrames::new(device).with_header(Box::new(header)))
    }
}

impl Bench for OnVeth {
    type End = OverFrames<AfXdp>;

    fn pair(&mut self) -> Result<(Self::End, Self::End), String> {
        self.pair = None;
        let pair = Pair::with(self.mtu, 1);
        let ends = (self.end(&pair.near)?, self.end(&pair.far)?);
        self.pair = Some(pair);
        Ok(ends)
    }

    fn set_link(&mut self, up: bool) -> Result<bool, String> {
        let pair = self.pair.as_ref().ok_or("there is no pair")?;
        ip(&format!("link set {} {}", pair.near, if up { "up" } else { "down" }));
        Ok(true)
    }

    fn packets(&self) -> u64 {
        self.packets
    }
}

fn conforms(way: Way, mtu: u32, buffers: u32, packets: u64, may_be_left_out: &[&str]) {
    let report = conformance::frames(&mut OnVeth { way, mtu, buffers, packets, pair: None });
    println!("{report}");
    assert!(report.is_ok(), "{report}");
    let mut left_out = report.0.iter().filter(|(_, outcome)| *outcome != Ok(Verdict::Shown));
    assert!(left_out.all(|(name, _)| may_be_left_out.contains(name)), "{report}");
}

#[test]
fn in_generic_mode() {
    conforms(Way::Generic, 1500, 256, 50_000, &[PIECES, ROOM]);
}

#[test]
fn in_native_mode() {
    conforms(Way::Native, 1500, 256, 50_000, &[PIECES, ROOM]);
}

#[test]
fn with_few_buffers() {
    conforms(Way::Generic, 1500, 32, 20_000, &[PIECES, ROOM]);
}

#[test]
fn with_frames_of_several_pieces() {
    conforms(Way::Generic, 9000, 256, 20_000, &[ROOM]);
    conforms(Way::Native, 9000, 256, 20_000, &[ROOM]);
}

/// A pair whose ends have two queues, in one device each.
struct OnQueues(OnVeth);

impl Bench for OnQueues {
    type End = OverFrames<EveryQueue>;

    fn pair(&mut self) -> Result<(Self::End, Self::End), String> {
        self.0.pair = None;
        let pair = Pair::with(self.0.mtu, 2);
        let options = options(self.0.way, self.0.buffers);
        let end = |name: &str| {
            let device = EveryQueue::open(name, &options).map_err(|error| error.to_string())?;
            assert_eq!(device.queues(), 2);
            Ok::<_, String>(OverFrames::new(device).with_header(Box::new(header)))
        };
        let ends = (end(&pair.near)?, end(&pair.far)?);
        self.0.pair = Some(pair);
        Ok(ends)
    }

    fn set_link(&mut self, up: bool) -> Result<bool, String> {
        self.0.set_link(up)
    }

    fn packets(&self) -> u64 {
        self.0.packets
    }
}

#[test]
fn with_every_queue_in_one_device() {
    for way in [Way::Generic, Way::Native] {
        let on_veth = OnVeth { way, mtu: 1500, buffers: 256, packets: 20_000, pair: None };
        let report = conformance::frames(&mut OnQueues(on_veth));
        println!("{report}");
        assert!(report.is_ok(), "{report}");
    }
}

#[test]
fn what_comes_in_on_any_queue_is_received() {
    let pair = Pair::with(1500, 2);
    let options = options(Way::Native, 64);
    let mut every = EveryQueue::open(&pair.far, &options).expect("both queues are free");
    let program = driver_af_xdp::open::attach(
        &driver_af_xdp::Interface::find(&pair.near).expect("it is there"),
        0,
        &options,
    );
    let program = std::sync::Arc::new(program.expect("the hook is free"));
    let interface = driver_af_xdp::Interface::find(&pair.near).expect("it is there");
    for queue in 0..2 {
        let options = Options { reserve: queue == 0, ..options };
        let mut sender = AfXdp::open_with(&program, &interface, queue, &options).expect("free");
        let mut bytes = header(sender.mac(), every.mac(), 100);
        bytes.resize(142, queue as u8);
        let mut fbuf = sender.pool().alloc(bytes.len()).expect("a buffer");
        fbuf.copy_from_slice(&bytes);
        sender.transmit(&mut [Piece::whole(fbuf.freeze())].into()).expect("it is up");
        let mut received = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(5);
        while received.is_empty() {
            assert!(Instant::now() < deadline, "nothing came in on queue {queue}");
            every.receive(&mut received).expect("it is up");
        }
        assert_eq!(received[0].bytes[..], bytes);
    }
}

#[test]
#[ignore = "the full run, of ten million packets: some minutes"]
fn over_ten_million_packets_in_generic_mode() {
    conforms(Way::Generic, 1500, 256, 10_000_000, &[PIECES, ROOM]);
}

#[test]
#[ignore = "the full run, of ten million packets: some minutes"]
fn over_ten_million_packets_in_native_mode() {
    conforms(Way::Native, 1500, 256, 10_000_000, &[PIECES, ROOM]);
}
