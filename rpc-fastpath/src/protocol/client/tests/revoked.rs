//! Arguments that are not there any more when they are to be sent.

use super::*;

#[test]
fn arguments_that_are_taken_back_before_they_are_sent_end_their_call_at_once() {
    let header = |sent: &Sent| *sent.0.first_chunk().expect("a header");
    for len in [5, 35] {
        let (mut client, mut server) = open(limits(), timers());
        client.start(0, call(1, len)).unwrap();
        let sent = from_client(&mut client, 0);
        let head = header(sent.last().expect("a packet"));
        assert!(client.is_first(&head));
        client.revoke(&head, true);
        assert!(client.next_timer() == 0);
        let end = outcome(told(&mut client, 0));
        assert_eq!(end, (1, Outcome::Refused(Refusal::Revoked)));
        assert_eq!(from_client(&mut client, 0), []);
        // Whatever of it was sent is not all of it, and its place is taken by the next.
        assert_eq!(to_server(&mut server, 0, &sent[..sent.len() - 1]), []);
        client.start(0, call(2, 3)).unwrap();
        client.start(0, call(3, 3)).unwrap();
        let next = from_client(&mut client, 0);
        assert_eq!(to_server(&mut server, 0, &next).len(), 2);
    }
    for len in [5, 35] {
        let (mut client, _) = open(limits(), timers());
        client.start(0, call(1, len)).unwrap();
        from_client(&mut client, 0);
        let now = 2 * MILLISECOND;
        client.on_timer(now);
        let again = header(&from_client(&mut client, now)[0]);
        assert!(!client.is_first(&again));
        client.revoke(&again, false);
        let end = outcome(told(&mut client, now));
        assert_eq!(end, (1, Outcome::Unknown(Doubt::Revoked)));
        // It is over, and has ended once.
        client.revoke(&again, true);
        assert_eq!(told(&mut client, now), []);
    }
}
