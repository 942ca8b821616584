//! Clusters and their members, made and changed.

use df_api::failure::{Code, Failure};
use df_api::manager as pb;
use serde_json::json;

use super::flags::{Cluster, Scopes};
use super::print::Answer;
use super::{listed, ordered};
use crate::format;
use crate::list::List;
use crate::poller::{Manager, Source, rows};
use crate::request::Request;
use crate::screen::Screen;

pub(super) async fn run(source: &mut Source, cluster: &Cluster) -> Result<Answer, Failure> {
    match cluster {
        Cluster::Ls(rows) => listed(source, Screen::Cluster, List::Clusters, "clusters", rows).await,
        Cluster::Members(rows) => listed(source, Screen::Cluster, List::Members, "members", rows).await,
        Cluster::Forget { member } => ordered(source, Request::RemoveMember { member: member.clone() }).await,
        Cluster::Add { name, scopes } => {
            let manager = source.manager()?;
            if find(manager, name).await.is_ok() {
                let failure = Failure::new(Code::Exists, format!("there is a cluster {name}"));
                return Err(failure.hint("change it with dfctl cluster set"));
            }
            let new = pb::Cluster { name: name.clone(), ..pb::Cluster::default() };
            put(manager, changed(new, scopes)).await
        }
        Cluster::Set { name, scopes } => {
            let manager = source.manager()?;
            let known = find(manager, name).await?;
            put(manager, changed(known, scopes)).await
        }
        Cluster::Rm { name } => {
            let manager = source.manager()?;
            let id = find(manager, name).await?.id;
            manager.remove_cluster(id).await?;
            let text = format!("cluster {name} is removed");
            Ok(Answer::new(text.as_str(), "result", json!({ "done": text })))
        }
    }
}

async fn find(manager: &mut Manager, name: &str) -> Result<pb::Cluster, Failure> {
    let found = manager.clusters().await?.into_iter().find(|cluster| cluster.name == name);
    found.ok_or_else(|| Failure::new(Code::NotFound, format!("there is no cluster {name}")))
}

async fn put(manager: &mut Manager, cluster: pb::Cluster) -> Result<Answer, Failure> {
    let cluster = rows::cluster(manager.put_cluster(cluster).await?);
    Ok(Answer::new(
        format!("cluster {} is number {}", format::clean(&cluster.name), cluster.id),
        "cluster",
        json!(cluster),
    ))
}

/// A cluster with what was given; what was not stays.
fn changed(mut cluster: pb::Cluster, given: &Scopes) -> pb::Cluster {
    let mut scopes = cluster.scopes.unwrap_or_default();
    let set = |old: &mut String, new: &Option<String>| {
        if let Some(new) = new {
            old.clone_from(new);
        }
    };
    set(&mut cluster.description, &given.description);
    set(&mut scopes.idc, &given.idc);
    set(&mut scopes.location, &given.location);
    if !given.cidrs.is_empty() {
        scopes.cidrs.clone_from(&given.cidrs);
    }
    if !given.hostnames.is_empty() {
        scopes.hostnames.clone_from(&given.hostnames);
    }
    cluster.scopes = Some(scopes);
    cluster
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays() {
        let scopes =
            pb::ClusterScopes { idc: "a1".to_owned(), cidrs: vec!["10.0.0.0/8".to_owned()], ..Default::default() };
        let known = pb::Cluster { id: 3, description: "old".to_owned(), scopes: Some(scopes), ..Default::default() };
        let given = Scopes {
            description: None,
            idc: Some("b2".to_owned()),
            location: None,
            cidrs: Vec::new(),
            hostnames: vec!["^gpu".to_owned()],
        };
        let changed = changed(known, &given);
        let scopes = changed.scopes.unwrap_or_default();
        assert_eq!((changed.id, changed.description.as_str(), scopes.idc.as_str()), (3, "old", "b2"));
        assert_eq!((scopes.cidrs.len(), scopes.hostnames.len()), (1, 1));
    }
}
