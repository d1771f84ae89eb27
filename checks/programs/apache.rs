//! Apache with its locks in System V semaphores: root makes them and gives them to another user,
//! whose processes take turns at accepting and at asking one helper program.

use crate::Piece;
use crate::need::Need;
use crate::stage::Stage;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use std::{fs, thread};

pub const PIECES: &[Piece] = &[Piece {
    name: "apache",
    needs: &[
        Need::Program("apache2", "apache2-bin"),
        Need::Program("ipcs", "util-linux"),
    ],
    ordinary: false,
    play: apache,
}];

const CLIENTS: usize = 4;
const REQUESTS: usize = 100;

fn apache(stage: &Stage) {
    fs::create_dir(stage.path("pages")).expect("the folder is ours");
    stage.write("pages/hello.html", "hello\n");
    let helper = stage.write(
        "helper",
        "#!/bin/sh\nwhile read -r name; do echo \"$name.html\"; done\n",
    );
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(helper, mode).expect("it is ours");
    let ports = free_ports();
    stage.write("conf", &configuration(stage, ports));
    let mut server = stage.at(&stage.program("apache2"));
    server
        .arg("-d")
        .arg(stage.folder())
        .arg("-f")
        .arg(stage.path("conf"))
        .arg("-DFOREGROUND");
    let mut server = stage.start(&mut server, "server.log");
    stage.until("the server answers", || {
        assert!(
            server.runs(),
            "{}{}",
            stage.read("server.log"),
            stage.read("errors")
        );
        ask(ports[0], "/hello.html").is_ok()
    });
    stage.tell(&format!("while it runs: {}", sets(stage)));
    serve(stage, ports);
    // New children, on new semaphores, while the old ones finish.
    server.signal(libc::SIGUSR1);
    stage.until("it has restarted", || {
        stage.read("errors").matches("resuming normal").count() == 2
    });
    serve(stage, ports);
    stage.tell(&format!("after a restart: {}", sets(stage)));
    server.signal(libc::SIGTERM);
    stage.tell(&format!("it ends with {}", server.wait()));
    stage.tell(&format!("afterwards: {}", sets(stage)));
    let errors = stage.read("errors");
    for line in errors
        .lines()
        .filter(|line| line.contains("error]") || line.contains("emerg]"))
    {
        stage.tell(line.split("] ").last().unwrap_or(line));
    }
}

fn configuration(stage: &Stage, ports: [u16; 2]) -> String {
    let folder = stage.folder().display();
    // With two ports, who accepts is decided by a lock; the helper is asked under another.
    let mut text = format!(
        "ServerRoot {folder}\nPidFile {folder}/pid\nServerName localhost\nErrorLog {folder}/errors\n\
         Listen 127.0.0.1:{}\nListen 127.0.0.1:{}\nMutex sysvsem default\nDocumentRoot {folder}/pages\n",
        ports[0], ports[1]
    );
    for module in ["mpm_prefork", "authz_core", "rewrite"] {
        text += &format!("LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so\n");
    }
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } == 0 {
        text += "User nobody\nGroup nogroup\n";
    }
    text + &format!(
        "StartServers {CLIENTS}\nMinSpareServers {CLIENTS}\nMaxSpareServers 8\nMaxRequestWorkers 8\n\
         KeepAlive off\nRewriteEngine on\nRewriteMap helper prg:{folder}/helper\n\
         RewriteRule ^/mapped/(.*)$ /${{helper:$1}}\n\
         <Directory {folder}/pages>\nRequire all granted\n</Directory>\n"
    )
}

/// Two ports that were free a moment ago.
fn free_ports() -> [u16; 2] {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let both = [(); 2].map(|()| TcpListener::bind(any).expect("a free port"));
    both.map(|listener| listener.local_addr().expect("an address").port())
}

/// Many requests from several clients at a time, on both ports.
fn serve(stage: &Stage, ports: [u16; 2]) {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            thread::spawn(move || {
                (0..REQUESTS)
                    .filter(|number| {
                        let page = ["/hello.html", "/mapped/hello"][(client + number) % 2];
                        let answer = ask(ports[number / 2 % 2], page).expect("an answer");
                        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nhello\n")
                    })
                    .count()
            })
        })
        .collect();
    let good = clients
        .into_iter()
        .map(|client| client.join().expect("it asks"))
        .sum::<usize>();
    stage.tell(&format!("{good} of {} requests", CLIENTS * REQUESTS));
}

fn ask(port: u16, page: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        stream,
        "GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The semaphore sets that there are, without their ids: owner, mode, size.
fn sets(stage: &Stage) -> String {
    let listed = stage.shell("ipcs -s");
    let sets = listed.lines().filter(|line| line.starts_with("0x"));
    let facts = sets.map(|line| {
        line.split_whitespace()
            .skip(2)
            .collect::<Vec<_>>()
            .join(" ")
    });
    facts.collect::<Vec<_>>().join(", ")
}
