//! Any words as descriptors, with handles dropped and cloned in between: refused, or a range within
//! its buffer or run of buffers, under a lease that was free.
#![no_main]

use std::sync::Arc;

use fbufs::{Descriptor, Holdings, Path, PeerFbuf, ReadError};
use fuzz::{BUFFERS, Bytes, region, segment};
use libfuzzer_sys::fuzz_target;
use segment::control::{Listener, Socket};
use segment::doorbell::Bell;
use segment::geometry::EPOCHS;
use segment::scribble::Scribbler;

/// A socket with a peer that never reads; made once, for nothing is rung.
fn socket() -> Arc<Socket> {
    thread_local! {
        static SOCKET: (Arc<Socket>, Option<Socket>) = {
            let name = format!("fuzz-{}", std::process::id());
            let listener = Listener::bind(&name).expect("the name is free");
            let near = Socket::connect(&name).expect("it listens");
            let far = listener.accept().expect("a descriptor is left");
            (Arc::new(near), far)
        };
    }
    SOCKET.with(|(near, _)| near.clone())
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Bytes(bytes);
    let (own, _own_as_seen) = segment();
    let (peers, peer) = segment();
    let scribbler = Scribbler::over(&peers);
    let bell = Arc::new(Bell::attach(&peer, true));
    // The peer's segment and one region.
    let path = Path::attach(vec![region()]).expect("it is honest");
    let mut holdings = Holdings::new(&own, &peer, &path, bell, socket());
    let mut held: Vec<(u8, PeerFbuf)> = Vec::new();
    let mut generation = 0u32;
    for _ in 0..200 {
        if !input.more() {
            break;
        }
        let descriptor = match input.below(8) {
            0 | 1 if !held.is_empty() => {
                held.swap_remove(input.below(held.len()));
                continue;
            }
            2 if !held.is_empty() => {
                let (lease, fbuf) = &held[input.below(held.len())];
                held.push((*lease, fbuf.clone()));
                continue;
            }
            3 => {
                scribbler.store(EPOCHS + input.below(BUFFERS) * 8, input.word());
                continue;
            }
            4 => Descriptor::from_words([input.word(), input.word()]),
            // Almost good, so that the later checks are reached.
            _ => Descriptor {
                lease: input.below(8) as u8,
                index: input.below(2 * BUFFERS + 1) as u16,
                generation: generation + u32::from(input.below(16) == 0),
                epoch: input.below(4) as u16,
                offset: input.below(9000) as u32,
                len: input.below(9000) as u32,
            },
        };
        if let Ok(fbuf) = holdings.accept(descriptor) {
            let index = usize::from(descriptor.index);
            assert!(index < 2 * BUFFERS);
            let place = index % BUFFERS;
            // Those of the largest class are handed over in runs too.
            let size = if place < 4 { 64 } else { 4096 * (BUFFERS - place) };
            let (offset, len) = (descriptor.offset as usize, descriptor.len as usize);
            assert!(offset <= size && len <= size - offset);
            assert_eq!(descriptor.generation, generation);
            assert!(held.iter().all(|(lease, _)| *lease != descriptor.lease));
            generation += 1;
            read(&fbuf, len);
            held.push((descriptor.lease, fbuf));
        }
        let leases: std::collections::HashSet<u8> = held.iter().map(|(lease, _)| *lease).collect();
        assert_eq!(holdings.held(), leases.len());
    }
});

/// All bytes or none, and never one more.
fn read(fbuf: &PeerFbuf, len: usize) {
    match fbuf.to_vec() {
        Ok(bytes) => assert_eq!(bytes.len(), len),
        Err(error) => assert!(error == ReadError::Revoked && fbuf.is_revoked()),
    }
    assert_eq!(fbuf.copy_to(0, &mut vec![0; len + 1]), Err(ReadError::OutOfRange));
}
