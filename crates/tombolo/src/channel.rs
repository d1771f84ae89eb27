//! An open channel, as every participant has it: its segment, its shape, and who it is itself.

use shmem::barrier::Registered;
use shmem::close::{self, Leaving};
use shmem::header::{Lifetime, has_ended};
use shmem::open::{self, Creation, Expected, Opened};
use shmem::presence::Mine;
use shmem::wait::Patience;
use shmem::{Address, OpenError, OutOfBounds, Reason, Region, View};
use sysv::Mode;

/// The private numbers of a kind of channel: where its parts are, and how large.
pub(crate) trait Shape: Copy {
    /// What its segments are recognised by.
    const EXPECTED: Expected;

    /// Bytes of the segment, `None` if the numbers can't be.
    fn length(&self) -> Option<usize>;

    /// Writes the shape into a new segment, which is all zero.
    fn format(&self, region: &Region) -> Result<(), OutOfBounds>;

    /// Reads the shape from the beginning of a segment; `None` if there can be none of this shape.
    fn read(view: &View) -> Option<Self>;

    /// Reads the shape from a segment and checks that it fits; `None` if it does not.
    fn open(view: &View) -> Option<Self> {
        let fits = |shape: &Self| shape.length().is_some_and(|length| length <= view.len());
        Self::read(view).filter(fits)
    }
}

/// What each kind of channel expects of its segments.
pub const KINDS: [Expected; 5] = [
    crate::value::EXPECTED,
    <crate::queue_layout::Shape as Shape>::EXPECTED,
    <crate::topic_layout::Shape as Shape>::EXPECTED,
    <crate::service_layout::Shape as Shape>::EXPECTED,
    <crate::mailbox_layout::Shape as Shape>::EXPECTED,
];

/// An open channel.
#[derive(Debug)]
pub(crate) struct Channel<S, M = Region> {
    pub(crate) shape: S,
    /// This process's identity when it opened the channel.
    pub(crate) me: u64,
    mine: Mine,
    pub(crate) opened: Opened<M>,
    pub(crate) address: Address,
    // Behind the memory: see `Leaving`.
    leaving: Leaving,
}

impl<S: Shape> Channel<S> {
    /// Opens it, or creates it with this shape.
    pub(crate) fn open_or_create(
        address: Address,
        shape: S,
        mode: Mode,
        lifetime: Lifetime,
    ) -> Result<Self, OpenError> {
        let length = shape
            .length()
            .expect("a shape that was planned has a length");
        let creation = Creation {
            length,
            mode,
            lifetime,
            owner: None,
        };
        let format = |region: &Region| shape.format(region);
        let opened = match lifetime {
            Lifetime::Anonymous => open::create_anonymous(&S::EXPECTED, &creation, &format)?,
            _ => open::open_or_create(&address, &S::EXPECTED, &creation, &format)?,
        };
        Self::of(address, opened)
    }

    /// Opens one that exists.
    pub(crate) fn open(address: Address) -> Result<Self, OpenError> {
        let opened = open::open(&address, &S::EXPECTED)?;
        Self::of(address, opened)
    }

    /// Opens it, waiting until there is one.
    pub(crate) fn wait(address: Address, patience: Patience) -> Result<Self, OpenError> {
        let opened = open::wait(&address, &S::EXPECTED, patience)?;
        Self::of(address, opened)
    }

    /// The channel that is in a region of this process, checked as one that is opened.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn on(region: &Region) -> Result<Self, OpenError> {
        let opened = crate::fuzzing::opened(region, &S::EXPECTED)?;
        Self::of(crate::fuzzing::ADDRESS, opened)
    }

    fn of(address: Address, opened: Opened<Region>) -> Result<Self, OpenError> {
        let shape = S::open(&opened.memory);
        Self::shaped(address, opened, shape, Leaving::of_writable)
    }

    #[inline]
    pub(crate) fn region(&self) -> &Region {
        &self.opened.memory
    }

    /// Whether the channel was removed, as its remover says. One load.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        has_ended(self.region())
    }

    /// For who only reads messages, and the memory for what else it does.
    pub(crate) fn into_reader(self) -> (Channel<S, View>, Region) {
        let Self {
            shape,
            me,
            mine,
            opened,
            address,
            leaving,
        } = self;
        let opened_view = Opened {
            memory: opened.memory.view(),
            id: opened.id,
            header: opened.header,
            creator_uid: opened.creator_uid,
        };
        let reader = Channel {
            shape,
            me,
            mine,
            opened: opened_view,
            address,
            leaving,
        };
        (reader, opened.memory)
    }
}

impl<S: Shape> Channel<S, View> {
    /// Opens one that exists for reading only.
    pub(crate) fn open_read_only(address: Address) -> Result<Self, OpenError> {
        let opened = open::open_read_only(&address, &S::EXPECTED)?;
        let shape = S::open(&opened.memory);
        Self::shaped(address, opened, shape, Leaving::new)
    }

    #[inline]
    pub(crate) fn view(&self) -> &View {
        &self.opened.memory
    }

    /// Whether the channel was removed, as its remover says. One load.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        has_ended(self.view())
    }
}

impl<S: Shape, M> Channel<S, M> {
    fn shaped(
        address: Address,
        opened: Opened<M>,
        shape: Option<S>,
        leaving: impl FnOnce(&Opened<M>, &Expected) -> Leaving,
    ) -> Result<Self, OpenError> {
        let shape = shape.ok_or_else(|| OpenError::new(&address, Reason::Shape(opened.id)))?;
        // Not before: who refuses a channel leaves it as it is.
        let leaving = leaving(&opened, &S::EXPECTED);
        let mine = Mine::new();
        let mine = mine.map_err(|error| OpenError::new(&address, Reason::presence(error)))?;
        Ok(Self {
            shape,
            me: mine.word(),
            mine,
            opened,
            address,
            leaving,
        })
    }

    /// Why it can't be used as wanted.
    pub(crate) fn error(&self, reason: Reason) -> OpenError {
        OpenError::new(&self.address, reason)
    }

    /// Whether this process opened it, and did not inherit it by a fork.
    #[inline(always)]
    pub(crate) fn is_mine(&self) -> bool {
        self.mine.is_mine()
    }

    /// Whether this process opened it, and is [registered](shmem::barrier::registered).
    #[inline(always)]
    pub(crate) fn registered(&self) -> Option<Registered> {
        self.mine.registered()
    }

    /// Whether the channel was removed, by whatever means. A system call.
    pub(crate) fn is_gone(&self) -> bool {
        self.opened.header.lifetime != Lifetime::Anonymous && self.opened.is_gone()
    }
}

/// Removes a channel with all that is in it, and then wakes all who sleep there, who learn of it.
pub(crate) fn remove<S: Shape>(
    address: &Address,
    wake: impl FnOnce(&S, &Region),
) -> Result<(), OpenError> {
    let opened = match open::open(address, &S::EXPECTED) {
        // A remover or creator that died may have left a segment.
        Err(error) if error.is_not_found() && open::sweep(address)? => return Ok(()),
        opened => opened?,
    };
    close::remove(&opened).map_err(|error| OpenError::new(address, Reason::remove(error)))?;
    if let Some(shape) = S::open(&opened.memory) {
        wake(&shape, &opened.memory);
    }
    Ok(())
}
