//! Judged by the kernel, on the far side of a TAP interface: its ARP finds the port and is found by it, its UDP
//! speaks to the port's datagrams, and its pings are answered.
//!
//! Where DPDK is missing, that is all that is seen here.

#[cfg(not(dpdk))]
#[test]
fn without_dpdk_nothing_is_judged() {
    assert!(driver_dpdk::MISSING.is_some());
}

#[cfg(dpdk)]
mod judged {
    use std::collections::VecDeque;
    use std::io::Read;
    use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
    use std::num::NonZeroU16;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use driver_dpdk::{DpdkPort, Options};
    use unet::device::{
        Count, Datagrams, Device, DeviceError, Framed, FramedOptions, Frames, Neighbours, Outgoing,
        Piece,
    };

    const PATIENCE: Duration = Duration::from_secs(20);

    fn ip(words: &str) {
        let done = Command::new("ip").args(words.split(' ')).status().expect("iproute2 is there");
        assert!(done.success(), "ip {words}");
    }

    type Device4 = Framed<DpdkPort, Neighbours>;

    /// A port whose other end is an interface of the kernel's, in a subnet of their own; both addresses.
    fn tap(number: u8) -> (Device4, Ipv4Addr, Ipv4Addr) {
        let name = format!("tap{number}");
        let [kernel, port] = [1, 2].map(|host| Ipv4Addr::new(10, 66, number, host));
        let device = DpdkPort::open(&format!("net_{name},iface=d{name}"), &Options::default());
        let device = device.expect("a TAP interface");
        ip(&format!("addr add {kernel}/24 dev d{name}"));
        ip(&format!("link set d{name} up"));
        let routes = Neighbours::new(device.mac(), port, 24, None).expect("a host's");
        let options = FramedOptions::at(NonZeroU16::new(7000).expect("not zero"));
        (Framed::new(device, routes, options), kernel, port)
    }

    fn within<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(done) = attempt() {
                return done;
            }
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn the_kernel_is_found_and_finds_the_port_and_both_speak_udp() {
        let (mut device, kernel, port) = tap(0);
        let socket = UdpSocket::bind((kernel, 0)).expect("a socket");
        socket.set_nonblocking(true).expect("it can be");
        let to = socket.local_addr().expect("it is bound");
        let mut received = Vec::new();
        let destination = within("the kernel answers no ARP", || {
            let _ = device.maintain();
            let _ = device.receive(&mut received);
            match device.open(to) {
                Ok(destination) => Some(destination),
                Err(DeviceError::Unresolved) => None,
                Err(error) => panic!("{error}"),
            }
        });
        for len in [1, 100, 1472] {
            let headroom = device.capabilities().headroom;
            let mut fbuf = device.pool().alloc_with_headroom(headroom, len).expect("free");
            fbuf.fill(len as u8);
            let piece = Piece::whole(fbuf.freeze());
            let mut out = VecDeque::from([Outgoing { to: destination, piece }]);
            device.transmit(&mut out).expect("there is a link");
            let mut bytes = [0; 2000];
            let (got, from) =
                within("the kernel receives nothing", || socket.recv_from(&mut bytes).ok());
            assert_eq!(
                (&bytes[..got], from),
                (&vec![len as u8; len][..], SocketAddr::new(port.into(), 7000))
            );
            socket.send_to(&bytes[..got], from).expect("the kernel knows the way");
            let answer = within("the port receives nothing", || {
                device.receive(&mut received).expect("there is a link");
                received.pop()
            });
            assert_eq!((answer.from, &answer.piece.bytes[..]), (to, &bytes[..got]));
        }
        let counts = device.statistics();
        assert_eq!(counts[Count::Received], 3, "{counts:?}");
    }

    #[test]
    fn an_interface_that_is_deleted_is_gone_for_good() {
        let (mut device, ..) = tap(2);
        within("the link does not come up", || device.maintain().ok());
        ip("link del dtap2");
        assert_eq!(device.maintain(), Err(DeviceError::Gone));
        assert_eq!(device.receive(&mut Vec::new()), Err(DeviceError::Gone));
        drop(device);
        // The next one of that name is another.
        let (mut device, ..) = tap(2);
        within("the link does not come up", || device.maintain().ok());
    }

    #[test]
    fn the_kernels_own_question_is_answered() {
        let (mut device, kernel, port) = tap(1);
        // Nobody listens there: the kernel asks for the neighbour all the same.
        let socket = UdpSocket::bind((kernel, 0)).expect("a socket");
        socket.send_to(b"hello", (port, 7000)).expect("it is queued");
        let mut received = Vec::new();
        let hello = within("the kernel does not find the port", || {
            let _ = device.maintain();
            device.receive(&mut received).ok()?;
            received.pop()
        });
        assert_eq!(&hello.piece.bytes[..], b"hello");
        let known =
            Command::new("ip").args(["neigh", "show", "dev", "dtap1"]).output().expect("ip");
        let known = String::from_utf8_lossy(&known.stdout).to_string();
        let mac = device.device().mac().map(|byte| format!("{byte:02x}")).join(":");
        assert!(known.contains(&mac), "{mac}: {known}");
    }

    /// What `ping` says of three questions with so many bytes each, while the port is looked at.
    fn ping(device: &mut Device4, to: Ipv4Addr, bytes: &str) -> String {
        let mut asking = Command::new("ping")
            .args(["-n", "-c", "3", "-i", "0.2", "-W", "1", "-s", bytes, &to.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("ping is there (iputils-ping)");
        let mut received = Vec::new();
        within("ping does not end", || {
            let _ = device.maintain();
            device.receive(&mut received).expect("there is a link");
            asking.try_wait().expect("it is a child")
        });
        assert!(received.is_empty(), "nothing of it is a datagram");
        let mut said = String::new();
        let output = asking.stdout.as_mut().expect("it was piped");
        output.read_to_string(&mut said).expect("it is text");
        said
    }

    #[test]
    fn the_kernels_pings_are_answered_whole_and_not_in_fragments() {
        let (mut device, _, port) = tap(2);
        for bytes in ["0", "1", "56", "1472"] {
            let said = ping(&mut device, port, bytes);
            assert!(said.contains("3 packets transmitted, 3 received, 0% packet loss"), "{said}");
            // It says so where what comes back is not what it sent, or comes twice.
            assert!(!said.contains("wrong") && !said.contains("DUP"), "{said}");
        }
        let said = ping(&mut device, port, "1473");
        assert!(said.contains("3 packets transmitted, 0 received"), "{said}");
    }
}
