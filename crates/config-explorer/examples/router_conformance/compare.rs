//! Whether what was computed is what a case expects.

use serde_json::{Map, Value};

use super::inputs::{fields, list, number, texts};

/// Whether what was computed is what the case expects.
pub(super) fn equal(case: &Value, computed: &Value) -> bool {
    let expected = &case["expected"];
    let tolerance = case["tolerance"].as_f64().unwrap_or(1e-9);
    let steps = |key: &str| {
        list(&case[key]).iter().zip(list(&computed[key])).all(|(step, computed)| {
            let nested = step.get("expected");
            // Steps of an index, of flows and of ceilings carry what they expect themselves.
            let own: Map<_, _> = ["pods", "len", "picked", "ceilings"]
                .into_iter()
                .filter_map(|key| Some((key.to_owned(), step.get(key)?.clone())))
                .collect();
            let expected = nested.cloned().unwrap_or(Value::Object(own));
            part_equal(&expected, computed, tolerance)
        })
    };
    match expected["see"].as_str() {
        Some(key) => return steps(key),
        None if case["steps"].is_array() => return steps("steps") && part_equal(expected, computed, tolerance),
        None => {}
    }
    part_equal(expected, computed, expected["abs_tolerance"].as_f64().unwrap_or(tolerance))
}

/// What each key of an expectation demands of what was computed.
fn part_equal(expected: &Value, computed: &Value, tolerance: f64) -> bool {
    let ordered = expected["ordered"] == true;
    fields(expected).all(|(key, expected)| {
        let found = &computed[key];
        match key.as_str() {
            // How distributions are measured.
            "draws" | "abs_tolerance" | "ordered" => true,
            // Texts differ; that there is an error is what counts, in the same phase.
            "error" => !found.is_null(),
            "warnings" => list(expected).len() == list(found).len(),
            "kept" if !ordered => found.is_array() && set(expected) == set(found),
            "picked_groups" => groups_equal(list(expected), &texts(&computed["picked"])),
            "picked_one_of" => list(expected).contains(&computed["picked"]),
            "flow_one_of" => list(expected).contains(&computed["flow"]),
            "relations" => list(expected).iter().all(|relation| holds(relation, &computed["scores"])),
            "profiles_unordered" => fields(expected).all(|(name, plugins)| set(plugins) == set(&found[name])),
            // One case looks at the profiles before anything is added to them.
            "profiles" if expected.is_object() => {
                let added = |plugin: &&Value| !list(&computed["injected"]).contains(&plugin[0]);
                fields(expected).all(|(name, plugins)| {
                    let as_declared: Value = list(&found[name]).iter().filter(added).cloned().collect();
                    value_equal(plugins, &found[name], tolerance) || value_equal(plugins, &as_declared, tolerance)
                })
            }
            "auto_created_producers" | "profiles" if expected.is_array() => set(expected) == set(found),
            "plugin_names" => set(expected) == set(found),
            "injected" => set(expected).iter().all(|name| set(found).contains(name)),
            "probabilities" => list(expected).iter().all(|expected| {
                let same = |found: &&Value| set(&found["kept"]) == set(&expected["kept"]);
                let probability = list(found).iter().find(same).map_or(0.0, |found| number(&found["p"]));
                (probability - number(&expected["p"])).abs() <= tolerance
            }),
            // A pod without matches may be left out.
            "match_blocks" => {
                fields(found).all(|(pod, found)| (number(found) - number(&expected[pod.as_str()])).abs() <= tolerance)
            }
            "headers" => expected == found,
            _ => value_equal(expected, found, tolerance),
        }
    })
}

fn set(value: &Value) -> Vec<String> {
    let mut texts: Vec<_> = list(value).iter().map(Value::to_string).collect();
    texts.sort();
    texts
}

/// Equal within the tolerance; an object may hold more than is expected.
fn value_equal(expected: &Value, found: &Value, tolerance: f64) -> bool {
    match (expected, found) {
        (Value::Number(_), Value::Number(_)) => (number(expected) - number(found)).abs() <= tolerance,
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| value_equal(a, b, tolerance))
        }
        (Value::Object(_), Value::Object(_)) => {
            fields(expected).all(|(key, expected)| value_equal(expected, &found[key.as_str()], tolerance))
        }
        _ => expected == found,
    }
}

fn groups_equal(groups: &[Value], picked: &[String]) -> bool {
    let mut rest = picked;
    groups.iter().all(|group| {
        let names = texts(group);
        let size = names.len().min(rest.len());
        let (these, others) = rest.split_at(size);
        rest = others;
        these.len() == names.len() && these.iter().all(|name| names.contains(name))
    }) && rest.is_empty()
}

fn holds(relation: &Value, scores: &Value) -> bool {
    let [a, operator, b] = list(relation) else { return false };
    let score = |value: &Value| value.as_str().map_or_else(|| number(value), |name| number(&scores[name]));
    let (a, b) = (score(a), score(b));
    match operator.as_str() {
        Some(">") => a > b,
        Some("<") => a < b,
        Some("==") => (a - b).abs() <= 1e-9,
        Some("!=") => (a - b).abs() > 1e-9,
        _ => false,
    }
}
