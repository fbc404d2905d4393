//! The device passes the suite for devices of frames, over what DPDK has between two ports of one process.
#![cfg(dpdk)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use driver_dpdk::{DpdkPort, Options};
use unet::conformance::{self, Bench, OverFrames, Verdict};
use unet::device::Device;

/// Each pair has names of its own.
static PAIRS: AtomicU32 = AtomicU32::new(0);

/// Two ports that share memory, one after the other.
struct OnMemif {
    buffers: u32,
    ring: u16,
}

fn open(arguments: &str, options: &Options) -> Result<DpdkPort, String> {
    DpdkPort::open(arguments, options).map_err(|error| error.to_string())
}

impl Bench for OnMemif {
    type End = OverFrames<DpdkPort>;

    fn pair(&mut self) -> Result<(Self::End, Self::End), String> {
        let number = PAIRS.fetch_add(1, Ordering::Relaxed);
        let options = Options { buffers: self.buffers, ring: self.ring, ..Options::default() };
        let socket = format!("socket=unet-{}-{number}", std::process::id());
        let mut server = open(&format!("net_memif{},role=server,{socket}", 2 * number), &options)?;
        let mut client =
            open(&format!("net_memif{},role=client,{socket}", 2 * number + 1), &options)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while server.maintain().is_err() || client.maintain().is_err() {
            if Instant::now() > deadline {
                return Err("the ports do not find each other".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok((OverFrames::new(server), OverFrames::new(client)))
    }

    fn packets(&self) -> u64 {
        50_000
    }
}

fn conforms(buffers: u32, ring: u16, may_be_left_out: &[&str]) {
    let report = conformance::frames(&mut OnMemif { buffers, ring });
    println!("{report}");
    assert!(report.is_ok(), "{report}");
    let mut left_out = report.0.iter().filter(|(_, outcome)| *outcome != Ok(Verdict::Shown));
    assert!(left_out.all(|(name, _)| may_be_left_out.contains(name)), "{report}");
}

#[test]
fn over_memory_between_two_ports() {
    conforms(1024, 256, &["link_down_and_up"]);
}
