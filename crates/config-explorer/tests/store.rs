//! Runs in, Parquet out, and back: exactly, once, and whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use config_explorer::reports::store::{Added, add, load, write};
use config_explorer::reports::{
    ColumnKind, ImportOptions, Provenance, Run, RunId, SkipKind, Statistics, Value, columns, import,
};
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;
use tempfile::TempDir;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/reports");

fn imported(path: impl Into<PathBuf>) -> config_explorer::reports::Import {
    import(&[path.into()], &ImportOptions::default(), &|_, _| ()).unwrap()
}

fn fixtures() -> Vec<Run> {
    imported(FIXTURES).runs
}

/// Made-up runs whose ids start at `first`.
fn made_up(first: u8, count: u8) -> Vec<Run> {
    let run = |at: u8| {
        let mut run = Run { id: RunId { content: [at; 32], index: 0 }, ..Run::default() };
        run.server.model = Some(format!("org/model-{}", at % 3));
        run.latency.ttft = Statistics::of_mean(f64::from(at));
        run
    };
    (first..first + count).map(run).collect()
}

fn sorted(mut runs: Vec<Run>) -> Vec<Run> {
    runs.sort_by_key(|run| run.id);
    runs
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_result_comes_back_as_it_was() {
    let folder = TempDir::new().unwrap();
    let runs = fixtures();
    assert!(runs.len() > 15);
    let file = folder.path().join("deeper/runs.parquet");
    assert_eq!(add(&file, runs.clone()).unwrap(), Added { new: runs.len(), known: 0, total: runs.len() });
    assert_eq!(load(&file).unwrap(), runs);

    let partitioned = folder.path().join("runs");
    add(&partitioned, runs.clone()).unwrap();
    assert_eq!(sorted(load(&partitioned).unwrap()), sorted(runs.clone()));
    assert!(partitioned.join("model=example%2Fmodel-8b/gpu=H100/runs.parquet").exists());

    let exported = folder.path().join("export.parquet");
    write(&exported, &runs[..3]).unwrap();
    write(&exported, &runs[1..]).unwrap();
    assert_eq!(load(&exported).unwrap(), runs[1..]);
}

#[test]
fn the_same_run_is_added_once() {
    let folder = TempDir::new().unwrap();
    for store in [folder.path().join("runs.parquet"), folder.path().join("runs")] {
        let runs = made_up(0, 10);
        add(&store, runs[..6].to_vec()).unwrap();
        let before = load(&store).unwrap();
        assert_eq!(add(&store, runs[..6].to_vec()).unwrap(), Added { new: 0, known: 6, total: 6 });
        let twice = [&runs[4..], &runs[4..]].concat();
        assert_eq!(add(&store, twice).unwrap(), Added { new: 4, known: 8, total: 10 });
        let after = load(&store).unwrap();
        assert_eq!(sorted(after.clone()), runs);
        assert!(before.iter().all(|run| after.contains(run)));
    }
    let merged = folder.path().join("merged");
    add(&merged, made_up(0, 4)).unwrap();
    fs::copy(folder.path().join("runs.parquet"), merged.join("more.parquet")).unwrap();
    assert_eq!(sorted(load(&merged).unwrap()), made_up(0, 10), "a folder with a run in two files");
}

#[test]
fn a_store_is_a_result_like_others() {
    let folder = TempDir::new().unwrap();
    let runs = fixtures();
    add(&folder.path().join("runs.parquet"), runs[..5].to_vec()).unwrap();
    add(&folder.path().join("partitioned"), runs[5..].to_vec()).unwrap();
    fs::write(folder.path().join("run_metadata.yaml"), "gpu: B200\nengine: none\n").unwrap();
    fs::copy(Path::new(FIXTURES).join("aiperf.json"), folder.path().join("z.json")).unwrap();
    let found = imported(folder.path());
    assert_eq!(sorted(found.runs), sorted(runs), "side files and folders do not speak for stored runs");
    assert_eq!((found.skipped, found.duplicates), (Vec::new(), vec![folder.path().join("z.json")]));

    let mut options = ImportOptions::default();
    options.set("gpu=H300").unwrap();
    let set = import(&[folder.path().join("partitioned")], &options, &|_, _| ()).unwrap();
    assert!(set.runs.iter().all(|run| run.server.gpu.as_deref() == Some("H300")), "the user does");
    assert!(set.runs.iter().all(|run| run.provenance["gpu"] == Provenance::User));
}

#[test]
fn other_files_are_left_alone() {
    let folder = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join(name);
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
    let batch = RecordBatch::try_from_iter([("x", numbers)]).unwrap();
    let mut writer =
        ArrowWriter::try_new(fs::File::create(place("other.parquet")).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    add(&place("good.parquet"), made_up(0, 5)).unwrap();
    let good = fs::read(place("good.parquet")).unwrap();
    fs::write(place("cut.parquet"), &good[..good.len() / 2]).unwrap();
    fs::write(place("tiny.parquet"), "PAR1").unwrap();
    let mut flipped = good.clone();
    flipped[100] ^= 1;
    fs::write(place("flipped.parquet"), flipped).unwrap();
    fs::write(place("text.parquet"), "no Parquet").unwrap();
    // What a killed process leaves.
    fs::write(place(".good.parquet.tmp"), &good[..100]).unwrap();

    let import = imported(folder.path());
    assert_eq!(import.runs, made_up(0, 5));
    let skipped: Vec<_> = import
        .skipped
        .iter()
        .map(|skipped| (skipped.path.file_name().unwrap().to_str().unwrap(), skipped.kind, skipped.reason.as_str()))
        .collect();
    let cut_off = "is a Parquet file that is cut off or damaged";
    assert_eq!(
        skipped,
        [
            ("cut.parquet", SkipKind::Failed, cut_off),
            ("flipped.parquet", SkipKind::Failed, "is a store that is damaged: its checksum does not hold"),
            ("other.parquet", SkipKind::NotAResult, "is a Parquet file of another program"),
            ("text.parquet", SkipKind::NotAResult, "has no known result format"),
            ("tiny.parquet", SkipKind::Failed, cut_off),
        ]
    );
    for (name, _, reason) in skipped {
        let before = fs::read(place(name)).unwrap();
        let loaded = load(&place(name)).unwrap_err().to_string();
        let added = add(&place(name), made_up(5, 1)).unwrap_err().to_string();
        assert_eq!(loaded, added);
        if name != "text.parquet" {
            assert!(loaded.ends_with(reason), "{loaded}");
        }
        assert_eq!(fs::read(place(name)).unwrap(), before, "{name} is as it was");
    }
    add(&place("good.parquet"), made_up(0, 1)).unwrap();
    assert!(!names(folder.path()).contains(&".good.parquet.tmp".to_owned()), "cleaned up");
}

#[test]
fn writers_wait_for_each_other_and_readers_see_whole_files() {
    let folder = TempDir::new().unwrap();
    for store in [folder.path().join("runs.parquet"), folder.path().join("runs")] {
        add(&store, made_up(0, 3)).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..6)
                .map(|writer| {
                    let store = &store;
                    scope.spawn(move || {
                        for round in 0..4 {
                            add(store, made_up(20 * writer + 5 * round, 5)).unwrap();
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                let mut seen = 3;
                while !done.load(Ordering::Relaxed) {
                    let runs = load(&store).unwrap();
                    assert!(runs.len() >= seen);
                    seen = runs.len();
                }
            });
            let results: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            done.store(true, Ordering::Relaxed);
            assert!(results.into_iter().all(|result| result.is_ok()));
        });
        assert_eq!(sorted(load(&store).unwrap()), made_up(0, 120));
    }
}

#[cfg(unix)]
#[test]
fn links_and_permissions_stay() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let folder = TempDir::new().unwrap();
    let (file, link) = (folder.path().join("runs.parquet"), folder.path().join("link.parquet"));
    add(&file, made_up(0, 1)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&file, &link).unwrap();
    add(&link, made_up(1, 1)).unwrap();
    assert!(link.is_symlink());
    assert_eq!(load(&file).unwrap(), made_up(0, 2));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
}

/// A run with any value in any of the stored columns.
fn any_run() -> impl Strategy<Value = Run> {
    let text = prop_oneof![
        3 => any::<String>(),
        1 => prop::sample::select(vec![
            "simulated", "fixed", "uniform", "other", "closed", "open", "burst", "per_chunk", "per_token", "unknown",
            "3P2D", "4P0D", "[]", "{}", r#"{"gpu":"user"}"#, r#"{"a":"b \"c\"","d":""}"#,
            r#"[{"code":"e2e","message":"ü"}]"#, r#"[{"kind":"x","weight":0.1,"parameters":{"a":[1,2.5e300]}}]"#,
        ])
        .prop_map(str::to_owned),
    ];
    let integer = prop_oneof![0..10_i64, Just(i64::MAX)];
    let cell = prop::option::of((text, integer, any::<f64>(), any::<bool>()));
    let stored = columns().iter().filter(|column| column.stored).count();
    (prop::collection::vec(cell, stored), any::<([u8; 32], u32)>()).prop_map(|(cells, (content, index))| {
        let mut run = Run::default();
        for (column, cell) in columns().iter().filter(|column| column.stored).zip(cells) {
            let Some((text, integer, float, boolean)) = cell else { continue };
            let value = match column.kind {
                ColumnKind::Text | ColumnKind::Json => Value::Text(text.into()),
                ColumnKind::Integer => Value::Integer(integer),
                ColumnKind::Float => Value::Float(float),
                ColumnKind::Boolean => Value::Boolean(boolean),
            };
            // What a column refuses no run holds.
            let _ = column.set(&mut run, &value);
        }
        run.id = RunId { content, index };
        run
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_runs_come_back_as_they_were(runs in prop::collection::vec(any_run(), 0..5)) {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("runs.parquet");
        write(&file, &runs).unwrap();
        prop_assert_eq!(&load(&file).unwrap(), &runs);
    }

    #[test]
    fn any_damage_is_noticed(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("runs.parquet");
        write(&file, &made_up(0, 3)).unwrap();
        let mut bytes = fs::read(&file).unwrap();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
        }
        fs::write(&file, bytes).unwrap();
        prop_assert!(load(&file).is_err());
    }
}
