//! What a slow domain can hold, how it is taken back, and which regions and buffers are refused.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{Errno, pwrite};
use segment::Incarnation;
use segment::memory::{AttachError, SEALS};
use unet::{
    Channel, ConnectError, ConnectOptions, Counter, Delivery, Endpoint, EndpointOptions, Event,
    Fbuf, Geometry, ListenOptions, Message, Offer, Part, Path, Pool, Quota, ReadError, SendError,
    Wait,
};

use crate::domains::{Line, PART, connecting, inodes, listening, pool, shared_maps};
use crate::support::hostile::ask_along;
use crate::support::{PATIENCE, address, event, eventually, small};

/// Offers a message; whether it was taken.
fn offer(line: &mut Line, number: u64, len: usize) -> bool {
    let message = line.message(number, len);
    match line.channel.try_send_message(0, message, b"") {
        Ok(Offer::Taken) => true,
        Ok(Offer::Full(_)) => false,
        Err(error) => panic!("{error:?}"),
    }
}

/// Lets the last domain read and give back its oldest message; what it read.
fn release(line: &mut Line) -> String {
    line.others[0].tell();
    line.others[0].word().expect("it reads")
}

fn held(line: &Line, messages: usize) {
    for number in 1..=messages {
        line.others[0].expect(&format!("held {number}"));
    }
}

#[test]
fn a_slow_domain_is_sent_nothing_from_the_high_mark_down_to_the_low_one() {
    let most = Quota { buffers: 8, resume_buffers: 2, ..Quota::default() };
    let bytes = Quota { bytes: 8000, resume_bytes: 2000, ..Quota::default() };
    for quota in [most, bytes] {
        let mut line = Line::with_quota(1, "hold", Wait::Adaptive, quota);
        assert!((0..8).all(|number| offer(&mut line, number, 1000)), "up to the high mark");
        assert!(!offer(&mut line, 8, 1000), "and no farther");
        held(&line, 8);
        for left in (3..8).rev() {
            assert!(release(&mut line).starts_with("Ok("));
            eventually("it came back", || line.channel.lent().0 == left);
            assert!(!offer(&mut line, 8, 1000), "{left} is above the low mark");
        }
        assert!(release(&mut line).starts_with("Ok("));
        eventually("it came back", || line.channel.lent().0 == 2);
        assert!((8..14).all(|number| offer(&mut line, number, 1000)), "from the low mark on");
        assert!(line.channel.counters().get(Counter::OverQuota) >= 6);
        let too_much = line.message(99, 65_536);
        let cut: Vec<Message> = {
            let mut rest = too_much;
            (0..9).filter_map(|_| rest.split_to(1000)).collect()
        };
        let mut too_much = Message::new();
        cut.into_iter().for_each(|piece| too_much.append(piece));
        let refused = line.channel.try_send_message(0, too_much, b"");
        assert_eq!(refused.err(), Some(SendError::OverQuota), "it would never fit");
    }
}

#[test]
fn what_a_slow_domain_holds_is_revoked_and_the_originator_goes_on() {
    for middles in [1, 2] {
        let mut line = Line::new(middles, "hold", Wait::Adaptive);
        (0..40).for_each(|number| line.send(number, 1500));
        held(&line, 40);
        assert_eq!(line.channel.revoke(), 40);
        assert_eq!(line.channel.counters().get(Counter::BuffersRevoked), 40);
        assert_eq!(line.pool.free(), line.pool.total(), "the buffers are the originator's again");
        assert_eq!(line.channel.lent(), (40, 0), "the leases are not");
        // Two rounds over all of them, for others to come.
        for number in 40..60 {
            line.send(number, 1500);
        }
        for number in 41..=60 {
            line.others[0].expect(&format!("held {number}"));
        }
        for left in (20..60).rev() {
            assert_eq!(release(&mut line), "Err(\"Revoked\")", "nobody reads what is another's");
            eventually("the lease is free", || line.channel.lent().0 == left);
        }
        for number in 40..60 {
            assert_eq!(release(&mut line), format!("Ok({number})"));
        }
        line.all_free();
    }
}

#[test]
fn a_channel_that_closes_takes_back_what_its_peer_still_reads() {
    for middles in [1, 2] {
        let mut line = Line::new(middles, "hold", Wait::Adaptive);
        (0..10).for_each(|number| line.send(number, 1500));
        held(&line, 10);
        // The first middle domain lets go of the others, which live on.
        line.channel.send_message(PART, Message::new(), b"").expect("it is there");
        line.others[middles].expect("parted");
        line.all_free();
        // Its buffers are the originator's again, who writes others' bytes into them.
        let mut again: Vec<_> = std::iter::from_fn(|| line.pool.alloc(1500).ok()).collect();
        again.iter_mut().for_each(|fbuf| fbuf.fill(0xEE));
        line.others[0].expect("up PeerClosed");
        for _ in 0..10 {
            assert_eq!(release(&mut line), "Err(\"Revoked\")");
        }
    }
}

/// Sends buffers that are one byte throughout, and takes them away while they are read.
fn snatch(channel: &mut Channel, pool: &mut Pool, until: Instant) {
    let mut round = 0u64;
    while Instant::now() < until && channel.closed().is_none() {
        round += 1;
        let fbuf = channel.alloc_from_timeout(pool, 1 << 20, PATIENCE);
        let mut fbuf = fbuf.expect("revoked or given back").expect("in time");
        fbuf.fill(round as u8);
        let _ = channel.try_send_message(0, fbuf.freeze().into(), b"").expect("it is open");
        if round.is_multiple_of(3) {
            eventually("it was read in peace", || channel.lent() == (0, 0));
        } else {
            // From before it is looked at to after it was read.
            (0..round * 7919 % 4000).for_each(|_| std::hint::spin_loop());
            channel.revoke();
        }
    }
}

#[test]
fn a_revocation_in_the_middle_of_a_copy_never_yields_mixed_bytes() {
    let address = address("snatch");
    let mut endpoint = listening(&address, Wait::Adaptive);
    let until = Instant::now() + Duration::from_secs(2);
    let (whole, revoked) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut pool = pool();
            let path = Path::of(&pool).expect("it is a region");
            let options = connecting(path, Wait::Adaptive, Quota::default());
            let mut channel = Channel::connect(&address, options).expect("it listens");
            snatch(&mut channel, &mut pool, until);
        });
        crate::support::accept(&mut endpoint);
        let (mut whole, mut revoked) = (0u64, 0u64);
        let mut copy = vec![0; 1 << 20];
        let mut delivery = Delivery::default();
        while !matches!(endpoint.recv_into(&mut delivery), unet::Arrival::Other) {
            match delivery.message().peek(0, &mut copy) {
                Ok(()) => {
                    let mixed = copy.iter().position(|byte| *byte != copy[0]);
                    assert_eq!(mixed, None, "of {} bytes", copy.len());
                    whole += 1;
                }
                Err(ReadError::Revoked) => revoked += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        (whole, revoked)
    });
    assert!(
        whole > 10 && revoked > 10,
        "{whole} were whole and {revoked} revoked: nothing was tried"
    );
}

#[test]
fn a_buffer_is_revoked_any_number_of_times_and_who_has_it_from_long_ago_is_told() {
    let address = address("often");
    let mut endpoint = listening(&address, Wait::Spin);
    let mut pool = pool();
    let mut channel = std::thread::scope(|scope| {
        let path = Path::of(&pool).expect("it is a region");
        let options = connecting(path, Wait::Spin, Quota::default());
        let connecting = scope.spawn(|| Channel::connect(&address, options));
        crate::support::accept(&mut endpoint);
        connecting.join().expect("no panic").expect("it is accepted")
    });
    let (mut first, mut place) = (None, None);
    // Descriptors say the same of it after each 65,536.
    for round in 0..=1 << 16 {
        let fbuf = pool.alloc(64).expect("it is free again").freeze();
        assert_eq!(*place.get_or_insert(fbuf.as_ptr()), fbuf.as_ptr(), "one buffer is used");
        channel.send_message(0, fbuf.into(), b"").expect("it is open");
        let Event::Message(_, delivery) = event(&mut endpoint) else { panic!("it was sent") };
        if round < 1 << 16 {
            assert_eq!(channel.revoke(), 1);
            first.get_or_insert(delivery);
        } else {
            assert!(delivery.to_vec().is_ok(), "the newest is the buffer's");
        }
    }
    let first: Delivery = first.expect("it was kept");
    assert_eq!(first.to_vec().err(), Some(ReadError::Revoked));
}

#[test]
fn a_buffer_of_a_pool_that_is_not_on_the_path_is_refused_and_counted() {
    let mut line = Line::new(1, "check", Wait::Adaptive);
    let mut stranger = pool();
    let mut foreign = || -> Fbuf { stranger.alloc(100).expect("all are free").freeze() };
    let refused = line.channel.try_send_message(0, foreign().into(), b"");
    assert_eq!(refused.err(), Some(SendError::ForeignBuffer));
    let mut mixed = line.message(0, 100);
    mixed.append_part(Part::Own(foreign()));
    let refused = line.channel.try_send_message(0, mixed, b"");
    assert_eq!(refused.err(), Some(SendError::ForeignBuffer));
    let refused = line.channel.try_send_fbuf(0, foreign(), b"");
    assert_eq!(refused.err(), Some(SendError::ForeignBuffer));
    assert_eq!(line.channel.counters().get(Counter::ForeignBuffer), 3);
    assert_eq!(stranger.free(), stranger.total(), "they are free again");
    // The others' traffic goes on.
    line.send(0, 100);
    assert_eq!(line.report()[0], "received 1 copied 0");
    line.all_free();
}

/// A copy of a region's bytes in a memfd with other seals.
fn forged(seals: SealFlags) -> OwnedFd {
    let region = Geometry::region(small().classes, false);
    let own = region.create(Incarnation::draw().expect("random"), false).expect("memory");
    let len = region.total_bytes() as u64;
    let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
    let file = File::from(memfd_create("forged", flags).expect("a descriptor"));
    file.set_len(len).expect("memory");
    let mut header = vec![0; 4096];
    rustix::io::pread(own.as_fd(), &mut header, 0).expect("it can be read");
    file.write_all_at(&header, 0).expect("it is not sealed yet");
    fcntl_add_seals(&file, seals).expect("it can be sealed");
    file.into()
}

#[test]
fn a_region_that_is_not_sealed_or_is_none_is_refused() {
    let segment = small().create(Incarnation::draw().expect("random"), false).expect("memory");
    let channels = segment.as_fd().try_clone_to_owned().expect("a descriptor");
    let file = File::open(std::env::current_exe().expect("a path")).expect("it is readable");
    let mut offers: Vec<(OwnedFd, AttachError)> = vec![
        (file.into(), AttachError::NotAMemfd),
        (channels, AttachError::WrongLayout),
        (forged(SealFlags::empty()), AttachError::Unsealed),
    ];
    for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::FUTURE_WRITE, SealFlags::SEAL] {
        offers.push((forged(SEALS.difference(missing)), AttachError::Unsealed));
    }
    for (region, reason) in offers {
        let address = address("unsealed");
        let mut endpoint = listening(&address, Wait::Park);
        let asking = ask_along(&address, small(), &[region.as_fd()]).expect("it listens");
        let Event::Incoming(mut incoming) = event(&mut endpoint) else { panic!("a client asks") };
        assert_eq!(incoming.path().err(), Some(reason));
        let refused = endpoint.accept(incoming, b"").err();
        assert_eq!(refused, Some(unet::AcceptError::Segment(reason)));
        assert_eq!(endpoint.counters().get(Counter::RefusedSegment), 1);
        assert!(asking.welcomed().is_none(), "it is turned away");
    }
    // With all seals it is a good one.
    let address = address("sealed");
    let mut endpoint = listening(&address, Wait::Park);
    let good = forged(SEALS);
    let _asking = ask_along(&address, small(), &[good.as_fd()]).expect("it listens");
    let Event::Incoming(mut incoming) = event(&mut endpoint) else { panic!("a client asks") };
    assert_eq!(incoming.path().expect("it is sealed").regions(), 1);
}

#[test]
fn who_offers_more_regions_than_the_other_side_takes_is_refused_at_once() {
    let address = address("surplus");
    let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    endpoint.listen(&address, ListenOptions::default()).expect("the name is free");
    let good = forged(SEALS);
    let asking = ask_along(&address, small(), &[good.as_fd()]).expect("it listens");
    assert!(endpoint.recv_timeout(Duration::from_millis(50)).is_none(), "nobody hears of it");
    assert_eq!(endpoint.counters().get(Counter::RefusedSegment), 1);
    assert!(asking.welcomed().is_none(), "it is turned away");
    // The other way: the welcome.
    std::thread::scope(|scope| {
        let client = scope.spawn(|| Channel::connect(&address, ConnectOptions::default()));
        let Event::Incoming(incoming) = event(&mut endpoint) else { panic!("a client asks") };
        let path = Path::of(&pool()).expect("it is a region");
        endpoint.accept_along(incoming, b"", &path).expect("it is honest");
        let outcome = client.join().expect("no panic").err();
        assert_eq!(outcome, Some(ConnectError::Segment(AttachError::WrongLayout)));
    });
}

#[test]
fn nobody_but_its_owner_can_write_a_region_by_any_door_of_the_kernels() {
    let own = pool();
    let path = Path::of(&own).expect("it is a region");
    let sent: Vec<OwnedFd> =
        path.descriptors().map(|fd| fd.try_clone_to_owned().expect("a descriptor")).collect();
    let received = Path::attach(sent).expect("it is sealed");
    let mapped = shared_maps(std::process::id(), &inodes(&path));
    let [mapping] = &mapped.iter().filter(|line| line.contains(" r--s ")).collect::<Vec<_>>()[..]
    else {
        panic!("it is mapped once to be read: {mapped:?}");
    };
    for fd in received.descriptors() {
        assert_eq!(pwrite(fd, b"scribble", 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(fd, 0), Err(Errno::PERM));
    }
    // The kernel's own way around protections, at the address of the mapping.
    let start = mapping.split('-').next().expect("a range");
    let start = u64::from_str_radix(start, 16).expect("an address");
    let memory = File::options().read(true).write(true).open("/proc/self/mem").expect("procfs");
    let mut magic = [0; 8];
    memory.read_exact_at(&mut magic, start).expect("it can be read");
    assert!(memory.write_at(&[0xFF; 8], start).is_err());
    let mut after = [0; 8];
    memory.read_exact_at(&mut after, start).expect("it can be read");
    assert_eq!(magic, after);
}
