//! What the calls of a run come to: how often, how long, how much, what went wrong.

use std::collections::BTreeMap;
use std::io::{self, Write};

use userspace::trace::{Call, Record};

use crate::value::size;

/// Sums over records, by call.
#[derive(Default)]
pub struct Summary(BTreeMap<Call, Sum>);

#[derive(Default)]
struct Sum {
    calls: u64,
    errors: u64,
    waits: u64,
    bytes: u64,
    nanoseconds: u64,
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.waits += other.waits;
        self.bytes += other.bytes;
        self.nanoseconds += other.nanoseconds;
    }
}

impl Summary {
    /// Counts a call.
    pub fn add(&mut self, record: &Record) {
        let failed = (-4095..0).contains(&record.result);
        let bytes = match record.call {
            _ if failed => 0,
            Call::Msgsnd => record.arguments[2],
            Call::Msgrcv => record.result.cast_unsigned(),
            _ => 0,
        };
        self.0.entry(record.call).or_default().add(&Sum {
            calls: 1,
            errors: failed.into(),
            waits: u64::from(record.waits > 0),
            bytes,
            nanoseconds: record.nanoseconds,
        });
    }

    /// Writes a table, the calls that took most time first.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut total = Sum::default();
        let mut rows: Vec<(&str, &Sum)> = Vec::new();
        for (call, sum) in &self.0 {
            total.add(sum);
            rows.push((call.name(), sum));
        }
        rows.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.nanoseconds));
        rows.push(("total", &total));
        writeln!(
            out,
            "{:10} {:>10} {:>12} {:>10} {:>10} {:>8} {:>10}",
            "CALL", "CALLS", "SECONDS", "µS/CALL", "WAITS", "ERRORS", "BYTES"
        )?;
        for (name, sum) in rows {
            let each = sum.nanoseconds as f64 / 1000.0 / sum.calls.max(1) as f64;
            writeln!(
                out,
                "{name:10} {:>10} {:>12.6} {each:>10.3} {:>10} {:>8} {:>10}",
                sum.calls,
                sum.nanoseconds as f64 / 1e9,
                sum.waits,
                sum.errors,
                size(sum.bytes),
            )?;
        }
        Ok(())
    }
}
