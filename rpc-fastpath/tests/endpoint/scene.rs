//! A server in a thread, and what its methods do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use rpc_fastpath::endpoint::*;
use unet::{Address, ConnectOptions, ListenOptions, NetworkOptions};

pub const NULL: u16 = 0;
pub const ECHO: u16 = 1;
/// Replies with as many bytes as it is asked for.
pub const MAKE: u16 = 2;
pub const PANIC: u16 = 3;
/// Counts, and replies how often it was called with this number.
pub const COUNT: u16 = 4;
/// Echoes by a worker.
pub const LATER: u16 = 5;
/// Keeps the thread that serves, until the test lets it go.
pub const WAIT: u16 = 6;
/// Never answers, until the server ends.
pub const KEEP: u16 = 7;
/// Drops its token.
pub const DROP: u16 = 8;
/// As MAKE, in buffers of the channel.
pub const HAND_OVER: u16 = 9;

pub const SERVICE: u64 = 0x5e_41_1c_e5;

/// A way to a server.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub form: &'static str,
    /// The longest opening that is waited for, in milliseconds.
    pub limit: u64,
    /// The largest message that does not take it too long.
    pub largest: usize,
}

pub const SHM: Way = Way { form: "shm:NAME", limit: 5_000, largest: 8 << 20 };
pub const UDP: Way = Way { form: "udp:127.0.0.1:PORT", limit: 5_000, largest: 8 << 20 };
pub const SIM: Way = Way { form: "sim:NAME@127.0.0.1:PORT", limit: 5_000, largest: 1 << 20 };
pub const LOSSY: Way = Way {
    form: "sim:NAME@127.0.0.1:PORT?loss=0.02&duplicate=0.02&reorder=0.02",
    limit: 5_000,
    largest: 1 << 20,
};

impl Way {
    /// An address that nobody else has.
    pub fn address(self) -> Address {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("rpc-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let port = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr();
        let port = port.expect("bound").port().to_string();
        self.form.replace("NAME", &name).replace("PORT", &port).parse().expect("an address")
    }
}

fn network() -> NetworkOptions {
    // Longer than a busy machine keeps a thread from its turn.
    let silence = Duration::from_secs(4);
    NetworkOptions { drivers: drivers::linked(), silence, ..NetworkOptions::default() }
}

pub fn of_client(way: Way) -> ConnectionOptions {
    let mut options = ConnectionOptions { service: SERVICE.into(), ..ConnectionOptions::default() };
    options.connect = ConnectOptions { network: network(), ..ConnectOptions::default() };
    options.timers.patience = way.limit * 1_000_000;
    options
}

pub fn of_server() -> ServiceOptions {
    let listen = ListenOptions { network: network(), ..ListenOptions::default() };
    ServiceOptions { service: SERVICE.into(), listen, ..ServiceOptions::default() }
}

/// What the methods do.
pub struct Methods {
    counts: Vec<(u64, u64)>,
    kept: Vec<Later>,
    worker: Sender<(Later, Vec<u8>)>,
    space: Vec<u8>,
    go: Arc<AtomicBool>,
}

impl Methods {
    pub fn new() -> Self {
        let (worker, work) = mpsc::channel::<(Later, Vec<u8>)>();
        thread::spawn(move || work.into_iter().for_each(|(later, bytes)| later.reply(bytes)));
        let (counts, kept, space) = (Vec::new(), Vec::new(), Vec::new());
        Self { counts, kept, worker, space, go: Arc::default() }
    }
}

impl Handler for Methods {
    fn handle(
        &mut self,
        context: &Context,
        arguments: Bytes<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), Decline> {
        let mut space = std::mem::take(&mut self.space);
        let bytes = arguments.whole(&mut space)?;
        let number = bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        match context.method {
            NULL => {}
            ECHO => reply.write(bytes),
            MAKE => reply.give(pattern(number as usize)),
            PANIC => panic!("as it was asked to"),
            COUNT => {
                let at = self.counts.iter().position(|(of, _)| *of == number);
                let at = at.unwrap_or_else(|| {
                    self.counts.push((number, 0));
                    self.counts.len() - 1
                });
                self.counts[at].1 += 1;
                reply.write(&self.counts[at].1.to_le_bytes());
            }
            LATER => {
                let later = reply.later()?;
                self.worker.send((later, bytes.to_vec())).expect("the worker lives");
            }
            WAIT => until("it is let go", || self.go.load(Ordering::Relaxed)),
            KEEP => self.kept.push(reply.later()?),
            DROP => drop(reply.later()?),
            HAND_OVER => {
                let (whole, mut at) = (pattern(number as usize), 0);
                let message = reply.message(whole.len(), |buffer| {
                    buffer.copy_from_slice(&whole[at..at + buffer.len()]);
                    at += buffer.len();
                });
                match message {
                    Ok(message) => reply.give(message),
                    // Over a network, a message is no longer than a datagram.
                    Err(_) => reply.give(whole),
                }
            }
            _ => return Err(Refusal::UnknownMethod.into()),
        }
        self.space = space;
        Ok(())
    }
}

/// Bytes that show where they belong.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// What the test sees of the server.
pub struct Scene {
    pub address: Address,
    pub way: Way,
    clients: AtomicUsize,
    malformed: AtomicU64,
    /// Whether calls of WAIT end.
    pub go: Arc<AtomicBool>,
    /// The epoch that it shall enter, if any.
    pub epoch: AtomicU64,
}

impl Scene {
    pub fn connect(&self) -> Connection {
        self.connect_with(of_client(self.way))
    }

    pub fn connect_with(&self, options: ConnectionOptions) -> Connection {
        Connection::open(&self.address, options).expect("a session")
    }

    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    pub fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }
}

/// Runs a test against a server in a thread.
pub fn with_server(way: Way, options: ServiceOptions, test: impl FnOnce(&Scene)) {
    let scene = Scene {
        address: way.address(),
        way,
        clients: 0.into(),
        malformed: 0.into(),
        go: Arc::default(),
        epoch: 0.into(),
    };
    let mut service =
        Service::listen(std::slice::from_ref(&scene.address), options).expect("listening");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut methods = Methods { go: scene.go.clone(), ..Methods::new() };
            while !stop.load(Ordering::Relaxed) {
                service.poll_timeout(&mut methods, Duration::from_millis(5));
                scene.clients.store(service.clients(), Ordering::Relaxed);
                scene.malformed.store(service.counts().malformed, Ordering::Relaxed);
                match scene.epoch.swap(0, Ordering::Relaxed) {
                    0 => {}
                    epoch => service.enter_epoch(epoch),
                }
            }
        });
        let stops = Stops(&stop);
        test(&scene);
        drop(stops);
    });
}

/// Stops the server also where a test panics.
pub struct Stops<'a>(pub &'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(15), "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

pub fn nobody_answers(way: Way) {
    let mut options = of_client(way);
    options.connect.timeout = Duration::from_millis(way.limit);
    let opened = Connection::open(&way.address(), options);
    let error = opened.expect_err("nobody is there");
    assert!(matches!(error, OpenError::Connect(_) | OpenError::Session(_)), "{error}");
}
