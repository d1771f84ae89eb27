//! `service`: requests with replies. Each request goes to one server, its reply to who asked.
//!
//! ```text
//! 0        256                384       one for each slot            one for each slot
//! ┌────────┬──────────────────┬─────────┬──────────────────────────┬──────────────────────┬───
//! │ header │ shape, door bell │ seats of│ owner, bell; taker, taken│ request, reply       │ …
//! │        │                  │ servers │                          │ (see `service_slot`) │
//! └────────┴──────────────────┴─────────┴──────────────────────────┴──────────────────────┴───
//! ```
//!
//! Any number of [clients](Client) [call](Client::call), any number of [servers](Server) take the
//! [next](Server::next) request and [reply](Request::reply). A call has a **slot** of its own, so
//! a reply finds its client, clients do not get into each other's way, and the death of one stops
//! nobody. A client keeps a slot from call to call, and has more when it [starts](Client::start)
//! several calls at a time. The protocol, and what a death leaves, are told in `service_slot` and
//! `service_members`.
//!
//! **At most once.** A server gets a call once, and no other server gets it after. What the client
//! knows when it gets no reply:
//!
//! | error | the call |
//! | --- | --- |
//! | [`TimedOut`](CallError::TimedOut), not taken | was taken back: it is never executed |
//! | [`TimedOut`](CallError::TimedOut), taken | may have been executed, or be executed yet; its reply is thrown away |
//! | [`NoServers`](CallError::NoServers) | was taken back: it is never executed |
//! | [`ServerDied`](CallError::ServerDied) | may have been executed, in part; nobody executes it again |
//! | [`Dropped`](CallError::Dropped) | was seen by a server, which did not reply |
//!
//! **Death.** When the last server leaves or dies, calls that none had taken fail with
//! [`CallError::NoServers`]; a client may rather wait for the next one:
//! [`follow`](Client::follow). When a client dies, the call that it had in hand may be executed or
//! not; its slot is used again when no server has it.
//!
//! **Time-outs.** The slot of a call that a server has in hand is not used for another before the
//! server is done with it; the client takes a further one meanwhile.
//!
//! **Guards.** A [`Request`] is one server's for as long as it likes; the others go on with the
//! rest. Dropping it without a reply tells the client so.
//!
//! **Fork.** A handle that a child inherited is refused there ([`CallError::Forked`],
//! [`ServeError::Forked`]): open the service again.
//!
//! **Limits.** The numbers of calls at a time and of servers, and the longest request and reply are
//! fixed at creation. An open client has a slot also when it does not call. A ring wakes all
//! servers that wait, of whom one gets the request. Everybody needs write permission.
//!
//! # Examples
//! ```
//! use tombolo::service::{Client, Options, Server};
//!
//! # let name = format!("doc-service-{}", std::process::id());
//! let name: tombolo::Name = name.parse()?;
//! let mut server = Server::open_or_create(name.clone(), &Options::default())?;
//! let serving = std::thread::spawn(move || {
//!     let request = server.next().unwrap();
//!     let mut text = Vec::new();
//!     request.append_to(&mut text);
//!     text.make_ascii_uppercase();
//!     request.reply(&text).unwrap();
//! });
//!
//! let mut client = Client::open(name)?;
//! let mut reply = Vec::new();
//! client.call(b"hello", &mut reply)?;
//! assert_eq!(reply, b"HELLO");
//! # serving.join().unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::channel::{self, Channel};
use crate::service_layout::Shape;
use shmem::header::Lifetime;
use shmem::{Address, OpenError, Reason};
use sysv::Mode;

pub use crate::service_asking::{Answered, Asking};
pub use crate::service_client::{Client, Pending};
pub use crate::service_server::{Reply, Request, Server, TooLong};

/// After so many calls a handle registers its process for cheap publication.
pub(crate) const MANY: u32 = 10_000;

/// What a new service is to be like; one that exists stays as it is.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many calls there may be at a time, 1 to 4096; each client takes one at least.
    pub calls: usize,
    /// How many servers there may be at a time, 1 to 1024.
    pub servers: usize,
    /// Longest request, in bytes, up to 1 GiB. From 4 KiB to 1 MiB each call has room for two; the kernel
    /// provides what is used.
    pub request: usize,
    /// Longest reply, in bytes, up to 1 GiB; as for requests.
    pub reply: usize,
    /// Who may use it. Servers and clients both need to read and to write.
    pub mode: Mode,
    /// How long it lives. An anonymous one is reached by its [id](Server::id).
    pub lifetime: Lifetime,
}

impl Default for Options {
    /// 256 calls with 256 KiB each way, 64 servers, for this user alone, while it is used.
    fn default() -> Self {
        Self {
            calls: 256,
            servers: 64,
            request: 256 << 10,
            reply: 256 << 10,
            mode: Mode::default(),
            lifetime: Lifetime::WhileUsed,
        }
    }
}

/// A call had no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server answered with an error; its bytes are where the reply's would be.
    #[error("the server answered with an error")]
    Failed,
    /// There was no reply in time.
    #[error("{}", match .taken {
        true => "there was no reply in time; a server has the call and may still execute it",
        false => "no server took the call in time; it was taken back and will not be executed",
    })]
    TimedOut {
        /// Whether a server has the call, and so may have executed it, or may do so yet.
        taken: bool,
    },
    /// No server is there, and none has taken the call.
    #[error("the service has no server; start one, or tell the client to wait for it")]
    NoServers,
    /// The server that had taken the call died.
    #[error("the server died while it had the call; it may have executed it in part")]
    ServerDied,
    /// The server let the request go without a reply.
    #[error("the server let the call go without a reply")]
    Dropped,
    /// The request is longer than one may be.
    #[error(
        "a request of {length} bytes is longer than the {longest} bytes that fit this service; create it with a larger capacity"
    )]
    TooLong {
        /// Bytes of the request.
        length: usize,
        /// Bytes that a request may have.
        longest: usize,
    },
    /// There are as many calls as there may be.
    #[error(
        "the service has {limit} calls already, as many as it may; end a client, or create it with a larger limit"
    )]
    Crowded {
        /// How many there may be.
        limit: usize,
    },
    /// A slot of its segment holds what no server or client writes.
    #[error("the service's segment is damaged; remove it and create it anew")]
    Damaged,
    /// The service was removed. A server that had the call may have executed it.
    #[error("the service was removed; open it again")]
    Removed,
    /// This process has the client by a fork.
    #[error("a client can't be used in a child of the process that opened it; open another there")]
    Forked,
}

/// There will be no more requests for this server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The service was removed.
    #[error("the service was removed; open it again")]
    Removed,
    /// This process has the server by a fork.
    #[error("a server can't be used in a child of the process that opened it; open another there")]
    Forked,
}

/// Removes a service: its name is free, and whoever has it open learns of it.
///
/// # Errors
/// See [`Reason`].
pub fn remove(address: impl Into<Address>) -> Result<(), OpenError> {
    channel::remove(&address.into(), |shape: &Shape, region| {
        shape.door(region).ring();
        (0..shape.used(region)).for_each(|slot| shape.answered(region, slot).ring());
    })
}

/// Opens a service, or creates it as `options` say.
pub(crate) fn open_or_create(
    address: Address,
    options: &Options,
) -> Result<Channel<Shape>, OpenError> {
    let Options {
        calls,
        servers,
        request,
        reply,
        mode,
        lifetime,
    } = *options;
    let Some((shape, _)) = Shape::plan(calls, servers, request, reply) else {
        let total = request.saturating_add(reply).saturating_mul(calls.max(1));
        return Err(OpenError::new(&address, Reason::Capacity(total)));
    };
    Channel::open_or_create(address, shape, mode, lifetime)
}
