//! Devices that the processes of a host share: conformance under every fault, hostile neighbours, another
//! process.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use driver_sim::{DeviceOptions, Faults, HostDatagrams, Ledger, Network, Sim};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, sendto, socket_with,
};
use unet::conformance::{self, Allowed, Bench, OverDatagrams, Verdict, Wire};
use unet::device::{
    Count, Datagrams, Destination, Device, Driver, OpenError, Opening, Outgoing, Piece, Received,
};

/// A network's name that no other test has.
fn fresh() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn join(network: &str, host: u8, seed: u64, faults: Faults) -> Result<HostDatagrams, OpenError> {
    let local = ([10, 0, 0, host], 9000).into();
    HostDatagrams::join(network, local, seed, faults, DeviceOptions::default())
}

struct OnHost {
    faults: Faults,
    pairs: u64,
    ledgers: Vec<Ledger>,
}

impl Bench for OnHost {
    type End = OverDatagrams<HostDatagrams>;

    fn pair(&mut self) -> Result<(Self::End, Self::End), String> {
        let (network, seed) = (fresh(), self.pairs * 2);
        self.pairs += 1;
        let a = join(&network, 1, seed, self.faults).map_err(|error| error.to_string())?;
        let b = join(&network, 2, seed + 1, self.faults).map_err(|error| error.to_string())?;
        self.ledgers = vec![a.ledger(), b.ledger()];
        Ok((OverDatagrams::new(a), OverDatagrams::new(b)))
    }

    fn wire(&mut self) -> Wire {
        let accounts = self.ledgers.iter().map(Ledger::read);
        accounts.fold(Wire::default(), |sum, account| Wire {
            lost: sum.lost + account.not_carried(),
            duplicated: sum.duplicated + account.copies(),
            corrupted: sum.corrupted + account.corrupted,
        })
    }

    fn allowed(&self) -> Allowed {
        let Faults { loss, burst, duplicate, corrupt, reorder, jitter, .. } = self.faults;
        Allowed {
            loss: loss > 0.0 || burst > 0.0,
            duplicates: duplicate > 0.0,
            corruption: corrupt > 0.0,
            disorder: reorder > 0.0 || !jitter.is_zero(),
        }
    }

    fn packets(&self) -> u64 {
        3_000
    }
}

fn conforms(faults: Faults) {
    let report = conformance::datagrams(&mut OnHost { faults, pairs: 0, ledgers: Vec::new() });
    assert!(report.is_ok(), "{faults:?}:\n{report}");
    let mut left_out = report.0.iter().filter(|(_, outcome)| *outcome != Ok(Verdict::Shown));
    let may_be = ["pieces", "link_down_and_up", "descriptor_wakes"];
    assert!(left_out.all(|(name, _)| may_be.contains(name)), "{report}");
}

const DELAY: Duration = Duration::from_micros(50);

macro_rules! under {
    ($($name:ident: $faults:expr;)*) => {$(
        #[test]
        fn $name() {
            conforms($faults);
        }
    )*};
}

under! {
    it_conforms_without_faults: Faults::default();
    it_conforms_under_delay: Faults { delay: DELAY, ..Faults::default() };
    it_conforms_under_jitter: Faults { jitter: DELAY, ..Faults::default() };
    it_conforms_under_loss: Faults { loss: 0.05, ..Faults::default() };
    it_conforms_under_bursts_of_loss: Faults { burst: 0.01, ..Faults::default() };
    it_conforms_under_duplication: Faults { duplicate: 0.05, ..Faults::default() };
    it_conforms_under_reordering: Faults { reorder: 0.05, late: DELAY * 2, ..Faults::default() };
    it_conforms_under_corruption: Faults { corrupt: 0.05, ..Faults::default() };
    it_conforms_under_everything: Faults {
        loss: 0.02, burst: 0.01, duplicate: 0.05, corrupt: 0.05, reorder: 0.05, late: DELAY,
        delay: DELAY, jitter: DELAY, ..Faults::default()
    };
}

fn send(device: &mut dyn Datagrams, to: std::net::SocketAddr, bytes: &[u8]) {
    let to = device.open(to).expect("it is reachable");
    send_by(device, to, bytes);
    device.close(to);
}

fn send_by(device: &mut dyn Datagrams, to: Destination, bytes: &[u8]) {
    let mut buffer = device.pool().alloc(bytes.len()).expect("one is free");
    buffer.copy_from_slice(bytes);
    let mut queue = [Outgoing { to, piece: Piece::whole(buffer.freeze()) }].into();
    let deadline = Instant::now() + Duration::from_secs(5);
    while !std::collections::VecDeque::is_empty(&queue) && Instant::now() < deadline {
        device.transmit(&mut queue).expect("it is up");
    }
}

fn receive(device: &mut dyn Datagrams) -> Vec<Received> {
    let mut received = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(5);
    while received.is_empty() && Instant::now() < deadline {
        device.receive(&mut received).expect("it is up");
    }
    received
}

#[test]
fn an_address_belongs_to_one_device() {
    let network = fresh();
    let one = join(&network, 1, 0, Faults::default()).expect("it is free");
    let again = || join(&network, 1, 0, Faults::default()).map(drop);
    assert_eq!(again(), Err(OpenError::AddressInUse));
    drop(one);
    assert_eq!(again(), Ok(()));
}

#[test]
fn what_is_sent_to_nobody_is_in_the_account() {
    let mut one = join(&fresh(), 1, 0, Faults::default()).expect("it is free");
    send(&mut one, ([10, 0, 0, 9], 1).into(), b"is anybody there");
    assert_eq!((one.ledger().read().nowhere, one.statistics()[Count::Sent]), (1, 1));
}

#[test]
fn a_receiver_that_does_not_read_holds_nobody_up_for_long() {
    let network = fresh();
    let mut one = join(&network, 1, 0, Faults::default()).expect("it is free");
    let silent = join(&network, 2, 0, Faults::default()).expect("it is free");
    let mut other = join(&network, 3, 0, Faults::default()).expect("it is free");
    let began = Instant::now();
    let to = one.open(silent.local()).expect("it is reachable");
    for _ in 0..1000 {
        send_by(&mut one, to, b"do you read me");
    }
    send(&mut one, other.local(), b"and you");
    assert_eq!(receive(&mut other).len(), 1);
    assert!(began.elapsed() < Duration::from_secs(3));
    let said = one.statistics();
    assert_eq!(said[Count::Sent] + said[Count::Failed], 1001);
    assert!(said[Count::Failed] > 0, "{said:?}");
}

fn raw(name: Option<String>) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).expect("allowed");
    if let Some(name) = name {
        let name = SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("it fits");
        bind(&socket, &name).expect("it is free");
    }
    socket
}

#[test]
fn what_no_device_would_send_is_counted_and_dropped() {
    let network = fresh();
    let mut one = join(&network, 1, 0, Faults::default()).expect("it is free");
    let name = format!("unet-sim/{network}/10.0.0.1:9000");
    let to = SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("it fits");
    let valid = |due: u64| [&b"USIM\x01\0\0\0"[..], &due.to_le_bytes(), b"payload"].concat();
    let hostile = raw(Some(format!("unet-sim/{network}/10.0.0.66:1")));
    let nobody = raw(None);
    let elsewhere = raw(Some(format!("unet-sim/{network}-not/10.0.0.1:1")));
    let long = [valid(0), vec![0; 60_000]].concat();
    let cases: [(&OwnedFd, &[u8], Count); 7] = [
        (&nobody, &valid(0), Count::Foreign),
        (&elsewhere, &valid(0), Count::Foreign),
        (&hostile, b"", Count::BadHeader),
        (&hostile, b"USIM", Count::BadHeader),
        (&hostile, &[0; 100], Count::BadHeader),
        (&hostile, &valid(u64::MAX), Count::BadHeader),
        (&hostile, &long, Count::Truncated),
    ];
    for (socket, bytes, reason) in cases {
        let before = one.statistics()[reason];
        sendto(socket, bytes, SendFlags::empty(), &to).expect("there is room");
        let mut received = Vec::new();
        one.receive(&mut received).expect("it is up");
        assert!(received.is_empty(), "{reason:?}");
        assert_eq!(one.statistics()[reason], before + 1, "{reason:?}");
    }
    sendto(&hostile, &valid(0), SendFlags::empty(), &to).expect("there is room");
    assert_eq!(&receive(&mut one)[0].piece.bytes[..], b"payload");
}

#[test]
fn a_flood_is_bounded_and_counted() {
    let network = fresh();
    let options = DeviceOptions { queue: 16, ..DeviceOptions::default() };
    let local = ([10, 0, 0, 1], 9000).into();
    let mut one =
        HostDatagrams::join(&network, local, 0, Faults::default(), options).expect("it is free");
    let late = Faults { delay: Duration::from_secs(5), ..Faults::default() };
    let mut flooder = join(&network, 2, 0, late).expect("it is free");
    for _ in 0..100 {
        send(&mut flooder, local, b"flood");
        one.receive(&mut Vec::new()).expect("it is up");
    }
    assert_eq!(one.statistics()[Count::QueueFull], 100 - 16);
    assert_eq!(one.arm(), Ok(true));
}

fn open(text: &str) -> Result<Box<dyn Datagrams>, OpenError> {
    let Ok(unet::Address::Network(address)) = text.parse() else { panic!("{text}") };
    let opening = Opening {
        device: &address.device,
        local: address.host.parse().ok(),
        port: address.port,
        remote: None,
        options: &address.options,
        buffers: 64,
    };
    Sim::default().open(&opening)
}

#[test]
fn an_address_says_what_goes_wrong() {
    let network = fresh();
    let text = format!("sim:{network}@10.0.0.1:0?seed=1&loss=1&delay=50us");
    let mut lossy = open(&text).expect("it is valid");
    let mut other = open(&format!("sim:{network}@10.0.0.2:0")).expect("it is valid");
    assert_ne!(other.local().port(), 0);
    send(&mut *lossy, other.local(), b"lost");
    send(&mut *other, lossy.local(), b"found");
    let received = receive(&mut *lossy);
    assert_eq!((&received[0].piece.bytes[..], received[0].from), (&b"found"[..], other.local()));
    let mut nothing = Vec::new();
    other.receive(&mut nothing).expect("it is up");
    assert!(nothing.is_empty());
}

#[test]
fn a_network_of_this_process_is_opened_by_its_name() {
    let network = Network::new(1, Faults::default());
    let driver = Sim::default().with("lan", network.clone());
    let open = |options: &[(String, String)]| {
        let (device, local) = ("lan", Some([10, 0, 0, 1].into()));
        let opening = Opening { device, local, port: 0, remote: None, options, buffers: 0 };
        driver.open(&opening)
    };
    let (mut one, mut other) = (open(&[]).expect("free"), open(&[]).expect("another port is free"));
    send(&mut *one, other.local(), b"here");
    assert_eq!((receive(&mut *other).len(), network.account().carried), (1, 1));
    let loss = [("loss".to_owned(), "1".to_owned())];
    assert!(
        matches!(open(&loss).err(), Some(OpenError::UnknownOption(_))),
        "its faults are its own"
    );
}

#[test]
fn an_address_that_makes_no_sense_is_refused() {
    for options in ["loss=2", "loss=x", "delay=5", "delay=1000s", "seed=-1", "mtu=0", "mtu=70000"] {
        let opened = open(&format!("sim:{}@10.0.0.1:0?{options}", fresh()));
        assert!(matches!(opened, Err(OpenError::BadValue(_))), "{options}");
    }
    let opened = open(&format!("sim:{}@10.0.0.1:0?speed=1", fresh()));
    assert!(matches!(opened, Err(OpenError::UnknownOption(_))));
    let opened = open(&format!("sim:{}@10.0.0.1:0", "n".repeat(33)));
    assert!(matches!(opened, Err(OpenError::BadValue(_))));
}

/// Where the other process finds the network's name.
const NETWORK: &str = "UNET_TEST_ROLE";

/// The other process: echoes on the network that it is told.
#[test]
#[ignore = "a part of another test, in a process of its own"]
fn role_echo() {
    let Ok(network) = std::env::var(NETWORK) else { return };
    let mut device = join(&network, 2, 0, Faults::default()).expect("it is free");
    println!("joined");
    for _ in 0..1000 {
        let Some(received) = receive(&mut device).pop() else { return };
        send(&mut device, received.from, &received.piece.bytes);
    }
}

#[test]
fn two_processes_meet_and_one_survives_the_other() {
    let network = fresh();
    let program = std::env::current_exe().expect("it is known");
    let mut child = Command::new(program)
        .args(["--exact", "role_echo", "--ignored", "--nocapture"])
        .env(NETWORK, &network)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    assert!(output.lines().map_while(Result::ok).any(|line| line.contains("joined")));
    let mut one = join(&network, 1, 0, Faults::default()).expect("it is free");
    let other = ([10, 0, 0, 2], 9000).into();
    for number in 0..500u32 {
        send(&mut one, other, &number.to_be_bytes());
        let received = receive(&mut one);
        assert_eq!(
            (&received[0].piece.bytes[..], received[0].from),
            (&number.to_be_bytes()[..], other)
        );
    }
    child.kill().expect("it was ours");
    child.wait().expect("it was ours");
    send(&mut one, other, b"gone");
    let account = one.ledger().read();
    assert_eq!((account.sent, account.carried, account.nowhere), (501, 500, 1));
    join(&network, 2, 0, Faults::default()).expect("its address is free again");
}
