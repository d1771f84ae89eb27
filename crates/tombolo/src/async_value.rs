//! `value` for tasks.

use crate::asynchronous::{Asked, Asking};
use crate::value::{Message, ReadError, Reader};
use futures_core::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};

impl Asked for Reader {
    fn withdraw(&mut self) {
        Reader::withdraw(self);
    }
}

/// Reads the messages of a value, for a task.
///
/// As a [`Stream`] it yields the latest message whenever there is a newer one, and passes over what
/// was overtaken meanwhile. An error is the last item, but for [`ReadError::Overtaken`].
///
/// # Examples
/// ```
/// use tombolo::asynchronous::AsyncReader;
/// use tombolo::value::{self, Options, Reader, Writer};
///
/// # let name = format!("doc-async-value-{}", std::process::id());
/// let name: tombolo::Name = name.parse()?;
/// let mut writer = Writer::open_or_create(name.clone(), &Options::default())?;
/// let mut reader = AsyncReader::from(Reader::open(name.clone())?);
///
/// # pollster::block_on(async {
/// writer.put(b"hello")?;
/// assert_eq!(reader.watch().await?.bytes, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// value::remove(name)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AsyncReader {
    asking: Asking<Reader>,
    /// The stream has yielded its last item.
    ended: bool,
}

impl Reader {
    /// The same, for a task.
    pub fn into_async(self) -> AsyncReader {
        AsyncReader::from(self)
    }
}

impl From<Reader> for AsyncReader {
    fn from(reader: Reader) -> Self {
        Self {
            asking: Asking::new(reader),
            ended: false,
        }
    }
}

impl AsyncReader {
    /// The same, for a thread.
    pub fn into_inner(self) -> Reader {
        let mut reader = self.asking.handle;
        reader.withdraw();
        reader
    }

    /// Id of the segment. It changes when the channel grows.
    pub fn id(&self) -> i32 {
        self.asking.handle.id()
    }

    /// The latest message, `None` if none was put yet. Never waits.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn get(&mut self) -> Result<Option<Message>, ReadError> {
        self.asking.handle.get()
    }

    /// Waits until there is a message that this reader has not taken, and takes the latest.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn watch(&mut self) -> Result<Message, ReadError> {
        let ask = |reader: &mut Reader, waker: &_| reader.ask(waker).transpose();
        self.asking.ask(ask).await
    }
}

impl Stream for AsyncReader {
    type Item = Result<Message, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let ask = |reader: &mut Reader, waker: &_| reader.ask(waker).transpose();
        let polled = self.asking.poll(context.waker(), ask);
        polled.map(|item| {
            self.ended = matches!(&item, Err(error) if !matches!(error, ReadError::Overtaken));
            Some(item)
        })
    }
}
