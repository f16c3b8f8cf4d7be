//! How large the program is, zipped as it is deployed, and what it is made of.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use tokio::process::Command;

use crate::Failure;

/// Bytes of a program.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// As it is.
    pub program: usize,
    /// Deflated, as in the zip that Lambda gets.
    pub package: usize,
}

/// Weighs a program.
pub fn weigh(program: &Path) -> Result<Size, Failure> {
    let bytes = fs::read(program)?;
    // What a zip adds, a name and some numbers, is less than a hundred and fifty bytes.
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
    deflate.write_all(&bytes)?;
    Ok(Size { program: bytes.len(), package: deflate.finish()?.len() })
}

/// Bytes of code by the crate that it comes from, the largest first.
pub async fn crates(program: &Path) -> Result<Vec<(String, u64)>, Failure> {
    let output =
        Command::new("nm").args(["--print-size", "--defined-only", "--demangle"]).arg(program).output();
    let output = output.await.map_err(|error| format!("nm: {error}"))?;
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for (name, bytes) in String::from_utf8_lossy(&output.stdout).lines().filter_map(symbol) {
        *sums.entry(name).or_default() += bytes;
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    Ok(sums)
}

/// The crate and the size of a symbol with code: `<address> <size> <kind> <name>`.
fn symbol(line: &str) -> Option<(String, u64)> {
    let mut words = line.splitn(4, ' ');
    let (_, size, kind, name) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let bytes = u64::from_str_radix(size, 16).ok()?;
    matches!(kind, "t" | "T" | "w" | "W").then(|| (origin(name).to_owned(), bytes))
}

/// The crate in a symbol's name. What has no path is C.
fn origin(name: &str) -> &str {
    let name = name.trim_start_matches(['<', '&', '(', '[']);
    let name = name.strip_prefix("dyn ").unwrap_or(name);
    match name.split_once("::") {
        Some((first, _)) => first.rsplit([' ', '<', '&', '(']).next().unwrap_or(first),
        None if name.starts_with("aws_lc") => "aws-lc (C)",
        None => "other C and start-up",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_put_to_their_crates() {
        let line = "000000000001a2b0 0000000000000010 t <aws_sdk_dynamodb::Client as core::fmt::Debug>::fmt";
        assert_eq!(symbol(line), Some(("aws_sdk_dynamodb".to_owned(), 16)));
        assert_eq!(symbol("0000000000000000 0000000000000010 D tokio::x"), None);
        assert_eq!(origin("core::ptr::drop_in_place<tokio::Sleep>"), "core");
        assert_eq!(origin("aws_lc_0_47_0_EVP_sha256"), "aws-lc (C)");
        assert_eq!(origin("memcpy"), "other C and start-up");
    }
}
