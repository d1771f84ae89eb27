//! The names that stand behind ours: in the next preload that has them, or in libc.

use crate::lookup;
use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

/// A function that has one of our names, further on.
pub struct Next {
    name: &'static CStr,
    at: AtomicPtr<c_void>,
}

impl Next {
    const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            at: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// Where it is. Null if nothing further on has the name, which for a name of libc's means
    /// that the program is linked to another libc.
    pub fn address(&self) -> *mut c_void {
        // Relaxed: an address of code, which has been there since before it was found.
        let found = self.at.load(Ordering::Relaxed);
        if found.is_null() { self.find() } else { found }
    }

    #[cold]
    fn find(&self) -> *mut c_void {
        let found = lookup::behind(self.name);
        self.at.store(found, Ordering::Relaxed);
        found
    }
}

macro_rules! names {
    ($($name:ident)*) => {
        $(
            #[allow(non_upper_case_globals)]
            pub static $name: Next = {
                const NAME: &CStr = match CStr::from_bytes_with_nul(
                    concat!(stringify!($name), "\0").as_bytes(),
                ) {
                    Ok(name) => name,
                    Err(_) => unreachable!(),
                };
                Next::new(NAME)
            };
        )*

        /// Finds all of them, before the program runs: looking takes the loader's lock and memory,
        /// which a child of `vfork` or a signal handler should not need.
        pub fn find_all() {
            for next in [$(&$name),*] {
                next.find();
            }
        }
    };
}

names! {
    ftok shmget shmat shmdt shmctl msgget msgsnd msgrcv msgctl semget semop semtimedop semctl
    syscall dlopen
    open open64 __open_2 __open64_2 openat openat64 __openat_2 __openat64_2 fopen fopen64
    setuid seteuid setreuid setresuid setgid setegid setregid setresgid unshare setns
    sigaction signal bsd_signal ssignal sysv_signal __sysv_signal sigset
    longjmp _longjmp siglongjmp __longjmp_chk pthread_cancel
    execve execvpe fexecve execveat posix_spawn posix_spawnp system popen
}
