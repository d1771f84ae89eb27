//! `--measure NAME PAIRS`: a piece on both sides, in turns.

use crate::Piece;
use crate::side::{self, Side};
use std::process::ExitCode;

pub fn run(piece: &'static Piece, pairs: usize) -> ExitCode {
    if !side::prepare() {
        return ExitCode::FAILURE;
    }
    for _ in 0..pairs {
        for side in [Side::Kernel, Side::UserSpace] {
            match side::play(piece, side) {
                Ok(played) => println!("{side:?} {:.3} s", played.took.as_secs_f64()),
                Err(failed) => {
                    eprintln!("{}", failed.message().unwrap_or("it failed"));
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    ExitCode::SUCCESS
}
