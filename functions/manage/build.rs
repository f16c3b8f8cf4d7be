//! Puts together what the function serves of its documentation, compressed: the API's description as JSON, and the
//! files of the page that shows it.

use std::error::Error;
use std::io::{Read, Write};
use std::path::Path;
use std::{env, fs};

use flate2::Compression;
use flate2::write::GzEncoder;
use zip::ZipArchive;

/// The API's description, from this package's folder.
const DESCRIPTION: &str = "../../infra/openapi.yaml";

/// The archive's only folder.
const FOLDER: &str = "swagger-ui-5.32.6";

/// What the page needs of Swagger UI's distribution.
const ASSETS: [&str; 2] = ["swagger-ui-bundle.js", "swagger-ui.css"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={DESCRIPTION}");
    #[allow(clippy::disallowed_methods, reason = "Cargo tells a build script its folder in the environment")]
    let out = env::var("OUT_DIR")?;
    let out = Path::new(&out);
    let description: serde_json::Value = serde_saphyr::from_str(&fs::read_to_string(DESCRIPTION)?)?;
    write_packed(&out.join("openapi.json.gz"), &serde_json::to_vec(&description)?)?;
    let archive = std::io::Cursor::new(utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED);
    let mut archive = ZipArchive::new(archive)?;
    for asset in ASSETS {
        let name = format!("{FOLDER}/dist/{asset}");
        let mut bytes = Vec::new();
        archive.by_name(&name)?.read_to_end(&mut bytes)?;
        write_packed(&out.join(format!("{asset}.gz")), &bytes)?;
    }
    Ok(())
}

fn write_packed(path: &Path, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut encoder = GzEncoder::new(fs::File::create(path)?, Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()?.flush()?;
    Ok(())
}
