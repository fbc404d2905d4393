//! DPDK's own test program, `dpdk-testpmd`, as the judge on the other side of a port: as echo, as sink and as source.
//! What it counted and what was counted here agree to the packet.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use driver_dpdk::DpdkPort;
use unet::device::{Count, Device, Frames, Piece};

/// Its start alone takes seconds on a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// What `stdbuf` ends with where there is no such program.
const NOT_FOUND: i32 = 127;
/// Its frames' type, which nobody takes for something else.
pub const LOCAL_EXPERIMENT: [u8; 2] = [0x88, 0xb5];

/// One at a time: each of them spins on a core.
static TURN: Mutex<()> = Mutex::new(());

/// DPDK's test program, forwarding in one of its modes.
pub struct TestPmd {
    child: Child,
    /// Its lines.
    said: Receiver<String>,
    _turn: MutexGuard<'static, ()>,
}

impl TestPmd {
    /// Starts it over a device of DPDK's; `None` where it is not installed, which in CI it is.
    pub fn start(name: &str, mode: &str, device: &str) -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let cpus = std::thread::available_parallelism().expect("there are some").get();
        // So that it says its lines when they are written, not when it ends.
        let child = Command::new("stdbuf")
            .args([
                "-oL",
                "dpdk-testpmd",
                "--no-huge",
                "-m256",
                "--no-pci",
                "--no-shconf",
                "--no-telemetry",
                "--log-level=error",
            ])
            .arg(format!("--lcores=0@(0-{0}),1@(0-{0})", cpus - 1))
            .arg(format!("--file-prefix={name}"))
            .arg(format!("--vdev={device}"))
            .args([
                "--",
                "--interactive",
                "--auto-start",
                "--no-flush-rx",
                "--total-num-mbufs=8192",
            ])
            .arg(format!("--forward-mode={mode}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.expect("stdbuf is there (coreutils)");
        let output = BufReader::new(child.stdout.take().expect("it was piped"));
        let (tell, said) = channel();
        std::thread::spawn(move || {
            // Until it ends, or nobody listens.
            let _ = output.lines().map_while(Result::ok).try_for_each(|line| tell.send(line));
        });
        let mut judge = Self { child, said, _turn: turn };
        if judge.hears("packet forwarding - ports=") {
            return Some(judge);
        }
        let status = judge.child.wait().expect("it is a child");
        let is_missing = status.code() == Some(NOT_FOUND);
        let in_ci = std::env::var_os("CI").is_some();
        assert!(is_missing && !in_ci, "dpdk-testpmd does not start: {status}");
        eprintln!("left out: there is no dpdk-testpmd: install dpdk (Debian, Fedora)");
        None
    }

    /// Waits until it says something; `false` if it ends before that.
    fn hears(&mut self, what: &str) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(what) => return true,
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => panic!("dpdk-testpmd never said: {what}"),
            }
        }
    }

    pub fn say(&mut self, word: &str) {
        let input = self.child.stdin.as_mut().expect("it was piped");
        writeln!(input, "{word}").expect("it is there");
    }

    /// Has it begin again, with a new account, after something was done while it stood still.
    #[allow(dead_code, reason = "not every program that has this module")]
    pub fn anew<T>(&mut self, meanwhile: impl FnOnce() -> T) -> T {
        self.say("stop");
        assert!(self.hears("Accumulated forward statistics"), "it ended");
        let done = meanwhile();
        self.say("start");
        assert!(self.hears("packet forwarding - ports="), "it ended");
        done
    }

    /// Stops and ends it: its own account.
    pub fn end(mut self) -> Account {
        self.say("stop");
        self.say("quit");
        let mut said = String::new();
        while let Ok(line) = self.said.recv_timeout(PATIENCE) {
            said.push_str(&line);
            said.push('\n');
        }
        let account = said.split("Accumulated forward statistics").nth(1);
        let account = account.unwrap_or_else(|| panic!("it said no account: {said}"));
        let count = |name: &str| {
            let value = account.split(name).nth(1).and_then(|rest| rest.split_whitespace().next());
            value.and_then(|value| value.parse().ok()).expect("a number follows")
        };
        Account {
            received: count("RX-packets:"),
            missed: count("RX-dropped:"),
            sent: count("TX-packets:"),
        }
    }
}

/// How many packets it received, had no room for, and sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Account {
    pub received: u64,
    pub missed: u64,
    pub sent: u64,
}

impl Drop for TestPmd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until there is a link.
pub fn await_link(device: &mut DpdkPort) {
    let deadline = Instant::now() + PATIENCE;
    while device.maintain().is_err() {
        assert!(Instant::now() < deadline, "there is no link");
        std::thread::sleep(Duration::from_millis(1));
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

/// An echo that swaps the addresses (`macswap`) sends every frame back, in order.
pub fn all_come_back(device: &mut DpdkPort, judge: TestPmd, total: u32) {
    let (mut sent, mut back) = (0, 0);
    let (mut frames, mut came) = (VecDeque::new(), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while back < total {
        assert!(Instant::now() < deadline, "{back} of {sent} frames came back");
        while sent < total
            && sent - back < 64
            && let Some(frame) = frame(device, sent)
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
    let total = total.into();
    assert_eq!(judge.end(), Account { received: total, missed: 0, sent: total });
}

/// A sink (`rxonly`) counts what is sent.
pub fn all_arrive(device: &mut DpdkPort, judge: TestPmd, total: u32) {
    let (mut sent, mut frames) = (0, VecDeque::new());
    let deadline = Instant::now() + PATIENCE;
    while sent < total || !frames.is_empty() {
        assert!(Instant::now() < deadline, "{sent} frames were taken");
        while sent < total
            && frames.len() < 32
            && let Some(frame) = frame(device, sent)
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
    let account = judge.end();
    assert_eq!(account.received + account.missed, u64::from(total), "{account:?}");
}

/// A source (`txonly`, `flowgen`) sends until it is stopped. Each frame is looked at: all are received, or counted, here
/// or by whoever is in between.
pub fn all_are_counted(
    device: &mut DpdkPort,
    mut judge: TestPmd,
    mut look: impl FnMut(&[u8]),
    lost_between: impl FnOnce() -> u64,
) {
    let mut came = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    let (mut quiet, mut stopped) = (Instant::now(), false);
    while !stopped || quiet.elapsed() < Duration::from_millis(300) {
        assert!(Instant::now() < deadline, "{stopped}: {:?}", device.statistics());
        device.receive(&mut came).expect("there is a link");
        if !came.is_empty() {
            quiet = Instant::now();
        }
        came.drain(..).for_each(|piece| look(&piece.bytes));
        if !stopped && device.statistics()[Count::Received] >= 50_000 {
            judge.say("stop");
            stopped = true;
        }
    }
    let account = judge.end();
    let counts = device.statistics();
    let dropped: u64 = Count::DROPPED.iter().map(|count| counts[*count]).sum();
    let lost = lost_between();
    assert_eq!(
        counts[Count::Received] + dropped + lost,
        account.sent,
        "{lost} {counts:?} {account:?}"
    );
}
