use super::*;

const PEER: u32 = 7;
const LINK: Link = [2, 0, 0, 0, 0, 7];
const LIAR: Link = [2, 0, 0, 0, 0, 9];

struct World {
    neighbors: Neighbors<u32>,
    now: Instant,
    dropped: usize,
}

impl World {
    fn new() -> Self {
        Self { neighbors: Neighbors::new(), now: Instant(1), dropped: 0 }
    }

    fn resolve(&mut self, address: u32) -> Resolution {
        let mut message = Message::new();
        let dropped = &mut self.dropped;
        self.neighbors.resolve(address, &mut message, self.now, |_| *dropped += 1)
    }

    /// How many messages an answer, or a claim, releases.
    fn learn(&mut self, link: Link, unasked: bool) -> usize {
        let mut released = 0;
        self.neighbors.learn(PEER, link, unasked, self.now, |_| released += 1);
        released
    }

    /// What is asked until `time` has passed.
    fn pass(&mut self, time: Duration) -> Vec<Question<u32>> {
        let end = self.now + time;
        let mut asked = Vec::new();
        while self.neighbors.next_due() <= end {
            self.now = self.now.max(self.neighbors.next_due());
            let dropped = &mut self.dropped;
            self.neighbors.wake(self.now, |question| asked.push(question), |_| *dropped += 1);
        }
        self.now = end;
        asked
    }

    fn known() -> Self {
        let mut world = Self::new();
        assert_eq!(world.resolve(PEER), Resolution::Ask);
        assert_eq!(world.learn(LINK, false), 1);
        world
    }
}

#[test]
fn messages_wait_for_the_answer_and_no_more_than_a_few() {
    let mut world = World::new();
    assert_eq!(world.resolve(PEER), Resolution::Ask);
    (0..10).for_each(|_| assert_eq!(world.resolve(PEER), Resolution::Waiting));
    assert_eq!(world.dropped, 11 - WAITING);
    assert_eq!(world.learn(LINK, false), WAITING);
    assert_eq!(world.resolve(PEER), Resolution::Known(LINK));
}

#[test]
fn who_does_not_answer_is_asked_less_and_less_often_then_given_up_and_later_asked_anew() {
    let mut world = World::new();
    assert_eq!(world.resolve(PEER), Resolution::Ask);
    assert_eq!(world.pass(Duration::from_millis(2999)), [(PEER, None)]);
    assert_eq!(world.pass(Duration::from_millis(12_100)).len(), 2);
    assert_eq!(world.resolve(PEER), Resolution::Unreachable);
    assert_eq!(world.dropped, 1);
    assert!(world.pass(Duration::from_secs(10)).is_empty());
    assert_eq!(world.resolve(PEER), Resolution::Ask);
}

#[test]
fn an_answer_ages_and_is_confirmed_at_the_old_address_first() {
    let mut world = World::known();
    world.now = world.now + REACHABLE;
    assert_eq!(world.resolve(PEER), Resolution::Doubtful(LINK));
    assert_eq!(world.resolve(PEER), Resolution::Known(LINK));
    world.learn(LINK, false);
    assert!(world.pass(Duration::from_secs(20)).is_empty());
    assert_eq!(world.resolve(PEER), Resolution::Known(LINK));
}

#[test]
fn a_claim_that_nobody_asked_for_changes_nothing_but_is_looked_into() {
    let mut world = World::known();
    world.learn(LIAR, true);
    assert_eq!(world.resolve(PEER), Resolution::Doubtful(LINK));
    world.learn(LIAR, true);
    assert_eq!(world.resolve(PEER), Resolution::Known(LINK));
    world.learn(LINK, false);
    assert_eq!(world.resolve(PEER), Resolution::Known(LINK));
}

#[test]
fn who_really_moved_is_found_at_the_new_address() {
    let mut world = World::known();
    world.learn(LIAR, true);
    assert_eq!(world.resolve(PEER), Resolution::Doubtful(LINK));
    let asked = world.pass(Duration::from_secs(8));
    assert_eq!(asked, [(PEER, Some(LINK)), (PEER, None), (PEER, None)]);
    world.learn(LIAR, false);
    assert_eq!(world.resolve(PEER), Resolution::Known(LIAR));
}

#[test]
fn nobody_gets_in_unasked_or_with_the_address_of_a_group() {
    let mut world = World::new();
    world.learn(LINK, true);
    world.learn(LINK, false);
    assert_eq!(world.neighbors.len(), 0);
    assert_eq!(world.resolve(PEER), Resolution::Ask);
    assert_eq!(world.learn([0xff; 6], false), 0);
    assert_eq!(world.learn([0; 6], false), 0);
    assert_eq!(world.resolve(PEER), Resolution::Waiting);
}

#[test]
fn there_are_never_more_than_the_bounds_and_who_never_answered_goes_first() {
    let mut world = World::known();
    for other in 0..10 * NEIGHBORS as u32 {
        world.now = world.now + Duration::from_millis(1);
        world.resolve(1000 + other);
        world.resolve(1000 + other);
        let all: usize = world.neighbors.all.iter().map(|neighbor| neighbor.waiting.len()).sum();
        assert_eq!(all, world.neighbors.waiting);
        assert!(all <= WAITING_ALL);
    }
    assert_eq!(world.neighbors.len(), NEIGHBORS);
    assert_eq!(world.resolve(PEER), Resolution::Known(LINK), "inventions do not displace it");
    world.pass(IDLE * 2);
    assert_eq!(world.neighbors.len(), 0, "in the end all are forgotten");
    assert_eq!(world.neighbors.waiting, 0);
}
