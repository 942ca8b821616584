//! The rule on the arrows between our packages: who may depend on whom.

use super::tree::{File, Finding, Tree};

/// Our packages, each with those of ours that it may depend on, tests included. An arrow that is
/// not here is a decision on the architecture and is discussed there first.
const ARROWS: [(&str, &[&str]); 7] = [
    ("df-core", &[]),
    ("df-api", &["df-core"]),
    ("df-daemons", &["df-api", "df-core"]),
    ("df-tui", &["df-api"]),
    ("df-sim", &["df-daemons", "df-api", "df-core"]),
    ("df-bench", &["df-core", "df-api", "df-daemons", "df-tui", "df-sim"]),
    ("xtask", &[]),
];

/// Every dependency between our packages is in the table, and every package is.
pub(super) fn arrows(tree: &Tree) -> Vec<Finding> {
    let manifests = tree.files.iter().filter(|file| file.file_name() == "Cargo.toml");
    manifests.flat_map(|file| arrows_of(file, &Manifest::read(&file.text))).collect()
}

fn arrows_of(file: &File, manifest: &Manifest) -> Vec<Finding> {
    let Some((name_line, name)) = &manifest.name else { return Vec::new() };
    let Some((_, allowed)) = ARROWS.iter().find(|(package, _)| package == name) else {
        let what =
            format!("{name} is not in the table of packages; add it in xtask/src/tidy/packages.rs with its arrows");
        return vec![file.finding(*name_line, what)];
    };
    let is_ours = |dependency: &str| ARROWS.iter().any(|(package, _)| *package == dependency);
    let forbidden = |dependency: &str| is_ours(dependency) && !allowed.contains(&dependency);
    let found = manifest.dependencies.iter().filter(|(_, dependency)| forbidden(dependency));
    let may = if allowed.is_empty() { "none of ours".to_owned() } else { allowed.join(", ") };
    found
        .map(|(line, dependency)| {
            file.finding(
                *line,
                format!("{name} must not depend on {dependency}; it may on {may}: turn the call around"),
            )
        })
        .collect()
}

/// What the rule needs of a Cargo.toml; every item with its line. It reads the TOML that people
/// write in a Cargo.toml, an item a line.
#[derive(Default)]
struct Manifest {
    /// `None` in the manifest of a workspace alone.
    name: Option<(usize, String)>,
    /// The packages of every kind of dependencies, by their true names.
    dependencies: Vec<(usize, String)>,
}

impl Manifest {
    fn read(text: &str) -> Manifest {
        let mut manifest = Manifest::default();
        let mut section = String::new();
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.split('#').next().unwrap_or_default().trim();
            if let Some(header) = content.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = header.trim().to_owned();
                if let Some(name) = dependency_of_its_own_section(&section) {
                    manifest.dependencies.push((line, name));
                }
            } else if let Some((key, value)) = content.split_once('=') {
                manifest.item(line, &section, key.trim(), value.trim());
            }
        }
        manifest
    }

    fn item(&mut self, line: usize, section: &str, key: &str, value: &str) {
        if section == "package" && key == "name" {
            self.name = Some((line, unquoted(value)));
        } else if is_dependencies(section) {
            let name = key.split('.').next().unwrap_or(key);
            self.dependencies.push((line, renamed(value).unwrap_or_else(|| unquoted(name))));
        } else if dependency_of_its_own_section(section).is_some() && key == "package" {
            self.dependencies.push((line, unquoted(value)));
        }
    }
}

/// `dependencies`, `dev-dependencies`, `build-dependencies`, of the package or of a target; those of
/// the workspace are an offer, not an arrow.
fn is_dependencies(section: &str) -> bool {
    let last = section.rsplit('.').next().unwrap_or(section);
    matches!(last, "dependencies" | "dev-dependencies" | "build-dependencies") && !section.starts_with("workspace")
}

/// `x` of `[dependencies.x]`.
fn dependency_of_its_own_section(section: &str) -> Option<String> {
    let (table, name) = section.rsplit_once('.')?;
    is_dependencies(table).then(|| unquoted(name))
}

/// `x` of `{ package = "x", … }`.
fn renamed(value: &str) -> Option<String> {
    let fields = value.strip_prefix('{')?.trim_end_matches('}').split(',');
    let mut pairs = fields.filter_map(|field| field.split_once('='));
    pairs.find(|(key, _)| key.trim() == "package").map(|(_, name)| unquoted(name))
}

fn unquoted(text: &str) -> String {
    text.trim().trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::arrows;

    fn lines(manifest: &str) -> Vec<usize> {
        arrows(&Tree::of(&[("some/Cargo.toml", manifest)])).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn arrows_of_the_table_and_other_peoples_packages_pass() {
        let daemons = "[package]\nname = \"df-daemons\"\n[dependencies]\ndf-api.workspace = true\ndf-core = { path = \"../core\" }\n\
            anyhow = \"1\"\n[dev-dependencies]\ntempfile.workspace = true\n";
        assert_eq!(lines(daemons), [0_usize; 0]);
        let workspace = "[workspace]\nmembers = [\"core\"]\n[workspace.dependencies]\ndf-sim = { path = \"sim\" }\n";
        assert_eq!(lines(workspace), [0_usize; 0]);
        let bench =
            "[package]\nname = \"df-bench\"\n[dependencies]\ndf-sim.workspace = true\ndf-tui.workspace = true\n";
        assert_eq!(lines(bench), [0_usize; 0]);
    }

    #[test]
    fn an_arrow_outside_the_table_fails_however_it_is_written() {
        let written = [
            "[dependencies]\ndf-daemons.workspace = true\n",
            "[dev-dependencies]\ndf-daemons = { path = \"../daemons\" } # for a test\n",
            "[build-dependencies]\n\"df-daemons\" = { path = \"../daemons\" }\n",
            "[target.'cfg(unix)'.dependencies]\nd = { path = \"../daemons\", package = \"df-daemons\" }\n",
            "[dependencies.df-daemons]\n# by path\n",
        ];
        for dependencies in written {
            assert_eq!(lines(&format!("[package]\nname = \"df-tui\"\n{dependencies}")).len(), 1, "{dependencies}");
        }
        assert_eq!(lines("[package]\nname = \"df-tui\"\n[dependencies.d]\npackage = \"df-sim\"\n"), [4]);
        assert_eq!(lines("[package]\nname = \"xtask\"\n[dependencies]\ndf-core.workspace = true\n"), [4]);
    }

    #[test]
    fn a_package_that_nobody_put_in_the_table_is_found() {
        assert_eq!(lines("[package]\nedition = \"2024\"\nname = \"df-new\"\n"), [3]);
    }
}
