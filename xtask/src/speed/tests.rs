use super::*;
use serde_json::json;

fn turn() -> Turn {
    let rtt = json!({"host": {}, "records": [
        {"system": "unet", "payload_bytes": 8, "mean_ns": 90.0, "p50_ns": 88, "p999_ns": 132, "ratio_to_floor": 1.8},
        {"system": "unet", "payload_bytes": 4096, "mean_ns": 110.0, "ratio_to_floor": null,
         "reference_ns": 99.0, "copied_per_hop": 0.0},
    ]});
    let limits = json!({"host": {"floors": {"yield_one_core_ns": 45.0}}, "records": []});
    vec![("rtt", rtt), ("limits", limits)]
}

fn small() -> Pick {
    payload("rtt", "unet", 8)
}

#[test]
fn reads_each_kind_of_figure_from_the_records() {
    assert_eq!(Figure::ToFloor(small()).read(&turn()).expect("there"), 1.8);
    assert_eq!(Figure::Tail(small()).read(&turn()).expect("there"), 1.5);
    assert_eq!(Figure::Means(small(), small()).read(&turn()).expect("there"), 1.0);
    let large = || payload("rtt", "unet", 4096);
    let ratio = Figure::ToReference(large()).read(&turn()).expect("there");
    assert!((ratio - 110.0 / 99.0).abs() < 1e-9);
    let share = Figure::OfReference(large()).read(&turn()).expect("there");
    assert!((share - 0.9).abs() < 1e-9);
    assert_eq!(Figure::Each(large(), small(), 10.0).read(&turn()).expect("there"), 2.0);
    assert_eq!(Figure::Copied(large()).read(&turn()).expect("there"), 0.0);
    assert!(Figure::Copied(small()).read(&turn()).is_err());
    assert_eq!(Figure::ToLimit(small(), "yield_one_core_ns").read(&turn()).expect("there"), 2.0);
}

#[test]
fn a_missing_record_or_figure_is_an_error_and_never_a_pass() {
    let missing = Figure::ToFloor(payload("null-rpc", "lrpc", 0));
    let missing = missing.read(&turn()).expect_err("not there").to_string();
    assert!(missing.contains("no record of lrpc with Payload(0)"), "{missing}");
    assert!(Figure::ToFloor(payload("rtt", "unet", 4096)).read(&turn()).is_err());
    let unknown =
        Figure::ToLimit(small(), "warp_ns").read(&turn()).expect_err("not there").to_string();
    assert!(unknown.contains("nor `limits` printed warp_ns"), "{unknown}");
}

#[test]
fn a_rounds_figure_is_the_median_of_pairs_of_turns() {
    let turn = |mean: f64| {
        let record = json!({"system": "unet", "payload_bytes": 8, "ratio_to_floor": mean});
        vec![("rtt", json!({"records": [record]}))]
    };
    let figure = Figure::ToFloor(small());
    // Who comes first is the slower one, whatever it is.
    let round = vec![turn(1.5), turn(0.5), turn(9.0), turn(1.0), turn(1.25), turn(0.75)];
    assert_eq!(figure.of(&round).expect("there"), 1.0);
    assert!(figure.of(&vec![turn(1.0), Turn::new()]).is_err());
    assert!(figure.of(&Round::new()).is_err());
}

#[test]
fn every_other_turn_measures_the_other_way_round() {
    let run = Invocation { name: "rtt", args: &["rtt", "--system", "unet,raw,udp"], once: false };
    assert_eq!(run.args(0), ["rtt", "--system", "unet,raw,udp"]);
    assert_eq!(run.args(1), ["rtt", "--system", "udp,raw,unet"]);
}

#[test]
fn judges_by_the_median_of_the_rounds() {
    let row = &ROWS[0];
    let (line, met) = judge(row, &[1.6, 9.0, 1.5], 2);
    assert!(met && line.ends_with("aim met"), "{line}");
    let (line, met) = judge(row, &[2.0, 2.0, 2.0], 2);
    assert!(met && line.ends_with("met, aim missed"), "{line}");
    let (line, met) = judge(row, &[1.6, 9.0, 9.0], 2);
    assert!(!met && line.ends_with("MISSED"), "{line}");
}

#[test]
fn a_row_that_needs_more_cores_is_reported_and_not_judged() {
    let bound = Bound::AtMostWithCores(1.4, 3);
    let row = Row {
        what: "mediated",
        figure: Figure::Tail(small()),
        unit: "× direct",
        aim: bound,
        must: bound,
    };
    let (line, met) = judge(&row, &[2.5], 2);
    assert!(met && line.contains("2.50"), "{line}");
    assert!(line.ends_with("not judged: 3 cores are needed, here are 2"), "{line}");
    let (line, met) = judge(&row, &[2.5], 3);
    assert!(!met && line.ends_with("MISSED"), "{line}");
    let (line, met) = judge(&row, &[1.3], 4);
    assert!(met && line.ends_with("aim met"), "{line}");
}

#[test]
fn goodput_under_overload_is_a_share_of_the_peak() {
    let step = |percent: f64, goodput: f64| json!({"system": "unet", "offered_percent": percent, "goodput_per_sec": goodput});
    let steps = |steps: &[Value]| vec![("sweep", json!({"records": steps}))];
    let figure = Figure::Overloaded("sweep", "unet");
    let whole = steps(&[step(50.0, 5e5), step(100.0, 1e6), step(150.0, 8e5)]);
    assert!((figure.read(&whole).expect("there") - 0.8).abs() < 1e-9);
    assert!(figure.read(&steps(&[step(50.0, 5e5), step(100.0, 1e6)])).is_err());
    assert!(figure.read(&steps(&[])).is_err());
}

#[test]
fn fields_are_scaled_compared_and_taken_apart() {
    let rounds_to = |figure: Figure, due: f64| {
        let found = figure.read(&turn()).expect("there");
        assert!((found - due).abs() < 1e-9, "{found}");
    };
    let large = || payload("rtt", "unet", 4096);
    rounds_to(Figure::Field(small(), "p999_ns", 1e-6), 132e-6);
    rounds_to(Figure::Fields((small(), "p999_ns"), (large(), "reference_ns")), 132.0 / 99.0);
    rounds_to(Figure::FieldsApart(small(), small(), "p999_ns", 2.0), 0.0);
    assert!(Figure::Field(large(), "p999_ns", 1.0).read(&turn()).is_err());
}

#[test]
fn overload_is_judged_by_the_greatest_load() {
    let step = |percent: f64, p99: f64, refused: u64| {
        json!({"system": "rpc", "offered_percent": percent, "capacity_per_sec": 1e6, "p99_ns": p99,
               "sent": 600, "refused": refused, "late": 0})
    };
    let steps = |steps: &[Value]| vec![("load", json!({"records": steps}))];
    let whole = steps(&[step(80.0, 1e3, 0), step(200.0, 108e3, 400)]);
    let queued = Figure::Queued("load", "rpc", 72.0).read(&whole).expect("there");
    assert!((queued - 1.5).abs() < 1e-9, "{queued}");
    let refused = Figure::Refused("load", "rpc").read(&whole).expect("there");
    assert!((refused - 0.4).abs() < 1e-9, "{refused}");
    let short = steps(&[step(80.0, 1e3, 0), step(150.0, 1e3, 0)]);
    assert!(Figure::Queued("load", "rpc", 72.0).read(&short).is_err());
    assert!(Figure::Refused("load", "rpc").read(&steps(&[])).is_err());
}

#[test]
fn what_was_left_out_is_told_with_the_record_that_is_missing() {
    let notes = json!(["Pinned.", "Left out: redis/unix. Redis is not here."]);
    let turn: Turn = vec![("kv", json!({"host": {"notes": notes}, "records": []}))];
    let told = Figure::Field(place("kv", "redis/unix", 0), "ops_per_sec", 1.0).read(&turn);
    let told = told.expect_err("it is missing").to_string();
    assert!(told.ends_with("Place(0). Left out: redis/unix. Redis is not here."), "{told}");
}

#[test]
fn a_row_without_a_limit_is_shown_and_not_judged() {
    let open = Bound::Open;
    let row =
        Row { what: "idle", figure: Figure::Tail(small()), unit: "ns", aim: open, must: open };
    let (line, met) = judge(&row, &[7.0], 2);
    assert!(met && line.ends_with("7.00"), "{line}");
}

#[test]
fn the_lesser_figure_counts_and_must_be_there() {
    static BOTH: [Figure; 2] = [
        Figure::Medians(payload("rtt", "unet", 8), payload("rtt", "unet", 8)),
        Figure::Tail(payload("rtt", "unet", 8)),
    ];
    static GONE: Figure = Figure::Tail(payload("rtt", "unet", 1));
    let round = vec![turn()];
    assert_eq!(Figure::Lesser(&BOTH[0], &BOTH[1]).of(&round).expect("there"), 1.0);
    assert!(Figure::Lesser(&BOTH[0], &GONE).of(&round).is_err());
}

#[test]
fn every_row_refers_to_a_run_that_is_made() {
    for set in [HOST, NETWORK, CALLS] {
        let made = |run| {
            let along = set.along.is_some_and(|along| run == along.run());
            along || set.invocations.iter().any(|made| made.name == run)
        };
        for row in set.rows {
            for run in row.figure.runs() {
                assert!(made(run), "{}: {run}", row.what);
            }
        }
    }
}
