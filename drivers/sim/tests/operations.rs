//! Whatever is done in whatever order under whatever faults: no buffer is lost, and the accounts add up.

use std::collections::VecDeque;
use std::time::Duration;

use driver_sim::{Account, Datagrams, DeviceOptions, Faults, Network};
use proptest::prelude::*;
use unet::device::{Count, Datagrams as _, Device, Outgoing, Piece, Received, Statistics};

#[derive(Clone, Debug)]
enum Operation {
    /// Sends so many packets, of so many bytes; longer ones than the MTU, among them.
    Send {
        by: usize,
        packets: usize,
        len: usize,
    },
    /// Sends a packet in more pieces than the device takes.
    SendPieces {
        by: usize,
        pieces: usize,
    },
    Receive {
        by: usize,
    },
    /// Lets go of so many of the packets that are held.
    Release {
        by: usize,
        packets: usize,
    },
    Arm {
        by: usize,
    },
    Maintain {
        by: usize,
    },
    Link {
        of: usize,
        up: bool,
    },
    Mtu(usize),
    Advance(u64),
    Reopen {
        which: usize,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let one = 0..2usize;
    prop_oneof![
        8 => (one.clone(), 0..40usize, 0..1700usize)
            .prop_map(|(by, packets, len)| Send { by, packets, len }),
        1 => (one.clone(), 2..6usize).prop_map(|(by, pieces)| SendPieces { by, pieces }),
        8 => one.clone().prop_map(|by| Receive { by }),
        4 => (one.clone(), 0..40usize).prop_map(|(by, packets)| Release { by, packets }),
        1 => one.clone().prop_map(|by| Arm { by }),
        1 => one.clone().prop_map(|by| Maintain { by }),
        1 => (one.clone(), any::<bool>()).prop_map(|(of, up)| Link { of, up }),
        1 => (0..1600usize).prop_map(Mtu),
        4 => (0..100_000u64).prop_map(Advance),
        1 => one.prop_map(|which| Reopen { which }),
    ]
}

fn faults() -> impl Strategy<Value = Faults> {
    let chance = || prop_oneof![Just(0.0), 0.0..0.3f64, Just(1.0)];
    let time = || (0..50_000u64).prop_map(Duration::from_nanos);
    let chances = (chance(), chance(), chance(), chance(), chance(), chance(), chance());
    (chances, time(), time(), time()).prop_map(|(chances, late, delay, jitter)| {
        let (loss, burst, recover, burst_loss, duplicate, corrupt, reorder) = chances;
        Faults {
            loss,
            burst,
            recover,
            burst_loss,
            duplicate,
            corrupt,
            reorder,
            late,
            delay,
            jitter,
        }
    })
}

fn options() -> impl Strategy<Value = DeviceOptions> {
    (1..40u32, 1..50usize, 1..8usize, 1..30usize, 1..3usize).prop_map(
        |(buffers, stock, burst, queue, pieces)| DeviceOptions {
            mtu: 1500,
            buffers,
            buffer_bytes: 1536 / pieces as u32,
            stock,
            burst,
            queue,
            pieces,
        },
    )
}

/// One of the two, with what it was seen to do since the beginning, former devices of its place included.
struct Side {
    device: Datagrams,
    queue: VecDeque<Outgoing>,
    held: Vec<Received>,
    former: Statistics,
    taken: u64,
    handed: u64,
}

impl Side {
    fn said(&mut self) -> Statistics {
        let mut said = self.former;
        said += self.device.statistics();
        said
    }

    fn packets(&self) -> u64 {
        self.queue.iter().filter(|outgoing| !outgoing.piece.more).count() as u64
    }

    fn transmit(&mut self) {
        let before = self.packets();
        // A link that is down takes nothing.
        _ = self.device.transmit(&mut self.queue);
        self.taken += before - self.packets();
    }

    fn receive(&mut self) {
        let before = self.held.len();
        _ = self.device.receive(&mut self.held);
        self.handed +=
            self.held[before..].iter().filter(|received| !received.piece.more).count() as u64;
    }
}

struct World {
    network: Network,
    options: DeviceOptions,
    sides: [Side; 2],
}

fn address(which: usize) -> std::net::SocketAddr {
    ([10, 0, 0, which as u8 + 1], 9000).into()
}

impl World {
    fn new(seed: u64, faults: Faults, options: DeviceOptions) -> Self {
        let network = Network::new(seed, faults);
        let sides = [0, 1].map(|which| Side {
            device: network.datagrams(address(which), options).expect("it is free"),
            queue: VecDeque::new(),
            held: Vec::new(),
            former: Statistics::default(),
            taken: 0,
            handed: 0,
        });
        Self { network, options, sides }
    }

    fn send(&mut self, by: usize, pieces: &[usize]) {
        let side = &mut self.sides[by];
        let to = side.device.open(address(1 - by)).expect("it is reachable");
        let buffers: Vec<_> =
            pieces.iter().map_while(|len| side.device.pool().alloc(*len).ok()).collect();
        if buffers.len() == pieces.len() {
            let last = buffers.len() - 1;
            side.queue.extend(buffers.into_iter().enumerate().map(|(at, buffer)| Outgoing {
                to,
                piece: Piece { bytes: buffer.freeze(), more: at < last },
            }));
            side.transmit();
        }
        // What was not taken is for nobody from here on.
        side.device.close(to);
    }

    fn run(&mut self, operation: Operation) {
        match operation {
            Operation::Send { by, packets, len } => {
                let most = self.options.buffer_bytes as usize;
                let pieces: Vec<_> =
                    (0..len.div_ceil(most).max(1)).map(|at| (len - at * most).min(most)).collect();
                (0..packets).for_each(|_| self.send(by, &pieces));
            }
            Operation::SendPieces { by, pieces } => self.send(by, &vec![8; pieces]),
            Operation::Receive { by } => self.sides[by].receive(),
            Operation::Release { by, packets } => {
                let held = &mut self.sides[by].held;
                held.drain(..packets.min(held.len()));
            }
            Operation::Arm { by } => _ = self.sides[by].device.arm(),
            Operation::Maintain { by } => _ = self.sides[by].device.maintain(),
            Operation::Link { of, up } => {
                assert!(self.network.set_link(self.sides[of].device.port(), up));
            }
            Operation::Mtu(mtu) => self.network.set_mtu(mtu),
            Operation::Advance(by) => self.network.advance(Duration::from_nanos(by)),
            Operation::Reopen { which } => self.reopen(which),
        }
    }

    fn reopen(&mut self, which: usize) {
        let spare = ([10, 0, 0, 99], 9000).into();
        let spare = self.network.datagrams(spare, self.options).expect("it is free");
        let side = &mut self.sides[which];
        side.queue.clear();
        let old = std::mem::replace(&mut side.device, spare);
        let mut old = old;
        side.former += old.statistics();
        drop(old);
        let again = self.network.datagrams(address(which), self.options).expect("it is free");
        let spare = std::mem::replace(&mut self.sides[which].device, again);
        drop(spare);
        // The former one's buffers; they are no part of the new one's account.
        self.sides[which].held.clear();
    }

    /// What must hold at any time.
    fn check(&mut self) {
        let account = self.network.account();
        let (flying, waiting) = self.network.under_way();
        assert_eq!(
            account.sent + account.copies(),
            account.carried + account.not_carried() + flying as u64,
            "{account:?}"
        );
        let said = self.sides.each_mut().map(Side::said);
        let sum = |counts: &[Count]| said.iter().map(|said| said.sum(counts)).sum::<u64>();
        assert_eq!(sum(&[Count::Sent]), account.sent);
        let arrived = sum(&[Count::Received]) + sum(&Count::DROPPED);
        assert_eq!(arrived + waiting as u64 + account.abandoned, account.carried);
        for (side, said) in self.sides.iter_mut().zip(said) {
            assert_eq!(said[Count::Sent] + said.sum(&Count::NOT_SENT), side.taken);
            assert_eq!(said[Count::Received], side.handed);
        }
    }

    /// Lets all arrive; every buffer must be free or in the stock then.
    fn settle(&mut self) -> Account {
        for side in &mut self.sides {
            side.queue.clear();
            self.network.set_link(side.device.port(), true);
        }
        self.network.advance(Duration::from_secs(60));
        for _ in 0..1000 {
            for side in &mut self.sides {
                side.receive();
                side.held.clear();
                side.receive();
                side.held.clear();
            }
        }
        assert_eq!(self.network.under_way(), (0, 0));
        for side in &mut self.sides {
            side.device.maintain().expect("it is up");
            let stock = side.device.capabilities().stock;
            let pool = side.device.pool();
            assert_eq!(pool.free() + stock, pool.total());
        }
        self.network.account()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_without_a_count(
        seed in any::<u64>(),
        faults in faults(),
        options in options(),
        operations in prop::collection::vec(operation(), 0..60),
    ) {
        let mut world = World::new(seed, faults, options);
        for operation in operations {
            world.run(operation);
            world.check();
        }
        world.settle();
        world.check();
    }
}
