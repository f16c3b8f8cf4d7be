//! The functions' programs: has cargo build them, or takes them as they lie in a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::error::StackError;
use super::options::{Layout, Options};
use super::progress::Progress;
use super::tool::{Errors, Tool, command};

/// The packages under `functions/`; each has one binary of the same name.
const PACKAGES: [&str; 9] = [
    "availability",
    "booking",
    "dispatch",
    "manage",
    "provider-callback",
    "refresh",
    "repair",
    "retry",
    "webhook",
];

/// A first build compiles the AWS SDK, minutes on a small machine.
const BUILD_LIMIT: Duration = Duration::from_hours(1);

/// The part of cargo's JSON messages that says where a program was put.
#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// The functions' programs by package.
pub(super) async fn prepare(
    options: &Options,
    layout: &Layout,
    progress: &Progress,
) -> Result<BTreeMap<String, PathBuf>, StackError> {
    let build = Tool {
        what: "building the functions",
        advice: "Mend what the compiler says above, then run this again.".to_owned(),
        limit: BUILD_LIMIT,
        errors: Errors::Terminal,
    };
    let found = if options.no_build {
        in_folder(options.bin_dir.as_deref())
    } else {
        progress.step("Building the functions (the first time takes some minutes)");
        let mut cargo =
            command(&options.cargo, ["build", "--bins", "--message-format=json-render-diagnostics"]);
        cargo.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
        let printed = build.run(cargo.current_dir(&layout.workspace), b"").await?;
        built(&printed)
    };
    match PACKAGES.iter().find(|package| !found.contains_key(**package)) {
        None => Ok(found),
        Some(missing) => Err(StackError::Tool {
            what: "finding the functions",
            detail: format!("there is no program of the package {missing}{}", beside(options)),
            advice: "Build them with: cargo build --bins --workspace".to_owned(),
        }),
    }
}

/// Where programs were looked for that were not built, for a message.
fn beside(options: &Options) -> String {
    options.bin_dir.as_deref().map(|folder| format!(" in {}", folder.display())).unwrap_or_default()
}

fn built(messages: &[u8]) -> BTreeMap<String, PathBuf> {
    let lines = messages.split(|byte| *byte == b'\n');
    // Of cargo's messages only one kind has this form; the others are not for us.
    lines
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        .filter_map(|message| Some((message.target?.name, message.executable?)))
        .collect()
}

fn in_folder(folder: Option<&Path>) -> BTreeMap<String, PathBuf> {
    let own = std::env::current_exe().ok().and_then(|program| program.parent().map(Path::to_path_buf));
    let Some(folder) = folder.map(Path::to_path_buf).or(own) else { return BTreeMap::new() };
    let programs = PACKAGES.iter().map(|package| ((*package).to_owned(), folder.join(package)));
    programs.filter(|(_, program)| program.is_file()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_where_cargo_put_the_programs() {
        let messages = br#"{"reason":"compiler-artifact","target":{"name":"sha2"},"executable":null}
{"reason":"build-script-executed","package_id":"x"}
{"reason":"compiler-artifact","target":{"name":"retry"},"executable":"/clone/target/debug/retry"}
{"reason":"build-finished","success":true}
"#;
        let expected = BTreeMap::from([("retry".to_owned(), PathBuf::from("/clone/target/debug/retry"))]);
        assert_eq!(built(messages), expected);
    }
}
