use super::*;

#[test]
fn an_answered_error_keeps_every_byte() {
    let text = r#"{ "data" : {"n":1.0}, "code":-32099 ,"message":"no","extra":1}"#;
    let error = Error::from_rpc(Json::parse(text).unwrap());
    assert_eq!(error.to_rpc(Era::Stateless).as_str(), text);
    assert_eq!(error.to_rpc(Era::Session).as_str(), text);
    assert_eq!(error.kind(), ErrorKind::Answered);
    assert_eq!(error.message(), "no");
}

#[test]
fn an_error_object_without_a_code_is_the_upstreams_fault() {
    for text in ["{}", "[]", r#"{"code":"x"}"#, r#"{"code":1.5}"#] {
        let error = Error::from_rpc(Json::parse(text).unwrap());
        assert_eq!(error.kind(), ErrorKind::BadUpstream, "{text}");
    }
}

#[test]
fn our_codes_lie_outside_the_reserved_range() {
    for kind in [
        ErrorKind::RateLimited,
        ErrorKind::Timeout,
        ErrorKind::Unavailable,
        ErrorKind::ConsentRequired,
    ] {
        let code = Error::new(kind, "").code(Era::Stateless).get();
        assert!(!(-32768..=-32000).contains(&code), "{kind:?}");
    }
}

#[test]
fn codes_follow_the_era() {
    let error = Error::new(ErrorKind::ResourceNotFound, "no such resource");
    assert_eq!(error.code(Era::Session), RpcCode::RESOURCE_NOT_FOUND);
    assert_eq!(error.code(Era::Stateless), RpcCode::INVALID_PARAMS);
    assert_eq!(error.status(Era::Session), StatusCode::OK);
}

#[test]
fn an_error_of_ours_survives_boxing_and_wrapping() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Error);

    let ours =
        Error::new(ErrorKind::RateLimited, "slow down").with_retry_after(Duration::from_secs(2));
    for boxed in [
        BoxError::from(ours.clone()),
        BoxError::from(Outer(ours.clone())),
    ] {
        let error = Error::from(boxed);
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
    }
}

#[test]
fn the_data_says_when_to_come_back() {
    let error = Error::new(ErrorKind::RateLimited, "slow \"down\"")
        .with_retry_after(Duration::from_millis(1500))
        .with_upstream(UpstreamId::new("crm").unwrap());
    let rpc: serde_json::Value = error.to_rpc(Era::Stateless).decode().unwrap();
    assert_eq!(rpc["message"], "slow \"down\"");
    assert_eq!(rpc["data"]["retryAfterMs"], 1500);
    assert_eq!(rpc["data"]["upstream"], "crm");
    assert_eq!(error.status(Era::Stateless), StatusCode::TOO_MANY_REQUESTS);
}

#[test]
fn what_an_upstream_asks_for_is_data_and_never_a_header_of_the_answer() {
    let scope = r#"Bearer error="insufficient_scope", scope="write""#;
    let long = "x".repeat(5000);
    let own = [scope, &long, "Basic", "A", "B", "C"].map(|text| text.parse().unwrap());
    let unseen = HeaderValue::from_bytes(b"caf\xe9").unwrap();
    let all = std::iter::once(&unseen).chain(&own);
    let error = Error::new(ErrorKind::PermissionDenied, "no").with_challenges(all);
    let kept: Vec<_> = error.challenges().collect();
    assert_eq!(kept, [scope, "Basic", "A", "B"]);
    assert!(error.headers().is_empty());
    let data = error.to_rpc(Era::Stateless).member("data").unwrap();
    let shown: Vec<String> = data.member("challenges").unwrap().decode().unwrap();
    assert_eq!(shown, kept);
    let plain = Error::new(ErrorKind::PermissionDenied, "no").to_rpc(Era::Stateless);
    assert!(!plain.as_str().contains("challenges"));
}
