//! Rules on any text: white space, and nothing of somebody's machine or network.

use super::tree::{File, Finding, Tree};

/// Tabs, carriage returns, trailing white space, no final newline. Recorded screens (`.snap`) are
/// as the program drew them.
pub(super) fn white_space(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| !file.is_generated && !file.path.ends_with(".snap")) {
        for (line, text) in (1..).zip(file.text.split('\n')) {
            if text.contains('\t') {
                found.push(file.finding(line, "a tab; use spaces (\\t in a string)"));
            }
            if text.ends_with(char::is_whitespace) {
                found.push(file.finding(line, "white space at the end of the line; remove it"));
            }
        }
        if !file.text.is_empty() && !file.text.ends_with('\n') {
            found.push(file.finding(file.text.lines().count(), "no newline at the end of the file; add one"));
        }
    }
    found
}

/// Folders directly under `/` that only one machine has. Written without slashes, so that this file
/// keeps its own rule.
const MACHINE_FOLDERS: [&str; 4] = ["home", "root", "work", "Users"];

/// An absolute path into a folder of somebody's machine.
pub(super) fn machine_path(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (file, line, text) in every_line(tree) {
        for folder in MACHINE_FOLDERS {
            let path = format!("/{folder}/");
            if text.match_indices(&path).any(|(at, _)| begins_path(&text[..at])) {
                let what =
                    format!("{path} is a path of one machine; write it relative to the repository, or make it up");
                found.push(file.finding(line, what));
            }
        }
    }
    found
}

/// Whether a `/` after `before` is the start of an absolute path, not the middle of some path, URL
/// or variable.
fn begins_path(before: &str) -> bool {
    !before.ends_with(|c: char| c.is_alphanumeric() || "_-.~*})>".contains(c))
}

/// Hosts of package registries, name and end apart, so that this file keeps its own rule.
const PACKAGE_HOSTS: [(&str, &str); 10] = [
    ("crates", "io"),
    ("npmjs", "com"),
    ("npmjs", "org"),
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("proxy.golang", "org"),
    ("rubygems", "org"),
    ("maven", "org"),
    ("deb.debian", "org"),
    ("archive.ubuntu", "com"),
];
/// What a mirror is set up with in a Cargo configuration.
const MIRROR_SETTINGS: [&str; 4] = ["[source.", "[registries.", "[registry]", "replace-with"];

/// The host of a package registry, or a mirror in place of one. Where packages come from is the
/// affair of whoever builds; Cargo.lock names the one registry that Cargo itself writes.
pub(super) fn package_host(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (file, line, text) in every_line(tree) {
        if file.file_name() == "Cargo.lock" {
            if text.starts_with("source = ") && text != lock_source() {
                found.push(file.finding(line, "not Cargo's own registry; build without a mirror and lock again"));
            }
            continue;
        }
        for (name, end) in PACKAGE_HOSTS {
            if text.contains(&format!("{name}.{end}")) {
                found.push(
                    file.finding(line, format!("names the package host {name}(.){end}; say it without the host")),
                );
            }
        }
        if file.path.ends_with(".cargo/config.toml") && MIRROR_SETTINGS.iter().any(|setting| text.contains(setting)) {
            found.push(file.finding(line, "sets up a mirror; that belongs in the builder's own configuration"));
        }
    }
    found
}

fn lock_source() -> String {
    let (name, end) = PACKAGE_HOSTS[0];
    format!("source = \"registry+https://github.com/rust-lang/{name}.{end}-index\"")
}

fn every_line(tree: &Tree) -> impl Iterator<Item = (&File, usize, &str)> {
    tree.files.iter().flat_map(|file| file.lines().map(move |(line, text)| (file, line, text)))
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::{PACKAGE_HOSTS, lock_source, machine_path, package_host, white_space};

    #[test]
    fn white_space_is_spaces_inside_lines_and_a_newline_at_the_end() {
        let good = Tree::of(&[("a.md", "one  two\n\nthree\n"), ("empty", ""), ("a.snap", "\" x \" \n")]);
        assert_eq!(white_space(&good), []);
        let bad = Tree::of(&[("a.md", "a\tb\nc \nd\r\ne")]);
        let lines: Vec<usize> = white_space(&bad).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [1, 2, 3, 4]);
    }

    #[test]
    fn a_machine_path_is_absolute_and_in_a_folder_of_one_machine() {
        let good =
            "see daemons/work/x, ~/work/x, $HOME/root/x, https://a.example/home/x, ../home/x, /var/lib/x, /homes\n";
        assert_eq!(machine_path(&Tree::of(&[("a.md", good)])), []);
        for start in ["", "see ", "\"", "(", "file://", "path="] {
            let bad = format!("fine\n{start}/{}/me/x\n", "home");
            let found = machine_path(&Tree::of(&[("daemons/api/src/generated/a.rs", &bad)]));
            assert_eq!(found.len(), 1, "{bad}");
            assert_eq!(found[0].line, 2);
        }
    }

    #[test]
    fn package_hosts_stand_nowhere_but_in_the_lock_and_there_only_cargos_own() {
        let own = format!("[[package]]\n{}\n", lock_source());
        assert_eq!(package_host(&Tree::of(&[("Cargo.lock", &own), ("a.md", "from the registry\n")])), []);

        for (name, end) in PACKAGE_HOSTS {
            let found = package_host(&Tree::of(&[("a.md", &format!("fine\nhttps://{name}.{end}/x\n"))]));
            assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2]);
        }
        let mirrored = "[[package]]\nsource = \"registry+https://mirror.example/index\"\n";
        assert_eq!(package_host(&Tree::of(&[("Cargo.lock", mirrored)])).len(), 1);
        let set_up = "[alias]\nxtask = \"run\"\n[source.mirror]\n";
        assert_eq!(package_host(&Tree::of(&[(".cargo/config.toml", set_up)]))[0].line, 3);
    }
}
