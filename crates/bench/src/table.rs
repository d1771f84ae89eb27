//! A record as tables of text.

use crate::behaviour::Counted;
use crate::figures::{Cell, Figures};
use crate::plot;
use crate::reach;
use crate::run::{Record, name, task};
use crate::transport::{About, Topology};
use std::fmt::Write;

/// A record for people to read in a terminal.
pub fn text(record: &Record) -> String {
    let figures = Figures::of(record);
    let mut text = String::new();
    for topology in &record.options.topologies {
        let _ = writeln!(text, "{}\n", caption(*topology));
        let mut rows = vec![head(record)];
        for about in &record.transports {
            let cell = |length: &usize| figures.cell(&about.name, *topology, *length);
            let cells: Vec<_> = record.options.lengths.iter().map(cell).collect();
            if cells.iter().any(Option::is_some) {
                rows.push(row(about, *topology, &cells, record));
            }
        }
        text += &aligned(&rows);
        text.push('\n');
    }
    for chart in &record.growth {
        let mut rows = vec![
            [&*chart.x, "", "median", "against the first"]
                .map(str::to_owned)
                .into(),
        ];
        rows.extend(chart.points.iter().map(|point| {
            let against = point.to_first.map(|ratio| multiple(ratio.median));
            let median = plot::number(point.y.median);
            let (x, series) = (point.x.to_string(), point.series.clone());
            vec![x, series, median, against.unwrap_or_default()]
        }));
        let _ = writeln!(text, "{}, {}\n\n{}", chart.title, chart.y, aligned(&rows));
    }
    for counted in &record.behaviour.calls {
        let Counted {
            transport,
            topology,
            messages,
            calls,
            preemptions,
            ..
        } = counted;
        let (shape, names) = (name(*topology), reach::by_name(counted, usize::MAX));
        let _ = writeln!(
            text,
            "{transport}, {shape}: {calls} system calls for {messages} messages, put off {preemptions} times: {names}"
        );
    }
    let distance = figures.distance_in_words();
    let _ = writeln!(
        text,
        "processors: {distance}; multiples of the bare ring in parentheses"
    );
    for (transport, reason, tasks) in skipped(record) {
        let _ = writeln!(text, "skipped: {transport}: {reason} ({tasks})");
    }
    text
}

/// What was not measured: transport, reason, tasks.
pub fn skipped(record: &Record) -> Vec<(&str, &str, String)> {
    let mut all: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for skipped in &record.skipped {
        let (transport, reason) = (&*skipped.transport, &*skipped.reason);
        match all.iter_mut().find(|s| (s.0, s.1) == (transport, reason)) {
            Some((_, _, tasks)) => tasks.push(&skipped.task),
            None => all.push((transport, reason, vec![&skipped.task])),
        }
    }
    all.into_iter()
        .map(|(transport, reason, tasks)| (transport, reason, shorter(record, &tasks)))
        .collect()
}

/// Tasks in words, those of all lengths of a shape as one.
fn shorter(record: &Record, tasks: &[&str]) -> String {
    let lengths = &record.options.lengths;
    let mut words = Vec::new();
    for topology in [Topology::RoundTrip, Topology::Stream] {
        let shape = name(topology);
        let of = |length: &&usize| tasks.contains(&&*task(topology, **length));
        let here: Vec<String> = lengths.iter().filter(of).map(|l| bytes(*l)).collect();
        if here.len() == lengths.len() {
            words.push(shape.to_owned());
        } else if !here.is_empty() {
            words.push(format!("{shape} of {}", here.join(", ")));
        }
    }
    if words.is_empty() {
        return tasks.join("; ");
    }
    words.join("; ")
}

/// What the figures of a shape are.
pub fn caption(topology: Topology) -> &'static str {
    match topology {
        Topology::RoundTrip => "One-way latency, half of a round trip, p50",
        Topology::Stream => "Stream, messages per second",
    }
}

fn head(record: &Record) -> Vec<String> {
    let lengths = record.options.lengths.iter().map(|length| bytes(*length));
    std::iter::once(String::new()).chain(lengths).collect()
}

fn row(about: &About, topology: Topology, cells: &[Option<&Cell>], record: &Record) -> Vec<String> {
    let cells = cells.iter().zip(&record.options.lengths);
    let cells = cells.map(|(cell, length)| match cell {
        None => String::new(),
        Some(cell) => {
            let ratio = cell.ratio.map_or(String::new(), |ratio| {
                format!(" ({})", multiple(ratio.median))
            });
            format!("{}{ratio}", value(topology, *length, cell.value.median))
        }
    });
    std::iter::once(about.name.clone()).chain(cells).collect()
}

/// Columns that stand below each other.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column == 0 {
                let _ = write!(line, "{cell:width$}");
            } else {
                let _ = write!(line, "  {cell:>width$}");
            }
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// A length in words.
pub fn bytes(length: usize) -> String {
    match length {
        0..1024 => format!("{length} B"),
        1024..1_048_576 => format!("{} KiB", length / 1024),
        _ => format!("{} MiB", length / 1_048_576),
    }
}

/// Nanoseconds in the unit that suits them.
pub fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        ..1000.0 => format!("{nanoseconds:.0} ns"),
        1000.0..10_000.0 => format!("{:.1} µs", nanoseconds / 1e3),
        10_000.0..1e6 => format!("{:.0} µs", nanoseconds / 1e3),
        _ => format!("{:.1} ms", nanoseconds / 1e6),
    }
}

/// Messages per second, and bytes where that says more.
pub fn rate(length: usize, messages: f64) -> String {
    let short = match messages {
        ..10_000.0 => format!("{:.1} k", messages / 1e3),
        10_000.0..1e6 => format!("{:.0} k", messages / 1e3),
        1e6..1e7 => format!("{:.1} M", messages / 1e6),
        _ => format!("{:.0} M", messages / 1e6),
    };
    if length < 65_536 {
        return short;
    }
    format!("{short}, {:.1} GB/s", messages * length as f64 / 1e9)
}

/// A figure of a shape.
pub fn value(topology: Topology, length: usize, value: f64) -> String {
    match topology {
        Topology::RoundTrip => time(value),
        Topology::Stream => rate(length, value),
    }
}

/// A multiple of the bare ring's figure.
pub fn multiple(ratio: f64) -> String {
    match ratio {
        ..0.095 => format!("{ratio:.3} ×"),
        0.095..10.0 => format!("{ratio:.2} ×"),
        _ => format!("{ratio:.0} ×"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_unit_that_suits_them() {
        assert_eq!(time(45.4), "45 ns");
        assert_eq!(time(1490.0), "1.5 µs");
        assert_eq!(time(26_300.0), "26 µs");
        assert_eq!(rate(8, 377e6), "377 M");
        assert_eq!(rate(64, 3_900_000.0), "3.9 M");
        assert_eq!(rate(1 << 20, 48_000.0), "48 k, 50.3 GB/s");
        assert_eq!(bytes(65_536), "64 KiB");
        assert_eq!(multiple(0.85), "0.85 ×");
        assert_eq!(multiple(471.3), "471 ×");
    }
}
