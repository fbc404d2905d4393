//! A load's records: a row for each share of the capacity, and pictures over them.

use std::fmt::Write;

use crate::record::{Load, Record};
use crate::report::curves::{Axis, Curve, draw};
use crate::report::html::escape;
use crate::report::plot::colour;
use crate::report::table::{Paint, fold, interruptions};
use crate::report::units;

/// A record with its load, which all records of a sweep have.
fn loaded<'a>(records: &'a [&'a Record]) -> impl Iterator<Item = (&'a Record, &'a Load)> {
    records.iter().filter_map(|record| Some((*record, record.load.as_ref()?)))
}

/// What a curve or a group of rows is of.
fn key(record: &Record) -> (&'static str, String, usize) {
    (record.system, record.wait.to_string(), record.payload_bytes)
}

fn keys(records: &[&Record]) -> Vec<(&'static str, String, usize)> {
    let mut keys: Vec<_> = records.iter().map(|record| key(record)).collect();
    keys.dedup();
    keys
}

/// How many of the messages that were due did not arrive, in percent.
fn missing(record: &Record, load: &Load) -> f64 {
    let lost = record.lost.unwrap_or(0) + load.refused + load.late;
    let due = record.sent.unwrap_or(0) + load.refused + load.late;
    100.0 * lost as f64 / due.max(1) as f64
}

/// Writes the rows for a terminal.
pub fn rows(text: &mut String, records: &[&Record], paint: &Paint) {
    for key in keys(records) {
        let group: Vec<_> =
            loaded(records).filter(|(record, _)| self::key(record) == key).collect();
        let Some((_, first)) = group.first() else { continue };
        let capacity = units::rate(first.capacity_per_sec);
        let line = format!(
            "  {} {} {}: capacity {capacity}, latency {}",
            key.0,
            key.1,
            units::size(key.2),
            first.latency
        );
        let _ = writeln!(text, "{}", paint.bold(&line));
        let heading = format!(
            "  {:>7} {:>6} {:>9} {:>9} {:>9} {:>9} {:>9}  {:>8} {:>8} {:>8}",
            "offered", "band", "rate", "goodput", "lost", "refused", "late", "p50", "p99", "p99.9"
        );
        let _ = writeln!(text, "{}", paint.dim(&heading));
        for (record, load) in &group {
            let _ = writeln!(
                text,
                "  {:>5.0} % {:>6} {:>9} {:>9} {:>9} {:>9} {:>9}  {:>8} {:>8} {:>8}",
                load.offered_percent,
                load.band.unwrap_or(""),
                units::rate(load.offered_per_sec),
                units::rate(load.goodput_per_sec),
                record.lost.unwrap_or(0),
                load.refused,
                load.late,
                units::time(record.p50_ns),
                units::time(record.p99_ns),
                units::time(record.p999_ns),
            );
        }
        let records: Vec<_> = group.iter().map(|(record, _)| *record).collect();
        interruptions(text, &records);
    }
    fold(
        text,
        "    ",
        "latencies count from the moment that a message was due; refused: the source's queue was \
         full; late: due, and not tried in time; band: what a network bears surely, and with luck",
    );
}

/// The pictures of a page, each with its title.
pub fn pictures(records: &[&Record]) -> Vec<(&'static str, String)> {
    let curves = |value: &dyn Fn(&Record, &Load) -> f64| -> Vec<Curve> {
        let of_key = |key: (&'static str, String, usize)| {
            let of = || loaded(records).filter(|(record, _)| self::key(record) == key);
            let points = of().map(|(record, load)| (load.offered_percent, value(record, load)));
            let class = of().next().map(|(record, _)| colour(records, record)).unwrap_or_default();
            Curve { name: format!("{} {}", key.0, key.1), class, points: points.collect() }
        };
        keys(records).into_iter().map(of_key).collect()
    };
    let percent = |value: f64| format!("{value:.0} %");
    let latency = |title, value: &dyn Fn(&Record, &Load) -> f64| {
        (title, draw(title, &curves(value), &Axis::Logarithmic, units::time))
    };
    let linear = |title, value: &dyn Fn(&Record, &Load) -> f64, show| {
        (title, draw(title, &curves(value), &Axis::Linear, show))
    };
    vec![
        latency("Half of the messages took no longer (p50), by offered load", &|r, _| r.p50_ns),
        latency("All but one in a hundred (p99), by offered load", &|r, _| r.p99_ns),
        latency("All but one in a thousand (p99.9), by offered load", &|r, _| r.p999_ns),
        linear(
            "Goodput by offered load, in percent of the capacity",
            &|_, load| 100.0 * load.goodput_per_sec / load.capacity_per_sec,
            percent,
        ),
        linear(
            "Messages lost on the way, refused or late at the source, in percent of those due",
            &missing,
            |value| format!("{} %", (value * 100.0).round() / 100.0),
        ),
    ]
}

/// The table of a page.
pub fn table(page: &mut String, records: &[&Record]) {
    *page += "<div class=\"card\"><table><tr>";
    for name in [
        "system", "wait", "size", "offered", "band", "rate", "goodput", "sent", "lost", "refused",
        "late", "p50", "p99", "p99.9", "max",
    ] {
        let _ = write!(page, "<th>{name}</th>");
    }
    *page += "</tr>\n";
    for (record, load) in loaded(records) {
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.0} %</td><td>{}</td><td>{}</td>\
             <td class=\"mean\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>",
            escape(record.system),
            record.wait,
            units::size(record.payload_bytes),
            load.offered_percent,
            load.band.unwrap_or(""),
            units::rate(load.offered_per_sec),
            units::rate(load.goodput_per_sec),
            record.sent.unwrap_or(0),
            record.lost.unwrap_or(0),
            load.refused,
            load.late,
        );
        for time in [record.p50_ns, record.p99_ns, record.p999_ns, record.max_ns] {
            let _ = write!(page, "<td>{}</td>", units::time(time));
        }
        *page += "</tr>\n";
    }
    *page += "</table></div>\n";
}
