//! A new policy while channels are open.

use unet::{CloseReason, ConnectError, Refusal};

use super::*;

fn rules(listen: &str, connect: &str) -> String {
    format!(
        "[[device]]\nopen = \"udp:\"\n[[allow]]\neveryone = true\ndevices = [\"udp:\"]\n\
         listen = [{listen}]\nconnect = [{connect}]"
    )
}

#[test]
fn what_a_new_policy_forbids_ends_with_that_reason_and_the_rest_stays() {
    let (kept, forbidden) = (free_port(), free_port());
    let agent = Agency::start(&rules("\"*\"", "\"127.0.0.1:*\""));
    let at = |port: u16| agent.address(&format!("udp:{HOST}:{port}"));
    let plain = |port: u16| format!("udp:{HOST}:{port}").parse::<Address>().expect("valid");
    let (mut stays, mut goes) = (listening(&plain(kept)), listening(&plain(forbidden)));
    let (stays_id, mut near) = join(&mut stays, &at(kept), client());
    let (goes_id, mut ended) = join(&mut goes, &at(forbidden), client());
    let lent_at = agent.address(&agent.own().to_string());
    let mut lent = listening(&lent_at);

    agent.reload(&rules("", &format!("\"127.0.0.1:{kept}\"")));
    assert_eq!(ended.recv_timeout(LONG).err(), Some(CloseReason::Forbidden));
    let far = goes.recv_timeout(LONG);
    assert!(
        matches!(far, Some(Event::Closed(id, CloseReason::PeerClosed)) if id == goes_id),
        "{far:?}"
    );
    let lost = lent.recv_timeout(LONG);
    assert!(
        matches!(&lost, Some(Event::NotListening(address, CloseReason::Forbidden)) if *address == lent_at),
        "{lost:?}"
    );
    near.send(b"still here").expect("it is open");
    assert_eq!(message(&mut stays), (stays_id, b"still here".to_vec()));
    assert_eq!(agent.count("closed-by-policy"), 2);
    let again = Channel::connect(&at(forbidden), client());
    assert_eq!(again.err(), Some(ConnectError::Refused(Refusal::Forbidden)));

    // And back: nothing was lost but what was forbidden.
    agent.reload(&rules("\"*\"", "\"127.0.0.1:*\""));
    support::eventually("the port can be had again", || {
        lent.listen(&lent_at, listen_options()).is_ok()
    });
}

#[test]
fn a_user_whom_the_new_policy_does_not_name_has_nothing_any_more() {
    let agent = Agency::start(&rules("\"*\"", "\"127.0.0.1:*\""));
    let plain = plain();
    let mut server = listening(&plain);
    let (_, mut near) = join(&mut server, &agent.address(&plain.to_string()), client());
    agent.reload("");
    assert_eq!(near.recv_timeout(LONG).err(), Some(CloseReason::Forbidden));
}
