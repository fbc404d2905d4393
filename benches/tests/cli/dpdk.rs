//! Measurements over ports of DPDK, where this build has them.

use crate::support::{run, text};

/// What stands on standard error, of a run that has to fail.
fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    let error = text(&output.stderr);
    assert!(!output.status.success(), "{arguments:?} is accepted");
    assert_eq!(error.trim_end().lines().count(), 1, "{arguments:?}: {error}");
    error
}

#[cfg(not(feature = "dpdk"))]
#[test]
fn without_the_feature_the_error_names_it() {
    for arguments in [
        &["rtt", "--transport", "dpdk:net_memif"][..],
        &["rate", "--to", "dpdk:net_memif0@10.9.0.1:9000?ip=10.9.0.2/24"],
        &["serve", "dpdk:net_memif0@10.9.0.1:9000?ip=10.9.0.1/24"],
    ] {
        let error = refused(arguments);
        assert!(error.contains("feature") && error.contains("--features dpdk"), "{error}");
    }
}

#[cfg(feature = "dpdk")]
mod linked {
    use std::io::{BufRead, BufReader};

    use serde_json::Value;

    use super::refused;
    use crate::support::{program, run, text};

    /// Whether there is DPDK; else the program has to say what is missing.
    fn is_there() -> bool {
        let Some(missing) = driver_dpdk::MISSING else { return true };
        let error = refused(&["rtt", "--transport", "dpdk:net_memif"]);
        assert!(error.contains(missing), "{error}");
        println!("left out: {missing}");
        false
    }

    fn records(arguments: &[&str]) -> Vec<Value> {
        let output = run(&[arguments, &["--format", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("the output is JSON");
        report["records"].as_array().expect("records is a list").clone()
    }

    fn number(record: &Value, field: &str) -> f64 {
        record[field].as_f64().unwrap_or_else(|| panic!("{field} is no number in {record}"))
    }

    fn names(records: &[Value]) -> Vec<(&str, u64)> {
        let of = |record: &Value| record["payload_bytes"].as_u64().unwrap_or(u64::MAX);
        records
            .iter()
            .map(|record| (record["system"].as_str().unwrap_or_default(), of(record)))
            .collect()
    }

    /// What every record has, whatever the machine is busy with.
    fn plausible(record: &Value) {
        let mean = number(record, "mean_ns");
        assert!(mean > 0.0 && number(record, "iterations") >= 1.0, "{record}");
        let times = ["min_ns", "p50_ns", "p99_ns", "max_ns"].map(|field| number(record, field));
        assert!(times[0] > 0.0 && times.is_sorted() && times[3] < 30e9, "{record}");
        assert_eq!(record["transport"], "dpdk:", "{record}");
        if record["lost"].is_u64() {
            assert!(number(record, "lost") < number(record, "sent"), "{record}");
        }
    }

    /// Over two ports that the benchmark makes.
    const PAIR: [&str; 4] = ["--transport", "dpdk:net_memif", "--duration", "200ms"];

    #[test]
    fn each_question_is_answered_over_memory_between_two_ports() {
        if !is_there() {
            return;
        }
        let calls = ["rpc", "unet"];
        let bare = ["rpc", "unet", "dpdk/raw"];
        for (question, size, systems) in [
            (&["rtt"][..], 64, &bare[..]),
            (&["rate", "--window", "8", "--batch", "1"], 64, &bare),
            (&["null-rpc"], 0, &calls),
            (&["bandwidth", "--carries", "response"], 1024, &calls),
        ] {
            let asked = size.to_string();
            let records = records(&[question, &PAIR, &["--size", &asked]].concat());
            records.iter().for_each(plausible);
            // A channel's message has a number at least.
            let shown = |system: &&'static str| {
                (*system, if *system == "unet" { size.max(8) } else { size })
            };
            assert_eq!(names(&records), systems.iter().map(shown).collect::<Vec<_>>());
            // The bare loop is the floor of all that goes over the same ports.
            for record in records.iter().filter(|_| systems.len() == 3) {
                let bare = record["system"] == "dpdk/raw";
                let ratio = number(record, "ratio_to_floor");
                assert!(ratio > 0.0 && (!bare || ratio == 1.0), "{record}");
            }
        }
    }

    #[test]
    fn sizes_go_up_to_one_packet_of_ethernet() {
        if !is_there() {
            return;
        }
        let records = records(&[&["rtt", "--system", "unet"], &PAIR[..]].concat());
        records.iter().for_each(plausible);
        let sizes: Vec<_> = names(&records).into_iter().map(|(_, size)| size).collect();
        assert_eq!(sizes[..2], [64, 1024]);
        assert!((1025..1500).contains(&sizes[2]), "{sizes:?}");
    }

    #[test]
    fn each_end_has_an_address_of_its_own() {
        if !is_there() {
            return;
        }
        let at = |role: &str, port: u16, host: u8| {
            let socket = format!("socket=cli-{}", std::process::id());
            format!("dpdk:net_memif0,role={role},{socket}@10.9.0.1:{port}?ip=10.9.0.{host}/24")
        };
        let small = ["--size", "64", "--duration", "200ms"];
        let mut server = program(&["serve", &at("server", 0, 1)]).spawn().expect("it starts");
        let mut line = String::new();
        let output = server.stdout.as_mut().expect("its output is caught");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let port = line.split("10.9.0.1:").nth(1).and_then(|rest| rest.split('?').next());
        let port = port.and_then(|port| port.parse().ok()).expect("it names its port");
        // One after the other, and each by another process.
        for system in ["unet", "dpdk/raw", "rpc"] {
            let to = ["rtt", "--system", system, "--to", &at("client", port, 2)];
            let records = records(&[&to[..], &small].concat());
            records.iter().for_each(plausible);
            assert_eq!(names(&records), [(system, 64)]);
        }
        server.kill().expect("it is ours");
        server.wait().expect("it ends");

        let (server, client) = (at("server", 0, 1), at("client", 0, 2));
        let device = client.trim_start_matches("dpdk:").replace("@10.9.0.1:0", "");
        let both = ["rtt", "--transport", &server, "--client-device", &device];
        let records = records(&[&both[..], &small, &["--system", "unet"]].concat());
        records.iter().for_each(plausible);
        assert_eq!(records.len(), 1);
    }

    #[test]
    fn what_has_no_way_there_is_told_so() {
        if !is_there() {
            return;
        }
        let whole = "dpdk:net_memif0,role=server@10.9.0.1:0?ip=10.9.0.1/24";
        // Names of sockets are the whole host's.
        let this = std::process::id();
        let alone =
            format!("dpdk:net_memif0,role=server,socket=alone{this}@10.9.0.1:0?ip=10.9.0.1/24");
        let nobody = format!("net_memif0,role=client,socket=nobody{this}?ip=10.9.0.2/24");
        for (arguments, word) in [
            (&["--transport", "dpdk:net_ring"][..], "--client-device"),
            (&["--transport", whole], "--client-device"),
            (&["--transport", "dpdk:net_memif", "--client-device", "net_memif1"], "both ends"),
            (&["--transport", "dpdk:net_memif", "--system", "udp/spin"], "no way"),
            (&["--transport", "udp:127.0.0.1:0", "--system", "dpdk/raw"], "it is for dpdk:"),
            // Nobody listens there.
            (
                &["--transport", &alone, "--client-device", &nobody, "--system", "dpdk/raw"],
                "net_memif0,role=client,socket=nobody",
            ),
        ] {
            let all = [&["rtt", "--size", "64", "--duration", "50ms"], arguments].concat();
            let error = refused(&all);
            assert!(error.contains(word), "{error}");
        }
    }
}
