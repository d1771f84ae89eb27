//! The System V calls of Perl, Python and PHP, each in a script beside this file that uses all of
//! them in several processes and prints what it saw.

use crate::Piece;
use crate::need::{self, Need};
use crate::stage::Stage;

pub const PIECES: &[Piece] = &[
    Piece {
        name: "perl",
        needs: &[Need::Perl("IPC::SysV", "perl")],
        ordinary: false,
        play: |stage| {
            script(
                stage,
                "perl",
                "family.pl",
                include_str!("scripts/family.pl"),
            )
        },
    },
    Piece {
        name: "perl_shareable",
        needs: &[Need::Perl("IPC::Shareable", "libipc-shareable-perl")],
        ordinary: false,
        play: |stage| {
            script(
                stage,
                "perl",
                "shareable.pl",
                include_str!("scripts/shareable.pl"),
            )
        },
    },
    Piece {
        name: "perl_sharelite",
        needs: &[Need::Perl("IPC::ShareLite", "libipc-sharelite-perl")],
        ordinary: false,
        play: |stage| {
            script(
                stage,
                "perl",
                "sharelite.pl",
                include_str!("scripts/sharelite.pl"),
            )
        },
    },
    Piece {
        name: "python",
        needs: &[Need::Python("sysv_ipc", "sysv_ipc")],
        ordinary: false,
        play: python,
    },
    Piece {
        name: "php",
        needs: &[
            Need::Program("php", "php-cli"),
            Need::Php("sysvmsg", "php-common"),
            Need::Php("sysvsem", "php-common"),
            Need::Php("sysvshm", "php-common"),
            Need::Php("shmop", "php-common"),
        ],
        ordinary: false,
        play: |stage| {
            script(
                stage,
                "php",
                "family.php",
                include_str!("scripts/family.php"),
            )
        },
    },
];

fn script(stage: &Stage, language: &str, name: &str, text: &str) {
    let script = stage.write(name, text);
    let ran = stage.run(stage.at(&stage.program(language)).arg(script));
    stage.tell(&ran.out);
    stage.tell(&ran.err);
}

fn python(stage: &Stage) {
    let script = stage.write("family.py", include_str!("scripts/family.py"));
    let python = need::venv().join("bin/python");
    let ran = stage.run(stage.at(&python).arg("-u").arg(script));
    stage.tell(&ran.out);
    stage.tell(&ran.err);
}
