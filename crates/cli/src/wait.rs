//! Waiting for an object, as long as the command line allows.

use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use tombolo::sysv::{Errno, Result};

/// What the help of the commands that wait on a queue says.
pub const HELP: &str = "\
With --timeout it looks again and again, every 10 ms at the latest: System V has no timeout for
message queues, and to interrupt a wait from outside could lose a message that has just arrived.
So a process that waits in the kernel is served first. Without --timeout it waits in the kernel.";

/// How long to wait.
#[derive(clap::Args, Clone, Copy)]
#[group(multiple = false)]
pub struct WaitArgs {
    /// Do not wait: exit code 5 if it would have to
    #[arg(long)]
    no_wait: bool,
    /// Wait no longer than this: 5s, 500ms, 1m30s; exit code 5 when the time is up
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    Forever,
    For(Duration),
    None,
}

impl From<Patience> for tombolo::Patience {
    fn from(patience: Patience) -> Self {
        match patience {
            Patience::Forever => Self::FOREVER,
            Patience::For(time) => time.into(),
            Patience::None => Self::none(),
        }
    }
}

impl WaitArgs {
    /// The same as one value.
    pub fn patience(self) -> Patience {
        match (self.no_wait, self.timeout) {
            (true, _) => Patience::None,
            (false, Some(time)) => Patience::For(time),
            (false, None) => Patience::Forever,
        }
    }
}

/// Reads a time: with units, or in seconds.
pub fn parse_time(text: &str) -> std::result::Result<Duration, String> {
    let expected = || format!("`{text}` is no time; expected one such as 5s, 500ms or 1m30s");
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| expected());
    }
    let time = SignedDuration::from_str(text).map_err(|_| expected())?;
    Duration::try_from(time).map_err(|_| expected())
}

/// Tries what does not wait until it succeeds, fails for good, or `time` is up: then the last
/// answer is `would_wait`. Tries at least once, and once more when the time is up.
pub fn retry<T>(
    time: Duration,
    would_wait: Errno,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    const LONGEST: Duration = Duration::from_millis(10);
    let start = Instant::now();
    let mut slice = Duration::from_micros(100);
    loop {
        match attempt() {
            Err(errno) if errno == would_wait => {}
            answer => return answer,
        }
        let left = time.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(would_wait);
        }
        thread::sleep(slice.min(left));
        slice = (slice * 2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read() {
        assert_eq!(parse_time("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_time("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_time("0.25"), Ok(Duration::from_millis(250)));
        for text in ["", "5 parsecs", "-1s", "-1", "nan", "inf"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn retries_until_it_succeeds_fails_or_time_is_up() {
        let mut left = 3;
        let succeeds = retry(Duration::from_secs(60), Errno::NOMSG, || {
            left -= 1;
            if left == 0 {
                Ok("done")
            } else {
                Err(Errno::NOMSG)
            }
        });
        assert_eq!(succeeds, Ok("done"));
        let fails = retry::<()>(Duration::from_secs(60), Errno::NOMSG, || Err(Errno::IDRM));
        assert_eq!(fails, Err(Errno::IDRM));
        let start = Instant::now();
        let time = Duration::from_millis(20);
        let mut tries = 0;
        let never = retry::<()>(time, Errno::NOMSG, || {
            tries += 1;
            Err(Errno::NOMSG)
        });
        assert_eq!(never, Err(Errno::NOMSG));
        assert!(start.elapsed() >= time && tries > 1);
    }
}
