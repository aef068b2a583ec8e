//! The scheduler against step-by-step records of vLLM's own (`vllm-scheduler/*.json`).

use super::data;
use super::scheduler_replay::compare;

#[test]
fn every_recorded_step_is_the_same() {
    let Some(folder) = data().map(|data| data.join("vllm-scheduler")) else { return };
    let mut steps = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        for comparison in compare(&std::fs::read_to_string(&path).unwrap()).unwrap() {
            let place = format!("{} under {}", path.display(), comparison.version);
            assert_eq!(comparison.first_difference, None, "{place}");
            if comparison.equal == Some(true) {
                steps += comparison.replay["steps"].as_array().map_or(0, Vec::len);
            }
        }
    }
    assert!(steps > 0, "no scenario in {}", folder.display());
}
