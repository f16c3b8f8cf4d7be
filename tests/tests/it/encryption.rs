//! What the template says of the tables and queues: how each is encrypted, and how what is in it ends.

use std::collections::BTreeMap;
use std::path::Path;

/// The tables in which nothing is personal and nothing secret.
const OF_NO_SECRETS: [&str; 1] = ["AvailabilityTable"];

/// The resources of the template by name, each with its text.
fn resources() -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../template.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.split("\nResources:\n").nth(1).unwrap().split("\nOutputs:\n").next().unwrap().to_owned();
    let mut resources: BTreeMap<String, String> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let is_name = line.starts_with("  ") && !line.starts_with("   ") && line.ends_with(':');
        if is_name {
            line.trim().trim_end_matches(':').clone_into(&mut name);
        }
        let resource = resources.entry(name.clone()).or_default();
        resource.push_str(line);
        resource.push('\n');
    }
    resources
}

fn of_type(kind: &str) -> Vec<(String, String)> {
    let is_it = |text: &String| text.contains(&format!("Type: {kind}\n"));
    resources().into_iter().filter(|(_, text)| is_it(text)).collect()
}

#[test]
fn tables_with_personal_data_or_secrets_have_the_deployments_own_key() {
    let tables = of_type("AWS::DynamoDB::Table");
    assert_eq!(tables.len(), 4);
    for (name, table) in tables {
        assert!(table.contains("SSEEnabled: true"), "{name}");
        let has_key = table.contains("SSEType: !If [IsAws, KMS,") && table.contains("!GetAtt DataKey.Arn");
        assert_eq!(has_key, !OF_NO_SECRETS.contains(&name.as_str()), "{name}");
        assert!(table.contains("TimeToLiveSpecification: {AttributeName: ttl, Enabled: true}"), "{name}");
    }
}

#[test]
fn the_key_is_renewed_and_serves_this_account_through_dynamodb() {
    let resources = resources();
    let key = &resources["DataKey"];
    for said in [
        "EnableKeyRotation: true",
        "DeletionPolicy: Retain",
        "\"kms:CallerAccount\": !Ref AWS::AccountId",
        "\"kms:ViaService\": !Sub \"dynamodb.${AWS::Region}.amazonaws.com\"",
    ] {
        assert!(key.contains(said), "{said}");
    }
}

#[test]
fn every_queue_is_encrypted_and_taken_by_tls_alone() {
    let queues = of_type("AWS::SQS::Queue");
    assert!(queues.len() >= 10, "{}", queues.len());
    let policies: String = of_type("AWS::SQS::QueuePolicy").into_iter().map(|(_, text)| text).collect();
    for (name, queue) in queues {
        assert!(queue.contains("SqsManagedSseEnabled: true"), "{name}");
        assert!(
            queue.contains("MessageRetentionPeriod: "),
            "{name} keeps messages for a time that nobody chose"
        );
        let is_in_policy = [format!("[!Ref {name}]"), format!("- !Ref {name}\n")];
        assert!(is_in_policy.iter().any(|text| policies.contains(text)), "{name} may be called without TLS");
    }
    assert_eq!(policies.matches("aws:SecureTransport").count(), of_type("AWS::SQS::QueuePolicy").len());
}

#[test]
fn every_log_ends() {
    for (name, group) in of_type("AWS::Logs::LogGroup") {
        assert!(group.contains("RetentionInDays: !Ref LogRetentionDays"), "{name}");
    }
}
