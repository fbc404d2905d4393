//! The device passes the suite for devices of frames, over what DPDK has between two ports of one process.
#![cfg(dpdk)]

use std::ffi::CString;
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
        meet(&mut server, &mut client)?;
        Ok((OverFrames::new(server), OverFrames::new(client)))
    }

    fn packets(&self) -> u64 {
        50_000
    }
}

/// Waits until both have a link.
fn meet(one: &mut DpdkPort, other: &mut DpdkPort) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while one.maintain().is_err() || other.maintain().is_err() {
        if Instant::now() > deadline {
            let links = (one.maintain(), other.maintain());
            return Err(format!("the ports do not find each other: {links:?}"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// A virtual machine's network card without the machine, and the switch's end of it.
struct OnVhost(Options);

impl Bench for OnVhost {
    type End = OverFrames<DpdkPort>;

    fn pair(&mut self) -> Result<(Self::End, Self::End), String> {
        let number = PAIRS.fetch_add(1, Ordering::Relaxed);
        let path =
            format!("{}/unet-{}-{number}", std::env::temp_dir().display(), std::process::id());
        let mut host = open(&format!("net_vhost{number},iface={path},queues=1"), &self.0)?;
        let mut guest =
            open(&format!("net_virtio_user{number},path={path},queues=1,queue_size=256"), &self.0)?;
        meet(&mut host, &mut guest)?;
        Ok((OverFrames::new(host), OverFrames::new(guest)))
    }
}

/// Two ports of one process, joined by rings.
struct OnRings {
    options: Options,
    /// The name of the first one.
    first: CString,
}

impl OnRings {
    fn new(options: Options) -> Self {
        Self { options, first: CString::default() }
    }
}

impl Bench for OnRings {
    type End = OverFrames<DpdkPort>;

    fn pair(&mut self) -> Result<(Self::End, Self::End), String> {
        let name = format!("p{}", PAIRS.fetch_add(1, Ordering::Relaxed));
        let (first, second) =
            DpdkPort::pair(&name, &self.options).map_err(|error| error.to_string())?;
        self.first = CString::new(format!("net_ring_{name}0")).map_err(|it| it.to_string())?;
        Ok((OverFrames::new(first), OverFrames::new(second)))
    }

    fn set_link(&mut self, up: bool) -> Result<bool, String> {
        let mut id = 0;
        // SAFETY: name and number live for the calls; the port is this thread's, which is in none of its calls.
        let done = unsafe {
            dpdk_sys::rte_eth_dev_get_port_by_name(self.first.as_ptr(), &mut id);
            if up {
                dpdk_sys::rte_eth_dev_set_link_up(id)
            } else {
                dpdk_sys::rte_eth_dev_set_link_down(id)
            }
        };
        if done == 0 { Ok(true) } else { Err(format!("the link is not set: {done}")) }
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
fn over_vhost() {
    // The host's buffers cannot be shown to it by the guest, which is in this process, too.
    conforms(OnVhost(Options { copy: true, ..OPTIONS }), &["link_down_and_up"]);
}

#[test]
fn over_rings() {
    conforms(OnRings::new(OPTIONS), &[]);
}

#[test]
fn over_rings_with_copies() {
    conforms(OnRings::new(Options { copy: true, ..OPTIONS }), &[]);
}

#[test]
fn over_memory_between_two_ports() {
    conforms(OnMemif(OPTIONS), &["link_down_and_up"]);
}

#[test]
fn over_memory_between_two_ports_with_copies() {
    conforms(OnMemif(Options { copy: true, ..OPTIONS }), &["link_down_and_up"]);
}
