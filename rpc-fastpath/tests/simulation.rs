//! Whole sessions with everything that can go wrong, from a seed, and what every one of them must show.
//!
//! Each run is one client and one server, some calls, a network that loses, doubles, delays and reorders
//! packets and is cut for longer than every timer, and processes that die and come back. A checker reads the
//! history: no effect twice, none lost that was acknowledged, each call ended once, none executed that was
//! refused, and no server executes what was sent to the one before it.
//!
//! `RPC_RUNS` says how many runs; `RPC_SEED` repeats the one that failed.

#[path = "simulation/history.rs"]
mod history;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/planning.rs"]
mod planning;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/serving.rs"]
mod serving;
#[path = "simulation/world.rs"]
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use history::{End, Ends};
use world::World;

/// How many a check must make.
const RUNS: u64 = 100_000;

fn run(seed: u64) -> Ends {
    let mut world = World::new(seed);
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    assert!(ran.is_ok(), "RPC_SEED={seed} repeats it");
    let checked = history::check(&world.history);
    assert_eq!(checked, Ok(()), "RPC_SEED={seed} repeats it: {:#?}", world.history);
    let well = world.last_ends().all(|end| matches!(end, Some(End::Executed { .. })));
    assert!(
        well,
        "RPC_SEED={seed}: calls did not succeed though all was well: {:#?}",
        world.history
    );
    world.ends
}

#[test]
fn every_history_is_one_that_may_be() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(seed) = number("RPC_SEED") {
        println!("{:?}", run(seed));
        return;
    }
    let runs = number("RPC_RUNS").unwrap_or(RUNS);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let work = || {
        let mut sum = Ends::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= runs {
                return sum;
            }
            sum = sum + run(seed);
        }
    };
    let sum = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let sums = workers.into_iter().map(|worker| worker.join().expect("a run failed"));
        sums.fold(Ends::default(), |sum, one| sum + one)
    });
    println!("{runs} runs: {sum:?}");
    // Whatever can happen did: runs in which nothing goes wrong show nothing.
    if runs >= 1000 {
        let Ends { executed, failed, refused, unknown, resolved, suspected } = sum;
        assert!(executed > 4 * runs && suspected * 20 > runs, "{sum:?}");
        assert!(
            [failed, refused, unknown, resolved].iter().all(|count| count * 10 > runs),
            "{sum:?}"
        );
    }
}
