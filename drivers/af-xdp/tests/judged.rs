//! Datagrams of frames, with the kernel's sockets on the other side as the judge: needs root.
//!
//! Frames go through a packet socket on a veth, which is the plainest device there is; ways are the
//! kernel's.

mod namespaces;

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use driver_af_xdp::KernelRoutes;
use namespaces::{Namespace, joined};
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use unet::device::{
    Capabilities, Count, Datagrams, Destination, Device, DeviceError, Framed, FramedOptions,
    Frames, Mode, Outgoing, Piece, Received, Statistics, Verify,
};
use unet::{Class, Fbuf, FbufMut, Pool, PoolOptions};

const PORT: u16 = 7000;

/// A packet socket on an interface.
struct Packets {
    pool: Pool,
    fd: OwnedFd,
    statistics: Statistics,
}

impl Packets {
    fn new(interface: &str) -> Self {
        let mut options = PoolOptions { classes: Default::default(), ..PoolOptions::default() };
        options.classes[0] = Class { buffer_bytes: 2048, buffers: 64 };
        let all = (libc::ETH_P_ALL as u16).to_be();
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let protocol = Protocol::from_raw(u32::from(all).try_into().expect("it is not zero"));
        let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(protocol));
        let fd = fd.expect("root is needed");
        let index = name_to_index(&fd, interface).expect("it is there");
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: all,
            sll_ifindex: index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address is one of a packet socket, lives through the call, and is of that length.
        let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) };
        assert_eq!(bound, 0);
        let pool = Pool::new(options).expect("memory is left");
        Self { pool, fd, statistics: Statistics::default() }
    }
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Device for Packets {
    fn capabilities(&self) -> Capabilities {
        let (mode, mtu) = (Mode::Sockets, 1500);
        Capabilities { mode, mtu, headroom: 0, piece_bytes: 2048, pieces: 1, burst: 32, stock: 0 }
    }

    fn statistics(&mut self) -> Statistics {
        self.statistics
    }

    fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        Ok(true)
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

impl Frames for Packets {
    fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, 0xa]
    }

    fn transmit(&mut self, frames: &mut VecDeque<Piece<Fbuf>>) -> Result<(), DeviceError> {
        while let Some(frame) = frames.pop_front() {
            send(&self.fd, &frame.bytes, SendFlags::empty()).map_err(DeviceError::Kernel)?;
            self.statistics.add(Count::Sent, 1);
        }
        Ok(())
    }

    fn receive(&mut self, into: &mut Vec<Piece<FbufMut>>) -> Result<(), DeviceError> {
        for _ in 0..32 {
            let mut fbuf = self.pool.alloc(2048).expect("a buffer is free");
            match recv(&self.fd, &mut fbuf[..], RecvFlags::empty()) {
                Ok((_, len)) => fbuf.truncate(len),
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(DeviceError::Kernel(error)),
            }
            self.statistics.add(Count::Received, 1);
            into.push(Piece::whole(fbuf));
        }
        Ok(())
    }
}

struct Lab {
    device: Framed<Packets, KernelRoutes>,
    /// A socket of the kernel on the other side, of each family.
    peers: [UdpSocket; 2],
    /// Keeps our side's kernel from answering that nobody is at the port.
    _quiet: [UdpSocket; 2],
    _both: (Namespace, Namespace),
}

const OURS: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const THEIRS: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

fn bind(hosts: [&str; 2]) -> [UdpSocket; 2] {
    hosts.map(|host| {
        let address = SocketAddr::new(host.parse().expect("it is an address"), PORT);
        let socket = UdpSocket::bind(address).expect("it is free");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("it is an option");
        socket
    })
}

fn lab(verify: Verify) -> Lab {
    let both = joined();
    both.1.enter();
    let peers = bind(THEIRS);
    both.0.enter();
    let mut options = FramedOptions::at(NonZeroU16::new(PORT).expect("it is not zero"));
    options.verify = verify;
    let routes = KernelRoutes::open("va").expect("it is there");
    let device = Framed::new(Packets::new("va"), routes, options);
    Lab { device, peers, _quiet: bind(OURS), _both: both }
}

impl Lab {
    fn open(&mut self, host: &str) -> Destination {
        let to = SocketAddr::new(host.parse().expect("it is an address"), PORT);
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            // Down until the link is up.
            _ = self.device.maintain();
            match self.device.open(to) {
                Ok(destination) => return destination,
                Err(error) => assert!(error.is_passing() && Instant::now() < end, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn receive(&mut self) -> Option<Received> {
        let end = Instant::now() + Duration::from_secs(2);
        let mut into = Vec::new();
        while into.is_empty() && Instant::now() < end {
            self.device.receive(&mut into).expect("the device is up");
            std::thread::sleep(Duration::from_millis(5));
        }
        into.pop()
    }
}

#[test]
fn the_kernel_takes_our_frames_and_we_take_its_own() {
    let mut lab = lab(Verify::OrPartial);
    for (family, host) in THEIRS.into_iter().enumerate() {
        let to = lab.open(host);
        let most = lab.device.max_payload(to);
        for len in [0, 1, 2, 63, 64, 1000, 1001, most] {
            let headroom = lab.device.capabilities().headroom;
            let fbuf = lab.device.pool().alloc_with_headroom(headroom, len);
            let mut fbuf = fbuf.expect("a buffer is free");
            fbuf.iter_mut().enumerate().for_each(|(place, byte)| *byte = (place * 31) as u8);
            let sent = fbuf.to_vec();
            let mut out = VecDeque::from([Outgoing { to, piece: Piece::whole(fbuf.freeze()) }]);
            lab.device.transmit(&mut out).expect("the device is up");
            let mut bytes = [0; 2048];
            let (got, from) = lab.peers[family].recv_from(&mut bytes).expect("it takes it");
            assert_eq!(&bytes[..got], sent);
            assert_eq!((from.ip().to_string(), from.port()), (OURS[family].to_owned(), PORT));
            lab.peers[family].send_to(&bytes[..got], from).expect("it answers");
            let answer = lab.receive().expect("we take it");
            assert_eq!((&answer.piece.bytes[..], answer.from.port()), (&sent[..], PORT));
            assert_eq!(answer.from.ip().to_string(), THEIRS[family]);
        }
    }
    assert_eq!(lab.device.copies(), 0);
    assert_eq!(lab.device.statistics()[Count::Received], 16);
}

#[test]
fn what_a_veth_leaves_unfinished_is_refused_where_checksums_must_be_right() {
    let mut lab = lab(Verify::Strict);
    lab.open(THEIRS[0]);
    lab.peers[0].send_to(b"unfinished", (OURS[0], PORT)).expect("it is sent");
    assert!(lab.receive().is_none());
    assert_eq!(lab.device.statistics()[Count::BadChecksum], 1);
}
