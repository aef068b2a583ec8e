//! Which modules an entry of an ignore or target list names.
//!
//! Exporters write full module paths, parts of them, globs (modelopt) and regular expressions after `re:`
//! (compressed-tensors), with or without the prefixes `model.`, `language_model.`, `backbone.` that a checkpoint puts
//! before its layers. Here all are compared below those prefixes.

use regex_lite::Regex;

/// One entry of such a list.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    /// A run of whole path components, in which `*` stands for anything.
    Glob(String),
    /// The whole path, in which `*` stands for anything: a regular expression that says no more.
    Path(String),
    /// A regular expression, anchored at the start as Python's `re.match`.
    Regex(Regex),
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Glob(a), Self::Glob(b)) | (Self::Path(a), Self::Path(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

/// A pattern, and the one decoder layer it is about where it names one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scoped {
    /// The layer; the pattern is then below it.
    pub(super) layer: Option<u32>,
    /// The pattern.
    pub(super) pattern: Pattern,
}

/// Removes what checkpoints put before `layers.N`, `lm_head` and the like. `separator` is `.`, or `\.` in a regular
/// expression.
pub(super) fn below_prefixes<'a>(mut entry: &'a str, separator: &str) -> &'a str {
    while let Some(rest) = ["model", "language_model", "backbone", "transformer"]
        .iter()
        .find_map(|prefix| entry.strip_prefix(prefix)?.strip_prefix(separator))
    {
        entry = rest;
    }
    entry
}

/// Lists name experts and the layers of a tower one by one, and all of them: any index stands for all.
fn any_index(entry: &str) -> String {
    let is_index = |component: &str| !component.is_empty() && component.bytes().all(|letter| letter.is_ascii_digit());
    entry.split('.').map(|component| if is_index(component) { "*" } else { component }).collect::<Vec<_>>().join(".")
}

impl Scoped {
    /// Reads one entry; `None` for an empty one, and for a regular expression that this program cannot compile.
    pub(super) fn parse(entry: &str) -> Option<Self> {
        if let Some(expression) = entry.strip_prefix("re:") {
            let below = below_prefixes(below_prefixes(expression, "\\."), ".");
            let pattern = match as_glob(below) {
                Some(glob) => Pattern::Path(glob),
                None => Pattern::Regex(Regex::new(&format!("^(?:{below})")).ok()?),
            };
            return Some(Self { layer: None, pattern });
        }
        let below = below_prefixes(entry, ".");
        if below.is_empty() {
            return None;
        }
        let layer = below.strip_prefix("layers.").and_then(|rest| {
            let (number, module) = rest.split_once('.').unwrap_or((rest, ""));
            Some((number.parse().ok()?, module))
        });
        let (layer, module) = layer.map_or((None, below), |(layer, module)| (Some(layer), module));
        Some(Self { layer, pattern: Pattern::Glob(any_index(module)) })
    }

    /// Whether the entry names a module: `layer` and the `module` path below it, or the `path` of a module outside of
    /// the decoder layers.
    pub(super) fn matches(&self, layer: Option<u32>, module: &str, path: &str) -> bool {
        match (&self.pattern, self.layer) {
            (Pattern::Glob(glob), Some(wanted)) => {
                layer == Some(wanted) && (glob.is_empty() || matches_run(glob, module, false))
            }
            (Pattern::Glob(glob), None) => matches_run(glob, path, true),
            (Pattern::Path(glob), _) => matches_glob(glob.as_bytes(), path.as_bytes()),
            (Pattern::Regex(regex), _) => regex.is_match(path),
        }
    }
}

/// A regular expression of letters, `\.` and `.*` as a glob, which is matched a hundred times faster.
fn as_glob(expression: &str) -> Option<String> {
    let (mut glob, mut rest) = (String::new(), expression);
    while let Some(next) = rest.chars().next() {
        rest = match next {
            '.' => {
                glob.push('*');
                rest.strip_prefix(".*")?
            }
            '\\' => {
                glob.push('.');
                rest.strip_prefix("\\.")?
            }
            '$' if rest == "$" => return Some(glob),
            _ if next.is_alphanumeric() || next == '_' => {
                glob.push(next);
                &rest[next.len_utf8()..]
            }
            _ => return None,
        };
        // What repeats a letter is no glob.
        if rest.starts_with(['*', '+', '?', '{']) {
            return None;
        }
    }
    glob.push('*');
    Some(glob)
}

/// Whether a glob matches a run of whole components of a path: from the first one, or with `anywhere` from any.
fn matches_run(pattern: &str, path: &str, anywhere: bool) -> bool {
    let starts_component = |at: usize| at == 0 || path.as_bytes()[at - 1] == b'.';
    let ends_component = |at: usize| at == path.len() || path.as_bytes()[at] == b'.';
    let Some((literal, _)) = pattern.split_once('*') else {
        // Without a star, the runs are where the text is.
        let mut found = path.match_indices(pattern).map(|(start, _)| start);
        return found
            .any(|start| (start == 0 || anywhere && starts_component(start)) && ends_component(start + pattern.len()));
    };
    let starts = path.match_indices(literal).map(|(start, _)| start);
    let mut starts = starts.take_while(|start| *start == 0 || anywhere).filter(|start| starts_component(*start));
    starts.any(|start| {
        let rest = &path[start..];
        let mut ends = rest.match_indices('.').map(|(dot, _)| dot).chain(std::iter::once(rest.len()));
        ends.any(|end| matches_glob(pattern.as_bytes(), &rest.as_bytes()[..end]))
    })
}

/// Whether a glob matches a whole text; `*` stands for any text, dots included.
fn matches_glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last `*` was, and how much text it stands for so far.
    let mut star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            p = at + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(entry: &str, layer: u32, module: &str) -> bool {
        Scoped::parse(entry).unwrap().matches(Some(layer), module, &format!("layers.{layer}.{module}"))
    }

    #[test]
    fn names_match_whole_components() {
        assert!(matches("gate", 3, "mlp.gate"));
        assert!(!matches("gate", 3, "mlp.gate_proj"));
        assert!(!matches("gate", 3, "mlp.shared_expert_gate"));
        assert!(matches("model.layers.3.mlp.gate", 3, "mlp.gate"));
        assert!(!matches("model.layers.3.mlp.gate", 30, "mlp.gate"));
        assert!(matches("self_attn", 1, "self_attn.q_proj"));
        assert!(matches("model.language_model.layers.0.self_attn", 0, "self_attn.q_proj"));
        assert!(!matches("model.layers.1.gate", 1, "mlp.gate"));
        assert!(matches("model.layers.1", 1, "mlp.gate"));
        assert!(Scoped::parse("model.").is_none());
    }

    #[test]
    fn globs_span_components() {
        assert!(matches("language_model.model.layers.7.self_attn*", 7, "self_attn.q_a_proj"));
        assert!(matches("model.layers.1.*", 1, "mlp.experts.*.up_proj"));
        assert!(matches("model.layers.*.self_attn", 11, "self_attn.q_proj"));
        assert!(matches("*.mlp.shared_expert.*", 5, "mlp.shared_expert.up_proj"));
        // As fnmatch has it, `layers.1*` also names layer 10.
        assert!(matches("model.layers.1*", 10, "mlp.up_proj"));
        assert!(matches("model.layers.4.mlp.experts.17.w1", 4, "mlp.experts.*.w1"));
        assert!(!matches("model.layers.1*", 2, "mlp.up_proj"));
    }

    #[test]
    fn regular_expressions_are_anchored_at_the_start() {
        assert!(matches(r"re:.*self_attn.*", 2, "self_attn.q_proj"));
        assert!(matches(r"re:model\.layers\.2\.mlp", 2, "mlp.up_proj"));
        assert!(!matches(r"re:self_attn", 2, "self_attn.q_proj"));
        assert!(matches(r"re:.*mlp\.(gate|up)_proj.*", 0, "mlp.up_proj"));
        assert!(!matches(r"re:.*mlp\.(gate|up)_proj.*", 0, "mlp.experts.*.up_proj"));
        assert!(matches(r"re:.*\.mlp$", 0, "mlp"));
        assert!(!matches(r"re:.*\.mlp$", 0, "mlp.up_proj"));
        assert!(!matches(r"re:.*mlp\.up_proj", 0, "mlp_up_proj"));
        assert!(matches(r"re:.*ml?p", 0, "mp"));
        assert!(Scoped::parse("re:(?!x)").is_none());
    }

    #[test]
    fn globs_do_not_backtrack_exponentially() {
        let pattern = "*a".repeat(30);
        assert!(!matches_glob(pattern.as_bytes(), "a".repeat(25).as_bytes()));
        assert!(matches_glob(b"a*b*c", b"a.b.b.c"));
        assert!(matches_glob(b"", b""));
        assert!(!matches_glob(b"", b"a"));
    }
}
