//! The process on the other side of a memory interface is killed in the midst of traffic: this one loses its link,
//! goes on, and has it again with the next.
#![cfg(dpdk)]

use std::collections::VecDeque;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use driver_dpdk::{DpdkPort, Options};
use unet::device::{Count, Device, DeviceError, Frames, Piece};

const SOCKET: &str = "DPDK_DYING_SOCKET";
const PATIENCE: Duration = Duration::from_secs(20);
const LIVES: u32 = 12;

fn open(port: &str, role: &str, socket: &str) -> DpdkPort {
    let options = Options { buffers: 512, ring: 128, ..Options::default() };
    let arguments = format!("{port},role={role},socket={socket}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        match DpdkPort::open(&arguments, &options) {
            Ok(device) => return device,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends what it can, and lets go of what comes: how much came.
fn rush(
    device: &mut DpdkPort,
    queue: &mut VecDeque<Piece<unet::Fbuf>>,
) -> Result<usize, DeviceError> {
    while queue.len() < 32
        && let Ok(mut fbuf) = device.pool().alloc(60)
    {
        fbuf.fill(7);
        queue.push_back(Piece::whole(fbuf.freeze()));
    }
    device.transmit(queue)?;
    let mut came = Vec::new();
    device.receive(&mut came)?;
    assert!(came.iter().all(|piece| piece.bytes[..] == [7; 60]), "bytes of another");
    Ok(came.len())
}

#[test]
#[ignore = "a part of the next one, which starts and kills it"]
fn somebody_who_rushes() {
    let socket = std::env::var(SOCKET).expect("who started it says where");
    let deadline = Instant::now() + PATIENCE;
    let mut device = open("net_memif0", "client", &socket);
    let mut queue = VecDeque::new();
    while Instant::now() < deadline {
        let _ = device.maintain();
        let _ = rush(&mut device, &mut queue);
    }
}

#[test]
fn who_is_left_by_a_killed_process_goes_on() {
    let socket = format!("dying-{}", std::process::id());
    let mut device = open("net_memif1", "server", &socket);
    let program = std::env::current_exe().expect("this program");
    let mut queue = VecDeque::new();
    for life in 0..LIVES {
        let mut peer = Command::new(&program)
            .args(["--exact", "somebody_who_rushes", "--ignored"])
            .env(SOCKET, &socket)
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let deadline = Instant::now() + PATIENCE;
        let mut came = 0;
        while came < 2000 + 100 * life as usize {
            assert!(Instant::now() < deadline, "{came} frames came in life {life}");
            came += rush(&mut device, &mut queue).unwrap_or(0);
        }
        peer.kill().expect("it runs");
        while rush(&mut device, &mut queue).is_ok() && device.maintain().is_ok() {
            assert!(Instant::now() < deadline, "life {life}: the link stays");
        }
        peer.wait().expect("it was killed");
    }
    assert_eq!(device.statistics()[Count::Fault], 0);
}
