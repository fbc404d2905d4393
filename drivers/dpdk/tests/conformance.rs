//! The device passes the suite for devices of frames, over what DPDK has between two ports of one process.
#![cfg(dpdk)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use driver_dpdk::{DpdkPort, Memory, Options};
use unet::conformance::{self, Bench, OverFrames, Verdict};
use unet::device::Device;

/// Each pair has names of its own.
static PAIRS: AtomicU32 = AtomicU32::new(0);
/// One at a time: DPDK's memory does not do for all of them at once.
static TURN: Mutex<()> = Mutex::new(());

/// Two ports that share memory, one after the other.
struct OnMemif(Options);

const OPTIONS: Options = Options {
    memory: Memory::Plain(64),
    buffers: 1024,
    buffer_bytes: 2048,
    ring: 256,
    copy: false,
};

fn open(arguments: &str, options: &Options) -> Result<DpdkPort, String> {
    DpdkPort::open(arguments, options).map_err(|error| error.to_string())
}

impl Bench for OnMemif {
    type End = OverFrames<DpdkPort>;

    fn pair(&mut self) -> Result<(Self::End, Self::End), String> {
        let number = PAIRS.fetch_add(1, Ordering::Relaxed);
        let options = self.0;
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

fn conforms<B: Bench<End = OverFrames<DpdkPort>>>(mut bench: B, may_be_left_out: &[&str]) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let report = conformance::frames(&mut bench);
    println!("{report}");
    assert!(report.is_ok(), "{report}");
    let mut left_out = report.0.iter().filter(|(_, outcome)| *outcome != Ok(Verdict::Shown));
    assert!(left_out.all(|(name, _)| may_be_left_out.contains(name)), "{report}");
}

#[test]
fn over_memory_between_two_ports() {
    conforms(OnMemif(OPTIONS), &["link_down_and_up"]);
}

#[test]
fn over_memory_between_two_ports_with_copies() {
    conforms(OnMemif(Options { copy: true, ..OPTIONS }), &["link_down_and_up"]);
}
