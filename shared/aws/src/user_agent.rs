//! Who calls, as Amazon is told.

use aws_runtime::user_agent::UserAgentInterceptor;
use aws_sdk_dynamodb::config::interceptors::{
    BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_smithy_runtime_api::client::interceptors::disable_interceptor;

const HEADER: &str = "user-agent";

/// What Holdfast calls itself.
pub(crate) const SHORT_USER_AGENT: &str =
    concat!("holdfast/", env!("CARGO_PKG_VERSION"), " lib/aws-sdk-rust");

/// Says who calls in few words. The SDK's own two headers list its version, the system's, the compiler's and which of
/// its features are in use; composing them, and signing one, is a thirtieth of a booking's instructions.
#[derive(Debug)]
pub(crate) struct ShortUserAgent;

impl Intercept for ShortUserAgent {
    fn name(&self) -> &'static str {
        "ShortUserAgent"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let disabled = disable_interceptor::<UserAgentInterceptor>("there is a short one");
        config.interceptor_state().store_put(disabled);
        Ok(())
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context.request_mut().headers_mut().insert(HEADER, SHORT_USER_AGENT);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
    use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
    use aws_smithy_types::body::SdkBody;
    use secrecy::SecretString;

    use super::*;
    use crate::{AwsClients, AwsConfig, AwsCredentials, AwsHooks};

    /// Notes the headers that say who calls, and answers with nothing.
    #[derive(Clone, Debug, Default)]
    struct Noted(Arc<Mutex<Vec<(String, String)>>>);

    impl HttpConnector for Noted {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let all = request.headers().iter().filter(|(name, _)| name.contains("user-agent"));
            self.0.lock().unwrap().extend(all.map(|(name, value)| (name.to_owned(), value.to_owned())));
            HttpConnectorFuture::ready(Ok(HttpResponse::new(200.try_into().unwrap(), SdkBody::from("{}"))))
        }
    }

    #[tokio::test]
    async fn there_is_one_header_and_it_is_short() {
        let noted = Noted::default();
        let connector = SharedHttpConnector::new(noted.clone());
        let config = AwsConfig {
            region: "eu-central-1".to_owned(),
            endpoint_url: Some("http://localhost:1".to_owned()),
            credentials: AwsCredentials {
                access_key_id: "id".to_owned(),
                secret_access_key: SecretString::from("secret".to_owned()),
                session_token: None,
            },
        };
        let hooks = AwsHooks { connector: Some(connector), ..AwsHooks::default() };
        let clients = AwsClients::with_hooks(&config, &hooks).unwrap();
        clients.dynamodb.list_tables().send().await.unwrap();
        clients.sqs().list_queues().send().await.unwrap();
        clients.eventbridge().list_event_buses().send().await.unwrap();
        let sent = (HEADER.to_owned(), SHORT_USER_AGENT.to_owned());
        assert_eq!(*noted.0.lock().unwrap(), [sent.clone(), sent.clone(), sent]);
    }
}
