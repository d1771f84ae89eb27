//! A call as `strace` writes it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use nix::errno::Errno;
use tombolo::sysv::abi::*;
use userspace::trace::{Call, DETAIL, Phase, Record};

/// `12345 msgsnd(3, {type=1, 64 bytes}, 64, IPC_NOWAIT) = 0 <0.000001>`
pub fn line(record: &Record) -> String {
    let mut text = format!("{} {}(", record.thread, record.call.name());
    arguments(&mut text, record);
    outcome(&mut text, record);
    text
}

/// `12345 msgrcv(3, 0x7ffc0a10, 64, 0, 0 <unfinished ...>`: it sleeps.
pub fn unfinished(record: &Record) -> String {
    let mut text = format!("{} {}(", record.thread, record.call.name());
    arguments(&mut text, record);
    text.push_str(" <unfinished ...>");
    text
}

/// `12345 <... msgrcv resumed> {type=1, 64 bytes}) = 64 <0.250000>`: what was not known before.
pub fn resumed(record: &Record) -> String {
    let mut text = format!("{} <... {} resumed>", record.thread, record.call.name());
    if let (Call::Msgrcv, Ok(length)) = (record.call, u64::try_from(record.result)) {
        text.push(' ');
        text.push_str(&message(record, length));
    }
    outcome(&mut text, record);
    text
}

fn outcome(text: &mut String, record: &Record) {
    let seconds = record.nanoseconds / 1_000_000_000;
    let micros = record.nanoseconds / 1000 % 1_000_000;
    let result = result(record);
    // Writing to a string cannot fail.
    let _ = write!(text, ") = {result} <{seconds}.{micros:06}>");
}

fn result(record: &Record) -> String {
    match record.result {
        error @ -4095..0 => {
            let number = i32::try_from(-error).unwrap_or_default();
            format!("-1 {:?} ({})", Errno::from_raw(number), words(number))
        }
        address if record.call == Call::Shmat => format!("{address:#x}"),
        number => number.to_string(),
    }
}

/// What the C library says of an error.
fn words(number: i32) -> String {
    let text = io::Error::from_raw_os_error(number).to_string();
    match text.rfind(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn arguments(text: &mut String, record: &Record) {
    let [a, b, c, d, e] = record.arguments;
    let id = int(a);
    let list = match record.call {
        Call::Shmget => format!("{}, {b}, {}", key(a), get_flags(int(c))),
        Call::Shmat => format!("{id}, {}, {}", address(b), flags(int(c), &AT_FLAGS)),
        Call::Shmdt => address(a).into_owned(),
        Call::Shmctl | Call::Msgctl => {
            format!("{id}, {}, {}", command(record.call, int(b)), address(c))
        }
        Call::Msgget => format!("{}, {}", key(a), get_flags(int(b))),
        Call::Msgsnd => {
            let message = message(record, c);
            format!("{id}, {message}, {c}, {}", flags(int(d), &MSG_FLAGS))
        }
        Call::Msgrcv => {
            let message = match u64::try_from(record.result) {
                Ok(length) if record.phase != Phase::Asleep => message(record, length),
                _ => address(b).into_owned(),
            };
            let wanted = d.cast_signed();
            format!(
                "{id}, {message}, {c}, {wanted}, {}",
                flags(int(e), &MSG_FLAGS)
            )
        }
        Call::Semget => format!("{}, {}, {}", key(a), int(b), get_flags(int(c))),
        Call::Semop => {
            let operations = operations(&record.detail, b, c);
            format!("{id}, {operations}, {c}")
        }
        Call::Semtimedop => {
            let (time, list) = record.detail.split_at(16);
            let operations = operations(list, b, c);
            let time = if d == 0 {
                Cow::from("NULL")
            } else {
                timeout(time).into()
            };
            format!("{id}, {operations}, {c}, {time}")
        }
        Call::Semctl => {
            let asked = int(c);
            let last = match asked {
                SETVAL => format!(", {}", int(d)),
                GETVAL | GETPID | GETNCNT | GETZCNT | IPC_RMID => String::new(),
                _ => format!(", {}", address(d)),
            };
            format!("{id}, {}, {}{last}", int(b), command(Call::Semctl, asked))
        }
    };
    text.push_str(&list);
}

/// An `int` that was widened.
fn int(word: u64) -> i32 {
    word as i32
}

fn key(word: u64) -> String {
    match int(word) {
        IPC_PRIVATE => "IPC_PRIVATE".to_owned(),
        key => format!("{key:#x}"),
    }
}

fn address(word: u64) -> Cow<'static, str> {
    match word {
        0 => "NULL".into(),
        address => format!("{address:#x}").into(),
    }
}

type Names = [(i32, &'static str)];

const GET_FLAGS: [(i32, &str); 4] = [
    (IPC_CREAT, "IPC_CREAT"),
    (IPC_EXCL, "IPC_EXCL"),
    (SHM_HUGETLB, "SHM_HUGETLB"),
    (SHM_NORESERVE, "SHM_NORESERVE"),
];
const AT_FLAGS: [(i32, &str); 4] = [
    (SHM_RDONLY, "SHM_RDONLY"),
    (SHM_RND, "SHM_RND"),
    (SHM_REMAP, "SHM_REMAP"),
    (SHM_EXEC, "SHM_EXEC"),
];
const MSG_FLAGS: [(i32, &str); 4] = [
    (IPC_NOWAIT, "IPC_NOWAIT"),
    (MSG_NOERROR, "MSG_NOERROR"),
    (MSG_EXCEPT, "MSG_EXCEPT"),
    (MSG_COPY, "MSG_COPY"),
];
const SEM_FLAGS: [(i32, &str); 2] = [(IPC_NOWAIT, "IPC_NOWAIT"), (SEM_UNDO as i32, "SEM_UNDO")];

/// The names of the bits that are set, and what is left as a number.
fn names(bits: i32, known: &Names) -> (Vec<Cow<'static, str>>, i32) {
    let mut rest = bits;
    let mut all = Vec::new();
    for (bit, name) in known {
        if rest & bit != 0 {
            all.push(Cow::from(*name));
            rest &= !bit;
        }
    }
    (all, rest)
}

fn flags(bits: i32, known: &Names) -> String {
    let (mut all, rest) = names(bits, known);
    if rest != 0 || all.is_empty() {
        let rest = if rest == 0 {
            "0".to_owned()
        } else {
            format!("{rest:#x}")
        };
        all.push(rest.into());
    }
    all.join("|")
}

/// Flags, and the permissions in octal.
fn get_flags(bits: i32) -> String {
    let (mut all, rest) = names(bits, &GET_FLAGS);
    let mode = rest & 0o777;
    if rest & !0o777 != 0 {
        all.push(format!("{:#x}", rest & !0o777).into());
    }
    if mode != 0 || all.is_empty() {
        all.push(if mode == 0 {
            "0".into()
        } else {
            format!("0{mode:o}").into()
        });
    }
    all.join("|")
}

fn message(record: &Record, length: u64) -> String {
    let kind = record
        .detail
        .first_chunk()
        .map_or(0, |bytes| i64::from_le_bytes(*bytes));
    format!("{{type={kind}, {length} bytes}}")
}

fn timeout(bytes: &[u8]) -> String {
    let number = |at: usize| {
        let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| i64::from_le_bytes(*bytes))
    };
    format!("{{tv_sec={}, tv_nsec={}}}", number(0), number(8))
}

/// `[{0, -1, SEM_UNDO}, {1, 0, 0}]`, with `...` for those of which no copy was made.
fn operations(bytes: &[u8], at: u64, count: u64) -> String {
    if at == 0 {
        return "NULL".to_owned();
    }
    let most = bytes.len().min(DETAIL) / 6;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut all: Vec<String> = bytes
        .chunks_exact(6)
        .take(count)
        .map(|operation| {
            let half = |at: usize| i16::from_le_bytes([operation[at], operation[at + 1]]);
            let flags = flags(half(4).into(), &SEM_FLAGS);
            format!("{{{}, {}, {flags}}}", half(0).cast_unsigned(), half(2))
        })
        .collect();
    if count > most {
        all.push("...".to_owned());
    }
    format!("[{}]", all.join(", "))
}

fn command(call: Call, number: i32) -> Cow<'static, str> {
    let common = [
        (IPC_RMID, "IPC_RMID"),
        (IPC_SET, "IPC_SET"),
        (IPC_STAT, "IPC_STAT"),
        (IPC_INFO, "IPC_INFO"),
    ];
    let own: &Names = match call {
        Call::Shmctl => &[
            (SHM_LOCK, "SHM_LOCK"),
            (SHM_UNLOCK, "SHM_UNLOCK"),
            (SHM_STAT, "SHM_STAT"),
            (SHM_INFO, "SHM_INFO"),
            (SHM_STAT_ANY, "SHM_STAT_ANY"),
        ],
        Call::Msgctl => &[
            (MSG_STAT, "MSG_STAT"),
            (MSG_INFO, "MSG_INFO"),
            (MSG_STAT_ANY, "MSG_STAT_ANY"),
        ],
        _ => &[
            (GETPID, "GETPID"),
            (GETVAL, "GETVAL"),
            (GETALL, "GETALL"),
            (GETNCNT, "GETNCNT"),
            (GETZCNT, "GETZCNT"),
            (SETVAL, "SETVAL"),
            (SETALL, "SETALL"),
            (SEM_STAT, "SEM_STAT"),
            (SEM_INFO, "SEM_INFO"),
            (SEM_STAT_ANY, "SEM_STAT_ANY"),
        ],
    };
    let known = common.iter().chain(own).find(|(known, _)| *known == number);
    known.map_or_else(|| number.to_string().into(), |(_, name)| Cow::from(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(call: Call, arguments: [i64; 5], result: i64, detail: &[u8]) -> Record {
        let mut all = [0; DETAIL];
        all[..detail.len()].copy_from_slice(detail);
        Record {
            call,
            phase: Phase::Whole,
            thread: 12345,
            waits: 0,
            nanoseconds: 1_250,
            result,
            arguments: arguments.map(|argument| argument as u64),
            detail: all,
        }
    }

    #[test]
    fn lines_are_those_of_strace() {
        let one = 1u64.to_le_bytes();
        let nowait = i64::from(IPC_NOWAIT);
        let taken = [0, 0, 0xff, 0xff, 0, 0x10, 1, 0, 2, 0, 0, 0];
        let mut timed = [3u64.to_le_bytes(), 5u64.to_le_bytes()].concat();
        timed.extend(&taken[..6]);
        for (record, expected) in [
            (
                record(Call::Msgsnd, [3, 0x1000, 64, nowait, 0], 0, &one),
                "msgsnd(3, {type=1, 64 bytes}, 64, IPC_NOWAIT) = 0",
            ),
            (
                record(Call::Msgsnd, [3, 0x1000, 64, nowait, 0], -11, &one),
                "msgsnd(3, {type=1, 64 bytes}, 64, IPC_NOWAIT) = -1 EAGAIN (Resource temporarily unavailable)",
            ),
            (
                record(Call::Msgrcv, [3, 0x1000, 100, -2, 0], 64, &one),
                "msgrcv(3, {type=1, 64 bytes}, 100, -2, 0) = 64",
            ),
            (
                record(Call::Msgrcv, [3, 0x1000, 100, 2, nowait], -42, &[]),
                "msgrcv(3, 0x1000, 100, 2, IPC_NOWAIT) = -1 ENOMSG (No message of desired type)",
            ),
            (
                record(Call::Shmget, [0x4d2, 4096, 0o1600, 0, 0], 5, &[]),
                "shmget(0x4d2, 4096, IPC_CREAT|0600) = 5",
            ),
            (
                record(Call::Shmget, [0, 1, 0, 0, 0], 5, &[]),
                "shmget(IPC_PRIVATE, 1, 0) = 5",
            ),
            (
                record(Call::Shmat, [5, 0, 0o10000, 0, 0], 0x7f00_0000_1000, &[]),
                "shmat(5, NULL, SHM_RDONLY) = 0x7f0000001000",
            ),
            (
                record(Call::Shmctl, [5, IPC_RMID.into(), 0, 0, 0], 0, &[]),
                "shmctl(5, IPC_RMID, NULL) = 0",
            ),
            (
                record(Call::Semop, [7, 0x1000, 2, 0, 0], 0, &taken),
                "semop(7, [{0, -1, SEM_UNDO}, {1, 2, 0}], 2) = 0",
            ),
            (
                record(Call::Semtimedop, [7, 0x1000, 1, 0x2000, 0], -11, &timed),
                "semtimedop(7, [{0, -1, SEM_UNDO}], 1, {tv_sec=3, tv_nsec=5}) = -1 EAGAIN (Resource temporarily unavailable)",
            ),
            (
                record(Call::Semctl, [7, 1, SETVAL.into(), 4, 0], 0, &[]),
                "semctl(7, 1, SETVAL, 4) = 0",
            ),
            (
                record(Call::Semctl, [7, 1, 99, 0, 0], -22, &[]),
                "semctl(7, 1, 99, NULL) = -1 EINVAL (Invalid argument)",
            ),
        ] {
            assert_eq!(line(&record), format!("12345 {expected} <0.000001>"));
        }
    }

    #[test]
    fn a_call_that_sleeps_is_two_lines() {
        let one = 1u64.to_le_bytes();
        let mut asleep = record(Call::Msgrcv, [3, 0x1000, 100, -2, 0], 0, &[]);
        asleep.phase = Phase::Asleep;
        let begun = "12345 msgrcv(3, 0x1000, 100, -2, 0 <unfinished ...>";
        assert_eq!(unfinished(&asleep), begun);
        for (result, detail, expected) in [
            (64, &one[..], " {type=1, 64 bytes}) = 64"),
            (-43, &[], ") = -1 EIDRM (Identifier removed)"),
        ] {
            let mut awake = record(Call::Msgrcv, [3, 0x1000, 100, -2, 0], result, detail);
            awake.phase = Phase::Awake;
            let expected = format!("12345 <... msgrcv resumed>{expected} <0.000001>");
            assert_eq!(resumed(&awake), expected);
        }
        let taken = record(Call::Semop, [7, 0x1000, 1, 0, 0], 0, &[0; 6]);
        let begun = "12345 semop(7, [{0, 0, 0}], 1 <unfinished ...>";
        assert_eq!(unfinished(&taken), begun);
        assert_eq!(resumed(&taken), "12345 <... semop resumed>) = 0 <0.000001>");
    }

    #[test]
    fn many_operations_are_cut() {
        let text = operations(&[0; DETAIL], 1, 100);
        assert!(text.ends_with("{0, 0, 0}, ...]"), "{text}");
        assert_eq!(operations(&[0; DETAIL], 0, 1), "NULL");
    }
}
