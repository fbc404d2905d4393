//! What the program takes, and what it leaves to the kernel: ping, TCP, other ports, fragments, tags.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use driver_af_xdp::{AfXdp, Interface, Options, Way, Xdp, queues};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use support::frame::Udp4;
use support::{PATIENCE, PORT, Pair, WAYS, counted, drain, ip, options, payload, plain};
use support::{receive, send_all};
use unet::device::{Count, Device, Frames, Mode, OpenError, Opening};

const NEAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

/// A namespace with the far end of a pair in it, and kernel addresses at both.
struct Elsewhere(Child);

impl Elsewhere {
    fn with(pair: &Pair) -> Self {
        let mut child =
            Command::new("unshare").args(["--net", "sleep", "60"]).spawn().expect("util-linux");
        let id = child.id();
        let own = std::fs::read_link("/proc/self/ns/net").expect("proc");
        let there = || std::fs::read_link(format!("/proc/{id}/ns/net")).ok();
        while there().is_none_or(|other| other == own) {
            assert!(child.try_wait().expect("a child").is_none(), "it ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        let this = Self(child);
        ip(&format!("addr add {NEAR}/24 dev {}", pair.near));
        ip(&format!("link set {} netns {id}", pair.far));
        let far = pair.far.clone();
        this.run(move || {
            ip(&format!("addr add {FAR}/24 dev {far}"));
            ip(&format!("link set {far} up"));
            // So that a kernel socket completes its checksums.
            let off = ["-K", &far, "tx", "off"];
            Command::new("ethtool").args(off).output().expect("ethtool is there");
        });
        this
    }

    /// Runs something there, in a thread of its own.
    fn run<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> T {
        let path = format!("/proc/{}/ns/net", self.0.id());
        let there = std::fs::File::open(path).expect("proc");
        let thread = std::thread::spawn(move || {
            move_into_link_name_space(there.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("permitted");
            body()
        });
        thread.join().expect("it does not panic")
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_kernel_at_the_other_end_is_heard_on_our_port_and_nowhere_else() {
    for way in WAYS {
        let pair = Pair::new();
        let far = Elsewhere::with(&pair);
        let mut near = AfXdp::open(&pair.near, 0, &options(way, 64)).expect("free");
        std::thread::sleep(Duration::from_millis(300));

        let ping = far.run(|| {
            Command::new("ping").args(["-c1", "-W5", "10.9.0.1"]).output().expect("ping is there")
        });
        assert!(ping.status.success(), "{ping:?}");

        let listener = TcpListener::bind((NEAR, 0)).expect("an address");
        let address = listener.local_addr().expect("bound");
        let echo = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("one connects");
            let mut word = [0; 5];
            stream.read_exact(&mut word).expect("five bytes");
            stream.write_all(&word).expect("connected");
        });
        far.run(move || {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE).expect("TCP passes");
            stream.write_all(b"hello").expect("connected");
            let mut word = [0; 5];
            stream.read_exact(&mut word).expect("an echo");
        });
        echo.join().expect("it ends");

        let other = UdpSocket::bind((NEAR, PORT + 10)).expect("not ours");
        other.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        far.run(|| {
            let socket = UdpSocket::bind((FAR, 0)).expect("an address");
            socket.send_to(b"other", (NEAR, PORT + 10)).expect("sent");
            socket.send_to(b"ours", (NEAR, PORT)).expect("sent");
            // In fragments: the kernel puts them together, and nobody there reads them.
            socket.send_to(&[1; 4000], (NEAR, PORT)).expect("sent");
        });
        let mut bytes = [0; 16];
        assert_eq!(other.recv(&mut bytes).expect("it passes"), 5);
        let got = receive(&mut near, 1);
        assert_eq!(payload(&got[0].bytes), b"ours");
        drop(got);
        assert!(drain(&mut near).is_empty(), "{way:?}");
        assert_eq!(counted(&mut near, Count::Received), 1);

        // And the other way: the kernel there takes what the device sends.
        let mac = near.mac();
        let far_mac: [u8; 6] = far.run({
            let name = pair.far.clone();
            move || Interface::find(&name).expect("it is there").mac
        });
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                far.run(move || {
                    let socket = UdpSocket::bind((FAR, PORT)).expect("an address");
                    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                    ready.send(()).expect("heard");
                    let mut bytes = [0; 64];
                    let (len, from) = socket.recv_from(&mut bytes).expect("it arrives");
                    (bytes[..len].to_vec(), from)
                })
            });
            is_ready.recv().expect("said");
            let frame = Udp4::between(mac, far_mac, PORT).frame(b"to the kernel");
            let frame = plain(&mut near, &frame).expect("free");
            send_all(&mut near, &mut [frame].into());
            let (bytes, from) = reader.join().expect("it ends");
            assert_eq!(bytes, b"to the kernel");
            assert_eq!(from, SocketAddr::from((NEAR, PORT)));
        });
    }
}

#[test]
fn only_udp_to_our_port_without_tag_or_fragment_is_taken() {
    for way in WAYS {
        let pair = Pair::new();
        let (mut near, mut far) = pair.open(&options(way, 64));
        let ours = Udp4::between(near.mac(), far.mac(), PORT);
        let change = |frame: Vec<u8>, at: usize, to: u8| {
            let mut frame = frame;
            frame[at] = to;
            frame
        };
        let four = || ours.frame(b"four");
        let six = || ours.frame6(b"six");
        let tagged = || {
            let mut frame = four();
            frame.splice(12..12, [0x81, 0, 0, 5]);
            frame
        };
        let taken = [
            four(),
            six(),
            ours.with_options(1, b"options"),
            ours.with_options(10, b"options"),
            ours.frame(b""),
        ];
        let left = [
            tagged(),
            Udp4 { port: PORT + 1, ..ours }.frame(b"port"),
            Udp4 { port: PORT.swap_bytes(), ..ours }.frame(b"port"),
            Udp4 { port: PORT + 1, ..ours }.frame6(b"port"),
            change(four(), 20, 0x20), // more fragments
            change(four(), 21, 1),    // a later fragment
            change(four(), 23, 6),    // TCP
            change(four(), 14, 0x44), // a header too short
            change(four(), 14, 0x4f), // a header beyond the end
            change(four(), 14, 0x65), // a version that the type denies
            change(four(), 13, 0x06), // ARP
            change(six(), 20, 0),     // an extension header
            change(six(), 20, 44),    // a fragment
            four()[..40].to_vec(),
            six()[..60].to_vec(),
            four()[..14].to_vec(),
        ];
        for frame in &left {
            let frame = plain(&mut near, frame).expect("free");
            send_all(&mut near, &mut [frame].into());
        }
        assert!(drain(&mut far).is_empty(), "{way:?}");
        for frame in &taken {
            let piece = plain(&mut near, frame).expect("free");
            send_all(&mut near, &mut [piece].into());
            assert_eq!(&receive(&mut far, 1)[0].bytes[..], &frame[..], "{way:?}");
        }
        assert_eq!(counted(&mut far, Count::Received), taken.len() as u64);
        // A frame that is nothing but a header may be dropped before it leaves.
        let counts = near.statistics();
        assert_eq!(counts[Count::Sent] + counts[Count::Failed], (taken.len() + left.len()) as u64);
    }
}

#[test]
fn each_queue_gets_what_comes_in_on_it_for_its_own_port() {
    let pair = Pair::with(1500, 2);
    assert_eq!(queues(&pair.near), Ok(2));
    let driver = Xdp::default();
    let open_by = |mode: &str, name: &str, queue: u32, port: u16| {
        let (local, remote, buffers) = (None, None, 64);
        let mode = [("mode".to_owned(), mode.to_owned())];
        let opening = Opening { device: name, local, port, remote, options: &mode, buffers };
        driver.frames(&Interface::find(name)?, queue, &Options::of(&opening)?)
    };
    let open = |name: &str, queue, port| open_by("native", name, queue, port);
    let mut near: Vec<AfXdp> =
        (0..2).map(|queue| open(&pair.near, queue, PORT + queue as u16).expect("free")).collect();
    let mut far: Vec<AfXdp> =
        (0..2).map(|queue| open(&pair.far, queue, PORT + queue as u16).expect("free")).collect();
    for (queue, device) in near.iter_mut().enumerate() {
        for port in 0..2 {
            let bytes = Udp4::between([2; 6], [2; 6], PORT + port).frame(&[queue as u8]);
            let frame = plain(device, &bytes).expect("free");
            send_all(device, &mut [frame].into());
        }
    }
    for (queue, device) in far.iter_mut().enumerate() {
        let got = receive(device, 1);
        assert_eq!(payload(&got[0].bytes), [queue as u8]);
        drop(got);
        assert!(drain(device).is_empty(), "the other port is not this queue's");
    }
    assert!(matches!(open(&pair.far, 2, PORT + 2), Err(OpenError::BadValue(_))));
    assert!(matches!(open(&pair.far, 0, PORT + 3), Err(OpenError::Busy(_))));
    let generic = Pair::with(1500, 2);
    let _first = open_by("auto", &generic.near, 0, PORT + 4).expect("free");
    let second = open_by("auto", &generic.near, 1, PORT + 5).map(|_| ());
    assert!(matches!(second, Err(OpenError::Unsupported(_))), "{second:?}");
    // One goes, the other stays.
    drop(far.remove(0));
    let frame = Udp4::between([2; 6], [2; 6], PORT + 1).frame(b"still");
    let frame = plain(&mut near[1], &frame).expect("free");
    send_all(&mut near[1], &mut [frame].into());
    assert_eq!(payload(&receive(&mut far[0], 1)[0].bytes), b"still");
}

#[test]
fn one_port_on_several_queues_is_shared_by_one_process() {
    let pair = Pair::with(1500, 2);
    let interface = Interface::find(&pair.far).expect("made");
    let first = Options { port: PORT + 20, ..options(Way::Native, 64) };
    let program = Arc::new(driver_af_xdp::open::attach(&interface, 0, &first).expect("free"));
    let second = Options { reserve: false, ..first };
    let mut far = [
        AfXdp::open_with(&program, &interface, 0, &first).expect("free"),
        AfXdp::open_with(&program, &interface, 1, &second).expect("free"),
    ];
    let taken = AfXdp::open_with(&program, &interface, 1, &first).map(|_| ());
    assert!(matches!(taken, Err(OpenError::Busy(_) | OpenError::AddressInUse)), "{taken:?}");
    let mut near = AfXdp::open(&pair.near, 1, &options(Way::Auto, 64)).expect("free");
    assert_eq!(near.capabilities().mode, Mode::Native);
    let frame = Udp4::between([2; 6], [2; 6], PORT + 20).frame(b"second");
    let frame = plain(&mut near, &frame).expect("free");
    send_all(&mut near, &mut [frame].into());
    assert_eq!(payload(&receive(&mut far[1], 1)[0].bytes), b"second");
    assert!(drain(&mut far[0]).is_empty());
}

#[test]
fn the_port_is_kept_from_the_kernels_sockets_while_the_device_is_open() {
    let pair = Pair::new();
    let device = AfXdp::open(&pair.near, 0, &Options { port: 0, ..Options::default() });
    let device = device.expect("free");
    let port = device.binding().port;
    assert_ne!(port, 0);
    assert!(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_err());
    drop(device);
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("free again");
    let taken = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("free");
    let refused = AfXdp::open(&pair.near, 0, &Options { port, ..Options::default() }).map(|_| ());
    assert_eq!(refused, Err(OpenError::AddressInUse));
    drop(taken);
}
