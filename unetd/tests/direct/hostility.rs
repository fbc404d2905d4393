//! What a hostile client that was lent a queue can do with it, and what it cannot.

use std::os::fd::{AsFd, OwnedFd};

use driver_af_xdp::lent::message::{Answer, Request};
use driver_af_xdp::socket::Unbound;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::fs::{fallocate, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::net::sockopt::{set_xdp_rx_ring_size, set_xdp_umem_reg};
use rustix::net::xdp::{SocketAddrXdp, SocketAddrXdpFlags, XdpUmemReg, XdpUmemRegFlags};
use segment::control::{Frame, Received, Socket};

use super::*;

pub const BUFFERS: u32 = 64;
pub const BYTES: u64 = BUFFERS as u64 * 2048;

pub fn request(port: u16) -> Request {
    Request {
        interface: "va".into(),
        queue: Some(0),
        port,
        buffers: BUFFERS,
        buffer_bytes: 2048,
        way: Way::Auto,
        several: false,
    }
}

/// A memfd as it should be, but for the seals.
pub fn memory(bytes: u64, seals: SealFlags) -> OwnedFd {
    let file = memfd_create("hostile", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    let file = file.expect("memory");
    ftruncate(&file, bytes).expect("memory");
    fallocate(&file, FallocateFlags::empty(), 0, bytes).expect("memory");
    fcntl_add_seals(&file, seals).expect("none is there");
    file
}

pub const GOOD_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// What comes next.
pub fn next(socket: &Socket) -> Option<(Frame, Vec<OwnedFd>)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match socket.receive() {
            Received::Frame(frame, descriptors) => return Some((frame, descriptors)),
            Received::Nothing => {}
            _ => return None,
        }
        assert!(Instant::now() < deadline, "silence");
        socket.wait_readable(Duration::from_millis(100));
    }
}

/// A queue by hand: the connection, and the socket.
pub fn granted(port: u16) -> (Socket, OwnedFd) {
    let socket = Socket::connect(NAME).expect("the agent listens");
    let file = memory(BYTES, GOOD_SEALS);
    socket.send(&request(port).frame().expect("valid"), &[file.as_fd()]);
    let (frame, mut descriptors) = next(&socket).expect("an answer");
    let Answer(binding) = Answer::of(&frame).expect("it is allowed");
    assert_eq!((binding.queue, binding.port, descriptors.len()), (0, port, 1));
    // Now the file has the seals of every segment.
    let seals = rustix::fs::fcntl_get_seals(&file).expect("a memfd");
    assert_eq!(seals, segment::memory::SEALS);
    (socket, descriptors.remove(0))
}

#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_hostile() {
    let Some(_) = role::arguments() else { return };
    assert!(matches!(Unbound::open().map(|_| ()), Err(OpenError::NotPermitted(_))));
    let (socket, bound) = granted(7000);
    // Another queue, or the same again.
    for queue in [0, 1] {
        let interface = driver_af_xdp::Interface::find("va").expect("it is there").index;
        let address = SocketAddrXdp::new(SocketAddrXdpFlags::XDP_COPY, interface, queue);
        assert_eq!(rustix::net::bind(&bound, &address), Err(Errno::BUSY));
    }
    // Other memory, other rings.
    let memory = vec![0u8; 1 << 16];
    let other = XdpUmemReg {
        addr: (memory.as_ptr() as u64).next_multiple_of(4096),
        len: 8192,
        chunk_size: 2048,
        headroom: 0,
        flags: XdpUmemRegFlags::empty(),
        tx_metadata_len: 0,
    };
    assert_eq!(set_xdp_umem_reg(&bound, other), Err(Errno::BUSY));
    assert_eq!(set_xdp_rx_ring_size(&bound, 64), Err(Errno::BUSY));
    // Of the agent: not its memory, not its descriptors.
    let agent = socket.credentials().expect("connected").pid;
    let denied = |path: String| {
        let kind = std::fs::File::open(path).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(kind, Err(std::io::ErrorKind::PermissionDenied));
    };
    denied(format!("/proc/{agent}/mem"));
    denied(format!("/proc/{agent}/fd/3"));
    drop((socket, bound));

    // Through the device: anything goes out. The sender's addresses are nobody's.
    let mut device = patiently(0, 7001).expect("it is free again");
    role::say("ready");
    let mut spoofed = frame(7000, [198, 51, 100, 66], b"spoofed");
    spoofed[6..12].copy_from_slice(&[6, 6, 6, 6, 6, 6]);
    send(&mut device, &spoofed);
    assert!(role::hear());
    // And nothing comes in but what is for its port.
    role::say(&format!("{:?}", payloads(&mut device, 2, Duration::from_millis(300))));
}

#[test]
fn a_hostile_client_sends_what_it_likes_and_gets_at_nothing_else() {
    use std::os::unix::process::CommandExt;
    let (_ours, theirs) = joined(2);
    let agency = Agency::start();
    let mut command = role::command("hostility::role_hostile", &["now"]);
    let mut hostile = role::start(command.uid(USERS[0].0).gid(USERS[0].0));
    let native = Options { way: Way::Native, ..options(7000) };
    let mut peer = peer(&theirs, 0, &native);
    hostile.expect("ready");
    // Source addresses are not policed: that is what the policy has to know.
    assert_eq!(payloads(&mut peer, 1, PATIENCE), [b"spoofed"]);
    for port in [7000, 7002, 7100, 53] {
        send(&mut peer, &frame(port, [192, 0, 2, 2], b"not for it"));
    }
    let mut ping = frame(7001, [192, 0, 2, 2], b"tcp, with its port");
    ping[23] = 6;
    send(&mut peer, &ping);
    send(&mut peer, &frame(7001, [192, 0, 2, 2], b"its own"));
    hostile.tell();
    hostile.expect(&format!("{:?}", [b"its own".to_vec()]));
    hostile.wait_success();
    agency.until_free();
}

#[test]
fn memory_that_its_owner_punches_holes_into_harms_nobody_else() {
    let (_ours, theirs) = joined(1);
    let agency = Agency::start();
    let socket = Socket::connect(NAME).expect("the agent listens");
    let file = memory(BYTES, GOOD_SEALS);
    socket.send(&request(7000).frame().expect("valid"), &[file.as_fd()]);
    assert!(next(&socket).is_some_and(|(frame, _)| Answer::of(&frame).is_ok()));
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    // A writable mapping by anybody is over; so is a change of size. The socket has the pages pinned.
    let _ = fallocate(&file, flags, 0, BYTES);
    assert!(ftruncate(&file, 4096).is_err());
    let mut peer = peer(&theirs, 0, &options(7000));
    (0..10).for_each(|_| send(&mut peer, &frame(7000, [192, 0, 2, 2], b"into a hole")));
    drop(socket);
    agency.until_free();
    ask(NAME, "va", Some(0), &options(7001)).map(|_| ()).expect("the agent goes on");
}
