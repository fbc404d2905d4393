//! Packets over a veth pair: what is sent arrives, what does not is counted, and no buffer is lost.

mod support;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use driver_af_xdp::{AfXdp, BusyPoll, Options, Way};
use fbufs::{Class, Fbuf, Pool};
use rustix::event::{PollFd, PollFlags, poll};
use support::{PORT, Pair, WAYS, compose, counted, drain, options, payload, plain, receive};
use support::{frame::Udp4, send_all, settle};
use unet::device::{Count, Device, Frames, Mode, Piece};

fn one(piece: Piece<Fbuf>) -> VecDeque<Piece<Fbuf>> {
    VecDeque::from([piece])
}

#[test]
fn packets_go_round_in_generic_and_native_mode() {
    for (way, mode) in WAYS.into_iter().zip([Mode::Generic, Mode::Native]) {
        let pair = Pair::new();
        let (mut near, mut far) = pair.open(&options(way, 64));
        assert_eq!((near.capabilities().mode, far.capabilities().mode), (mode, mode));
        for number in 0..300u32 {
            let sent = number.to_be_bytes().repeat(1 + number as usize);
            let mut frames = one(compose(&mut near, &sent).expect("free"));
            send_all(&mut near, &mut frames);
            let mut got = receive(&mut far, 1);
            let back = got.pop().expect("it arrives").bytes;
            assert_eq!((payload(&back), got.len()), (&sent[..], 0));
            send_all(&mut far, &mut one(Piece::whole(back.freeze())));
            let got = receive(&mut near, 1);
            assert_eq!(payload(&got[0].bytes), &sent[..]);
        }
        assert_eq!(counted(&mut near, Count::Sent), 300);
        assert_eq!(counted(&mut near, Count::Received), 300);
        settle(&mut near);
        settle(&mut far);
    }
}

#[test]
fn the_mode_for_an_interface_of_software_is_generic_unless_asked_otherwise() {
    let pair = Pair::new();
    let (near, _far) = pair.open(&options(Way::Auto, 64));
    assert_eq!(near.capabilities().mode, Mode::Generic);
    let refused = AfXdp::open(&Pair::new().near, 0, &options(Way::ZeroCopy, 64));
    assert!(
        matches!(refused, Err(unet::device::OpenError::Unsupported(_))),
        "veth has no zero-copy sockets: {refused:?}"
    );
}

#[test]
fn bursts_of_every_length_keep_their_order_over_many_turns_of_the_rings() {
    for way in WAYS {
        let pair = Pair::new();
        let (mut near, mut far) = pair.open(&options(way, 128));
        let (mut next, mut expected) = (0u64, 0u64);
        for burst in (1..=48).cycle().take(1000) {
            let mut frames = VecDeque::new();
            for _ in 0..burst {
                frames.push_back(compose(&mut near, &next.to_be_bytes()).expect("free"));
                next += 1;
            }
            send_all(&mut near, &mut frames);
            for piece in receive(&mut far, burst) {
                assert_eq!(payload(&piece.bytes), expected.to_be_bytes());
                expected += 1;
                far.pool().recycle(piece.bytes.freeze());
            }
            assert_eq!(expected, next);
            // What was sent comes back when it is asked for.
            near.transmit(&mut VecDeque::new()).expect("up");
        }
        settle(&mut near);
        settle(&mut far);
        assert_eq!(counted(&mut near, Count::Sent), next);
        assert_eq!(counted(&mut far, Count::Received), next);
    }
}

#[test]
fn a_burst_beyond_the_transmit_ring_is_taken_as_far_as_there_is_room() {
    let pair = Pair::new();
    let (mut near, mut far) = pair.open(&options(Way::Generic, 256));
    let frame = compose(&mut near, b"again and again").expect("free");
    let mut frames: VecDeque<_> = (0..300).map(|_| Piece::whole(frame.bytes.clone())).collect();
    near.transmit(&mut frames).expect("up");
    assert_eq!(frames.len(), 300 - 128, "the ring's size");
    let mut arrived = receive(&mut far, 128).len();
    while !frames.is_empty() {
        near.transmit(&mut frames).expect("up");
        arrived += drain(&mut far).len();
    }
    assert_eq!(arrived, 300, "one buffer can be sent many times at once");
    drop(frame);
    settle(&mut near);
}

#[test]
fn a_receiver_without_buffers_loses_what_is_counted_and_goes_on_when_it_has_some() {
    for way in WAYS {
        let pair = Pair::new();
        let (mut near, mut far) = pair.open(&options(way, 64));
        let mut taken = 0;
        for round in 0..3u64 {
            let mut held = Vec::new();
            for _ in 0..20 {
                let mut frames: VecDeque<_> =
                    (0..10).filter_map(|_| compose(&mut near, b"held")).collect();
                taken += frames.len() as u64;
                send_all(&mut near, &mut frames);
                held.extend(drain(&mut far));
            }
            assert_eq!(held.len(), 64, "every buffer was received into");
            drop(held);
            settle(&mut near);
            settle(&mut far);
            let (near, far) = (near.statistics(), far.statistics());
            assert_eq!(near[Count::Sent], taken);
            assert_eq!(far[Count::Received], 64 * (round + 1));
            assert_eq!(far[Count::NoBuffer], taken - 64 * (round + 1), "{way:?}");
            assert_eq!(far.sum(&Count::DROPPED), far[Count::NoBuffer]);
        }
        let mut frames = one(compose(&mut near, b"after").expect("free"));
        send_all(&mut near, &mut frames);
        assert_eq!(payload(&receive(&mut far, 1)[0].bytes), b"after");
    }
}

#[test]
fn what_the_device_cannot_carry_is_dropped_and_counted_by_reason() {
    let pair = Pair::new();
    let (mut near, mut far) = pair.open(&options(Way::Generic, 64));
    let longest = near.capabilities().mtu + 14;
    let mut foreign =
        Pool::for_device(Class { buffer_bytes: 2048, buffers: 4 }, false).expect("memory");
    let mut frames = VecDeque::new();
    for len in [longest + 1, 2048] {
        frames.push_back(plain(&mut near, &vec![0; len]).expect("free"));
    }
    for len in [0, 1, 13] {
        frames.push_back(plain(&mut near, &vec![0; len]).expect("free"));
    }
    frames.push_back(Piece::whole(foreign.alloc(64).expect("free").freeze()));
    // Several pieces, on a device of one.
    frames.push_back(Piece { more: true, ..plain(&mut near, &[0; 64]).expect("free") });
    frames.push_back(plain(&mut near, &[0; 64]).expect("free"));
    let run = near.pool().alloc_adjacent(3000).expect("adjacent ones");
    frames.push_back(Piece::whole(run.freeze()));
    frames.push_back(compose(&mut near, &vec![7; longest - 42]).expect("free"));
    frames.push_back(Piece { more: true, ..plain(&mut near, &[0; 64]).expect("free") });
    near.transmit(&mut frames).expect("up");
    assert!(frames.is_empty());
    let got = receive(&mut far, 1);
    assert_eq!(got[0].bytes.len(), longest);
    let counts = near.statistics();
    assert_eq!((counts[Count::TooLong], counts[Count::Malformed]), (2, 7));
    assert_eq!((counts[Count::Sent], counts[Count::Failed]), (1, 0));
    drop(got);
    settle(&mut near);
    settle(&mut far);
    assert_eq!(foreign.free(), 4);
}

#[test]
fn a_pool_that_was_exchanged_gives_the_device_nothing() {
    let pair = Pair::new();
    let (mut near, mut far) = pair.open(&options(Way::Generic, 64));
    let class = Class { buffer_bytes: 2048, buffers: 64 };
    let mut other = Pool::for_device(class, false).expect("memory");
    std::mem::swap(far.pool(), &mut other);
    for _ in 0..3 {
        let mut frames: VecDeque<_> =
            (0..32).map(|_| compose(&mut near, b"exchanged").expect("free")).collect();
        send_all(&mut near, &mut frames);
        drop(drain(&mut far));
        near.transmit(&mut VecDeque::new()).expect("up");
    }
    assert_eq!(counted(&mut far, Count::Received), 32, "what the kernel had before");
    assert_eq!(counted(&mut far, Count::NoBuffer), 64);
    let strange = compose(&mut far, b"strange").expect("free");
    send_all(&mut far, &mut one(strange));
    assert_eq!(counted(&mut far, Count::Malformed), 1);
    std::mem::swap(far.pool(), &mut other);
    let mut frames = one(compose(&mut near, b"back").expect("free"));
    settle(&mut far);
    send_all(&mut near, &mut frames);
    assert_eq!(payload(&receive(&mut far, 1)[0].bytes), b"back");
}

/// A frame of so many bytes in pieces of at most `piece`.
fn in_pieces(device: &mut AfXdp, bytes: &[u8], piece: usize) -> Vec<Piece<Fbuf>> {
    let mut pieces: Vec<_> =
        bytes.chunks(piece).map(|part| plain(device, part).expect("free")).collect();
    let last = pieces.len() - 1;
    pieces[..last].iter_mut().for_each(|piece| piece.more = true);
    pieces
}

#[test]
fn jumbo_frames_go_in_pieces_both_ways() {
    for way in WAYS {
        for buffer_bytes in [2048, 4096] {
            let pair = Pair::with(9000, 1);
            let options = Options { buffer_bytes: Some(buffer_bytes), ..options(way, 128) };
            let (mut near, mut far) = pair.open(&options);
            let capabilities = near.capabilities();
            assert_eq!(capabilities.mtu, 9000);
            assert!(capabilities.pieces > 1);
            for (number, len) in [60, 1500, 3800, 3841, 7000, 9014].into_iter().enumerate() {
                let fill: Vec<u8> = (0..len - 42).map(|at| (at * 7 + number) as u8).collect();
                let bytes = Udp4::between(near.mac(), far.mac(), PORT).frame(&fill);
                for piece in [capabilities.piece_bytes, 700] {
                    let mut frames = in_pieces(&mut near, &bytes, piece).into();
                    send_all(&mut near, &mut frames);
                    let mut got = receive(&mut far, 1);
                    assert!(!got[got.len() - 1].more, "whole frames only");
                    let whole: Vec<u8> =
                        got.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
                    assert_eq!(whole, bytes, "{way:?} {len} in pieces of {piece}");
                    let mut back: VecDeque<_> = got
                        .drain(..)
                        .map(|it| Piece { bytes: it.bytes.freeze(), more: it.more })
                        .collect();
                    send_all(&mut far, &mut back);
                    let got = receive(&mut near, 1);
                    let whole: Vec<u8> =
                        got.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
                    assert_eq!(whole, bytes);
                }
            }
            let pieces = vec![0u8; 17 * 100];
            let mut frames: VecDeque<_> = in_pieces(&mut near, &pieces, 100).into();
            send_all(&mut near, &mut frames);
            assert_eq!(counted(&mut near, Count::Malformed), 1, "in too many pieces");
            settle(&mut near);
            settle(&mut far);
            assert_eq!(counted(&mut near, Count::Sent), 12);
            assert_eq!(counted(&mut near, Count::Received), 12);
        }
    }
}

#[test]
fn a_frame_longer_than_a_buffer_is_counted_where_pieces_are_not_wanted() {
    let pair = Pair::with(3000, 1);
    let far =
        Options { buffer_bytes: Some(2048), pieces: Some(false), ..options(Way::Generic, 64) };
    let mut near = AfXdp::open(&pair.near, 0, &options(Way::Generic, 64)).expect("free");
    let mut far = AfXdp::open(&pair.far, 0, &far).expect("free");
    assert_eq!(far.capabilities().mtu, 2048 - 256 - 14, "what it can receive as well");
    let mut frames: VecDeque<_> =
        (0..5).map(|_| compose(&mut near, &[0; 2500]).expect("free")).collect();
    send_all(&mut near, &mut frames);
    assert!(drain(&mut far).is_empty());
    let counts = far.statistics();
    assert_eq!((counts[Count::Truncated], counts[Count::NoBuffer]), (5, 0));
}

#[test]
fn who_sleeps_is_woken_by_a_packet() {
    let pair = Pair::new();
    let (mut near, mut far) = pair.open(&options(Way::Generic, 64));
    assert_eq!(far.arm(), Ok(true));
    let readable = |device: &AfXdp, millis: i64| {
        let wait = Duration::from_millis(millis as u64);
        let mut fds = [PollFd::new(device, PollFlags::IN)];
        let timeout = rustix::event::Timespec::try_from(wait).expect("short");
        poll(&mut fds, Some(&timeout)).expect("it can be polled") == 1
    };
    assert!(!readable(&far, 50), "nothing is there");
    let sender = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        let mut frames = one(compose(&mut near, b"wake").expect("free"));
        send_all(&mut near, &mut frames);
        near
    });
    assert!(readable(&far, 5000));
    assert_eq!(far.arm(), Ok(false), "something is there");
    assert_eq!(receive(&mut far, 1).len(), 1);
    assert_eq!(far.arm(), Ok(true));
    assert!(!readable(&far, 50));
    drop(sender.join());
}

#[test]
fn polling_the_driver_is_asked_for_and_harmless_where_it_cannot_be_had() {
    let pair = Pair::new();
    let busy_poll = Some(BusyPoll { micros: 20, budget: 16 });
    let polling = Options { busy_poll, ..options(Way::Native, 64) };
    let (mut near, mut far) = pair.open(&polling);
    for number in 0..100u32 {
        let frame = compose(&mut near, &number.to_be_bytes()).expect("free");
        send_all(&mut near, &mut one(frame));
        assert_eq!(payload(&receive(&mut far, 1)[0].bytes), number.to_be_bytes());
    }
    assert!(drain(&mut far).is_empty());
    assert!(counted(&mut far, Count::Kicks) > 0, "who finds nothing asks the driver");
}

#[test]
fn no_buffer_is_lost_over_a_million_packets() {
    let pair = Pair::new();
    let (mut near, mut far) = pair.open(&options(Way::Generic, 256));
    let (mut sent, mut received) = (0u64, 0u64);
    let mut held = VecDeque::new();
    let deadline = Instant::now() + Duration::from_secs(240);
    let mut frames = VecDeque::new();
    let mut got = Vec::new();
    while sent < 1_000_000 {
        assert!(Instant::now() < deadline, "{sent} in that time");
        while frames.len() < 32 {
            let Some(frame) = compose(&mut near, &sent.to_be_bytes()) else { break };
            frames.push_back(frame);
            sent += 1;
        }
        near.transmit(&mut frames).expect("up");
        far.receive(&mut got).expect("up");
        for piece in got.drain(..) {
            received += 1;
            // Some are held, some are dropped, some are given back, some go round.
            match received % 4 {
                0 => held.push_back(piece.bytes),
                1 => drop(piece),
                _ => far.pool().recycle(piece.bytes.freeze()),
            }
        }
        held.drain(..held.len().saturating_sub(40));
    }
    send_all(&mut near, &mut frames);
    received += drain(&mut far).len() as u64;
    held.clear();
    settle(&mut near);
    settle(&mut far);
    let (near, far) = (near.statistics(), far.statistics());
    assert_eq!(near[Count::Sent] + near[Count::Failed], sent);
    assert_eq!(far[Count::Received], received);
    assert_eq!(near[Count::Sent], received + far.sum(&Count::DROPPED));
    assert_eq!((near[Count::Fault], far[Count::Fault]), (0, 0));
}
