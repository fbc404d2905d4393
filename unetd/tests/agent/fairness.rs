//! Who floods has what is left over; the others keep their rate and their times.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use support::role;

use super::*;

/// Floods an address, with several channels at once, until it is killed. Its arguments: the address.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_flood() {
    let Some(arguments) = role::arguments() else { return };
    let address: Address = arguments[0].parse().expect("an address");
    let mut channels: Vec<Channel> =
        (0..4).map(|_| Channel::connect(&address, client()).expect("connected")).collect();
    role::say("floods");
    loop {
        let mut taken = false;
        for channel in &mut channels {
            for _ in 0..32 {
                match channel.try_send(&[0; 200]) {
                    Ok(unet::Offer::Taken) => taken = true,
                    _ => break,
                }
            }
            let _ = channel.try_recv();
        }
        // The machine has few cores, and it is the agent's turns that are to be shared here.
        if !taken {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Round trips, the 50th and the 99th percentile.
fn measure(channel: &mut Channel, count: usize) -> (Duration, Duration) {
    let mut times = Vec::with_capacity(count);
    let mut number = 0u64;
    while times.len() < count {
        number += 1;
        let begin = Instant::now();
        channel.send(&number.to_le_bytes()).expect("it is open");
        // What is lost is asked again; its time counts in full.
        loop {
            match channel.recv_timeout(Duration::from_millis(200)).expect("it is open") {
                Some(answer) if answer.inline() == number.to_le_bytes() => break,
                Some(_) => {}
                None => channel.send(&number.to_le_bytes()).expect("it is open"),
            }
        }
        times.push(begin.elapsed());
        // A steady pace, not a race.
        std::thread::sleep(Duration::from_micros(300));
    }
    times.sort();
    (times[count / 2], times[count * 99 / 100])
}

/// Whoever floods also takes processors from everybody, and the test machine has few. So the times beside a
/// flood by the same agent are compared with those beside the same flood by another one.
#[test]
fn beside_a_flood_by_the_same_agent_another_process_keeps_its_times() {
    let (agent, other) = (Agency::start(OPEN), Agency::start(OPEN));
    let (quiet_at, flood_at) = (free_port(), free_port());
    let stop = AtomicBool::new(false);
    let plain = |port: u16| format!("udp:{HOST}:{port}").parse::<Address>().expect("valid");
    std::thread::scope(|scope| {
        let mut server = listening(&plain(quiet_at));
        let mut sink = listening(&plain(flood_at));
        let stopped = || stop.load(Ordering::Relaxed);
        scope.spawn(move || echo(&mut server, stopped));
        let swallowed = scope.spawn(move || {
            let mut count = 0u64;
            while !stopped() {
                match sink.recv_timeout(Duration::from_millis(5)) {
                    Some(Event::Incoming(incoming)) => _ = sink.accept(incoming, b""),
                    Some(Event::Message(..)) => count += 1,
                    _ => {}
                }
            }
            count
        });
        let quiet = agent.address(&plain(quiet_at).to_string());
        let mut channel = Channel::connect(&quiet, client()).expect("connected");
        measure(&mut channel, 200);
        let mut beside = |flooded: &Agency| {
            let to = flooded.address(&plain(flood_at).to_string()).to_string();
            let flood = role::spawn("fairness::role_flood", &[&to]);
            flood.expect("floods");
            measure(&mut channel, 500)
        };
        // Others use the machine too: one pair of runs that are fair is as much as can be asked.
        let mut seen = Vec::new();
        let fair = (0..8).any(|_| {
            let (elsewhere, here) = (beside(&other), beside(&agent));
            seen.push((elsewhere, here));
            here.0 <= 2 * elsewhere.0 && here.1 <= 2 * elsewhere.1
        });
        stop.store(true, Ordering::Relaxed);
        assert!(swallowed.join().expect("no panic") > 10_000, "there was no flood");
        println!("(p50, p99) beside a flood elsewhere, and here: {seen:?}");
        assert!(fair, "(p50, p99) beside a flood elsewhere, and here: {seen:?}");
    });
}

/// Fills the queues of several channels when it is told to, and says so. Its arguments: the address, how many
/// channels, and the tag of its messages.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_backlog() {
    let Some(arguments) = role::arguments() else { return };
    let [address, channels, tag] = &arguments[..] else { panic!("{arguments:?}") };
    let (address, tag): (Address, u16) =
        (address.parse().expect("an address"), tag.parse().expect("a number"));
    let mut options = client();
    options.channel.geometry.slots = 1024;
    let mut channels: Vec<Channel> = (0..channels.parse::<usize>().expect("a number"))
        .map(|_| Channel::connect(&address, options.clone()).expect("connected"))
        .collect();
    role::say("connected");
    assert!(role::hear());
    for channel in &mut channels {
        while channel.try_send_tagged(tag, &[1; 40]) == Ok(unet::Offer::Taken) {}
    }
    role::say("full");
    // The channels stay open.
    role::hear();
}

#[test]
fn turns_go_by_processes_and_weights_and_not_by_channels() {
    use std::os::unix::process::CommandExt;

    // Both users, or, without the right to be others, one of them twice.
    let root = rustix::process::geteuid().is_root();
    let weights = if root { [1, 3] } else { [1, 1] };
    let rule = |uid: u32, weight: u32| {
        format!(
            "[[allow]]\nuser = {uid}\ndevices = [\"udp:\"]\nconnect = [\"127.0.0.1:*\"]\n\
             weight = {weight}\n"
        )
    };
    let own = rustix::process::geteuid().as_raw();
    let users = if root { [65_533, 65_534] } else { [own, own] };
    let rules = format!("{}{}", rule(users[0], weights[0]), rule(users[1], weights[1]));
    let (name, over) = (fresh_name(), Over::new());
    let rules = over.rules(&format!("[[device]]\nopen = \"udp:\"\n{rules}"));
    let mut agent =
        Agent::start(policy(&name, &rules), drivers::linked()).expect("the name is free");
    let plain = plain();
    let mut sink = listening(&plain);
    let address = over.address(&plain.to_string(), &name).to_string();
    // The one with little weight has four channels, the other one.
    let mut backlogs = [0, 1].map(|who| {
        let (channels, tag) = (["4", "1"][who], who.to_string());
        let mut command = role::command("fairness::role_backlog", &[&address, channels, &tag]);
        if root {
            command.uid(users[who]).gid(users[who]);
        }
        let backlog = role::start(&mut command);
        while backlog.word_within(Duration::ZERO).as_deref() != Some("connected") {
            agent.turn(Duration::from_millis(1));
            if let Some(Event::Incoming(incoming)) = sink.try_recv() {
                sink.accept(incoming, b"").expect("accepted");
            }
        }
        backlog
    });
    // Now the agent stands still, and both have more to send than it passes on in some turns.
    for backlog in &mut backlogs {
        backlog.tell();
        backlog.expect("full");
    }
    let mut passed = [0u64; 2];
    // Many rounds, so that it does not matter in the middle of which it ends.
    for _ in 0..10_000 {
        if passed[1] >= 900 {
            break;
        }
        agent.turn(Duration::ZERO);
        while let Some(event) = sink.recv_timeout(Duration::from_millis(5)) {
            if let Event::Message(_, message) = event {
                passed[usize::from(message.tag())] += 1;
            }
        }
    }
    let (share, fair) = (passed[1] as f64 / passed[0] as f64, f64::from(weights[1]));
    assert!(passed[0] > 100 && passed[1] >= 900, "{passed:?}");
    assert!((0.7 * fair..1.4 * fair).contains(&share), "{passed:?}: {share:.2} instead of {fair}");
}

#[test]
fn a_rate_bounds_what_a_user_sends_and_nothing_is_lost_by_it() {
    let rules = OPEN.replace("channels = 64", "channels = 64\nmessages_per_second = 200");
    let agent = Agency::start(&rules);
    let plain = plain();
    let mut server = listening(&plain);
    let (_, mut client) = join(&mut server, &agent.address(&plain.to_string()), client());
    let begin = Instant::now();
    let sender = std::thread::spawn(move || {
        for number in 0..100u32 {
            client.send(&number.to_le_bytes()).expect("it is open");
        }
        client
    });
    for number in 0..100u32 {
        let (_, bytes) = message(&mut server);
        assert_eq!(bytes, number.to_le_bytes());
    }
    // Twenty at once, and eighty at two hundred a second.
    assert!(begin.elapsed() >= Duration::from_millis(380), "{:?}", begin.elapsed());
    drop(sender.join().expect("no panic"));
}
