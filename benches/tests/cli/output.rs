//! What a short run prints, in each format.

use crate::support::{program, run, text};
use serde_json::Value;

const SHORT: [&str; 4] = ["--duration", "50ms", "--system", "pipe"];

fn short<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &SHORT].concat()
}

const FIELDS: [&str; 17] = [
    "bench",
    "system",
    "transport",
    "wait",
    "payload_bytes",
    "iterations",
    "min_ns",
    "p50_ns",
    "p90_ns",
    "p99_ns",
    "p999_ns",
    "max_ns",
    "mean_ns",
    "ops_per_sec",
    "bytes_per_sec",
    "floor_ns",
    "ratio_to_floor",
];

fn number(record: &Value, field: &str) -> f64 {
    record[field].as_f64().unwrap_or_else(|| panic!("{field} is no number in {record}"))
}

#[test]
fn json_is_one_object_with_the_documented_fields() {
    for bench in ["rtt", "rate"] {
        let output = run(&short(&[bench, "--size", "8,4K", "--format", "json"]));
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("the output is JSON");
        for field in ["cpu", "cores", "kernel", "clock", "stamp_cost_ns", "commit", "floors"] {
            assert!(!report["host"][field].is_null(), "{field} is missing in host");
        }
        let records = report["records"].as_array().expect("records is a list");
        assert_eq!(records.len(), 2);
        for record in records {
            let names = record.as_object().expect("a record is an object").keys();
            let others: Vec<_> = names.filter(|name| !FIELDS.contains(&name.as_str())).collect();
            assert!(others.iter().all(|name| *name == "note"), "unknown fields {others:?}");
            assert!(FIELDS.iter().all(|field| !record[field].is_null()), "{record}");
            consistent(record);
        }
    }
}

/// The figures of a record agree with each other.
fn consistent(record: &Value) {
    let times = ["min_ns", "p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"];
    let times = times.map(|field| number(record, field));
    assert!(times[0] > 0.0 && times.is_sorted(), "{times:?}");
    let mean = number(record, "mean_ns");
    assert!((number(record, "ops_per_sec") * mean / 1e9 - 1.0).abs() < 1e-6);
    let ratio = number(record, "mean_ns") / number(record, "floor_ns");
    assert!((number(record, "ratio_to_floor") / ratio - 1.0).abs() < 1e-6);
    let bytes = number(record, "ops_per_sec") * number(record, "payload_bytes");
    assert!((number(record, "bytes_per_sec") - bytes).abs() <= bytes * 1e-6, "{record}");
    assert!(number(record, "iterations") >= 1.0);
}

#[test]
fn every_system_answers_every_question_that_fits_it() {
    let systems = "lrpc,rpc,unet,pipe,uds,udp,tcp";
    let short = ["--duration", "20ms", "--format", "json", "--system", systems];
    for (bench, count) in [
        (&["null-rpc", "--wait", "spin"][..], 7),
        (&["rtt", "--size", "4K", "--wait", "adaptive"], 7),
        (&["bandwidth", "--size", "4K", "--wait", "park"], 7),
        (&["scale", "--bindings", "0,3"], 4),
    ] {
        let output = run(&[bench, &short].concat());
        assert!(output.status.success(), "{bench:?}: {}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("the output is JSON");
        let records = report["records"].as_array().expect("records is a list");
        assert_eq!(records.len(), count, "{bench:?}: {}", report["records"]);
        records.iter().for_each(consistent);
    }
}

#[test]
fn a_system_call_and_two_switches_are_not_faster_than_light() {
    let output = run(&short(&["rtt", "--size", "8", "--wait", "park", "--format", "json"]));
    let report: Value = serde_json::from_slice(&output.stdout).expect("the output is JSON");
    // Four system calls, at the very least, lie in every echo through a pipe.
    let call = number(&report["host"]["floors"], "system_call_ns");
    assert!(number(&report["records"][0], "p50_ns") > 2.0 * call, "{report}");
    let note = report["records"][0]["note"].as_str().unwrap_or_default();
    assert!(note.contains("eventfd ping-pong"), "{note}");
}

#[test]
fn the_table_has_no_colour_and_no_progress_where_nobody_looks() {
    for refusal in ["", "1"] {
        let arguments = short(&["null-rpc", "--wait", "spin"]);
        let output = program(&arguments).env("NO_COLOR", refusal).output().expect("it starts");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let table = text(&output.stdout);
        assert!(table.contains("pipe") && table.contains("×floor"), "{table}");
        assert!(!table.contains('\x1b'), "{table:?}");
        assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
        let widest = table.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{widest:?} columns:\n{table}");
    }
}

#[test]
fn same_core_mode_is_told_and_still_measures() {
    let arguments = short(&["rtt", "--size", "8", "--cpus", "0,0", "--format", "json"]);
    let output = run(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("Same-core mode"));
    let report: Value = serde_json::from_slice(&output.stdout).expect("the output is JSON");
    assert_eq!(report["host"]["same_core"], Value::Bool(true));
    assert!(report["host"]["notes"][0].as_str().is_some_and(|n| n.contains("core 0")));
    assert_eq!(report["records"][0]["wait"], "adaptive");
    let note = report["records"][0]["note"].as_str().unwrap_or_default();
    assert!(note.contains("yield ping-pong"), "{note}");
}

#[test]
fn the_page_stands_alone_and_goes_to_the_named_file() {
    let file = std::env::temp_dir().join(format!("unet-bench-test-{}.html", std::process::id()));
    let name = file.to_str().expect("the temporary folder's name is text");
    let output = run(&short(&["rtt", "--size", "8,4K", "--format", "html", "--out", name]));
    let page = std::fs::read_to_string(&file).expect("the page is written");
    std::fs::remove_file(&file).expect("the page is removed");
    assert!(output.status.success() && output.stdout.is_empty());
    assert!(page.contains("<svg") && page.contains("prefers-color-scheme: dark"));
    for outside in ["http:", "https:", "src=", "@import", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert!(!page.contains("NaN") && !page.contains("inf"), "a plot has no number");
}

#[test]
fn an_unwritable_file_is_one_sentence_and_exit_code_1() {
    let output = run(&["limits", "--duration", "10ms", "--out", "/nonexistent/result"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nonexistent/result"));
}
