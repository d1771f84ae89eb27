//! Attaches: a segment's memory, mapped into this process.

use crate::abi::{SHM_EXEC, SHM_RDONLY, SHM_REMAP, SHM_RND};
use crate::shim::{self, Whose};
use crate::{Calls, Errno, Kernel, Result, Segment};
use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

/// The unit of attach addresses, in bytes: `SHMLBA`, on this machine a page.
const SHMLBA: usize = 4096;

/// Where and how to attach: by default anywhere, not executable.
///
/// # Examples
/// ```
/// use sysv::{AttachOptions, Key, Mode, Segment};
///
/// let segment = Segment::create(Key::PRIVATE, 1, Mode::default())?;
/// // SAFETY: nothing lives there, and the main thread's stack is far away.
/// let attach = unsafe { segment.attach_with(&AttachOptions::new().address(0x5e00_0000_0000)) };
/// segment.remove()?;
/// assert_eq!(attach?.as_ptr().addr(), 0x5e00_0000_0000);
/// # Ok::<(), sysv::Errno>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(alias = "shmat")]
pub struct AttachOptions {
    address: Option<usize>,
    round: bool,
    replace: bool,
    exec: bool,
}

impl AttachOptions {
    /// Anywhere, not executable.
    pub const fn new() -> Self {
        Self {
            address: None,
            round: false,
            replace: false,
            exec: false,
        }
    }

    /// Attaches at this address and nowhere else.
    pub const fn address(mut self, address: usize) -> Self {
        self.address = Some(address);
        self
    }

    /// Rounds the address down to a page (4096 bytes) instead of refusing it.
    #[doc(alias = "SHM_RND")]
    pub const fn round(mut self, yes: bool) -> Self {
        self.round = yes;
        self
    }

    /// Replaces what is mapped there instead of refusing the address.
    #[doc(alias = "SHM_REMAP")]
    pub const fn replace(mut self, yes: bool) -> Self {
        self.replace = yes;
        self
    }

    /// Maps the memory executable; the mode must grant execution.
    #[doc(alias = "SHM_EXEC")]
    pub const fn exec(mut self, yes: bool) -> Self {
        self.exec = yes;
        self
    }

    /// The address argument and the flags.
    fn arguments(&self) -> Result<(*const c_void, i32)> {
        let mut flags = 0;
        for (chosen, flag) in [
            (self.round, SHM_RND),
            (self.replace, SHM_REMAP),
            (self.exec, SHM_EXEC),
        ] {
            if chosen {
                flags |= flag;
            }
        }
        let address = match self.address {
            None => ptr::null(),
            // Null would mean anywhere. An address that is rounded to null would be mapped there
            // for a privileged caller, and the kernel does not look at what it overlaps.
            Some(address) if address < SHMLBA => return Err(Errno::INVAL),
            Some(address) => ptr::with_exposed_provenance(address),
        };
        Ok((address, flags))
    }
}

/// One mapping of a whole segment, and its obligation to detach.
///
/// # Invariants
/// `base` is what `shmat` answered, and nobody but this value detaches it: it is not `Clone`, and
/// pointers into the attach may be used only while it lives.
#[derive(Debug)]
struct Mapping<C: Calls + Copy> {
    calls: C,
    base: NonNull<u8>,
    length: usize,
    id: i32,
}

// SAFETY: an attach belongs to the process, not to a thread; any thread may detach it.
unsafe impl<C: Calls + Copy + Send> Send for Mapping<C> {}
// SAFETY: through a shared reference it only tells address, length and id.
unsafe impl<C: Calls + Copy + Sync> Sync for Mapping<C> {}

impl<C: Calls + Copy> Mapping<C> {
    /// Attaches, then asks how long the segment is: while it is attached, its id stays its own.
    ///
    /// # Safety
    /// As [`Segment::attach_with`].
    unsafe fn new(segment: &Segment<C>, options: &AttachOptions, flags: i32) -> Result<Self> {
        let (address, chosen) = options.arguments()?;
        let Segment { calls, id } = *segment;
        // SAFETY: the caller's promise; without SHM_REMAP nothing that is mapped changes.
        let base = unsafe { calls.shmat(id, address, chosen | flags) }?;
        // INVARIANT: base is fresh from shmat. From here on an early return detaches.
        let mut mapping = Self {
            calls,
            base: NonNull::new(base.cast()).ok_or(Errno::FAULT)?,
            length: 0,
            id,
        };
        let (_, status) = shim::shm_stat(&calls, Whose::Id(id))?;
        mapping.length = usize::try_from(status.shm_segsz).map_err(|_| Errno::OVERFLOW)?;
        Ok(mapping)
    }

    fn detach(self) -> Result<()> {
        let this = ManuallyDrop::new(self);
        // SAFETY: by the invariant base is our attach; it is consumed, and not dropped again.
        unsafe { this.calls.shmdt(this.base.as_ptr().cast()) }
    }
}

impl<C: Calls + Copy> Drop for Mapping<C> {
    fn drop(&mut self) {
        // An error means that somebody else has unmapped it: there is nothing left to do.
        // SAFETY: by the invariant base is our attach, and this is its end.
        let _ = unsafe { self.calls.shmdt(self.base.as_ptr().cast()) };
    }
}

/// An attach of a segment for reading and writing; it detaches when it is dropped.
///
/// What it points to is shared: other processes may read and write every byte at any time, so no
/// reference or slice to it is sound without a promise about every peer, and what is read must be
/// taken as input. Peers cannot shrink or unmap it. It is zero when the segment is new.
///
/// After `fork` the child has the attach as well, at the same address; after `exec` it is gone.
///
/// # Examples
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use sysv::{Key, Mode, Segment};
///
/// let segment = Segment::create(Key::PRIVATE, 4, Mode::default())?;
/// let attach = segment.attach();
/// segment.remove()?; // From here on nothing can be left behind.
/// let attach = attach?;
/// // SAFETY: four bytes at a page's start, in an attach that lives longer than the reference;
/// // nobody else has it.
/// let word = unsafe { AtomicU32::from_ptr(attach.as_ptr().cast()) };
/// assert_eq!(word.fetch_add(1, Ordering::Relaxed), 0);
/// # Ok::<(), sysv::Errno>(())
/// ```
#[derive(Debug)]
#[doc(alias = "shmat")]
pub struct Attach<C: Calls + Copy = Kernel>(Mapping<C>);

/// An attach of a segment for reading only; it detaches when it is dropped.
///
/// A write faults, and the protection cannot be raised. Peers may write every byte at any time:
/// see [`Attach`].
#[derive(Debug)]
#[doc(alias("shmat", "SHM_RDONLY"))]
pub struct AttachReadOnly<C: Calls + Copy = Kernel>(Mapping<C>);

impl<C: Calls + Copy> Attach<C> {
    /// Where the attach starts: page-aligned, never null. Valid until the attach is dropped, for
    /// [`len`](Self::len) bytes and on to the end of the last page.
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.base.as_ptr()
    }
}

impl<C: Calls + Copy> AttachReadOnly<C> {
    /// Where the attach starts: page-aligned, never null. Valid for reading until the attach is
    /// dropped, for [`len`](Self::len) bytes and on to the end of the last page.
    pub fn as_ptr(&self) -> *const u8 {
        self.0.base.as_ptr()
    }
}

/// What both kinds of attaches have.
macro_rules! both {
    ($($attach:ident)*) => {$(
        impl<C: Calls + Copy> $attach<C> {
            /// The size of the segment in bytes, as it was asked for at creation; never 0.
            #[allow(clippy::len_without_is_empty, reason = "no segment is empty")]
            pub fn len(&self) -> usize {
                self.0.length
            }

            /// The segment.
            pub fn segment(&self) -> Segment<C> {
                Segment::from_id_in(self.0.calls, self.0.id)
            }

            /// Detaches, and says whether that went well. If it is the last attach of a removed
            /// segment, the segment is gone.
            ///
            /// # Errors
            /// [`Errno::INVAL`]: it was unmapped behind our back.
            #[doc(alias = "shmdt")]
            pub fn detach(self) -> Result<()> {
                self.0.detach()
            }
        }
    )*};
}
both!(Attach AttachReadOnly);

impl<C: Calls + Copy> Segment<C> {
    /// Attaches for reading and writing, anywhere.
    ///
    /// # Errors
    /// [`Errno::ACCESS`]: no read and write permission; [`Errno::INVAL`]: no such segment;
    /// [`Errno::NOMEM`]: no address space, or too many mappings.
    #[doc(alias = "shmat")]
    pub fn attach(&self) -> Result<Attach<C>> {
        // SAFETY: the system chooses a free range, apart from any stack.
        unsafe { self.attach_with(&AttachOptions::new()) }
    }

    /// Attaches for reading only, anywhere.
    ///
    /// # Errors
    /// [`Errno::ACCESS`]: no read permission; otherwise as [`attach`](Self::attach).
    #[doc(alias("shmat", "SHM_RDONLY"))]
    pub fn attach_read_only(&self) -> Result<AttachReadOnly<C>> {
        // SAFETY: the system chooses a free range, apart from any stack.
        unsafe { self.attach_read_only_with(&AttachOptions::new()) }
    }

    /// Attaches for reading and writing, where and how `options` say.
    ///
    /// # Errors
    /// As [`attach`](Self::attach); [`Errno::INVAL`] also for an address that lies below 4096,
    /// that is not page-aligned and not to be rounded, or that is in use and not to be replaced,
    /// and for replacing without an address; [`Errno::ACCESS`] also for an executable attach
    /// without execute permission. An error can leave a range unmapped that was to be replaced.
    ///
    /// # Safety
    /// Without an address there is nothing to promise. With one, the range (the segment's size in
    /// whole pages, huge ones if it has them) is not where the main thread's stack can grow: the
    /// kernel keeps its distance from the stack only where it chooses the address itself.
    ///
    /// With [`replace`](AttachOptions::replace), nothing that lives in the range is used
    /// afterwards, neither data nor code nor another attach, which must also not be dropped: its
    /// base would name this one.
    #[doc(alias = "shmat")]
    pub unsafe fn attach_with(&self, options: &AttachOptions) -> Result<Attach<C>> {
        // SAFETY: the caller's promise.
        unsafe { Mapping::new(self, options, 0) }.map(Attach)
    }

    /// Attaches for reading only, where and how `options` say.
    ///
    /// # Errors
    /// As [`attach_with`](Self::attach_with), but write permission is not needed.
    ///
    /// # Safety
    /// As [`attach_with`](Self::attach_with).
    #[doc(alias("shmat", "SHM_RDONLY"))]
    pub unsafe fn attach_read_only_with(
        &self,
        options: &AttachOptions,
    ) -> Result<AttachReadOnly<C>> {
        // SAFETY: the caller's promise.
        unsafe { Mapping::new(self, options, SHM_RDONLY) }.map(AttachReadOnly)
    }
}
