//! Models from a hub on the loopback, and from the caches that it fills.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use config_explorer::model::{LoadOptions, ModelFiles, ModelSource, Part, Token};
use config_explorer::{Error, HubFailure};
use support::{COMMIT, DEEPSEEK_LAYERS, Hub, Repository, Request, Response, deepseek_v3, etag, header_only, options};
use tempfile::TempDir;

const CONFIG: &str = r#"{"architectures":["LlamaForCausalLM"]}"#;

/// A port that nobody listens on.
const NOWHERE: &str = "http://127.0.0.1:1";

fn shard(layer: usize) -> Vec<u8> {
    header_only([(format!("model.layers.{layer}.mlp.gate.weight"), vec![4, 2])])
}

/// A model in one file.
fn single() -> Repository {
    Repository::default().file("config.json", CONFIG).file("model.safetensors", shard(0))
}

/// A quantised model in two files, with a duplicate, as Mistral ships them.
fn sharded() -> Repository {
    let index = r#"{"weight_map":{"model.layers.0.mlp.gate.weight":"model-1.safetensors","model.layers.1.mlp.gate.weight":"model-2.safetensors"}}"#;
    Repository::default()
        .file("config.json", CONFIG)
        .file("hf_quant_config.json", "{}")
        .file("model.safetensors.index.json", index)
        .file("model-1.safetensors", shard(0))
        .file("model-2.safetensors", shard(1))
        .file("consolidated.safetensors", shard(0))
        .file("original/params.json", "{}")
}

fn find(options: &LoadOptions) -> Result<ModelFiles, Error> {
    ModelFiles::find("org/name", options)
}

/// A model of the catalogue.
const BUILT_IN: &str = "Qwen/Qwen3-8B";

fn failure(options: &LoadOptions) -> HubFailure {
    match find(options) {
        Err(Error::Hub { failure, .. }) => failure,
        other => panic!("expected a failure of the hub, got {other:?}"),
    }
}

/// What a hub with this handler is found to fail with.
fn failure_of(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> HubFailure {
    let (hub, directory) = (Hub::serve(handler), TempDir::new().unwrap());
    failure(&hub.options(directory.path()))
}

fn malformed(repository: Repository) -> String {
    let (hub, directory) = (Hub::of(repository), TempDir::new().unwrap());
    let error = find(&hub.options(directory.path())).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    assert_eq!(files_below(directory.path()), [] as [PathBuf; 0], "nothing of it is kept");
    error.to_string()
}

/// Paths of all files below a directory, links included, relative to it.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    fn visit(directory: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() { visit(&entry.path(), files) } else { files.push(entry.path()) }
        }
    }
    let mut files = Vec::new();
    visit(directory, &mut files);
    files.sort();
    files.into_iter().map(|file| file.strip_prefix(directory).unwrap().to_owned()).collect()
}

#[test]
fn cold_then_cached() {
    let (hub, directory) = (Hub::of(sharded()), TempDir::new().unwrap());
    let cold = find(&hub.options(directory.path())).unwrap();
    assert_eq!((cold.source, cold.revision.as_deref()), (ModelSource::Hub, Some(COMMIT)));
    assert_eq!((cold.config.as_str(), cold.hf_quant_config.as_deref()), (CONFIG, Some("{}")));
    assert_eq!(
        cold.tensors.groups(2).iter().map(|group| group.part).collect::<Vec<_>>(),
        [Part::Layer(0), Part::Layer(1)]
    );
    assert_eq!(cold.warnings, [] as [&str; 0]);
    let mut paths: Vec<_> = hub.requests().into_iter().map(|request| request.path).collect();
    paths.sort();
    let resolve = |file: &str| format!("/org/name/resolve/{COMMIT}/{file}");
    assert_eq!(
        paths,
        [
            "/api/models/org/name/revision/main".to_owned(),
            resolve("config.json"),
            resolve("hf_quant_config.json"),
            resolve("model-1.safetensors"),
            resolve("model-2.safetensors"),
            resolve("model.safetensors.index.json"),
        ]
    );
    drop(hub);

    let cached = find(&options(NOWHERE, directory.path())).unwrap();
    assert_eq!((cached.source, &cached.revision), (ModelSource::Cache, &cold.revision));
    assert_eq!(
        (cached.config, cached.hf_quant_config, cached.tensors),
        (cold.config, cold.hf_quant_config, cold.tensors)
    );
}

#[test]
fn the_shared_cache_holds_whole_files_in_the_layout_of_huggingface_hub() {
    let (hub, directory) = (Hub::of(sharded()), TempDir::new().unwrap());
    find(&hub.options(directory.path())).unwrap();
    let repository = directory.path().join("hub/models--org--name");
    let names = ["config.json", "hf_quant_config.json", "model.safetensors.index.json"];
    let mut expected: Vec<PathBuf> = names.iter().map(|name| Path::new("blobs").join(etag(name))).collect();
    expected.sort();
    expected.push("refs/main".into());
    expected.extend(names.iter().map(|name| Path::new("snapshots").join(COMMIT).join(name)));
    assert_eq!(files_below(&repository), expected, "no header, and nothing unfinished");
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    for name in names {
        let pointer = repository.join("snapshots").join(COMMIT).join(name);
        assert_eq!(fs::read_link(&pointer).unwrap(), Path::new("../../blobs").join(etag(name)));
        serde_json::from_slice::<serde_json::Value>(&fs::read(&pointer).unwrap()).unwrap();
    }
    assert_eq!(
        files_below(&directory.path().join("headers")),
        [Path::new("org/name").join(COMMIT).join("tensors.json")]
    );
}

#[test]
fn a_snapshot_of_huggingface_hub_is_used_and_its_reference_never_moved() {
    let directory = TempDir::new().unwrap();
    let repository = directory.path().join("hub/models--org--name");
    let snapshot = repository.join("snapshots/older");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), "older").unwrap();
    fs::write(snapshot.join("config.json"), CONFIG).unwrap();

    // Without its weights, the same commit is asked of the hub, not the newest.
    let hub = Hub::of(single());
    find(&hub.options(directory.path())).unwrap();
    assert_eq!(hub.requests()[0].path, "/api/models/org/name/revision/older");
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), "older");

    // With its weights, nothing is asked.
    fs::write(snapshot.join("model.safetensors"), shard(0)).unwrap();
    let files = find(&options(NOWHERE, directory.path())).unwrap();
    assert_eq!((files.source, files.revision.as_deref()), (ModelSource::Cache, Some("older")));
    assert!(!files.tensors.is_empty());
    assert!(directory.path().join("headers/org/name/older/tensors.json").is_file());
}

#[test]
fn offline_uses_what_is_there() {
    let (hub, directory) = (Hub::of(single()), TempDir::new().unwrap());
    let offline = LoadOptions { offline: true, ..hub.options(directory.path()) };
    assert_eq!(failure(&offline), HubFailure::Offline);
    let built_in = ModelFiles::find(BUILT_IN, &offline).unwrap();
    assert_eq!((built_in.source, built_in.config.contains("Qwen3ForCausalLM")), (ModelSource::Catalogue, true));
    assert!(built_in.warnings[0].contains("not complete in"), "{:?}", built_in.warnings);
    let pinned = LoadOptions { revision: Some("v2".to_owned()), ..offline.clone() };
    assert!(ModelFiles::find(BUILT_IN, &pinned).is_err(), "the catalogue knows no revisions");
    assert_eq!(hub.requests(), []);

    find(&hub.options(directory.path())).unwrap();
    fs::remove_dir_all(directory.path().join("headers")).unwrap();
    let config_only = find(&offline).unwrap();
    assert_eq!(config_only.source, ModelSource::Cache);
    assert!(config_only.tensors.is_empty());
    assert!(config_only.warnings[0].starts_with("weights are computed from the config"), "{:?}", config_only.warnings);
}

#[test]
fn an_unreachable_hub_is_replaced_by_the_catalogue() {
    let directory = TempDir::new().unwrap();
    let options = options(NOWHERE, directory.path());
    assert_eq!(failure(&options), HubFailure::Unreachable);
    let built_in = ModelFiles::find(BUILT_IN, &options).unwrap();
    assert_eq!(built_in.source, ModelSource::Catalogue);
}

#[test]
fn gated_repositories() {
    let gated = |status| {
        move |request: &Request| match request.path.starts_with("/api/models/org/") {
            true => single().answer(request),
            false => {
                Response::status(status).header("X-Error-Code", "GatedRepo").header("X-Error-Message", "ask first")
            }
        }
    };
    for status in [401, 403] {
        let (hub, directory) = (Hub::serve(gated(status)), TempDir::new().unwrap());
        let anonymous = hub.options(directory.path());
        assert_eq!(failure(&anonymous), HubFailure::GatedWithoutToken);
        assert_eq!(ModelFiles::find(BUILT_IN, &anonymous).unwrap().source, ModelSource::Catalogue);
        let known = LoadOptions { token: Token::new("hf_secret"), ..anonymous };
        assert_eq!(failure(&known), HubFailure::GatedNoAccess);
        let error = ModelFiles::find("org/name", &known).unwrap_err().to_string();
        assert!(error.contains("org/name@main/config.json: the repository is gated"), "{error}");
        assert!(error.contains("ask first") && !error.contains("secret"), "{error}");
        assert_eq!(hub.requests().last().unwrap().authorization.as_deref(), Some("Bearer hf_secret"));
    }
}

#[test]
fn refusals_are_told_apart() {
    let coded = |status, code: &'static str| failure_of(move |_| Response::status(status).header("X-Error-Code", code));
    assert_eq!(coded(401, "RepoNotFound"), HubFailure::NotFound);
    assert_eq!(coded(404, "RepoNotFound"), HubFailure::NotFound);
    assert_eq!(coded(404, "RevisionNotFound"), HubFailure::NotFound);
    let bare = |status| failure_of(move |_| Response::status(status));
    assert_eq!(bare(401), HubFailure::GatedWithoutToken);
    assert_eq!(bare(403), HubFailure::GatedWithoutToken);
    assert_eq!(bare(404), HubFailure::NotFound);
    assert_eq!(bare(429), HubFailure::Server);
    assert_eq!(bare(500), HubFailure::Server);
    assert_eq!(bare(400), HubFailure::Protocol);

    let (hub, directory) = (Hub::serve(|_| Response::status(401)), TempDir::new().unwrap());
    let refused = LoadOptions { token: Token::new("hf_old"), ..hub.options(directory.path()) };
    assert_eq!(failure(&refused), HubFailure::BadToken);
    let odd = LoadOptions { token: Token::new("hf_\u{1}"), ..refused };
    assert_eq!(failure(&odd), HubFailure::BadToken);

    assert_eq!(failure_of(|request| Repository::default().file("x.gguf", "").answer(request)), HubFailure::NoSuchFile);
}

#[test]
fn revisions_are_asked_for_by_name_and_kept() {
    let (hub, directory) = (Hub::of(single()), TempDir::new().unwrap());
    let options = LoadOptions { revision: Some("refs/pr/1".to_owned()), ..hub.options(directory.path()) };
    find(&options).unwrap();
    assert_eq!(hub.requests()[0].path, "/api/models/org/name/revision/refs%2Fpr%2F1");
    let reference = directory.path().join("hub/models--org--name/refs/refs/pr/1");
    assert_eq!(fs::read_to_string(reference).unwrap(), COMMIT);

    // The branch and its commit are now known without the hub, the main branch is not.
    for revision in ["refs/pr/1", COMMIT] {
        let options = LoadOptions { revision: Some(revision.to_owned()), offline: true, ..options.clone() };
        assert_eq!(find(&options).unwrap().source, ModelSource::Cache);
    }
    assert_eq!(failure(&LoadOptions { revision: None, offline: true, ..options.clone() }), HubFailure::Offline);
    let outside = LoadOptions { revision: Some("../../x".to_owned()), ..options };
    assert!(find(&outside).unwrap_err().to_string().contains("not the name of a branch"));
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let content = Hub::serve(|request| single().answer(request).header("ETag", "\"of-the-content-network\""));
    let content_url = content.url();
    let hub = Hub::serve(move |request| {
        let answer = single().answer(request);
        match request.path.strip_prefix("/moved") {
            // A file in git: the hub redirects to itself.
            _ if request.path.ends_with("/config.json") && !request.path.starts_with("/moved") => {
                Response::redirect(format!("/moved{}", request.path))
            }
            Some(path) => single().answer(&Request { path: path.to_owned(), ..request.clone() }),
            // A large file: the hub redirects to its content network, which is another port here.
            None if request.path.ends_with(".safetensors") => {
                Response::redirect(format!("{content_url}{}", request.path))
            }
            None => answer,
        }
    });
    let directory = TempDir::new().unwrap();
    let options = LoadOptions { token: Token::new("hf_secret"), ..hub.options(directory.path()) };
    find(&options).unwrap();
    assert!(hub.requests().iter().all(|request| request.authorization.as_deref() == Some("Bearer hf_secret")));
    assert_eq!(hub.requests().len(), 4);
    assert_eq!(content.requests().iter().map(|request| &request.authorization).collect::<Vec<_>>(), [&None]);
    assert!(directory.path().join("hub/models--org--name/blobs").join(etag("config.json")).is_file());
}

#[test]
fn endless_redirects_end() {
    assert_eq!(failure_of(|request| Response::redirect(request.path.clone())), HubFailure::Protocol);
    assert_eq!(failure_of(|_| Response::status(302)), HubFailure::Protocol);
}

#[test]
fn broken_files_are_named() {
    let config = |content: &str| Repository::default().file("config.json", content);
    for content in ["", "{\"a\":", "<html>"] {
        assert_eq!(malformed(config(content)), "org/name@main/config.json: not a JSON object");
    }
    let weights = |content: Vec<u8>| malformed(config("{}").file("model.safetensors", content));
    let place = "org/name@main/model.safetensors: ";
    assert_eq!(weights(b"abc".to_vec()), format!("{place}truncated: 3 bytes, too short for a header"));
    let length = |length: u64| length.to_le_bytes().to_vec();
    assert_eq!(
        weights(length(100_000_000_000)),
        format!("{place}header of 100000000000 bytes; at most 100000000 are allowed")
    );
    assert_eq!(weights(length(50)), format!("{place}truncated: 8 of 58 bytes of the header"));
    assert_eq!(weights(length(99_000_000)), format!("{place}truncated: 8 of 99000008 bytes of the header"));
    assert!(weights([length(2), b"[]".to_vec()].concat()).contains("expected an object of tensors"));
    let index = malformed(config("{}").file("model.safetensors.index.json", r#"{"weight_map":{"a":"../b"}}"#));
    assert!(index.contains("`../b` is not a file beside the index"), "{index}");
}

#[test]
fn a_listing_that_breaks_the_protocol_is_refused() {
    for listing in ["", "<html>", "{}", r#"{"sha":"../..","siblings":[]}"#] {
        assert_eq!(failure_of(move |_| Response::ok(listing)), HubFailure::Protocol, "{listing}");
    }
}

#[test]
fn passing_failures_are_tried_again() {
    for trouble in [
        || Response::status(503),
        || Response::status(429),
        || Response::ok("{}").cut_short(),
        || Response::ok("{}").after(Duration::from_millis(500)),
    ] {
        let failures = AtomicUsize::new(0);
        let hub =
            Hub::serve(
                move |request| {
                    if failures.fetch_add(1, Ordering::SeqCst) < 2 { trouble() } else { single().answer(request) }
                },
            );
        let directory = TempDir::new().unwrap();
        let options = LoadOptions { timeout: Duration::from_millis(250), ..hub.options(directory.path()) };
        find(&options).unwrap();
        assert_eq!(hub.requests().len(), 5);
    }
}

#[test]
fn patience_is_bounded() {
    let (hub, directory) = (Hub::serve(|_| Response::status(500)), TempDir::new().unwrap());
    assert_eq!(failure(&hub.options(directory.path())), HubFailure::Server);
    assert_eq!(hub.requests().len(), 3);

    let hub = Hub::serve(|_| Response::ok("{}").after(Duration::from_millis(400)));
    let options = LoadOptions { timeout: Duration::from_millis(50), ..hub.options(directory.path()) };
    let started = Instant::now();
    assert_eq!(failure(&options), HubFailure::Unreachable);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[test]
fn a_long_header_takes_a_second_request() {
    let tensors = (0..3000).map(|expert| (format!("model.layers.0.mlp.experts.{expert}.up_proj.weight"), vec![2, 2]));
    let repository = Repository::default().file("config.json", CONFIG).file("model.safetensors", header_only(tensors));
    let (hub, directory) = (Hub::of(repository), TempDir::new().unwrap());
    let groups = find(&hub.options(directory.path())).unwrap().tensors.groups(1);
    assert_eq!((groups.len(), groups[0].count), (1, 3000));
    assert_eq!(hub.requests().len(), 4);
}

#[test]
fn a_server_without_ranges_will_do() {
    let tensors = (0..3000).map(|expert| (format!("model.layers.0.mlp.experts.{expert}.up_proj.weight"), vec![2, 2]));
    let mut file = header_only(tensors);
    file.extend_from_slice(&vec![7; 1 << 20]);
    let repository = Repository::default().file("config.json", CONFIG).file("model.safetensors", file);
    let hub = Hub::serve(move |request| repository.answer(&request.without_range()));
    let directory = TempDir::new().unwrap();
    assert_eq!(find(&hub.options(directory.path())).unwrap().tensors.groups(1)[0].count, 3000);
}

#[test]
fn a_repository_without_safetensors_has_no_tensors() {
    let repository = Repository::default().file("config.json", CONFIG).file("pytorch_model.bin", "");
    let (hub, directory) = (Hub::of(repository), TempDir::new().unwrap());
    assert!(find(&hub.options(directory.path())).unwrap().tensors.is_empty());
    let cached = find(&options(NOWHERE, directory.path())).unwrap();
    assert_eq!((cached.source, cached.tensors.is_empty()), (ModelSource::Cache, true));
}

#[test]
fn requests_and_connections_are_few() {
    let (hub, directory) = (Hub::of(deepseek_v3()), TempDir::new().unwrap());
    let groups = find(&hub.options(directory.path())).unwrap().tensors.groups(DEEPSEEK_LAYERS);
    assert_eq!(groups.iter().map(|group| group.count).sum::<u64>(), 3 + 62 * 10 + 3 * 6 + 59 * 256 * 6);
    assert_eq!(groups.len(), 3 + 62 * (10 + 6), "the experts of a layer are together, though their files are not");
    assert_eq!(groups.iter().filter(|group| group.part == Part::Mtp(0)).count(), 16);
    assert_eq!(hub.requests().len(), 3 + 163, "one for each file");
    assert!(hub.most_open_connections() <= 8, "{}", hub.most_open_connections());
    assert!(hub.connections() <= 8, "{} connections for 166 requests", hub.connections());
}

#[test]
fn a_cache_that_cannot_be_written_is_a_warning() {
    let (hub, directory) = (Hub::of(single()), TempDir::new().unwrap());
    fs::write(directory.path().join("hub"), "a file where the cache should be").unwrap();
    let files = find(&hub.options(directory.path())).unwrap();
    assert_eq!(files.source, ModelSource::Hub);
    assert!(files.warnings[0].starts_with("the cache cannot be written"), "{:?}", files.warnings);
}

#[test]
fn directories_are_read_where_they_are() {
    let directory = TempDir::new().unwrap();
    let options = options(NOWHERE, directory.path());
    let model = directory.path().join("model");
    let find = || ModelFiles::find(model.to_str().unwrap(), &options);
    fs::create_dir(&model).unwrap();
    assert!(find().unwrap_err().to_string().contains("config.json"));

    fs::write(model.join("config.json"), CONFIG).unwrap();
    let config_only = find().unwrap();
    assert_eq!((config_only.source, config_only.tensors.is_empty()), (ModelSource::Directory, true));

    fs::write(model.join("model-00001-of-00002.safetensors"), shard(0)).unwrap();
    assert!(find().unwrap().warnings[0].contains("one of 2 safetensors files` is missing"));
    fs::write(model.join("model-00002-of-00002.safetensors"), shard(1)).unwrap();
    fs::write(model.join("hf_quant_config.json"), "{}").unwrap();
    let whole = find().unwrap();
    assert_eq!((whole.tensors.groups(2).len(), whole.hf_quant_config.as_deref()), (2, Some("{}")));

    let index = r#"{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"gone.safetensors"}}"#;
    fs::write(model.join("model.safetensors.index.json"), index).unwrap();
    assert!(find().unwrap().warnings[0].contains("gone.safetensors` is missing"));
}

#[test]
fn what_is_no_model_is_said_so() {
    let directory = TempDir::new().unwrap();
    let options = options(NOWHERE, directory.path());
    for model in ["./nothing", "a/b/c", "../x"] {
        let error = ModelFiles::find(model, &options).unwrap_err().to_string();
        assert!(error.contains("is neither a directory with config.json"), "{error}");
    }
    assert!(ModelFiles::find("no.gguf", &options).unwrap_err().to_string().contains("cannot access `no.gguf`"));
    let nonsense = LoadOptions { endpoint: "not a url".to_owned(), ..options };
    assert!(find(&nonsense).unwrap_err().to_string().contains("HF_ENDPOINT"));
}
