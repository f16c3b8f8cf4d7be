//! What the documents say of the tests is so.

use std::fs;
use std::path::Path;

/// Where tests are that are named by folder and module, from this package's folder.
const PLACES: [&str; 2] = ["tests/it", "simulation/tests/simulation"];

/// The tests that a line names: `module::test` of `end_to_end`, or `folder::module::test`.
fn named(line: &str) -> impl Iterator<Item = Vec<&str>> {
    let is_name = |text: &&str| {
        text.contains("::")
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_:".contains(letter))
    };
    line.split('`').skip(1).step_by(2).filter(is_name).map(|name| name.split("::").collect())
}

#[test]
fn every_test_that_the_architecture_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("../ARCHITECTURE.md")).unwrap();
    let section =
        document.split("## What is proved, and where").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut found = 0;
    for name in section.lines().filter(|line| line.starts_with('|')).flat_map(named) {
        let (folder, module, test) = match name.as_slice() {
            [module, test] => ("end_to_end", *module, *test),
            [folder, module, test] => (*folder, *module, *test),
            _ => panic!("{name:?} names no test"),
        };
        let path = PLACES.map(|place| root.join(format!("{place}/{folder}/{module}.rs")));
        let path = path.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("there is no {name:?}"));
        let source = fs::read_to_string(path).unwrap();
        assert!(source.contains(&format!("fn {test}()")), "there is no {name:?}");
        found += 1;
    }
    assert!(found > 20, "only {found} tests are named");
}
