//! Judged by DPDK's own test program, in a process of its own on the other side of a memory interface: as echo, as
//! sink and as source. What it counted and what was counted here agree to the packet.
#![cfg(dpdk)]

use std::collections::{HashSet, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use driver_dpdk::{DpdkPort, Options};
use unet::device::{Count, Device, Frames, Piece};

const PATIENCE: Duration = Duration::from_secs(20);
/// What `stdbuf` ends with where there is no such program.
const NOT_FOUND: i32 = 127;
/// Its frames' type, which nobody takes for something else.
const LOCAL_EXPERIMENT: [u8; 2] = [0x88, 0xb5];

/// One at a time: each of them spins on a core.
static TURN: Mutex<()> = Mutex::new(());

/// DPDK's test program, forwarding in one of its modes.
struct TestPmd {
    child: Child,
    /// Its lines.
    said: Receiver<String>,
    _turn: MutexGuard<'static, ()>,
}

impl TestPmd {
    /// Starts it; `None` where it is not installed, which in CI it is.
    fn start(name: &str, mode: &str) -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let cpus = std::thread::available_parallelism().expect("there are some").get();
        // So that it says its lines when they are written, not when it ends.
        let child = Command::new("stdbuf")
            .args([
                "-oL",
                "dpdk-testpmd",
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

    fn say(&mut self, word: &str) {
        let input = self.child.stdin.as_mut().expect("it was piped");
        writeln!(input, "{word}").expect("it is there");
    }

    /// Ends it, once it has stopped: how many packets it received and sent, by its own account.
    fn end(mut self) -> (u64, u64) {
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
        (count("RX-packets:"), count("TX-packets:"))
    }
}

impl Drop for TestPmd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other end of its memory interface, once there is a link.
///
/// A client asks once, and what it asked is answered by a thread of DPDK's, which may be late. A server that has not
/// begun yet refuses it for good; and one that forwards already may crash when its client goes, since that same thread
/// takes the memory away. So this asks once, after the server said that it has begun, and waits.
fn open(port: &str, name: &str) -> DpdkPort {
    let arguments = format!("{port},role=client,socket={name}");
    let mut device = DpdkPort::open(&arguments, &Options::default()).expect("a server is there");
    let deadline = Instant::now() + PATIENCE;
    while device.maintain().is_err() {
        assert!(Instant::now() < deadline, "there is no link");
        std::thread::sleep(Duration::from_millis(1));
    }
    device
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

/// Has a source send until it is stopped, and looks at each frame: all are received, or counted.
fn all_of_a_source(mode: &str, port: &str, mut look: impl FnMut(&[u8])) {
    let name = format!("unet-{mode}-{}", std::process::id());
    let Some(mut judge) = TestPmd::start(&name, mode) else { return };
    let mut device = open(port, &name);
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
    let counts = device.statistics();
    let dropped: u64 = Count::DROPPED.iter().map(|count| counts[*count]).sum();
    assert_eq!(counts[Count::Received] + dropped, judge.end().1, "{counts:?}");
}

#[test]
fn what_the_source_sent_is_received_or_counted() {
    all_of_a_source("txonly", "net_memif12", |bytes| assert_eq!(bytes.len(), 64));
}

/// The internet's checksum (RFC 1071), word by word: zero, of what contains a right one.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| [word[0], word.get(1).copied().unwrap_or(0)]);
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(word))).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

#[test]
fn every_flow_of_the_generator_is_received_or_counted() {
    let mut flows = HashSet::new();
    all_of_a_source("flowgen", "net_memif13", |bytes| {
        assert_eq!((bytes[12..14].to_vec(), checksum(&bytes[14..34])), (vec![8, 0], 0));
        flows.insert(bytes[26..34].to_vec());
    });
    // It makes as many by default.
    assert!(flows.len() == 1024 || flows.is_empty(), "{}", flows.len());
}

/// What is asked, by its number: of four, two are pings, one asks for a neighbour, and one is nothing to answer.
fn question(number: u32) -> (Vec<u8>, bool) {
    let [ours, theirs] = [[2, 0, 0, 0, 0, 8], [2, 0, 0, 0, 0, 9]];
    let [from, to] = [[10, 0, 0, 8], [10, 0, 0, 9]];
    // An answer without a bit that is set has a checksum of two forms, of which the judge takes the other.
    let number = (number | 0x1200_0000).to_be_bytes();
    match number[3] % 4 {
        0 | 1 => {
            let payload: Vec<u8> = (0..number[3]).collect();
            let len = (28 + payload.len() as u16).to_be_bytes();
            let mut ip = [[0x45, 0], len, [0; 2], [0; 2], [64, 1], [0; 2]].concat();
            ip.extend([from, to].concat());
            let sum = checksum(&ip).to_be_bytes();
            ip[10..12].copy_from_slice(&sum);
            let mut icmp = [&[8, 0, 0, 0][..], &number, &payload].concat();
            let sum = checksum(&icmp).to_be_bytes();
            icmp[2..4].copy_from_slice(&sum);
            ([&theirs[..], &ours, &[8, 0], &ip, &icmp].concat(), true)
        }
        2 => {
            let asks = [0, 1, 8, 0, 6, 4, 0, 1];
            let addresses = [&ours[..], &from, &[0; 6], &to].concat();
            // What fills a frame up says which it is.
            let rest = [&number[..], &[0; 14]].concat();
            ([&[0xff; 6][..], &ours, &[8, 6], &asks, &addresses, &rest].concat(), true)
        }
        _ => ([&theirs[..], &ours, &LOCAL_EXPERIMENT, &number, &[0; 42]].concat(), false),
    }
}

/// Whether this answers the question of that number.
fn answers(bytes: &[u8], number: u32) -> bool {
    let (asked, _) = question(number);
    let is_back = bytes[..6] == asked[6..12] && bytes[12..14] == asked[12..14];
    if number % 4 == 2 {
        // An answer, from who was asked for.
        return is_back && bytes[20..22] == [0, 2] && bytes[28..32] == [10, 0, 0, 9];
    }
    let is_whole = checksum(&bytes[14..34]) == 0 && checksum(&bytes[34..]) == 0;
    let is_theirs = bytes[26..34] == [10, 0, 0, 9, 10, 0, 0, 8];
    is_back && is_whole && is_theirs && bytes[34..36] == [0, 0] && bytes[38..] == asked[38..]
}

#[test]
fn pings_and_questions_for_neighbours_are_answered_and_nothing_else_is() {
    let name = format!("unet-icmpecho-{}", std::process::id());
    let Some(mut judge) = TestPmd::start(&name, "icmpecho") else { return };
    let mut device = open("net_memif14", &name);
    let total = 20_000;
    let (mut sent, mut awaited) = (0, VecDeque::new());
    let (mut frames, mut came) = (VecDeque::new(), Vec::new());
    let (mut back, deadline) = (0, Instant::now() + PATIENCE);
    while sent < total || !awaited.is_empty() || !frames.is_empty() {
        assert!(Instant::now() < deadline, "{back} answers to {sent} questions");
        while sent < total && awaited.len() < 64 && frames.len() < 64 {
            let (bytes, is_answered) = question(sent);
            let Ok(mut fbuf) = device.pool().alloc(bytes.len()) else { break };
            fbuf.copy_from_slice(&bytes);
            frames.push_back(Piece::whole(fbuf.freeze()));
            awaited.extend(is_answered.then_some(sent));
            sent += 1;
        }
        device.transmit(&mut frames).expect("there is a link");
        device.receive(&mut came).expect("there is a link");
        for piece in came.drain(..) {
            let number = awaited.pop_front().expect("an answer to a question");
            assert!(answers(&piece.bytes, number), "{number}: {:?}", &piece.bytes[..]);
            back += 1;
        }
    }
    // The last was nothing to answer; it is looked at within a moment.
    std::thread::sleep(Duration::from_millis(200));
    let counts = device.statistics();
    assert_eq!((counts[Count::Sent], counts[Count::Received]), (total.into(), back));
    judge.say("stop");
    assert_eq!(judge.end(), (total.into(), u64::from(total / 4 * 3)));
    assert_eq!(back, u64::from(total / 4 * 3));
}
