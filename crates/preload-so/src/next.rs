//! The names that stand behind ours: in the next preload that has them, or in libc.

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
        // SAFETY: a name that ends in NUL; the caller's address is in this library, which is what
        // "next" refers to.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
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
    syscall
}
