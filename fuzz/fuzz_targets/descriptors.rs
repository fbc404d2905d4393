//! Any words as descriptors, with buffers dropped in between: refused, or a range within its buffer.
#![no_main]

use std::sync::Arc;

use fbufs::{Descriptor, PeerFbuf, PeerPool};
use fuzz::{BUFFERS, Bytes, segment};
use libfuzzer_sys::fuzz_target;
use segment::control::{Listener, Socket};
use segment::doorbell::Bell;

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
    let (_peers, peer) = segment();
    let bell = Arc::new(Bell::attach(&peer, true));
    let mut pool = PeerPool::new(&own, &peer, bell, socket());
    let mut held: Vec<(u16, PeerFbuf)> = Vec::new();
    let mut generations = [0u32; BUFFERS];
    for _ in 0..200 {
        if !input.more() {
            break;
        }
        let descriptor = match input.below(4) {
            0 if !held.is_empty() => {
                let (index, _) = held.swap_remove(input.below(held.len()));
                generations[usize::from(index)] += 1;
                continue;
            }
            1 => Descriptor::from_words([input.word(), input.word()]),
            // Almost good, so that the later checks are reached.
            _ => {
                let index = input.below(BUFFERS + 1);
                let near = u32::from(input.below(16) == 0);
                Descriptor {
                    index: index as u16,
                    generation: generations.get(index).map_or(0, |current| current + near),
                    offset: input.below(5000) as u32,
                    len: input.below(5000) as u32,
                }
            }
        };
        if let Ok(fbuf) = pool.accept(descriptor) {
            let size = if descriptor.index < 4 { 64 } else { 4096 };
            let (offset, len) = (descriptor.offset as usize, descriptor.len as usize);
            assert!(usize::from(descriptor.index) < BUFFERS);
            assert!(offset <= size && len <= size - offset);
            assert_eq!(descriptor.generation, generations[usize::from(descriptor.index)]);
            assert!(held.iter().all(|(index, _)| *index != descriptor.index));
            assert_eq!(fbuf.to_vec().len(), len);
            assert!(!fbuf.copy_to(0, &mut vec![0; len + 1]));
            held.push((descriptor.index, fbuf));
        }
        assert_eq!(pool.held(), held.len());
    }
});
