//! `cargo xtask codegen`: makes the checked-in Rust of the protos, or says that it is stale.
//!
//! protox reads the protos (nobody needs protoc), tonic-prost-build writes the Rust and lays it out
//! with prettyplease, so the same Cargo.lock always gives the same bytes.
//!
//! # The module that includes the result
//! A proto package `a` becomes `generated/a.rs`. A type of another package is named from its parent
//! (`super::base::UrlMeta`, and `super::super::base::UrlMeta` inside `a_client` and nested messages),
//! so the packages must be siblings under one module. `daemons/api/src/generated.rs` is to be:
//!
//! ```ignore
//! //! What `cargo xtask codegen` makes of the protos: not for editing.
//! #![allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
//!
//! #[rustfmt::skip] // prettyplease laid it out
//! pub mod base;
//! #[rustfmt::skip]
//! pub mod scheduler;
//!
//! /// Every proto with its imports, for gRPC reflection.
//! pub const DESCRIPTOR: &[u8] = include_bytes!("generated/descriptor.bin");
//! ```
//!
//! A package with dots, `a.b`, becomes `generated/a.b.rs` and needs a module inside a module:
//! `pub mod a { #[path = "…/a.b.rs"] pub mod b; }`; single names are simpler.
//!
//! Comments of a proto become documentation, so code in one needs a fence with `text`, or it is
//! compiled as an example.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;

use crate::Task;
use crate::repo;

/// Where the protos are, relative to the root; an import is found by its name in this folder.
const PROTOS: &str = "daemons/api/proto";
/// The file descriptor set that gRPC reflection serves, without comments and positions.
const DESCRIPTOR: &str = "descriptor.bin";

/// Make the Rust code of the protos
///
/// Compiles every daemons/api/proto/*.proto to daemons/api/src/generated/: one Rust file for each
/// proto package, with messages, clients and servers, and descriptor.bin for gRPC reflection.
/// Files there that no proto makes any more are removed. No protoc is needed.
///
/// Run it after you changed a proto, and commit what it wrote together with the proto.
#[derive(Parser)]
#[command(name = "codegen")]
pub(crate) struct Codegen {
    /// Write nothing; fail and name the files that are not what the protos make
    #[arg(long)]
    check: bool,
}

impl Task for Codegen {
    fn run(self) -> Result<()> {
        let root = repo::root()?;
        let (protos, checked_in) = (root.join(PROTOS), root.join(repo::GENERATED));
        let fresh = tempfile::tempdir().context("no temporary directory")?;
        generate(&protos, fresh.path())?;
        let differences = compare(fresh.path(), &checked_in)?;
        if self.check && !differences.is_empty() {
            bail!("{}", stale(&differences));
        }
        for difference in &differences {
            println!("{difference}");
            difference.settle(fresh.path(), &checked_in)?;
        }
        if differences.is_empty() {
            println!("{} is up to date", repo::GENERATED);
        }
        Ok(())
    }
}

/// Compiles every proto in `protos` into the existing folder `out`; no protos make no files.
fn generate(protos: &Path, out: &Path) -> Result<()> {
    let names: Vec<String> = contents(protos)?.into_keys().filter(|name| name.ends_with(".proto")).collect();
    if names.is_empty() {
        return Ok(());
    }
    // Only its Debug form says the place in the file.
    let located = |error: protox::Error| anyhow!("{error:?}");
    let mut compiler = protox::Compiler::new([protos]).map_err(located)?;
    compiler.include_imports(true).open_files(&names).map_err(located)?;
    fs::write(out.join(DESCRIPTOR), compiler.encode_file_descriptor_set())?;

    // With source info the proto's comments become the documentation.
    let mut set = compiler.include_source_info(true).file_descriptor_set();
    // Imports of well-known types resolve to prost_types and need no code of their own.
    set.file.retain(|file| names.iter().any(|name| name == file.name()));
    for file in &set.file {
        ensure!(
            !file.package().is_empty(),
            "{PROTOS}/{}: has no `package` line, which names its Rust file",
            file.name()
        );
    }
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        // No `connect`: daemons dial through their Env, so that a simulation can be the network.
        .build_transport(false)
        .btree_map(".")
        .emit_rerun_if_changed(false)
        .out_dir(out)
        .compile_fds(set)
        .context("tonic-prost-build")
}

/// How the checked-in folder departs from the fresh one, in one file.
#[derive(Debug, PartialEq)]
struct Difference {
    name: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Missing,
    Differs,
    Orphan,
}

impl Difference {
    /// Makes the checked-in file what the fresh folder says.
    fn settle(&self, fresh: &Path, checked_in: &Path) -> Result<()> {
        let target = checked_in.join(&self.name);
        if self.kind == Kind::Orphan {
            return fs::remove_file(&target).with_context(|| format!("cannot remove {}", target.display()));
        }
        fs::create_dir_all(checked_in).with_context(|| format!("cannot create {}", checked_in.display()))?;
        fs::copy(fresh.join(&self.name), &target).with_context(|| format!("cannot write {}", target.display()))?;
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Missing => "is missing",
            Kind::Differs => "is not what the protos make",
            Kind::Orphan => "is made by no proto",
        };
        write!(f, "{}/{} {what}", repo::GENERATED, self.name)
    }
}

fn compare(fresh: &Path, checked_in: &Path) -> Result<Vec<Difference>> {
    let (fresh, old) = (contents(fresh)?, contents(checked_in)?);
    let made = fresh.iter().filter_map(|(name, bytes)| match old.get(name) {
        None => Some((name, Kind::Missing)),
        Some(have) if have != bytes => Some((name, Kind::Differs)),
        Some(_) => None,
    });
    let orphans = old.keys().filter(|name| !fresh.contains_key(*name)).map(|name| (name, Kind::Orphan));
    Ok(made.chain(orphans).map(|(name, kind)| Difference { name: name.clone(), kind }).collect())
}

fn stale(differences: &[Difference]) -> String {
    let mut text = "generated code is stale; run `cargo xtask codegen` and commit what it writes:".to_owned();
    for difference in differences {
        text += &format!("\n  {difference}");
    }
    text
}

/// The files of a folder by name; a folder that does not exist has none.
fn contents(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    if !folder.exists() {
        return Ok(files);
    }
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|_| path.is_file()) {
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            files.insert(name.to_owned(), bytes);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use prost::Message;
    use tempfile::TempDir;

    use super::{DESCRIPTOR, Kind, compare, contents, generate, stale};

    const BASE: &str = "syntax = \"proto3\";\npackage base;\n\
        // What a task is, besides its URL.\nmessage UrlMeta { string digest = 1; map<string, string> header = 5; }\n";
    const DFDAEMON: &str = "syntax = \"proto3\";\npackage dfdaemon;\n\
        import \"base.proto\";\nimport \"google/protobuf/empty.proto\";\n\
        message DownRequest { message Part { base.UrlMeta meta = 1; } base.UrlMeta url_meta = 7; repeated Part parts = 100; }\n\
        service Daemon {\n\
          rpc Download(DownRequest) returns (stream base.UrlMeta);\n\
          rpc CheckHealth(google.protobuf.Empty) returns (google.protobuf.Empty);\n\
        }\n";

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().expect("a temporary directory");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("written");
        }
        folder
    }

    fn text(folder: &Path, name: &str) -> String {
        fs::read_to_string(folder.join(name)).expect("generated")
    }

    #[test]
    fn each_package_becomes_one_file_with_messages_client_and_server() {
        let (protos, out) = (folder(&[("base.proto", BASE), ("dfdaemon.proto", DFDAEMON)]), folder(&[]));
        generate(protos.path(), out.path()).expect("protos compile");
        let names: Vec<String> = contents(out.path()).expect("listed").into_keys().collect();
        assert_eq!(names, ["base.rs", DESCRIPTOR, "dfdaemon.rs"]);

        let base = text(out.path(), "base.rs");
        assert!(base.contains("/// What a task is, besides its URL."), "{base}");
        assert!(base.contains("BTreeMap") && !base.contains("HashMap"), "{base}");
        let daemon = text(out.path(), "dfdaemon.rs");
        for wanted in ["pub mod daemon_client", "pub mod daemon_server", "trait Daemon", "pub struct DownRequest"] {
            assert!(daemon.contains(wanted), "{wanted} not in {daemon}");
        }
        assert!(!daemon.contains("connect"), "dialling is the Env's: {daemon}");
    }

    #[test]
    fn a_type_of_another_package_is_named_from_the_common_parent_module() {
        let (protos, out) = (folder(&[("base.proto", BASE), ("dfdaemon.proto", DFDAEMON)]), folder(&[]));
        generate(protos.path(), out.path()).expect("protos compile");
        let daemon = text(out.path(), "dfdaemon.rs");
        assert!(daemon.contains("pub url_meta: ::core::option::Option<super::base::UrlMeta>"), "{daemon}");
        assert!(daemon.contains("pub meta: ::core::option::Option<super::super::base::UrlMeta>"), "{daemon}");
    }

    #[test]
    fn the_descriptor_holds_every_proto_and_its_imports_for_reflection() {
        let (protos, out) = (folder(&[("base.proto", BASE), ("dfdaemon.proto", DFDAEMON)]), folder(&[]));
        generate(protos.path(), out.path()).expect("protos compile");
        let bytes = fs::read(out.path().join(DESCRIPTOR)).expect("descriptor");
        let set = tonic_prost_build::FileDescriptorSet::decode(bytes.as_slice()).expect("a descriptor set");
        let mut names: Vec<&str> = set.file.iter().map(|file| file.name()).collect();
        names.sort_unstable();
        assert_eq!(names, ["base.proto", "dfdaemon.proto", "google/protobuf/empty.proto"]);
        assert!(set.file.iter().all(|file| file.source_code_info.is_none()));
    }

    #[test]
    fn the_same_protos_make_the_same_bytes() {
        let protos = folder(&[("base.proto", BASE), ("dfdaemon.proto", DFDAEMON)]);
        let (one, two) = (folder(&[]), folder(&[]));
        generate(protos.path(), one.path()).expect("protos compile");
        generate(protos.path(), two.path()).expect("protos compile");
        assert_eq!(compare(one.path(), two.path()).expect("compared"), []);
    }

    #[test]
    fn stale_missing_and_orphaned_files_are_named_and_settled() {
        let (protos, fresh) = (folder(&[("base.proto", BASE), ("dfdaemon.proto", DFDAEMON)]), folder(&[]));
        generate(protos.path(), fresh.path()).expect("protos compile");
        let checked_in = folder(&[("base.rs", "// old"), ("gone.rs", "// of a proto that was removed")]);
        let differences = compare(fresh.path(), checked_in.path()).expect("compared");
        let found: Vec<_> = differences.iter().map(|it| (it.name.as_str(), it.kind)).collect();
        assert_eq!(
            found,
            [
                ("base.rs", Kind::Differs),
                (DESCRIPTOR, Kind::Missing),
                ("dfdaemon.rs", Kind::Missing),
                ("gone.rs", Kind::Orphan)
            ]
        );
        let message = stale(&differences);
        assert!(message.contains("cargo xtask codegen"), "{message}");
        assert!(message.contains("\n  daemons/api/src/generated/gone.rs is made by no proto"), "{message}");

        for difference in &differences {
            difference.settle(fresh.path(), checked_in.path()).expect("settled");
        }
        assert_eq!(compare(fresh.path(), checked_in.path()).expect("compared"), []);
    }

    #[test]
    fn a_mistake_in_a_proto_is_reported_with_its_file_and_line() {
        let broken = "syntax = \"proto3\";\npackage base;\nmessage A { Missing m = 1; }\n";
        let (protos, out) = (folder(&[("broken.proto", broken)]), folder(&[]));
        let error = generate(protos.path(), out.path()).expect_err("Missing is not defined").to_string();
        assert!(error.contains("broken.proto:3:13"), "{error}");
        assert!(error.contains("Missing"), "{error}");
    }

    #[test]
    fn a_proto_without_a_package_is_refused() {
        let (protos, out) = (folder(&[("lost.proto", "syntax = \"proto3\";\nmessage A {}\n")]), folder(&[]));
        let error = generate(protos.path(), out.path()).expect_err("no package").to_string();
        assert!(error.contains("lost.proto") && error.contains("package"), "{error}");
    }

    #[test]
    fn no_protos_make_no_files() {
        let (protos, out) = (folder(&[]), folder(&[]));
        generate(protos.path(), out.path()).expect("nothing to do");
        generate(&protos.path().join("missing"), out.path()).expect("nothing to do");
        assert!(contents(out.path()).expect("listed").is_empty());
    }
}
