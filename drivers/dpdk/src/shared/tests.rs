//! Sharers pass the suite for devices of frames, and take nothing from each other.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use unet::conformance::{self, Bench, OverFrames, Verdict};

use super::*;

/// One at an end of memory between two ports, which none of the others has.
fn plan(number: u32, is_server: bool) -> Plan {
    let role = if is_server { "server" } else { "client" };
    let socket = format!("sharers-{}-{number}", std::process::id());
    let name = 2 * number + u32::from(is_server);
    Plan {
        arguments: format!("net_memif{name},role={role},socket={socket}"),
        options: Options::default(),
        address: Ipv4Addr::new(10, 8, 0, 1 + u8::from(is_server)),
        prefix: 24,
        gateway: None,
    }
}

fn pair(buffers: u32) -> Result<(Plan, Sharer, Sharer), String> {
    static PAIRS: AtomicU32 = AtomicU32::new(0);
    let number = PAIRS.fetch_add(1, Ordering::Relaxed);
    let open = |plan: &Plan| Sharer::open(plan, 9000, buffers).map_err(|error| error.to_string());
    let at = plan(number, true);
    let (mut server, ..) = open(&at)?;
    let (mut client, ..) = open(&plan(number, false))?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.maintain().is_err() || client.maintain().is_err() {
        if Instant::now() > deadline {
            return Err("the ports do not find each other".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok((at, server, client))
}

struct Sharers;

impl Bench for Sharers {
    type End = OverFrames<Sharer>;

    fn pair(&mut self) -> Result<(Self::End, Self::End), String> {
        let (_, server, client) = pair(1024)?;
        Ok((OverFrames::new(server), OverFrames::new(client)))
    }

    fn packets(&self) -> u64 {
        20_000
    }
}

#[test]
fn a_sharer_conforms() {
    let report = conformance::frames(&mut Sharers);
    println!("{report}");
    assert!(report.is_ok(), "{report}");
    let mut left_out = report.0.iter().filter(|(_, outcome)| *outcome != Ok(Verdict::Shown));
    let may_be = ["link_down_and_up", "pieces", "too_many_pieces"];
    assert!(left_out.all(|(name, _)| may_be.contains(name)), "{report}");
}

/// What is in front of a datagram to a port: what else the headers say, nobody looks at here.
fn headers(port: u16) -> [u8; 64] {
    let mut frame = [0; 64];
    (frame[12], frame[14], frame[23]) = (8, 0x45, 17);
    frame[36..38].copy_from_slice(&port.to_be_bytes());
    frame
}

#[test]
fn who_does_not_look_loses_what_is_for_it_and_takes_nothing_from_others() {
    let (plan, mut looks, mut far) = pair(1024).expect("a pair");
    let (mut sleeps, ..) = Sharer::open(&plan, 9001, 4096).expect("it is free");
    let taken = Sharer::open(&plan, 9001, 64).err();
    assert_eq!(taken, Some(OpenError::AddressInUse));
    let (mut frames, mut came) = (VecDeque::new(), Vec::new());
    let (total, mut sent, mut received) = (6000u64, 0, 0u64);
    let deadline = Instant::now() + Duration::from_secs(20);
    while sent < total || !frames.is_empty() || received < total / 2 {
        assert!(Instant::now() < deadline, "{received} came of {sent}");
        while sent < total && frames.len() < 32 {
            let Ok(mut fbuf) = far.pool().alloc(64) else { break };
            fbuf.copy_from_slice(&headers(9000 + (sent % 2) as u16));
            frames.push_back(Piece::whole(fbuf.freeze()));
            sent += 1;
        }
        far.transmit(&mut frames).expect("there is a link");
        looks.receive(&mut came).expect("there is a link");
        for piece in came.drain(..) {
            assert_eq!(piece.bytes[..], headers(9000));
            received += 1;
        }
    }
    assert_eq!(looks.statistics()[Count::QueueFull], 0);
    while lock(&sleeps.part.get()).has_some(9001) {
        sleeps.receive(&mut came).expect("there is a link");
    }
    let counts = sleeps.statistics();
    assert!(came.iter().all(|piece| piece.bytes[..] == headers(9001)));
    assert_eq!(came.len() as u64 + counts[Count::QueueFull], total / 2, "{counts:?}");
    // Two share the half of the port's buffers that may wait.
    assert_eq!(came.len(), BUFFERS as usize / 4);
}
