//! The key-value stores: what a short run prints, with Redis and without it.

use std::process::Command;

use crate::support::{alive, child_as, gone_within, program, run, text};
use serde_json::Value;
use std::time::Duration;

/// Both sides sleep: tests run side by side, and their servers share a core.
const SHORT: [&str; 11] = [
    "kv",
    "--mix",
    "a,c",
    "--window",
    "1,8",
    "--keys",
    "500",
    "--duration",
    "100ms",
    "--wait",
    "park",
];

fn short<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&SHORT, arguments].concat()
}

fn redis_is_here() -> bool {
    Command::new("redis-server").arg("--version").output().is_ok()
}

fn records(output: &std::process::Output) -> (Value, Vec<Value>) {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("the output is JSON");
    (report["host"].clone(), report["records"].as_array().expect("a list").clone())
}

#[test]
fn our_store_is_measured_with_its_processor_time() {
    let ours = ["kv/lrpc", "kv/channels"];
    let arguments = ["--system", &ours.join(","), "--size", "100,4K", "--format", "json"];
    let (host, records) = records(&run(&short(&arguments)));
    assert!(!host["floors"].is_null());
    // Two sizes, two mixes, two windows.
    for system in ours {
        assert_eq!(records.iter().filter(|record| record["system"] == system).count(), 8);
    }
    for record in &records {
        let number = |field: &str| record[field].as_f64().unwrap_or_else(|| panic!("{record}"));
        assert_eq!((&record["bench"], &record["transport"]), (&"kv".into(), &"shm".into()));
        let times = ["min_ns", "p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"].map(number);
        assert!(times[0] > 0.0 && times.is_sorted(), "{times:?}");
        assert!((number("ops_per_sec") * number("mean_ns") / 1e9 - 1.0).abs() < 1e-6);
        let bytes = number("ops_per_sec") * number("payload_bytes");
        assert!((number("bytes_per_sec") / bytes - 1.0).abs() < 1e-6, "{record}");
        // A server that spins uses the core, as far as others leave it.
        let per_core = number("iterations") / number("server_cpu_s");
        assert!((number("ops_per_core_sec") / per_core - 1.0).abs() < 1e-6, "{record}");
        assert!(record["times_redis_unix"].is_null());
    }
}

#[test]
fn redis_is_compared_where_it_is_and_told_of_where_it_is_not() {
    let output = run(&short(&["--format", "json"]));
    let (host, records) = records(&output);
    let of = |system: &str| records.iter().filter(|r| r["system"] == system).count();
    assert_eq!((of("kv/lrpc"), of("kv/channels")), (4, 4));
    if redis_is_here() {
        assert_eq!((of("redis/unix"), of("redis/tcp")), (4, 4));
        assert!(records.iter().all(|record| record["times_redis_unix"].is_f64()), "{records:?}");
    } else {
        assert_eq!(records.len(), 8);
        assert!(records.iter().all(|record| record["times_redis_unix"].is_null()));
    }
    let told = host["notes"].to_string().contains("apt-get install redis-server");
    assert_eq!(told, !redis_is_here());
}

#[test]
fn without_a_redis_ours_is_measured_and_the_output_says_how_to_get_it() {
    let output = program(&short(&["--format", "json"])).env("PATH", "/nowhere").output();
    let output = output.expect("the program starts");
    let (host, records) = records(&output);
    assert_eq!(records.len(), 8);
    assert!(records.iter().all(|r| r["transport"] == "shm" && r["times_redis_unix"].is_null()));
    for said in [host["notes"].to_string(), text(&output.stderr)] {
        assert!(said.contains("apt-get install redis-server"), "{said}");
    }
    // Who asks for Redis alone is told, and nothing is measured.
    let mut alone = program(&short(&["--system", "redis/unix"]));
    let output = alone.env("PATH", "/nowhere").output().expect("the program starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("apt-get install redis-server"));
}

#[test]
fn the_table_has_a_row_for_each_and_an_open_loop_is_offered() {
    let arguments = ["--system", "kv/lrpc", "--rate", "2000"];
    let output = run(&short(&arguments));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert_eq!(table.matches("kv/lrpc").count(), 4, "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
}

#[test]
fn the_server_ends_with_the_program() {
    let mut command = program(&[
        "kv",
        "--system",
        "kv/lrpc",
        "--keys",
        "500",
        "--duration",
        "60s",
        "--wait",
        "park",
    ]);
    let mut child = command.spawn().expect("the program starts");
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let server = loop {
        if let Some(server) = child_as(child.id(), "kv-server") {
            break server;
        }
        assert!(std::time::Instant::now() < deadline, "no server was started");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(alive(server));
    child.kill().expect("it runs");
    child.wait().expect("it was started");
    assert!(gone_within(server, Duration::from_secs(10)));
}
