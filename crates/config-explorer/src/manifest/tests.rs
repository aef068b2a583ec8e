use proptest::prelude::*;

use super::*;
use crate::engine::ServeArgs;
use crate::recommend::Demand;
use crate::simulation::router::{LoadOptions, RouterConfig};

fn described(router: RouterProfile) -> Description {
    let args = || ServeArgs::parse_shell("--tensor-parallel-size 2 --block-size 64").unwrap();
    let role = |kind| Role::new(kind, 2, args()).with_host(("8", "8"), ("64Gi", "64Gi"));
    let mut description = match router {
        RouterProfile::Disaggregated | RouterProfile::WideExpertParallel => {
            Description::disaggregated("proposal", "Qwen/Qwen3-8B", role(RoleKind::Prefill), role(RoleKind::Decode))
        }
        _ => Description::aggregated("proposal", "Qwen/Qwen3-8B", role(RoleKind::Both)),
    };
    if router == RouterProfile::Precise {
        return description.with_precise_prefixes(64.try_into().unwrap());
    }
    description.router = router;
    description
}

#[test]
fn the_router_takes_every_profile() {
    for router in [
        RouterProfile::LoadAware,
        RouterProfile::Disaggregated,
        RouterProfile::WideExpertParallel,
        RouterProfile::Tiered { cpu_blocks: 1000 },
        RouterProfile::Precise,
        RouterProfile::PredictedLatency { objectives: false },
        RouterProfile::PredictedLatency { objectives: true },
    ] {
        let text = crate::yaml::to_string(&[picker_config(&described(router.clone()))]).unwrap();
        let strict = LoadOptions { strict: true, ..LoadOptions::default() };
        let config = RouterConfig::load(&text, &strict, "config").unwrap_or_else(|error| panic!("{router:?}: {error}"));
        assert_eq!(config.deprecations, [""; 0]);
    }
}

#[test]
fn everything_that_is_written_passes_the_check() {
    let mut description = described(RouterProfile::Precise);
    description.autoscaling = Some(Autoscaling { min_replicas: 1, max_replicas: 4 });
    description.load = Some(Load { input_len: 1000, output_len: 100, demand: Demand::Users(8.0), requests: 80 });
    for description in [description, described(RouterProfile::Disaggregated)] {
        let files = write_files(&description).unwrap();
        let inputs: Vec<_> = files
            .iter()
            .filter(|(path, _)| path.contains(".yaml") && !path.starts_with("modelserver/"))
            .map(|(path, text)| check::Input::parse(path, text.as_bytes()))
            .collect();
        let accelerators = crate::hardware::Accelerators::built_in();
        let options = crate::model::LoadOptions { offline: true, ..crate::model::LoadOptions::from_env(|_| None) };
        let report = check::check(
            &inputs,
            &check::Context {
                accelerators,
                accelerator: accelerators.find("H100").ok(),
                gpu_memory_gib: None,
                gpus_per_node: None,
                engine: None,
                goal: None,
                model: &|id| crate::model::Model::load(id, &options),
            },
        );
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        assert!(report.roles.iter().all(|role| role.plan.fits));
    }
}

#[test]
fn files_have_a_name_once_and_say_how_they_are_applied() {
    let description = described(RouterProfile::LoadAware);
    let files = write_files(&description).unwrap();
    let names: std::collections::BTreeSet<_> = files.iter().map(|(path, _)| path).collect();
    assert_eq!(names.len(), files.len());
    insta::assert_snapshot!(files.iter().map(|(path, text)| format!("==> {path}\n{text}")).collect::<String>());
}

#[test]
fn a_field_that_is_never_written_is_refused() {
    let document = serde_json::json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"nam": "x"}});
    assert!(kubernetes::Document::read(document).unwrap_err().to_string().contains("nam"));
}

#[test]
fn a_search_in_shards_has_a_pod_for_each() {
    let job = ShardJob {
        name: "search".to_owned(),
        namespace: None,
        shards: 8,
        parallelism: 2,
        image: None,
        words: ["recommend", "m", "--vary", "$(x)"].map(str::to_owned).into(),
        cpu: "4".to_owned(),
        memory: "4Gi".to_owned(),
        storage: "1Gi".to_owned(),
        storage_class: None,
    };
    let documents: Vec<serde_json::Value> = crate::yaml::documents(job.to_yaml().unwrap().as_bytes()).unwrap();
    for (document, expected) in documents.iter().zip(job.documents()) {
        assert_eq!(kubernetes::Document::read(document.clone()).unwrap(), expected);
    }
    let spec = &documents[1]["spec"];
    assert_eq!(
        (&spec["completionMode"], &spec["completions"], &spec["parallelism"]),
        (&"Indexed".into(), &8.into(), &2.into())
    );
    let pod = &spec["template"]["spec"];
    let args: Vec<_> =
        pod["containers"][0]["args"].as_array().unwrap().iter().filter_map(|word| word.as_str()).collect();
    let expected = "recommend m --vary $$(x) --shard $(JOB_COMPLETION_INDEX)/8 --shard-out /results/shard-$(JOB_COMPLETION_INDEX).parquet";
    assert_eq!(args.join(" "), expected);
    assert_eq!(pod["volumes"][0]["persistentVolumeClaim"]["claimName"], documents[0]["metadata"]["name"]);
    assert_eq!(pod["containers"][0]["volumeMounts"][0]["mountPath"], "/results");
    // No engine is in it, so there is nothing to find.
    let report = check::check(
        &[check::Input::parse("job.yaml", job.to_yaml().unwrap().as_bytes())],
        &check::Context {
            accelerators: crate::hardware::Accelerators::built_in(),
            accelerator: None,
            gpu_memory_gib: None,
            gpus_per_node: None,
            engine: None,
            goal: None,
            model: &|_| unreachable!(),
        },
    );
    assert!(report.findings.is_empty() && report.roles.is_empty(), "{report:?}");
}

proptest! {
    #[test]
    fn any_recommendation_is_written_or_refused(
        (tensor, pipeline, data) in (1_u32..200, 1_u32..5, any::<u32>()),
        (per_node, replicas) in (any::<u32>(), any::<u32>()),
        (rate, tokens) in (any::<f64>(), any::<f64>()),
        (bytes, offload_gib) in (any::<u64>(), 0.0..1e5_f64),
        kinds in prop::sample::subsequence(vec!["both", "prefill", "decode", "prefill"], 0..4),
        more in "(--[a-z-]{1,9}( [0-9a-z'{}]{0,6})?| --data-parallel-multi-port-external-lb --data-parallel-size-local 4000000000)?",
        tiered in any::<bool>(),
    ) {
        let command = format!(
            "vllm serve org/model --tensor-parallel-size {tensor} --pipeline-parallel-size {pipeline} --data-parallel-size {data} {more}"
        );
        let roles: Vec<_> = kinds.iter().map(|role| serde_json::json!({
            "role": role, "model": "org/model", "gpu": "H100", "gpus_per_node": per_node, "replicas": replicas,
            "kv_bytes_per_token_per_gpu": bytes, "command": command,
        })).collect();
        let answer = serde_json::json!({
            "schema": "config-explorer/recommend/v1",
            "engine_version": "0.23.0",
            "load": {"input_tokens": tokens, "output_tokens": tokens, "rate_per_s": rate, "users": null},
            "recommendations": [{"rank": 1, "roles": roles}],
        });
        let prefix_cache = if tiered { PrefixCache::Tiered { offload_gib } } else { PrefixCache::Precise };
        for prefix_cache in [PrefixCache::Approximate, prefix_cache] {
            let options = ProposalOptions { prefix_cache, ..ProposalOptions::default() };
            let accelerators = crate::hardware::Accelerators::built_in();
            let read = Proposals::read(answer.clone(), "answer");
            if let Ok(description) = read.and_then(|proposals| proposals.describe(1, &options, accelerators)) {
                write_files(&description).unwrap();
            }
        }
    }
}
