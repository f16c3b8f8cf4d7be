//! What the documents say of the tests is so.

use std::fs;
use std::path::{Path, PathBuf};

/// Where tests that documents name may be.
const TESTS: [&str; 2] = ["tests/it", "simulation/tests/simulation"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join("..").join(name)).unwrap()
}

/// What the lines of tables have in backticks.
fn quoted(document: &str) -> impl Iterator<Item = &str> {
    document.lines().filter(|line| line.starts_with('|')).flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// The parts of a test's name: `module::test` of `end_to_end` or of a folder's own module, `folder::module`, or
/// `folder::module::test`.
fn name(text: &str) -> Option<Vec<&str>> {
    let is_name = text.contains("::")
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_:".contains(letter));
    is_name.then(|| text.split("::").collect())
}

/// The source of a module of tests.
fn source(folder: &str, module: &str) -> Option<String> {
    let path = |tests: &str| root().join(tests).join(folder).join(module).with_extension("rs");
    let found: Option<PathBuf> = TESTS.into_iter().map(path).find(|path| path.exists());
    found.map(|path| fs::read_to_string(path).unwrap())
}

fn has_test(folder: &str, module: &str, test: &str) -> bool {
    source(folder, module).is_some_and(|source| source.contains(&format!("fn {test}()")))
}

#[test]
fn every_test_that_the_architecture_names_exists() {
    let document = document("ARCHITECTURE.md");
    let section =
        document.split("## What is proved, and where").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut found = 0;
    for name in quoted(section).filter_map(name) {
        let exists = match name.as_slice() {
            [module, test] => has_test("end_to_end", module, test) || has_test(module, "mod", test),
            [folder, module, test] => has_test(folder, module, test),
            _ => false,
        };
        assert!(exists, "there is no {name:?}");
        found += 1;
    }
    assert!(found > 20, "only {found} tests are named");
}

#[test]
fn what_the_page_on_security_refers_to_exists() {
    let document = document("docs/security.md");
    let mut found = 0;
    for text in quoted(&document) {
        let exists = match name(text).as_deref() {
            Some([folder, module]) => source(folder, module).is_some(),
            Some([folder, module, test]) => has_test(folder, module, test),
            Some(_) => false,
            None if text.contains('/') && !text.contains([' ', '{']) && !text.starts_with('/') => {
                root().join("..").join(text).exists()
            }
            None => continue,
        };
        assert!(exists, "there is no {text}");
        found += 1;
    }
    assert!(found > 20, "only {found} places are named");
}
