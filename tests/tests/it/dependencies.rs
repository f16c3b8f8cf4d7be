//! The table of `docs/dependencies.md` has every package that a manifest names, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What is known of a dependency.
#[derive(Debug, Default, PartialEq, Eq)]
struct Dependency {
    /// The versions that are asked for.
    lines: BTreeSet<String>,
    /// Where it is used.
    places: BTreeSet<String>,
}

/// What cargo knows of a workspace.
fn metadata(folder: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(folder).args(["metadata", "--format-version=1", "--locked"]).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Where a package is used that a member names in this way: `kind` is null, `dev` or `build`.
fn place(member: &str, kind: &Value) -> &'static str {
    match (member, kind.as_str()) {
        ("fuzz", _) => "fuzz",
        (_, Some("dev")) | ("tests", _) => "tests",
        (_, Some("build")) => "build",
        ("functions" | "shared", _) => "functions",
        ("clients", _) => "client",
        ("infra", _) => "local",
        _ => panic!("{member} is no place"),
    }
}

/// Every package that a manifest names and a registry has.
fn named(root: &Path) -> BTreeMap<String, Dependency> {
    let mut named: BTreeMap<String, Dependency> = BTreeMap::new();
    for folder in ["", "fuzz"] {
        let known = metadata(&root.join(folder), &["--no-deps"]);
        for member in known["packages"].as_array().unwrap() {
            let manifest = Path::new(member["manifest_path"].as_str().unwrap());
            let below = manifest.strip_prefix(root).unwrap().components().next().unwrap();
            let below = below.as_os_str().to_str().unwrap();
            for one in member["dependencies"].as_array().unwrap() {
                if one["source"].is_null() {
                    continue;
                }
                let dependency = named.entry(one["name"].as_str().unwrap().to_owned()).or_default();
                let line = one["req"].as_str().unwrap().trim_start_matches(['^', '=']);
                dependency.lines.insert(line.to_owned());
                dependency.places.insert(place(below, &one["kind"]).to_owned());
            }
        }
    }
    named
}

/// The cells of each row of the table.
fn rows(document: &str) -> Vec<Vec<&str>> {
    let row = |line: &'_ str| -> bool { line.starts_with("| `") };
    let cells = |line| -> Vec<&str> { str::trim_matches(line, '|').split('|').map(str::trim).collect() };
    document.lines().filter(|line| row(line)).map(cells).collect()
}

#[test]
fn every_dependency_is_in_the_table_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let document = fs::read_to_string(root.join("docs/dependencies.md")).unwrap();
    let mut told: BTreeMap<String, Dependency> = BTreeMap::new();
    for row in rows(&document) {
        let [name, line, licence, places, used_for, instead] = row[..] else { panic!("{row:?}") };
        assert!([licence, used_for, instead].iter().all(|cell| !cell.is_empty()), "{row:?}");
        let places = places.split(", ").map(str::to_owned).collect();
        let dependency = Dependency { lines: BTreeSet::from([line.to_owned()]), places };
        assert_eq!(told.insert(name.trim_matches('`').to_owned(), dependency), None, "{name} is there twice");
    }
    let wanted = named(&root);
    let names: BTreeSet<&String> = told.keys().chain(wanted.keys()).collect();
    for name in names {
        assert_eq!(told.get(name), wanted.get(name), "{name}: as the table says, and as the manifests do");
    }
    assert!(wanted.len() > 40, "{}", wanted.len());
}

#[test]
fn every_licence_is_as_its_package_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let document = fs::read_to_string(root.join("docs/dependencies.md")).unwrap();
    // Of this machine's platform alone, since nothing else has been fetched for certain.
    let version = Command::new(env!("CARGO")).arg("-vV").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let known = metadata(&root, &[&format!("--filter-platform={host}")]);
    let mut licences: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in known["packages"].as_array().unwrap() {
        let licence = package["license"].as_str().unwrap_or_default();
        licences.entry(package["name"].as_str().unwrap()).or_default().insert(licence);
    }
    let mut compared = 0;
    for row in rows(&document) {
        // What only the fuzz targets need is in a workspace of its own.
        if let Some(licences) = licences.get(row[0].trim_matches('`')) {
            assert!(licences.contains(row[2]), "{}: {} is {licences:?}", row[0], row[2]);
            compared += 1;
        }
    }
    assert!(compared > 40, "{compared}");
}
