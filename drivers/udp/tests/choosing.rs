//! What an address chooses, and what it cannot have.

mod devices;

use std::net::{IpAddr, Ipv4Addr};

use devices::*;
use driver_udp::{Path, Udp, UdpOptions};
use unet::device::{Datagrams, Driver, Mode, OpenError, Opening};

fn open_by(options: &[(&str, &str)]) -> Result<Box<dyn Datagrams>, OpenError> {
    let options: Vec<(String, String)> =
        options.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let opening = Opening {
        device: "",
        local: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        port: 0,
        remote: None,
        options: &options,
        buffers: 64,
    };
    Udp::new().open(&opening)
}

#[test]
fn an_address_chooses_the_path() {
    let mode = |options: &[(&str, &str)]| open_by(options).unwrap().capabilities().mode;
    assert_eq!(mode(&[]), Mode::Sockets);
    assert_eq!(mode(&[("path", "sockets")]), Mode::Sockets);
    assert_eq!(mode(&[("path", "io-uring")]), Mode::IoUring);
    assert_eq!(mode(&[("path", "prefer-io-uring")]), Mode::IoUring);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (key, value) in [
        ("path", "carrier-pigeon"),
        ("buffer-bytes", "many"),
        ("buffer-bytes", "255"),
        ("buffer-bytes", "65601"),
        ("receive-bytes", "-1"),
        ("receive-bytes", "4294967295"),
        ("busy-poll", "soon"),
        ("zero-copy", "perhaps"),
    ] {
        let refused = open_by(&[(key, value)]).err();
        assert!(matches!(refused, Some(OpenError::BadValue(_))), "{key}={value}: {refused:?}");
    }
    assert!(matches!(open_by(&[("mtu", "1")]).err(), Some(OpenError::UnknownOption(_))));
    assert!(matches!(open_by(&[("zero-copy", "on")]).err(), Some(OpenError::Unsupported(_))));
    let device =
        Opening { device: "eth0", local: None, port: 0, remote: None, options: &[], buffers: 64 };
    assert!(matches!(Udp::new().open(&device).err(), Some(OpenError::BadValue(_))));
}

#[test]
fn the_family_is_that_of_the_first_destination() {
    let mut opening =
        Opening { device: "", local: None, port: 0, remote: None, options: &[], buffers: 64 };
    let local = Udp::new().open(&opening).unwrap().local();
    assert!(local.is_ipv4() && local.ip().is_unspecified() && local.port() != 0);
    opening.remote = Some(address("[::1]:7"));
    let mut device = Udp::new().open(&opening).unwrap();
    assert!(device.local().is_ipv6());
    assert!(device.open(address("[::1]:7")).is_ok());
}

#[test]
fn large_payloads_are_sent_without_a_copy() {
    let options = UdpOptions {
        path: Path::IoUring,
        zero_copy: true,
        buffer_bytes: 65536,
        ..options(Path::IoUring)
    };
    let (mut a, mut b, to) = pair(V4, options);
    let (large, larger) = (vec![1; 5000], vec![2; 60_000]);
    for _ in 0..100 {
        assert_eq!(send(&mut *a, to, &[&large]), 0);
        assert_eq!(send(&mut *a, to, &[b"small", &larger, b"", &large]), 0);
        let received = receive(&mut *b, 5);
        assert_eq!(payloads(&received), [&large[..], b"small", &larger, b"", &large]);
    }
    // What the kernel still read is back too.
    assert_eq!(in_stock(&mut *a), a.capabilities().stock);
}

/// Forbids this thread to set up io_uring, as a container's seccomp filter would.
fn forbid_io_uring() {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut forbidden =
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_io_uring_setup as u32);
    forbidden.jf = 1;
    let mut filter = [
        // The number of the call.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        forbidden,
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program lives until the call returns; the kernel checks it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
    }
}

#[test]
fn where_io_uring_is_forbidden_plain_sockets_are_taken_or_it_is_an_error() {
    std::thread::spawn(|| {
        forbid_io_uring();
        assert!(matches!(open_by(&[("path", "io-uring")]).err(), Some(OpenError::NotPermitted(_))));
        let both = [("path", "prefer-io-uring"), ("zero-copy", "on")];
        assert!(matches!(open_by(&both).err(), Some(OpenError::NotPermitted(_))));
        let mut device = open_by(&[("path", "prefer-io-uring")]).unwrap();
        assert_eq!(device.capabilities().mode, Mode::Sockets);
        let own = device.local();
        let to = device.open(own).unwrap();
        assert_eq!(send(&mut *device, to, &[b"to itself"]), 0);
        assert_eq!(payloads(&receive(&mut *device, 1)), [b"to itself"]);
    })
    .join()
    .unwrap();
}
