//! The server of a memory interface comes back under its name, and leaves nobody behind who listens for it.
#![cfg(dpdk)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use driver_dpdk::{DpdkPort, Options};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};
use unet::device::{Device, Frames, Piece};

const PATIENCE: Duration = Duration::from_secs(20);

fn open(number: u32, role: &str, socket: &str) -> DpdkPort {
    let options = Options { buffers: 256, ring: 64, ..Options::default() };
    let arguments = format!("net_memif{number},role={role},socket={socket}");
    DpdkPort::open(&arguments, &options).unwrap_or_else(|error| panic!("{arguments}: {error}"))
}

/// So many frames go from one to the other.
fn exchange(from: &mut DpdkPort, to: &mut DpdkPort, frames: usize) {
    let deadline = Instant::now() + PATIENCE;
    let (mut came, mut queue, mut all) = (Vec::new(), VecDeque::new(), 0);
    while all < frames {
        assert!(Instant::now() < deadline, "{all} frames came");
        if from.maintain().and(to.maintain()).is_err() {
            continue;
        }
        if queue.is_empty()
            && let Ok(mut fbuf) = from.pool().alloc(60)
        {
            fbuf.fill(3);
            queue.push_back(Piece::whole(fbuf.freeze()));
        }
        from.transmit(&mut queue).expect("there is a link");
        to.receive(&mut came).expect("there is a link");
        all += came.drain(..).filter(|piece| piece.bytes[..] == [3; 60]).count();
    }
}

fn call(name: &str) -> Result<(), Errno> {
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes())?;
    let socket = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
    connect(&socket, &address)
}

#[test]
fn a_server_comes_back_under_its_name() {
    let name = format!("reopening-{}", std::process::id());
    for _ in 0..4 {
        let mut server = open(20, "server", &name);
        let mut client = open(21, "client", &name);
        exchange(&mut server, &mut client, 100);
        exchange(&mut client, &mut server, 100);
    }
}

#[test]
fn a_server_comes_back_to_its_file() {
    let folder = std::env::temp_dir();
    let file = folder.join(format!("unet-reopening-{}", std::process::id()));
    let name = format!("{},socket-abstract=no", file.display());
    for _ in 0..3 {
        let mut server = open(22, "server", &name);
        let mut client = open(23, "client", &name);
        exchange(&mut server, &mut client, 100);
    }
    assert!(!file.exists(), "a file is left");
}

#[test]
fn nobody_listens_where_a_server_was_and_others_are_not_disturbed() {
    let [gone, here] = ["gone", "here"].map(|name| format!("{name}-{}", std::process::id()));
    drop(open(24, "server", &gone));
    let mut server = open(25, "server", &here);
    let mut client = open(26, "client", &here);
    exchange(&mut server, &mut client, 100);
    for _ in 0..3 {
        assert_eq!(call(&gone), Err(Errno::CONNREFUSED));
        exchange(&mut server, &mut client, 10_000);
    }
    // A stranger at the one that is open does no harm either.
    call(&here).expect("somebody listens");
    exchange(&mut server, &mut client, 10_000);
    drop(server);
    assert_eq!(call(&here), Err(Errno::CONNREFUSED));
}
