//! What readers of a format require and understand.

use std::collections::BTreeMap;

use jsonschema::Validator;
use serde_json::Value;

use super::folder;

/// Every profile, by its name.
pub(super) struct Profiles(BTreeMap<String, (Value, Validator)>);

impl Profiles {
    pub(super) fn read() -> Self {
        let profile = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry.unwrap().path();
            let schema: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let validator = jsonschema::options().build(&schema).unwrap();
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), (schema, validator))
        };
        Self(std::fs::read_dir(folder("profiles")).unwrap().map(profile).collect())
    }

    /// Holds what was written against a profile by name.
    pub(super) fn fits(&self, name: &str, written: &Value) {
        let (_, validator) = self.0.get(name).unwrap_or_else(|| panic!("there is no profile {name}"));
        if let Err(error) = validator.validate(written) {
            panic!(
                "a reader of {name} does not understand what is written today, at {}: {error}\n{written:#}",
                error.instance_path()
            );
        }
    }

    /// Holds an item of a table against the one profile whose keys it has. A booking's is that of the format that
    /// it is stamped with.
    pub(super) fn fits_item(&self, table: &str, item: &Value) {
        let keys = |schema: &Value| {
            let has = |name: &str| {
                let Some(pattern) = schema["properties"][name]["properties"]["S"]["pattern"].as_str() else {
                    return true;
                };
                let key = item[name]["S"].as_str().unwrap_or_default();
                jsonschema::validator_for(&serde_json::json!({ "pattern": pattern }))
                    .unwrap()
                    .is_valid(&Value::from(key))
            };
            let stamp = &schema["properties"]["v"]["properties"]["N"]["const"];
            let is_stamped = table != "bookings" || stamp.is_null() || *stamp == item["v"]["N"];
            schema["x-table"] == table && has("pk") && has("sk") && is_stamped
        };
        let found: Vec<&String> =
            self.0.iter().filter(|(_, (schema, _))| keys(schema)).map(|(name, _)| name).collect();
        let [profile] = found.as_slice() else { panic!("{found:?} are the profiles of {item:#}") };
        self.fits(profile, item);
    }
}

/// A profile of which nothing was ever written would say nothing.
#[test]
fn a_profile_is_a_schema_of_an_object() {
    let profiles = Profiles::read();
    assert!(profiles.0.len() > 20);
    for (name, (schema, validator)) in &profiles.0 {
        assert!(!schema["required"].as_array().unwrap().is_empty(), "{name} requires nothing");
        assert!(!validator.is_valid(&serde_json::json!({})), "{name} is content with nothing");
    }
}
