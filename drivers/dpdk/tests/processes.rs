//! Two processes with a port each: every frame arrives there and comes back, once, in order and unchanged, and no
//! buffer is lost; and one that is killed takes the link along, and nothing else.
#![cfg(dpdk)]

use std::collections::VecDeque;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use driver_dpdk::{DpdkPort, Options};
use unet::device::{Count, Device, DeviceError, Frames, Piece};

const PORT: &str = "DPDK_PORT";
const FRAMES: &str = "DPDK_FRAMES";
const PATIENCE: Duration = Duration::from_secs(30);
/// Fewer than either end has buffers for.
const UNDER_WAY: u32 = 128;
/// In strides that divide no ring's size.
const BURSTS: [u32; 6] = [1, 31, 2, 64, 17, 5];

static NEXT: AtomicU32 = AtomicU32::new(0);
/// One at a time: each test has two processes that spin.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(arguments: &str) -> DpdkPort {
    let options = Options { buffers: 1024, ring: 256, ..Options::default() };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match DpdkPort::open(arguments, &options) {
            Ok(device) => return device,
            // Its other end may not be there yet.
            Err(error) => assert!(Instant::now() < deadline, "{arguments}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn await_link(device: &mut DpdkPort, wanted: Result<(), DeviceError>) {
    let deadline = Instant::now() + PATIENCE;
    while device.maintain() != wanted {
        assert!(Instant::now() < deadline, "the link does not become {wanted:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn len(number: u32) -> usize {
    60 + number as usize * 37 % 1455
}

fn write(bytes: &mut [u8], number: u32) {
    bytes.fill(number as u8);
    bytes[..14].copy_from_slice(&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 0x88, 0xb5]);
    bytes[14..18].copy_from_slice(&number.to_be_bytes());
}

fn check(bytes: &[u8], number: u32) {
    assert_eq!(bytes.len(), len(number), "frame {number}");
    let mut expected = vec![0; len(number)];
    write(&mut expected, number);
    assert!(bytes == expected, "frame {number} is another, or has changed");
}

/// Sends so many frames and takes their echoes.
fn exchange(device: &mut DpdkPort, frames: u32) {
    let (mut sent, mut back) = (0, 0);
    let (mut out, mut came) = (VecDeque::new(), Vec::new());
    let mut deadline = Instant::now() + PATIENCE;
    for burst in BURSTS.into_iter().cycle() {
        if back == frames {
            break;
        }
        assert!(Instant::now() < deadline, "{back} of {sent} frames came back");
        for _ in 0..burst.min(frames - sent).min(UNDER_WAY - (sent - back)) {
            let Ok(mut fbuf) = device.pool().alloc(len(sent)) else { break };
            write(&mut fbuf, sent);
            out.push_back(Piece::whole(fbuf.freeze()));
            sent += 1;
        }
        device.transmit(&mut out).expect("there is a link");
        device.receive(&mut came).expect("there is a link");
        for piece in came.drain(..) {
            check(&piece.bytes, back);
            back += 1;
            deadline = Instant::now() + PATIENCE;
        }
    }
    settled(device, frames);
}

/// What it counted must be what it was seen to do, and every buffer free or in the stock.
fn settled(device: &mut DpdkPort, frames: u32) {
    let deadline = Instant::now() + PATIENCE;
    let total = device.pool().total();
    while device.pool().free() + device.capabilities().stock < total {
        assert!(Instant::now() < deadline, "buffers are lost: {device:?}");
        device.transmit(&mut VecDeque::new()).expect("there is a link");
        let mut none = Vec::new();
        device.receive(&mut none).expect("there is a link");
        assert!(none.is_empty(), "more came than was sent");
    }
    let counts = device.statistics();
    let lost = counts.sum(&Count::DROPPED) + counts.sum(&Count::NOT_SENT);
    let found = [counts[Count::Sent], counts[Count::Received], lost];
    assert_eq!(found, [frames.into(), frames.into(), 0], "{counts:?}");
}

#[test]
#[ignore = "a part of the others, which start it"]
fn echo_in_a_process_of_its_own() {
    let value = |name| std::env::var(name).expect("who started it says it");
    let mut device = open(&value(PORT));
    let frames: u32 = value(FRAMES).parse().expect("a number");
    await_link(&mut device, Ok(()));
    let (mut echoed, mut came, mut out) = (0, Vec::new(), VecDeque::new());
    let mut deadline = Instant::now() + PATIENCE;
    while echoed < frames || !out.is_empty() {
        assert!(Instant::now() < deadline, "{echoed} of {frames} frames came");
        device.receive(&mut came).expect("there is a link");
        for piece in came.drain(..) {
            check(&piece.bytes, echoed);
            echoed += 1;
            out.push_back(Piece::whole(piece.bytes.freeze()));
            deadline = Instant::now() + PATIENCE;
        }
        device.transmit(&mut out).expect("there is a link");
    }
    if frames > 0 {
        settled(&mut device, frames);
    }
    let copied = device.statistics()[Count::Copied];
    let copies = value(PORT).starts_with("net_virtio_user");
    assert_eq!(copied, if copies { 2 * u64::from(frames) } else { 0 });
    // Until it is told to go.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// A process with the other port.
struct Other(Child);

impl Other {
    fn start(port: &str, frames: u32) -> Self {
        let program = std::env::current_exe().expect("this program");
        let child = Command::new(program)
            .args(["--exact", "echo_in_a_process_of_its_own", "--ignored", "--nocapture"])
            .env(PORT, port)
            .env(FRAMES, frames.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("it starts"))
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().expect("it ends").success(), "it ended with a failure");
    }

    fn kill(mut self) {
        self.0.kill().expect("it is there");
        self.0.wait().expect("it ends");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The arguments of this process's port, and of the other's.
fn memif() -> (String, String) {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let socket = format!("socket=pairs-{}-{number}", std::process::id());
    let server = format!("net_memif{number},role=server,{socket}");
    (server, format!("net_memif0,role=client,{socket}"))
}

fn vhost() -> (String, String) {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir();
    let path = format!("{}/unet-pairs-{}-{number}", folder.display(), std::process::id());
    let host = format!("net_vhost{number},iface={path},queues=1");
    (host, format!("net_virtio_user0,path={path},queues=1,queue_size=256"))
}

fn exchange_between((here, there): (String, String)) {
    const COUNT: u32 = 30_000;
    let _turn = turn();
    let mut device = open(&here);
    let other = Other::start(&there, COUNT);
    await_link(&mut device, Ok(()));
    exchange(&mut device, COUNT);
    assert_eq!(
        device.statistics()[Count::Copied],
        0,
        "its buffers are where the port reads and writes"
    );
    other.end();
    // It is closed when DPDK's own thread has seen that the other end is gone.
    await_link(&mut device, Err(DeviceError::Down));
}

#[test]
fn memory_between_two_processes_loses_nothing() {
    exchange_between(memif());
}

#[test]
fn a_virtual_card_and_its_host_lose_nothing() {
    exchange_between(vhost());
}

fn survive((here, there): (String, String)) {
    let _turn = turn();
    let mut device = open(&here);
    for _ in 0..3 {
        let killed = Other::start(&there, 0);
        await_link(&mut device, Ok(()));
        killed.kill();
        await_link(&mut device, Err(DeviceError::Down));
    }
    let successor = Other::start(&there, 1000);
    await_link(&mut device, Ok(()));
    exchange(&mut device, 1000);
    successor.end();
    await_link(&mut device, Err(DeviceError::Down));
}

#[test]
fn a_process_that_is_killed_takes_the_link_of_memory_along_and_its_successor_brings_it_back() {
    survive(memif());
}

#[test]
fn a_process_that_is_killed_takes_the_link_of_its_host_along_and_its_successor_brings_it_back() {
    survive(vhost());
}
