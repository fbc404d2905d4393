//! Judged by DPDK's own test program, in a process of its own on the other side of a memory interface: as echo, as
//! sink and as source. What it counted and what was counted here agree to the packet.
#![cfg(dpdk)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use driver_dpdk::{DpdkPort, Options};
use unet::device::{Count, Device, Frames, Piece};

const PATIENCE: Duration = Duration::from_secs(20);
/// Its frames' type, which nobody takes for something else.
const LOCAL_EXPERIMENT: [u8; 2] = [0x88, 0xb5];

/// One at a time: each of them spins on a core.
static TURN: Mutex<()> = Mutex::new(());

/// DPDK's test program, forwarding in one of its modes.
struct TestPmd {
    child: Child,
    _turn: MutexGuard<'static, ()>,
}

impl TestPmd {
    /// Starts it; `None` where it is not installed, which in CI it is.
    fn start(name: &str, mode: &str) -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let cpus = std::thread::available_parallelism().expect("there are some").get();
        let child = Command::new("dpdk-testpmd")
            .args([
                "--no-huge",
                "-m128",
                "--no-pci",
                "--no-shconf",
                "--no-telemetry",
                "--log-level=error",
            ])
            .arg(format!("--lcores=0@(0-{0}),1@(0-{0})", cpus - 1))
            .arg(format!("--file-prefix={name}"))
            .arg(format!("--vdev=net_memif0,role=server,socket={name}"))
            .args([
                "--",
                "--interactive",
                "--auto-start",
                "--no-flush-rx",
                "--total-num-mbufs=4096",
            ])
            .arg(format!("--forward-mode={mode}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some(Self { child, _turn: turn }),
            Err(error) => {
                let in_ci = std::env::var_os("CI").is_some();
                assert!(!in_ci, "dpdk-testpmd does not start: {error}");
                eprintln!("left out: dpdk-testpmd does not start ({error}): install dpdk-dev");
                None
            }
        }
    }

    fn say(&mut self, word: &str) {
        let input = self.child.stdin.as_mut().expect("it was piped");
        writeln!(input, "{word}").expect("it is there");
    }

    /// Ends it, once it has stopped: how many packets it received and sent, by its own account.
    fn end(mut self) -> (u64, u64) {
        self.say("quit");
        let mut said = String::new();
        let output = self.child.stdout.as_mut().expect("it was piped");
        output.read_to_string(&mut said).expect("it is text");
        let account = said.split("Accumulated forward statistics").nth(1);
        let account = account.unwrap_or_else(|| panic!("it said no account: {said}"));
        let count = |name: &str| {
            let value = account.split(name).nth(1).and_then(|rest| rest.split_whitespace().next());
            value.and_then(|value| value.parse().ok()).expect("a number follows")
        };
        (count("RX-packets:"), count("TX-packets:"))
    }
}

impl Drop for TestPmd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other end of its memory interface. It asks once: too early, and it stays alone.
fn open(port: &str, name: &str) -> DpdkPort {
    let arguments = format!("{port},role=client,socket={name}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        match DpdkPort::open(&arguments, &Options::default()) {
            Ok(mut device) => {
                for _ in 0..200 {
                    if device.maintain().is_ok() {
                        return device;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                assert!(Instant::now() < deadline, "there is no link");
            }
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn frame(device: &mut DpdkPort, number: u32) -> Option<Piece<unet::Fbuf>> {
    let len = 60 + number as usize % 1400;
    let mut fbuf = device.pool().alloc(len).ok()?;
    fbuf.fill(number as u8);
    fbuf[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    fbuf[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 8]);
    fbuf[12..14].copy_from_slice(&LOCAL_EXPERIMENT);
    fbuf[14..18].copy_from_slice(&number.to_be_bytes());
    Some(Piece::whole(fbuf.freeze()))
}

#[test]
fn every_frame_comes_back_with_its_addresses_swapped() {
    let name = format!("unet-echo-{}", std::process::id());
    let Some(mut judge) = TestPmd::start(&name, "macswap") else { return };
    let mut device = open("net_memif10", &name);
    let (total, mut sent, mut back) = (20_000, 0, 0);
    let (mut frames, mut came) = (VecDeque::new(), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while back < total {
        assert!(Instant::now() < deadline, "{back} of {sent} frames came back");
        while sent < total
            && sent - back < 64
            && let Some(frame) = frame(&mut device, sent)
        {
            frames.push_back(frame);
            sent += 1;
        }
        device.transmit(&mut frames).expect("there is a link");
        device.receive(&mut came).expect("there is a link");
        for piece in came.drain(..) {
            let bytes = &piece.bytes;
            assert_eq!(bytes.len(), 60 + back as usize % 1400);
            assert_eq!(bytes[..12], [2, 0, 0, 0, 0, 8, 2, 0, 0, 0, 0, 9]);
            assert_eq!(bytes[14..18], back.to_be_bytes(), "in order");
            assert!(bytes[18..].iter().all(|byte| *byte == back as u8));
            back += 1;
        }
    }
    let statistics = device.statistics();
    assert_eq!(
        (statistics[Count::Sent], statistics[Count::Received]),
        (total.into(), total.into())
    );
    judge.say("stop");
    assert_eq!(judge.end(), (total.into(), total.into()));
}

#[test]
fn what_is_sent_is_what_the_sink_counts() {
    let name = format!("unet-sink-{}", std::process::id());
    let Some(mut judge) = TestPmd::start(&name, "rxonly") else { return };
    let mut device = open("net_memif11", &name);
    let (total, mut sent, mut frames) = (50_000, 0, VecDeque::new());
    let deadline = Instant::now() + PATIENCE;
    while sent < total || !frames.is_empty() {
        assert!(Instant::now() < deadline, "{sent} frames were taken");
        while sent < total
            && frames.len() < 32
            && let Some(frame) = frame(&mut device, sent)
        {
            frames.push_back(frame);
            sent += 1;
        }
        device.transmit(&mut frames).expect("there is a link");
    }
    // What the ring had no room for goes now.
    let mut none = Vec::new();
    let all = device.pool().total();
    while device.pool().free() + device.capabilities().stock < all {
        assert!(Instant::now() < deadline, "a buffer is still under way");
        device.receive(&mut none).expect("there is a link");
    }
    // It takes what is in the ring within a moment.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(device.statistics()[Count::Sent], total.into());
    judge.say("stop");
    assert_eq!(judge.end().0, u64::from(total));
}

#[test]
fn what_the_source_sent_is_received_or_counted() {
    let name = format!("unet-source-{}", std::process::id());
    let Some(mut judge) = TestPmd::start(&name, "txonly") else { return };
    let mut device = open("net_memif12", &name);
    let mut came = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while device.statistics()[Count::Received] < 50_000 {
        assert!(Instant::now() < deadline, "{:?}", device.statistics());
        device.receive(&mut came).expect("there is a link");
        came.clear();
    }
    judge.say("stop");
    let mut quiet = Instant::now();
    while quiet.elapsed() < Duration::from_millis(300) {
        assert!(Instant::now() < deadline, "it does not stop");
        device.receive(&mut came).expect("there is a link");
        if !came.is_empty() {
            quiet = Instant::now();
        }
        came.clear();
    }
    let counts = device.statistics();
    let dropped: u64 = Count::DROPPED.iter().map(|count| counts[*count]).sum();
    assert_eq!(counts[Count::Received] + dropped, judge.end().1, "{counts:?}");
}
