//! Members: they join, are told what holds, and go on without a manager.

use df_api::failure::Code;
use df_api::manager as wire;
use df_api::manager::manager_client::ManagerClient;
use df_api::manager::member_order::Order;
use df_api::manager::member_report::Report;

use super::{Manager, Town, channel, until, with};
use crate::cluster::Wish;
use crate::origin::{Content, Origin};

const MIB: usize = 1 << 20;

fn upload_rate(rate: u64) -> wire::Limits {
    let limits = Some(wire::HostLimits { upload_rate_bytes_per_sec: Some(rate), ..wire::HostLimits::default() });
    wire::Limits { peer: limits, seed_peer: limits, ..wire::Limits::default() }
}

fn hello(hostname: &str, ip: &str) -> wire::MemberReport {
    let hello = wire::Hello {
        kind: wire::MemberKind::Scheduler.into(),
        hostname: hostname.to_owned(),
        ip: ip.to_owned(),
        rpc_port: 8002,
        ..wire::Hello::default()
    };
    wire::MemberReport { report: Some(Report::Hello(hello)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_know_the_manager_alone_find_each_other() {
    let town = Town::start(1, 2).await;
    let origin = Origin::start(Content::random(1, 3 * MIB)).await;
    for downloaded in town.cluster.download_all(&origin.url(), &Wish::default()).await {
        assert!(downloaded.unwrap().bytes == origin.bytes());
    }
    assert_eq!(origin.stats().body_bytes, origin.bytes().len() as u64, "by way of the seed");
    let members = town.manager.members(&town.token).await;
    let kinds: Vec<_> = members.iter().map(|row| (row.kind(), row.state())).collect();
    use wire::MemberKind::{Peer, Scheduler, SeedPeer};
    let active = |kind| (kind, wire::MemberState::Active);
    assert_eq!(kinds, [active(Scheduler), active(SeedPeer), active(Peer), active(Peer)]);
    assert_eq!(members[0].ring_permille, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_rate_holds_on_every_member_and_a_bad_one_nowhere() {
    let town = Town::start(1, 2).await;
    let before = town.settled().await;
    let cluster_id = before.cluster_id;
    let set = |limits, expected_version| wire::SetLimitsRequest {
        cluster_id,
        limits: Some(limits),
        expected_version,
        ..wire::SetLimitsRequest::default()
    };
    let mut console = town.manager.console();
    let bad = console.set_limits(with(&town.token, set(upload_rate(7), 0))).await.unwrap_err();
    assert_eq!(bad.code(), tonic::Code::InvalidArgument);
    let stale = console.set_limits(with(&town.token, set(upload_rate(1 << 20), before.version + 9))).await;
    assert!(stale.is_err());
    assert_eq!(town.settled().await.version, before.version);
    console.set_limits(with(&town.token, set(upload_rate(1 << 20), before.version))).await.unwrap();
    let after = town.settled().await;
    assert_eq!((after.version, after.members), (before.version + 1, 4));
    assert_eq!(after.limits.unwrap().peer, upload_rate(1 << 20).peer);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_blocks_is_not_downloaded() {
    let town = Town::start(0, 1).await;
    let origin = Origin::start(Content::random(2, MIB)).await;
    let cluster_id = town.cluster_id().await;
    let meta = df_api::base::UrlMeta { tag: "secret".to_owned(), priority: 3, ..Default::default() };
    let wish = Wish { meta, ..Wish::default() };
    for (field, value) in [(wire::BlockField::Tag, "secret"), (wire::BlockField::Priority, "3")] {
        let rule = wire::BlockRule {
            field: field.into(),
            value: value.to_owned(),
            blocks_download: true,
            reason: "not for here".to_owned(),
            ..wire::BlockRule::default()
        };
        let asked = wire::AddBlockRuleRequest { cluster_id, rule: Some(rule) };
        let settings = town.manager.console().add_block_rule(with(&town.token, asked)).await.unwrap().into_inner();
        town.settled().await;
        let refused = town.daemon(0).download(&origin.url(), wish.clone()).await.unwrap_err();
        assert_eq!((refused.code, refused.cause.as_deref()), (Code::Blocked, Some("not for here")));
        assert!(town.daemon(0).download(&origin.url(), Wish::default()).await.is_ok());
        let rule_id = settings.block_rules[0].id;
        let asked = wire::RemoveBlockRuleRequest { cluster_id, rule_id };
        town.manager.console().remove_block_rule(with(&town.token, asked)).await.unwrap();
        town.settled().await;
    }
    assert!(town.daemon(0).download(&origin.url(), wish).await.is_ok());
    // What is stored has no priority: a rule on it would be believed and do nothing.
    let rule = wire::BlockRule {
        field: wire::BlockField::Priority.into(),
        value: "3".to_owned(),
        blocks_upload: true,
        ..wire::BlockRule::default()
    };
    let asked = wire::AddBlockRuleRequest { cluster_id, rule: Some(rule) };
    let refused = town.manager.console().add_block_rule(with(&town.token, asked)).await.unwrap_err();
    assert_eq!(df_api::status::failure_of(&refused).code, Code::Usage);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_blocks_is_not_uploaded() {
    let town = Town::start(0, 2).await;
    let origin = Origin::start(Content::random(4, MIB)).await;
    let cluster_id = town.cluster_id().await;
    let rule = wire::BlockRule {
        field: wire::BlockField::Tag.into(),
        value: "kept".to_owned(),
        blocks_upload: true,
        ..wire::BlockRule::default()
    };
    let tagged = |tag: &str| {
        let meta = df_api::base::UrlMeta { tag: tag.to_owned(), ..Default::default() };
        Wish { meta, ..Wish::default() }
    };
    for tag in ["kept", "free"] {
        town.daemon(0).download(&origin.url(), tagged(tag)).await.unwrap();
    }
    let asked = wire::AddBlockRuleRequest { cluster_id, rule: Some(rule) };
    town.manager.console().add_block_rule(with(&town.token, asked)).await.unwrap();
    town.settled().await;
    for (tag, from_origin) in [("kept", true), ("free", false)] {
        let downloaded = town.daemon(1).download(&origin.url(), tagged(tag)).await.unwrap();
        assert!(downloaded.bytes == origin.bytes());
        assert_eq!(downloaded.last.tally.unwrap().origin_bytes > 0, from_origin, "{tag}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_manager_everything_goes_on_even_over_a_restart_and_back_up_it_is_whole_again() {
    let mut town = Town::start(1, 1).await;
    let version = town.settled().await.version;
    town.manager.take_process().kill().await;
    // Both know their schedulers from the file the manager's word is kept in.
    town.cluster.daemons[1].restart().await;
    town.daemon(1).linked().await;
    let origin = Origin::start(Content::random(3, 2 * MIB)).await;
    let downloaded = town.daemon(1).download(&origin.url(), Wish::default()).await.unwrap();
    assert!(downloaded.bytes == origin.bytes());
    assert_eq!(downloaded.last.tally.unwrap().origin_bytes, 0, "by way of scheduler and seed");
    town.manager.run().await;
    let there = until("all members are back", || async {
        let rows = town.manager.members(&town.token).await;
        (rows.len() == 3 && rows.iter().all(|row| row.state() == wire::MemberState::Active)).then_some(rows)
    });
    assert!(there.await.iter().all(|row| row.wanted_configuration_version >= version));
    town.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_is_killed_is_lost_and_taken_off_the_list() {
    let mut town = Town::start(0, 1).await;
    let (_second, _) = town.manager.scheduler("s2").await;
    let scheduler = |rows: &[wire::MemberRow], name: &str| rows.iter().find(|row| row.hostname == name).cloned();
    until("the second joins", || async { scheduler(&town.manager.members(&town.token).await, "s2") }).await;
    town.scheduler.take().unwrap().kill().await;
    let lost = until("the first is lost", || async {
        let rows = town.manager.members(&town.token).await;
        scheduler(&rows, "s1").filter(|row| row.state() == wire::MemberState::Lost)
    });
    let lost = lost.await;
    town.settled().await;
    town.daemon(0).linked().await;
    let mut console = town.manager.console();
    let overview = wire::WatchOverviewRequest::default();
    let mut stream = console.watch_overview(with(&town.token, overview)).await.unwrap().into_inner();
    let attention = stream.message().await.unwrap().unwrap().attention;
    assert!(attention.iter().any(|item| item.member_id == lost.id && item.text.contains("s1")), "{attention:?}");
    let asked = wire::MemberRequest { member_id: lost.id };
    console.remove_member(with(&town.token, asked)).await.unwrap();
    assert!(scheduler(&town.manager.members(&town.token).await, "s1").is_none());
}

/// CVE-2026-54637 and CVE-2025-59353: an address or identity on nothing but the word of who claims it.
#[tokio::test(flavor = "multi_thread")]
async fn cve_2026_54637_cve_2025_59353_nobody_is_a_member_at_another_ones_address() {
    let manager = Manager::start().await;
    let token = manager.join_token();
    let mut client = ManagerClient::new(channel(manager.grpc));
    for ip in ["10.9.9.9", "169.254.169.254", "not an address"] {
        let refused = client.join(with(&token, tokio_stream::once(hello("s", ip)))).await.unwrap_err();
        assert!([tonic::Code::PermissionDenied, tonic::Code::InvalidArgument].contains(&refused.code()), "{ip}");
        let seed = wire::UpdateSeedPeerRequest { ip: ip.to_owned(), port: 1, ..Default::default() };
        assert!(client.update_seed_peer(with(&token, seed)).await.is_err(), "{ip}");
        let scheduler = wire::UpdateSchedulerRequest { ip: ip.to_owned(), port: 1, ..Default::default() };
        assert!(client.update_scheduler(with(&token, scheduler)).await.is_err(), "{ip}");
    }
    assert!(manager.members(&manager.root().await).await.is_empty());
    let mut orders = client.join(with(&token, tokio_stream::once(hello("s", "")))).await.unwrap().into_inner();
    let first = orders.message().await.unwrap().unwrap().order;
    assert!(matches!(first, Some(Order::Welcome(welcome)) if welcome.ip == "127.0.0.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_dragonfly_v1_join_beat_and_find_schedulers() {
    let manager = Manager::start().await;
    let token = manager.join_token();
    let mut client = ManagerClient::new(channel(manager.grpc));
    let asked = wire::UpdateSchedulerRequest {
        host_name: "old".to_owned(),
        ip: "127.0.0.1".to_owned(),
        port: 8002,
        scheduler_cluster_id: 1,
        ..Default::default()
    };
    let scheduler = client.update_scheduler(with(&token, asked)).await.unwrap().into_inner();
    assert_eq!((scheduler.state.as_str(), scheduler.scheduler_cluster_id), ("active", 1));
    let seed = wire::UpdateSeedPeerRequest {
        host_name: "seed".to_owned(),
        ip: "127.0.0.1".to_owned(),
        port: 65000,
        download_port: 65002,
        seed_peer_cluster_id: 1,
        ..Default::default()
    };
    let seed = client.update_seed_peer(with(&token, seed)).await.unwrap().into_inner();
    assert_eq!(seed.schedulers.len(), 1);
    let beat = wire::KeepAliveRequest {
        source_type: wire::SourceType::SchedulerSource.into(),
        host_name: "old".to_owned(),
        cluster_id: 1,
    };
    client.keep_alive(with(&token, tokio_stream::iter([beat.clone(), beat]))).await.unwrap();
    let asked = wire::ListSchedulersRequest { host_name: "peer".to_owned(), ..Default::default() };
    let listed = client.list_schedulers(with(&token, asked)).await.unwrap().into_inner().schedulers;
    assert_eq!(listed.iter().map(|s| (s.port, s.seed_peers.len())).collect::<Vec<_>>(), [(8002, 1)]);
    let config: serde_json::Value =
        serde_json::from_slice(&listed[0].scheduler_cluster.as_ref().unwrap().config).unwrap();
    assert_eq!(config["candidate_parent_limit"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn views_show_tasks_hosts_topology_and_what_operators_do_to_them() {
    let town = Town::start(1, 2).await;
    let origin = Origin::start(Content::random(4, 3 * MIB)).await;
    for downloaded in town.cluster.download_all(&origin.url(), &Wish::default()).await {
        downloaded.unwrap();
    }
    let mut console = town.manager.console();
    let rows = wire::WatchRowsRequest { interval_ms: 200, ..wire::WatchRowsRequest::default() };
    let mut pages = console.watch_tasks(with(&town.token, rows.clone())).await.unwrap().into_inner();
    let task = loop {
        let page = pages.message().await.unwrap().unwrap();
        if let Some(row) = page.rows.into_iter().find(|row| row.done_peers == 3) {
            break row;
        }
    };
    assert_eq!((task.peers, task.seeds, task.content_length), (3, 1, Some(origin.bytes().len() as u64)));
    assert_eq!((task.source_bytes, task.peer_bytes), (3 << 20, 6 << 20));
    assert_eq!(task.progress_permille, 1000);

    let mut pages = console.watch_hosts(with(&town.token, rows)).await.unwrap().into_inner();
    let hosts = pages.message().await.unwrap().unwrap().rows;
    assert_eq!(
        hosts.iter().map(|row| (row.hostname.as_str(), row.is_seed)).collect::<Vec<_>>(),
        [("d0", true), ("d1", false), ("d2", false)]
    );

    let asked = wire::WatchTaskRequest { task_id: task.task_id.clone(), ..Default::default() };
    let mut views = console.watch_task(with(&town.token, asked)).await.unwrap().into_inner();
    let view = views.message().await.unwrap().unwrap();
    assert_eq!(view.peers.len(), 3);
    assert!(view.copies.iter().all(|copies| *copies == 3), "{view:?}");
    assert!(view.cells.iter().all(|cell| i32::from(*cell) == wire::CellState::Have as i32));

    let host_id = hosts[1].host_id.clone();
    let asked = wire::IsolateHostRequest { host_id: host_id.clone(), term_ms: 0, reason: "noisy".to_owned() };
    let done = console.isolate_host(with(&town.token, asked)).await.unwrap().into_inner();
    assert_eq!((done.done, done.asked, done.hosts), (1, 1, 1));
    let blacklist = || async {
        let rows = wire::WatchRowsRequest::default();
        let mut pages = town.manager.console().watch_blacklist(with(&town.token, rows)).await.unwrap().into_inner();
        pages.message().await.unwrap().unwrap().rows
    };
    let held = until("it is held", || async { blacklist().await.into_iter().next() }).await;
    assert_eq!(
        (held.scope(), held.reason.as_str(), &held.host_id),
        (wire::BlacklistScope::Operator, "noisy", &host_id)
    );
    console.release_host(with(&town.token, wire::HostRequest { host_id })).await.unwrap();
    until("it is free", || async { blacklist().await.is_empty().then_some(()) }).await;
    town.daemon(1).linked().await;

    let asked = wire::TaskRequest { task_id: task.task_id.clone() };
    console.delete_task(with(&town.token, asked)).await.unwrap();
    until("nobody has it", || async {
        let stored: usize = town.cluster.daemons.iter().map(|daemon| daemon.stored_files().len()).sum();
        (stored == 0).then_some(())
    })
    .await;
    let asked = wire::WatchEventsRequest { backlog: 1000, ..Default::default() };
    let mut events = console.watch_events(with(&town.token, asked)).await.unwrap().into_inner();
    let kinds: Vec<String> = events.message().await.unwrap().unwrap().events.into_iter().map(|e| e.kind).collect();
    for wanted in ["member.joined", "configuration.changed", "host.held", "host.released", "task.deleted"] {
        assert!(kinds.iter().any(|kind| kind == wanted), "{wanted} not in {kinds:?}");
    }
}
