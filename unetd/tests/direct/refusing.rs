//! Those who ask in a way that is not allowed, or not at all: each is refused for its reason, and counted,
//! and the agent goes on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use driver_af_xdp::lent::message::{Answer, Refused, Request};
use rustix::fs::{MemfdFlags, SealFlags, memfd_create};
use segment::control::{Frame, Kind, Received, Socket};

use super::hostility::{BYTES, GOOD_SEALS, granted, memory, next, request};
use super::*;

/// What somebody is answered.
fn answered(frame: &Frame, files: &[BorrowedFd<'_>]) -> Result<Answer, OpenError> {
    let socket = Socket::connect(NAME).expect("the agent listens");
    socket.send(frame, files);
    let (frame, descriptors) = next(&socket).expect("an answer");
    assert_eq!(descriptors.len(), usize::from(frame.kind == Kind::Welcome));
    Answer::of(&frame)
}

#[test]
fn every_wrong_request_is_refused_for_its_reason_and_the_agent_goes_on() {
    let (_ours, _theirs) = joined(1);
    let agency = Agency::start();
    let good = || memory(BYTES, GOOD_SEALS);
    let hello = |request: Request| request.frame().expect("it has a form");
    let plain = hello(request(7000));
    let (reader, writer) = std::io::pipe().expect("descriptors");
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let sparse = memfd_create("sparse", flags).expect("memory");
    rustix::fs::ftruncate(&sparse, BYTES).expect("memory");
    rustix::fs::fcntl_add_seals(&sparse, GOOD_SEALS).expect("none is there");
    let huge = memfd_create("huge", flags | MemfdFlags::HUGETLB).map(|file| {
        // Whether there are huge pages or not: nothing of it is used.
        let _ = rustix::fs::ftruncate(&file, 2 << 20);
        let _ = rustix::fs::fcntl_add_seals(&file, GOOD_SEALS);
        file
    });
    let huge = huge.unwrap_or_else(|_| memory(BYTES, SealFlags::empty()));
    let read_only = good();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&read_only));
    let read_only = OwnedFd::from(std::fs::File::open(path).expect("it can be read"));
    let (long, short) = (memory(2 * BYTES, GOOD_SEALS), memory(BYTES / 2, GOOD_SEALS));
    let unsealed = memory(BYTES, SealFlags::empty());
    let shrinks = memory(BYTES, SealFlags::GROW);
    let sealed = memory(BYTES, GOOD_SEALS | SealFlags::FUTURE_WRITE);
    let closed = memory(BYTES, GOOD_SEALS | SealFlags::SEAL);
    let eight: Vec<OwnedFd> = (0..8).map(|_| good()).collect();
    let eight: Vec<BorrowedFd<'_>> = eight.iter().map(AsFd::as_fd).collect();
    let file = good();
    let fd = file.as_fd();
    let other = |kind| Frame::new(kind, 0, 0, plain.private()).expect("short");

    let cases: Vec<(&str, Frame, Vec<BorrowedFd<'_>>, Refused)> = vec![
        ("no file", plain, vec![], Refused::Malformed),
        ("two files", plain, vec![fd, fd], Refused::Malformed),
        ("eight files", plain, eight, Refused::Malformed),
        ("no words", Frame::bare(Kind::Hello, 0), vec![fd], Refused::Malformed),
        ("a welcome", other(Kind::Welcome), vec![fd], Refused::Malformed),
        ("a doorbell", other(Kind::Doorbell), vec![fd], Refused::Malformed),
        (
            "no buffers",
            hello(Request { buffers: 0, ..request(7000) }),
            vec![fd],
            Refused::Malformed,
        ),
        (
            "too many buffers",
            hello(Request { buffers: u32::MAX, ..request(7000) }),
            vec![fd],
            Refused::Malformed,
        ),
        (
            "buffers of an odd size",
            hello(Request { buffer_bytes: 3000, ..request(7000) }),
            vec![fd],
            Refused::Malformed,
        ),
        (
            "a large pool",
            hello(Request { buffers: 65_536, ..request(7000) }),
            vec![fd],
            Refused::Quota,
        ),
        ("a pipe", plain, vec![reader.as_fd()], Refused::Memory),
        ("a pipe's other end", plain, vec![writer.as_fd()], Refused::Memory),
        ("a sparse file", plain, vec![sparse.as_fd()], Refused::Memory),
        ("huge pages", plain, vec![huge.as_fd()], Refused::Memory),
        ("a file that cannot be written", plain, vec![read_only.as_fd()], Refused::Memory),
        ("a longer file", plain, vec![long.as_fd()], Refused::Memory),
        ("a shorter file", plain, vec![short.as_fd()], Refused::Memory),
        ("no seal", plain, vec![unsealed.as_fd()], Refused::Memory),
        ("a file that shrinks", plain, vec![shrinks.as_fd()], Refused::Memory),
        ("a file that nobody may map", plain, vec![sealed.as_fd()], Refused::Memory),
        ("a file without further seals", plain, vec![closed.as_fd()], Refused::Memory),
        (
            "no such interface",
            hello(Request { interface: "nowhere".into(), ..request(7000) }),
            vec![fd],
            Refused::NoInterface,
        ),
        (
            "the loopback interface",
            hello(Request { interface: "lo".into(), ..request(7000) }),
            vec![fd],
            Refused::NoInterface,
        ),
        (
            "no such queue",
            hello(Request { queue: Some(1), ..request(7000) }),
            vec![fd],
            Refused::NoQueue,
        ),
        (
            "no queue of this world",
            hello(Request { queue: Some(u32::MAX - 1), ..request(7000) }),
            vec![fd],
            Refused::NoQueue,
        ),
        (
            "frames of several pieces",
            hello(Request { several: true, ..request(7000) }),
            vec![fd],
            Refused::Way,
        ),
        // Last, since the file has been sealed then.
        (
            "another way",
            hello(Request { way: Way::ZeroCopy, ..request(7000) }),
            vec![fd],
            Refused::Way,
        ),
    ];
    for (what, frame, files, why) in cases {
        let before = agency.with(|service| service.counts().refused(why));
        assert_eq!(answered(&frame, &files), Err(why.into()), "{what}");
        let after = agency.with(|service| service.counts().refused(why));
        assert_eq!(after, before + 1, "{what} is counted");
    }
    let before = agency.with(|service| service.counts().clone());
    assert_eq!(before.granted, 0);
    let programs = driver_af_xdp::Interface::find("va").expect("it is there").programs;
    assert!(programs.is_empty(), "nothing is left of those that were refused");
    let file = good();
    assert!(answered(&plain, &[file.as_fd()]).is_ok(), "and the next one is served");
}

#[test]
fn the_policy_decides_by_the_kernels_word_on_who_asks() {
    let (_ours, _theirs) = joined(2);
    let agency = Agency::start();
    // A user asks for another user's port, and says so itself.
    let client = echo(0, 0, 7100);
    assert_eq!(client.word(), None, "it fails");
    drop(client);
    agency.with(|service| assert_eq!(service.counts().refused(Refused::Forbidden), 1));
    echo(1, 0, 7100).expect("ready");
}

#[test]
fn garbage_and_silence_and_crowds_are_ended_and_counted() {
    let (_ours, _theirs) = joined(1);
    let agency = Agency::start();
    // Those of root's: eight at once are heard, the others are told to come again.
    let crowd: Vec<Socket> =
        (0..60).map(|_| Socket::connect(NAME).expect("the agent listens")).collect();
    until("all are let in, or sent away", || {
        agency.with(|service| service.counts().connected) == 60
    });
    agency.with(|service| assert_eq!(service.counts().refused(Refused::Crowded), 52));
    // Another user is served meanwhile.
    echo(0, 0, 7000).expect("ready");
    for silent in &crowd[..7] {
        let ended = next(silent);
        assert!(ended.is_none(), "who says nothing is hung up on: {ended:?}");
    }
    until("the silent are counted", || agency.with(|it| it.counts().silent) == 8);
    // Bytes that are no frame.
    let socket = Socket::connect(NAME).expect("the agent listens");
    rustix::net::send(&socket, b"GET / HTTP/1.1", rustix::net::SendFlags::empty()).expect("sent");
    let (frame, _) = next(&socket).expect("an answer");
    assert_eq!(Answer::of(&frame), Err(Refused::Malformed.into()));
    // Who leaves before it is served.
    let left = agency.with(|service| service.counts().left);
    drop(Socket::connect(NAME).expect("the agent listens"));
    until("who leaves is counted", || agency.with(|it| it.counts().left) == left + 1);
}

#[test]
fn who_speaks_after_the_answer_loses_its_queue() {
    let (_ours, _theirs) = joined(1);
    let agency = Agency::start();
    let (socket, bound) = granted(7000);
    socket.send(&request(7000).frame().expect("valid"), &[bound.as_fd()]);
    agency.until_free();
    agency.with(|service| assert_eq!(service.counts().spoke, 1));
    assert!(matches!(socket.receive(), Received::HungUp));
}

#[test]
fn a_stranger_who_has_the_agents_name_gets_no_memory() {
    use std::os::unix::process::CommandExt;
    let (_ours, _theirs) = joined(1);
    // A listener of another user's, which is not root.
    let mut command = role::command("refusing::role_stranger", &["now"]);
    let stranger = role::start(command.uid(USERS[1].0).gid(USERS[1].0));
    stranger.expect("ready");
    let refused = ask(NAME, "va", Some(0), &options(7000)).expect_err("nobody trusts it");
    assert!(matches!(refused, OpenError::NotPermitted(why) if why.contains("neither root")));
    stranger.expect("it got nothing");
}

#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_stranger() {
    let Some(_) = role::arguments() else { return };
    let listener = segment::control::Listener::bind(NAME).expect("free");
    role::say("ready");
    let deadline = Instant::now() + PATIENCE;
    let socket = loop {
        if let Some(socket) = listener.accept().expect("it listens") {
            break socket;
        }
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(next(&socket).is_none());
    role::say("it got nothing");
}
