//! Benchmark results in, runs out: one small file of each format, and what can be wrong with files and folders.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use config_explorer::Error;
use config_explorer::reports::{Import, ImportOptions, Provenance, Run, SkipKind, column, columns, import, read};
use proptest::prelude::*;
use tempfile::TempDir;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/reports");

fn import_with(paths: &[&Path], options: &ImportOptions) -> Import {
    let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
    import(&paths, options, &|_, _| ()).unwrap()
}

fn import_folder(folder: &Path) -> Import {
    import_with(&[folder], &ImportOptions::default())
}

fn fixtures() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(FIXTURES).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn value(run: &Run, name: &str) -> Option<String> {
    column(name).unwrap().get(run).map(|value| value.to_string())
}

/// The columns of a run, one a line, without what depends on the place of the fixture.
fn describe(run: &Run) -> String {
    let mut text = String::new();
    for column in columns().iter().filter(|column| column.is_settable()) {
        let Some(value) = column.get(run) else { continue };
        match &*column.name {
            "id" => writeln!(text, "index = {}", run.id.index),
            "file" => writeln!(text, "file = {}", Path::new(&run.source.path).file_name().unwrap().display()),
            "warnings" => run
                .warnings
                .iter()
                .try_for_each(|warning| writeln!(text, "warning {}: {}", warning.code, warning.message)),
            name => writeln!(text, "{name} = {value}"),
        }
        .unwrap();
    }
    text
}

#[test]
fn every_format() {
    // Each on its own, so that the side files do not speak.
    let runs: Vec<String> = fixtures()
        .iter()
        .map(|file| match read(&fs::read(file).unwrap(), file) {
            Ok(runs) => runs.iter().map(describe).collect::<Vec<_>>().join("\n"),
            Err(error) => error.to_string().replace(FIXTURES, "…") + "\n",
        })
        .collect();
    insta::assert_snapshot!(runs.join("\n"));
}

#[test]
fn side_files_paths_and_the_user_fill_what_is_missing() {
    let folder = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join("H100/tp4/conc_16").join(name);
    fs::create_dir_all(place("")).unwrap();
    for name in ["stage_1_lifecycle_metrics.json", "config.yaml", "vllm_bench.json"] {
        fs::copy(Path::new(FIXTURES).join(name), place(name)).unwrap();
    }
    fs::write(folder.path().join("H100/defaults.yaml"), "gpu: NVIDIA-H200\nreplicas: 2\n").unwrap();
    let mut options = ImportOptions::default();
    options.set("quantisation=fp8").unwrap();
    options.set("Max_Concurrency=12").unwrap();
    let import = import_with(&[folder.path()], &options);
    assert_eq!(import.sidecars, [folder.path().join("H100/defaults.yaml"), place("config.yaml")]);
    let [stage, vllm] = &import.runs[..] else { panic!("{:?}", import.runs.len()) };

    assert_eq!(value(stage, "model").as_deref(), Some("example/model-8b"));
    assert_eq!(value(stage, "prefix_groups").as_deref(), Some("2"));
    assert_eq!(stage.provenance["prefix_groups"], Provenance::Sidecar);
    assert_eq!(value(stage, "gpu").as_deref(), Some("NVIDIA-H200"), "the side file, before the path");
    assert_eq!(stage.provenance["gpu"], Provenance::Sidecar);
    assert_eq!((value(stage, "tp").as_deref(), stage.provenance["tp"]), (Some("4"), Provenance::Path));
    assert_eq!((value(stage, "n_gpu").as_deref(), stage.provenance["n_gpu"]), (Some("8"), Provenance::Derived));
    assert_eq!(value(stage, "rate_rps").as_deref(), Some("5"), "the file's own");
    assert!(!stage.provenance.contains_key("rate_rps"));
    assert_eq!(
        (value(stage, "concurrency").as_deref(), stage.provenance["concurrency"]),
        (Some("12"), Provenance::User)
    );

    assert_eq!(value(vllm, "tp").as_deref(), Some("2"), "its own metadata");
    assert_eq!(value(vllm, "prefix_groups"), None, "inference-perf's configuration is not about it");
    assert_eq!(value(vllm, "extra").as_deref(), Some(r#"{"backend":"vllm","experiment":"first"}"#));
}

#[test]
fn overrides_are_checked() {
    let mut options = ImportOptions::default();
    for (assignment, expected) in [
        ("gpu", "is not `column=value`"),
        ("gpu=", "has no value"),
        ("colour=blue", "unknown column `colour`"),
        ("tp=two", "`two` is not a number"),
        ("is_pd=true", "is computed from other columns"),
    ] {
        let error = options.set(assignment).unwrap_err().to_string();
        assert!(error.contains(expected), "{assignment}: {error}");
    }
    let missing = import(&[PathBuf::from("no/such/path")], &options, &|_, _| ());
    assert!(matches!(missing, Err(Error::Io { .. })));
}

#[test]
fn a_bad_file_does_not_hide_the_good_ones() {
    let folder = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join(name);
    let report = fs::read(Path::new(FIXTURES).join("benchmark_report_v0_1.yaml")).unwrap();
    let json = fs::read(Path::new(FIXTURES).join("vllm_bench.json")).unwrap();
    fs::write(place("good.yaml"), &report).unwrap();
    fs::write(place("again.yaml"), &report).unwrap();
    fs::write(place("marked.json"), [b"\xEF\xBB\xBF", &json[..]].concat()).unwrap();
    fs::write(place("a_cut.json"), &json[..json.len() / 2]).unwrap();
    fs::write(place("a_cut.yaml"), &report[..report.len() - 40]).unwrap();
    fs::write(place("a_halved.yaml"), &report[..report.len() / 2]).unwrap();
    fs::write(place("b_version.yaml"), String::from_utf8_lossy(&report).replacen("'0.1'", "'9.9'", 1)).unwrap();
    fs::write(place("c_empty"), "").unwrap();
    fs::write(place("d_binary"), [0, 159, 146, 150]).unwrap();
    fs::write(place("e_readme.md"), "# Results\n\nOf yesterday.\n").unwrap();
    let bomb = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
        let list = vec![format!("*a{}", level - 1); 10].join(", ");
        format!("{text}a{level}: &a{level} [{list}]\n")
    });
    fs::write(place("f_bomb.yaml"), format!("version: '0.1'\nscenario: {{}}\nmetrics: {{}}\n{bomb}")).unwrap();
    fs::write(place("g_deep.json"), format!(r#"{{"load_summary": {{}}, "successes": {}"#, "[".repeat(200_000)))
        .unwrap();
    fs::write(place("g_deep.yaml"), format!("version: '0.1'\nscenario: {0}\nmetrics: {0}", "[".repeat(200_000)))
        .unwrap();
    // Sparse: takes no room on the disk, and must not be read.
    fs::File::create(place("h_large.json")).unwrap().set_len(1 << 30).unwrap();

    let import = import_folder(folder.path());
    assert_eq!(import.runs.len(), 2, "the report and the marked JSON");
    assert_eq!(import.duplicates, [place("good.yaml")], "after again.yaml");
    let found: Vec<_> = import
        .skipped
        .iter()
        .map(|skipped| (skipped.path.file_name().unwrap().to_str().unwrap(), skipped.kind, skipped.reason.as_str()))
        .collect();
    let expected = [
        ("a_cut.json", SkipKind::Failed, "is JSON that is cut off: EOF while parsing"),
        ("a_cut.yaml", SkipKind::Failed, "line"),
        ("a_halved.yaml", SkipKind::Failed, "has no measurements"),
        ("b_version.yaml", SkipKind::Failed, "version of the benchmark report is `9.9`"),
        ("c_empty", SkipKind::NotAResult, "is empty"),
        ("d_binary", SkipKind::NotAResult, "is binary"),
        ("e_readme.md", SkipKind::NotAResult, "has no known result format"),
        ("f_bomb.yaml", SkipKind::Failed, "budget"),
        ("g_deep.json", SkipKind::Failed, "EOF while parsing"),
        ("g_deep.yaml", SkipKind::Failed, "recursion limit"),
        ("h_large.json", SkipKind::Failed, "is larger than 256 MiB"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((name, kind, reason), (expected_name, expected_kind, part)) in found.into_iter().zip(expected) {
        assert_eq!((name, kind), (expected_name, expected_kind), "{reason}");
        assert!(reason.contains(part), "{name}: {reason}");
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles() {
    use std::os::unix::fs::symlink;

    let folder = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join(name);
    fs::create_dir_all(place("results/deeper")).unwrap();
    fs::create_dir(place("elsewhere")).unwrap();
    fs::copy(Path::new(FIXTURES).join("aiperf.json"), place("elsewhere/aiperf.json")).unwrap();
    symlink(place("results"), place("results/deeper/up")).unwrap();
    symlink(place("elsewhere"), place("results/linked")).unwrap();
    symlink(place("nowhere"), place("results/dangling")).unwrap();
    let import = import_folder(&place("results"));
    assert_eq!(import.runs.len(), 1);
    let reasons: Vec<_> = import.skipped.iter().map(|skipped| (skipped.kind, skipped.reason.as_str())).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert_eq!(reasons[0].0, SkipKind::Failed, "the dangling link");
    assert!(reasons[1].1.starts_with("is a link back to `"), "{reasons:?}");
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_is_reported() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    let folder = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join(name);
    fs::copy(Path::new(FIXTURES).join("aiperf.json"), place("good.json")).unwrap();
    fs::copy(Path::new(FIXTURES).join("vllm_bench.json"), place("secret.json")).unwrap();
    fs::set_permissions(place("secret.json"), fs::Permissions::from_mode(0o000)).unwrap();
    let _socket = UnixListener::bind(place("socket")).unwrap();
    let import = import_folder(folder.path());
    let reasons: Vec<_> = import.skipped.iter().map(|skipped| skipped.reason.as_str()).collect();
    assert!(reasons.contains(&"is no regular file"), "{reasons:?}");
    // The superuser reads everything.
    if fs::File::open(place("secret.json")).is_err() {
        assert!(reasons.iter().any(|reason| reason.contains("ermission")), "{reasons:?}");
        assert_eq!(import.runs.len(), 1);
    }
}

#[test]
fn the_order_is_that_of_paths_and_names() {
    let all = import_folder(Path::new(FIXTURES));
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let again = one_thread.install(|| import_folder(Path::new(FIXTURES)));
    assert_eq!(all.runs, again.runs);
    assert_eq!(all.skipped, again.skipped);
    let files: Vec<&str> = all.runs.iter().map(|run| run.source.path.as_str()).collect();
    assert!(files.is_sorted());

    let (calls, total) = (std::sync::atomic::AtomicUsize::new(0), fixtures().len());
    import(&[FIXTURES.into()], &ImportOptions::default(), &|done, of| {
        assert!(done <= total && of == total);
        calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    })
    .unwrap();
    assert_eq!(calls.into_inner(), total);
}

/// A fixture with bytes replaced, removed and put in, or cut off.
fn damaged() -> impl Strategy<Value = (PathBuf, Vec<u8>)> {
    let edit = (any::<prop::sample::Index>(), 0..3_u8, any::<u8>());
    (prop::sample::select(fixtures()), prop::collection::vec(edit, 1..12), any::<prop::sample::Index>(), any::<bool>())
        .prop_map(|(file, edits, end, cut)| {
            let mut bytes = fs::read(&file).unwrap();
            for (at, kind, byte) in edits {
                let at = at.index(bytes.len());
                match kind {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => {}
                }
            }
            if cut {
                bytes.truncate(end.index(bytes.len()));
            }
            (file, bytes)
        })
}

/// Whatever is read obeys what the types promise.
fn check(runs: &[Run]) {
    for run in runs {
        for column in columns() {
            if let Some(number) = column.number(run) {
                assert!(number.is_finite(), "{} is {number}", column.name);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_files_are_read_or_refused((file, bytes) in damaged()) {
        if let Ok(runs) = read(&bytes, &file) {
            check(&runs);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(read(&bytes, Path::new("x")).is_err());
    }
}
