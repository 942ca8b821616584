//! Trees of settings as lists of leaves with dotted keys, and printed with comments.

use yaml_serde::Value;

/// The leaves of a tree by dotted key, in order. A list is a leaf.
pub(super) fn flatten(tree: Value) -> Vec<(String, Value)> {
    let mut leaves = Vec::new();
    descend(String::new(), tree, &mut leaves);
    leaves
}

fn descend(key: String, value: Value, leaves: &mut Vec<(String, Value)>) {
    let Value::Mapping(mapping) = value else {
        leaves.push((key, value));
        return;
    };
    for (name, value) in mapping {
        if let Value::String(name) = name {
            descend(if key.is_empty() { name } else { format!("{key}.{name}") }, value, leaves);
        }
    }
}

/// Sets the leaf with a dotted key. A section that is written down without anything in it changes
/// nothing.
pub(super) fn set(tree: &mut Value, key: &str, value: Value) {
    let mut at = tree;
    for name in key.split('.') {
        match at.get_mut(name) {
            Some(next) => at = next,
            None => return,
        }
    }
    if !at.is_mapping() {
        *at = value;
    }
}

/// A tree as YAML with `comment(key)` behind every leaf.
pub(super) fn print(tree: &Value, comment: impl Fn(&str) -> String) -> String {
    let mut lines = Vec::new();
    print_into(&mut lines, "", tree, &comment);
    lines.concat()
}

fn print_into(lines: &mut Vec<String>, section: &str, tree: &Value, comment: &dyn Fn(&str) -> String) {
    let depth = if section.is_empty() { 0 } else { section.split('.').count() };
    let indent = "  ".repeat(depth);
    for (name, value) in tree.as_mapping().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        let key = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
        match value {
            Value::Mapping(_) => {
                lines.push(format!("{indent}{name}:\n"));
                print_into(lines, &key, value, comment);
            }
            Value::Sequence(items) if !items.is_empty() => {
                lines.push(format!("{indent}{name}:  # {}\n", comment(&key)));
                lines.extend(items.iter().map(|item| format!("{indent}  - {}\n", scalar(item))));
            }
            _ => lines.push(format!("{indent}{name}: {}  # {}\n", scalar(value), comment(&key))),
        }
    }
}

/// A value on one line.
fn scalar(value: &Value) -> String {
    let plain = yaml_serde::to_string(value).unwrap_or_default();
    let plain = plain.trim_end();
    // A text of several lines: JSON's way of writing it is YAML as well.
    if plain.contains('\n') { serde_json::to_string(value).unwrap_or_default() } else { plain.to_owned() }
}
