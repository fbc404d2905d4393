//! The device passes the suite for devices of frames, over a veth pair, in both modes that veth has, with
//! frames of one piece and of several.

mod support;

use driver_af_xdp::{AfXdp, Options, Way};
use support::{Pair, frame::Udp4, ip, options};
use unet::conformance::{self, Bench, OverFrames, Verdict};

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

impl OnVeth {
    fn end(&self, name: &str) -> Result<OverFrames<AfXdp>, String> {
        let options = Options { ..options(self.way, self.buffers) };
        let device = AfXdp::open(name, 0, &options).map_err(|error| error.to_string())?;
        let header = |from: [u8; 6], to: [u8; 6], payload: usize| {
            let mut frame = Udp4::between(from, to, support::PORT).frame(&vec![0; payload]);
            frame.truncate(42);
            frame
        };
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

#[test]
#[ignore = "the full run, of ten million packets: some minutes"]
fn over_ten_million_packets() {
    conforms(Way::Generic, 1500, 256, 10_000_000, &[PIECES, ROOM]);
}
