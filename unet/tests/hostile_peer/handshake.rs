//! Lies before there is a channel: each is refused by name, counted, and harms nobody else.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{pread, pwrite};
use segment::Incarnation;
use segment::control::{Frame, Kind, Listener, Received, Sent, Socket};
use segment::memory::{AttachError, SEALS};
use unet::{
    AcceptError, Address, Channel, ConnectError, Counter, Endpoint, Event, Geometry, Incoming,
    Refusal, Wait,
};

use crate::support::hostile::{Asking, ask, ask_along, say_bytes};
use crate::support::{
    PATIENCE, accept, address, connect_options, eventually, join, listening, small,
};

const INCARNATION: u64 = 0x1234_5678_9ABC_DEF0;

/// The header of an honest segment of this incarnation.
fn honest_header() -> [u8; 88] {
    let own = small().create(Incarnation(INCARNATION), false).expect("a segment");
    let mut header = [0; 88];
    assert_eq!(pread(&own, &mut header, 0), Ok(88));
    header
}

/// A segment that was altered before it was sealed.
fn forged(header: &[u8], len: usize, seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create("unet-forged", flags).expect("a memfd");
    ftruncate(&fd, len as u64).expect("it is not sealed yet");
    if len >= header.len() {
        assert_eq!(pwrite(&fd, header, 0), Ok(header.len()));
    }
    fcntl_add_seals(&fd, seals).expect("it may be sealed");
    fd
}

/// An honest segment with some bytes of its header replaced.
fn with_header(at: usize, bytes: &[u8]) -> OwnedFd {
    let mut header = honest_header();
    header[at..at + bytes.len()].copy_from_slice(bytes);
    forged(&header, small().total_bytes(), SEALS)
}

/// An honest region.
fn region(incarnation: u64) -> OwnedFd {
    let region = Geometry::region(small().classes, false);
    let own = region.create(Incarnation(incarnation), false).expect("a region");
    own.as_fd().try_clone_to_owned().expect("a descriptor is left")
}

/// What is offered as a region, and what is wrong with it.
fn region_lies() -> Vec<(&'static str, OwnedFd, AttachError)> {
    let honest = region(1);
    let mut header = [0; 88];
    assert_eq!(pread(&honest, &mut header, 0), Ok(88));
    let len = Geometry::region(small().classes, false).total_bytes();
    let with = |at: usize, bytes: &[u8]| {
        let mut header = header;
        header[at..at + bytes.len()].copy_from_slice(bytes);
        forged(&header, len, SEALS)
    };
    let without = |seal| forged(&header, len, SEALS.difference(seal));
    let (pipe, _) = std::io::pipe().expect("a pipe");
    use AttachError::*;
    vec![
        ("a pipe", pipe.into(), NotAMemfd),
        ("no seals", forged(&header, len, SealFlags::empty()), Unsealed),
        ("may shrink", without(SealFlags::SHRINK), Unsealed),
        ("may grow", without(SealFlags::GROW), Unsealed),
        ("may be written by others", without(SealFlags::FUTURE_WRITE), Unsealed),
        ("may be sealed further", without(SealFlags::SEAL), Unsealed),
        ("empty", forged(&header, 0, SEALS), WrongMagic),
        ("a page short", forged(&header, len - 4096, SEALS), WrongSize),
        ("a page long", forged(&header, len + 4096, SEALS), WrongSize),
        ("another magic", with(0, b"UNETSEH\0"), WrongMagic),
        ("another version", with(8, &[1]), WrongVersion(1)),
        ("slots", with(12, &[8]), WrongLayout),
        ("an area", with(32, &[64]), WrongLayout),
        ("another size", with(24, &[0xFF; 8]), WrongSize),
        ("a crooked buffer", with(40, &[1]), WrongLayout),
        ("too many buffers", with(44, &[0xFF; 4]), WrongLayout),
        (
            "a channel's segment",
            forged(&honest_header(), small().total_bytes(), SEALS),
            WrongLayout,
        ),
    ]
}

/// What is offered as a segment, and what is wrong with it.
fn lies() -> Vec<(&'static str, OwnedFd, AttachError)> {
    let len = small().total_bytes();
    let honest = honest_header();
    let word = |number: u32| number.to_le_bytes();
    let file = File::open(std::env::current_exe().expect("a path")).expect("it is readable");
    let zero = File::open("/dev/zero").expect("there is one");
    let folder = File::open("/").expect("there is one");
    let (pipe, _) = std::io::pipe().expect("a pipe");
    let (socket, _) = std::os::unix::net::UnixStream::pair().expect("a socket");
    let without = |seal| forged(&honest, len, SEALS.difference(seal));
    use AttachError::*;
    vec![
        ("a file", file.into(), NotAMemfd),
        ("/dev/zero", zero.into(), NotAMemfd),
        ("a folder", folder.into(), NotAMemfd),
        ("a pipe", pipe.into(), NotAMemfd),
        ("a socket", socket.into(), NotAMemfd),
        ("no seals", forged(&honest, len, SealFlags::empty()), Unsealed),
        ("may shrink", without(SealFlags::SHRINK), Unsealed),
        ("may grow", without(SealFlags::GROW), Unsealed),
        ("may be written by others", without(SealFlags::FUTURE_WRITE), Unsealed),
        ("may be sealed further", without(SealFlags::SEAL), Unsealed),
        ("empty", forged(&honest, 0, SEALS), WrongMagic),
        ("shorter than a header", forged(&honest[..40], 40, SEALS), WrongMagic),
        ("truncated", forged(&honest, 4096, SEALS), WrongSize),
        ("a page short", forged(&honest, len - 4096, SEALS), WrongSize),
        ("a page long", forged(&honest, len + 4096, SEALS), WrongSize),
        ("punched", forged(&[0; 88], len, SEALS), WrongMagic),
        ("another magic", with_header(0, b"UNETSEH\0"), WrongMagic),
        ("a later version", with_header(8, &word(3)), WrongVersion(3)),
        ("an earlier version", with_header(8, &word(1)), WrongVersion(1)),
        ("version zero", with_header(8, &word(0)), WrongVersion(0)),
        ("no slots", with_header(12, &word(0)), WrongLayout),
        ("an odd number of slots", with_header(12, &word(17)), WrongLayout),
        ("too many slots", with_header(12, &word(1 << 31)), WrongLayout),
        ("another incarnation", with_header(16, &[0; 8]), WrongIncarnation),
        ("another size", with_header(24, &[0xFF; 8]), WrongSize),
        ("an area beyond the end", with_header(32, &word(1 << 20)), WrongSize),
        ("a crooked area", with_header(32, &word(1)), WrongLayout),
        ("falsely huge pages", with_header(36, &word(1)), WrongSize),
        ("pages of size 2", with_header(36, &word(2)), WrongLayout),
        ("a crooked buffer", with_header(40, &word(4097)), WrongLayout),
        ("a giant buffer", with_header(40, &word(!63)), WrongLayout),
        ("too many buffers", with_header(44, &word(u32::MAX)), WrongLayout),
        ("classes out of order", with_header(40, &word(1 << 20)), WrongLayout),
        ("a region", region(INCARNATION), WrongLayout),
        ("a class after the last", with_header(64, &[64, 0, 0, 0, 1, 0, 0, 0]), WrongLayout),
    ]
}

fn dial(address: &Address) -> Socket {
    let Address::Shm(name) = address else { panic!("it is a name on this host") };
    Socket::connect(name).expect("somebody listens")
}

fn hello(socket: &Socket, descriptor: Option<BorrowedFd<'_>>) {
    let hello = Frame::new(Kind::Hello, INCARNATION, 0, b"").expect("it fits");
    socket.send(&hello, descriptor.as_slice());
}

/// What the listener answers, and hangs up.
fn answer(socket: &Socket) -> Option<Frame> {
    assert!(socket.wait_readable(PATIENCE), "it answers, or hangs up");
    match socket.receive() {
        Received::Frame(frame, none) if none.is_empty() => Some(frame),
        Received::HungUp => None,
        other => panic!("a refusal or nothing, not {other:?}"),
    }
}

/// Lets the endpoint work until a counter of its own has this value. Nothing is to be received.
fn until_counted(endpoint: &mut Endpoint, counter: Counter, value: u64) {
    eventually("the refusal is counted", || {
        if let Some(event) = endpoint.recv_timeout(Duration::from_millis(1)) {
            panic!("nothing is to be received: {event:?}");
        }
        endpoint.counters().get(counter) >= value
    });
    assert_eq!(endpoint.counters().get(counter), value);
}

/// After all that, an honest client is served.
fn still_serves(mut endpoint: Endpoint, address: &Address) {
    let (id, mut client) = join(&mut endpoint, address, Wait::Adaptive);
    client.send(b"hello").expect("connected");
    match endpoint.recv_timeout(PATIENCE) {
        Some(Event::Message(from, message)) => {
            assert_eq!((from, message.inline()), (id, &b"hello"[..]));
        }
        other => panic!("the client spoke: {other:?}"),
    }
}

#[test]
fn a_listener_names_what_is_wrong_with_a_clients_segment() {
    let address = address("forged");
    let mut endpoint = listening(&address, Wait::Park);
    let mut refused = 0;
    for (what, fd, expected) in lies() {
        let socket = dial(&address);
        hello(&socket, Some(fd.as_fd()));
        let Some(Event::Incoming(incoming)) = endpoint.recv_timeout(PATIENCE) else {
            panic!("{what}: the request was well-formed");
        };
        let outcome = endpoint.accept(incoming, b"");
        assert_eq!(outcome, Err(AcceptError::Segment(expected)), "{what}");
        refused += 1;
        assert_eq!(endpoint.counters().get(Counter::RefusedSegment), refused, "{what}");
        let refusal = answer(&socket).expect(what);
        let code = if matches!(expected, AttachError::WrongVersion(_)) { 4 } else { 3 };
        assert_eq!((refusal.kind, refusal.value), (Kind::Refusal, code), "{what}");
    }
    assert_eq!(endpoint.channels(), 0);
    still_serves(endpoint, &address);
}

/// Asks with an honest segment and these regions; the request as it arrives.
fn ask_for(endpoint: &mut Endpoint, address: &Address, regions: &[&OwnedFd]) -> (Asking, Incoming) {
    let regions: Vec<BorrowedFd<'_>> = regions.iter().map(|fd| fd.as_fd()).collect();
    let asking = ask_along(address, small(), &regions).expect("the listener is there");
    match endpoint.recv_timeout(PATIENCE) {
        Some(Event::Incoming(incoming)) => (asking, incoming),
        other => panic!("the request was well-formed, not {other:?}"),
    }
}

#[test]
fn a_listener_names_what_is_wrong_with_a_clients_region() {
    let address = address("region");
    let mut endpoint = listening(&address, Wait::Park);
    let honest = region(1);
    let mut refused = 0;
    for (what, fd, expected) in region_lies() {
        // Alone; behind an honest one; and where the application looked before it accepted.
        for (regions, looks) in [(vec![&fd], false), (vec![&honest, &fd], false), (vec![&fd], true)]
        {
            let (asking, mut incoming) = ask_for(&mut endpoint, &address, &regions);
            if looks {
                assert_eq!(incoming.path().err(), Some(expected), "{what}");
                assert_eq!(incoming.path().err(), Some(expected), "{what}: it stays so");
            }
            let outcome = endpoint.accept(incoming, b"");
            assert_eq!(outcome, Err(AcceptError::Segment(expected)), "{what}");
            refused += 1;
            assert_eq!(endpoint.counters().get(Counter::RefusedSegment), refused, "{what}");
            assert_eq!(answer(&asking.socket).expect(what).kind, Kind::Refusal, "{what}");
        }
    }
    assert_eq!(endpoint.channels(), 0);
    still_serves(endpoint, &address);
}

#[test]
fn as_many_regions_as_a_path_may_have_are_taken_and_one_more_is_not() {
    let address = address("regions");
    let mut endpoint = listening(&address, Wait::Park);
    let honest = region(1);
    let (asking, mut incoming) = ask_for(&mut endpoint, &address, &[&honest; 7]);
    assert_eq!(incoming.path().expect("they are honest").regions(), 7);
    endpoint.accept(incoming, b"").expect("it is honest");
    assert!(asking.welcomed().is_some());
    let own = small().create(Incarnation(INCARNATION), false).expect("a segment");
    let mut hello = b"UNET\x01\0\x01\0".to_vec();
    hello.extend(INCARNATION.to_le_bytes());
    hello.extend([0; 8]);
    for (number, more) in [8, 15].into_iter().enumerate() {
        let socket = dial(&address);
        let mut descriptors = vec![own.as_fd()];
        descriptors.extend(vec![honest.as_fd(); more]);
        assert!(say_bytes(&socket, &hello, &descriptors));
        eventually("it is counted", || {
            // The one that was accepted has hung up meanwhile.
            let event = endpoint.recv_timeout(Duration::from_millis(1));
            assert!(matches!(event, None | Some(Event::Closed(..))), "{event:?}");
            endpoint.counters().get(Counter::HandshakeFailed) == number as u64 + 1
        });
        assert_eq!(answer(&socket), None, "{more} regions");
    }
    still_serves(endpoint, &address);
}

#[test]
fn a_client_names_what_is_wrong_with_a_listeners_region() {
    let welcome = |regions: Vec<OwnedFd>| {
        move |socket: &Socket| {
            let own = small().create(Incarnation(INCARNATION), false).expect("a segment");
            let welcome = Frame::new(Kind::Welcome, INCARNATION, 0, b"").expect("it fits");
            let mut descriptors = vec![own.as_fd()];
            descriptors.extend(regions.iter().map(|fd| fd.as_fd()));
            socket.send(&welcome, &descriptors);
        }
    };
    for (what, fd, expected) in region_lies() {
        let outcome = connect_to_liar(welcome(vec![region(1), fd]));
        assert_eq!(outcome, ConnectError::Segment(expected), "{what}");
    }
    let many = |socket: &Socket| {
        let own = small().create(Incarnation(INCARNATION), false).expect("a segment");
        let mut bytes = b"UNET\x02\0\x01\0".to_vec();
        bytes.extend(INCARNATION.to_le_bytes());
        bytes.extend([0; 8]);
        assert!(say_bytes(socket, &bytes, &[own.as_fd(); 9]));
    };
    assert_eq!(connect_to_liar(many), ConnectError::Protocol);
}

#[test]
fn a_client_names_what_is_wrong_with_a_listeners_segment() {
    for (what, fd, expected) in lies() {
        let outcome = connect_to_liar(move |socket| {
            let welcome = Frame::new(Kind::Welcome, INCARNATION, 0, b"").expect("it fits");
            socket.send(&welcome, &[fd.as_fd()]);
        });
        assert_eq!(outcome, ConnectError::Segment(expected), "{what}");
    }
}

/// Connects to a listener that accepts and then does something else than welcome.
fn connect_to_liar(lie: impl FnOnce(&Socket) + Send + 'static) -> ConnectError {
    let address = address("liar");
    let Address::Shm(name) = &address else { panic!("it is a name on this host") };
    let listener = Listener::bind(name).expect("the name is free");
    let liar = std::thread::spawn(move || {
        let socket = loop {
            if let Some(socket) = listener.accept().expect("a descriptor is left") {
                break socket;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        assert!(socket.wait_readable(PATIENCE), "the client says hello");
        assert!(matches!(socket.receive(), Received::Frame(_, fds) if !fds.is_empty()));
        lie(&socket);
        // Stays until the client has made up its mind.
        socket.wait_readable(PATIENCE);
    });
    let mut options = connect_options(Wait::Park);
    options.timeout = Duration::from_millis(300);
    let outcome = Channel::connect(&address, options).expect_err("it was lied to");
    liar.join().expect("the liar does not panic");
    outcome
}

#[test]
fn a_client_names_what_a_listener_says_out_of_place() {
    let own = || small().create(Incarnation(INCARNATION), false).expect("a segment");
    let bare = |kind| {
        move |socket: &Socket| assert_eq!(socket.send(&Frame::bare(kind, 1), &[]), Sent::Yes)
    };
    let protocol = ConnectError::Protocol;
    assert_eq!(connect_to_liar(bare(Kind::Welcome)), protocol, "a welcome without a segment");
    assert_eq!(connect_to_liar(bare(Kind::Hello)), protocol);
    assert_eq!(connect_to_liar(bare(Kind::Doorbell)), protocol);
    assert_eq!(connect_to_liar(bare(Kind::Refusal)), ConnectError::Refused(Refusal::Policy));
    let unknown = |socket: &Socket| {
        assert_eq!(socket.send(&Frame::bare(Kind::Refusal, 999), &[]), Sent::Yes);
    };
    assert_eq!(connect_to_liar(unknown), ConnectError::Refused(Refusal::Other));
    let with_fd = move |socket: &Socket| {
        let own = own();
        socket.send(&Frame::bare(Kind::Refusal, 1), &[own.as_fd()]);
    };
    assert_eq!(connect_to_liar(with_fd), protocol, "a refusal with a descriptor");
    let garbage = |socket: &Socket| assert!(say_bytes(socket, b"garbage", &[]));
    assert_eq!(connect_to_liar(garbage), protocol);
    let version = |socket: &Socket| {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(b"UNET\x02\0\x09\0");
        assert!(say_bytes(socket, &bytes, &[]));
    };
    assert_eq!(connect_to_liar(version), ConnectError::Version(9));
    assert_eq!(connect_to_liar(|_| {}), ConnectError::TimedOut, "it says nothing");
    assert_eq!(connect_to_liar(Socket::hang_up), ConnectError::PeerDied, "it hangs up");
}

#[test]
fn a_request_that_is_none_is_counted_and_hung_up_on() {
    let address = address("request");
    let mut endpoint = listening(&address, Wait::Park);
    let own = small().create(Incarnation(INCARNATION), false).expect("a segment");
    let mut failed = 0;
    let mut fails = |endpoint: &mut Endpoint, what: &str, lie: &dyn Fn(&Socket)| {
        let socket = dial(&address);
        lie(&socket);
        failed += 1;
        until_counted(endpoint, Counter::HandshakeFailed, failed);
        assert_eq!(answer(&socket), None, "{what}");
    };
    fails(&mut endpoint, "hello without a segment", &|socket| hello(socket, None));
    for kind in [Kind::Welcome, Kind::Refusal, Kind::Doorbell] {
        fails(&mut endpoint, "another word than hello", &|socket| {
            socket.send(&Frame::bare(kind, 1), &[own.as_fd()]);
        });
    }
    fails(&mut endpoint, "garbage", &|socket| assert!(say_bytes(socket, &[0xAA; 300], &[])));
    fails(&mut endpoint, "an empty message", &|socket| assert!(say_bytes(socket, b"", &[])));
    fails(&mut endpoint, "a truncated hello", &|socket| {
        assert!(say_bytes(socket, b"UNET\x01\0\x01\0", &[own.as_fd()]));
    });
    fails(&mut endpoint, "an early farewell", &|socket| socket.hang_up());
    still_serves(endpoint, &address);
}

#[test]
fn a_client_of_another_version_is_told_so() {
    let address = address("version");
    let mut endpoint = listening(&address, Wait::Park);
    let socket = dial(&address);
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(b"UNET\x01\0\x07\0");
    assert!(say_bytes(&socket, &bytes, &[]));
    until_counted(&mut endpoint, Counter::RefusedVersion, 1);
    let refusal = answer(&socket).expect("it is told");
    assert_eq!((refusal.kind, refusal.value), (Kind::Refusal, 4));
    still_serves(endpoint, &address);
}

#[test]
fn hello_said_twice_poisons() {
    let address = address("twice");
    let mut endpoint = listening(&address, Wait::Park);
    let asking = ask(&address).expect("the listener is there");
    hello(&asking.socket, None);
    let id = accept(&mut endpoint);
    match endpoint.recv_timeout(PATIENCE) {
        Some(Event::Closed(which, reason)) => {
            assert_eq!(which, id);
            assert_eq!(reason, unet::CloseReason::Poisoned(unet::Fault::Control));
        }
        other => panic!("the second hello was to be noticed: {other:?}"),
    }
    still_serves(endpoint, &address);
}

#[test]
fn a_client_that_says_nothing_is_let_go() {
    let address = address("silent");
    let mut endpoint = listening(&address, Wait::Park);
    let socket = dial(&address);
    let begin = Instant::now();
    until_counted(&mut endpoint, Counter::HandshakeFailed, 1);
    assert!(begin.elapsed() < Duration::from_secs(5), "it took {:?}", begin.elapsed());
    assert_eq!(answer(&socket), None, "it is hung up on");
    still_serves(endpoint, &address);
}

#[test]
fn two_hundred_silent_clients_hold_up_an_honest_one_for_a_moment_only() {
    let address = address("crowd");
    let mut endpoint = listening(&address, Wait::Adaptive);
    let crowd: Vec<Socket> = std::thread::scope(|scope| {
        let crowd = scope.spawn(|| {
            let Address::Shm(name) = &address else { panic!("it is a name on this host") };
            let mut crowd = Vec::new();
            while crowd.len() < 200 {
                match Socket::connect(name) {
                    Ok(socket) => crowd.push(socket),
                    // The backlog is full.
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
            crowd
        });
        eventually("everyone is refused or let go", || {
            if let Some(event) = endpoint.recv_timeout(Duration::from_millis(1)) {
                panic!("nobody said anything: {event:?}");
            }
            let counters = endpoint.counters();
            let busy = counters.get(Counter::RefusedResources);
            let silent = counters.get(Counter::HandshakeFailed);
            busy + silent == 200
        });
        crowd.join().expect("no panic")
    });
    let counters = endpoint.counters();
    assert!(counters.get(Counter::RefusedResources) > 0, "some were too many");
    assert!(counters.get(Counter::HandshakeFailed) >= 64, "some were waited for");
    let told = crowd.iter().filter_map(answer).filter(|frame| frame.value == 6).count() as u64;
    assert_eq!(told, counters.get(Counter::RefusedResources), "who was too many is told so");
    still_serves(endpoint, &address);
}

#[test]
fn a_layout_that_is_out_of_bounds_cannot_be_listened_with() {
    let mut endpoint = Endpoint::new(unet::EndpointOptions::default()).expect("an endpoint");
    let mut options = unet::ListenOptions::default();
    options.channel.geometry = Geometry { slots: 9, ..small() };
    let outcome = endpoint.listen(&address("bounds"), options);
    assert_eq!(outcome, Err(unet::ListenError::Geometry));
}
