//! PostgreSQL with its memory, and that of parallel queries, in System V segments. Whether a server
//! may start is decided by the attach count of the segment that the last one left: a backend that
//! has outlived its postmaster still has it attached.

use crate::Piece;
use crate::need::Need;
use crate::stage::{Stage, Started};
use std::process::{Command, Stdio};

pub const PIECES: &[Piece] = &[Piece {
    name: "postgresql",
    needs: &[
        Need::Program("postgres", "postgresql"),
        Need::Program("initdb", "postgresql"),
        Need::Program("pgbench", "postgresql"),
        Need::Program("psql", "postgresql"),
        Need::Program("ipcs", "util-linux"),
    ],
    // It refuses to run as root.
    ordinary: true,
    play: postgresql,
}];

/// Rates: what is told differs from run to run.
pub const MEASURED: &[Piece] = &[Piece {
    name: "postgresql_rates",
    needs: PIECES[0].needs,
    ordinary: true,
    play: rates,
}];

const TRANSACTIONS: usize = 250;

fn rates(stage: &Stage) {
    initialize(stage);
    let server = start(stage, "server.log");
    stage.run(tool(stage, "pgbench").args(["--initialize", "--scale=5", "--quiet"]));
    for (name, more) in [
        ("tpc-b", &[][..]),
        ("select", &["--select-only"]),
        ("connect", &["--select-only", "--connect"]),
    ] {
        let mut bench = tool(stage, "pgbench");
        bench.args(["--client=4", "--jobs=2", "--no-vacuum", "--time=3"]);
        let ran = stage.run(bench.args(more));
        let line = ran.out.lines().find_map(|line| line.strip_prefix("tps = "));
        let rate = line.and_then(|line| line.split(' ').next()?.parse().ok());
        stage.rate(name, rate.unwrap_or_else(|| panic!("no rate: {}", ran.out)));
    }
    server.signal(libc::SIGINT);
    server.wait();
}

fn postgresql(stage: &Stage) {
    initialize(stage);
    let server = start(stage, "first.log");
    stage.tell(&format!("segments: {}", segments(stage)));
    bench(stage);
    parallel(stage);
    let (server, backend) = orphan(stage, server);
    stage.tell(&format!("server {}", server.wait()));
    refused(stage);
    stage.tell("refused while a backend lives");
    // SAFETY: takes numbers; the backend is stopped, and its reaper is this process, so the pid is
    // its own.
    unsafe { libc::kill(backend, libc::SIGKILL) };
    let server = start(stage, "second.log");
    stage.tell("possible when it is gone");
    stage.tell(&sql(stage, "select count(*), sum(delta) = (select sum(abalance) from pgbench_accounts) from pgbench_history"));
    server.signal(libc::SIGINT);
    stage.tell(&format!("server {}", server.wait()));
    stage.tell(&format!("segments: {}", segments(stage)));
}

/// Makes the data, and has its server use System V.
fn initialize(stage: &Stage) {
    let mut init = tool(stage, "initdb");
    init.args([
        "--pgdata=data",
        "--username=tester",
        "--auth=trust",
        "--no-sync",
        "--no-locale",
    ]);
    stage.run(init.arg("--encoding=UTF8"));
    let settings = format!(
        "shared_memory_type = sysv\ndynamic_shared_memory_type = sysv\nlisten_addresses = ''\n\
         unix_socket_directories = '{}'\nfsync = off\nshared_buffers = 16MB\nmax_connections = 20\n",
        stage.folder().display()
    );
    let defaults = stage.read("data/postgresql.conf");
    stage.write("data/postgresql.conf", &(defaults + &settings));
}

/// The transactions of TPC-B by four clients, and whether the sums agree.
fn bench(stage: &Stage) {
    stage.run(tool(stage, "pgbench").args(["--initialize", "--scale=1", "--quiet"]));
    let mut bench = tool(stage, "pgbench");
    bench
        .args(["--client=4", "--jobs=2", "--no-vacuum"])
        .arg(format!("--transactions={TRANSACTIONS}"));
    let ran = stage.run(&mut bench);
    print!("{}", ran.out);
    let told = ["transactions actually", "failed transactions"];
    for line in ran
        .out
        .lines()
        .filter(|line| told.iter().any(|told| line.contains(told)))
    {
        stage.tell(line);
    }
    stage.tell(&sql(
        stage,
        "select count(*), sum(delta) = (select sum(abalance) from pgbench_accounts),
                sum(delta) = (select sum(bbalance) from pgbench_branches) from pgbench_history",
    ));
}

/// Workers of a query that share a segment made for it.
fn parallel(stage: &Stage) {
    let plan = sql(
        stage,
        "set parallel_setup_cost = 0; set parallel_tuple_cost = 0;
         set min_parallel_table_scan_size = 0; set max_parallel_workers_per_gather = 2;
         explain (analyze, costs off, timing off, summary off)
         select bid, sum(aid) from pgbench_accounts group by bid;
         select bid, sum(aid) from pgbench_accounts group by bid",
    );
    let launched = plan
        .lines()
        .filter(|line| line.contains("Workers Launched"));
    launched.for_each(|line| stage.tell(line.trim()));
    stage.tell(plan.lines().last().unwrap_or("nothing"));
}

/// Kills the server at once and leaves one backend alive, stopped so that it cannot notice.
fn orphan(stage: &Stage, server: Started) -> (Started, i32) {
    let mut session = tool(stage, "psql");
    session.args(["--quiet", "--no-align", "--tuples-only", "--no-psqlrc"]);
    let mut session = stage.start(session.stdin(Stdio::piped()), "session.log");
    session.say("select pg_backend_pid();\n");
    stage.until("the session has a backend", || {
        stage.read("session.log").ends_with('\n')
    });
    let backend: i32 = stage.read("session.log").trim().parse().expect("a pid");
    // SAFETY: takes numbers; the session that we hold keeps it alive.
    assert_eq!(unsafe { libc::kill(backend, libc::SIGSTOP) }, 0);
    server.signal(libc::SIGKILL);
    stage.until("the others have noticed", || attaches(stage) == [1]);
    (server, backend)
}

/// How many have each segment attached that has more than none: the backend has the server's own,
/// which a new server looks for.
fn attaches(stage: &Stage) -> Vec<u32> {
    let listed = stage.shell("ipcs -m");
    let segments = listed.lines().filter(|line| line.starts_with("0x"));
    let large = segments.filter(|line| size(line) > 16 << 20);
    let counts = large.filter_map(|line| line.split_whitespace().nth(5)?.parse().ok());
    counts.filter(|count| *count > 0).collect()
}

fn size(line: &str) -> u64 {
    let word = line.split_whitespace().nth(4);
    word.and_then(|word| word.parse().ok()).expect("a size")
}

fn refused(stage: &Stage) {
    let refused = stage.ended(tool(stage, "postgres").args(["-D", "data"]));
    assert_ne!(refused.code, 0, "two servers on one folder");
    let reason = "pre-existing shared memory block";
    assert!(refused.err.contains(reason), "{}", refused.err);
    stage.tell(&format!("{}: {reason}", refused.code));
}

fn start(stage: &Stage, log: &str) -> Started {
    let mut server = stage.start(tool(stage, "postgres").args(["-D", "data"]), log);
    stage.until("the server answers", || {
        assert!(server.runs(), "{}", stage.read(log));
        stage.ended(&mut tool(stage, "pg_isready")).code == 0
    });
    server
}

/// One of PostgreSQL's programs, at the server of this folder.
fn tool(stage: &Stage, name: &str) -> Command {
    let mut tool = stage.at(&stage.program(name));
    tool.env("PGHOST", stage.folder())
        .env("PGUSER", "tester")
        .env("PGDATABASE", "postgres");
    tool
}

fn sql(stage: &Stage, query: &str) -> String {
    let mut psql = tool(stage, "psql");
    psql.args(["--quiet", "--no-align", "--tuples-only", "--no-psqlrc"]);
    stage
        .run(psql.args(["--set=ON_ERROR_STOP=1", "--command", query]))
        .out
}

/// How many segments there are, and how many of each mode.
fn segments(stage: &Stage) -> String {
    let listed = stage.shell("ipcs -m");
    let mut facts: Vec<_> = listed
        .lines()
        .filter(|line| line.starts_with("0x"))
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            format!("{} {}", words[2], words[3])
        })
        .collect();
    facts.sort();
    facts.join(", ")
}
