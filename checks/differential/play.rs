//! Random calls, the same ones each time for the same seed, and the comparison.

use crate::call::{Answer, Call, END, What, pack};
use crate::pair::{Pair, Who};
use checks::process::can_switch_users;
use checks::seen::{self, State};
use checks::suite::{Case, Outcome, case, is_long, quick_or_long};
use checks::user_space::{Folder, enter};
use preload::InSpace;
use std::collections::{HashMap, VecDeque};
use sysv::abi::*;
use sysv::{Calls, Kernel};

pub const CASES: &[Case] = &[
    case("differential::everything", || play(1, [1, 1, 1])),
    case("differential::segments", || play(2, [1, 0, 0])),
    case("differential::queues", || play(3, [0, 1, 0])),
    case("differential::sets", || play(4, [0, 0, 1])),
];

/// A sequence of numbers that looks random: the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: u64) -> u64 {
        (self.next() >> 11) % most
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

const MODES: [i64; 8] = [0o600, 0o666, 0o644, 0o400, 0o200, 0o000, 0o060, 0o606];
const USER: u32 = 61_001;

struct Game {
    dice: Dice,
    weights: [u64; 3],
    pairs: Vec<Pair>,
    /// Ids of each kind that were answered lately, the latest last.
    ids: [Vec<i32>; 3],
    /// Which pair a pid was or is of.
    names: HashMap<i32, String>,
    born: u32,
    history: VecDeque<String>,
    kernel: &'static (dyn Calls + Sync),
    user: &'static (dyn Calls + Sync),
    interrupts: u32,
    deaths: u32,
    sleeps: u32,
}

fn play(seed: u64, weights: [u64; 3]) -> Outcome {
    let folder = Folder::new();
    let space = enter(&folder);
    let user: &'static InSpace<'static> = Box::leak(Box::new(InSpace(space)));
    let given = std::env::var("TOMBOLO_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or(seed);
    let mut game = Game {
        dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
        weights,
        pairs: Vec::new(),
        ids: Default::default(),
        names: HashMap::new(),
        born: 0,
        history: VecDeque::new(),
        kernel: &Kernel,
        user,
        interrupts: 0,
        deaths: 0,
        sleeps: 0,
    };
    let third = if can_switch_users() {
        Who::User(USER)
    } else {
        Who::Powerless
    };
    for who in [Who::Root, Who::Powerless, third, Who::Root] {
        game.birth(who);
    }
    let calls = quick_or_long(3_000, 250_000);
    for step in 0..calls {
        game.step();
        if step % quick_or_long(4, 16) == 0 {
            game.compare();
        }
        if is_long() && step % 10_000 == 0 {
            println!("{step} calls");
        }
    }
    Outcome::Pass(format!(
        "{calls} calls, {} that slept, {} interrupted, {} deaths",
        game.sleeps, game.interrupts, game.deaths
    ))
}

impl Game {
    fn birth(&mut self, who: Who) {
        // A pid that comes again would have two names.
        let pair = loop {
            let pair = Pair::new(self.kernel, self.user, who);
            if pair.pids().iter().all(|pid| !self.names.contains_key(pid)) {
                break pair;
            }
            pair.kill();
        };
        let name = format!("pair {} {who:?}", self.born);
        self.born += 1;
        for pid in pair.pids() {
            self.names.insert(pid, name.clone());
        }
        self.pairs.push(pair);
    }

    fn fail(&self, what: &str) -> ! {
        let history: Vec<&str> = self.history.iter().map(String::as_str).collect();
        panic!("{what}\nafter\n{}", history.join("\n"));
    }

    fn note(&mut self, text: String) {
        self.history.push_back(text);
        if self.history.len() > 40 {
            self.history.pop_front();
        }
    }

    fn step(&mut self) {
        let place = self.dice.below(self.pairs.len() as u64) as usize;
        if self.pairs[place].blocked.is_some() {
            match self.dice.below(10) {
                0 => {
                    self.note(format!("interrupt {place}"));
                    self.pairs[place].interrupt();
                    self.interrupts += 1;
                    self.look_at_sleepers();
                }
                1 => self.death(place),
                _ => {}
            }
            return;
        }
        if self.dice.below(150) == 0 {
            self.death(place);
            return;
        }
        let (mut call, mut may_sleep) = self.any_call(place);
        if call.what == What::Msgsnd && may_sleep && self.someone_sends(call.numbers[0]) {
            call.numbers[4] |= i64::from(IPC_NOWAIT);
            may_sleep = false;
        }
        let pair = &mut self.pairs[place];
        let answers = if may_sleep {
            pair.call_and_maybe_sleep(call)
        } else {
            Some(pair.call(call))
        };
        let who = pair.who;
        self.note(format!("{place} {who:?}: {call:?} -> {answers:?}"));
        match answers {
            Some(answers) => self.judge(place, call, answers),
            None => self.sleeps += 1,
        }
        self.look_at_sleepers();
    }

    /// Whether somebody waits to send to a queue. The kernel wakes all who have room then, and they
    /// race: which of two comes first is nobody's statement.
    fn someone_sends(&self, queue: i64) -> bool {
        let blocked = self.pairs.iter().filter_map(|pair| pair.blocked);
        let mut sending = blocked.filter(|call| call.what == What::Msgsnd);
        sending.any(|call| call.numbers[0] == queue)
    }

    fn death(&mut self, place: usize) {
        let pair = self.pairs.remove(place);
        self.note(format!("death of {place} {:?}", pair.who));
        self.deaths += 1;
        let who = pair.who;
        pair.kill();
        // Settles the dead, which wakes whom they kept waiting.
        self.compare();
        self.look_at_sleepers();
        self.birth(who);
    }

    fn look_at_sleepers(&mut self) {
        // One that goes on may let another go on.
        let mut changed = true;
        while changed {
            changed = false;
            for place in 0..self.pairs.len() {
                let Some(call) = self.pairs[place].blocked else {
                    continue;
                };
                if let Some(answers) = self.pairs[place].look() {
                    self.note(format!("{place} wakes: {call:?} -> {answers:?}"));
                    self.judge(place, call, answers);
                    changed = true;
                }
            }
        }
    }

    fn judge(&mut self, place: usize, call: Call, [kernel, user]: [Answer; 2]) {
        let pid = call.what == What::Semctl && call.numbers[2] == i64::from(GETPID);
        let same = if pid && kernel[0] > 0 {
            self.name(kernel[0] as i32) == self.name(user[0] as i32)
        } else {
            kernel == user
        };
        if !same {
            self.fail(&format!("{call:?}: kernel {kernel:?}, user space {user:?}"));
        }
        if kernel[0] < 0 {
            return;
        }
        let kind = match call.what {
            What::Shmget => 0,
            What::Msgget => 1,
            What::Semget => 2,
            What::Shmat => {
                self.pairs[place].attaches += 1;
                return;
            }
            What::Shmdt => {
                self.pairs[place].attaches -= 1;
                return;
            }
            _ => return,
        };
        let ids = &mut self.ids[kind];
        ids.retain(|id| i64::from(*id) != kernel[0]);
        ids.push(kernel[0] as i32);
        if ids.len() > 8 {
            ids.remove(0);
        }
    }

    fn name(&self, pid: i32) -> String {
        match self.names.get(&pid) {
            Some(name) => name.clone(),
            None => pid.to_string(),
        }
    }

    fn compare(&mut self) {
        let name = |pid: i32| self.name(pid);
        let kernel = seen::look(self.kernel, &name);
        let user = seen::look(self.user, &name);
        let apart = |states: [&State; 2]| {
            let [kernel, user] = states.map(|state| &state.times);
            let near = |(a, b): (&i64, &i64)| (*a == 0) == (*b == 0) && (a - b).abs() <= 1;
            kernel.len() != user.len() || !kernel.iter().zip(user).all(near)
        };
        if kernel.text != user.text || apart([&kernel, &user]) {
            let (a, b) = (kernel.text.lines(), user.text.lines());
            let lines: Vec<_> = a.zip(b).filter(|(a, b)| a != b).collect();
            let times = [kernel.times, user.times];
            self.fail(&format!(
                "{} and {} lines; kernel, user space: {lines:#?}\ntimes {times:?}\n{}",
                kernel.text.lines().count(),
                user.text.lines().count(),
                kernel.text
            ));
        }
    }

    fn id(&mut self, kind: usize) -> i64 {
        let ids = &self.ids[kind];
        if ids.is_empty() || self.dice.chance(3) {
            return self
                .dice
                .one(&[0, -1, 1, 32_768, 65_536, i64::from(i32::MAX)]);
        }
        self.dice.one(&self.ids[kind].clone()).into()
    }

    fn get_flags(&mut self) -> i64 {
        let mode = self.dice.one(&MODES);
        let create = [0, IPC_CREAT, IPC_CREAT, IPC_CREAT | IPC_EXCL, IPC_EXCL];
        i64::from(self.dice.one(&create)) | mode
    }

    fn key(&mut self) -> i64 {
        self.dice.one(&[0, 1, 2, 3, -5])
    }

    /// A call, and whether it may sleep.
    fn any_call(&mut self, place: usize) -> (Call, bool) {
        let total = self.weights.iter().sum();
        let mut chosen = self.dice.below(total);
        let mut kind = 0;
        while chosen >= self.weights[kind] {
            chosen -= self.weights[kind];
            kind += 1;
        }
        let (what, numbers, may_sleep) = match kind {
            0 => self.segment_call(place),
            1 => self.queue_call(),
            _ => self.set_call(),
        };
        (Call { what, numbers }, may_sleep)
    }

    fn segment_call(&mut self, place: usize) -> (What, [i64; 5], bool) {
        let id = self.id(0);
        let dice = &mut self.dice;
        let (what, numbers) = match dice.below(100) {
            0..20 => {
                let size = dice.one(&[0, 1, 4096, 5000, 9000, -1]);
                (What::Shmget, [self.key(), size, self.get_flags(), 0, 0])
            }
            20..55 => {
                let flags = dice.one(&[0, SHM_RDONLY]).into();
                (What::Shmat, [id, flags, dice.below(256) as i64, 0, 0])
            }
            55..80 => {
                let attaches = self.pairs[place].attaches as u64;
                (What::Shmdt, [dice.below(attaches + 1) as i64, 0, 0, 0, 0])
            }
            80..92 => {
                let command = dice.one(&[IPC_RMID, IPC_RMID, SHM_LOCK, SHM_UNLOCK, 77]);
                (What::Shmctl, [id, command.into(), 0, 0, 0])
            }
            _ => {
                let uid = dice.one(&[0, USER.into(), u32::MAX.into()]);
                (What::ShmSet, [id, dice.one(&MODES), uid, 0, 0])
            }
        };
        (what, numbers, false)
    }

    fn queue_call(&mut self) -> (What, [i64; 5], bool) {
        let id = self.id(1);
        let waits = self.dice.chance(12);
        let dice = &mut self.dice;
        let nowait = if waits { 0 } else { i64::from(IPC_NOWAIT) };
        match dice.below(100) {
            0..6 => (What::Msgget, [self.key(), self.get_flags(), 0, 0, 0], false),
            6..50 => {
                let message_type = dice.one(&[1, 1, 2, 3, 7, i64::MAX, 0, -3]);
                let length = dice.one(&[0, 1, 20, 100, 3000, 8192, 8193]);
                let seed = dice.below(256) as i64;
                (
                    What::Msgsnd,
                    [id, message_type, length, seed, nowait],
                    waits,
                )
            }
            50..90 => {
                let size = dice.one(&[0, 10, 100, 9000, 9000, 9000]);
                let wanted = dice.one(&[0, 0, 1, 2, 3, -2, -7, i64::MIN, 7]);
                let flags = dice.one(&[
                    0,
                    0,
                    MSG_NOERROR,
                    MSG_EXCEPT,
                    MSG_EXCEPT | MSG_NOERROR,
                    MSG_COPY,
                ]);
                let flags = i64::from(flags) | nowait;
                (What::Msgrcv, [id, size, wanted, flags, 0], waits)
            }
            90..94 => {
                let command = dice.one(&[IPC_RMID, 55]).into();
                (What::Msgctl, [id, command, 0, 0, 0], false)
            }
            _ => {
                let uid = dice.one(&[0, USER.into(), u32::MAX.into()]);
                let capacity = dice.one(&[0, 3, 500, 16_384, 16_384, 16_385]);
                (
                    What::MsgSet,
                    [id, dice.one(&MODES), uid, capacity, 0],
                    false,
                )
            }
        }
    }

    fn set_call(&mut self) -> (What, [i64; 5], bool) {
        let id = self.id(2);
        let waits = self.dice.chance(12);
        let dice = &mut self.dice;
        match dice.below(100) {
            0..8 => {
                let count = dice.one(&[0, 1, 2, 4, 4, -1, 32_001]);
                (
                    What::Semget,
                    [self.key(), count, self.get_flags(), 0, 0],
                    false,
                )
            }
            8..70 => {
                let mut list = [END; 3];
                let count = dice.one(&[1, 1, 1, 2, 2, 3]);
                for operation in &mut list[..count] {
                    let number = dice.one(&[0, 0, 0, 1, 1, 2, 3, 9]);
                    let amount = dice.one(&[0, 1, 1, 2, -1, -1, -2, 30_000, -30_000]);
                    let nowait = if waits { 0 } else { IPC_NOWAIT as i16 };
                    let undo = dice.one(&[0, SEM_UNDO]);
                    *operation = pack(number, amount, nowait | undo);
                }
                (What::Semop, [id, list[0], list[1], list[2], 0], waits)
            }
            70..86 => {
                let command = dice.one(&[GETVAL, GETPID, GETNCNT, GETZCNT, SETVAL, SETVAL]);
                let number = dice.one(&[0, 1, 2, 3, 9, -1]);
                let value = dice.one(&[0, 1, 5, 32_767, 32_768, -1]);
                (What::Semctl, [id, number, command.into(), value, 0], false)
            }
            86..90 => {
                let most = dice.one(&[3, 40_000]);
                (
                    What::SemSetAll,
                    [id, dice.below(5) as i64, 7, most, 0],
                    false,
                )
            }
            90..94 => {
                let command = dice.one(&[IPC_RMID, 55]).into();
                (What::Semctl, [id, 0, command, 0, 0], false)
            }
            _ => {
                let uid = dice.one(&[0, USER.into(), u32::MAX.into()]);
                (What::SemSet, [id, dice.one(&MODES), uid, 0, 0], false)
            }
        }
    }
}
