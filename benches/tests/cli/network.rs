//! Measurements across a network: over the loopback device, against a server of their own and against
//! one that others share.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, alive, child_as, gone_within, program, run, server_of, text};
use rustix::thread::sched_getaffinity;
use serde_json::Value;

const ANY_PORT: &str = "udp:127.0.0.1:0";

fn report(arguments: &[&str]) -> Value {
    let output = run(&[arguments, &["--format", "json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the output is JSON")
}

fn records(report: &Value) -> &[Value] {
    report["records"].as_array().expect("records is a list")
}

fn number(record: &Value, field: &str) -> f64 {
    record[field].as_f64().unwrap_or_else(|| panic!("{field} is no number in {record}"))
}

/// A listening server, ended with the test.
struct Listener {
    child: Child,
    uri: String,
}

impl Listener {
    fn start(more: &[&str]) -> Self {
        let mut child =
            program(&[&["serve", ANY_PORT], more].concat()).spawn().expect("the program starts");
        let mut line = String::new();
        let output = child.stdout.as_mut().expect("its output is caught");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let uri = line.trim().trim_start_matches("Listening at ").trim_end_matches('.').to_owned();
        assert!(uri.starts_with("udp:127.0.0.1:"), "{line}");
        Self { child, uri }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.uri["udp:".len()..]).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        stream
    }

    fn still_serves(&mut self) {
        let report = report(&["rtt", "--to", &self.uri, "--system", "udp/spin", "--size", "64"]);
        assert_eq!(records(&report).len(), 1);
        assert!(self.child.try_wait().expect("it is ours").is_none(), "the listener ended");
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything that the server says until it closes the connection.
fn last_words(mut stream: TcpStream) -> String {
    let mut words = Vec::new();
    let _ = stream.read_to_end(&mut words);
    String::from_utf8_lossy(&words).into_owned()
}

fn frame(body: &str) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes()[..], body.as_bytes()].concat()
}

#[test]
fn the_kernels_systems_answer_over_loopback() {
    // Where nobody waits for answers, the receiver must have its turns before the sender has ended.
    for (bench, duration, systems, count) in [
        ("rtt", "50ms", "udp/blocking,udp/spin,udp/io-uring,tcp/blocking,tcp/spin,tcp/io-uring", 6),
        ("rate", "500ms", "udp/spin,udp/io-uring,udp/mmsg,tcp/spin,tcp/io-uring", 5),
        ("bandwidth", "500ms", "udp/mmsg,tcp/blocking", 2),
    ] {
        let short = ["--duration", duration, "--size", "1K", "--transport", ANY_PORT];
        let report = report(&[&[bench, "--system", systems], &short[..]].concat());
        assert_eq!(records(&report).len(), count, "{report}");
        for record in records(&report) {
            assert!(number(record, "mean_ns") > 0.0, "{record}");
            // Each kind of network has its fastest bare loop for its floor.
            assert!(number(record, "ratio_to_floor") >= 1.0, "{record}");
            let scheme = record["system"].as_str().map(|name| &name[..3]);
            assert_eq!(record["transport"].as_str().map(|name| &name[..3]), scheme);
        }
    }
}

#[test]
fn our_own_channels_answer_over_every_transport_that_needs_no_privilege() {
    let simulated = format!("sim:bench-{}@127.0.0.1:0", std::process::id());
    let ring = format!("{ANY_PORT}?path=io-uring");
    for (transport, label) in [(ANY_PORT, "udp:"), (&ring, "udp:io-uring"), (&simulated, "sim:")] {
        for bench in ["rtt", "rate", "bandwidth"] {
            let short = ["--duration", "200ms", "--size", "64,1K", "--system", "unet"];
            let report = report(&[&[bench, "--transport", transport], &short[..]].concat());
            assert_eq!(records(&report).len(), 2, "{report}");
            for record in records(&report) {
                assert!(number(record, "mean_ns") > 0.0, "{record}");
                assert!(number(record, "lost") < number(record, "sent"), "{record}");
                assert_eq!(record["transport"], label);
            }
        }
    }
    let load = ["sweep", "--transport", ANY_PORT, "--system", "unet", "--duration", "60ms"];
    let report = report(&[&load[..], &["--from", "20", "--up-to", "40"]].concat());
    for record in records(&report) {
        let delivered = number(record, "iterations");
        assert_eq!(number(record, "sent"), delivered + number(record, "lost"), "{record}");
    }
}

#[test]
fn messages_by_way_of_an_agent_are_measured_beside_direct_ones() {
    for (bench, path) in [("rtt", "sockets"), ("rate", "sockets"), ("rtt", "io-uring")] {
        let transport = format!("{ANY_PORT}?path={path}");
        let short = ["--duration", "200ms", "--size", "64", "--wait", "adaptive"];
        let systems = ["--system", "unet,mediated", "--transport", &transport];
        let report = report(&[&[bench], &short[..], &systems[..]].concat());
        let names: Vec<_> = records(&report).iter().map(|record| &record["system"]).collect();
        assert_eq!(names, ["unet", "mediated"], "{report}");
        for record in records(&report) {
            assert!(number(record, "mean_ns") > 0.0, "{record}");
            assert!(number(record, "lost") < number(record, "sent"), "{record}");
            assert_eq!(record["transport"], format!("udp:{path}"));
        }
        let note = records(&report)[1]["note"].as_str().unwrap_or_default().to_owned();
        let cores = sched_getaffinity(None).expect("the cores can be counted").count();
        assert_eq!(note.contains("the agent shares the client's core"), cores < 3, "{note}");
    }
}

#[test]
fn an_agent_ends_with_the_client_that_started_it() {
    let long = ["rtt", "--transport", ANY_PORT, "--system", "mediated", "--duration", "60s"];
    let mut client = program(&long).spawn().expect("the program starts");
    let deadline = Instant::now() + Duration::from_secs(20);
    let agent = loop {
        if let Some(agent) = child_as(client.id(), "agent-process") {
            break agent;
        }
        assert!(Instant::now() < deadline, "no agent is started");
        std::thread::sleep(Duration::from_millis(20));
    };
    client.kill().expect("it is ours");
    client.wait().expect("it ends");
    assert!(gone_within(agent, PATIENCE), "the agent outlives the client");
}

#[test]
fn what_a_receiver_did_not_get_is_counted_as_lost() {
    let report =
        report(&["rate", "--transport", ANY_PORT, "--system", "udp/mmsg", "--duration", "500ms"]);
    let record = &records(&report)[0];
    let (sent, lost) = (number(record, "sent"), number(record, "lost"));
    assert!(lost <= sent && sent >= number(record, "iterations"), "{record}");
}

#[test]
fn largest_messages_fit_one_packet_and_sizes_are_those_of_networks() {
    let report =
        report(&["rtt", "--transport", ANY_PORT, "--system", "udp/spin", "--duration", "20ms"]);
    let sizes: Vec<_> = records(&report).iter().map(|r| number(r, "payload_bytes")).collect();
    assert_eq!(sizes[..2], [64.0, 1024.0]);
    assert!((1025.0..9000.0).contains(&sizes[2]), "{sizes:?}");
}

#[test]
fn a_load_is_accounted_for_to_the_message() {
    let file = std::env::temp_dir().join(format!("unet-bench-load-{}.html", std::process::id()));
    let name = file.to_str().expect("the temporary folder's name is text");
    let sweep = ["sweep", "--transport", ANY_PORT, "--system", "udp/spin", "--duration", "60ms"];
    let json = report(&[&sweep[..], &["--from", "20%", "--up-to", "120%"]].concat());
    let shares: Vec<_> = records(&json).iter().map(|r| number(r, "offered_percent")).collect();
    assert_eq!(shares, [20.0, 40.0, 60.0, 80.0, 90.0, 100.0, 110.0, 120.0]);
    for record in records(&json) {
        let delivered = number(record, "iterations");
        assert_eq!(number(record, "sent"), delivered + number(record, "lost"), "{record}");
        let due = number(record, "sent") + number(record, "refused") + number(record, "late");
        let offered = number(record, "offered_per_sec") * 0.06;
        // Few gaps do not add up to many means.
        let near = offered < 200.0 || (due / offered - 1.0).abs() < 0.3;
        assert!(near, "{due} were due of about {offered}: {record}");
        let times = ["min_ns", "p50_ns", "p99_ns", "p999_ns", "max_ns"].map(|f| number(record, f));
        assert!(times.is_sorted(), "{record}");
        assert_eq!(record["latency"], "one-way");
    }
    assert_eq!(records(&json)[0]["band"], "sure");
    assert_eq!(records(&json)[1]["band"], "lucky");
    assert!(records(&json)[2]["band"].is_null());

    let output = run(&[&sweep[..], &["--format", "html", "--out", name]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = std::fs::read_to_string(&file).expect("the page is written");
    std::fs::remove_file(&file).expect("the page is removed");
    assert_eq!(page.matches("<svg").count(), 5);
    assert!(page.contains("Goodput by offered load") && page.contains("110 %"));
    assert!(!page.contains("NaN") && !page.contains("inf"), "a plot has no number");
}

#[test]
fn one_server_answers_one_client_after_another() {
    let mut listener = Listener::start(&[]);
    for bench in ["rtt", "rate"] {
        let arguments = [bench, "--to", &listener.uri, "--duration", "30ms", "--size", "64"];
        let report = report(&[&arguments[..], &["--system", "udp/spin,tcp/blocking"]].concat());
        assert_eq!(records(&report).len(), 2);
    }
    let sweep = ["sweep", "--to", &listener.uri, "--system", "tcp/spin", "--duration", "40ms"];
    let report = report(&[&sweep[..], &["--from", "40", "--up-to", "60"]].concat());
    assert_eq!(records(&report)[0]["latency"], "echo");
    listener.still_serves();
}

#[test]
fn a_server_ends_when_its_time_is_over() {
    let begun = Instant::now();
    let output = run(&["serve", ANY_PORT, "--for", "200ms"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

#[test]
fn what_cannot_be_reached_is_one_sentence_and_exit_code_1() {
    let here = "udp:127.0.0.1:0";
    for (arguments, word) in [
        (&["--to", "udp:127.0.0.1:1"][..], "unet-bench serve udp:127.0.0.1:1"),
        (&["--to", "udp:no-such-host.invalid:1"], "no-such-host.invalid"),
        (&["--transport", "udp:203.0.113.9:0"], "203.0.113.9"),
        (&["--transport", here, "--netns", "no-such-space,-"], "no-such-space"),
        (&["--transport", here, "--netns", "-,no-such-space"], "no-such-space"),
        (&["--transport", here, "--system", "xdp/raw", "--size", "64"], "xdp:DEVICE@HOST:PORT"),
        (&["--transport", "xdp:no-such0@127.0.0.1:0", "--system", "unet"], "no such device"),
        (&["--transport", "sim:x@127.0.0.1:0", "--system", "mediated"], "before udp: and xdp:"),
        (&["--transport", "udp:127.0.0.1:0?via=x", "--system", "mediated"], "names none"),
    ] {
        let output = run(&[&["rtt", "--duration", "20ms"], arguments].concat());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{arguments:?}: {error}");
        assert!(error.contains(word), "{arguments:?}: {error}");
    }
}

#[test]
fn a_hostile_client_gets_an_error_and_the_server_stays() {
    let mut listener = Listener::start(&[]);
    let task = r#"{"system":"udp/spin","bench":"rtt","payload":64,"wait":"spin","same_core":false,
        "idle_bindings":0,"domains":2,"position":0,"rendezvous":"x","port":9}"#;
    let open = |from: &str, to: &str| frame(&format!(r#"{{"Open":{task}}}"#).replace(from, to));
    for (said, word) in [
        (frame("nonsense"), "garbled"),
        (u32::MAX.to_le_bytes().to_vec(), "claims"),
        (frame(r#"{"Pin":0}"#), "not for a server across a network"),
        (frame(r#""Yield""#), "not for a server across a network"),
        (frame(r#""Echo""#), "not now"),
        (open("udp/spin", "fbuf/volatile"), "no network system"),
        (open("udp/spin", "udp/mmsg"), "one way"),
        (open("\"payload\":64", "\"payload\":18446744073709551615"), "no size"),
        (open("\"payload\":64", "\"payload\":0"), "no size"),
        (
            open("\"port\":9", "\"calls\":{\"window\":65,\"batch\":1,\"carries\":\"both\"}"),
            "window",
        ),
        (open("\"idle_bindings\":0", "\"idle_bindings\":99999999"), "nothing idle"),
        (open("\"rtt\"", "\"fbuf\""), "no question"),
    ] {
        let mut stream = listener.connect();
        stream.write_all(&said).expect("it listens");
        let words = last_words(stream);
        assert!(words.contains("Failed") && words.contains(word), "{word}: {words}");
    }
    // Who says nothing, or only half a word, or hangs up, is forgotten.
    drop(listener.connect());
    let mut half = listener.connect();
    half.write_all(&[7, 0]).expect("it listens");
    drop(half);
    listener.still_serves();
}

#[test]
fn a_second_client_is_told_to_wait() {
    let mut listener = Listener::start(&[]);
    let first = listener.connect();
    let words = last_words(listener.connect());
    assert!(words.contains("another client"), "{words}");
    drop(first);
    listener.still_serves();
}

#[test]
fn a_client_that_is_killed_takes_its_session_along() {
    let listener = Listener::start(&[]);
    let long = ["rtt", "--to", &listener.uri, "--system", "udp/spin", "--duration", "60s"];
    let mut client = program(&long).spawn().expect("the program starts");
    let session = server_of(listener.child.id());
    client.kill().expect("it is ours");
    client.wait().expect("it ends");
    assert!(gone_within(session, PATIENCE), "the session outlives its client");
    let id = listener.child.id();
    assert!(alive(id));
}

#[test]
fn the_servers_death_is_reported_within_seconds() {
    let listener = Listener::start(&[]);
    let long = ["rtt", "--to", &listener.uri, "--system", "udp/spin", "--duration", "60s"];
    let client = program(&long).spawn().expect("the program starts");
    server_of(listener.child.id());
    drop(listener);
    let died = Instant::now();
    let output = client.wait_with_output().expect("the program ends");
    assert!(died.elapsed() < PATIENCE, "{:?}", died.elapsed());
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
}

#[test]
fn a_server_that_was_started_ends_with_the_client() {
    let long = ["rtt", "--transport", ANY_PORT, "--system", "udp/spin", "--duration", "60s"];
    let mut client = program(&long).spawn().expect("the program starts");
    // Floors are measured first, with other servers.
    std::thread::sleep(Duration::from_secs(3));
    let server = server_of(client.id());
    client.kill().expect("it is ours");
    client.wait().expect("it ends");
    assert!(gone_within(server, PATIENCE), "the server outlives the client");
}
