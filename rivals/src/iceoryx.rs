//! iceoryx2: publish–subscribe, and request–response, both polling.

use anyhow::{Context, Result, anyhow};
use bench::bare::{look, slots};
use bench::content::{Payload, Verifier};
use bench::transport::{
    About, Caller, Family, Link, Receiver, Responder, Sender, Service as Asked, Task, Transport,
    Waits, Way, Wire, only_pairs,
};
use iceoryx2::active_request::ActiveRequest;
use iceoryx2::node::{Node, NodeBuilder};
use iceoryx2::port::backpressure_strategy::BackpressureStrategy;
use iceoryx2::port::client::Client;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::server::Server;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::{Alignment, ServiceName, ipc};
use std::fmt::Debug;
use std::mem::MaybeUninit;

/// Any of its errors; most are not `Error`s that `anyhow` takes.
fn said(error: impl Debug) -> anyhow::Error {
    anyhow!("iceoryx2: {error:?}")
}

fn node() -> Result<Node<ipc::Service>> {
    NodeBuilder::new().create::<ipc::Service>().map_err(said)
}

fn name(link: &Link) -> Result<ServiceName> {
    ServiceName::new(&link.name).map_err(said)
}

fn line() -> Result<Alignment> {
    Alignment::new(64).context("64 is a power of two")
}

/// Writes a message where it lies.
fn write(to: &mut [MaybeUninit<u8>], number: u64, payload: &Payload) {
    payload.write(number, |offset, bytes| {
        for (to, byte) in to[offset..offset + bytes.len()].iter_mut().zip(bytes) {
            to.write(*byte);
        }
    });
}

/// Publish–subscribe.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    /// Whether messages are written and read where they lie.
    pub in_place: bool,
}

/// The end that sends.
pub struct TopicSender {
    publisher: Publisher<ipc::Service, [u8], ()>,
    in_place: bool,
    _node: Node<ipc::Service>,
}

/// The end that receives.
pub struct TopicReceiver {
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    in_place: bool,
    buffer: Vec<u8>,
    _node: Node<ipc::Service>,
}

impl Sender for TopicSender {
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        let length = payload.length();
        // What reached nobody is sent again, as a program that wants it to arrive would.
        loop {
            let mut sample = self.publisher.loan_slice_uninit(length).map_err(said)?;
            let sample = if self.in_place {
                write(sample.payload_mut(), number, payload);
                // SAFETY: all `length` bytes were just written.
                unsafe { sample.assume_init() }
            } else {
                sample.write_from_slice(payload.bytes(number))
            };
            if sample.send().map_err(said)? > 0 {
                return Ok(());
            }
        }
    }
}

impl Receiver for TopicReceiver {
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool> {
        let sample = look(|| self.subscriber.receive().transpose()).map_err(said)?;
        if self.in_place {
            verifier.check(sample.payload())?;
        } else {
            self.buffer.clear();
            self.buffer.extend_from_slice(sample.payload());
            drop(sample);
            verifier.check(&self.buffer)?;
        }
        Ok(true)
    }
}

impl Transport for Topic {
    type Sender = TopicSender;
    type Receiver = TopicReceiver;

    fn about(&self) -> About {
        let (name, way) = match self.in_place {
            true => ("iceoryx2 publish-subscribe, in place", Way::InPlace),
            false => ("iceoryx2 publish-subscribe", Way::OneByOne),
        };
        About::new(name, Family::Rival, Waits::Spin, way)
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        // In place at every length, short ones too: it is what it is made for.
        only_pairs(task)
    }

    fn wire(&self, _: &Task, unique: &str) -> Result<Wire> {
        Ok(Wire::named(unique))
    }

    fn sender(&self, task: &Task, link: &Link) -> Result<TopicSender> {
        let node = node()?;
        let service = topic(&node, task, link)?;
        let publisher = service
            .publisher_builder()
            .initial_max_slice_len(task.length)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .map_err(said)?;
        Ok(TopicSender {
            publisher,
            in_place: self.in_place,
            _node: node,
        })
    }

    fn receiver(&self, task: &Task, link: &Link) -> Result<TopicReceiver> {
        let node = node()?;
        let service = topic(&node, task, link)?;
        let subscriber = service.subscriber_builder().create().map_err(said)?;
        Ok(TopicReceiver {
            subscriber,
            in_place: self.in_place,
            buffer: Vec::with_capacity(task.length),
            _node: node,
        })
    }
}

type TopicFactory =
    iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, [u8], ()>;

fn topic(node: &Node<ipc::Service>, task: &Task, link: &Link) -> Result<TopicFactory> {
    node.service_builder(&name(link)?)
        .publish_subscribe::<[u8]>()
        .payload_alignment(line()?)
        .enable_safe_overflow(false)
        .history_size(0)
        .max_publishers(1)
        .max_subscribers(1)
        .subscriber_max_buffer_size(slots(task.length) as usize)
        .open_or_create()
        .map_err(said)
}

/// Request–response.
#[derive(Clone, Copy, Debug)]
pub struct Requests {
    /// Whether requests and responses are written and read where they lie.
    pub in_place: bool,
}

/// The end that asks.
pub struct RequestCaller {
    client: Client<ipc::Service, [u8], (), [u8], ()>,
    end: RequestEnd,
    _node: Node<ipc::Service>,
}

/// The end that answers.
pub struct RequestResponder {
    server: Server<ipc::Service, [u8], (), [u8], ()>,
    end: RequestEnd,
    _node: Node<ipc::Service>,
}

/// What both ends have.
struct RequestEnd {
    in_place: bool,
    buffer: Vec<u8>,
}

impl RequestEnd {
    fn new(requests: Requests, task: &Task) -> Self {
        Self {
            in_place: requests.in_place,
            buffer: Vec::with_capacity(task.length),
        }
    }

    fn check(&mut self, verifier: &mut Verifier, message: &[u8]) -> Result<()> {
        if self.in_place {
            return Ok(verifier.check(message)?);
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(message);
        Ok(verifier.check(&self.buffer)?)
    }
}

impl Caller for RequestCaller {
    fn call(&mut self, number: u64, payload: &mut Payload, verifier: &mut Verifier) -> Result<()> {
        let length = payload.length();
        let mut request = self.client.loan_slice_uninit(length).map_err(said)?;
        let request = if self.end.in_place {
            write(request.payload_mut(), number, payload);
            // SAFETY: all `length` bytes were just written.
            unsafe { request.assume_init() }
        } else {
            request.write_from_slice(payload.bytes(number))
        };
        let pending = request.send().map_err(said)?;
        let response = look(|| pending.receive().transpose()).map_err(said)?;
        self.end.check(verifier, response.payload())
    }
}

impl Responder for RequestResponder {
    fn respond(&mut self, payload: &mut Payload, verifier: &mut Verifier) -> Result<()> {
        let request: ActiveRequest<ipc::Service, [u8], (), [u8], ()> =
            look(|| self.server.receive().transpose()).map_err(said)?;
        self.end.check(verifier, request.payload())?;
        let (length, number) = (payload.length(), verifier.latest());
        let mut response = request.loan_slice_uninit(length).map_err(said)?;
        let response = if self.end.in_place {
            write(response.payload_mut(), number, payload);
            // SAFETY: all `length` bytes were just written.
            unsafe { response.assume_init() }
        } else {
            response.write_from_slice(payload.bytes(number))
        };
        response.send().map_err(said)
    }
}

type RequestFactory = iceoryx2::service::port_factory::request_response::PortFactory<
    ipc::Service,
    [u8],
    (),
    [u8],
    (),
>;

fn requests(node: &Node<ipc::Service>, link: &Link) -> Result<RequestFactory> {
    node.service_builder(&name(link)?)
        .request_response::<[u8], [u8]>()
        .request_payload_alignment(line()?)
        .response_payload_alignment(line()?)
        .max_clients(1)
        .max_servers(1)
        .open_or_create()
        .map_err(said)
}

impl Asked for Requests {
    type Caller = RequestCaller;
    type Responder = RequestResponder;

    fn about(&self) -> About {
        let (name, way) = match self.in_place {
            true => ("iceoryx2 request-response, in place", Way::InPlace),
            false => ("iceoryx2 request-response", Way::OneByOne),
        };
        About::new(name, Family::Rival, Waits::Spin, way)
    }

    fn wire(&self, _: &Task, unique: &str) -> Result<Wire> {
        Ok(Wire::named(unique))
    }

    fn caller(&self, task: &Task, link: &Link) -> Result<RequestCaller> {
        let node = node()?;
        let service = requests(&node, link)?;
        let client = service.client_builder();
        let client = client.initial_max_slice_len(task.length).create();
        Ok(RequestCaller {
            client: client.map_err(said)?,
            end: RequestEnd::new(*self, task),
            _node: node,
        })
    }

    fn responder(&self, task: &Task, link: &Link) -> Result<RequestResponder> {
        let node = node()?;
        let service = requests(&node, link)?;
        let server = service.server_builder();
        let server = server.initial_max_slice_len(task.length).create();
        Ok(RequestResponder {
            server: server.map_err(said)?,
            end: RequestEnd::new(*self, task),
            _node: node,
        })
    }
}
