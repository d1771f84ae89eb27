//! `--measure NAME PAIRS`: a piece on both sides, in turns.

use crate::Piece;
use crate::side::{self, Played, Side};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// The first word of a line that tells a rate; its name and the number follow.
pub const RATE: &str = "rate:";

pub fn run(piece: &'static Piece, pairs: usize) -> ExitCode {
    if !side::prepare() {
        return ExitCode::FAILURE;
    }
    // Of each rate the pairs, the kernel's first.
    let mut all: BTreeMap<String, Vec<[f64; 2]>> = BTreeMap::new();
    for _ in 0..pairs {
        let mut pair: BTreeMap<String, [f64; 2]> = BTreeMap::new();
        for (at, side) in [Side::Kernel, Side::UserSpace].into_iter().enumerate() {
            let played = match side::play(piece, side) {
                Ok(played) => played,
                Err(failed) => {
                    eprintln!("{}", failed.message().unwrap_or("it failed"));
                    return ExitCode::FAILURE;
                }
            };
            println!("{side:?} {:.3} s", played.took.as_secs_f64());
            for (name, rate) in rates(&played) {
                println!("  {name} {rate:.1} /s");
                pair.entry(name).or_default()[at] = rate;
            }
        }
        for (name, rates) in pair {
            all.entry(name).or_default().push(rates);
        }
    }
    for (name, pairs) in all {
        let median = |of: &dyn Fn(&[f64; 2]) -> f64| {
            let mut all: Vec<f64> = pairs.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        println!(
            "{name}: medians of {}: kernel {:.1} /s, user space {:.1} /s, {:.2} times",
            pairs.len(),
            median(&|pair| pair[0]),
            median(&|pair| pair[1]),
            median(&|pair| pair[1] / pair[0]),
        );
    }
    ExitCode::SUCCESS
}

fn rates(played: &Played) -> Vec<(String, f64)> {
    let lines = played.told.lines().filter_map(|line| {
        let (name, rate) = line.strip_prefix(RATE)?.trim().rsplit_once(' ')?;
        Some((name.to_owned(), rate.parse().ok()?))
    });
    lines.collect()
}
