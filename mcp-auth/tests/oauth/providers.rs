//! Providers that do not keep to the standard, by the shapes they publish.

use mcp_auth::oauth::{Manager, OAuthClient, OAuthError, Provider, Relation};
use mcp_core::secret::Secret;
use serde_json::json;

use crate::{fake::Fake, manager, param, query, user};

async fn with(provider: Provider) -> Manager {
    let client = OAuthClient::with_secret("id", Secret::new("secret"));
    let relation = Relation::provider("p", provider, client).with_resource("https://api.example");
    manager().await.relation(relation).build().unwrap()
}

async fn login(manager: &Manager) -> (Vec<(String, String)>, Result<(), OAuthError>) {
    let ticket = manager
        .ticket(&user("alice"), "p", &["repo".into()], None)
        .await
        .unwrap();
    let sent = query(manager.begin(&ticket, None).await.unwrap().as_str());
    let answer = vec![
        ("state".to_owned(), param(&sent, "state").unwrap()),
        ("code".to_owned(), "c".to_owned()),
    ];
    let done = manager.finish(&answer, None).await.map(drop);
    (sent, done)
}

#[tokio::test]
async fn github_answers_errors_with_200_and_scopes_with_commas() {
    let fake = Fake::start().await;
    let url: url::Url = fake.url.parse().unwrap();
    let manager = with(Provider::github_at(&url, &url)).await;
    // The token endpoint of the test is at another path.
    let refused = login(&manager).await.1;
    assert!(refused.is_err(), "nothing is there");

    let mut metadata = mcp_auth::discovery::ServerMetadata::fixed(
        &fake.url,
        Some(url.join("/authorize").unwrap()),
        url.join("/token").unwrap(),
    );
    metadata.userinfo_endpoint = Some(url.join("/user").unwrap());
    let manager = with(Provider::oauth2(metadata)).await;
    fake.answer(
        200,
        json!({ "error": "bad_verification_code", "error_description": "x", "error_uri": "y" }),
    );
    let refused = login(&manager).await.1;
    assert!(
        matches!(&refused, Err(OAuthError::Refused { code }) if code == "invalid_grant"),
        "{refused:?}"
    );
    fake.answer(
        200,
        json!({ "access_token": "gho_x", "scope": "repo,gist", "token_type": "bearer" }),
    );
    login(&manager).await.1.unwrap();
    assert_eq!(
        manager.token(&user("alice"), "p").await.unwrap(),
        Some(Secret::new("gho_x"))
    );
}

#[tokio::test]
async fn github_names_its_users_by_number_and_revokes_in_its_own_way() {
    let fake = Fake::start().await;
    let url: url::Url = fake.url.parse().unwrap();
    let manager = with(Provider::github_at(&url, &url)).await;
    let tokens = mcp_auth::oauth::TokenSet::new(Secret::new("gho_x"));
    manager
        .import(&user("alice"), "p", &fake.url, tokens)
        .await
        .unwrap();
    let info = manager.user_info(&user("alice"), "p").await.unwrap();
    assert_eq!(
        (info.subject.as_str(), info.name.as_deref()),
        ("42", Some("octocat"))
    );
    assert!(manager.revoke(&user("alice"), "p").await.unwrap());
    let other = fake.script.lock().unwrap().other.clone();
    assert!(
        other.contains(&"DELETE /applications/id/token".to_owned()),
        "{other:?}"
    );
}

#[tokio::test]
async fn entra_is_not_sent_a_resource_and_google_is_asked_for_offline_access() {
    let fake = Fake::start().await;
    fake.change("code_challenge_methods_supported", json!(null));
    let entra = with(Provider::microsoft_at(&fake.url)).await;
    let (sent, done) = login(&entra).await;
    done.unwrap();
    assert_eq!(param(&sent, "resource"), None);
    assert!(
        fake.asked()
            .iter()
            .all(|asked| !asked.form.contains_key("resource"))
    );
    let google = with(Provider::google_at(&fake.url)).await;
    let (sent, done) = login(&google).await;
    done.unwrap();
    assert_eq!(param(&sent, "access_type").as_deref(), Some("offline"));
    assert_eq!(param(&sent, "prompt").as_deref(), Some("consent"));
    let generic = with(Provider::oidc(&fake.url).with_resource_parameter(false)).await;
    // Others have to announce PKCE, whatever is sent to them.
    let ticket = generic
        .ticket(&user("alice"), "p", &[], None)
        .await
        .unwrap();
    assert!(matches!(
        generic.begin(&ticket, None).await,
        Err(OAuthError::NoPkce(_))
    ));
}

#[tokio::test]
async fn scopes_are_sent_with_a_refresh_where_the_provider_wants_them() {
    let fake = Fake::start().await;
    let client = || OAuthClient::with_secret("id", Secret::new("secret"));
    let plain = Relation::provider("p", Provider::oidc(&fake.url), client());
    for (relation, sent) in [
        (plain.clone(), None),
        (plain.with_scope_at_refresh(true), Some("a b")),
        (
            Relation::provider("p", Provider::microsoft_at(&fake.url), client()),
            Some("a b"),
        ),
    ] {
        let manager = manager().await.relation(relation).build().unwrap();
        let mut tokens = mcp_auth::oauth::TokenSet::new(Secret::new("at"))
            .with_refresh(Secret::new("rt"))
            .with_end(std::time::SystemTime::UNIX_EPOCH);
        tokens.scopes = Some(vec!["a".into(), "b".into()]);
        let alice = user("alice");
        manager
            .import(&alice, "p", &fake.url, tokens)
            .await
            .unwrap();
        assert!(manager.token(&alice, "p").await.unwrap().is_some());
        let asked = fake.asked().pop().unwrap();
        assert_eq!(asked.form["grant_type"], "refresh_token");
        assert_eq!(asked.form.get("scope").map(String::as_str), sent);
    }
}
