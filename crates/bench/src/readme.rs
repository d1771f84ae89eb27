//! The picture and the table of README.md, written between two marks.

use crate::figures::Figures;
use crate::plot;
use crate::run::Record;
use crate::summary;
use crate::table::{bytes, value};
use crate::transport::{About, Family, Topology};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::Path;

const BEGIN: &str = "<!-- written by `cargo xtask bench` -->";
const END: &str = "<!-- end of what it writes -->";
/// Where the picture stands, seen from the page.
const PICTURE: &str = "docs/img/speed.svg";

/// Transports of README: one of each kind.
const SHOWN: [&str; 14] = [
    "queue",
    "queue, parking",
    "topic",
    "service",
    "value",
    "pipe",
    "Unix socket, stream",
    "System V queue",
    "POSIX queue",
    "System V semaphores, ring",
    "iceoryx2 publish-subscribe",
    "Boost.Interprocess queue",
    "ZeroMQ ipc",
    "ipc-channel",
];

/// Shapes and lengths of the columns.
const COLUMNS: [(Topology, usize); 4] = [
    (Topology::RoundTrip, 64),
    (Topology::RoundTrip, 65_536),
    (Topology::Stream, 64),
    (Topology::Stream, 65_536),
];

fn shown(about: &About) -> bool {
    SHOWN.contains(&&*about.name)
}

/// Writes both.
///
/// # Errors
/// If the page has no such marks, or a file can't be written.
pub fn write(record: &Record, page: &Path) -> Result<()> {
    let text =
        fs::read_to_string(page).with_context(|| format!("can't read {}", page.display()))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) =
        parts.with_context(|| format!("{} has no line {BEGIN}", page.display()))?;
    let picture = page.parent().unwrap_or(Path::new("")).join(PICTURE);
    plot::picture(record, 64, shown, &picture)?;
    let text = format!("{before}{BEGIN}\n{}{END}{after}", section(record));
    fs::write(page, text).with_context(|| format!("can't write {}", page.display()))
}

/// What stands between the marks.
fn section(record: &Record) -> String {
    let figures = Figures::of(record);
    let machine = &record.machine;
    let distance = figures.distance_in_words();
    let mut text = format!(
        "![Messages of 64 bytes: time one way, and how many a second]({PICTURE})\n\n\
         Medians, on {}{}, {}, its processors {distance}. In parentheses: multiples of a bare ring in shared \
         memory that does nothing but move bytes, taken a moment before or after. Ours look \
         for a while before they sleep, as is their default, but `queue, parking`, which sleeps soon; iceoryx2 \
         looks again and again; the others sleep in the kernel.\n\n|",
        machine.processor,
        if machine.is_virtual { " (virtual)" } else { "" },
        machine.kernel,
    );
    for (topology, length) in COLUMNS {
        let shape = match topology {
            Topology::RoundTrip => "one way",
            Topology::Stream => "stream",
        };
        let _ = write!(text, " | {shape}, {}", bytes(length));
    }
    text += " |\n| ---";
    text += &" | ---:".repeat(COLUMNS.len());
    text += " |\n";
    let columns = COLUMNS.map(|(topology, length)| {
        let rows = summary::rows(record, &figures, topology, length, shown);
        (topology, length, rows)
    });
    let limit = summary::limit(crate::transport::Way::OneByOne);
    for name in [limit].iter().chain(&SHOWN) {
        let cells = columns.iter().map(|(topology, length, rows)| {
            let row = rows.iter().find(|row| row.name == *name)?;
            let ratio = row
                .ratio
                .map_or(String::new(), |ratio| format!(" ({})", short(ratio.median)));
            let figure = match (topology, *length) {
                (Topology::Stream, 65_536..) => {
                    format!("{:.1} GB/s", row.value.median * *length as f64 / 1e9)
                }
                (Topology::Stream, _) => {
                    format!("{} /s", value(*topology, *length, row.value.median))
                }
                _ => value(*topology, *length, row.value.median),
            };
            Some((format!("{figure}{ratio}"), row.family))
        });
        let cells: Vec<_> = cells.collect();
        let Some(family) = cells.iter().flatten().map(|(_, family)| *family).next() else {
            continue;
        };
        let bold = if family == Family::Tombolo { "**" } else { "" };
        let _ = write!(text, "| {bold}{name}{bold}");
        for cell in cells {
            let cell = cell.map_or(String::new(), |(cell, _)| cell);
            let _ = write!(text, " | {cell}");
        }
        text += " |\n";
    }
    text
}

/// A multiple, in as few figures as say something.
fn short(ratio: f64) -> String {
    match ratio {
        ..0.01 => format!("{ratio:.3} ×"),
        0.01..10.0 => format!("{ratio:.2} ×"),
        _ => format!("{ratio:.0} ×"),
    }
}
