//! The mutants stay applicable. Whether each is killed is tried by `tests/simulation/mutants/run`, which takes too
//! long for every test run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// How many there have to be.
const MIN_MUTANTS: usize = 40;

fn git(directory: &Path, arguments: &[&str]) -> Option<Output> {
    Command::new("git").current_dir(directory).args(arguments).output().ok()
}

#[test]
fn every_mutant_can_be_applied() {
    let mutants = Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants");
    let mut patches: Vec<PathBuf> =
        std::fs::read_dir(&mutants).unwrap().map(|entry| entry.unwrap().path()).collect();
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    assert!(patches.len() >= MIN_MUTANTS, "{} mutants", patches.len());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // A copy without a repository, or a machine without git, can tell nothing.
    if git(&root, &["rev-parse", "--git-dir"]).is_none_or(|told| !told.status.success()) {
        println!("there is no git here; skipped");
        return;
    }
    for patch in patches {
        let text = std::fs::read_to_string(&patch).unwrap();
        assert!(text.contains("\nKilled by: holdfast-"), "{} names no test", patch.display());
        let checked = git(&root, &["apply", "--check", patch.to_str().unwrap()]).unwrap();
        let told = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{} does not apply: {told}", patch.display());
    }
}
