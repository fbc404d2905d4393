use super::*;

/// Everything that can be sent.
fn burst(it: &mut Transfer) -> Vec<(u16, bool)> {
    std::iter::from_fn(|| it.send(7, 1000)).collect()
}

fn indices(sent: &[(u16, bool)]) -> Vec<u16> {
    sent.iter().map(|(index, _)| *index).collect()
}

fn map(bits: impl IntoIterator<Item = u32>) -> Map {
    let mut map = Map::default();
    bits.into_iter().for_each(|bit| map.insert(bit));
    map
}

#[test]
fn sends_what_the_receiver_permits_and_asks_at_its_end() {
    let mut it = Transfer::new(9, 4);
    assert_eq!(burst(&mut it), [(0, false), (1, false), (2, false), (3, true)]);
    assert_eq!(it.in_flight(), 4);
    let progress = it.on_word(4, Map::default(), 20);
    assert_eq!(progress, Progress { newer: true, lost: false, sent_at: Some(7) });
    assert_eq!(indices(&burst(&mut it)), [4, 5, 6, 7, 8, 9]);
    it.on_word(10, Map::default(), 20);
    assert!(it.in_flight() == 0 && !it.is_ready());
}

#[test]
fn never_sends_further_ahead_than_a_map_reaches() {
    let mut it = Transfer::new(60_000, u16::MAX);
    assert_eq!(burst(&mut it).len(), 256);
}

#[test]
fn asks_when_the_room_ends() {
    let mut it = Transfer::new(9, 10);
    assert_eq!(it.send(0, 2), Some((0, false)));
    assert_eq!(it.send(0, 1), Some((1, true)));
}

#[test]
fn a_gap_is_filled_once_and_again_in_the_next_round() {
    let mut it = Transfer::new(20, 10);
    burst(&mut it);
    // The second and third are missing; few came after them, then enough.
    assert!(!it.on_word(1, map([2]), 10).lost);
    assert!(it.on_word(1, map([2, 3, 4, 5]), 10).lost);
    assert_eq!(indices(&burst(&mut it)), [1, 2]);
    // More of the same burst tells nothing new of these.
    assert!(!it.on_word(1, map([2, 3, 4, 5, 6, 7]), 10).lost);
    assert_eq!(burst(&mut it), []);
    // One of both arrived; then what was sent after.
    it.on_word(2, map([1, 2, 3, 4, 5, 6, 7]), 20);
    assert_eq!(indices(&burst(&mut it)), (10..20).collect::<Vec<_>>());
    assert!(it.on_word(2, map(1..14), 20).lost);
    assert_eq!(indices(&burst(&mut it)), [2]);
}

#[test]
fn after_silence_one_is_sent_and_its_arrival_tells_what_is_lost() {
    let mut it = Transfer::new(5, 6);
    burst(&mut it);
    it.on_silence();
    assert_eq!(burst(&mut it), [(0, true)]);
    let progress = it.on_word(1, map([2]), 6);
    assert!(progress.lost && progress.sent_at.is_none());
    assert_eq!(indices(&burst(&mut it)), [1, 2, 4, 5]);
}

#[test]
fn silence_before_anything_was_sent_is_no_loss() {
    let mut it = Transfer::new(5, 6);
    it.on_silence();
    assert_eq!(indices(&burst(&mut it)), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn the_receivers_nonsense_is_not_believed() {
    let mut it = Transfer::new(9, 4);
    burst(&mut it);
    assert_eq!(it.on_word(5, Map::default(), 9), Progress::default());
    assert_eq!(it.on_word(u32::MAX, Map::default(), 9), Progress::default());
    it.on_word(0, map(0..256), 9);
    assert_eq!(it.in_flight(), 0);
    it.on_word(2, Map::default(), 4);
    // What is older tells nothing.
    assert_eq!(it.on_word(1, Map::default(), 4), Progress::default());
}

#[test]
fn a_fragment_that_was_sent_twice_is_not_timed() {
    let mut it = Transfer::new(9, 8);
    burst(&mut it);
    it.on_silence();
    burst(&mut it);
    assert_eq!(it.on_word(8, Map::default(), 8).sent_at, None);
}
