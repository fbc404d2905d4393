//! Any words all over a peer's segment, and any bytes on its socket, at an endpoint in use: it goes
//! on, and closes the channel at most once.
#![no_main]

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use fuzz::{Bytes, geometry, region};
use libfuzzer_sys::fuzz_target;
use segment::Incarnation;
use segment::control::{Frame, Kind, MAX_DESCRIPTORS, Socket};
use segment::geometry::OwnSegment;
use segment::scribble::Scribbler;
use unet::{Address, Endpoint, EndpointOptions, Event, ListenOptions, Wait};

thread_local! {
    /// One endpoint for all inputs: what one peer does must not harm the next.
    static ENDPOINT: std::cell::RefCell<(Endpoint, String)> = {
        let name = format!("fuzz-handshake-{}", std::process::id());
        let options = EndpointOptions { wait: Wait::Park, ..EndpointOptions::default() };
        let mut endpoint = Endpoint::new(options).expect("an endpoint");
        let mut options = ListenOptions::default();
        options.channel.geometry = geometry();
        endpoint.listen(&Address::Shm(name.clone()), options).expect("the name is free");
        (endpoint, name).into()
    };
}

fuzz_target!(|bytes: &[u8]| {
    ENDPOINT.with_borrow_mut(|(endpoint, name)| attack(endpoint, name, Bytes(bytes)));
});

fn attack(endpoint: &mut Endpoint, name: &str, mut input: Bytes<'_>) {
    let socket = Socket::connect(name).expect("it listens");
    let incarnation = Incarnation(7);
    let own = geometry().create(incarnation, false).expect("memory is left");
    // Its segment, and regions, honest ones or not.
    let regions = [region(), own.as_fd().try_clone_to_owned().expect("a descriptor is left")];
    let mut descriptors: Vec<BorrowedFd<'_>> = Vec::new();
    if input.below(16) > 0 {
        descriptors.push(own.as_fd());
    }
    let offered = if input.below(4) == 0 { input.below(MAX_DESCRIPTORS) } else { 0 };
    for _ in 0..offered {
        descriptors.push(regions[usize::from(input.below(8) == 0)].as_fd());
    }
    let kind = if input.below(16) > 0 { Kind::Hello } else { Kind::Welcome };
    let hello = Frame::new(kind, 7, input.below(2) as u32, b"fuzz").expect("it fits");
    socket.send(&hello, &descriptors);
    let mut id = None;
    let mut closed = 0;
    for turn in 0..64 {
        // The first turns are for the handshake.
        if turn > 1 {
            scribble(&mut input, &own, &socket);
        }
        match endpoint.recv_timeout(Duration::ZERO) {
            Some(Event::Incoming(incoming)) => id = endpoint.accept(incoming, b"").ok(),
            Some(Event::Closed(..)) => closed += 1,
            Some(Event::Message(from, message)) => {
                assert_eq!(Some(from), id);
                // It may say that it took the buffers back.
                let bytes = message.to_vec();
                assert!(bytes.map_or(message.message().is_revoked(), |b| b.len() == message.len()));
            }
            None => {}
            Some(_) => unreachable!("it neither connects nor listens by an agent"),
        }
        if let Some(channel) = id.and_then(|id| endpoint.channel_mut(id)) {
            let _ = channel.try_send(b"small");
            let _ = channel.try_send(&[1; 100]);
            let (free, lent, total) = channel.buffers();
            assert!(free + lent <= total);
        }
        if turn > 1 && !input.more() {
            break;
        }
    }
    assert!(closed <= 1);
    if let Some(id) = id {
        endpoint.close(id);
    }
    assert_eq!(endpoint.channels(), 0);
}

fn scribble(input: &mut Bytes<'_>, own: &OwnSegment, socket: &Socket) {
    let words = Scribbler::over(own);
    match input.below(3) {
        0 => words.store(input.below(words.len() * 8), input.word()),
        1 => words.store(0x100 + input.below(0x2100), input.word() >> input.below(64)),
        _ => {
            let frame = Frame::bare(Kind::Doorbell, input.word() >> input.below(64));
            socket.send(&frame, &[]);
        }
    }
}
