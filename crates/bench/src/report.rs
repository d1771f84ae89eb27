//! `docs/performance.md`, written from a record.
//!
//! What stands between the two marks on the page is written by hand (why something is as it is)
//! and kept.

use crate::behaviour::{Behaviour, Counted};
use crate::costs::Cost;
use crate::figures::{Cell, Figures};
use crate::growth::Chart;
use crate::place::agree;
use crate::plot;
use crate::reach;
use crate::rivalry::{self, Lead, Standing};
use crate::rows::ROWS;
use crate::run::{Options, Record, SHORT, Sample, name};
use crate::stats::Spread;
use crate::table::{self, bytes, multiple, time};
use crate::transport::{Family, Topology};
use crate::woken;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::Path;

const BEGIN: &str = "<!-- by hand: kept when the page is written anew -->";
const END: &str = "<!-- end of what is written by hand -->";
const UNWRITTEN: &str = "Nothing is explained yet.";

const OPENING: &str = "\
# Performance

This page is written by `cargo xtask bench` on the machine named below; run it on yours. It takes
twenty minutes and two processors that nothing else uses; `--quick` takes a few minutes and
writes to `target/bench` instead; `--from record.json` writes the page from what was measured before.
`tombolo bench` takes half a minute and has the transports that most people know.

The programs: `checks/benches` (Tombolo, the kernel, the bare limit) and `rivals` (those and other
projects), which stands outside the workspace so that nobody compiles it unasked. It needs a C++
compiler, `libboost-dev`, and `libzmq3-dev`, which `cargo xtask bench` asks for; `--no-rivals` leaves it
out. To measure a part:

```text
cargo bench -p checks --bench transports -- --only queue --size 64
cargo run --release --manifest-path rivals/Cargo.toml -- --only iceoryx2 --shape stream
```

**How it is measured.** Two processes, pinned to two processors. One body for all transports: a
round trip, of which half is the one-way latency, or a stream, timed by its receiver. Every message
is checked for its number and its content: first, untimed, all bytes are written and compared, then,
timed, one word of each cache line, which costs the same everywhere; what is written in place is
written whole. A message that is lost, repeated, torn or out of order fails the sample.

A round trip is a closed loop: the next message goes when the answer has come, so the tails hold no
time in which messages queue up (coordinated omission); they tell what disturbs one message, not how a
loaded system answers.

**Beside it, the limit.** The *bare rings* move bytes from one process to the other and do nothing
else: no lengths, no checks, no blocking, no notice of a death. They are simple, not the best that can
be thought of: where a channel's multiple is better than 1, its ring is, for that length, the better one,
or larger; they copy long messages by one call, ours by several, and from 128 KiB on a `queue` copies out while it
copies in ([why](#why)). A cache line that goes to and fro
before and after each sample tells how far apart the two processors are; only samples of one
distance (less than a fifth more or less), taken within seconds of each other, are compared, and only those
whose processes were kept off their processors for less than 2 % of the time. Figures are medians over rounds
that are about a minute apart (the last of our short round trips seconds), at the distance that was the most common one; in parentheses stands the multiple
of the bare ring before and after, and the smallest and largest of it: of the rings that hand messages over in
the same way, the one that is faster at that shape and length. What has fewer pairs than it should is marked
with \\*.

**Aeron** needs a media driver in a third process and is not built here. On another machine (Zen 5,
virtual, two cores on one cache), tuned, between two processes whose receiver read every line, Aeron
IPC 1.53 had these multiples of a bare ring with the sequence in the slot, message by message:

| | 8 B | 64 B | 1 KiB | 64 KiB | 1 MiB |
| --- | ---: | ---: | ---: | ---: | ---: |
| one-way latency, p50 | 1.33 × | 1.51 × | 1.56 × | 2.33 × | 1.42 × |
| stream | 0.31 × | 0.80 × | 0.81 × | 0.24 × | 0.29 × |
";

/// Writes the page and its pictures.
///
/// # Errors
/// If a file can't be written.
pub fn write(record: &Record, page: &Path, pictures: &Path) -> Result<()> {
    fs::create_dir_all(pictures).with_context(|| format!("can't make {}", pictures.display()))?;
    let kept = fs::read_to_string(page).ok().and_then(|old| by_hand(&old));
    let link = pictures.file_name().unwrap_or_default().to_string_lossy();
    let mut text = format!("{OPENING}{ROWS}");
    text += &machine(record);
    for topology in &record.options.topologies {
        text += &cells(record, *topology);
        for length in [64, 1 << 20] {
            let file = format!("{}-{length}.svg", slug(*topology));
            if plot::bars(record, *topology, length, &pictures.join(&file)).is_ok() {
                let what = format!("{}, {}", table::caption(*topology), bytes(length));
                let _ = writeln!(text, "\n![{what}]({link}/{file})");
            }
        }
    }
    if record.options.topologies.contains(&Topology::RoundTrip) {
        text += &tails(record);
    }
    text += &reach::section(record);
    text += &losses(record);
    let _ = writeln!(
        text,
        "\n## Why\n\n{BEGIN}\n{}\n{END}",
        kept.as_deref().unwrap_or(UNWRITTEN).trim()
    );
    text += &growths(&record.growth, pictures, &link)?;
    text += &costs(&record.costs);
    text += &behaviour(&record.behaviour);
    text += &skipped(record);
    fs::write(page, text).with_context(|| format!("can't write {}", page.display()))
}

/// What was written between the marks.
fn by_hand(page: &str) -> Option<String> {
    let (_, rest) = page.split_once(BEGIN)?;
    Some(rest.split_once(END)?.0.to_owned())
}

fn slug(topology: Topology) -> &'static str {
    match topology {
        Topology::RoundTrip => "latency",
        Topology::Stream => "stream",
    }
}

fn machine(record: &Record) -> String {
    let machine = &record.machine;
    let distances = record.samples.iter().filter_map(Sample::distance);
    let counted = distances.clone().count();
    let here = Figures::of(record).distance;
    let there = distances.filter(|it| agree(Some(*it), here)).count();
    let distance = here.map_or("never the same".to_owned(), |here| {
        format!("a cache line takes {here} one way, in {there} of them")
    });
    let kind = if machine.is_virtual { ", virtual" } else { "" };
    let commit = if machine.commit.is_empty() {
        "unknown"
    } else {
        &machine.commit
    };
    let Options {
        repetitions,
        close_ones,
        ..
    } = record.options;
    let close_ones = if close_ones > repetitions {
        format!(
            "; {close_ones} for our own round trips up to {}, but those that park",
            bytes(SHORT)
        )
    } else {
        String::new()
    };
    format!(
        "\n## The run\n\n| | |\n| --- | --- |\n| processor | {}{kind}, {} of them |\n| kernel | {} |\n\
         | commit | {commit} |\n| samples | {} of {} ms, of which {counted} count |\n\
         | most common distance | {distance} |\n| pairs for each figure | {}{close_ones} |\n",
        machine.processor,
        machine.processors,
        machine.kernel,
        record.samples.len(),
        record.options.duration.as_millis(),
        repetitions,
    )
}

fn cells(record: &Record, topology: Topology) -> String {
    let figures = Figures::of(record);
    let mut text = format!("\n## {}\n\n|", table::caption(topology));
    let lengths = &record.options.lengths;
    for length in lengths {
        let _ = write!(text, " | {}", bytes(*length));
    }
    let _ = write!(text, " |\n| ---{} |\n", " | ---:".repeat(lengths.len()));
    for about in &record.transports {
        let row: Vec<_> = lengths
            .iter()
            .map(|length| (length, figures.cell(&about.name, topology, *length)))
            .collect();
        if row.iter().all(|(_, cell)| cell.is_none()) {
            continue;
        }
        let ours = if about.family == Family::Tombolo {
            "**"
        } else {
            ""
        };
        let _ = write!(text, "| {ours}{}{ours}", about.name);
        for (length, cell) in row {
            let cell = cell.map_or(String::new(), |cell| {
                format!(
                    "{}{}{}",
                    table::value(topology, *length, cell.value.median),
                    if cell.is_poor(record.options.pairs(about, topology, *length)) {
                        "\\*"
                    } else {
                        ""
                    },
                    ratio(cell)
                )
            });
            let _ = write!(text, " | {cell}");
        }
        text += " |\n";
    }
    text
}

/// The middle of the multiples, and the smallest and largest.
fn ratio(cell: &Cell) -> String {
    cell.ratio.map_or(String::new(), |ratio| {
        let [min, median, max] = [ratio.min, ratio.median, ratio.max].map(multiple);
        let (min, median) = (min.replace(" ×", ""), median.replace(" ×", ""));
        format!(" ({median}: {min}–{max})")
    })
}

fn tails(record: &Record) -> String {
    let figures = Figures::of(record);
    let mut text = "\n## Tails, one way, 64 B\n\n\
         Each is the median, over samples, of what one sample of many messages has: *max* is the slowest \
         message of a sample.\n\n\
         | | p50 | p90 | p99 | p99.9 | max | sleeps per message |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    for about in &record.transports {
        let cell = figures.cell(&about.name, Topology::RoundTrip, 64);
        if let Some((cell, tail)) = cell.and_then(|cell| Some((cell, cell.tail?))) {
            let [p90, p99, p99_9, max] = tail.map(time);
            let p50 = time(cell.value.median);
            let _ = writeln!(
                text,
                "| {} | {p50} | {p90} | {p99} | {p99_9} | {max} | {:.2} |",
                about.name, cell.sleeps
            );
        }
    }
    text
}

/// Cells in which another is ahead of what does the same job of ours, or level with it.
fn losses(record: &Record) -> String {
    let leads = rivalry::leads(record, &Figures::of(record));
    let mut text = "\n## Where another is ahead\n\n".to_owned();
    text += rivalry::RULES;
    let of = |standing| leads.iter().filter(move |lead| lead.standing() == standing);
    let cell = |lead: &Lead| format!("{}, {}", name(lead.topology), bytes(lead.length));
    if of(Standing::Behind).next().is_none() {
        text += "\nIn no cell of the tables above.\n";
    } else {
        text += "\n| | the other | ours | ours is, × as good |\n| --- | --- | --- | ---: |\n";
        for lead in of(Standing::Behind) {
            let value = |figure| table::value(lead.topology, lead.length, figure);
            let _ = writeln!(
                text,
                "| {} | {}: {} | {}: {} | {} |",
                cell(lead),
                lead.other.0,
                value(lead.other.1),
                lead.ours.0,
                value(lead.ours.1),
                multiple(lead.by)
            );
        }
    }
    let level: Vec<_> = of(Standing::Level)
        .map(|lead| format!("{} and {} ({})", lead.ours.0, lead.other.0, cell(lead)))
        .collect();
    if !level.is_empty() {
        let _ = writeln!(text, "\nLevel: {}.", level.join("; "));
    }
    text
}

/// System calls, sleepers and listeners.
fn behaviour(found: &Behaviour) -> String {
    let mut text = String::new();
    if !found.calls.is_empty() {
        text += "\n## System calls\n\n\
                 Of both processes while messages of 64 B were timed, of five samples together, counted by the \
                 processes themselves: the kernel hands each call to a handler that counts and makes it. *Put \
                 off* is how many times something else took the processor of one of them; *away* how many of \
                 the calls were made while the other process had none. Who waits for such a one does it in \
                 system calls: one that spins yields after 50 µs, an adaptive one gives way, and then sleeps. \
                 A processor that the host takes away is not seen, nor one that came back until the call.\n\n\
                 | | | messages | put off | calls | away | most of them |\n\
                 | --- | --- | ---: | ---: | ---: | ---: | --- |\n";
        for counted in &found.calls {
            let shape = name(counted.topology);
            let Counted {
                transport,
                messages,
                preemptions,
                calls,
                away,
                ..
            } = counted;
            let most = reach::by_name(counted, 4);
            let _ = writeln!(
                text,
                "| {transport} | {shape} | {messages} | {preemptions} | {calls} | {away} | {most} |"
            );
        }
    }
    text += &woken::section(&found.woken);
    let percent = |spread: Spread| {
        let [min, median, max] = [spread.min, spread.median, spread.max].map(|x| x * 100.0);
        format!("{median:.1} % ({min:.1}–{max:.1})")
    };
    let rows = [
        (
            "processor time of 1,000 parked consumers, each at its queue",
            found.idle,
        ),
        (
            "a topic's publisher, with a second subscriber asleep, against without",
            found.asleep,
        ),
        (
            "the same with a second subscriber that is slow and overrun",
            found.slow,
        ),
    ];
    if rows.iter().any(|(_, figure)| figure.is_some()) {
        text += "\n## Sleepers and listeners\n\n| | |\n| --- | ---: |\n";
        for (what, figure) in rows {
            if let Some(figure) = figure {
                let _ = writeln!(text, "| {what} | {} |", percent(figure));
            }
        }
    }
    for reason in &found.skipped {
        let _ = writeln!(text, "\nNot measured: {reason}.");
    }
    text
}

fn growths(charts: &[Chart], pictures: &Path, link: &str) -> Result<String> {
    let mut text = String::new();
    if charts.is_empty() {
        return Ok(text);
    }
    text += "\n## Growth\n\nFigures are of the most common distance of a chart's samples, or of all of them where no more than \
             half were taken there; what is held against the first number was taken in the same round and at the same distance.\n";
    for chart in charts.iter().filter(|chart| !chart.points.is_empty()) {
        let file = format!("{}.svg", chart.name);
        plot::lines(chart, &pictures.join(&file))?;
        let _ = write!(
            text,
            "\n![{}]({link}/{file})\n\n| {} | | {}, median | spread | against the first |\n\
             | ---: | --- | ---: | --- | ---: |\n",
            chart.title, chart.x, chart.y
        );
        for point in &chart.points {
            let [min, median, max] = [point.y.min, point.y.median, point.y.max].map(plot::number);
            let against = point.to_first.map(|ratio| multiple(ratio.median));
            let _ = writeln!(
                text,
                "| {} | {} | {median} | {min} – {max} | {} |",
                point.x,
                point.series,
                against.unwrap_or_default()
            );
        }
        for skipped in &chart.skipped {
            let _ = writeln!(text, "\nSkipped: {skipped}.");
        }
    }
    Ok(text)
}

fn costs(costs: &[Cost]) -> String {
    if costs.is_empty() {
        return String::new();
    }
    let mut text = "\n## Single operations, in one process\n\n\
         | | message | median | spread | copying the bytes |\n\
         | --- | ---: | ---: | --- | ---: |\n"
        .to_owned();
    for cost in costs {
        let spread = cost.nanoseconds;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} – {} | {} |",
            cost.what,
            cost.length.map(bytes).unwrap_or_default(),
            time(spread.median),
            time(spread.min),
            time(spread.max),
            cost.copy.map(|copy| time(copy.median)).unwrap_or_default()
        );
    }
    text
}

fn skipped(record: &Record) -> String {
    let all = table::skipped(record);
    if all.is_empty() {
        return String::new();
    }
    let mut text = "\n## Not measured\n\n".to_owned();
    for (transport, reason, tasks) in all {
        let _ = writeln!(text, "- {transport}: {reason} ({tasks}).");
    }
    text
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
