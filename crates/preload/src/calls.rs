//! The twelve calls. The order of their checks is the kernel's, as far as a caller can see it.

use crate::Credentials;
use shmem::{Bytes, arena, foreign, solid};
use std::ffi::c_void;
use sysv::abi::*;
use sysv::{Calls, Errno, Result};
use userspace::{Question, Space, Whose};

/// The calls on the objects of a name space.
#[derive(Clone, Copy, Debug)]
pub struct InSpace<'s>(pub &'s Space);

/// Structures of plain numbers, without padding, every bit pattern of which is valid.
///
/// # Safety
/// It is so.
unsafe trait Plain: Copy + Default {}
// SAFETY: numbers only, padded by named fields.
unsafe impl Plain for shmid_ds {}
// SAFETY: as above.
unsafe impl Plain for shminfo {}
// SAFETY: as above.
unsafe impl Plain for shm_info {}
// SAFETY: as above.
unsafe impl Plain for msqid_ds {}
// SAFETY: as above.
unsafe impl Plain for msginfo {}
// SAFETY: as above.
unsafe impl Plain for semid_ds {}
// SAFETY: as above.
unsafe impl Plain for seminfo {}
// SAFETY: as above.
unsafe impl Plain for sembuf {}
// SAFETY: as above.
unsafe impl Plain for timespec {}
// SAFETY: a number.
unsafe impl Plain for i64 {}
// SAFETY: a number.
unsafe impl Plain for u16 {}

/// Copies structures from an address of the caller's.
fn take_all<T: Plain>(address: usize, to: &mut [T]) -> Result<()> {
    let (start, length) = (to.as_mut_ptr().cast::<u8>(), size_of_val(to));
    // SAFETY: the slice's own bytes, any of which may hold anything.
    let bytes = unsafe { std::slice::from_raw_parts_mut(start, length) };
    foreign::read(address, bytes)
}

fn take<T: Plain>(address: usize) -> Result<T> {
    let mut value = [T::default()];
    take_all(address, &mut value)?;
    Ok(value[0])
}

/// Copies structures to an address of the caller's.
///
/// # Safety
/// The address is valid for writing them, or no memory of the process's.
unsafe fn put_all<T: Plain>(address: usize, from: &[T]) -> Result<()> {
    let (start, length) = (from.as_ptr().cast::<u8>(), size_of_val(from));
    // SAFETY: the slice's own bytes, all of which are initialised.
    let bytes = unsafe { std::slice::from_raw_parts(start, length) };
    // SAFETY: the caller's promise.
    unsafe { foreign::write(address, bytes) }
}

/// Copies a status to an address of the caller's, and answers a number that goes with it.
///
/// # Safety
/// As for [`put_all`].
unsafe fn put<T: Plain>(address: usize, (answer, value): (i32, T)) -> Result<i32> {
    // SAFETY: the caller's promise.
    unsafe { put_all(address, &[value]) }.map(|()| answer)
}

// SAFETY: the tables behind it are what docs/semantics.md describes, on the arena's pages.
unsafe impl Calls for InSpace<'_> {
    fn shmget(&self, key: key_t, size: usize, flags: i32) -> Result<i32> {
        self.0.shmget(&Credentials, key, size, flags)
    }

    unsafe fn shmat(&self, id: i32, address: *const c_void, flags: i32) -> Result<*mut c_void> {
        let arena = self.0.arena();
        let mut remap = |offset, length, address, access| {
            // SAFETY: called with SHM_REMAP alone, which is the caller's promise.
            unsafe { arena.attach_over(offset, length, address, access) }
        };
        let address = address.expose_provenance();
        let base = self.0.shmat(&Credentials, id, address, flags, &mut remap)?;
        Ok(std::ptr::with_exposed_provenance_mut(base))
    }

    unsafe fn shmdt(&self, address: *const c_void) -> Result<()> {
        let mut unmap = |start, length| {
            // SAFETY: part of the attach that the caller gives up.
            unsafe { arena::detach(start, length) }
        };
        self.0.shmdt(address.addr(), &mut unmap)
    }

    unsafe fn shmctl(&self, id: i32, command: i32, buf: *mut shmid_ds) -> Result<i32> {
        if id < 0 {
            return Err(Errno::INVAL);
        }
        let (space, to) = (self.0, buf.expose_provenance());
        match command {
            IPC_STAT => {
                let status = space.shm_status(&Credentials, Whose::Id(id))?.1;
                // SAFETY: the caller's promise.
                unsafe { put(to, (0, status)) }
            }
            // SAFETY: the caller's promise, here and in the next three.
            SHM_STAT => unsafe { put(to, space.shm_status(&Credentials, Whose::Index(id))?) },
            // SAFETY: as above.
            SHM_STAT_ANY => unsafe { put(to, space.shm_status(&Credentials, Whose::Any(id))?) },
            // SAFETY: as above.
            IPC_INFO => unsafe { put(to, space.shm_limits()?) },
            // SAFETY: as above.
            SHM_INFO => unsafe { put(to, space.shm_usage()?) },
            IPC_SET => space.shm_set(&Credentials, id, &take(to)?).map(|()| 0),
            IPC_RMID => space.shm_remove(&Credentials, id).map(|()| 0),
            SHM_LOCK | SHM_UNLOCK => {
                let lock = command == SHM_LOCK;
                space.shm_lock(&Credentials, id, lock).map(|()| 0)
            }
            _ => Err(Errno::INVAL),
        }
    }

    fn msgget(&self, key: key_t, flags: i32) -> Result<i32> {
        self.0.msgget(&Credentials, key, flags)
    }

    unsafe fn msgsnd(
        &self,
        id: i32,
        message: *const c_void,
        size: usize,
        flags: i32,
    ) -> Result<()> {
        let address = message.expose_provenance();
        let message_type = take::<i64>(address)?;
        self.0.check_message(id, message_type, size)?;
        let text = address.wrapping_add(size_of::<i64>());
        let send = |text: &[u8]| self.0.msgsnd(&Credentials, id, message_type, text, flags);
        if solid::can_read(text, size) {
            let text = std::ptr::with_exposed_provenance(text);
            // SAFETY: it can be read, as just checked, and is the caller's; that no thread of his
            // writes what he sends while he sends it is his to see to.
            return send(unsafe { std::slice::from_raw_parts(text, size) });
        }
        // Most texts are short.
        let mut short = [0u8; 1024];
        if let Some(copy) = short.get_mut(..size) {
            foreign::read(text, copy)?;
            return send(copy);
        }
        let mut copy = Vec::new();
        copy.try_reserve_exact(size).map_err(|_| Errno::NOMEM)?;
        copy.resize(size, 0u8);
        foreign::read(text, &mut copy)?;
        send(&copy)
    }

    unsafe fn msgrcv(
        &self,
        id: i32,
        message: *mut c_void,
        size: usize,
        message_type: i64,
        flags: i32,
    ) -> Result<usize> {
        let address = message.expose_provenance();
        let text = address.wrapping_add(size_of::<i64>());
        let (mut length, mut copy) = (0, Vec::new());
        let mut deliver = |bytes: Bytes| {
            length = bytes.len();
            if solid::can_write(text, length) {
                let text = std::ptr::with_exposed_provenance_mut(text);
                // SAFETY: it can be written, as just checked, and is the caller's to have written
                // by this call.
                let text = unsafe { std::slice::from_raw_parts_mut(text, length) };
                // As long as the bytes, so that it can't fail.
                let _ = bytes.copy_out(0, text);
            } else {
                bytes.append_to(&mut copy);
            }
        };
        let space = self.0;
        let number = space.msgrcv(&Credentials, id, size, message_type, flags, &mut deliver)?;
        // SAFETY: the caller's promise.
        unsafe { put_all(address, &[number]) }?;
        if !copy.is_empty() {
            // SAFETY: as above.
            unsafe { foreign::write(text, &copy) }?;
        }
        Ok(length)
    }

    unsafe fn msgctl(&self, id: i32, command: i32, buf: *mut msqid_ds) -> Result<i32> {
        if id < 0 {
            return Err(Errno::INVAL);
        }
        let (space, to) = (self.0, buf.expose_provenance());
        match command {
            IPC_STAT => {
                let status = space.msg_status(&Credentials, Whose::Id(id))?.1;
                // SAFETY: the caller's promise.
                unsafe { put(to, (0, status)) }
            }
            // SAFETY: the caller's promise, here and in the next three.
            MSG_STAT => unsafe { put(to, space.msg_status(&Credentials, Whose::Index(id))?) },
            // SAFETY: as above.
            MSG_STAT_ANY => unsafe { put(to, space.msg_status(&Credentials, Whose::Any(id))?) },
            // SAFETY: as above.
            IPC_INFO => unsafe { put(to, space.msg_limits()?) },
            // SAFETY: as above.
            MSG_INFO => unsafe { put(to, space.msg_usage()?) },
            IPC_SET => space.msg_set(&Credentials, id, &take(to)?).map(|()| 0),
            IPC_RMID => space.msg_remove(&Credentials, id).map(|()| 0),
            _ => Err(Errno::INVAL),
        }
    }

    fn semget(&self, key: key_t, count: i32, flags: i32) -> Result<i32> {
        self.0.semget(&Credentials, key, count, flags)
    }

    unsafe fn semop(&self, id: i32, operations: *const sembuf, count: usize) -> Result<()> {
        self.operate(id, operations, count, None)
    }

    unsafe fn semtimedop(
        &self,
        id: i32,
        operations: *const sembuf,
        count: usize,
        timeout: *const timespec,
    ) -> Result<()> {
        let timeout = match timeout.expose_provenance() {
            0 => None,
            address => Some(take(address)?),
        };
        self.operate(id, operations, count, timeout)
    }

    unsafe fn semctl(&self, id: i32, number: i32, command: i32, argument: usize) -> Result<i32> {
        if id < 0 {
            return Err(Errno::INVAL);
        }
        let space = self.0;
        let ask = |question| space.sem_ask(&Credentials, id, number, question);
        match command {
            IPC_STAT => {
                let status = space.sem_status(&Credentials, Whose::Id(id))?.1;
                // SAFETY: the caller's promise.
                unsafe { put(argument, (0, status)) }
            }
            // SAFETY: the caller's promise, here and in the next three.
            SEM_STAT => unsafe { put(argument, space.sem_status(&Credentials, Whose::Index(id))?) },
            // SAFETY: as above.
            SEM_STAT_ANY => unsafe {
                put(argument, space.sem_status(&Credentials, Whose::Any(id))?)
            },
            // SAFETY: as above.
            IPC_INFO => unsafe { put(argument, space.sem_limits()?) },
            // SAFETY: as above.
            SEM_INFO => unsafe { put(argument, space.sem_usage()?) },
            IPC_SET => space
                .sem_set(&Credentials, id, &take(argument)?)
                .map(|()| 0),
            IPC_RMID => space.sem_remove(&Credentials, id).map(|()| 0),
            GETVAL => ask(Question::Value),
            GETPID => ask(Question::Pid),
            GETNCNT => ask(Question::WaitingForIncrease),
            GETZCNT => ask(Question::WaitingForZero),
            GETALL => {
                let values = space.sem_values(&Credentials, id)?;
                // SAFETY: the caller's promise.
                unsafe { put_all(argument, &values) }.map(|()| 0)
            }
            SETALL => {
                let mut values = vec![0u16; space.sem_count(&Credentials, id)?];
                take_all(argument, &mut values)?;
                space.sem_set_values(&Credentials, id, &values).map(|()| 0)
            }
            SETVAL => space
                .sem_set_value(&Credentials, id, number, argument as i32)
                .map(|()| 0),
            _ => Err(Errno::INVAL),
        }
    }
}

impl InSpace<'_> {
    fn operate(
        &self,
        id: i32,
        operations: *const sembuf,
        count: usize,
        timeout: Option<timespec>,
    ) -> Result<()> {
        self.0.check_operations(count)?;
        let address = operations.expose_provenance();
        // Most lists are short.
        let mut short = [sembuf::default(); 8];
        if let Some(list) = short.get_mut(..count) {
            take_all(address, list)?;
            return self.0.semtimedop(&Credentials, id, list, timeout);
        }
        let mut list = vec![sembuf::default(); count];
        take_all(address, &mut list)?;
        self.0.semtimedop(&Credentials, id, &list, timeout)
    }
}
