//! One HTML page with plots that needs nothing but itself.

use std::fmt::Write;

use crate::host::Host;
use crate::record::Record;
use crate::report::{Report, load, plot, units};
use crate::task::Bench;

/// Writes the page.
pub fn write(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>unet-bench</title><style>\n{}</style></head><body>\n<h1>unet-bench</h1>\n",
        include_str!("style.css")
    );
    host(&mut page, &report.host);
    let mut benches: Vec<_> = report.records.iter().map(|record| record.bench).collect();
    benches.dedup();
    for bench in benches {
        let records: Vec<_> = report.records.iter().filter(|r| r.bench == bench).collect();
        section(&mut page, bench, &records);
    }
    page += "</body></html>\n";
    page
}

/// Makes text safe between tags and within quotes.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn host(page: &mut String, host: &Host) {
    let floors = &host.floors;
    let place = if host.virtual_machine { ", virtual machine" } else { "" };
    let mut facts = vec![
        ("Processor", format!("{}, {} cores{place}", host.cpu, host.cores)),
        ("Kernel", host.kernel.clone()),
        ("Processes", host.cpus.to_string()),
        ("Clock", format!("{}, {:.1} ns a stamp", host.clock, host.stamp_cost_ns)),
        ("Commit", host.commit.to_owned()),
    ];
    if let Some(lines) = &floors.cache_line {
        facts.extend([
            ("One cache line, there and back", units::time(lines.one_line_ns)),
            ("One cache line, polled with pause", units::time(lines.one_line_pause_ns)),
            ("Two cache lines", units::time(lines.two_lines_ns)),
            ("Two cache lines, polled with pause", units::time(lines.two_lines_pause_ns)),
        ]);
    }
    if let Some(two) = floors.eventfd_two_cores_ns {
        facts.push(("Eventfd ping-pong, two cores", units::time(two)));
    }
    facts.extend([
        ("Eventfd ping-pong, one core", units::time(floors.eventfd_one_core_ns)),
        ("Yield ping-pong, one core", units::time(floors.yield_one_core_ns)),
        ("System call", units::time(floors.system_call_ns)),
    ]);
    let copies = floors.memcpy.iter().map(|copy| {
        let speed = units::byte_rate(copy.gigabytes_per_second * 1e9);
        format!("{} at {speed}", units::size(copy.bytes))
    });
    facts.push(("Copies within memory", copies.collect::<Vec<_>>().join(", ")));
    *page += "<div class=\"card facts\">";
    for (name, value) in facts {
        let _ = write!(page, "<div><span>{name}</span>{}</div>", escape(&value));
    }
    *page += "</div>\n";
    if !host.optimised {
        *page += "<p class=\"warn\">This build is not optimised: build with --release.</p>\n";
    }
    for note in &host.notes {
        let _ = writeln!(page, "<p class=\"warn\">{}</p>", escape(note));
    }
}

fn section(page: &mut String, bench: Bench, records: &[&Record]) {
    let _ = writeln!(page, "<h2>{}</h2>", escape(bench.title()));
    match bench {
        Bench::Rate => card(
            page,
            "Messages a second",
            &plot::bars(records, |record| record.ops_per_sec, units::rate),
        ),
        Bench::Bandwidth => card(
            page,
            "Bytes a second",
            &plot::bars(records, |record| record.bytes_per_sec, units::byte_rate),
        ),
        Bench::Sweep => {
            for (title, picture) in load::pictures(records) {
                card(page, title, &picture);
            }
            return load::table(page, records);
        }
        Bench::NullRpc | Bench::Rtt | Bench::Scale | Bench::Beside | Bench::Fbuf => {}
    }
    if records.iter().any(|record| record.payload_bytes != records[0].payload_bytes)
        && !bench.one_way()
    {
        card(page, "Median by message size", &plot::by_size(records));
    }
    let what = if bench.one_way() { "Time per message" } else { "Round trips" };
    let title = format!(
        "{what}: how they spread (heights by square root; ticks below the base at p50, p99 and \
         p99.9; dashed: the floor; on the right: p50)"
    );
    card(page, &title, &plot::distributions(records));
    table(page, records);
}

fn card(page: &mut String, title: &str, content: &str) {
    let title = escape(title);
    let _ = writeln!(page, "<div class=\"card\"><h3>{title}</h3>{content}</div>");
}

fn table(page: &mut String, records: &[&Record]) {
    *page += "<div class=\"card\"><table><tr>";
    for name in [
        "system", "wait", "size", "mean", "×floor", "floor", "min", "p50", "p90", "p99", "p99.9",
        "max", "ops/s", "bytes/s",
    ] {
        let _ = write!(page, "<th>{name}</th>");
    }
    *page += "</tr>\n";
    for record in records {
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"mean\">{}</td><td>{}</td>",
            escape(record.system),
            record.wait,
            units::size(record.payload_bytes),
            units::time(record.mean_ns),
            record.ratio_to_floor.map_or("–".to_owned(), units::ratio),
        );
        let floor = record.floor_ns.map_or("–".to_owned(), units::time);
        let _ = write!(page, "<td>{floor}</td>");
        for time in [
            record.min_ns,
            record.p50_ns,
            record.p90_ns,
            record.p99_ns,
            record.p999_ns,
            record.max_ns,
        ] {
            let _ = write!(page, "<td>{}</td>", units::time(time));
        }
        let _ = writeln!(
            page,
            "<td>{}</td><td>{}</td></tr>",
            units::rate(record.ops_per_sec),
            units::byte_rate(record.bytes_per_sec)
        );
        if let Some(note) = &record.note {
            let _ =
                writeln!(page, "<tr><td class=\"note\" colspan=\"14\">{}</td></tr>", escape(note));
        }
    }
    *page += "</table></div>\n";
}
