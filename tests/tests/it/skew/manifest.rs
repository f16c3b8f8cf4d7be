//! What was written once is not written differently afterwards.

use std::collections::BTreeMap;
use std::path::Path;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::folder;

/// The list of files that stay as they are, each with its digest, in the form of `sha256sum`.
const MANIFEST: &str = "manifest.sha256";

const FOLDERS: [&str; 2] = ["golden", "profiles"];

fn listed() -> BTreeMap<String, String> {
    let manifest = std::fs::read_to_string(folder(MANIFEST)).unwrap();
    let entry = |line: &str| {
        let (digest, file) = line.split_once("  ").unwrap();
        (file.to_owned(), digest.to_owned())
    };
    manifest.lines().map(entry).collect()
}

fn digest(path: &Path) -> Option<String> {
    Some(HEXLOWER.encode(&Sha256::digest(std::fs::read(path).ok()?)))
}

#[test]
fn what_earlier_versions_wrote_is_not_changed() {
    for (file, expected) in listed() {
        let found = digest(&folder(&file));
        assert_eq!(
            found.as_ref(),
            Some(&expected),
            "tests/tests/{file} was changed or removed. It stands for what a version of the code has written or read, \
             which is a fact: leave it as it is, and add another file for what is new."
        );
    }
}

#[test]
fn every_file_is_in_the_manifest() {
    let listed = listed();
    for name in FOLDERS {
        for entry in std::fs::read_dir(folder(name)).unwrap() {
            let file = format!("{name}/{}", entry.unwrap().file_name().to_str().unwrap());
            assert!(
                listed.contains_key(&file),
                "tests/tests/{file} is new: add the line `{}  {file}` to tests/tests/{MANIFEST}",
                digest(&folder(&file)).unwrap()
            );
        }
    }
}
