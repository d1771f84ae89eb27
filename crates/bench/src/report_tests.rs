//! The page says what the record says, and keeps what was written by hand.

use super::*;
use crate::made_up;
use crate::stats::Spread;
use crate::woken::Woken;

fn record() -> Record {
    let runners = crate::registry::runners();
    let transports = runners.iter().map(|runner| runner.about()).collect();
    let samples = [
        ("bare ring, in-band", 100e6),
        ("queue", 90e6),
        ("pipe", 95e6),
    ];
    let samples = samples.map(|(name, rate)| made_up::sample(name, Topology::Stream, 60.0, rate));
    let y = Spread::of([1e6, 2e6, 3e6]).unwrap();
    let point = |x| crate::growth::Point {
        series: "queue".to_owned(),
        x,
        y,
        to_first: Some(y)
            .filter(|_| x == 64)
            .map(|_| Spread::of([0.8]).unwrap()),
    };
    Record {
        growth: vec![Chart {
            name: "producers".to_owned(),
            title: "Many producers".to_owned(),
            x: "producers".to_owned(),
            y: "messages per second".to_owned(),
            points: vec![point(1), point(64)],
            skipped: Vec::new(),
        }],
        ..made_up::record(Topology::Stream, transports, samples.into())
    }
}

struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_page_has_figures_pictures_losses_and_what_was_written_by_hand() {
    let folder = std::env::temp_dir().join(format!("bench-report-{}", std::process::id()));
    let folder = Folder(folder);
    let (page, pictures) = (folder.0.join("performance.md"), folder.0.join("img"));
    write(&record(), &page, &pictures).unwrap();
    let text = fs::read_to_string(&page).unwrap();
    assert!(
        text.contains("| **queue** | 90 M (0.90: 0.90–0.90 ×) |"),
        "{text}"
    );
    assert!(
        text.contains("| stream, 64 B | pipe: 95 M | queue: 90 M |"),
        "{text}"
    );
    assert!(text.contains("≥ 0.85 × | 0.90 × | met"), "{text}");
    assert!(text.contains(UNWRITTEN));
    for picture in ["stream-64.svg", "producers.svg"] {
        assert!(text.contains(&format!("(img/{picture})")), "{text}");
        let drawn = fs::read_to_string(pictures.join(picture)).unwrap();
        assert!(
            drawn.starts_with("<svg") && drawn.contains("queue"),
            "{drawn}"
        );
    }
    fs::write(&page, text.replace(UNWRITTEN, "Because of *that*.")).unwrap();
    write(&record(), &page, &pictures).unwrap();
    let again = fs::read_to_string(&page).unwrap();
    assert!(again.contains("Because of *that*.") && !again.contains(UNWRITTEN));
}

#[test]
fn the_table_of_the_readme_stands_between_its_marks() {
    let folder = std::env::temp_dir().join(format!("bench-readme-{}", std::process::id()));
    let folder = Folder(folder);
    fs::create_dir_all(folder.0.join("docs/img")).unwrap();
    let page = folder.0.join("README.md");
    fs::write(&page, "nothing").unwrap();
    let error = crate::readme::write(&record(), &page).unwrap_err();
    assert!(error.to_string().contains("has no line"), "{error}");
    let (begin, end) = (
        "<!-- written by `cargo xtask bench` -->",
        "<!-- end of what it writes -->",
    );
    fs::write(&page, format!("before\n{begin}\nold\n{end}\nafter\n")).unwrap();
    crate::readme::write(&record(), &page).unwrap();
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.starts_with("before\n") && text.ends_with("after\n") && !text.contains("old"));
    assert!(
        text.contains("| **queue** |  |  | 90 M /s (0.90 ×) |  |"),
        "{text}"
    );
    assert!(folder.0.join("docs/img/speed.svg").exists());
}

#[test]
fn goals_of_all_parts_of_a_record_are_judged() {
    let mut record = record();
    let spread = |x| Spread::of([x]);
    record.behaviour = Behaviour {
        calls: ["bare ring, in-band", "queue, spinning"]
            .map(|name| Counted {
                transport: name.to_owned(),
                topology: Topology::Stream,
                messages: 1_000_000,
                calls: 2,
                away: 1,
                preemptions: 1,
                by_name: [("sched_yield".to_owned(), 2)].into(),
            })
            .into(),
        idle: spread(0.2),
        asleep: spread(0.99),
        slow: spread(0.8),
        woken: ["queue, parking", "pipe"]
            .map(|name| Woken {
                transport: name.to_owned(),
                nanoseconds: spread(19_000.0).unwrap(),
                to_futex: spread(1.05),
            })
            .into(),
        skipped: Vec::new(),
    };
    record.costs = vec![Cost {
        what: "queue: create, open and close".to_owned(),
        length: None,
        nanoseconds: spread(70_000.0).unwrap(),
        copy: None,
    }];
    let judged: Vec<_> = reach::lines(&record).into_iter().collect();
    let met = |part: &str| {
        let line = judged.iter().find(|line| line.what.contains(part));
        line.unwrap_or_else(|| panic!("no {part}: {judged:?}")).met
    };
    assert!(met("system calls") && met("asleep") && met("create, open"));
    assert!(!met("slow") && !met("parked consumers"));
    assert!(met("waking who sleeps"));
    let text = woken::section(&record.behaviour.woken);
    assert!(
        text.contains("| pipe | 19 µs (19 µs–19 µs) | 1.05 × (1.05 ×–1.05 ×) |"),
        "{text}"
    );
    assert!(met("64 producers"));
    assert!(
        !met("the kernel's own ways"),
        "the pipe is ahead in this record"
    );
}

#[test]
fn goals_speak_of_transports_that_there_are() {
    let runners = crate::registry::runners();
    let names: Vec<_> = runners
        .iter()
        .map(|runner| (runner.about().name, runner.about().family))
        .collect();
    assert_eq!(crate::targets::unknown(&names), [""; 0]);
}
