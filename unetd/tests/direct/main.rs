//! Direct mode: queues lent to processes without privilege, honest ones and others, over veth in network
//! namespaces of the tests' own: needs root.

mod channels;
mod daemon;
mod hostility;
mod isolation;
mod killing;
#[allow(dead_code)]
#[path = "../../../drivers/af-xdp/tests/namespaces/mod.rs"]
mod namespaces;
mod refusing;
mod restarting;
#[allow(dead_code)]
#[path = "../../../unet/tests/support/role.rs"]
mod role;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use driver_af_xdp::lent::ask;
use driver_af_xdp::{AfXdp, Options, Way};
use namespaces::Namespace;
use unet::Credentials;
use unet::device::{DeviceError, Frames, OpenError, Piece};
use unetd::direct::{Permission, Request, Service};

const PATIENCE: Duration = Duration::from_secs(20);
/// The agent's name: each test has a network namespace of its own, and names are its.
const NAME: &str = "direct";
/// Two users, each with ports of its own.
const USERS: [(u32, u16); 2] = [(65_534, 7000), (65_533, 7100)];

/// Two hosts joined by a veth of so many queues; this thread is in the first.
fn joined(queues: u32) -> (Namespace, Namespace) {
    let (ours, theirs) = (Namespace::new(), Namespace::new());
    ours.enter();
    let size = format!("numtxqueues {queues} numrxqueues {queues}");
    ours.run(&format!(
        "ip link add name va {size} address 02:00:00:00:00:0a type veth \
             peer name vb {size} address 02:00:00:00:00:0b &&
         ip link set vb netns {} &&
         echo 1 > /proc/sys/net/ipv6/conf/va/disable_ipv6;
         ip addr add 192.0.2.1/24 dev va && ip link set va up && ip link set lo up",
        theirs.id()
    ));
    theirs.run(
        "echo 1 > /proc/sys/net/ipv6/conf/vb/disable_ipv6;
         ip addr add 192.0.2.2/24 dev vb && ip link set vb up && ip link set lo up",
    );
    (ours, theirs)
}

/// The policy of the tests: each of the users on `va`, with ten ports; root, everything.
fn allowed(who: Credentials, request: &Request) -> Option<Permission> {
    let ports = |first: u16| first..first + 10;
    let own = |(uid, first): &(u32, u16)| *uid == who.uid && ports(*first).contains(&request.port);
    let user = request.interface == "va" && USERS.iter().any(own);
    (user || who.uid == 0).then_some(Permission { way: Way::Auto, queues: 2, bytes: 4 << 20 })
}

type Rules = Box<dyn Fn(Credentials, &Request) -> Option<Permission> + Send>;

/// A service in a thread of this process, and without a keeper.
struct Agency {
    service: Arc<Mutex<Service<Rules>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Agency {
    fn start() -> Self {
        let service = Service::start(NAME, Box::new(allowed) as Rules).expect("the name is free");
        let (service, stop) = (Arc::new(Mutex::new(service)), Arc::new(AtomicBool::new(false)));
        let (its, stopped) = (service.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let timeout = Duration::from_millis(5);
                its.lock().expect("nobody panicked").turn(timeout).expect("no keeper");
                std::thread::yield_now();
            }
        });
        Self { service, stop, thread: Some(thread) }
    }

    fn with<T>(&self, does: impl FnOnce(&mut Service<Rules>) -> T) -> T {
        does(&mut self.service.lock().expect("nobody panicked"))
    }

    /// Waits until nothing is lent.
    fn until_free(&self) {
        until("all comes back", || self.with(|service| service.lent().count() == 0));
    }
}

impl Drop for Agency {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the agent panicked");
        }
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn options(port: u16) -> Options {
    Options { port, buffers: 64, ..Options::default() }
}

/// Asks for a queue of `va`, waiting for an agent that is about to start.
fn patiently(queue: u32, port: u16) -> Result<AfXdp, OpenError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask(NAME, "va", Some(queue), &options(port)) {
            Err(OpenError::NotPermitted(why)) if why.contains("no agent") => {}
            other => return other,
        }
        assert!(Instant::now() < deadline, "no agent");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The peer's device on the other host, which a thread has to enter to open it.
fn peer(theirs: &Namespace, queue: u32, options: &Options) -> AfXdp {
    inside(theirs, || AfXdp::open("vb", queue, options).expect("it is free"))
}

/// Does something on another host.
fn inside<T: Send>(host: &Namespace, what: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            host.enter();
            what()
        });
        thread.join().expect("it does not panic")
    })
}

/// A frame with UDP, as bytes.
fn frame(to_port: u16, source: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 0xa, 2, 0, 0, 0, 0, 0xb, 8, 0];
    frame.extend_from_slice(&[0x45, 0]);
    frame.extend_from_slice(&((28 + payload.len()) as u16).to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&[192, 0, 2, 1]);
    let words = frame[14..34].chunks(2).map(|it| u32::from(u16::from_be_bytes([it[0], it[1]])));
    let sum: u32 = words.sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend_from_slice(&9u16.to_be_bytes());
    frame.extend_from_slice(&to_port.to_be_bytes());
    frame.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(payload);
    frame
}

/// Sends a frame of these bytes.
fn send(device: &mut AfXdp, bytes: &[u8]) {
    use unet::device::Device;
    let deadline = Instant::now() + PATIENCE;
    let mut frames = VecDeque::new();
    loop {
        if frames.is_empty()
            && let Ok(mut fbuf) = device.pool().alloc(bytes.len())
        {
            fbuf.copy_from_slice(bytes);
            frames.push_back(Piece::whole(fbuf.freeze()));
        }
        let offered = !frames.is_empty();
        device.transmit(&mut frames).expect("the interface is up");
        if offered && frames.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "no room");
    }
}

/// The payloads that come within a while, or as many as are wanted.
fn payloads(device: &mut AfXdp, wanted: usize, within: Duration) -> Vec<Vec<u8>> {
    let deadline = Instant::now() + within;
    let (mut got, mut found) = (Vec::new(), Vec::new());
    while found.len() < wanted && Instant::now() < deadline {
        match device.receive(&mut got) {
            Ok(()) => {}
            Err(DeviceError::Down) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
        found.extend(got.drain(..).map(|piece| piece.bytes[42..].to_vec()));
    }
    found
}

/// A client without privilege: echoes frames, until its queue is taken back or its time is over. Its
/// arguments are the queue and the port.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_echo() {
    use unet::device::Device;
    let Some(arguments) = role::arguments() else { return };
    let number = |at: usize| arguments[at].parse::<u32>().expect("a number");
    let none = rustix::thread::capabilities(None).expect("they can be read");
    assert!(none.effective.is_empty() && none.permitted.is_empty());
    let mut device = patiently(number(0), number(1) as u16).expect("allowed and free");
    role::say("ready");
    let mut got = Vec::new();
    let deadline = Instant::now() + 2 * PATIENCE;
    let mut looked = Instant::now();
    while Instant::now() < deadline {
        let received = device.receive(&mut got);
        let mut back: VecDeque<_> =
            got.drain(..).map(|it| Piece::whole(it.bytes.freeze())).collect();
        let sent = device.transmit(&mut back);
        if looked.elapsed() > Duration::from_millis(20) {
            looked = Instant::now();
            if [received, sent, device.maintain()].contains(&Err(DeviceError::Gone)) {
                return role::say("gone");
            }
        }
        std::thread::yield_now();
    }
}

/// Starts a client of a user's.
fn echo(user: usize, queue: u32, port: u16) -> role::Role {
    use std::os::unix::process::CommandExt;
    let (queue, port) = (queue.to_string(), port.to_string());
    let mut command = role::command("role_echo", &[&queue, &port]);
    role::start(command.uid(USERS[user].0).gid(USERS[user].0))
}
