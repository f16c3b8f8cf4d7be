//! What every store of webhook endpoints promises.

use futures_util::future::join_all;
use holdfast_app::ports::{EndpointStore, EndpointUpdate, PutEndpoint};
use holdfast_app::test_util::MemorySettings;
use holdfast_app::webhook::{DisabledReason, Speed, WebhookEndpoint};
use holdfast_domain::Tenant;
use secrecy::ExposeSecret;

use super::fixtures::{endpoint, now, tenant};

on_both!(
    MemorySettings::new(), settings;
    endpoints_survive_and_are_listed_by_tenant,
    the_limit_holds_against_many_at_once,
    room_is_made_by_deleting,
    one_that_is_there_already_needs_no_room,
    marks_change_nothing_else_and_revive_nobody,
    a_change_is_made_to_what_was_seen_alone,
    of_many_changes_at_once_one_is_made,
    an_endpoint_is_disabled_once,
    a_turn_is_taken_once,
);

fn shown(endpoint: &WebhookEndpoint) -> String {
    let token = endpoint.headers.values().map(|value| value.expose_secret().to_owned()).collect::<String>();
    let old: Vec<&str> = endpoint.old_secrets.iter().map(|old| old.secret.expose_secret()).collect();
    format!("{endpoint:?} {} {old:?} {token}", endpoint.secret.expose_secret())
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

/// As when the answer to an earlier write of it was lost.
async fn one_that_is_there_already_needs_no_room(store: &impl EndpointStore) {
    for _ in 0..2 {
        assert_eq!(store.put_endpoint(&endpoint(1, &tenant()), 1).await.unwrap(), PutEndpoint::Done);
    }
    assert_eq!(store.put_endpoint(&endpoint(2, &tenant()), 1).await.unwrap(), PutEndpoint::LimitReached);
    assert_eq!(store.endpoints(&tenant()).await.unwrap().len(), 1);
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

async fn read(store: &impl EndpointStore) -> WebhookEndpoint {
    store.endpoint(&tenant(), &endpoint(1, &tenant()).id).await.unwrap().unwrap()
}

async fn marks_change_nothing_else_and_revive_nobody(store: &impl EndpointStore) {
    let mut expected = endpoint(1, &tenant());
    store.put_endpoint(&expected, 50).await.unwrap();
    let id = expected.id.clone();
    let soon = Some(now().plus_ms(1));
    for (slow_until, hung_until) in [(Some(now()), None), (soon, soon), (None, soon), (None, None)] {
        expected.speed = Speed { slow_until, hung_until };
        store.mark_speed(&tenant(), &id, expected.speed).await.unwrap();
        expected.rev += 1;
        assert_eq!(shown(&read(store).await), shown(&expected));
    }
    for (since, expected_since) in
        [(Some(now()), Some(now())), (soon, Some(now())), (None, None), (None, None), (soon, soon)]
    {
        store.mark_failing(&tenant(), &id, since).await.unwrap();
        expected.failing_since = expected_since;
        expected.rev += 1;
        assert_eq!(shown(&read(store).await), shown(&expected));
    }
    store.delete_endpoint(&tenant(), &id).await.unwrap();
    store.mark_speed(&tenant(), &id, Speed { slow_until: soon, hung_until: None }).await.unwrap();
    store.mark_failing(&tenant(), &id, soon).await.unwrap();
    let disabled = store.disable(&tenant(), &id, expected.rev, DisabledReason::Gone).await.unwrap();
    assert_eq!(disabled, EndpointUpdate::Conflict);
    let replaced = store.replace_endpoint(expected.rev, &expected).await.unwrap();
    assert_eq!(replaced, EndpointUpdate::Conflict);
    assert!(!store.take_turn(&tenant(), &id, now(), now().plus_ms(1)).await.unwrap());
    assert!(store.endpoint(&tenant(), &id).await.unwrap().is_none());
}

fn changed(seen: &WebhookEndpoint) -> WebhookEndpoint {
    let rotated = seen.with_secret("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDI=".into(), now());
    WebhookEndpoint {
        url: "https://new.example.com".to_owned(),
        event_types: Vec::new(),
        headers: [("x-new".to_owned(), "sesame".into())].into(),
        retry_schedule_seconds: vec![7],
        enabled: false,
        disabled_reason: Some(DisabledReason::Failing),
        times_disabled: 3,
        speed: Speed { slow_until: Some(now()), hung_until: Some(now()) },
        failing_since: Some(now()),
        rev: seen.rev + 1,
        ..rotated
    }
}

async fn a_change_is_made_to_what_was_seen_alone(store: &impl EndpointStore) {
    let first = endpoint(1, &tenant());
    store.put_endpoint(&first, 50).await.unwrap();
    let second = changed(&first);
    assert_eq!(store.replace_endpoint(1, &second).await.unwrap(), EndpointUpdate::Done);
    assert_eq!(shown(&read(store).await), shown(&second));
    assert_eq!(store.replace_endpoint(1, &second).await.unwrap(), EndpointUpdate::Conflict);
    // A mark is a change as well, so that none is lost.
    store.mark_failing(&tenant(), &first.id, None).await.unwrap();
    assert_eq!(store.replace_endpoint(2, &changed(&second)).await.unwrap(), EndpointUpdate::Conflict);
    let seen = read(store).await;
    assert_eq!(store.replace_endpoint(3, &changed(&seen)).await.unwrap(), EndpointUpdate::Done);
    assert_eq!(store.endpoints(&tenant()).await.unwrap().len(), 1);
}

async fn of_many_changes_at_once_one_is_made(store: &impl EndpointStore) {
    let seen = endpoint(1, &tenant());
    store.put_endpoint(&seen, 50).await.unwrap();
    let changes = (0..10).map(|number| {
        let next = WebhookEndpoint { url: format!("https://{number}.example"), rev: 2, ..seen.clone() };
        async move { store.replace_endpoint(1, &next).await.unwrap() }
    });
    let done = join_all(changes).await.into_iter().filter(|update| *update == EndpointUpdate::Done).count();
    assert_eq!(done, 1);
}

async fn an_endpoint_is_disabled_once(store: &impl EndpointStore) {
    let first = endpoint(1, &tenant());
    store.put_endpoint(&first, 50).await.unwrap();
    let tenant = tenant();
    let disable = || store.disable(&tenant, &first.id, 1, DisabledReason::Gone);
    let done = join_all((0..5).map(|_| disable())).await;
    let done = done.into_iter().filter(|update| update.as_ref().unwrap() == &EndpointUpdate::Done).count();
    assert_eq!(done, 1);
    let expected = WebhookEndpoint { times_disabled: 1, rev: 2, ..first.disabled(DisabledReason::Gone) };
    assert_eq!(shown(&read(store).await), shown(&expected));
}

async fn a_turn_is_taken_once(store: &impl EndpointStore) {
    let (first, tenant) = (endpoint(1, &tenant()), tenant());
    store.put_endpoint(&first, 50).await.unwrap();
    let take = |at_ms: u64| {
        let at = now().plus_ms(at_ms);
        store.take_turn(&tenant, &first.id, at, at.plus_ms(2_000))
    };
    let taken =
        join_all((0..5).map(|_| take(0))).await.into_iter().filter(|taken| *taken == Ok(true)).count();
    assert_eq!(taken, 1);
    assert!(!take(1_999).await.unwrap());
    assert!(take(2_000).await.unwrap());
    // It is no change of the endpoint's, but whoever reads that sees it.
    let seen = read(store).await;
    assert_eq!((seen.rev, seen.next_turn_at), (1, Some(now().plus_ms(4_000))));
}
