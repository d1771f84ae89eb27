//! Names belong to users: nobody can squat on one, and colliding ones live side by side.

use crate::scene::{name, numbered, options};
use checks::process::{as_user, can_switch_users, child};
use checks::space::assert_nothing_left;
use checks::suite::{Case, Outcome, case};
use shmem::Reason;
use std::collections::HashMap;
use sysv::{Kernel, Key, Mode, Queue, Segment, msg, shm};
use tombolo::Name;
use tombolo::value::{self, Options, Reader, Writer};

pub const CASES: &[Case] = &[
    case("names::squatted", squatted),
    case("names::of_another_user", of_another_user),
    case("names::colliding", colliding),
    case("limits::segments", segments),
    case("limits::directory_full", directory_full),
    case("limits::directory_full_of_the_stale", full_of_the_stale),
    case("limits::no_queues", no_queues),
];

const NO_USERS: &str = "needs root, to switch to other users";

/// Another user has segments at all keys of my name, channels by their looks.
fn squatted() -> Outcome {
    if !can_switch_users() {
        return Outcome::Skip(NO_USERS.into());
    }
    let victim = Name::of(2, "orders").expect("a name");
    let keys: Vec<Key> = victim.keys().collect();
    let squat = |keys: Vec<Key>| {
        move || {
            let mode = Mode::from_bits_truncate(0o666);
            let options = Options { mode, ..options() };
            // A channel of the same name, of the squatter's own, moved to the victim's keys.
            let mut writer =
                Writer::open_or_create(Name::of(3, "orders").expect("a name"), &options)
                    .expect("open");
            writer.put(&numbered(1)).expect("put");
            let from = shmem::Region::attach(writer.id()).expect("attach");
            let mut bytes = vec![0; from.len()];
            from.copy_out(0, &mut bytes).expect("all");
            for key in &keys {
                let segment = Segment::create(*key, bytes.len(), mode).expect("squat");
                let to = shmem::Region::attach(segment.id()).expect("attach");
                to.copy_in(0, &bytes).expect("all");
            }
            value::remove(Name::of(3, "orders").expect("a name")).expect("remove");
        }
    };
    as_user(3, 3, &[], squat(keys[..15].to_vec())).expect("users");
    // One key is enough.
    as_user(2, 2, &[], || {
        let mine = Name::mine("orders").expect("a name");
        assert!(
            Reader::open(mine.clone())
                .is_err_and(|error| error.is_not_found() || error.is_mismatch())
        );
        let mut writer = Writer::open_or_create(mine.clone(), &options()).expect("the last key");
        writer.put(&numbered(2)).expect("put");
        let mut reader = Reader::open(mine.clone()).expect("mine");
        assert_eq!(
            reader.get().expect("get").expect("a message").bytes,
            numbered(2)
        );
        value::remove(mine).expect("remove");
    })
    .expect("users");
    as_user(3, 3, &[], squat(keys[15..].to_vec())).expect("users");
    as_user(2, 2, &[], || {
        let mine = Name::mine("orders").expect("a name");
        let error = Writer::open_or_create(mine.clone(), &options()).expect_err("no key is left");
        assert!(
            matches!(error.reason(), Reason::WindowFull(ids) if ids.len() == 16),
            "{error}"
        );
        let error = Reader::open(mine).expect_err("not mine");
        assert!(error.is_mismatch() || error.is_not_found(), "{error}");
    })
    .expect("users");
    let squatted = shm::list(Kernel).expect("segments");
    for status in squatted
        .iter()
        .filter(|status| keys.contains(&status.perm.key))
    {
        Segment::from_id(status.id).remove().expect("remove");
    }
    assert_nothing_left("squatted");
    Outcome::Pass(String::new())
}

fn of_another_user() -> Outcome {
    if !can_switch_users() {
        return Outcome::Skip(NO_USERS.into());
    }
    let theirs = || Name::of(2, "orders").expect("a name");
    for (mode, may_read, may_write) in [
        (0o600, false, false),
        (0o644, true, false),
        (0o666, true, true),
    ] {
        as_user(2, 2, &[], || {
            let mode = Mode::from_bits_truncate(mode);
            let mut writer =
                Writer::open_or_create(theirs(), &Options { mode, ..options() }).expect("open");
            writer.put(&numbered(1)).expect("put");
        })
        .expect("users");
        as_user(3, 3, &[], || {
            match Reader::open(theirs()) {
                Ok(mut reader) => {
                    assert!(may_read);
                    assert_eq!(
                        reader.get().expect("get").expect("a message").bytes,
                        numbered(1)
                    );
                }
                Err(error) => assert!(!may_read && error.is_permission_denied(), "{error}"),
            }
            match Writer::open(theirs()) {
                Ok(mut writer) => {
                    assert!(may_write);
                    writer.put(&numbered(2)).expect("put");
                }
                Err(error) => assert!(!may_write && error.is_permission_denied(), "{error}"),
            }
            let error = value::remove(theirs()).expect_err("not mine");
            assert!(error.is_permission_denied(), "{error}");
            // My own name of the same text is another channel.
            let mine = Name::mine("orders").expect("a name");
            assert!(Reader::open(mine).is_err_and(|error| error.is_not_found()));
        })
        .expect("users");
        as_user(2, 2, &[], || value::remove(theirs()).expect("remove")).expect("users");
    }
    as_user(3, 3, &[], || {
        let error = Writer::open_or_create(theirs(), &options()).expect_err("not mine");
        assert!(error.is_permission_denied(), "{error}");
    })
    .expect("users");
    assert_nothing_left("another user's");
    Outcome::Pass(String::new())
}

/// Two names with the same preferred key, and one that overlaps.
fn colliding() -> Outcome {
    let mut first: HashMap<Key, String> = HashMap::new();
    let pair = (0..).find_map(|i| {
        let text = format!("n{i}");
        let key = Name::mine(&text)
            .expect("a name")
            .keys()
            .next()
            .expect("a key");
        first.insert(key, text.clone()).map(|other| (other, text))
    });
    let (one, two) = pair.expect("keys are three bytes");
    let open = |text: &str| Writer::open_or_create(Name::mine(text).expect("a name"), &options());
    let mut writers = [open(&one).expect("open"), open(&two).expect("open")];
    for (i, writer) in writers.iter_mut().enumerate() {
        writer.put(&numbered(i as u64)).expect("put");
        writer.grow(500).expect("grow");
        writer.put(&numbered(10 + i as u64)).expect("put");
    }
    for (i, text) in [&one, &two].into_iter().enumerate() {
        let mut reader = Reader::open(Name::mine(text).expect("a name")).expect("open");
        assert_eq!(
            reader.get().expect("get").expect("a message").bytes,
            numbered(10 + i as u64)
        );
    }
    value::remove(Name::mine(&one).expect("a name")).expect("remove");
    let mut reader = Reader::open(Name::mine(&two).expect("a name")).expect("the other stays");
    assert_eq!(
        reader.get().expect("get").expect("a message").bytes,
        numbered(11)
    );
    value::remove(Name::mine(&two).expect("a name")).expect("remove");
    drop((writers, reader));
    assert_nothing_left("colliding");
    Outcome::Pass(format!("{one} and {two}"))
}

fn set_limit(file: &str, value: &str) -> Result<(), String> {
    let path = format!("/proc/sys/kernel/{file}");
    std::fs::write(&path, value).map_err(|error| format!("{path}: {error}"))
}

/// No more segments: at the presence, and at the channel itself.
fn segments() -> Outcome {
    for most in [0, 1] {
        checks::or_skip!(set_limit("shmmni", &most.to_string()));
        child(|| {
            let error = Writer::open_or_create(name(), &options()).expect_err("no room");
            assert!(
                error.is_limit() && error.to_string().contains("shmmni"),
                "{error}"
            );
        })
        .join();
        assert_eq!(assert_nothing_left("shmmni"), 0);
    }
    checks::or_skip!(set_limit("shmmni", "2"));
    child(|| {
        let mut writer = Writer::open_or_create(name(), &options()).expect("room for two");
        writer.put(&numbered(1)).expect("put");
        let error = writer.grow(500).expect_err("no room");
        assert!(error.to_string().contains("shmmni"), "{error}");
        writer.put(&numbered(2)).expect("it goes on as it is");
        let mut reader = Reader::open(name()).expect("open");
        assert_eq!(
            reader.get().expect("get").expect("a message").bytes,
            numbered(2)
        );
        value::remove(name()).expect("remove");
    })
    .join();
    assert_nothing_left("shmmni");
    Outcome::Pass(String::new())
}

/// A channel that the directory has no room for is a channel all the same.
fn directory_full() -> Outcome {
    checks::or_skip!(set_limit("msgmnb", "64"));
    let names: Vec<Name> = (0..100)
        .map(|i| Name::mine(&format!("a-name-as-long-as-this-{i}")).expect("a name"))
        .collect();
    for name in &names {
        let mut writer = Writer::open_or_create(name.clone(), &options()).expect("open");
        writer.put(&numbered(1)).expect("put");
    }
    let listed = shmem::directory::entries(names[0].uid()).len();
    assert!((1..100).contains(&listed), "{listed} of 100 have room");
    for name in &names {
        let mut reader = Reader::open(name.clone()).expect("open");
        reader.get().expect("get").expect("a message");
        value::remove(name.clone()).expect("remove");
    }
    assert_nothing_left("directory");
    Outcome::Pass(format!("{listed} of 100 listed"))
}

/// What is stale makes room for who comes, and does not keep the directory when the last one goes.
fn full_of_the_stale() -> Outcome {
    checks::or_skip!(set_limit("msgmnb", "64"));
    let named = |i| Name::mine(&format!("a-name-as-long-as-this-{i}")).expect("a name");
    let open = |i| Writer::open_or_create(named(i), &options()).expect("open");
    // So many that the directory is full.
    let writers: Vec<_> = (0..20).map(open).collect();
    let entries = || shmem::directory::entries(named(0).uid());
    let before = entries().len();
    assert!((1..20).contains(&before), "{before} of 20 have room");
    for writer in writers {
        let segment = Segment::from_id(writer.id());
        segment.remove().expect("as ipcrm does");
    }
    let last = open(20);
    let is_listed = entries().iter().any(|entry| entry.id == last.id());
    assert!(is_listed, "{:?}", entries());
    value::remove(named(20)).expect("remove");
    drop(last);
    assert_nothing_left("directory");
    Outcome::Pass(format!("in place of one of {before}"))
}

fn no_queues() -> Outcome {
    checks::or_skip!(set_limit("msgmni", "0"));
    let mut writer = Writer::open_or_create(name(), &options()).expect("open");
    writer.put(&numbered(1)).expect("put");
    writer.grow(500).expect("grow");
    assert!(msg::list(Kernel).expect("queues").is_empty());
    assert!(Queue::create(Key::PRIVATE, Mode::default()).is_err());
    value::remove(name()).expect("remove");
    drop(writer);
    assert_nothing_left("no queues");
    Outcome::Pass(String::new())
}
