//! What neighbours learn, ask and answer, and what strangers cannot do.

use proptest::prelude::*;

use super::super::echo::tests::question;
use super::*;

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const THEIR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn ours() -> Neighbours {
    Neighbours::new(MAC, OURS, 24, Some(Ipv4Addr::new(10, 0, 0, 254))).expect("a host's")
}

fn theirs() -> Neighbours {
    Neighbours::new(THEIR_MAC, THEIRS, 24, None).expect("a host's")
}

#[test]
fn both_sides_learn_from_one_question_and_its_answer() {
    let (mut ours, mut theirs) = (ours(), theirs());
    assert_eq!(ours.resolve(THEIRS.into()), Err(DeviceError::Unresolved));
    let question = ours.say().expect("it asks");
    assert_eq!(ours.resolve(THEIRS.into()), Err(DeviceError::Unresolved));
    assert_eq!(ours.say(), None, "it asked a moment ago");
    theirs.hear(&question);
    ours.hear(&theirs.say().expect("it answers"));
    let route = ours.resolve(THEIRS.into()).expect("it is known");
    assert_eq!((route.mac, route.source), (THEIR_MAC, OURS.into()));
    assert_eq!(theirs.resolve(OURS.into()).map(|route| route.mac), Ok(MAC));
    assert_eq!((ours.maintain(), ours.maintain()), (Ok(true), Ok(false)));
    assert_eq!((ours.say(), theirs.say()), (None, None));
}

#[test]
fn the_question_is_what_rfc_826_says() {
    let mut ours = ours();
    let _ = ours.resolve(THEIRS.into());
    let frame = ours.say().expect("it asks");
    let expected = [
        &[0xff; 6][..],
        &MAC,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &MAC,
        &[10, 0, 0, 1],
        &[0; 6],
        &[10, 0, 0, 2],
    ];
    assert_eq!(frame, expected.concat());
}

#[test]
fn what_is_elsewhere_goes_by_the_gateway_or_not_at_all() {
    let (mut ours, mut theirs) = (ours(), theirs());
    let far = Ipv4Addr::new(192, 0, 2, 1).into();
    assert_eq!(theirs.resolve(far), Err(DeviceError::Unreachable));
    assert_eq!(ours.resolve(far), Err(DeviceError::Unresolved));
    assert_eq!(ours.say().expect("it asks")[38..], [10, 0, 0, 254]);
    for nobody in [OURS, Ipv4Addr::new(10, 0, 0, 255), Ipv4Addr::new(10, 0, 0, 0)] {
        assert_eq!(theirs.is_neighbour(nobody), nobody == OURS, "{nobody}");
    }
    assert_eq!(ours.resolve(OURS.into()), Err(DeviceError::Unreachable));
    assert_eq!(ours.resolve("::1".parse().expect("valid")), Err(DeviceError::Unreachable));
}

#[test]
fn nobody_is_learnt_who_was_not_asked_and_does_not_ask_us() {
    let mut ours = ours();
    let mut theirs = theirs();
    // An answer to nobody's question, and a question for another.
    theirs.send(REPLY, MAC, (MAC, OURS));
    theirs.send(REQUEST, EVERYBODY, ([0; 6], Ipv4Addr::new(10, 0, 0, 9)));
    while let Some(frame) = theirs.say() {
        ours.hear(&frame);
    }
    assert!(ours.known.is_empty() && ours.say.is_empty());
    // A sender that is not who it says, everybody, or nobody.
    theirs.send(REQUEST, EVERYBODY, ([0; 6], OURS));
    let good = theirs.say().expect("it was made");
    for (at, value) in [(6, 4), (22, 4), (28, 11), (14, 9), (18, 7), (12, 9)] {
        let mut frame = good.clone();
        frame[at] = value;
        ours.hear(&frame);
    }
    for mac in [[0; 6], [1, 0, 0, 0, 0, 2], EVERYBODY] {
        let mut frame = good.clone();
        frame[6..12].copy_from_slice(&mac);
        frame[22..28].copy_from_slice(&mac);
        ours.hear(&frame);
    }
    (0..FRAME).for_each(|len| ours.hear(&good[..len]));
    assert!(ours.known.is_empty() && ours.say.is_empty());
    ours.hear(&good);
    assert_eq!((ours.known.len(), ours.say.len()), (1, 1));
}

#[test]
fn a_flood_of_strangers_is_bounded() {
    let mut ours = Neighbours::new(MAC, OURS, 8, None).expect("a host's");
    for number in 2..10_000u32 {
        let address = Ipv4Addr::from_bits(OURS.to_bits() + number);
        let mac = [2, 1, 0, 0, (number >> 8) as u8, number as u8];
        let mut stranger = Neighbours::new(mac, address, 8, None).expect("a host's");
        stranger.send(REQUEST, EVERYBODY, ([0; 6], OURS));
        ours.hear(&stranger.say().expect("it was made"));
        let _ = ours.resolve(Ipv4Addr::from_bits(OURS.to_bits() + 100_000 + number).into());
    }
    assert!(ours.known.len() <= MOST && ours.say.len() <= MOST_SAID);
}

#[test]
fn answers_are_bounded_until_it_is_looked_at_again() {
    let (mut ours, mut theirs) = (ours(), theirs());
    theirs.send(REQUEST, EVERYBODY, ([0; 6], OURS));
    let question = theirs.say().expect("it was made");
    let mut answers = 0;
    for _ in 0..1000 {
        ours.hear(&question);
        answers += std::iter::from_fn(|| ours.say()).count();
    }
    assert_eq!(answers, MOST_SAID);
    ours.looked -= PATIENCE;
    let _ = ours.maintain();
    ours.hear(&question);
    assert!(ours.say().is_some());
}

#[test]
fn a_ping_is_answered_and_nobody_is_learnt_by_it() {
    let mut ours = ours();
    ours.hear(&question(b"are you there?"));
    let answer = ours.say().expect("it answers");
    assert_eq!((&answer[..6], &answer[42..]), (&THEIR_MAC[..], &b"are you there?"[..]));
    assert!(ours.known.is_empty() && ours.say().is_none());
}

#[test]
fn answered_pings_are_bounded_and_leave_room_for_neighbours() {
    let (mut ours, mut theirs) = (ours(), theirs());
    theirs.send(REQUEST, EVERYBODY, ([0; 6], OURS));
    let (ping, question) = (question(&[1; 56]), theirs.say().expect("it was made"));
    (0..1000).for_each(|_| ours.hear(&ping));
    assert_eq!(ours.say.len(), MOST_ECHOED);
    ours.hear(&question);
    let said: Vec<_> = std::iter::from_fn(|| ours.say()).collect();
    assert_eq!(said.iter().filter(|frame| frame[12..14] == ARP).count(), 1);
    ours.hear(&ping);
    assert_eq!(ours.say(), None, "so many there were already");
    ours.looked -= PATIENCE;
    let _ = ours.maintain();
    ours.hear(&ping);
    assert!(ours.say().is_some());
}

#[test]
fn nobody_is_forgotten_who_could_not_be_asked() {
    let mut ours = Neighbours::new(MAC, OURS, 16, None).expect("a host's");
    let address = |number| Ipv4Addr::from_bits(OURS.to_bits() + number);
    for number in 1..=2000 {
        ours.learn(address(number), THEIR_MAC, true);
    }
    let mut asked = std::collections::HashSet::new();
    for _ in 0..2 * 2000 / MOST_SAID {
        ours.looked -= PATIENCE;
        // As old as can be, and asked long ago; those asked last come last.
        ours.known
            .values_mut()
            .for_each(|it| (it.heard, it.asked) = (it.heard - OLD, it.asked - PATIENCE));
        let _ = ours.maintain();
        asked.extend(std::iter::from_fn(|| ours.say()).map(|frame| frame[38..].to_vec()));
    }
    assert_eq!((asked.len(), ours.known.len()), (2000, 2000));
}

#[test]
fn who_never_answers_is_forgotten() {
    let mut ours = ours();
    let _ = ours.resolve(THEIRS.into());
    for _ in 0..=TIMES {
        ours.looked -= PATIENCE;
        ours.known.values_mut().for_each(|it| it.asked -= PATIENCE);
        let _ = ours.maintain();
    }
    assert!(ours.known.is_empty());
    assert_eq!(ours.say.len(), TIMES as usize);
}

#[test]
fn addresses_that_no_host_has_are_refused() {
    for (address, prefix, gateway) in [
        ("0.0.0.0", 24, None),
        ("224.0.0.1", 24, None),
        ("255.255.255.255", 24, None),
        ("10.0.0.1", 33, None),
        ("10.0.0.1", 24, Some("10.0.1.254")),
        ("10.0.0.1", 24, Some("10.0.0.1")),
    ] {
        let gateway = gateway.map(|text: &str| text.parse().expect("valid"));
        let made = Neighbours::new(MAC, address.parse().expect("valid"), prefix, gateway);
        assert!(made.is_none(), "{address}/{prefix}");
    }
}

proptest! {
    #[test]
    fn any_frame_is_heard_without_harm(frame in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut ours = ours();
        ours.hear(&frame);
        let arp = [&frame[..frame.len().min(12)], &ARP, &KIND, &frame].concat();
        ours.hear(&arp);
        prop_assert!(ours.known.len() <= 1 && ours.say.len() <= 1);
        let ping = [&question(b"")[..], &frame].concat();
        ours.hear(&ping);
        prop_assert!(ours.say.len() <= 2);
    }
}
