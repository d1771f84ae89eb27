//! `service` for tasks.

use crate::asynchronous::{Asked, Asking};
use crate::service::{CallError, Client, Pending, Request, ServeError, Server};
use shmem::Wait;
use std::task::Waker;

impl Asked for Pending {
    fn withdraw(&mut self) {
        Pending::withdraw(self);
    }
}

impl Asked for Server {
    fn withdraw(&mut self) {
        Server::withdraw(self);
    }
}

/// Calls a service, for a task.
///
/// # Examples
/// ```
/// use tombolo::asynchronous::{AsyncClient, AsyncServer};
/// use tombolo::service::{Client, Options, Server};
///
/// # let name: tombolo::Name = format!("doc-async-service-{}", std::process::id()).parse()?;
/// let server = Server::open_or_create(name.clone(), &Options::default())?;
/// let mut server = AsyncServer::from(server);
/// let mut client = AsyncClient::from(Client::open(name)?);
///
/// # pollster::block_on(async {
/// let call = client.start(b"two and two")?;
/// server.next().await?.reply(b"four").map_err(|error| error.to_string())?;
/// let mut reply = Vec::new();
/// call.wait(&mut reply).await?;
/// assert_eq!(reply, b"four");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AsyncClient {
    client: Client,
}

impl Client {
    /// The same, for a task.
    pub fn into_async(self) -> AsyncClient {
        AsyncClient::from(self)
    }
}

impl From<Client> for AsyncClient {
    fn from(client: Client) -> Self {
        Self { client }
    }
}

impl AsyncClient {
    /// The same, for a thread.
    pub fn into_inner(self) -> Client {
        self.client
    }

    /// Id of the segment.
    pub fn id(&self) -> i32 {
        self.client.id()
    }

    /// Longest request, in bytes.
    pub fn longest(&self) -> usize {
        self.client.longest()
    }

    /// Calls, and puts the reply into a buffer, whose content it replaces.
    ///
    /// Dropped before it is ready, the call is taken back if no server has it, and its reply is
    /// thrown away otherwise: then it may have been executed.
    ///
    /// # Errors
    /// See [`CallError`]; the buffer is left empty, but with [`CallError::Failed`].
    pub async fn call(&mut self, request: &[u8], reply: &mut Vec<u8>) -> Result<(), CallError> {
        let pending = Asking::new(self.client.start(request)?);
        let mut calling = Calling {
            client: &mut self.client,
            pending,
        };
        calling.lend();
        calling
            .pending
            .ask(|call, waker| call.ask(waker, reply))
            .await
    }

    /// Begins a call, whose reply is [waited for](AsyncPending::wait) later. So one client has
    /// several calls at a time.
    ///
    /// # Errors
    /// See [`CallError`]; nothing is asked then.
    pub fn start(&mut self, request: &[u8]) -> Result<AsyncPending, CallError> {
        let asking = Asking::new(self.client.start(request)?);
        Ok(AsyncPending { asking })
    }
}

/// A call in the middle, which has the client's way of waiting.
struct Calling<'a> {
    client: &'a mut Client,
    pending: Asking<Pending>,
}

impl Calling<'_> {
    /// Lends it, or takes it back.
    fn lend(&mut self) {
        self.client.lend_waiter(&mut self.pending.handle);
    }
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.lend();
    }
}

/// A call that was started. Dropping it takes it back if no server has it, and throws its reply
/// away otherwise.
#[derive(Debug)]
pub struct AsyncPending {
    asking: Asking<Pending>,
}

impl AsyncPending {
    /// Waits for the reply, and puts it into a buffer, whose content it replaces.
    ///
    /// # Errors
    /// See [`CallError`]; the buffer is left empty, but with [`CallError::Failed`].
    pub async fn wait(mut self, reply: &mut Vec<u8>) -> Result<(), CallError> {
        self.asking.ask(|call, waker| call.ask(waker, reply)).await
    }
}

/// Serves, in a task.
#[derive(Debug)]
pub struct AsyncServer {
    asking: Asking<Server>,
}

impl Server {
    /// The same, for a task.
    pub fn into_async(self) -> AsyncServer {
        AsyncServer::from(self)
    }
}

impl From<Server> for AsyncServer {
    fn from(server: Server) -> Self {
        Self {
            asking: Asking::new(server),
        }
    }
}

impl AsyncServer {
    /// The same, for a thread.
    pub fn into_inner(self) -> Server {
        let mut server = self.asking.handle;
        server.withdraw();
        server
    }

    /// Id of the segment.
    pub fn id(&self) -> i32 {
        self.asking.handle.id()
    }

    /// Longest reply, in bytes.
    pub fn longest(&self) -> usize {
        self.asking.handle.longest()
    }

    /// Takes the next request. It is in hand until it is replied to or dropped, also while the task
    /// waits for something else.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn next(&mut self) -> Result<Request<'_>, ServeError> {
        let take = |server: &mut Server, waker: &Waker| {
            let taken = server.take(Wait::Wake(waker));
            taken.map(|taken| taken.then_some(())).transpose()
        };
        self.asking.ask(take).await?;
        Ok(self.asking.handle.request())
    }
}
