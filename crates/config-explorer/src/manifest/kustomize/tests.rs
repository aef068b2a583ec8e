use proptest::prelude::*;

use super::*;

const FILES: [(&str, &str); 5] = [
    (
        "/o/overlay/kustomization.yaml",
        "resources: [../base, https://example.org/other]\nnamePrefix: x-\ncomponents: [../component]\n\
         labels: [{pairs: {app: a}, includeSelectors: true}]\nimages: [{name: 'h:5000/i', newTag: v2}]\n\
         replicas: [{name: d, count: 3}]\npatches: [{path: patch.yaml}]\n",
    ),
    (
        "/o/overlay/patch.yaml",
        "kind: Deployment\nmetadata: {name: d}\nspec: {template: {spec: {containers: [{name: c, env: [{name: B, value: b}], \
         args: [2], stdin: null}, {name: e, $patch: delete}]}}}\n",
    ),
    (
        "/o/component/kustomization.yaml",
        "kind: Component\npatches:\n- target: {kind: Deploy.*}\n  patch: |-\n    - {op: add, path: /spec/template/spec/containers/0/env/-, value: {name: A}}\n\
         \x20   - {op: copy, from: /kind, path: /metadata/annotations~1x}\n\
         \x20   - {op: test, path: /kind, value: Deployment}\n",
    ),
    ("/o/base/kustomization.yaml", "resources: [d.yaml]\n"),
    (
        "/o/base/d.yaml",
        "kind: Deployment\nmetadata: {name: d}\nspec: {template: {spec: {serviceAccountName: s, containers: [{name: c, image: 'h:5000/i:v1', \
         args: [1], env: [], stdin: true}, {name: e}]}}}\n---\nkind: ServiceAccount\nmetadata: {name: s}\n",
    ),
];

fn read(files: &[(&str, Vec<u8>)], path: &Path) -> Option<Vec<u8>> {
    files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, bytes)| bytes.clone())
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    FILES.iter().map(|(name, text)| (*name, text.as_bytes().to_vec())).collect()
}

#[test]
fn patches_names_labels_and_images() {
    let files = files();
    let kustomized = resolve(Path::new("/o/overlay"), &|path| read(&files, path)).unwrap();
    assert_eq!(kustomized.remote, ["https://example.org/other"]);
    let labels = serde_json::json!({"app": "a"});
    let expected = serde_json::json!([
        {"kind": "Deployment",
         "metadata": {"name": "x-d", "annotations/x": "Deployment", "labels": labels},
         "spec": {
            "template": {
                "spec": {"serviceAccountName": "x-s", "containers": [{"name": "c", "image": "h:5000/i:v2",
                    "args": [2], "env": [{"name": "B", "value": "b"}, {"name": "A"}]}]},
                "metadata": {"labels": labels}},
            "selector": {"matchLabels": labels},
            "replicas": 3}},
        {"kind": "ServiceAccount", "metadata": {"name": "x-s", "labels": labels}},
    ]);
    assert_eq!(Value::Array(kustomized.documents), expected);
}

#[test]
fn what_is_missing_or_circular_is_an_error() {
    let error = |text: &str| {
        let files = [("/o/kustomization.yaml", text.as_bytes().to_vec())];
        resolve(Path::new("/o"), &|path| read(&files, path)).unwrap_err().to_string()
    };
    assert!(error("resources: [.]").contains("refers to itself"));
    assert!(error("resources: [gone]").contains("/o/gone"));
    assert!(error("patches: [{patch: '{kind: Deployment, metadata: {name: d}}'}]").contains("no Deployment `d`"));
    assert!(error("patches: [{target: {kind: '('}, patch: '[]'}]").contains("target"));
    assert!(error("resources: 3").contains("kustomization.yaml"));
}

proptest! {
    #[test]
    fn any_files_resolve_or_fail(at in 0..FILES.len(), cut in any::<prop::sample::Index>(), junk in "[\\PC\n]{0,12}") {
        let mut files = files();
        let bytes = &mut files[at].1;
        let cut = cut.index(bytes.len());
        let rest = bytes.split_off(cut);
        bytes.extend(junk.as_bytes());
        bytes.extend(rest.iter().skip(junk.len()));
        let _ = resolve(Path::new("/o/overlay"), &|path| read(&files, path));
    }
}
