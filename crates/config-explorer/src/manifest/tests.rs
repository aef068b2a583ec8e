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
