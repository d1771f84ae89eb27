//! The arrows between the crates: which there are, and which there may be.
//!
//! The allowed ones stand once, here, as they are drawn in ARCHITECTURE.md; the check also fails
//! if the page draws anything else. A crate may use whatever an arrow leads to, and whatever that
//! may use. Dev- and build-dependencies count: a test that reaches up the drawing ties the crates
//! together as firmly as code does.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The page that draws them.
const PAGE: &str = "ARCHITECTURE.md";
/// `A ──► B`: A uses B. A crate is called as its folder is.
const DRAWING: &str = "\
cli ──► preload ──► userspace ──► tombolo ──► shmem ──► sysv
cli, xtask ──► bench ──► tombolo
preload-so ──► preload
xtask ──► userspace
capi, python, bridge ──► tombolo
checks ──► everything
";
/// What `checks` may use.
const EVERYTHING: &str = "everything";

/// One dependency of a crate of the workspace on a crate in the repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrow {
    from: String,
    to: String,
}

/// Which crates each crate may use.
struct Allowed(BTreeMap<String, BTreeSet<String>>);

impl Allowed {
    fn parse(drawing: &str) -> Self {
        let mut drawn: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in drawing.lines() {
            let path: Vec<Vec<&str>> = line.split("──►").map(names).collect();
            for crates in path.windows(2) {
                for from in &crates[0] {
                    let to = crates[1].iter().map(ToString::to_string);
                    drawn.entry((*from).to_owned()).or_default().extend(to);
                }
            }
            for name in path.iter().flatten() {
                drawn.entry((*name).to_owned()).or_default();
            }
        }
        Self(drawn)
    }

    fn is_drawn(&self, name: &str) -> bool {
        name != EVERYTHING && self.0.contains_key(name)
    }

    /// Whether a path of arrows leads from one crate to the other.
    fn allows(&self, arrow: &Arrow) -> bool {
        let mut reached = BTreeSet::new();
        let mut next = vec![arrow.from.as_str()];
        while let Some(from) = next.pop() {
            for to in self.0.get(from).into_iter().flatten() {
                if to == &arrow.to || to == EVERYTHING {
                    return true;
                }
                if reached.insert(to) {
                    next.push(to);
                }
            }
        }
        false
    }

    /// What is wrong with the crates and arrows of a workspace, one sentence each.
    fn judge(&self, crates: &[String], arrows: &[Arrow]) -> Vec<String> {
        let strangers = crates
            .iter()
            .filter(|name| !self.is_drawn(name))
            .map(|name| {
                format!(
                    "the crate {name} is not in the drawing; draw it in {PAGE} and in {}",
                    file!()
                )
            });
        let forbidden = arrows.iter().filter(|arrow| {
            // A crate that is not drawn has been named already.
            self.is_drawn(&arrow.from) && !self.allows(arrow)
        });
        let forbidden = forbidden.map(|Arrow { from, to }| {
            format!("{from} ──► {to} is not allowed; the arrows that are stand in {PAGE}")
        });
        strangers.chain(forbidden).collect()
    }
}

/// The crates at one end of an arrow.
fn names(end: &str) -> Vec<&str> {
    end.split(',').map(str::trim).collect()
}

/// What is read of `cargo metadata`.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    /// Set for what is in the repository.
    path: Option<PathBuf>,
}

impl Metadata {
    fn of(root: &Path) -> Result<Self> {
        let output = Command::new(crate::cargo())
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .current_dir(root)
            .output()
            .context("cannot run cargo metadata")?;
        if !output.status.success() {
            bail!(
                "cargo metadata failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        serde_json::from_slice(&output.stdout).context("cargo metadata answers something else")
    }

    fn crates(&self) -> Vec<String> {
        self.packages.iter().map(Package::name).collect()
    }

    fn arrows(&self) -> Vec<Arrow> {
        let arrows = self.packages.iter().flat_map(|package| {
            let paths = package
                .dependencies
                .iter()
                .filter_map(|to| to.path.as_deref());
            paths.map(|to| Arrow {
                from: package.name(),
                to: folder_name(to),
            })
        });
        // One arrow, be it a dependency of the code, of the tests or of both.
        let arrows: BTreeSet<_> = arrows.collect();
        arrows
            .into_iter()
            .filter(|arrow| arrow.from != arrow.to)
            .collect()
    }
}

impl Package {
    fn name(&self) -> String {
        self.manifest_path
            .parent()
            .map(folder_name)
            .unwrap_or_default()
    }
}

fn folder_name(folder: &Path) -> String {
    folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The arrows of a page: its lines that hold one.
fn drawing_of(page: &str) -> String {
    page.lines()
        .filter(|line| line.contains("──►") && !line.contains('`'))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Fails unless every arrow of the workspace is drawn, here and on the page.
pub fn run(root: &Path) -> Result<()> {
    let page =
        std::fs::read_to_string(root.join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let metadata = Metadata::of(root)?;
    let arrows = metadata.arrows();
    let mut wrong = Allowed::parse(DRAWING).judge(&metadata.crates(), &arrows);
    if drawing_of(&page) != DRAWING {
        wrong.push(format!(
            "{PAGE} does not draw the arrows that {} allows:\n{DRAWING}",
            file!()
        ));
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\nxtask: "));
    }
    println!("{} arrows, all drawn in {PAGE}", arrows.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(crates: &[&str], arrows: &[(&str, &str)]) -> Vec<String> {
        let crates: Vec<_> = crates.iter().map(ToString::to_string).collect();
        let arrows: Vec<_> = arrows
            .iter()
            .map(|(from, to)| Arrow {
                from: (*from).to_owned(),
                to: (*to).to_owned(),
            })
            .collect();
        Allowed::parse(DRAWING).judge(&crates, &arrows)
    }

    #[test]
    fn what_is_drawn_is_allowed_and_what_lies_further_down() {
        let crates = ["cli", "tombolo", "shmem", "sysv", "checks", "xtask"];
        let arrows = [
            ("shmem", "sysv"),
            ("tombolo", "sysv"),
            ("cli", "tombolo"),
            ("cli", "sysv"),
            ("preload", "shmem"),
            ("xtask", "shmem"),
            ("checks", "cli"),
            ("checks", "preload"),
        ];
        assert_eq!(judge(&crates, &arrows), Vec::<String>::new());
    }

    #[test]
    fn up_and_sideways_are_forbidden() {
        for (from, to) in [
            ("sysv", "shmem"),
            ("sysv", "tombolo"),
            ("tombolo", "cli"),
            ("shmem", "checks"),
            ("capi", "python"),
            ("bridge", "userspace"),
            ("preload", "cli"),
            ("preload", "preload-so"),
            ("xtask", "cli"),
            ("cli", "xtask"),
        ] {
            let wrong = judge(&[], &[(from, to)]);
            assert_eq!(wrong.len(), 1, "{from} to {to}");
            assert!(
                wrong[0].contains(&format!("{from} ──► {to}")),
                "{}",
                wrong[0]
            );
            assert!(wrong[0].contains(PAGE), "{}", wrong[0]);
        }
    }

    #[test]
    fn a_crate_nobody_drew_is_named() {
        let wrong = judge(
            &["sysv", "everything", "helpers"],
            &[("helpers", "sysv"), ("sysv", "helpers")],
        );
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[0].contains("everything"));
        assert!(wrong[1].contains("crate helpers is not in the drawing"));
        assert!(wrong[2].contains("sysv ──► helpers"));
    }

    #[test]
    fn dependencies_of_tests_and_build_scripts_count() {
        let metadata = |kind: &str| -> Metadata {
            let json = format!(
                r#"{{"packages": [
                    {{"manifest_path": "/w/crates/sysv/Cargo.toml", "dependencies": [
                        {{"name": "libc", "kind": {kind}}},
                        {{"name": "tombolo-shmem", "rename": "s", "kind": {kind}, "path": "/w/crates/shmem"}}
                    ]}},
                    {{"manifest_path": "/w/crates/shmem/Cargo.toml", "dependencies": []}}
                ]}}"#
            );
            serde_json::from_str(&json).unwrap()
        };
        for kind in ["null", r#""dev""#, r#""build""#] {
            let metadata = metadata(kind);
            assert_eq!(metadata.crates(), ["sysv", "shmem"]);
            let wrong = Allowed::parse(DRAWING).judge(&metadata.crates(), &metadata.arrows());
            assert_eq!(wrong.len(), 1, "{kind}: {wrong:?}");
            assert!(wrong[0].contains("sysv ──► shmem"), "{}", wrong[0]);
        }
    }

    #[test]
    fn the_page_is_read_without_its_prose() {
        let page = format!("# Map\n`A ──► B`: A uses B.\n```text\n{DRAWING}```\n");
        assert_eq!(drawing_of(&page), DRAWING);
        assert_ne!(
            drawing_of(&page.replace("xtask ──► userspace\n", "")),
            DRAWING
        );
    }

    #[test]
    fn this_workspace_is_as_it_is_drawn() {
        run(crate::root()).unwrap();
    }
}
