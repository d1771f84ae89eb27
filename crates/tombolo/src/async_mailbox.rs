//! `mailbox` for tasks.

use crate::asynchronous::{Asked, Asking};
use crate::mailbox::{Delivery, Loan, PostError, Poster, TakeError, Taken, Taker, Wanted};
use shmem::Wait;
use std::task::Waker;

impl Asked for Taker {
    fn withdraw(&mut self) {
        Taker::withdraw(self);
    }
}

impl Asked for Poster {
    fn withdraw(&mut self) {
        Poster::withdraw(self);
    }
}

/// Takes messages from a mailbox, for a task.
#[derive(Debug)]
pub struct AsyncTaker {
    asking: Asking<Taker>,
}

impl Taker {
    /// The same, for a task.
    pub fn into_async(self) -> AsyncTaker {
        AsyncTaker::from(self)
    }
}

impl From<Taker> for AsyncTaker {
    fn from(taker: Taker) -> Self {
        Self {
            asking: Asking::new(taker),
        }
    }
}

impl AsyncTaker {
    /// The same, for a thread.
    pub fn into_inner(self) -> Taker {
        let mut taker = self.asking.handle;
        taker.withdraw();
        taker
    }

    /// Id of the segment.
    pub fn id(&self) -> i32 {
        self.asking.handle.id()
    }

    /// Takes a message into a buffer, whose content it replaces.
    ///
    /// # Errors
    /// See [`TakeError`]; the buffer is left empty.
    pub async fn take(&mut self, wanted: Wanted, to: &mut Vec<u8>) -> Result<Taken, TakeError> {
        let take = |taker: &mut Taker, waker: &Waker| {
            taker.copy(wanted, Wait::Wake(waker), to).transpose()
        };
        self.asking.ask(take).await
    }

    /// Takes a message if there is one now, `None` if not.
    ///
    /// # Errors
    /// See [`TakeError`]; the buffer is left empty.
    pub fn try_take(
        &mut self,
        wanted: Wanted,
        to: &mut Vec<u8>,
    ) -> Result<Option<Taken>, TakeError> {
        self.asking.handle.try_take(wanted, to)
    }

    /// Takes a message in hand, in place. It counts as taken when the guard is dropped.
    ///
    /// # Errors
    /// See [`TakeError`].
    pub async fn receive(&mut self, wanted: Wanted) -> Result<Delivery<'_>, TakeError> {
        let take = |taker: &mut Taker, waker: &Waker| {
            let taken = taker.take_in_hand(wanted, Wait::Wake(waker));
            taken.map(|taken| taken.then_some(())).transpose()
        };
        self.asking.ask(take).await?;
        Ok(self.asking.handle.delivery())
    }

    /// Copies a message into a buffer, whose content it replaces, when there is one, and leaves it
    /// where it is.
    ///
    /// # Errors
    /// See [`TakeError`]; the buffer is left empty.
    pub async fn peek(&mut self, wanted: Wanted, to: &mut Vec<u8>) -> Result<Taken, TakeError> {
        let look = |taker: &mut Taker, waker: &Waker| {
            taker.look(wanted, Wait::Wake(waker), to).transpose()
        };
        self.asking.ask(look).await
    }
}

/// Posts messages to a mailbox, for a task.
#[derive(Debug)]
pub struct AsyncPoster {
    asking: Asking<Poster>,
}

impl Poster {
    /// The same, for a task.
    pub fn into_async(self) -> AsyncPoster {
        AsyncPoster::from(self)
    }
}

impl From<Poster> for AsyncPoster {
    fn from(poster: Poster) -> Self {
        Self {
            asking: Asking::new(poster),
        }
    }
}

impl AsyncPoster {
    /// The same, for a thread.
    pub fn into_inner(self) -> Poster {
        let mut poster = self.asking.handle;
        poster.withdraw();
        poster
    }

    /// Id of the segment.
    pub fn id(&self) -> i32 {
        self.asking.handle.id()
    }

    /// Longest message, in bytes.
    pub fn longest(&self) -> usize {
        self.asking.handle.longest()
    }

    /// Posts a message of a type when there is room for it.
    ///
    /// # Errors
    /// See [`PostError`]; nothing is posted then.
    pub async fn post(&mut self, kind: u64, message: &[u8]) -> Result<(), PostError> {
        let post = |poster: &mut Poster, waker: &Waker| {
            unless_full(poster.post_one(kind, message, Wait::Wake(waker)))
        };
        self.asking.ask(post).await
    }

    /// Posts a message if there is room for it now.
    ///
    /// # Errors
    /// See [`PostError`]; nothing is posted then.
    pub fn try_post(&mut self, kind: u64, message: &[u8]) -> Result<(), PostError> {
        self.asking.handle.try_post(kind, message)
    }

    /// A place for a message of `length` bytes, to be written in place, when there is room for it.
    ///
    /// # Errors
    /// See [`PostError`].
    pub async fn loan(&mut self, kind: u64, length: usize) -> Result<Loan<'_>, PostError> {
        let draft = |poster: &mut Poster, waker: &Waker| {
            unless_full(poster.draft(kind, length, Wait::Wake(waker)))
        };
        self.asking.ask(draft).await?;
        Ok(self.asking.handle.drafted())
    }
}

/// `None` while there is no room.
fn unless_full<T>(result: Result<T, PostError>) -> Option<Result<T, PostError>> {
    (!matches!(result, Err(PostError::Full))).then_some(result)
}
