//! The page says what the record says, and keeps what was written by hand.

use super::*;
use crate::machine::Machine;
use crate::place::Placement;
use crate::run::{Options, Sample};
use crate::stats::Spread;
use crate::transport::About;
use std::time::Duration;

fn record() -> Record {
    let runners = crate::registry::runners();
    let transports: Vec<About> = runners.iter().map(|runner| runner.about()).collect();
    let sample = |transport: &str, rate: f64| {
        let placement = Placement {
            before: 60.0,
            after: 61.0,
        };
        Sample {
            transport: transport.to_owned(),
            topology: Topology::Stream,
            length: 64,
            at: 1.0,
            placement,
            class: placement.class(),
            preemptions: 0,
            delayed: 0.0,
            messages: 1000,
            rate: Some(rate),
            latency: None,
            sleeps: 0,
        }
    };
    let y = Spread::of([1e6, 2e6, 3e6]).unwrap();
    let point = |x| crate::growth::Point {
        series: "queue".to_owned(),
        x,
        y,
    };
    Record {
        machine: Machine::here(),
        options: Options {
            topologies: vec![Topology::Stream],
            lengths: vec![64],
            repetitions: 1,
            duration: Duration::from_millis(1),
            patience: Duration::ZERO,
            processors: [0, 1],
            only: Vec::new(),
        },
        transports,
        samples: vec![
            sample("bare ring, in-band", 100e6),
            sample("queue", 90e6),
            sample("pipe", 95e6),
        ],
        skipped: Vec::new(),
        growth: vec![Chart {
            name: "producers".to_owned(),
            title: "Many producers".to_owned(),
            x: "producers".to_owned(),
            y: "messages per second".to_owned(),
            points: vec![point(1), point(64)],
            skipped: Vec::new(),
        }],
        costs: Vec::new(),
        seconds: 1.0,
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
    assert!(text.contains("≥ 0.85 × | 0.90 × | reached"), "{text}");
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
fn goals_speak_of_transports_that_there_are() {
    let runners = crate::registry::runners();
    let names: Vec<_> = runners
        .iter()
        .map(|runner| (runner.about().name, runner.about().family))
        .collect();
    assert_eq!(targets::unknown(&names), [""; 0]);
}
