//! Calls by the network protocol: rates, bandwidths and loads, here and over the loopback device.

use crate::support::{run, text};
use serde_json::Value;

const HERE: &[&str] = &[];
const LOOPBACK: &[&str] = &["--transport", "udp:127.0.0.1:0"];

fn records(arguments: &[&str], more: &[&str]) -> Vec<Value> {
    let all = [arguments, more, &["--system", "rpc", "--format", "json"]].concat();
    let output = run(&all);
    assert!(output.status.success(), "{all:?}: {}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("the output is JSON");
    report["records"].as_array().expect("records is a list").clone()
}

fn number(record: &Value, field: &str) -> f64 {
    record[field].as_f64().unwrap_or_else(|| panic!("{field} is no number in {record}"))
}

/// What every record of calls has, whatever the machine is busy with.
fn consistent(record: &Value) {
    plausible(record);
    let bytes = number(record, "ops_per_sec") * number(record, "payload_bytes");
    assert!((number(record, "bytes_per_sec") - bytes).abs() <= bytes * 1e-6, "{record}");
}

/// The same but for the bytes, which need not be those of the calls.
fn plausible(record: &Value) {
    let mean = number(record, "mean_ns");
    assert!(mean > 0.0 && number(record, "iterations") >= 1.0, "{record}");
    assert!((number(record, "ops_per_sec") * mean / 1e9 - 1.0).abs() < 1e-6, "{record}");
    let times = ["min_ns", "p50_ns", "p99_ns", "p999_ns", "max_ns"].map(|at| number(record, at));
    assert!(times[0] > 0.0 && times.is_sorted(), "{record}");
    // A stamp that is missing would be a call since the machine was started.
    assert!(times[4] < 30e9, "{record}");
}

#[test]
fn a_rate_of_calls_is_told_by_window_and_batch() {
    for (way, wait) in [(HERE, "spin"), (HERE, "park"), (LOOPBACK, "spin")] {
        let rate = ["rate", "--duration", "20ms", "--size", "8,300", "--wait", wait];
        let shapes = ["--window", "1,5,64", "--batch", "1,64"];
        let records = records(&rate, &[way, &shapes].concat());
        let shapes: Vec<_> = records
            .iter()
            .map(|record| (number(record, "window") as u64, number(record, "batch") as u64))
            .collect();
        let each = [(1, 1), (5, 1), (64, 1), (64, 64)];
        assert_eq!(shapes, [each, each].concat(), "{way:?}");
        for record in &records {
            consistent(record);
            assert_eq!(record["carries"], "both");
        }
    }
}

#[test]
fn bytes_go_in_requests_and_in_replies_up_to_the_longest() {
    for (way, sizes) in [(HERE, "1K,64K,1M"), (LOOPBACK, "1K,64K,256K")] {
        let bandwidth = ["bandwidth", "--duration", "20ms", "--size", sizes];
        let records = records(&bandwidth, way);
        let carried: Vec<_> = records.iter().map(|record| &record["carries"]).collect();
        assert_eq!(carried, ["request", "response"].repeat(3), "{way:?}");
        records.iter().for_each(consistent);
    }
    let longest = ["bandwidth", "--duration", "10ms", "--size", "64M", "--window", "2"];
    let records = records(&longest, &["--carries", "response"]);
    assert_eq!((records.len(), &records[0]["window"]), (1, &Value::from(2)));
    consistent(&records[0]);
}

#[test]
fn bandwidths_here_stand_beside_copies() {
    let bandwidth = ["bandwidth", "--duration", "20ms", "--size", "64K"];
    let mut places = Vec::new();
    for record in records(&bandwidth, &["--in-place"]) {
        consistent(&record);
        assert!(number(&record, "copy_ns") > 0.0 && number(&record, "cold_copy_ns") > 0.0);
        places.push((record["carries"].clone(), record["in_place"].as_bool()));
    }
    assert_eq!(places, [("request".into(), None), ("response".into(), Some(true))]);
}

#[test]
fn a_null_call_beside_bulk_flows_tells_what_they_carried() {
    for way in [HERE, LOOPBACK] {
        let beside = ["beside", "--duration", "60ms", "--size", "1K", "--window", "2"];
        let records = records(&beside, way);
        let shapes: Vec<_> = records
            .iter()
            .map(|record| (record["carries"].as_str(), record["flows"].as_u64().unwrap_or(0)))
            .collect();
        let [request, response] = [Some("request"), Some("response")];
        assert_eq!(shapes, [(request, 0), (request, 2), (response, 0), (response, 2)], "{way:?}");
        for record in &records {
            plausible(record);
            // The flows have their turn while the call is waited for.
            let carries = record["flows"].as_u64().is_some();
            assert_eq!(number(record, "bytes_per_sec") > 0.0, carries, "{record}");
        }
    }
}

#[test]
fn a_null_call_by_a_stub_is_measured() {
    let output =
        run(&["null-rpc", "--system", "service", "--duration", "20ms", "--format", "json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("the output is JSON");
    let records = report["records"].as_array().expect("records is a list");
    let waits: Vec<_> = records.iter().map(|record| &record["wait"]).collect();
    assert_eq!(waits, ["spin", "park"]);
    records.iter().for_each(consistent);
}

/// Whether the last step of a sweep, whose every step is accounted for, was more than was served.
fn excess_is_told(way: &[&str]) -> bool {
    let sweep = ["sweep", "--duration", "120ms", "--from", "100%", "--up-to", "200%"];
    let records = records(&sweep, way);
    let shares: Vec<_> = records.iter().map(|r| number(r, "offered_percent")).collect();
    assert_eq!(shares, [100.0, 110.0, 120.0, 150.0, 200.0], "{way:?}");
    for record in &records {
        assert_eq!((&record["latency"], &record["window"]), (&"echo".into(), &8.into()));
        let delivered = number(record, "iterations");
        assert_eq!(number(record, "sent"), delivered + number(record, "lost"), "{record}");
        // What is still under way long after a step is as many as the window and the backlog hold.
        assert!(number(record, "lost") <= 72.0, "{record}");
        let times = ["min_ns", "p50_ns", "p99_ns", "max_ns"].map(|at| number(record, at));
        assert!(times.is_sorted() && (times[0] > 0.0 || delivered == 0.0), "{record}");
    }
    number(&records[4], "refused") + number(&records[4], "late") > 0.0
}

#[test]
fn a_load_of_calls_is_accounted_for_and_refused_early() {
    for way in [HERE, LOOPBACK] {
        // Twice what can be served cannot be: the rest is refused, or was never tried. But where
        // other work had the cores while the capacity was measured, twice that is no excess.
        assert!((0..5).any(|_| excess_is_told(way)), "nothing was refused or late: {way:?}");
    }
}

#[cfg(feature = "peers")]
#[test]
fn the_null_calls_of_others_are_measured_and_checked() {
    let systems = "tonic-unix,tonic-tcp,tarpc,capnp";
    let output = run(&["null-rpc", "--system", systems, "--duration", "100ms", "--format", "json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("the output is JSON");
    let records = report["records"].as_array().expect("records is a list");
    let names: Vec<_> = records.iter().filter_map(|record| record["system"].as_str()).collect();
    assert_eq!(names.join(","), systems);
    for record in records {
        consistent(record);
        assert_eq!((&record["wait"], &record["payload_bytes"]), (&"park".into(), &8.into()));
    }
}
