//! System V IPC for today: channels over shared memory, at the speed of memory.
//!
//! Several processes on one Linux host share a segment; Tombolo brings the synchronisation that
//! shared memory lacks, and names, message boundaries and survival of `kill -9` with it.
//!
//! - [`inspect`]: how full a channel is and who takes part, from outside.
//! - [`mailbox`]: messages with types, taken by type.
//! - [`queue`]: the bounded buffer; each message goes to one consumer.
//! - [`service`]: requests with replies; each reply finds who asked.
//! - [`topic`]: one to many; each message goes to every subscriber.
//! - [`value`]: the latest message, readable any number of times.
//! - [`mailbox_store`]: typed messages, on which mailboxes and user-space queues stand;
//!   [`mailbox_lane`]: a short way to it.
//! - `asynchronous`: the same for tasks, with the feature `async`.
//! - [`sysv`]: every System V call itself, safely.
//! - [`shmem`]: what channels are made of.
#![forbid(unsafe_code)]

#[cfg(all(feature = "async", not(loom)))]
mod async_mailbox;
#[cfg(all(feature = "async", not(loom)))]
mod async_queue;
#[cfg(all(feature = "async", not(loom)))]
mod async_service;
#[cfg(all(feature = "async", not(loom)))]
mod async_topic;
#[cfg(all(feature = "async", not(loom)))]
mod async_value;
#[cfg(all(feature = "async", not(loom)))]
pub mod asynchronous;
#[cfg(not(loom))]
mod channel;
mod coming;
#[cfg(all(any(test, feature = "fuzzing"), not(loom)))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(all(any(test, feature = "fuzzing"), not(loom)))]
mod fuzzing_mailbox;
#[cfg(all(any(test, feature = "fuzzing"), not(loom)))]
mod fuzzing_queue;
#[cfg(all(any(test, feature = "fuzzing"), not(loom)))]
mod fuzzing_service;
#[cfg(all(any(test, feature = "fuzzing"), not(loom)))]
mod fuzzing_topic;
#[cfg(all(any(test, feature = "fuzzing"), not(loom)))]
mod fuzzing_value;
mod glance;
#[cfg(not(loom))]
pub mod inspect;
#[cfg(not(loom))]
mod inspect_parts;
#[cfg(all(test, not(loom)))]
mod inspect_tests;
#[cfg(not(loom))]
mod inspect_types;
#[cfg_attr(loom, allow(dead_code, reason = "loom models parts of it"))]
mod lane;
#[cfg(not(loom))]
pub mod mailbox;
#[cfg(not(loom))]
mod mailbox_inside;
#[cfg_attr(loom, allow(dead_code, reason = "loom models parts of it"))]
pub mod mailbox_lane;
#[cfg(not(loom))]
mod mailbox_layout;
#[cfg(not(loom))]
mod mailbox_lead;
#[cfg(not(loom))]
mod mailbox_member;
#[cfg(not(loom))]
mod mailbox_members;
#[cfg(not(loom))]
mod mailbox_message;
#[cfg(all(test, not(loom)))]
mod mailbox_model;
#[cfg(not(loom))]
mod mailbox_poster;
#[cfg(not(loom))]
pub mod mailbox_store;
#[cfg(not(loom))]
mod mailbox_taker;
#[cfg(all(test, not(loom)))]
mod mailbox_tests;
#[cfg_attr(loom, allow(dead_code, reason = "loom models the words alone"))]
mod mailbox_waits;
#[cfg_attr(loom, allow(dead_code, reason = "loom models parts of it"))]
mod participant;
#[cfg(not(loom))]
pub mod queue;
#[cfg(not(loom))]
mod queue_consumer;
#[cfg(not(loom))]
mod queue_delivery;
#[cfg_attr(loom, expect(dead_code, reason = "loom models what is raced for"))]
mod queue_entry;
mod queue_hold;
mod queue_kept;
#[cfg_attr(
    loom,
    expect(dead_code, reason = "loom models a shape without its segment")
)]
mod queue_layout;
#[cfg_attr(loom, expect(dead_code, reason = "loom models what is raced for"))]
mod queue_members;
#[cfg(not(loom))]
mod queue_producer;
mod queue_row;
mod queue_run;
#[cfg(not(loom))]
mod queue_sending;
mod queue_taker;
#[cfg(test)]
mod queue_tests;
mod queue_turn;
mod queue_wakes;
#[cfg_attr(loom, allow(dead_code, reason = "loom models parts of it"))]
mod ring;
#[cfg(not(loom))]
pub mod service;
#[cfg(not(loom))]
mod service_asking;
#[cfg(not(loom))]
mod service_client;
#[cfg_attr(
    loom,
    expect(dead_code, reason = "loom models a shape without its segment")
)]
mod service_layout;
mod service_members;
#[cfg(not(loom))]
mod service_server;
#[cfg_attr(loom, expect(dead_code, reason = "loom models what is raced for"))]
mod service_slot;
#[cfg(test)]
mod service_tests;
#[cfg(not(loom))]
pub mod topic;
#[cfg(not(loom))]
mod topic_copy;
#[cfg(not(loom))]
mod topic_delivery;
#[cfg_attr(loom, allow(dead_code, reason = "loom models parts of it"))]
mod topic_head;
#[cfg_attr(
    loom,
    allow(dead_code, reason = "loom models a shape without its segment")
)]
mod topic_layout;
#[cfg_attr(loom, allow(dead_code, reason = "loom models what is raced for"))]
mod topic_members;
#[cfg(all(test, loom))]
mod topic_models;
#[cfg_attr(loom, allow(dead_code, reason = "loom models parts of it"))]
mod topic_policy;
#[cfg(not(loom))]
mod topic_publisher;
#[cfg(not(loom))]
mod topic_publishing;
#[cfg(test)]
mod topic_reader;
#[cfg_attr(loom, allow(dead_code, reason = "loom models parts of it"))]
mod topic_run;
#[cfg(not(loom))]
mod topic_subscriber;
#[cfg_attr(loom, allow(dead_code, reason = "loom models parts of it"))]
mod topic_tail;
#[cfg(all(test, not(loom)))]
mod topic_tests;
#[cfg(not(loom))]
pub mod value;
#[cfg_attr(loom, expect(dead_code, reason = "loom models the slots alone"))]
mod value_keep;
#[cfg(not(loom))]
mod value_reader;
mod value_slots;
#[cfg(not(loom))]
mod value_writer;

#[cfg(not(loom))]
pub use channel::KINDS;
pub use shmem::zerocopy;
#[cfg(not(loom))]
pub use shmem::{Address, Name, OpenError, Reason, header::Lifetime, wait::Patience};
pub use {shmem, sysv};

/// The layouts of [`mailbox`], for `docs/layout.md`.
#[cfg(not(loom))]
pub const MAILBOX_LAYOUTS: [&shmem::layout::Layout; 2] = [
    &mailbox_layout::layout::LAYOUT,
    &mailbox_layout::seat::LAYOUT,
];

/// The layouts of [`mailbox_store`] and [`mailbox_lane`], for `docs/layout.md`.
#[cfg(not(loom))]
pub const STORE_LAYOUTS: [&shmem::layout::Layout; 8] = [
    &mailbox_store::layout::LAYOUT,
    &mailbox_store::message::LAYOUT,
    &mailbox_store::run::LAYOUT,
    &mailbox_store::kind::LAYOUT,
    &mailbox_store::node::LAYOUT,
    &mailbox_lane::layout::LAYOUT,
    &mailbox_lane::side::LAYOUT,
    &mailbox_lane::record::LAYOUT,
];

/// The layouts that this crate puts into segments, for `docs/layout.md`.
pub const LAYOUTS: [&shmem::layout::Layout; 18] = [
    &participant::layout::LAYOUT,
    &value_slots::layout::LAYOUT,
    &value_slots::slot::LAYOUT,
    &value_slots::keeper::LAYOUT,
    &queue_layout::layout::LAYOUT,
    &queue_layout::lane::LAYOUT,
    &queue_layout::seat::LAYOUT,
    &queue_layout::record::LAYOUT,
    &service_layout::layout::LAYOUT,
    &service_layout::slot::LAYOUT,
    &service_layout::request::LAYOUT,
    &service_layout::reply::LAYOUT,
    &service_layout::seat::LAYOUT,
    &topic_layout::layout::LAYOUT,
    &topic_layout::lane::LAYOUT,
    &topic_layout::seat::LAYOUT,
    &topic_layout::cursor::LAYOUT,
    &topic_layout::record::LAYOUT,
];
