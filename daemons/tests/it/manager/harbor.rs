//! What Harbor says to a preheat provider, in both of its generations.

use serde_json::{Value, json};

use super::walk::rest;
use super::{Town, until};
use crate::origin::{Content, Origin};

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// Since 2.12: test the connection, start, poll.
#[tokio::test(flavor = "multi_thread")]
async fn harbor_since_2_12_starts_a_preheat_and_polls_it() {
    let town = Town::start(1, 0).await;
    let token = format!("Bearer {}", town.manager.token(&["preheat"], 0).await);
    assert_eq!(rest(&town.manager, ("GET", "/healthy"), Some(&token), "").await, (200, "OK".to_owned()));
    let origin = Origin::start(Content::random(1, 100_000)).await;
    let body = json!({
        "type": "preheat",
        "args": { "type": "file", "url": origin.url(), "tag": "", "filtered_query_params": "",
            "headers": { "X-Secret": "pull token" }, "scope": "", "concurrent_count": 0, "timeout": 0 },
        "scheduler_cluster_ids": null,
        "unknown": { "is": "read over" },
    });
    let (status, created) = rest(&town.manager, ("POST", "/oapi/v1/jobs"), Some(&token), &body.to_string()).await;
    assert_eq!(status, 200, "{created}");
    let created = parsed(&created);
    let id = created["id"].as_u64().expect("an integer");
    assert_eq!((created["state"].as_str(), created["type"].as_str()), (Some("PENDING"), Some("preheat")));
    let path = format!("/oapi/v1/jobs/{id}");
    let job = until("it is over", || async {
        let (status, job) = rest(&town.manager, ("GET", &path), Some(&token), "").await;
        assert_eq!(status, 200);
        assert!(!job.contains("pull token"), "{job}");
        let job = parsed(&job);
        assert!(["PENDING", "SUCCESS", "FAILURE"].contains(&job["state"].as_str().unwrap()));
        (job["state"] != "PENDING").then_some(job)
    })
    .await;
    assert_eq!(job["state"], "SUCCESS", "{job}");
    let done = &job["result"]["job_states"][0]["results"][0]["success_tasks"][0];
    assert_eq!((done["hostname"].as_str(), done["ip"].as_str()), (Some("d0"), Some("127.0.0.1")), "{job}");
    let time: Result<jiff::Timestamp, _> = job["created_at"].as_str().unwrap().parse();
    assert!(time.is_ok(), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bodies_are_told_as_dragonfly_tells_them() {
    let town = Town::start(0, 0).await;
    let token = format!("Bearer {}", town.manager.token(&["preheat"], 0).await);
    let bodies = [
        "",
        "{",
        "[]",
        r#"{"type":"sync_peers","args":{}}"#,
        r#"{"type":"preheat","args":{"type":"image"}}"#,
        r#"{"type":"preheat","args":{"type":"image","url":"x","scope":"everywhere"}}"#,
        r#"{"type":"preheat","args":{"type":"file","url":"http://h/","ips":["x"]}}"#,
    ];
    for body in bodies {
        let (status, answer) = rest(&town.manager, ("POST", "/oapi/v1/jobs"), Some(&token), body).await;
        assert_eq!(status, 422, "{body}: {answer}");
        assert!(parsed(&answer)["errors"].is_string(), "{answer}");
    }
    assert_eq!(rest(&town.manager, ("GET", "/oapi/v1/jobs/99"), Some(&token), "").await.0, 404);
    assert_eq!(rest(&town.manager, ("GET", "/oapi/v1/jobs/x"), Some(&token), "").await.0, 404);
    let long = format!("{{\"type\":\"{}\"}}", "x".repeat(2 << 20));
    assert_eq!(rest(&town.manager, ("POST", "/oapi/v1/jobs"), Some(&token), &long).await.0, 422);
}

/// Before 2.12.
#[tokio::test(flavor = "multi_thread")]
async fn harbor_before_2_12_starts_a_preheat_and_polls_it() {
    let town = Town::start(1, 0).await;
    // Its BASIC mode: the token is the password.
    let basic = {
        use base64::Engine;
        let pair = format!("harbor:{}", town.manager.token(&["preheat"], 0).await);
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    };
    assert_eq!(rest(&town.manager, ("GET", "/_ping"), None, "").await.0, 200);
    let origin = Origin::start(Content::random(1, 100_000)).await;
    let body = json!({ "type": "file", "URL": origin.url(), "headers": {}, "image": "lib/app", "tag": "v1" });
    let (status, created) = rest(&town.manager, ("POST", "/preheats"), Some(&basic), &body.to_string()).await;
    assert_eq!(status, 200, "{created}");
    let id = parsed(&created)["ID"].as_str().expect("a text").to_owned();
    let path = format!("/preheats/{id}");
    let job = until("it is over", || async {
        let job = parsed(&rest(&town.manager, ("GET", &path), Some(&basic), "").await.1);
        assert!(["WAITING", "RUNNING", "SUCCESS", "FAIL"].contains(&job["Status"].as_str().unwrap()), "{job}");
        (!["WAITING", "RUNNING"].contains(&job["Status"].as_str().unwrap())).then_some(job)
    })
    .await;
    assert_eq!((job["Status"].as_str(), job["ID"].as_str()), (Some("SUCCESS"), Some(id.as_str())), "{job}");
    assert_ne!(job["FinishTime"], "");
}
