//! `docs/layout.md`, written from the tables that the code takes its offsets from.

use anyhow::{Context, Result, bail};
use shmem::layout::{Field, Layout};
use std::fmt::Write;
use std::path::Path;

/// The page.
const PAGE: &str = "docs/layout.md";
/// Bytes of a row of a diagram.
const ROW: usize = 8;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Columns of half a row: as long as the longest name of a four-byte field, and its margin.
const HALF: usize = 18;

const OPENING: &str = "\
# Layouts

What stands where in a segment. This page is written by `cargo xtask layouts` from the tables that
the code takes its offsets from (`shmem::layout!`); `cargo xtask layouts --check` fails when it is
out of date.

All numbers are in the byte order of the machine, all offsets are in bytes. In the diagrams a row
has eight bytes, a double rule is the end of a cache line of 64 bytes, and `·` is padding: zero
when the segment is made, and left alone. A label in square brackets names a synchronisation edge,
which the opening of its module defines. A program opens a channel only if the hash over the
header's table and the channel's own tables is the one that it was built with.
";

const IN_USER_SPACE: &str = "
# In user space

What stands where in the registry of a name space. The objects of a kind, their attaches, messages,
adjustments and sleepers are under that kind's lock, and every change of theirs goes by its journal:
what a crash leaves is put back by the next holder.
";

const IN_A_TRACE: &str = "
# In a trace

What stands where in the file of `tombolo run --trace`: the header, then 16,384 slots.
";

/// Writes the page, or fails if it is not what the tables say.
pub fn run(root: &Path, check: bool) -> Result<()> {
    let path = root.join(PAGE);
    let text = page();
    if !check {
        return std::fs::write(&path, text).with_context(|| format!("cannot write {PAGE}"));
    }
    let found = std::fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    if found != text {
        bail!("{PAGE} is not what the tables of the code say; write it anew: cargo xtask layouts");
    }
    println!("{PAGE} is what the tables say");
    Ok(())
}

fn page() -> String {
    let mut page = OPENING.to_owned();
    section(&mut page, &shmem::header::LAYOUT, 0);
    section(&mut page, &shmem::lock::layout::LAYOUT, 0);
    section(&mut page, &shmem::wait::layout::LAYOUT, 0);
    section(&mut page, &shmem::pulse::layout::LAYOUT, 0);
    for layout in tombolo::LAYOUTS.into_iter().chain(tombolo::MAILBOX_LAYOUTS) {
        // What follows the header has its offsets from the start of the segment.
        let follows = layout
            .fields
            .first()
            .is_some_and(|field| field.offset >= shmem::header::SIZE);
        section(
            &mut page,
            layout,
            if follows { shmem::header::SIZE } else { 0 },
        );
    }
    page.push_str(IN_USER_SPACE);
    let parts = [
        &shmem::journal::layout::LAYOUT,
        &shmem::heap::layout::LAYOUT,
        &shmem::heap::block::LAYOUT,
    ];
    for layout in parts
        .into_iter()
        .chain(userspace::layout::LAYOUTS.iter().copied())
        .chain(tombolo::STORE_LAYOUTS)
    {
        section(&mut page, layout, 0);
    }
    page.push_str(IN_A_TRACE);
    for layout in userspace::trace::LAYOUTS {
        section(&mut page, layout, 0);
    }
    page
}

fn section(page: &mut String, layout: &Layout, start: usize) {
    let mut put = |text: String| page.push_str(&text);
    put(format!(
        "\n## {}\n\n{} bytes",
        capital(layout.name),
        layout.size - start
    ));
    if start > 0 {
        put(format!(", from {start} on, behind the header"));
    }
    put(".\n".to_owned());
    if layout.name == shmem::header::LAYOUT.name {
        put(states());
    }
    put(format!("\n```text\n{}```\n\n", diagram(layout, start)));
    put("| field | offset | size | written by | meaning |\n".to_owned());
    put("| --- | ---: | ---: | --- | --- |\n".to_owned());
    for Field {
        name,
        offset,
        size,
        writer,
        meaning,
    } in layout.fields
    {
        put(format!(
            "| `{name}` | {offset} | {size} | {writer} | {meaning} |\n"
        ));
    }
}

/// What the first word of a segment can be.
fn states() -> String {
    let word = |word: u64| {
        let text = word.to_le_bytes().escape_ascii().to_string();
        format!("`{word:#018x}`, in memory `{text}`")
    };
    format!(
        "
| `STATE` | the segment is |
| --- | --- |
| 0 | new: whoever comes may initialise it |
| an identity | being initialised by that process; if it is dead, to be taken over |
| {} | a channel; the rest of the header does not change any more |
| {} | given up: look for a newer one |
| anything else | not ours |
",
        word(shmem::header::READY),
        word(shmem::header::ENDED)
    )
}

fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// A stretch of a layout: a field, or padding.
struct Stretch {
    offset: usize,
    size: usize,
    text: String,
}

/// Fields and the padding between them; padding ends where a row or a cache line does, so that
/// every row begins with a stretch.
fn stretches(layout: &Layout, start: usize) -> Vec<Stretch> {
    let mut all = Vec::new();
    let mut at = start;
    let pad = |at: &mut usize, end: usize| {
        let mut found = Vec::new();
        while *at < end {
            let row_end = if at.is_multiple_of(ROW) {
                end
            } else {
                at.next_multiple_of(ROW)
            };
            let stop = end.min(row_end).min((*at + 1).next_multiple_of(LINE));
            found.push(Stretch {
                offset: *at,
                size: stop - *at,
                text: "·".to_owned(),
            });
            *at = stop;
        }
        found
    };
    for field in layout.fields {
        all.extend(pad(&mut at, field.offset));
        all.push(Stretch {
            offset: at,
            size: field.size,
            text: field.name.to_owned(),
        });
        at += field.size;
    }
    all.extend(pad(&mut at, layout.size));
    all
}

fn diagram(layout: &Layout, start: usize) -> String {
    let mut rows: Vec<Vec<Stretch>> = Vec::new();
    for stretch in stretches(layout, start) {
        match rows.last_mut() {
            Some(row) if !stretch.offset.is_multiple_of(ROW) => row.push(stretch),
            _ => rows.push(vec![stretch]),
        }
    }
    let mut text = String::new();
    let mut above = 1;
    for (i, row) in rows.iter().enumerate() {
        let halves = row.len();
        text += &rule(row[0].offset, i == 0, above, halves);
        above = halves;
        let _ = write!(text, "{:>6} ", row[0].offset);
        for stretch in row {
            let width = if halves == 1 { 2 * HALF + 1 } else { HALF };
            let size = if stretch.size > ROW {
                format!(" ({} bytes)", stretch.size)
            } else {
                String::new()
            };
            let label = format!(" {}{size}", stretch.text);
            let _ = write!(text, "│{label:width$}");
        }
        text += "│\n";
    }
    let bottom = if above == 1 { "─" } else { "┴" };
    let half = "─".repeat(HALF);
    let _ = writeln!(text, "{:>6} └{half}{bottom}{half}┘", layout.size);
    text
}

/// The line above a row, which joins the halves above and below it.
fn rule(offset: usize, first: bool, above: usize, below: usize) -> String {
    let double = offset.is_multiple_of(LINE) && !first;
    let (left, line, right) = match (first, double) {
        (true, _) => ("┌", "─", "┐"),
        (_, true) => ("╞", "═", "╡"),
        _ => ("├", "─", "┤"),
    };
    let middle = match (above, below, double) {
        (1, 1, _) => line,
        (1, _, true) => "╤",
        (1, _, false) => "┬",
        (_, 1, true) => "╧",
        (_, 1, false) => "┴",
        (_, _, true) => "╪",
        (_, _, false) => "┼",
    };
    let half = line.repeat(HALF);
    format!("       {left}{half}{middle}{half}{right}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    mod made_up {
        shmem::layout! {
            "made up", 128;
            FIRST: 4 @ 0, "me", "one";
            SECOND: 4 @ 4, "me", "two";
            THIRD: 4 @ 12, "me", "three";
            LONG: 24 @ 16, "me", "four";
            LAST: 8 @ 64, "me", "five";
        }
    }

    #[test]
    fn a_diagram_shows_every_byte() {
        let expected = "       ┌──────────────────┬──────────────────┐
     0 │ FIRST            │ SECOND           │
       ├──────────────────┼──────────────────┤
     8 │ ·                │ THIRD            │
       ├──────────────────┴──────────────────┤
    16 │ LONG (24 bytes)                     │
       ├─────────────────────────────────────┤
    40 │ · (24 bytes)                        │
       ╞═════════════════════════════════════╡
    64 │ LAST                                │
       ├─────────────────────────────────────┤
    72 │ · (56 bytes)                        │
   128 └─────────────────────────────────────┘
";
        assert_eq!(diagram(&made_up::LAYOUT, 0), expected);
    }

    #[test]
    fn stretches_leave_no_gap() {
        for layout in tombolo::LAYOUTS
            .iter()
            .copied()
            .chain([&shmem::header::LAYOUT, &made_up::LAYOUT])
        {
            let mut end = 0;
            for stretch in stretches(layout, 0) {
                assert_eq!(stretch.offset, end, "{}", layout.name);
                end += stretch.size;
            }
            assert_eq!(end, layout.size, "{}", layout.name);
        }
    }

    #[test]
    fn every_field_is_on_the_page() {
        let page = page();
        for layout in tombolo::LAYOUTS
            .iter()
            .copied()
            .chain([&shmem::header::LAYOUT])
        {
            for field in layout.fields {
                let row = format!("| `{}` | {} | {} |", field.name, field.offset, field.size);
                assert!(page.contains(&row), "{row}");
            }
        }
    }

    #[test]
    fn the_page_is_up_to_date() {
        run(crate::root(), true).unwrap();
    }
}
