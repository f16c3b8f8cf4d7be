//! What somebody writes who knows Rust on Lambda and wants a booking confirmed once, and no more than that: a
//! conditional put, a call to the provider, a conditional update that keeps the answer. A repeated request gets the
//! kept answer from the put that fails.
//!
//! It checks no key, no limit and no field, keeps no history and logs nothing. The SDK is as it comes, but for what
//! everybody can do at no cost: region, credentials and endpoint are taken from the environment directly, and no TLS
//! is set up where none is spoken.

use std::collections::HashMap;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use aws_smithy_http_client::tls;
use http::HeaderValue;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

struct Function {
    dynamodb: Client,
    http: reqwest::Client,
    table: String,
    provider_url: String,
}

#[allow(clippy::disallowed_methods, reason = "a program of its own, which has no other configuration")]
fn variable(name: &str) -> Result<String, Error> {
    std::env::var(name).map_err(|_| format!("{name} is not set").into())
}

fn dynamodb() -> Result<Client, Error> {
    let endpoint_url = variable("AWS_ENDPOINT_URL")?;
    let (key, secret) = (variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?);
    let http = aws_smithy_http_client::Builder::new();
    let http = if endpoint_url.starts_with("http://") {
        http.build_http()
    } else {
        http.tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc)).build_https()
    };
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(variable("AWS_REGION")?))
        .credentials_provider(Credentials::new(key, secret, None, None, "environment"))
        .endpoint_url(endpoint_url)
        .http_client(http)
        .build();
    Ok(Client::from_conf(config))
}

fn answer(body: String, replayed: bool) -> ApiGatewayV2httpResponse {
    let mut answer = ApiGatewayV2httpResponse::default();
    answer.status_code = 201;
    answer.headers.insert("content-type", HeaderValue::from_static("application/json"));
    if replayed {
        answer.headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    answer.body = Some(Body::Text(body));
    answer
}

impl Function {
    async fn handle(&self, event: ApiGatewayV2httpRequest) -> Result<ApiGatewayV2httpResponse, Error> {
        let key = event.headers.get("idempotency-key").ok_or("no key")?.to_str()?;
        let body = event.body.ok_or("no body")?;
        let wanted: Value = serde_json::from_str(&body)?;
        let claim = self
            .dynamodb
            .put_item()
            .table_name(&self.table)
            .item("id", AttributeValue::S(key.to_owned()))
            .item("status", AttributeValue::S("pending".to_owned()))
            .item("request", AttributeValue::S(body))
            .condition_expression("attribute_not_exists(id)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        if let Err(error) = claim {
            let error = error.into_service_error();
            if let aws_sdk_dynamodb::operation::put_item::PutItemError::ConditionalCheckFailedException(
                failed,
            ) = &error
            {
                return kept(failed.item().ok_or("no item")?);
            }
            return Err(error.into());
        }
        let told = json!({
            "booking_id": key,
            "operation": 1,
            "slot": wanted["slot"],
            "customer": wanted["customer"],
            "reference": wanted["reference"],
            "metadata": {},
            "units": [],
            "hold": false,
            "attempt": 1,
        });
        let request = self.http.post(format!("{}/bookings", self.provider_url));
        let request = request.header("content-type", "application/json").body(told.to_string());
        let said = request.send().await?.error_for_status()?.bytes().await?;
        let said: Value = serde_json::from_slice(&said)?;
        let view = json!({
            "id": key,
            "status": said["status"],
            "provider_reference": said["provider_reference"],
            "slot": wanted["slot"],
            "customer": wanted["customer"],
        });
        let view = view.to_string();
        self.dynamodb
            .update_item()
            .table_name(&self.table)
            .key("id", AttributeValue::S(key.to_owned()))
            .update_expression("SET #status = :confirmed, #response = :response")
            .condition_expression("#status = :pending")
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#response", "response")
            .expression_attribute_values(":confirmed", AttributeValue::S("confirmed".to_owned()))
            .expression_attribute_values(":pending", AttributeValue::S("pending".to_owned()))
            .expression_attribute_values(":response", AttributeValue::S(view.clone()))
            .send()
            .await?;
        Ok(answer(view, false))
    }
}

fn kept(item: &HashMap<String, AttributeValue>) -> Result<ApiGatewayV2httpResponse, Error> {
    let response =
        item.get("response").and_then(|response| response.as_s().ok()).ok_or("not answered yet")?;
    Ok(answer(response.clone(), true))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let function = &*Box::leak(Box::new(Function {
        dynamodb: dynamodb()?,
        http: reqwest::Client::new(),
        table: variable("TABLE_NAME")?,
        provider_url: variable("PROVIDER_URL")?,
    }));
    run(service_fn(move |event: LambdaEvent<ApiGatewayV2httpRequest>| function.handle(event.payload))).await
}
