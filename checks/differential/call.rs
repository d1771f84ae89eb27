//! A call as numbers, so that it can be sent to another process, and its answer.

use std::ffi::c_void;
use std::ptr;
use sysv::abi::*;
use sysv::{Calls, Errno, Result};

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum What {
    Shmget,
    Shmat,
    Shmdt,
    Shmctl,
    ShmSet,
    Msgget,
    Msgsnd,
    Msgrcv,
    Msgctl,
    MsgSet,
    Semget,
    Semop,
    Semctl,
    SemSetAll,
    SemSet,
}

const ALL: [What; 15] = [
    What::Shmget,
    What::Shmat,
    What::Shmdt,
    What::Shmctl,
    What::ShmSet,
    What::Msgget,
    What::Msgsnd,
    What::Msgrcv,
    What::Msgctl,
    What::MsgSet,
    What::Semget,
    What::Semop,
    What::Semctl,
    What::SemSetAll,
    What::SemSet,
];

/// A call: what, and its numbers.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub what: What,
    pub numbers: [i64; 5],
}

/// What a call answers: a value or minus the errno, and what else it has given.
pub type Answer = [i64; 3];

pub const WORDS: usize = 6;

impl Call {
    pub fn words(&self) -> [i64; WORDS] {
        let [a, b, c, d, e] = self.numbers;
        [self.what as i64, a, b, c, d, e]
    }

    pub fn from_words([what, a, b, c, d, e]: [i64; WORDS]) -> Self {
        Self {
            what: ALL[what as usize],
            numbers: [a, b, c, d, e],
        }
    }
}

/// Three operations in one number: semaphore, amount, flags; an amount of 99 ends the list.
pub fn operations(packed: [i64; 3]) -> Vec<sembuf> {
    let unpack = |word: i64| sembuf {
        sem_num: word as u16,
        sem_op: (word >> 16) as i16,
        sem_flg: (word >> 32) as i16,
    };
    packed
        .into_iter()
        .filter(|word| *word != END)
        .map(unpack)
        .collect()
}

/// No operation.
pub const END: i64 = -1;

pub fn pack(number: u16, amount: i16, flags: i16) -> i64 {
    i64::from(number) | i64::from(amount as u16) << 16 | i64::from(flags as u16) << 32
}

fn perm(mode: i64, uid: i64) -> ipc_perm {
    ipc_perm {
        uid: uid as u32,
        gid: uid as u32,
        mode: mode as u32,
        ..ipc_perm::default()
    }
}

/// One side of a process: who answers its calls, and what it has attached.
pub struct Side<'c> {
    pub calls: &'c dyn Calls,
    pub attaches: Vec<*mut c_void>,
}

impl Side<'_> {
    /// Makes a call.
    pub fn make(&mut self, call: Call) -> Answer {
        let mut more = [0; 2];
        let value = match self.call(call, &mut more) {
            Ok(value) => value,
            Err(error) => -i64::from(error.raw_os_error()),
        };
        [value, more[0], more[1]]
    }

    fn call(&mut self, call: Call, more: &mut [i64; 2]) -> Result<i64> {
        let [a, b, c, d, e] = call.numbers;
        let id = a as i32;
        let calls = self.calls;
        Ok(match call.what {
            What::Shmget => calls.shmget(id, b as usize, c as i32)?.into(),
            What::Shmat => {
                // SAFETY: no address, so nothing is replaced.
                let base = unsafe { calls.shmat(id, ptr::null(), b as i32) }?;
                self.attaches.push(base);
                let byte = base.cast::<u8>();
                if b as i32 & SHM_RDONLY == 0 {
                    // SAFETY: the attach is this side's own, and writable.
                    unsafe { byte.write_volatile(c as u8) };
                }
                // SAFETY: as above.
                more[0] = unsafe { byte.read_volatile() }.into();
                0
            }
            What::Shmdt => {
                let place = a as usize;
                if place >= self.attaches.len() {
                    return Err(Errno::INVAL);
                }
                // SAFETY: nothing in the attach is used again.
                unsafe { calls.shmdt(self.attaches.remove(place)) }?;
                0
            }
            // SAFETY: commands that take no buffer.
            What::Shmctl => unsafe { calls.shmctl(id, b as i32, ptr::null_mut()) }?.into(),
            What::ShmSet => {
                let mut status = shmid_ds {
                    shm_perm: perm(b, c),
                    ..shmid_ds::default()
                };
                // SAFETY: a status to read.
                unsafe { calls.shmctl(id, IPC_SET, &raw mut status) }?.into()
            }
            What::Msgget => calls.msgget(id, b as i32)?.into(),
            What::Msgsnd => {
                let mut message = b.to_ne_bytes().to_vec();
                message.extend((0..c).map(|i| (i + d) as u8));
                // SAFETY: a type and as many bytes.
                unsafe { calls.msgsnd(id, message.as_ptr().cast(), c as usize, e as i32) }?;
                0
            }
            What::Msgrcv => {
                let mut message = vec![0u8; 8 + b as usize];
                let to = message.as_mut_ptr().cast();
                // SAFETY: room for a type and as many bytes.
                let length = unsafe { calls.msgrcv(id, to, b as usize, c, d as i32) }?;
                more[0] = i64::from_ne_bytes(message[..8].try_into().expect("eight bytes"));
                let text = &message[8..8 + length];
                more[1] = shmem::layout::fnv(shmem::layout::FNV_START, text) as i64;
                length as i64
            }
            // SAFETY: commands that take no buffer.
            What::Msgctl => unsafe { calls.msgctl(id, b as i32, ptr::null_mut()) }?.into(),
            What::MsgSet => {
                let mut status = msqid_ds {
                    msg_perm: perm(b, c),
                    msg_qbytes: d as u64,
                    ..msqid_ds::default()
                };
                // SAFETY: a status to read.
                unsafe { calls.msgctl(id, IPC_SET, &raw mut status) }?.into()
            }
            What::Semget => calls.semget(id, b as i32, c as i32)?.into(),
            What::Semop => {
                let list = operations([b, c, d]);
                // SAFETY: a slice is valid for reading its elements.
                unsafe { calls.semop(id, list.as_ptr(), list.len()) }?;
                0
            }
            // SAFETY: commands that take a number or nothing.
            What::Semctl => unsafe { calls.semctl(id, b as i32, c as i32, d as usize) }?.into(),
            What::SemSetAll => {
                let values: Vec<u16> = (0..64).map(|i| ((b + i * c) % d) as u16).collect();
                let at = values.as_ptr() as usize;
                // SAFETY: as many values as any set here has semaphores, and more.
                unsafe { calls.semctl(id, 0, SETALL, at) }?.into()
            }
            What::SemSet => {
                let mut status = semid_ds {
                    sem_perm: perm(b, c),
                    ..semid_ds::default()
                };
                let at = (&raw mut status).expose_provenance();
                // SAFETY: a status to read.
                unsafe { calls.semctl(id, 0, IPC_SET, at) }?.into()
            }
        })
    }
}
