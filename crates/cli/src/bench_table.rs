//! What `tombolo bench` shows: a table for each shape, bars for its first length, and what was not
//! measured.

use std::io;

use ::bench::figures::Figures;
use ::bench::run::{Record, name, task};
use ::bench::summary::{self, Row, WAYS, limit};
use ::bench::table::{bytes, caption, multiple, skipped, value};
use ::bench::transport::{Family, Topology};
use serde_json::{Value as Json, json};

use crate::output::{Fields, Output};

/// Columns of the longest bar.
const BAR: usize = 40;
/// Of the longest one in a terminal that is too narrow for it.
const SHORT: usize = 8;
/// What stands behind a figure of few or disturbed samples, and below the tables then.
const FEW: &str = "*";
const FEW_IN_WORDS: &str =
    "* of too few samples, or of disturbed ones: run it when nothing else runs";

/// Tables and bars, for people.
pub fn write(record: &Record, out: &mut Output) -> io::Result<()> {
    let figures = Figures::of(record);
    let lengths = &record.options.lengths;
    let mut few = false;
    for topology in &record.options.topologies {
        out.heading(caption(*topology))?;
        for line in table(record, &figures, *topology) {
            few |= line.contains(FEW);
            out.line(&line)?;
        }
        out.line("")?;
    }
    if few {
        out.line(FEW_IN_WORDS)?;
        out.line("")?;
    }
    for topology in &record.options.topologies {
        let rows = rows(record, &figures, *topology, lengths[0]);
        // Where nothing was measured beside it, nothing can be held against it.
        let compared = rows.into_iter();
        let compared = compared.filter(|row| row.ratio.is_some() || row.family == Family::Bare);
        let compared: Vec<_> = compared.collect();
        if compared.iter().any(|row| row.ratio.is_some()) {
            let (length, shape) = (bytes(lengths[0]), name(*topology));
            let heading = format!("{length}, {shape}: the share of what the machine can do");
            out.heading(&heading)?;
            for line in bars(&compared, *topology, out.columns()) {
                out.line(&line)?;
            }
            out.line("")?;
        }
    }
    let machine = &record.machine;
    out.line(&format!(
        "{} on {}; the two processors were {}",
        machine.kernel,
        machine.processor,
        figures.distance_in_words()
    ))?;
    for (transport, reason, tasks) in skipped(record) {
        if !is_ring(record, transport) {
            out.line(&format!("not measured: {transport}: {reason} ({tasks})"))?;
        }
    }
    Ok(())
}

/// Nobody asks for those.
fn is_ring(record: &Record, name: &str) -> bool {
    let mut transports = record.transports.iter();
    transports.any(|about| about.is_ring() && about.name == name)
}

fn rows(record: &Record, figures: &Figures, topology: Topology, length: usize) -> Vec<Row> {
    summary::rows(record, figures, topology, length, |_| true)
}

/// A line for each transport, a column for each length.
fn table(record: &Record, figures: &Figures, topology: Topology) -> Vec<String> {
    let lengths = &record.options.lengths;
    let columns: Vec<Vec<Row>> = lengths
        .iter()
        .map(|length| rows(record, figures, topology, *length))
        .collect();
    let limits = WAYS.map(limit);
    let others = record.transports.iter().filter(|about| !about.is_ring());
    let names = || {
        limits
            .into_iter()
            .chain(others.clone().map(|about| &*about.name))
    };
    let longest = names().map(str::len).max().unwrap_or(0);
    let mut lines = vec![
        lengths
            .iter()
            .fold(format!("{:longest$}", ""), |line, length| {
                format!("{line}{:>19}", bytes(*length))
            }),
    ];
    for name in names() {
        let cells = columns.iter().zip(lengths).map(|(column, length)| {
            let row = column.iter().find(|row| row.name == name);
            row.map_or(String::new(), |row| cell(row, topology, *length, record))
        });
        let cells: Vec<_> = cells.collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            let line = cells.iter().fold(format!("{name:longest$}"), |line, cell| {
                format!("{line}{cell:>19}")
            });
            lines.push(line.trim_end().to_owned());
        }
    }
    lines
}

/// A figure, and the multiple of the bare limit's.
fn cell(row: &Row, topology: Topology, length: usize, record: &Record) -> String {
    let figure = match topology {
        Topology::RoundTrip => value(topology, length, row.value.median),
        // Bytes only where messages are long.
        Topology::Stream if length < 65_536 => value(topology, length, row.value.median),
        Topology::Stream => format!("{:.1} GB/s", row.value.median * length as f64 / 1e9),
    };
    let ratio = row.ratio.map_or("        ".to_owned(), |ratio| {
        format!("{:>8}", multiple(ratio.median))
    });
    let few = row.disturbed || row.value.count < record.options.repetitions;
    format!("{figure}{}{ratio}", if few { FEW } else { " " })
}

/// A bar for each transport, as long as its share of the bare limit; all of them fit the terminal.
fn bars(rows: &[Row], topology: Topology, columns: Option<usize>) -> Vec<String> {
    let longest = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let share = |row: &Row| {
        let ratio = row.ratio.map_or(1.0, |ratio| ratio.median);
        match topology {
            Topology::RoundTrip => 1.0 / ratio,
            Topology::Stream => ratio,
        }
    };
    let most = rows.iter().map(share).fold(1.0, f64::max);
    let before = longest + " 123.4 ns  ".len();
    let room = columns.map_or(BAR, |columns| {
        let room = columns.saturating_sub(before) as f64 / most;
        (room as usize).clamp(SHORT, BAR)
    });
    let lines = rows.iter().map(|row| {
        let figure = value(topology, 0, row.value.median);
        let bar = bar(share(row) * room as f64);
        format!("{:>longest$} {figure:>8}  {bar}", row.name)
    });
    lines.collect()
}

/// So many columns, in eighths; the shortest is not nothing.
fn bar(columns: f64) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = ((columns * 8.0).round() as usize).max(1);
    "█".repeat(eighths / 8) + PARTS[eighths % 8]
}

/// All figures, for programs.
pub fn objects(record: &Record) -> Vec<Fields> {
    let figures = Figures::of(record);
    let mut objects = Vec::new();
    for topology in &record.options.topologies {
        for length in &record.options.lengths {
            for row in rows(record, &figures, *topology, *length) {
                objects.push(object(&row, *topology, *length, &figures));
            }
        }
    }
    for topology in &record.options.topologies {
        for length in &record.options.lengths {
            let here = task(*topology, *length);
            let skipped = record.skipped.iter().filter(|skipped| skipped.task == here);
            let asked = skipped.filter(|skipped| !is_ring(record, &skipped.transport));
            objects.extend(asked.map(|skipped| {
                owned([
                    ("transport", json!(skipped.transport)),
                    ("shape", json!(summary::slug(name(*topology)))),
                    ("size", json!(length)),
                    ("not_measured", json!(skipped.reason)),
                ])
            }));
        }
    }
    objects
}

fn object(row: &Row, topology: Topology, length: usize, figures: &Figures) -> Fields {
    let unit = match topology {
        Topology::RoundTrip => "nanoseconds",
        Topology::Stream => "messages_per_second",
    };
    let spread = |spread: ::bench::stats::Spread| json!({"median": spread.median, "min": spread.min, "max": spread.max});
    owned([
        ("transport", json!(row.name)),
        ("shape", json!(summary::slug(name(topology)))),
        ("size", json!(length)),
        (unit, spread(row.value)),
        ("ratio", row.ratio.map_or(Json::Null, spread)),
        ("samples", json!(row.value.count)),
        ("disturbed", json!(row.disturbed)),
        ("distance_nanoseconds", json!(figures.distance)),
    ])
}

fn owned<const N: usize>(fields: [(&str, Json); N]) -> Fields {
    let fields = fields.into_iter();
    fields.map(|(key, field)| (key.to_owned(), field)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, ratio: Option<f64>) -> Row {
        let spread = |x: f64| ::bench::stats::Spread::of([x]).expect("one");
        Row {
            name: name.to_owned(),
            family: Family::Tombolo,
            value: spread(100.0),
            ratio: ratio.map(spread),
            disturbed: false,
        }
    }

    #[test]
    fn bars_fit_the_terminal() {
        let rows = [
            row("limit", None),
            row("half", Some(2.0)),
            row("twice", Some(0.5)),
        ];
        let lengths = |columns| {
            let lines = bars(&rows, Topology::RoundTrip, columns);
            lines
                .iter()
                .map(|line| line.matches('█').count())
                .collect::<Vec<_>>()
        };
        assert_eq!(lengths(None), [40, 20, 80]);
        assert_eq!(lengths(Some(200)), [40, 20, 80]);
        assert_eq!(lengths(Some(60)), [22, 11, 44]);
        let widest = bars(&rows, Topology::RoundTrip, Some(60));
        assert!(
            widest.iter().all(|line| line.chars().count() <= 60),
            "{widest:?}"
        );
        // What is too narrow for anything has short ones.
        assert_eq!(lengths(Some(10)), [8, 4, 16]);
    }

    #[test]
    fn bars_are_as_long_as_they_should_be() {
        assert_eq!(bar(40.0).chars().count(), 40);
        assert_eq!(bar(0.0), "▏");
        assert_eq!(bar(1.5), "█▌");
        assert_eq!(bar(39.99), bar(40.0));
    }
}
