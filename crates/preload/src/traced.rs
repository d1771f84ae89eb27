//! Calls that are recorded as they are made: what `tombolo run --trace` prints.
//!
//! `msgsnd`, `msgrcv`, `semop` and `semtimedop` may sleep, and are then recorded before as well.
//!
//! **Cost.** Two looks at the clock and at the thread's count of sleeps, some 0.5 µs; what a call
//! was given by an address is copied once more. Who does not trace has no [`Traced`], and pays
//! nothing.

use shmem::foreign;
use std::ffi::c_void;
use std::time::Instant;
use sysv::abi::*;
use sysv::{Calls, Result};
use userspace::trace::{Call, DETAIL, Phase, Record, Writer};
use userspace::under_way::{self, UnderWay};

/// The calls of `C`, each of which is recorded when it is over.
#[derive(Clone, Copy, Debug)]
pub struct Traced<C> {
    calls: C,
    writer: &'static Writer,
}

/// A call that is under way.
struct Begun {
    at: Instant,
    sleeps: u64,
    detail: [u8; DETAIL],
}

/// How often this thread has gone to sleep.
fn sleeps() -> u64 {
    // SAFETY: numbers only, all of which may be zero.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: valid for writing.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    usage.ru_nvcsw.cast_unsigned()
}

/// Copies what is at an address of the caller's, if there is something.
fn copy(to: &mut [u8], address: usize) {
    if foreign::read(address, to).is_err() {
        to.fill(0);
    }
}

impl<C: Calls> Traced<C> {
    /// Records the calls of `calls`.
    pub fn new(calls: C, writer: &'static Writer) -> Self {
        Self { calls, writer }
    }

    fn begin(&self) -> Begun {
        Begun {
            at: Instant::now(),
            sleeps: sleeps(),
            detail: [0; DETAIL],
        }
    }

    /// A call that may sleep: it is known to the thread until [`end_of_sleeper`](Self::end_of_sleeper).
    fn may_sleep(&self, begun: &Begun, call: Call, arguments: [usize; 5]) -> Option<UnderWay> {
        let record = Record {
            call,
            phase: Phase::Whole,
            thread: thread(),
            waits: 0,
            nanoseconds: begun.at.elapsed().as_nanos() as u64,
            result: 0,
            arguments: arguments.map(|argument| argument as u64),
            detail: begun.detail,
        };
        under_way::begin(UnderWay {
            writer: self.writer,
            pid: process(),
            record,
        })
    }

    fn end_of_sleeper<T: Copy>(
        &self,
        (begun, interrupted): (&Begun, Option<UnderWay>),
        call: Call,
        arguments: [usize; 5],
        result: Result<T>,
        number: impl Fn(T) -> i64,
    ) -> Result<T> {
        let phase = if under_way::end(interrupted) {
            Phase::Awake
        } else {
            Phase::Whole
        };
        self.record(begun, (call, phase), arguments, result, number)
    }

    fn end<T: Copy>(
        &self,
        begun: &Begun,
        call: Call,
        arguments: [usize; 5],
        result: Result<T>,
        number: impl Fn(T) -> i64,
    ) -> Result<T> {
        self.record(begun, (call, Phase::Whole), arguments, result, number)
    }

    fn record<T: Copy>(
        &self,
        begun: &Begun,
        (call, phase): (Call, Phase),
        arguments: [usize; 5],
        result: Result<T>,
        number: impl Fn(T) -> i64,
    ) -> Result<T> {
        let record = Record {
            call,
            phase,
            thread: thread(),
            waits: (sleeps() - begun.sleeps) as u32,
            nanoseconds: begun.at.elapsed().as_nanos() as u64,
            result: match result {
                Ok(answer) => number(answer),
                Err(errno) => -i64::from(errno.raw_os_error()),
            },
            arguments: arguments.map(|argument| argument as u64),
            detail: begun.detail,
        };
        self.writer.record(process(), &record);
        result
    }
}

fn thread() -> u32 {
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    thread.cast_unsigned()
}

fn process() -> u32 {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    process.cast_unsigned()
}

/// A negative `int` as a word: its bits, as C widens them.
fn word(number: i32) -> usize {
    number as usize
}

fn nothing((): ()) -> i64 {
    0
}

// SAFETY: every call goes to `C`, which keeps to the contract; what is copied beside it is copied
// by `foreign`, which bad addresses do not hurt.
unsafe impl<C: Calls> Calls for Traced<C> {
    fn shmget(&self, key: key_t, size: usize, flags: i32) -> Result<i32> {
        let begun = self.begin();
        let result = self.calls.shmget(key, size, flags);
        let arguments = [word(key), size, word(flags), 0, 0];
        self.end(&begun, Call::Shmget, arguments, result, i64::from)
    }

    unsafe fn shmat(&self, id: i32, address: *const c_void, flags: i32) -> Result<*mut c_void> {
        let begun = self.begin();
        // SAFETY: the caller's promise.
        let result = unsafe { self.calls.shmat(id, address, flags) };
        let arguments = [word(id), address.addr(), word(flags), 0, 0];
        self.end(&begun, Call::Shmat, arguments, result, |base| {
            base.addr() as i64
        })
    }

    unsafe fn shmdt(&self, address: *const c_void) -> Result<()> {
        let begun = self.begin();
        // SAFETY: the caller's promise.
        let result = unsafe { self.calls.shmdt(address) };
        let arguments = [address.addr(), 0, 0, 0, 0];
        self.end(&begun, Call::Shmdt, arguments, result, nothing)
    }

    unsafe fn shmctl(&self, id: i32, command: i32, buf: *mut shmid_ds) -> Result<i32> {
        let begun = self.begin();
        // SAFETY: the caller's promise.
        let result = unsafe { self.calls.shmctl(id, command, buf) };
        let arguments = [word(id), word(command), buf.addr(), 0, 0];
        self.end(&begun, Call::Shmctl, arguments, result, i64::from)
    }

    fn msgget(&self, key: key_t, flags: i32) -> Result<i32> {
        let begun = self.begin();
        let result = self.calls.msgget(key, flags);
        let arguments = [word(key), word(flags), 0, 0, 0];
        self.end(&begun, Call::Msgget, arguments, result, i64::from)
    }

    unsafe fn msgsnd(
        &self,
        id: i32,
        message: *const c_void,
        size: usize,
        flags: i32,
    ) -> Result<()> {
        let mut begun = self.begin();
        // Before the call, as it was given.
        copy(&mut begun.detail[..8], message.expose_provenance());
        let arguments = [word(id), message.addr(), size, word(flags), 0];
        let interrupted = self.may_sleep(&begun, Call::Msgsnd, arguments);
        // SAFETY: the caller's promise.
        let result = unsafe { self.calls.msgsnd(id, message, size, flags) };
        let state = (&begun, interrupted);
        self.end_of_sleeper(state, Call::Msgsnd, arguments, result, nothing)
    }

    unsafe fn msgrcv(
        &self,
        id: i32,
        message: *mut c_void,
        size: usize,
        message_type: i64,
        flags: i32,
    ) -> Result<usize> {
        let mut begun = self.begin();
        let arguments = [
            word(id),
            message.addr(),
            size,
            message_type as usize,
            word(flags),
        ];
        let interrupted = self.may_sleep(&begun, Call::Msgrcv, arguments);
        // SAFETY: the caller's promise.
        let result = unsafe { self.calls.msgrcv(id, message, size, message_type, flags) };
        if result.is_ok() {
            copy(&mut begun.detail[..8], message.expose_provenance());
        }
        let state = (&begun, interrupted);
        self.end_of_sleeper(state, Call::Msgrcv, arguments, result, |length| {
            length as i64
        })
    }

    unsafe fn msgctl(&self, id: i32, command: i32, buf: *mut msqid_ds) -> Result<i32> {
        let begun = self.begin();
        // SAFETY: the caller's promise.
        let result = unsafe { self.calls.msgctl(id, command, buf) };
        let arguments = [word(id), word(command), buf.addr(), 0, 0];
        self.end(&begun, Call::Msgctl, arguments, result, i64::from)
    }

    fn semget(&self, key: key_t, count: i32, flags: i32) -> Result<i32> {
        let begun = self.begin();
        let result = self.calls.semget(key, count, flags);
        let arguments = [word(key), word(count), word(flags), 0, 0];
        self.end(&begun, Call::Semget, arguments, result, i64::from)
    }

    unsafe fn semop(&self, id: i32, operations: *const sembuf, count: usize) -> Result<()> {
        let mut begun = self.begin();
        let shown = count.min(DETAIL / size_of::<sembuf>()) * size_of::<sembuf>();
        copy(&mut begun.detail[..shown], operations.expose_provenance());
        let arguments = [word(id), operations.addr(), count, 0, 0];
        let interrupted = self.may_sleep(&begun, Call::Semop, arguments);
        // SAFETY: the caller's promise.
        let result = unsafe { self.calls.semop(id, operations, count) };
        let state = (&begun, interrupted);
        self.end_of_sleeper(state, Call::Semop, arguments, result, nothing)
    }

    unsafe fn semtimedop(
        &self,
        id: i32,
        operations: *const sembuf,
        count: usize,
        timeout: *const timespec,
    ) -> Result<()> {
        let mut begun = self.begin();
        let (time, list) = begun.detail.split_at_mut(size_of::<timespec>());
        copy(time, timeout.expose_provenance());
        let shown = count.min(list.len() / size_of::<sembuf>()) * size_of::<sembuf>();
        copy(&mut list[..shown], operations.expose_provenance());
        let arguments = [word(id), operations.addr(), count, timeout.addr(), 0];
        let interrupted = self.may_sleep(&begun, Call::Semtimedop, arguments);
        // SAFETY: the caller's promise.
        let result = unsafe { self.calls.semtimedop(id, operations, count, timeout) };
        let state = (&begun, interrupted);
        self.end_of_sleeper(state, Call::Semtimedop, arguments, result, nothing)
    }

    unsafe fn semctl(&self, id: i32, number: i32, command: i32, argument: usize) -> Result<i32> {
        let begun = self.begin();
        // SAFETY: the caller's promise.
        let result = unsafe { self.calls.semctl(id, number, command, argument) };
        let arguments = [word(id), word(number), word(command), argument, 0];
        self.end(&begun, Call::Semctl, arguments, result, i64::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sysv::Errno;
    use userspace::trace::{Found, Reader};

    #[test]
    fn calls_are_recorded_with_what_they_were_given_and_answered() {
        let path = std::env::temp_dir().join(format!("traced-{}", std::process::id()));
        let mut reader = Reader::create(&path, 0o600).unwrap();
        let writer: &'static Writer = Box::leak(Box::new(Writer::open(&path).unwrap()));
        std::fs::remove_file(&path).unwrap();
        let calls = Traced::new(sysv::Kernel, writer);
        let id = calls.semget(IPC_PRIVATE, 2, 0o600).unwrap();
        let operations = [sembuf {
            sem_num: 1,
            sem_op: -1,
            sem_flg: IPC_NOWAIT as i16,
        }];
        // SAFETY: valid for reading.
        let taken = unsafe { calls.semop(id, operations.as_ptr(), 1) };
        assert_eq!(taken, Err(Errno::AGAIN));
        // SAFETY: no address of ours.
        let bad = unsafe { calls.semop(id, std::ptr::without_provenance(8), 1) };
        assert_eq!(bad, Err(Errno::FAULT));
        // SAFETY: no address goes in.
        unsafe { calls.semctl(id, 0, IPC_RMID, 0) }.unwrap();
        let mut take = || match reader.take() {
            Some(Found::Record(record)) => record,
            other => panic!("{other:?}"),
        };
        let made = take();
        assert_eq!((made.call, made.result), (Call::Semget, id.into()));
        assert_eq!(made.arguments[..3], [0, 2, 0o600]);
        let refused = take();
        assert_eq!((refused.call, refused.result), (Call::Semop, -11));
        assert_eq!(refused.detail[..6], [1, 0, 0xff, 0xff, 0, 8]);
        assert_eq!(take().result, -14);
        assert_eq!(take().call, Call::Semctl);
    }
}
