//! Real programs, unmodified, on the kernel and under `tombolo run`: the same results.
//!
//! ```text
//!  trial (side.rs)                        on each side, in an IPC name space of its own
//! ┌────────────────┐   the kernel    ┌──────────────────────────┐   ┌──────────────────────┐
//! │ what is needed?├────────────────►│ this binary, --play NAME ├──►│ fakeroot, perl, php, │
//! │ both sides,    │  tombolo run    │ (stage.rs): plays a piece│   │ postgres, apache2, … │
//! │ compare        ├────────────────►│ and tells what it saw    ├──►│ and their children   │
//! └────────────────┘                 └──────────────────────────┘   └──────────────────────┘
//! ```
//!
//! A piece is played twice, and what it tells must be the same word for word: listings, counts,
//! exit codes, ids; never times, pids or random keys. In user space the kernel's System V calls are
//! refused to everything that runs there, so that a program which slips past the library fails.
//!
//! A program that is not installed skips its test, which then says what to install;
//! `cargo xtask programs` installs everything. What a piece starts ends with it: its player is the
//! reaper of all its orphans, and kills each by its pid when the piece has come to its end, has
//! failed, has taken too long, or when the test itself is gone.
//!
//! - `need`: what a piece needs, and which package has it
//! - `side`: the two sides, and the comparison
//! - `stage`: what a piece is played on
//! - `measure`: `--measure NAME PAIRS` times a piece on both sides, in turns, and compares its rates
//! - the others: the pieces
#![allow(missing_docs)]

mod apache;
mod display;
mod fakeroot;
mod languages;
mod listing;
mod measure;
mod need;
mod postgres;
mod side;
mod stage;
mod stress;

use libtest_mimic::{Arguments, Trial};
use need::Need;
use stage::Stage;
use std::process::ExitCode;

/// A piece: a program, or a family of them, at its work.
pub struct Piece {
    /// Its name, for filters.
    pub name: &'static str,
    pub needs: &'static [Need],
    /// Whether root plays it as an ordinary user.
    pub ordinary: bool,
    pub play: fn(&Stage),
}

const PIECES: &[&[Piece]] = &[
    fakeroot::PIECES,
    languages::PIECES,
    listing::PIECES,
    stress::PIECES,
    display::PIECES,
    apache::PIECES,
    postgres::PIECES,
];

fn pieces() -> impl Iterator<Item = &'static Piece> {
    PIECES.iter().copied().flatten()
}

/// What is only measured.
const MEASURED: &[&[Piece]] = &[stress::MEASURED, postgres::MEASURED];

fn piece(name: &str) -> &'static Piece {
    let mut all = pieces().chain(MEASURED.iter().copied().flatten());
    let found = all.find(|piece| piece.name == name);
    found.unwrap_or_else(|| panic!("no piece {name}"))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--play", name] => return stage::play(piece(name)),
        ["--kernel", name] => return side::show(piece(name), side::Side::Kernel),
        ["--user-space", name] => return side::show(piece(name), side::Side::UserSpace),
        ["--missing"] => return need::print_missing(pieces()),
        ["--measure", name, pairs] => {
            return measure::run(piece(name), pairs.parse().expect("a number of pairs"));
        }
        _ => {}
    }
    let mut options = Arguments::from_args();
    options.test_threads.get_or_insert(2);
    // While there is one thread: a user name space cannot be entered later.
    let possible = options.list || side::prepare();
    let show = options.nocapture;
    let trials = pieces()
        .map(|piece| {
            Trial::ignorable_test(piece.name, move || side::compare(piece, show))
                .with_ignored_flag(!possible)
        })
        .collect();
    libtest_mimic::run(&options, trials).exit_code()
}
