//! What must always be true of a registry.

use alloc::collections::BTreeSet;

use super::{PartState, Registry};

impl Registry {
    pub(super) fn check(&self) {
        self.check_clusters();
        self.check_members();
        self.check_jobs();
    }

    fn check_clusters(&self) {
        let defaults = self.clusters.values().filter(|cluster| cluster.is_default).count();
        assert_eq!(defaults, 1, "I1: one default cluster");
        let names: BTreeSet<&str> = self.clusters.values().map(|cluster| cluster.spec.name.as_str()).collect();
        assert_eq!(names.len(), self.clusters.len(), "I1: unique names");
        assert!(self.clusters.values().all(|cluster| cluster.version >= 1), "I4");
    }

    fn check_members(&self) {
        let mut sessions = BTreeSet::new();
        for (id, member) in &self.members {
            assert!(self.clusters.contains_key(&member.cluster), "I2: {id} is in a cluster that exists");
            let name = (member.cluster, member.introduction.kind, member.introduction.name());
            assert_eq!(self.names.get(&name), Some(id), "I2: {name:?} names one member");
            if let Some(session) = member.session {
                assert!(sessions.insert(session), "I3: {session} belongs to one member");
                assert!(member.is_active, "I3: {id} has a session and is lost");
            }
        }
        assert_eq!(self.names.len(), self.members.len(), "I2: every name has its member");
    }

    fn check_jobs(&self) {
        for (id, job) in &self.jobs {
            for part in &job.parts {
                assert_eq!(part.scheduler.is_some(), part.state == PartState::Active, "I5: {id}");
            }
            let active = job.count(PartState::Active);
            assert!(active <= job.spec.concurrent_part_limit.max(1), "I6: {id} has {active} active parts");
            assert!(!job.state.is_over() || active == 0, "I6: {id} is over");
        }
    }
}
