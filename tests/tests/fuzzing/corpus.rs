//! The corpus, and a test of every target over it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;

use super::mutation::{Mutation, any_mutation, mutated};
use super::targets::{Check, TARGETS};

/// How often mutations are tried on each target, and how often arbitrary bytes are.
const MUTATED_CASES: u32 = 400;
const ARBITRARY_CASES: u32 = 150;

/// The most mutations of one input.
const MAX_MUTATIONS: usize = 3;

/// The longest arbitrary input, in bytes.
const MAX_ARBITRARY_BYTES: usize = 300;

/// The ending of the files that are kept. What `cargo fuzz` finds beside them is not.
const SEED: &str = "seed";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder().join(target)).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|ending| ending == SEED)).collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

fn check_of(target: &str) -> Check {
    TARGETS.iter().find(|(name, _)| *name == target).unwrap().1
}

fn runner(cases: u32) -> TestRunner {
    // What fails becomes a seed, which everybody can read.
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
}

fn holds_over_all(target: &str) {
    let (check, seeds) = (check_of(target), seeds(target));
    assert!(!seeds.is_empty(), "{target} has no seeds");
    for seed in &seeds {
        check(seed);
    }
    let mutations = (any::<Index>(), prop::collection::vec(any_mutation(), 1..=MAX_MUTATIONS));
    let over_mutated = runner(MUTATED_CASES).run(&mutations, |(which, mutations): (Index, Vec<Mutation>)| {
        let seed = which.get(&seeds);
        check(&mutations.iter().fold(seed.clone(), |input, mutation| mutated(&input, mutation, &seeds)));
        Ok(())
    });
    over_mutated.unwrap_or_else(|error| panic!("{target}: {error}"));
    let bytes = prop::collection::vec(any::<u8>(), 0..MAX_ARBITRARY_BYTES);
    let over_arbitrary = runner(ARBITRARY_CASES).run(&bytes, |bytes| {
        check(&bytes);
        Ok(())
    });
    over_arbitrary.unwrap_or_else(|error| panic!("{target}: {error}"));
}

macro_rules! targets {
    ($($target:ident),+ $(,)?) => {
        $(#[test]
        fn $target() {
            holds_over_all(stringify!($target));
        })+

        #[test]
        fn every_target_has_a_test_a_corpus_and_a_program() {
            let here: BTreeSet<String> = [$(stringify!($target)),+].map(str::to_owned).into();
            let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
            assert_eq!(here, known);
            let names = |folder: PathBuf| -> BTreeSet<String> {
                let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
                files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
            };
            assert_eq!(names(folder()), known);
            assert_eq!(names(folder().join("../fuzz_targets")), known);
        }
    };
}

targets!(
    admin_request,
    availability_content,
    availability_query,
    booking_key,
    booking_request,
    cursor,
    idempotency_header,
    provider_answer,
    provider_callback,
    queue_message,
    stream_record,
);
