//! Users and tokens.

use df_api::manager as wire;
use df_api::status::failure_of;
use tonic::Code;

use super::{Manager, with};

fn sign_in(name: &str, password: &str) -> wire::SignInRequest {
    wire::SignInRequest { name: name.to_owned(), password: password.to_owned() }
}

fn token_request(scopes: &[&str]) -> wire::CreateTokenRequest {
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    wire::CreateTokenRequest { name: "t".to_owned(), scopes, ttl_ms: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_comes_in_with_the_password_of_the_first_start_and_with_no_other() {
    let manager = Manager::start().await;
    let password = manager.password();
    for (name, tried) in [("root", "dragonfly"), ("root", ""), ("", ""), ("nobody", password.as_str())] {
        let refused = manager.console().sign_in(sign_in(name, tried)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{name} {tried}");
        assert_eq!(failure_of(&refused).message, "the name or the password is wrong", "who is there is not said");
    }
    let session = manager.console().sign_in(sign_in("root", &password)).await.unwrap().into_inner();
    let identity = session.identity.unwrap();
    assert!(identity.must_change_password);
    assert_eq!(identity.scopes, ["view", "operate", "preheat", "configure", "admin"]);
    assert!(session.token.starts_with("dfs_") && session.token.len() == 47);
}

/// Nobody would ever know the password of a root that was stored before it could be told.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_cannot_tell_the_password_makes_no_root() {
    let mut manager = Manager::unstarted();
    let (data, nowhere) = (manager.dir.path().join("data"), manager.dir.path().join("nowhere").join("password"));
    let mut first = tokio::process::Command::new(env!("CARGO_BIN_EXE_dfmanager"));
    first.args(["--listen-grpc", "127.0.0.1:0", "--listen-rest", "127.0.0.1:0"]);
    first.arg("--data-dir").arg(data).arg("--init-admin-password-file").arg(nowhere);
    let ended = first.output().await.unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && said.contains("cannot write"), "{said}");
    manager.run().await;
    manager.root().await;
}

/// CVE-2023-27584: one secret for all installations.
#[tokio::test(flavor = "multi_thread")]
async fn cve_2023_27584_every_installation_has_secrets_of_its_own() {
    let (one, two) = (Manager::start().await, Manager::start().await);
    assert_ne!(one.password(), two.password());
    assert_ne!(one.join_token(), two.join_token());
    let foreign = two.console().who_am_i(with(&one.root().await, ())).await.unwrap_err();
    assert_eq!(foreign.code(), Code::Unauthenticated);
    for file in [one.join_token_file(), one.dir.path().join("password")] {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_wrong_passwords_have_to_wait() {
    let manager = Manager::start().await;
    let mut codes = Vec::new();
    for _ in 0..6 {
        codes.push(manager.console().sign_in(sign_in("root", "wrong password")).await.unwrap_err().code());
    }
    assert_eq!(codes[..5], [Code::Unauthenticated; 5]);
    assert_eq!(codes[5], Code::ResourceExhausted);
    let right = manager.console().sign_in(sign_in("root", &manager.password())).await;
    assert_eq!(right.unwrap_err().code(), Code::ResourceExhausted, "or the wait could be tried away");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_allows_what_it_says_and_nothing_more() {
    let manager = Manager::start().await;
    let token = manager.token(&["view"], 0).await;
    let mut console = manager.console();
    assert!(console.list_clusters(with(&token, ())).await.is_ok());
    let refused = console.list_users(with(&token, ())).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let more = console.create_token(with(&token, token_request(&["view", "admin"]))).await.unwrap_err();
    assert_eq!(more.code(), Code::PermissionDenied, "a token makes none that may do more");
    let join = console.create_token(with(&token, token_request(&["join"]))).await.unwrap_err();
    assert_eq!(join.code(), Code::PermissionDenied);
    for scopes in [&[][..], &["everything"]] {
        let wrong = console.create_token(with(&token, token_request(scopes))).await.unwrap_err();
        assert_eq!(wrong.code(), Code::InvalidArgument, "{scopes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_the_streams_that_were_opened_with_it() {
    let manager = Manager::start().await;
    let token = manager.token(&["view"], 0).await;
    let asked = wire::WatchOverviewRequest { interval_ms: 200, cluster_id: 0 };
    let mut stream = manager.console().watch_overview(with(&token, asked)).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let root = manager.root().await;
    let tokens = manager.console().list_tokens(with(&root, ())).await.unwrap().into_inner().tokens;
    let token_id = tokens.iter().find(|token| token.name == "test").unwrap().id;
    manager.console().revoke_token(with(&root, wire::TokenRequest { token_id })).await.unwrap();
    let ended = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_come_change_and_go_and_all_of_it_is_in_the_audit_log() {
    let manager = Manager::start().await;
    let root = manager.root().await;
    let mut console = manager.console();
    let create = |password: &str| wire::CreateUserRequest {
        name: "ops".to_owned(),
        password: password.to_owned(),
        role: wire::Role::OperatorRole.into(),
    };
    assert!(console.create_user(with(&root, create("short"))).await.is_err());
    let user = console.create_user(with(&root, create("a long password"))).await.unwrap().into_inner();
    let twice = console.create_user(with(&root, create("a long password"))).await.unwrap_err();
    assert_eq!(twice.code(), Code::AlreadyExists);
    let session = console.sign_in(sign_in("ops", "a long password")).await.unwrap().into_inner().token;
    assert_eq!(console.list_users(with(&session, ())).await.unwrap_err().code(), Code::PermissionDenied);

    let change = wire::ChangePasswordRequest {
        old_password: "a long password".to_owned(),
        new_password: "another long password".to_owned(),
    };
    console.change_password(with(&session, change)).await.unwrap();
    assert!(console.sign_in(sign_in("ops", "a long password")).await.is_err());

    let reset = "a password somebody else chose";
    let change = wire::UpdateUserRequest {
        user_id: user.id,
        role: Some(wire::Role::Guest.into()),
        password: Some(reset.to_owned()),
        is_disabled: None,
    };
    let changed = console.update_user(with(&root, change)).await.unwrap().into_inner();
    assert_eq!(changed.role(), wire::Role::Guest);
    assert_eq!(console.who_am_i(with(&session, ())).await.unwrap_err().code(), Code::Unauthenticated);
    assert!(console.sign_in(sign_in("ops", "another long password")).await.is_err());
    let session = console.sign_in(sign_in("ops", reset)).await.unwrap().into_inner().token;
    let identity = console.who_am_i(with(&session, ())).await.unwrap().into_inner();
    assert!(identity.must_change_password, "whoever reset it knows it");

    let disable = wire::UpdateUserRequest { user_id: user.id, is_disabled: Some(true), role: None, password: None };
    console.update_user(with(&root, disable)).await.unwrap();
    assert_eq!(console.who_am_i(with(&session, ())).await.unwrap_err().code(), Code::Unauthenticated);
    let suicide = console.remove_user(with(&root, wire::UserRequest { user_id: 1 })).await.unwrap_err();
    assert_eq!(suicide.code(), Code::InvalidArgument, "somebody has to be root");
    console.remove_user(with(&root, wire::UserRequest { user_id: user.id })).await.unwrap();

    let asked = wire::AuditRequest { limit: 100, ..wire::AuditRequest::default() };
    let audit = console.list_audit(with(&root, asked)).await.unwrap().into_inner().entries;
    let said: Vec<(&str, bool)> =
        audit.iter().rev().map(|entry| (entry.action.as_str(), entry.failure.is_empty())).collect();
    let expected = [
        ("session.create", true),
        ("user.create", false),
        ("user.create", true),
        ("user.create", false),
        ("session.create", true),
        ("password.change", true),
        ("session.create", false),
        ("user.update", true),
        ("session.create", false),
        ("session.create", true),
        ("user.update", true),
        ("user.remove", false),
        ("user.remove", true),
    ];
    assert_eq!(said, expected);
    let text = format!("{audit:?}");
    assert!(!text.contains("long password"), "no secrets: {text}");
    assert!(audit.iter().all(|entry| entry.at_ms > 0 && entry.ip == "127.0.0.1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_tokens_and_settings_survive_a_kill() {
    let mut manager = Manager::start().await;
    let token = manager.token(&["view", "configure"], 0).await;
    let limits = wire::Limits {
        peer: Some(wire::HostLimits { upload_rate_bytes_per_sec: Some(1 << 20), ..wire::HostLimits::default() }),
        ..wire::Limits::default()
    };
    let asked = wire::SetLimitsRequest { cluster_id: 1, limits: Some(limits), ..wire::SetLimitsRequest::default() };
    let set = manager.console().set_limits(with(&token, asked)).await.unwrap().into_inner();
    manager.take_process().kill().await;
    manager.run().await;
    let asked = wire::ClusterRequest { cluster_id: 1 };
    let settings = manager.console().get_settings(with(&token, asked)).await.unwrap().into_inner();
    assert_eq!((settings.version, settings.limits), (set.version, set.limits));
    assert_eq!(settings.changed_by, "root");
}
