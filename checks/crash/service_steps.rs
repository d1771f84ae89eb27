//! One process of a service killed after each change that it makes.

use crate::kill::{Operation, Survey, everywhere, killed_after};
use checks::message::{check, message};
use checks::process::{BOUND, Child, Gate, child, shared_words};
use checks::space::{assert_nothing_left, left};
use checks::suite::{Case, Outcome, case};
use shmem::Region;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tombolo::Name;
use tombolo::service::{CallError, Client, Options, Pending, Request, Server};

pub const CASES: &[Case] = &[
    case("service::create", create),
    case("service::client_opens", client_opens),
    case("service::client_inherits", client_inherits),
    case("service::start", start),
    case("service::time_out", time_out),
    case("service::call", call),
    case("service::server_opens", server_opens),
    case("service::serve", serve),
    case("service::serve_in_place", serve_in_place),
    case("service::serve_inherited", serve_inherited),
    case("service::let_go", let_go),
    case("service::server_leaves", server_leaves),
    case("service::leave_last", leave_last),
];

/// Slots for calls.
const CALLS: usize = 4;
/// Calls that wait for the server that is killed.
const WAITING: u64 = 3;

fn name() -> Name {
    Name::mine("crash-service").expect("a name")
}

/// Small, so that all bytes of a segment can be watched.
fn options() -> Options {
    Options {
        calls: CALLS,
        servers: 2,
        request: 120,
        reply: 160,
        ..Options::default()
    }
}

fn client() -> Client {
    Client::open_or_create(name(), &options()).expect("a client")
}

fn server() -> Server {
    Server::open_or_create(name(), &options()).expect("a server")
}

/// Call `number`; lengths vary.
fn request(number: u64) -> Vec<u8> {
    message(number, 24 + (number as usize * 31) % 90)
}

fn reply(number: u64) -> Vec<u8> {
    message(number + 1_000_000, 24 + (number as usize * 17) % 130)
}

/// What stands before, and what those who are killed have told.
struct Scene {
    client: Option<Client>,
    server: Option<Server>,
    /// Calls from 1 on, of the client.
    pending: Vec<Pending>,
    /// By call: how often it was executed, and how often its reply was seen.
    executed: &'static [AtomicI64],
    replied: &'static [AtomicI64],
    /// The service's segment, where executing leaves a mark, so that who does it is killed there.
    mark: Option<Region>,
    /// Whether requests are let go without a reply.
    lets_go: bool,
    /// Another process, which serves.
    helper: Option<Child>,
}

impl Scene {
    fn new() -> Self {
        thread_local! {
            static WORDS: &'static [AtomicI64] = shared_words(64);
        }
        let words = WORDS.with(|words| *words);
        words
            .iter()
            .for_each(|word| word.store(0, Ordering::SeqCst));
        let (executed, replied) = words.split_at(32);
        Self {
            client: None,
            server: None,
            pending: vec![],
            executed,
            replied,
            mark: None,
            lets_go: false,
            helper: None,
        }
    }

    /// A client has called a server a few times.
    fn running() -> Self {
        let mut scene = Self::new();
        let (mut client, mut server) = (client(), server());
        for number in 1000..1005 {
            exchange(&mut client, &mut server, number, "before");
        }
        scene.mark = Some(Region::attach(client.id()).expect("attach"));
        scene.client = Some(client);
        scene.server = Some(server);
        scene
    }

    /// The same, with calls that wait, and no server but the one that is killed.
    fn waiting() -> Self {
        let mut scene = Self::running();
        scene.server = None;
        let client = scene.client.as_mut().expect("it runs");
        let start = |number| client.start(&request(number)).expect("start");
        scene.pending = (1..=WAITING).map(start).collect();
        scene
    }

    /// A client has called; a process of its own serves.
    fn served() -> Self {
        let mut scene = Self::running();
        let ready = Gate::new();
        let helper = child(|| {
            let mut server = server();
            ready.open();
            loop {
                scene.answer(server.next().expect("next"));
            }
        });
        ready.wait();
        scene.server = None;
        scene.helper = Some(helper);
        scene
    }

    /// Padding of the layout.
    const MARK: usize = 272;

    /// Reads a request, and writes down that it was executed.
    fn execute(&self, request: &Request<'_>) -> u64 {
        let mut bytes = vec![];
        request.append_to(&mut bytes);
        let number = check(&bytes).expect("whole");
        self.executed[number as usize].fetch_add(1, Ordering::SeqCst);
        if let Some(mark) = &self.mark {
            mark.u64(Self::MARK).store(number, Ordering::SeqCst);
        }
        number
    }

    fn answer(&self, request: Request<'_>) {
        let number = self.execute(&request);
        request.reply(&reply(number)).expect("it fits");
    }

    fn see(&self, number: u64, bytes: &[u8]) {
        assert_eq!(check(bytes), Ok(number + 1_000_000));
        self.replied[number as usize].fetch_add(1, Ordering::SeqCst);
    }

    /// A server that is there now answers all that waits.
    fn drain(&mut self) {
        let mut server = self.server.take().unwrap_or_else(server);
        while let Some(request) = server.try_next().expect("next") {
            self.answer(request);
        }
        self.server = Some(server);
    }

    /// Each call was executed once at most, and whoever has a reply has the right one.
    fn account(&mut self, completed: bool, survey: &mut Survey) {
        let at = survey.at.clone();
        self.drain();
        let mut died = 0;
        for (i, pending) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            let number = i as u64 + 1;
            let mut bytes = vec![];
            let waited = || pending.wait_timeout(BOUND, &mut bytes);
            match survey.prompt.time("waiting for a reply", waited) {
                Ok(()) => self.see(number, &bytes),
                Err(CallError::ServerDied) => died += 1,
                Err(CallError::Dropped) if self.lets_go => {}
                Err(error) => panic!("{at}: call {number}: {error}"),
            }
        }
        assert!(died <= usize::from(!completed), "{at}: {died} calls failed");
        for (number, executed) in self.executed.iter().enumerate() {
            let executed = executed.load(Ordering::SeqCst);
            let replied = self.replied[number].load(Ordering::SeqCst);
            assert!(
                executed <= 1,
                "{at}: call {number} executed {executed} times"
            );
            assert!(
                replied <= executed,
                "{at}: call {number} was never executed"
            );
        }
    }

    /// Those who are left and those who come go on; all slots are to be had; then all leave.
    fn go_on(mut self, survey: &mut Survey) {
        let at = survey.at.clone();
        self.mark = None;
        self.helper.take().map(Child::kill);
        let prompt = &mut survey.prompt;
        let mut new = prompt.time("open", client);
        let mut second = prompt.time("open", server);
        let mut first = self.server.take().unwrap_or_else(server);
        for number in 2000..2010 {
            prompt.time("call", || exchange(&mut new, &mut second, number, &at));
            if let Some(old) = &mut self.client {
                prompt.time("call", || exchange(old, &mut first, number, &at));
            }
        }
        drop((new, self.client, second));
        let all: Vec<_> = (0..CALLS).map(|_| prompt.time("open", client)).collect();
        drop((all, first));
        let orphans = left().orphans.len();
        assert!(
            orphans <= 2,
            "{at}: {orphans} presence orphans of one death"
        );
        survey.orphans += assert_nothing_left(&at);
    }
}

/// One call, from the request to the reply.
fn exchange(client: &mut Client, server: &mut Server, number: u64, at: &str) {
    let pending = client.start(&request(number));
    let pending = pending.unwrap_or_else(|error| panic!("{at}: call {number}: {error}"));
    let found = server
        .next()
        .unwrap_or_else(|error| panic!("{at}: {error}"));
    let mut bytes = vec![];
    found.append_to(&mut bytes);
    assert_eq!(check(&bytes), Ok(number), "{at}");
    found.reply(&reply(number)).expect("it fits");
    let replied = pending.wait(&mut bytes);
    replied.unwrap_or_else(|error| panic!("{at}: call {number}: {error}"));
    assert_eq!(check(&bytes), Ok(number + 1_000_000), "{at}");
}

fn nothing(_: &Scene) {}

/// Nobody has lost or executed anything twice.
fn accounted(mut scene: Scene, completed: bool, survey: &mut Survey) {
    scene.helper.take().map(Child::kill);
    scene.account(completed, survey);
    scene.go_on(survey);
}

fn operation<P>(
    scene: &dyn Fn() -> Scene,
    prepare: &dyn Fn(&Scene) -> P,
    act: &dyn Fn(&Scene, P),
) -> Outcome {
    everywhere(&Operation {
        scene,
        prepare,
        act,
        survive: &accounted,
        each: 1,
    })
}

fn create() -> Outcome {
    let act = |_: &Scene, ()| drop((server(), client()));
    operation(&Scene::new, &nothing, &act)
}

fn client_opens() -> Outcome {
    operation(&Scene::running, &nothing, &|_, ()| drop(client()))
}

fn server_opens() -> Outcome {
    operation(&Scene::waiting, &nothing, &|_, ()| drop(server()))
}

/// The slot was another's that was killed with a call in it.
fn client_inherits() -> Outcome {
    let scene = || {
        let scene = Scene::running();
        let asked = Gate::new();
        let dies = child(|| {
            let mut client = client();
            let pending = client.start(&request(1)).expect("start");
            asked.open();
            Gate::new().wait();
            drop(pending);
        });
        asked.wait();
        dies.kill();
        scene
    };
    operation(&scene, &nothing, &|_, ()| {
        let mut client = client();
        let first = client.start(&request(2)).expect("start");
        let second = client.start(&request(3)).expect("start");
        drop((first, second));
    })
}

/// Calls that are started and then not waited for.
fn start() -> Outcome {
    operation(&Scene::running, &|_| client(), &|_, mut client| {
        let first = client.start(&request(1)).expect("start");
        let second = client.start(&request(2)).expect("start");
        drop(first);
        let third = client.start(&request(3)).expect("start");
        drop((second, third));
    })
}

fn time_out() -> Outcome {
    operation(&Scene::running, &|_| client(), &|_, mut client| {
        for number in 1..=2 {
            let late = client.call_timeout(&request(number), Duration::ZERO, &mut vec![]);
            assert_eq!(late, Err(CallError::TimedOut { taken: false }));
        }
    })
}

fn call() -> Outcome {
    operation(&Scene::served, &|_| client(), &|scene, mut client| {
        let mut bytes = vec![];
        for number in 1..=2 {
            client.call(&request(number), &mut bytes).expect("call");
            scene.see(number, &bytes);
        }
    })
}

fn serve() -> Outcome {
    operation(&Scene::waiting, &|_| server(), &|scene, mut server| {
        for _ in 0..WAITING {
            scene.answer(server.next().expect("next"));
        }
    })
}

fn serve_in_place() -> Outcome {
    operation(&Scene::waiting, &|_| server(), &|scene, mut server| {
        for _ in 0..WAITING {
            let request = server.next().expect("next");
            let number = scene.execute(&request);
            let bytes = reply(number);
            let mut loan = request.loan(bytes.len()).expect("it fits");
            loan.copy_in(0, &bytes[..11]).expect("inside");
            loan.copy_in(11, &bytes[11..]).expect("inside");
            loan.send();
        }
    })
}

/// A server takes over from one that was killed when it had just taken a slot, or had the call in
/// hand: see `service_slot`. Two calls fail at most, one for each server.
fn serve_inherited() -> Outcome {
    let killed = std::cell::Cell::new(0);
    everywhere(&Operation {
        scene: &|| {
            let scene = Scene::waiting();
            // After TAKER, after PULSE, after TAKEN, in turn.
            killed.set(killed.get() % 3 + 1);
            let take = |mut server: Server| std::mem::forget(server.next().expect("next"));
            killed_after(killed.get(), server, take);
            scene
        },
        prepare: &|_| server(),
        act: &|scene, mut server| {
            while let Some(request) = server.try_next().expect("next") {
                scene.answer(request);
            }
        },
        survive: &|mut scene: Scene, completed, survey| {
            scene.drain();
            let at = survey.at.clone();
            let mut died = 0;
            for (i, pending) in std::mem::take(&mut scene.pending).into_iter().enumerate() {
                let mut bytes = vec![];
                let waited = || pending.wait_timeout(BOUND, &mut bytes);
                match survey.prompt.time("waiting for a reply", waited) {
                    Ok(()) => scene.see(i as u64 + 1, &bytes),
                    Err(CallError::ServerDied) => died += 1,
                    Err(error) => panic!("{at}: call {}: {error}", i + 1),
                }
            }
            assert!(died <= 1 + usize::from(!completed), "{at}: {died} failed");
            accounted(scene, completed, survey);
        },
        each: 1,
    })
}

/// Requests without a reply.
fn let_go() -> Outcome {
    let scene = || Scene {
        lets_go: true,
        ..Scene::waiting()
    };
    operation(&scene, &|_| server(), &|scene, mut server| {
        let request = server.next().expect("next");
        scene.execute(&request);
        drop(request);
        let request = server.next().expect("next");
        scene.execute(&request);
        drop(request.loan(100).expect("it fits"));
    })
}

/// The last server leaves: what waits fails, and nobody executes it.
fn server_leaves() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::waiting,
        prepare: &|_| server(),
        act: &|_, server| drop(server),
        survive: &|mut scene: Scene, _, survey| {
            for pending in std::mem::take(&mut scene.pending) {
                let waited = || pending.wait_timeout(BOUND, &mut vec![]);
                let ended = survey.prompt.time("waiting for a reply", waited);
                assert_eq!(ended, Err(CallError::NoServers), "{}", survey.at);
            }
            scene.drain();
            let executed = |word: &AtomicI64| word.load(Ordering::SeqCst) > 0;
            assert!(!scene.executed.iter().any(executed), "{}", survey.at);
            scene.go_on(survey);
        },
        each: 1,
    })
}

/// The last to leave.
fn leave_last() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::new,
        prepare: &|_| client(),
        act: &|_, client| drop(client),
        survive: &|scene, completed, survey| {
            if completed {
                let opened = Client::open(name());
                let gone = opened.is_err_and(|error| error.is_not_found());
                assert!(gone, "{}", survey.at);
            }
            scene.go_on(survey);
        },
        each: 1,
    })
}
