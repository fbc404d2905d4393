//! What `unet-bench fbuf` measures is what it says that it measures.

use crate::support::{run, text};
use serde_json::Value;

fn records(arguments: &[&str]) -> Vec<Value> {
    let short = ["fbuf", "--duration", "30ms", "--format", "json"];
    let output = run(&[&short, arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("the output is JSON");
    report["records"].as_array().expect("records is a list").clone()
}

fn number(record: &Value, field: &str) -> f64 {
    record[field].as_f64().unwrap_or_else(|| panic!("{field} is no number in {record}"))
}

#[test]
fn nothing_is_copied_between_any_number_of_domains() {
    for (domains, size) in [("1,2,3", "64,4K,16M"), ("4", "64K,16M")] {
        let records = records(&["--system", "fbuf/volatile", "--domains", domains, "--size", size]);
        assert_eq!(records.len(), domains.split(',').count() * size.split(',').count());
        for record in &records {
            assert_eq!(number(record, "copied_per_hop"), 0.0, "{record}");
            assert!(number(record, "mean_ns") > 0.0, "{record}");
            let hops = match number(record, "domains") as u64 {
                1 => 1.0,
                domains => 2.0 * (domains - 1) as f64,
            };
            assert_eq!(number(record, "hops"), hops);
        }
    }
}

#[test]
fn a_secured_message_is_copied_once_and_compared_with_that_copy() {
    let [record] = &records(&["--system", "fbuf/secured", "--size", "64K"])[..] else {
        panic!("one record")
    };
    assert_eq!(record["reference_name"], "bare copy of the same");
    assert!(number(record, "reference_ns") > 0.0);
    // Every second message is secured, and the library counts those; bare copies it counts, too.
    let copied = number(record, "copied_per_hop");
    assert!((60_000.0..70_000.0).contains(&copied), "{copied} bytes a hop");
}

#[test]
fn a_pipeline_reads_what_was_filled_and_has_its_yardstick() {
    let records = records(&["--system", "fbuf/read", "--domains", "2,3", "--size", "64K"]);
    assert_eq!(records.len(), 2);
    for record in &records {
        assert_eq!(number(record, "copied_per_hop"), 0.0);
        assert!(number(record, "reference_ns") > 0.0);
    }
}

#[test]
fn rivals_and_layers_answer_too() {
    let copies = records(&["--system", "copy", "--domains", "2,3", "--size", "4K"]);
    let names: Vec<_> = copies.iter().filter_map(|record| record["system"].as_str()).collect();
    let expected = ["copy/pipe", "copy/vmsplice", "copy/ring"];
    assert_eq!(names, expected.map(|name| [name; 2]).concat());
    let layers = records(&["--system", "layers"]);
    assert_eq!(layers.len(), 4);
    assert!(layers.iter().all(|record| number(record, "reference_ns") > 0.0));
    let guarded = records(&["--system", "fbuf/guarded,fbuf/rope", "--size", "64K,16M"]);
    assert_eq!(guarded.len(), 2);
}

#[test]
fn what_cannot_be_asked_is_refused_in_one_sentence() {
    for (arguments, word) in [
        (&["fbuf", "--system", "tcp"][..], "tcp"),
        (&["fbuf", "--domains", "5"], "5"),
        (&["rtt", "--system", "fbuf/volatile"], "fbuf/volatile"),
        (&["fbuf", "--system", "fbuf/read", "--domains", "3", "--wait", "spin"], "share a core"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(word), "{}", text(&output.stderr));
    }
}
