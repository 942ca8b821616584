//! `cargo xtask tidy`: the rules of this repository that no compiler and no lint checks.
//!
//! A rule is one function from the [`Tree`] to what it found there, and one line in [`RULES`]; its
//! unit tests give it a text that passes and one that fails.

use anyhow::{Result, bail};
use clap::Parser;

use crate::Task;
use tree::{Finding, Tree};

mod allowance;
mod lexer;
mod links;
mod packages;
mod rust;
mod text;
mod tree;

/// One rule: what it is called in output and markers, what it demands, how it looks.
struct Rule {
    name: &'static str,
    demands: &'static str,
    check: fn(&Tree) -> Vec<Finding>,
}

const RULES: &[Rule] = &[
    Rule { name: "first-line", demands: "a .rs file begins with a `//!` sentence", check: rust::first_line },
    Rule { name: "file-length", demands: "a .rs file has at most 500 lines", check: rust::file_length },
    Rule { name: "module-name", demands: "no mod.rs, and no module named after nothing", check: rust::module_name },
    Rule { name: "white-space", demands: "no tabs, no trailing spaces, a final newline", check: text::white_space },
    Rule { name: "unfinished", demands: "no todo!, unimplemented!, dbg!, #[ignore]", check: rust::unfinished },
    Rule { name: "sleep-in-test", demands: "tests wait for what they wait for", check: rust::sleep_in_test },
    Rule { name: "panic", demands: "no unwrap and expect in daemons, daemons/api", check: rust::panic },
    Rule { name: "biased-select", demands: "`select!` in core, daemons, sim is biased", check: rust::biased_select },
    Rule { name: "no-std", demands: "core is #![no_std]", check: rust::no_std },
    Rule { name: "arrow", demands: "packages depend only on what the design allows", check: packages::arrows },
    Rule { name: "link", demands: "Markdown links inside the repository resolve", check: links::links },
    Rule { name: "machine-path", demands: "no absolute path of somebody's machine", check: text::machine_path },
    Rule { name: "package-host", demands: "no host of a package registry or mirror", check: text::package_host },
];

/// Check the repository's own rules on every file that git tracks
///
/// Prints one line for each violation, `path:line: rule: what is wrong, and how to fix it`, and
/// fails if there is one. New files are seen once they are added to git.
///
/// Where a rule must give way, say so in a comment on the same line or the line above, with the
/// reason: `tidy: allow(RULE) why this place is different`. A marker without a reason, or one that
/// allows nothing, is a violation too.
#[derive(Parser)]
#[command(name = "tidy", after_help = rule_list())]
pub(crate) struct Tidy {}

fn rule_list() -> String {
    let rules = RULES.iter().map(|rule| format!("  {:<14} {}", rule.name, rule.demands));
    format!("Rules:\n{}", rules.collect::<Vec<_>>().join("\n"))
}

impl Task for Tidy {
    fn run(self) -> Result<()> {
        let tree = Tree::tracked()?;
        let violations = violations(&tree);
        for violation in &violations {
            println!("{violation}");
        }
        match violations.len() {
            0 => {
                println!("{} files keep {} rules", tree.files.len(), RULES.len());
                Ok(())
            }
            1 => bail!("1 violation"),
            count => bail!("{count} violations"),
        }
    }
}

/// Every violation as its output line, by path, line, and place of the rule in the table.
fn violations(tree: &Tree) -> Vec<String> {
    let mut allowances = allowance::in_tree(tree);
    let mut found: Vec<(Finding, &str)> = Vec::new();
    for rule in RULES {
        let findings = (rule.check)(tree);
        let kept = findings.into_iter().filter(|finding| !allowance::cover(&mut allowances, rule.name, finding));
        found.extend(kept.map(|finding| (finding, rule.name)));
    }
    let names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    found.extend(allowance::faults(&allowances, &names).into_iter().map(|finding| (finding, allowance::RULE)));
    found.sort_by(|(one, _), (other, _)| (&one.path, one.line).cmp(&(&other.path, other.line)));
    found
        .into_iter()
        .map(|(finding, rule)| format!("{}:{}: {rule}: {}", finding.path, finding.line, finding.what))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::tree::Tree;
    use super::{RULES, rule_list, violations};

    #[test]
    fn violations_are_ordered_by_path_and_line_and_name_their_rule() {
        let tree = Tree::of(&[
            ("sim/src/b.rs", "//! B.\n\nfn f() {\n    todo!()\n}\n"),
            ("sim/src/a.rs", "fn f() { dbg!(1); } "),
        ]);
        let starts: Vec<String> =
            violations(&tree).iter().map(|line| line.splitn(4, ':').take(3).collect::<Vec<_>>().join(":")).collect();
        assert_eq!(
            starts,
            [
                "sim/src/a.rs:1: first-line",
                "sim/src/a.rs:1: white-space",
                "sim/src/a.rs:1: white-space",
                "sim/src/a.rs:1: unfinished",
                "sim/src/b.rs:4: unfinished"
            ]
            .map(str::to_owned)
        );
    }

    #[test]
    fn a_marker_with_a_reason_silences_its_rule_and_no_other() {
        let tree = Tree::of(&[(
            "sim/src/a.rs",
            "//! A.\n\n// tidy: allow(unfinished) shown in the book\nfn f() { todo!() }\nfn g() { todo!() }\n",
        )]);
        let lines = violations(&tree);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("sim/src/a.rs:5: unfinished: "), "{lines:?}");
    }

    #[test]
    fn the_help_lists_every_rule() {
        assert!(RULES.iter().all(|rule| rule_list().contains(rule.name)));
    }
}
