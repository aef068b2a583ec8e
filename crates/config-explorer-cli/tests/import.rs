//! `runs import` under attack: killed at any moment, and given files that are made to hurt.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Instant;

use assert_cmd::cargo::cargo_bin;
use config_explorer::reports::store;
use tempfile::TempDir;

/// Files of results that each import of the test below adds, and runs in each of them.
const FILES: u32 = 4;
const RUNS: usize = 3;

fn import(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin!("config-explorer"));
    command.env_clear().current_dir(folder).args(["runs", "import"]).args(arguments);
    command
}

/// A result of `vllm bench serve`, made up.
fn result(number: u32) -> String {
    format!(
        r#"{{"model_id": "m", "num_prompts": 10, "completed": 10, "total_input_tokens": 1000, "total_output_tokens": 100, "mean_ttft_ms": {number}.5, "mean_tpot_ms": 20.0}}"#
    ) + "\n"
}

/// Runs in a store: one number for each result file.
fn runs_by_file(store: &Path) -> Vec<usize> {
    if !store.exists() {
        return Vec::new();
    }
    let mut files: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    for run in store::load(store).unwrap() {
        *files.entry(run.id.content).or_default() += 1;
    }
    files.into_values().collect()
}

fn leftovers(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "tmp")).collect()
}

#[test]
fn a_killed_import_leaves_a_store_of_whole_files() {
    const KILLS: u32 = 50;
    let home = TempDir::new().unwrap();
    for round in 0..=KILLS {
        fs::create_dir(home.path().join(round.to_string())).unwrap();
        for file in 0..FILES {
            let text: String = (0..RUNS as u32).map(|run| result(round * 100 + file * 10 + run)).collect();
            fs::write(home.path().join(format!("{round}/{file}.jsonl")), text).unwrap();
        }
    }
    let stores = ["runs.parquet", "runs"].map(|name| home.path().join(name));
    let start = Instant::now();
    assert!(import(home.path(), &[&KILLS.to_string()]).output().unwrap().status.success());
    let whole = start.elapsed();

    let (mut killed, mut seen) = (0, [0; 2]);
    for round in 0..KILLS {
        let which = round as usize % 2;
        let store = &stores[which];
        let mut child = import(home.path(), &[&round.to_string(), "--store", store.to_str().unwrap()])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Moments that fill the time of an import evenly.
        thread::sleep(whole.mul_f64(1.2 * (f64::from(round) * 0.618_034).fract()));
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().code().is_none());
        let files = runs_by_file(store);
        assert!(files.iter().all(|&runs| runs == RUNS), "{files:?}");
        assert!(files.len() >= seen[which] && (files.len() - seen[which]).is_multiple_of(FILES as usize), "{files:?}");
        seen[which] = files.len();
    }
    assert!(killed > 0, "every import ended before it was killed");

    let all: Vec<String> = (0..KILLS).map(|round| round.to_string()).collect();
    for store in &stores {
        let mut arguments: Vec<&str> = all.iter().map(String::as_str).collect();
        arguments.extend(["--store", store.to_str().unwrap()]);
        assert!(import(home.path(), &arguments).output().unwrap().status.success());
        assert!(runs_by_file(store).len() >= (KILLS * FILES) as usize);
    }
    assert_eq!(leftovers(home.path()), <[PathBuf; 0]>::default());
    assert_eq!(leftovers(&home.path().join("runs/model=m/gpu=unknown")), <[PathBuf; 0]>::default());
}

/// Runs an import in 1.5 GiB of address space: more than it needs, less than reading what it should not would take.
#[cfg(target_os = "linux")]
fn import_in_little_memory(folder: &Path, arguments: &str) -> Output {
    let program = cargo_bin!("config-explorer").display().to_string();
    Command::new("sh")
        .args(["-c", &format!("ulimit -v 1572864; exec '{program}' runs import {arguments}")])
        .env("RAYON_NUM_THREADS", "2")
        .current_dir(folder)
        .output()
        .unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn files_made_to_hurt_are_told_and_the_rest_imported() {
    use std::os::unix::fs::symlink;

    let home = TempDir::new().unwrap();
    let place = |name: &str| home.path().join("results").join(name);
    fs::create_dir_all(place("deep/er")).unwrap();
    let write = |name: &str, text: &str| fs::write(place(name), text).unwrap();
    write("good.jsonl", &result(1));
    write(
        "deep/er/infinite.json",
        r#"{"num_prompts": 10, "request_rate": Infinity, "completed": 10, "total_input_tokens": 1000, "mean_ttft_ms": 2, "mean_itl_ms": NaN}"#,
    );
    write("a_cut.json", &result(2)[..100]);
    fs::write(place("b_binary"), [0, 159, 146, 150]).unwrap();
    let bomb = (1..30).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
        format!("{text}a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", "))
    });
    write("c_bomb.yaml", &format!("version: '0.1'\nscenario: {{}}\nmetrics: {{}}\n{bomb}"));
    write("d_deep.yaml", &format!("version: '0.1'\nscenario: {0}\nmetrics: {0}", "[".repeat(1_000_000)));
    // Both are sparse: they take no room on the disk.
    for (name, start) in [("e_huge.json", ""), ("f_huge.parquet", "PAR1")] {
        write(name, start);
        File::options().append(true).open(place(name)).unwrap().set_len(1 << 30).unwrap();
    }
    symlink(place("deep"), place("deep/er/up")).unwrap();

    let output = import_in_little_memory(home.path(), "results -o json");
    assert!(output.status.success(), "{output:?}");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["imported"], 2);
    let found: Vec<(&str, bool, &str)> = answer["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| {
            let text = |key: &str| file[key].as_str().unwrap();
            (text("path").strip_prefix("results/").unwrap(), file["failed"].as_bool().unwrap(), text("reason"))
        })
        .collect();
    let expected = [
        ("a_cut.json", true, "is JSON that is cut off"),
        ("b_binary", false, "is binary"),
        ("c_bomb.yaml", true, "budget"),
        ("d_deep.yaml", true, "recursion limit"),
        ("deep/er/up", false, "is a link back to"),
        ("e_huge.json", true, "is larger than 256 MiB"),
        ("f_huge.parquet", true, "is a Parquet file that is cut off"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((path, failed, reason), (expected_path, expected_failed, part)) in found.into_iter().zip(expected) {
        assert_eq!((path, failed), (expected_path, expected_failed), "{reason}");
        assert!(reason.contains(part), "{path}: {reason}");
    }
}
