//! Preheats: files and images on the hosts they should be on.

use df_api::manager as wire;

use super::{Town, until, with};
use crate::cluster::Wish;
use crate::origin::{Content, Fault, Origin};

const MIB: usize = 1 << 20;

pub(super) fn file(url: &str, scope: wire::PreheatScope) -> wire::PreheatRequest {
    wire::PreheatRequest {
        r#type: wire::PreheatType::File.into(),
        urls: vec![url.to_owned()],
        scope: scope.into(),
        ..wire::PreheatRequest::default()
    }
}

impl Town {
    /// Has seed peers read from sources no faster than this.
    async fn slow_sources(&self, bytes_per_sec: u64) {
        let source_rate_bytes_per_sec = Some(bytes_per_sec);
        let limits = wire::HostLimits { source_rate_bytes_per_sec, ..wire::HostLimits::default() };
        let asked = wire::SetLimitsRequest {
            cluster_id: self.cluster_id().await,
            limits: Some(wire::Limits { seed_peer: Some(limits), ..wire::Limits::default() }),
            ..wire::SetLimitsRequest::default()
        };
        self.manager.console().set_limits(with(&self.token, asked)).await.unwrap();
        self.settled().await;
    }

    /// Creates a preheat and sees it to its end.
    pub(super) async fn preheat(&self, request: wire::PreheatRequest) -> wire::Job {
        let mut console = self.manager.console();
        let job = console.create_preheat(with(&self.token, request)).await.unwrap().into_inner();
        self.finished(job.id).await
    }

    pub(super) async fn finished(&self, job_id: u64) -> wire::Job {
        let asked = wire::JobRequest { job_id, interval_ms: 200 };
        let mut stream = self.manager.console().watch_job(with(&self.token, asked)).await.unwrap().into_inner();
        let mut last = None;
        let ending = async {
            while let Some(job) = stream.message().await.unwrap() {
                last = Some(job);
            }
        };
        tokio::time::timeout(crate::cluster::LIMIT, ending).await.expect("the job ends");
        last.expect("at least once")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_to_all_peers_and_later_downloads_find_it_there() {
    let town = Town::start(1, 2).await;
    let origin = Origin::start(Content::random(1, 3 * MIB)).await;
    let job = town.preheat(file(&origin.url(), wire::PreheatScope::AllPeers)).await;
    assert_eq!(job.state(), wire::JobState::Succeeded, "{job:?}");
    assert_eq!((job.parts[0].targets, job.parts[0].finished_targets, job.progress_permille), (3, 3, 1000));
    assert_eq!(job.parts[0].content_length, Some(3 << 20));
    let read = origin.stats().body_bytes;
    assert_eq!(read, 3 << 20, "the source is read once");
    let downloaded = town.daemon(2).download(&origin.url(), Wish::default()).await.unwrap();
    assert_eq!(downloaded.last.tally.unwrap().local_bytes, 3 << 20);
    assert_eq!(origin.stats().body_bytes, read);
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_and_selections_choose_the_hosts() {
    let town = Town::start(2, 2).await;
    let table = [
        (wire::PreheatScope::SingleSeedPeer, 0, 0, 1),
        (wire::PreheatScope::AllSeedPeers, 0, 0, 2),
        (wire::PreheatScope::AllPeers, 3, 0, 3),
        (wire::PreheatScope::AllPeers, 0, 50, 2),
    ];
    for (seed, (scope, count, percentage, expected)) in (10..).zip(table) {
        let origin = Origin::start(Content::random(seed, 100_000)).await;
        let request = wire::PreheatRequest { count, percentage, ..file(&origin.url(), scope) };
        let job = town.preheat(request).await;
        assert_eq!(job.parts[0].finished_targets, expected, "{job:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_not_there_fails_the_job_and_says_why() {
    let town = Town::start(1, 0).await;
    let origin = Origin::start(Content::random(1, MIB)).await;
    origin.inject(Fault::Status(404));
    let job = town.preheat(file(&origin.url(), wire::PreheatScope::AllSeedPeers)).await;
    assert_eq!(job.state(), wire::JobState::JobFailed);
    assert!(job.failure.contains("404"), "{job:?}");
    assert!(job.parts[0].target_list[0].failure.contains("404"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preheat_goes_on_over_a_kill_of_the_manager() {
    let mut town = Town::start(1, 1).await;
    let origin = Origin::start(Content::random(1, 4 * MIB)).await;
    town.slow_sources(2 << 20).await;
    let request = file(&origin.url(), wire::PreheatScope::AllPeers);
    let job = town.manager.console().create_preheat(with(&town.token, request)).await.unwrap().into_inner();
    until("it is under way", || async {
        let asked = wire::JobRequest { job_id: job.id, interval_ms: 200 };
        let mut stream = town.manager.console().watch_job(with(&town.token, asked)).await.unwrap().into_inner();
        let now = stream.message().await.unwrap().unwrap();
        (now.state() == wire::JobState::Preheating && now.parts[0].targets == 2).then_some(())
    })
    .await;
    town.manager.take_process().kill().await;
    town.manager.run().await;
    let job = town.finished(job.id).await;
    assert_eq!((job.state(), job.parts[0].finished_targets), (wire::JobState::Succeeded, 2), "{job:?}");
    assert_eq!(origin.stats().body_bytes, 4 << 20, "nothing was fetched twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_preheat_stops() {
    let town = Town::start(1, 0).await;
    let origin = Origin::start(Content::random(1, 8 * MIB)).await;
    town.slow_sources(256 << 10).await;
    let request = file(&origin.url(), wire::PreheatScope::AllPeers);
    let mut console = town.manager.console();
    let job = console.create_preheat(with(&town.token, request)).await.unwrap().into_inner();
    let asked = wire::JobRequest { job_id: job.id, interval_ms: 0 };
    let job = console.cancel_job(with(&town.token, asked)).await.unwrap().into_inner();
    assert_eq!(job.state(), wire::JobState::Cancelled);
    assert!(console.cancel_job(with(&town.token, asked)).await.is_err());
}

/// CVE-2025-59346: requests forged through a preheat.
#[tokio::test(flavor = "multi_thread")]
async fn cve_2025_59346_a_preheat_reaches_no_address_that_the_rules_refuse() {
    let town = Town::start(1, 0).await;
    let image = |url: &str| wire::PreheatRequest {
        r#type: wire::PreheatType::Image.into(),
        urls: vec![url.to_owned()],
        ..wire::PreheatRequest::default()
    };
    for url in ["http://169.254.169.254/v2/a/manifests/b", "http://[::ffff:169.254.169.254]/v2/a/manifests/b"] {
        let job = town.preheat(image(url)).await;
        assert_eq!(job.state(), wire::JobState::JobFailed);
        assert!(job.failure.contains("metadata"), "{job:?}");
    }
    let job = town.preheat(file("http://169.254.169.254/latest/meta-data", wire::PreheatScope::AllSeedPeers)).await;
    assert_eq!(job.state(), wire::JobState::JobFailed);
    assert!(job.failure.contains("metadata"), "{job:?}");
    for url in ["file:///etc/passwd", "ftp://h/x", "gopher://h/", "/etc/passwd"] {
        let request = file(url, wire::PreheatScope::AllPeers);
        let refused = town.manager.console().create_preheat(with(&town.token, request)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{url}");
    }
}
