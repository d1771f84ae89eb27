//! What of the environment has to reach a program's children.
//!
//! A child is served if `TOMBOLO_SPACE` and `LD_PRELOAD` reach it. Programs that build an environment
//! for what they run (`env -i`, servers for their scripts) do not mean to leave the name space, and
//! whoever called `tombolo run` does not expect it: what they leave out is put back. What they set
//! is left as they set it, so that a `tombolo run` within another one works, and other preloads
//! stay behind ours.
//!
//! Nothing here takes memory from the heap if the environment has fewer than [`ROOM`] entries: in
//! a child of `vfork` it would be the parent's, and lost.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;

const SPACE: &[u8] = b"TOMBOLO_SPACE=";
const TRACE: &[u8] = b"TOMBOLO_TRACE=";
const PRELOAD: &[u8] = b"LD_PRELOAD=";

/// Entries for which there is room on the stack.
const ROOM: usize = 1024;
/// Bytes of the longest `LD_PRELOAD` that is added to.
const LONGEST: usize = 4096;

/// A null-terminated array of strings, as C has them.
pub type Strings = *const *const c_char;

unsafe extern "C" {
    static mut environ: Strings;
}

/// The environment of this process now.
pub fn own() -> Strings {
    // SAFETY: a word, which is changed only by who says so in C: the program answers for that.
    unsafe { environ }
}

/// The strings of an array.
///
/// # Safety
/// It is null, or valid as long as it is used.
unsafe fn entries<'e>(mut at: Strings) -> impl Iterator<Item = &'e CStr> {
    std::iter::from_fn(move || {
        if at.is_null() {
            return None;
        }
        // SAFETY: not past the null pointer that ends the array, after which `at` is null.
        let entry = unsafe { *at };
        if entry.is_null() {
            at = ptr::null();
            return None;
        }
        // SAFETY: as above.
        at = unsafe { at.add(1) };
        // SAFETY: the array's elements are strings.
        Some(unsafe { CStr::from_ptr(entry) })
    })
}

/// The entries that are kept, as they were when the program started.
pub struct Kept {
    space: CString,
    trace: Option<CString>,
    /// The path of this library.
    library: Option<CString>,
}

impl Kept {
    /// `None` if no name space is asked for.
    pub fn of_this_process() -> Option<Self> {
        let find = |name: &[u8]| {
            // SAFETY: libc has set it before any constructor.
            let mut entries = unsafe { entries(own()) };
            let entry = entries.find(|entry| entry.to_bytes().starts_with(name));
            entry.map(CStr::to_owned)
        };
        Some(Self {
            space: find(SPACE)?,
            trace: find(TRACE),
            library: path_of_this_library(),
        })
    }

    /// The folder of the name space.
    pub fn folder(&self) -> &[u8] {
        &self.space.to_bytes()[SPACE.len()..]
    }

    /// The file in which calls are recorded, if they are.
    pub fn trace_file(&self) -> Option<&[u8]> {
        let entry = self.trace.as_deref()?;
        Some(&entry.to_bytes()[TRACE.len()..])
    }

    /// Calls `then` with an environment that has everything of ours.
    ///
    /// # Safety
    /// `given` is null or an array of strings.
    pub unsafe fn complete<R>(&self, given: Strings, then: impl FnOnce(Strings) -> R) -> R {
        let mut found = Found::default();
        // SAFETY: the caller's promise.
        for entry in unsafe { entries(given) } {
            found.look(entry.to_bytes(), self.library());
        }
        if found.is_complete(self) {
            then(given)
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.amend(given, &found, then) }
        }
    }

    /// What an environment lacks of ours, as entries of it. `None` if it has everything. Takes
    /// memory from the heap.
    ///
    /// # Safety
    /// As for [`complete`](Self::complete).
    pub unsafe fn missing(&self, given: Strings) -> Option<Vec<Vec<u8>>> {
        let mut found = Found::default();
        // SAFETY: the caller's promise.
        for entry in unsafe { entries(given) } {
            found.look(entry.to_bytes(), self.library());
        }
        if found.is_complete(self) {
            return None;
        }
        let mut text = [0u8; LONGEST];
        let preload = (!found.library)
            .then(|| self.preload(given, &mut text))
            .flatten();
        let mut all: Vec<_> = preload.into_iter().collect();
        if !found.space {
            all.push(&self.space);
            all.extend(self.trace.as_deref());
        }
        Some(all.iter().map(|entry| entry.to_bytes().to_vec()).collect())
    }

    fn library(&self) -> &[u8] {
        self.library.as_deref().unwrap_or_default().to_bytes()
    }

    /// # Safety
    /// As for [`complete`](Self::complete).
    #[inline(never)]
    unsafe fn amend<R>(&self, given: Strings, found: &Found, then: impl FnOnce(Strings) -> R) -> R {
        let mut text = [0u8; LONGEST];
        let preload = (!found.library)
            .then(|| self.preload(given, &mut text))
            .flatten();
        let needed = found.count + 4;
        let mut room = [ptr::null::<c_char>(); ROOM];
        let mut heap;
        let array = if needed <= ROOM {
            &mut room[..]
        } else {
            heap = vec![ptr::null(); needed];
            &mut heap[..]
        };
        let mut end = 0;
        let mut add = |entry: &CStr| {
            array[end] = entry.as_ptr();
            end += 1;
        };
        // SAFETY: the caller's promise.
        for entry in unsafe { entries(given) } {
            let replaced = preload.is_some() && entry.to_bytes().starts_with(PRELOAD);
            if !replaced {
                add(entry);
            }
        }
        preload.into_iter().for_each(&mut add);
        if !found.space {
            add(&self.space);
            // A trace belongs to its name space.
            self.trace.as_deref().into_iter().for_each(&mut add);
        }
        then(array.as_ptr())
    }

    /// The entry that loads us and what was to be loaded anyway.
    fn preload<'t>(&self, given: Strings, text: &'t mut [u8]) -> Option<&'t CStr> {
        // SAFETY: the promise of `complete`.
        let mut entries = unsafe { entries(given) };
        let others = entries.find_map(|entry| entry.to_bytes().strip_prefix(PRELOAD));
        let others = others.unwrap_or_default();
        let separator = if others.is_empty() { &b""[..] } else { b":" };
        let mut end = 0;
        for part in [PRELOAD, self.library(), separator, others, b"\0"] {
            text.get_mut(end..end + part.len())?.copy_from_slice(part);
            end += part.len();
        }
        CStr::from_bytes_until_nul(text).ok()
    }
}

/// What an environment has.
#[derive(Default)]
struct Found {
    count: usize,
    space: bool,
    library: bool,
}

impl Found {
    fn look(&mut self, entry: &[u8], library: &[u8]) {
        self.count += 1;
        self.space |= entry.starts_with(SPACE);
        if let Some(list) = entry.strip_prefix(PRELOAD) {
            let mut paths = list.split(|byte| matches!(byte, b':' | b' '));
            self.library |= paths.any(|path| path == library);
        }
    }

    fn is_complete(&self, kept: &Kept) -> bool {
        self.space && (self.library || kept.library.is_none())
    }
}

fn path_of_this_library() -> Option<CString> {
    let mut about = libc::Dl_info {
        dli_fname: ptr::null(),
        dli_fbase: ptr::null_mut(),
        dli_sname: ptr::null(),
        dli_saddr: ptr::null_mut(),
    };
    let inside = path_of_this_library as *const c_void;
    // SAFETY: `about` is valid for writing.
    let found = unsafe { libc::dladdr(inside, &raw mut about) };
    if found == 0 || about.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the loader's own string.
    Some(unsafe { CStr::from_ptr(about.dli_fname) }.to_owned())
}
