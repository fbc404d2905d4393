//! What an agent does for a process without privilege: the process's own memory, a bound socket, nothing
//! else.

mod support;

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use driver_af_xdp::program::{Hook, Program};
use driver_af_xdp::socket::{Binding, RingSizes, Unbound};
use driver_af_xdp::{AfXdp, Interface, Way};
use fbufs::{Class, Pool};
use rustix::thread::capabilities;
use segment::control::{Frame, Kind, Listener, Received, Socket};
use support::{PATIENCE, PORT, Pair, compose, options, payload, receive, role, send_all};
use unet::device::{Count, Device, DeviceError, Frames, Mode, OpenError, Piece};

const BUFFERS: u32 = 128;

/// What is told of a binding, in a message of the tests' own.
fn told(binding: &Binding) -> Vec<u8> {
    let numbers = [
        binding.interface,
        binding.queue,
        binding.mtu as u32,
        binding.pieces as u32,
        binding.rings.receive,
        binding.rings.transmit,
        u32::from(binding.port),
    ];
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
    bytes.extend_from_slice(&binding.mac);
    bytes
}

fn heard(bytes: &[u8]) -> Binding {
    let number =
        |at: usize| u32::from_ne_bytes(bytes[at * 4..at * 4 + 4].try_into().expect("four bytes"));
    Binding {
        interface: number(0),
        queue: number(1),
        mtu: number(2) as usize,
        pieces: number(3) as usize,
        rings: RingSizes { receive: number(4), transmit: number(5) },
        port: number(6) as u16,
        mac: bytes[28..34].try_into().expect("six bytes"),
        mode: Mode::Generic,
    }
}

fn next(socket: &Socket) -> (Frame, Vec<std::os::fd::OwnedFd>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match socket.receive() {
            Received::Frame(frame, descriptors) => return (frame, descriptors),
            _ => assert!(Instant::now() < deadline, "silence"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The client: nobody, without a capability. Echoes what comes until a packet says to end.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_client() {
    let Some(arguments) = role::arguments() else { return };
    assert!(capabilities(None).expect("they can be read").effective.is_empty());
    assert!(matches!(Unbound::open().map(|_| ()), Err(OpenError::NotPermitted(_))));

    let class = Class { buffer_bytes: 2048, buffers: BUFFERS };
    let pool = Pool::for_device(class, false).expect("memory");
    let socket = Socket::connect(&arguments[0]).expect("the agent listens");
    let file = pool.file().expect("a device's pool has one");
    socket.send(&Frame::bare(Kind::Hello, 0), &[file]);
    let (frame, mut descriptors) = next(&socket);
    let bound = descriptors.pop().expect("a socket came");
    let binding = heard(frame.private());
    let mut device = AfXdp::from_bound(bound, pool, binding).expect("it is bound over the pool");
    assert_eq!(device.maintain(), Ok(()));
    role::say("ready");
    let mut got = Vec::new();
    let mut echoed = 0;
    let deadline = Instant::now() + PATIENCE;
    let ended = loop {
        assert!(Instant::now() < deadline, "{echoed} packets came");
        match device.receive(&mut got) {
            Ok(()) => {}
            Err(ended) => break ended,
        }
        echoed += got.len();
        let mut back = got.drain(..).map(|it| Piece::whole(it.bytes.freeze())).collect();
        device.transmit(&mut back).expect("the interface is up");
        if echoed == 1000 && device.maintain().is_err() {
            break DeviceError::Gone;
        }
    };
    assert_eq!((echoed, ended), (1000, DeviceError::Gone));
    let counts = device.statistics();
    assert_eq!((counts[Count::Sent], counts[Count::Fault]), (1000, 0));
}

#[test]
fn nobody_uses_a_queue_that_an_agent_bound_over_its_memory() {
    let pair = Pair::new();
    let name = format!("af-xdp-agent-{}", std::process::id());
    let listener = Listener::bind(&name).expect("free");
    let mut command = role::command("role_client", &[&name]);
    let mut client = role::start(command.uid(65534).gid(65534));
    let deadline = Instant::now() + PATIENCE;
    let socket = loop {
        if let Some(socket) = listener.accept().expect("it listens") {
            break socket;
        }
        assert!(Instant::now() < deadline, "nobody connected");
        std::thread::sleep(Duration::from_millis(1));
    };
    let (_, descriptors) = next(&socket);

    // The agent.
    let interface = Interface::find(&pair.far).expect("made");
    let program = Program::attach(&interface, Hook::Generic, false).expect("free");
    let unbound = Unbound::open().expect("permitted");
    let file = descriptors[0].as_fd();
    unbound.register_file(file, 2048, BUFFERS as usize).expect("open to be written");
    let rings = RingSizes::of(BUFFERS as usize);
    unbound.make_rings(rings).expect("memory");
    unbound.bind(interface.index, 0, false, 1, PATIENCE).expect("free");
    let bound = unbound.into_bound();
    program.steer(0, PORT, bound.as_fd()).expect("room");
    let binding = Binding {
        interface: interface.index,
        queue: 0,
        mac: interface.mac,
        mtu: interface.mtu,
        mode: Mode::Generic,
        pieces: 1,
        rings,
        port: PORT,
    };
    let welcome = Frame::new(Kind::Welcome, 0, 0, &told(&binding)).expect("short");
    socket.send(&welcome, &[bound.as_fd()]);
    drop((bound, descriptors));
    client.expect("ready");

    let mut near = AfXdp::open(&pair.near, 0, &options(Way::Generic, 64)).expect("free");
    for number in 0..1000u32 {
        let frame = compose(&mut near, &number.to_be_bytes()).expect("free");
        send_all(&mut near, &mut [frame].into());
        let back = receive(&mut near, 1);
        assert_eq!(payload(&back[0].bytes), number.to_be_bytes());
    }
    drop((near, pair));
    client.wait_success();
}

#[test]
fn memory_that_is_sealed_small_or_no_memfd_is_not_registered() {
    let class = Class { buffer_bytes: 2048, buffers: 16 };
    let socket = Unbound::open().expect("permitted");
    let refused = |pool: &Pool, buffers| {
        let file = pool.file().expect("a device's pool has one");
        matches!(socket.register_file(file, 2048, buffers), Err(OpenError::NotPermitted(_)))
    };
    let pool = Pool::for_device(class, false).expect("memory");
    assert!(refused(&pool, 17));
    pool.seal().expect("it can be");
    assert!(refused(&pool, 16), "a sealed one cannot be pinned");
    let file = std::fs::File::open("/proc/self/exe").expect("this program");
    let refused = socket.register_file(file.as_fd(), 2048, 1);
    assert!(matches!(refused, Err(OpenError::NotPermitted(_))));
    for (bytes, buffers) in [(2048, 0), (8192, 1), (0, 1), (usize::MAX, 2)] {
        let pool = Pool::for_device(class, false).expect("memory");
        let file = pool.file().expect("a device's pool has one");
        assert!(socket.register_file(file, bytes, buffers).is_err(), "{bytes} {buffers}");
    }
}

#[test]
fn a_binding_that_does_not_go_with_the_pool_or_the_socket_is_refused() {
    let pair = Pair::new();
    let interface = Interface::find(&pair.near).expect("made");
    let bind = |pool: &Pool| {
        let unbound = Unbound::open().expect("permitted");
        unbound.register(pool).expect("memory");
        unbound.make_rings(RingSizes { receive: 64, transmit: 64 }).expect("memory");
        unbound.bind(interface.index, 0, false, 1, PATIENCE).expect("free");
        unbound.into_bound()
    };
    let good = Binding {
        interface: interface.index,
        queue: 0,
        mac: interface.mac,
        mtu: 1500,
        mode: Mode::Generic,
        pieces: 1,
        rings: RingSizes { receive: 64, transmit: 64 },
        port: PORT,
    };
    let class = Class { buffer_bytes: 2048, buffers: 128 };
    let large = RingSizes { receive: 1 << 14, transmit: 64 };
    let none = RingSizes { receive: 0, transmit: 64 };
    let wrong = [
        Binding { rings: large, ..good },
        Binding { rings: none, ..good },
        Binding { pieces: 0, ..good },
        Binding { mode: Mode::Sockets, ..good },
    ];
    for binding in wrong {
        let pool = Pool::for_device(class, false).expect("memory");
        let socket = bind(&pool);
        assert!(AfXdp::from_bound(socket, pool, binding).is_err(), "{binding:?}");
    }
    let pool = Pool::for_device(class, false).expect("memory");
    let socket = bind(&pool);
    AfXdp::from_bound(socket, pool, good).expect("it goes together");
}
