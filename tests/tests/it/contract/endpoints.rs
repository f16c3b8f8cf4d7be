//! What every store of webhook endpoints promises.

use futures_util::future::join_all;
use holdfast_app::ports::{EndpointStore, PutEndpoint};
use holdfast_app::test_util::MemorySettings;
use holdfast_app::webhook::WebhookEndpoint;
use holdfast_domain::Tenant;
use secrecy::ExposeSecret;

use super::fixtures::{endpoint, now, tenant};

on_both!(
    MemorySettings::new(), settings;
    endpoints_survive_and_are_listed_by_tenant,
    the_limit_holds_against_many_at_once,
    room_is_made_by_deleting,
    marks_change_nothing_else_and_revive_nobody,
);

fn shown(endpoint: &WebhookEndpoint) -> String {
    let token = endpoint.headers.values().map(|value| value.expose_secret().to_owned()).collect::<String>();
    format!("{endpoint:?} {} {token}", endpoint.secret.expose_secret())
}

async fn endpoints_survive_and_are_listed_by_tenant(store: &impl EndpointStore) {
    let live = Tenant::parse("live:demo-marketplace").unwrap();
    for endpoint in [endpoint(2, &tenant()), endpoint(1, &tenant()), endpoint(3, &live)] {
        assert_eq!(store.put_endpoint(&endpoint, 50).await.unwrap(), PutEndpoint::Done);
    }
    let listed: Vec<String> = store.endpoints(&tenant()).await.unwrap().iter().map(shown).collect();
    assert_eq!(listed, [shown(&endpoint(1, &tenant())), shown(&endpoint(2, &tenant()))]);
    let one = endpoint(3, &live);
    assert_eq!(shown(&store.endpoint(&live, &one.id).await.unwrap().unwrap()), shown(&one));
    assert!(store.endpoint(&tenant(), &one.id).await.unwrap().is_none(), "another tenant's");
}

async fn the_limit_holds_against_many_at_once(store: &impl EndpointStore) {
    let puts =
        (0..5).map(|seed| async move { store.put_endpoint(&endpoint(seed, &tenant()), 3).await.unwrap() });
    let done = join_all(puts).await.into_iter().filter(|put| *put == PutEndpoint::Done).count();
    assert_eq!((done, store.endpoints(&tenant()).await.unwrap().len()), (3, 3));
    assert_eq!(store.put_endpoint(&endpoint(9, &tenant()), 0).await.unwrap(), PutEndpoint::LimitReached);
}

async fn room_is_made_by_deleting(store: &impl EndpointStore) {
    let (first, second) = (endpoint(1, &tenant()), endpoint(2, &tenant()));
    assert_eq!(store.put_endpoint(&first, 1).await.unwrap(), PutEndpoint::Done);
    assert_eq!(store.put_endpoint(&second, 1).await.unwrap(), PutEndpoint::LimitReached);
    assert!(!store.delete_endpoint(&tenant(), &second.id).await.unwrap());
    assert_eq!(store.put_endpoint(&second, 1).await.unwrap(), PutEndpoint::LimitReached);
    assert!(store.delete_endpoint(&tenant(), &first.id).await.unwrap());
    assert_eq!(store.put_endpoint(&second, 1).await.unwrap(), PutEndpoint::Done);
    assert!(store.endpoint(&tenant(), &first.id).await.unwrap().is_none());
}

async fn marks_change_nothing_else_and_revive_nobody(store: &impl EndpointStore) {
    let mut expected = endpoint(1, &tenant());
    store.put_endpoint(&expected, 50).await.unwrap();
    for slow_until in [Some(now()), None, Some(now().plus_ms(1))] {
        store.mark_slow(&tenant(), &expected.id, slow_until).await.unwrap();
        expected.slow_until = slow_until;
        let read = store.endpoint(&tenant(), &expected.id).await.unwrap().unwrap();
        assert_eq!(shown(&read), shown(&expected));
    }
    store.disable(&tenant(), &expected.id).await.unwrap();
    expected.enabled = false;
    let read = store.endpoint(&tenant(), &expected.id).await.unwrap().unwrap();
    assert_eq!(shown(&read), shown(&expected));
    store.delete_endpoint(&tenant(), &expected.id).await.unwrap();
    store.mark_slow(&tenant(), &expected.id, Some(now())).await.unwrap();
    store.disable(&tenant(), &expected.id).await.unwrap();
    assert!(store.endpoint(&tenant(), &expected.id).await.unwrap().is_none());
}
