//! What the way of a message costs beside time.

mod one_host;

use one_host::Host;

#[test]
fn nothing_is_allocated_on_the_way_of_a_message_from_the_second_on() {
    let text =
        "sequencing: fragment\nfragment: checksum\nchecksum: tag\ntag: wire\nwire = loopback";
    let mut host = Host::new(text, "sequencing");
    let mut message = host.message(&[5; 1000]);
    let mut turn = |host: &mut Host| {
        host.graph.push(host.now, host.session, std::mem::take(&mut message)).expect("it is open");
        message = host.graph.received().expect("it came back").message;
    };
    turn(&mut host);
    let counted = allocation_counter::measure(|| (0..1000).for_each(|_| turn(&mut host)));
    assert_eq!(counted.count_total, 0);
}
