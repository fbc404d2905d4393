use super::*;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    attach(&mut bytes, kind, value);
    bytes
}

fn a_way() -> Vec<u8> {
    let header = [2, 32, 0, 0, 254, 0, 0, libc::RTN_UNICAST, 0, 0, 0, 0];
    let metrics = [attribute(8, &[9; 4]), attribute(RTAX_MTU, &1280u32.to_ne_bytes())].concat();
    [
        header.to_vec(),
        attribute(libc::RTA_DST, &[10, 0, 0, 9]),
        attribute(libc::RTA_OIF, &3u32.to_ne_bytes()),
        // With the flag that it is nested.
        attribute(libc::RTA_METRICS | 0x8000, &metrics),
        attribute(999, b"from a newer kernel"),
        attribute(libc::RTA_GATEWAY, &[10, 0, 0, 1]),
        attribute(libc::RTA_PREFSRC, &[10, 0, 0, 2]),
    ]
    .concat()
}

fn a_neighbour(state: u16) -> Vec<u8> {
    let header = [&[2, 0, 0, 0, 3, 0, 0, 0][..], &state.to_ne_bytes(), &[0, 1]].concat();
    let address = attribute(libc::NDA_DST, &[10, 0, 0, 1]);
    [header, address, attribute(libc::NDA_LLADDR, &[2, 0, 0, 0, 0, 9])].concat()
}

#[test]
fn a_way_is_read_with_what_it_carries() {
    let way = Way {
        kind: libc::RTN_UNICAST,
        index: Some(3),
        gateway: Some([10, 0, 0, 1].into()),
        source: Some([10, 0, 0, 2].into()),
        mtu: Some(1280),
    };
    assert_eq!(read(libc::RTM_NEWROUTE, &a_way()), Some(Message::Way(way)));
}

#[test]
fn a_next_hop_of_the_other_family_is_read() {
    let header = [2, 32, 0, 0, 254, 0, 0, libc::RTN_UNICAST, 0, 0, 0, 0].to_vec();
    let via = [&(libc::AF_INET6 as u16).to_ne_bytes()[..], &[0xfe, 0x80], &[0; 13], &[1]].concat();
    let way = way(&[header, attribute(libc::RTA_VIA, &via)].concat()).expect("it is one");
    assert_eq!(way.gateway, Some("fe80::1".parse().expect("it is an address")));
}

#[test]
fn a_neighbour_is_usable_only_in_states_in_which_the_kernel_would_use_it() {
    let mac = Some([2, 0, 0, 0, 0, 9]);
    for (state, usable) in [
        (libc::NUD_REACHABLE, mac),
        (libc::NUD_STALE, mac),
        (libc::NUD_DELAY, mac),
        (libc::NUD_PROBE, mac),
        (libc::NUD_PERMANENT, mac),
        (libc::NUD_NOARP, mac),
        (libc::NUD_INCOMPLETE, None),
        (libc::NUD_FAILED, None),
        (libc::NUD_NONE, None),
    ] {
        let Some(Message::Neighbour(neighbour)) = read(libc::RTM_NEWNEIGH, &a_neighbour(state))
        else {
            panic!("it is one")
        };
        assert_eq!(neighbour.usable_mac(), usable);
        assert_eq!((neighbour.index, neighbour.address), (3, Some([10, 0, 0, 1].into())));
    }
    let removed = read(libc::RTM_DELNEIGH, &a_neighbour(libc::NUD_REACHABLE));
    let Some(Message::Neighbour(removed)) = removed else { panic!("it is one") };
    assert_eq!(removed.usable_mac(), None);
}

#[test]
fn a_link_layer_address_that_is_not_ethernets_is_none() {
    let header = [2, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 1].to_vec();
    for len in [0, 5, 7, 20] {
        let bytes = [header.clone(), attribute(libc::NDA_LLADDR, &vec![1; len])].concat();
        assert_eq!(neighbour(&bytes, false).expect("it is one").mac, None);
    }
}

#[test]
fn addresses_on_trial_are_not_usable() {
    let read = |flags: u8, more: Option<u32>| {
        let mut bytes = vec![10, 64, flags, 0, 3, 0, 0, 0];
        bytes.extend(attribute(libc::IFA_ADDRESS, &[1; 16]));
        bytes.extend(
            more.map_or(Vec::new(), |more| attribute(libc::IFA_FLAGS, &more.to_ne_bytes())),
        );
        address(&bytes).expect("it is one").usable
    };
    assert!(read(0x80, None));
    assert!(!read(libc::IFA_F_TENTATIVE as u8, None));
    assert!(!read(0, Some(libc::IFA_F_DADFAILED)));
    assert!(read(0, Some(libc::IFA_F_TENTATIVE | libc::IFA_F_OPTIMISTIC)));
}

#[test]
fn the_local_address_is_taken_where_the_other_is_the_peers() {
    let mut bytes = vec![2, 32, 0x80, 0, 3, 0, 0, 0];
    bytes.extend(attribute(libc::IFA_ADDRESS, &[10, 0, 0, 1]));
    bytes.extend(attribute(libc::IFA_LOCAL, &[10, 0, 0, 2]));
    assert_eq!(address(&bytes).expect("it is one").address, Some([10, 0, 0, 2].into()));
}

#[test]
fn a_link_is_read_and_a_bridges_word_about_it_is_not() {
    let mut bytes = vec![0, 0, 1, 0, 3, 0, 0, 0, 0x43, 0, 1, 0, 0, 0, 0, 0];
    bytes.extend(attribute(libc::IFLA_MTU, &1500u32.to_ne_bytes()));
    let read_link = link(&bytes, false).expect("it is one");
    assert_eq!((read_link.index, read_link.kind, read_link.flags), (3, 1, 0x10043));
    assert_eq!(read_link.mtu, Some(1500));
    bytes[0] = libc::AF_BRIDGE as u8;
    assert_eq!(link(&bytes, true), None);
}

#[test]
fn garbled_attributes_end_the_reading_and_nothing_more() {
    let whole = a_way();
    for len in 0..whole.len() {
        // Whatever is cut: no fault, and what was read before stands.
        let cut = way(&whole[..len]);
        assert_eq!(cut.is_some(), len >= 12);
        assert!(len < 28 || cut.is_some_and(|way| way.index == Some(3)));
    }
    for place in 12..whole.len() {
        for value in [0, 1, 3, 4, 0x7f, 0xff] {
            let mut garbled = whole.clone();
            garbled[place] = value;
            _ = way(&garbled);
            for kind in 0..100 {
                _ = read(kind, &garbled[place - 12..]);
            }
        }
    }
}

#[test]
fn values_of_a_wrong_length_are_not_there() {
    let header = [2, 32, 0, 0, 254, 0, 0, libc::RTN_UNICAST, 0, 0, 0, 0].to_vec();
    for len in [0, 1, 3, 5, 16] {
        let value = vec![1; len];
        let mut bytes = header.clone();
        for kind in [libc::RTA_OIF, libc::RTA_GATEWAY, libc::RTA_PREFSRC, libc::RTA_METRICS] {
            bytes.extend(attribute(kind, &value));
        }
        bytes.extend(attribute(libc::RTA_VIA, &vec![1; len]));
        assert_eq!(way(&bytes), Some(Way { kind: libc::RTN_UNICAST, ..Way::default() }));
    }
}
