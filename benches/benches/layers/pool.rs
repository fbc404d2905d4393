//! What a buffer costs: to take, to hand over, and to get back.

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use fbufs::{Holdings, Leases, Part, Path, Pool, Quota};
use segment::control::{Listener, Socket};
use segment::doorbell::Bell;

use crate::pair;

/// A control socket, which a pool rings through when its owner sleeps: here nobody does.
fn socket() -> (Arc<Socket>, Socket) {
    let name = format!("pool-bench-{}", std::process::id());
    let listener = Listener::bind(&name).expect("the name is free");
    let ours = Socket::connect(&name).expect("somebody listens");
    let theirs = listener.accept().expect("there is a descriptor").expect("somebody connected");
    (Arc::new(ours), theirs)
}

/// Every operation, with nobody else on the lines.
pub fn pool(criterion: &mut Criterion) {
    let (mut owner, receiver) = pair::sides();
    let (socket, _other_end) = socket();
    let mut pool = Pool::in_segment(&mut owner.own);
    let path = Path::default();
    let mut leases = Leases::new(&pool, &path, &owner.peer, Quota::default());
    let bell = Arc::new(Bell::attach(&receiver.peer, false));
    let mut holdings = Holdings::new(&receiver.own, &receiver.peer, &path, bell, socket);
    let mut group = criterion.benchmark_group("pool");
    for bytes in [4 << 10, 64 << 10, 1 << 20] {
        group.bench_function(format!("take and drop, {bytes} B"), |bencher| {
            bencher.iter(|| drop(black_box(pool.alloc(bytes).expect("a buffer is free"))));
        });
        group.bench_function(format!("hand over and back, {bytes} B"), |bencher| {
            bencher.iter(|| {
                let fbuf = pool.alloc(bytes).expect("a buffer is free").freeze();
                let descriptor = leases.lend(Part::Own(fbuf)).expect("it is this pool's");
                let received = holdings.accept(black_box(descriptor));
                holdings.give_back(received.expect("the descriptor is honest"));
                leases.collect(&mut pool).expect("nothing is wrong")
            });
        });
    }
}
