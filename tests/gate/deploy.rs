//! Is what `deploy/` holds taken by the tools that it is for, and does the gate take the configs in it?
//!
//! The image and its pod are for `tests/deploy/image.py`, which `./test` runs on the released build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::gate::Folder;

const CHART: &str = "deploy/helm/tollgate";

fn target(path: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(path)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

fn tool(name: &str, arguments: &[&str]) -> Output {
    let program = target("tools").join(name);
    let output = Command::new(&program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("{}: {error}; run tests/install.sh", program.display()))
}

fn python(script: &str, arguments: &[&Path]) -> Output {
    Command::new(target("python").join("bin/python"))
        .arg(Path::new("tests/deploy").join(script))
        .args(arguments)
        .env("TOLLGATE", env!("CARGO_BIN_EXE_tollgate"))
        .output()
        .expect("python; run tests/install.sh")
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn kustomized(base: &str) -> String {
    succeeded(tool("kubectl", &["kustomize", base]))
}

/// The chart with one of its examples, and further settings.
fn template(example: &str, settings: &[&str]) -> Output {
    let values = format!("{CHART}/examples/{example}.yaml");
    let mut arguments = vec!["template", "gate", CHART, "--values", &values];
    for setting in settings {
        arguments.extend(["--set-json", *setting]);
    }
    tool("helm", &arguments)
}

/// All that can be rendered, by a file's name.
fn rendered() -> Vec<(&'static str, String)> {
    vec![
        ("edge", kustomized("deploy/kubernetes/edge")),
        ("rabbitmq", kustomized("deploy/kubernetes/rabbitmq")),
        ("monitoring", kustomized("deploy/kubernetes/monitoring")),
        ("helm-edge", succeeded(template("edge", &[]))),
        ("helm-sidecar", succeeded(template("sidecar", &[]))),
    ]
}

/// What the checker says of each text, line by line.
fn checked(texts: &[(&str, String)]) -> (Output, Folder) {
    let folder = Folder::new();
    let files = texts.iter().map(|(name, text)| folder.write(name, text));
    let files = Vec::from_iter(files);
    let arguments = [Path::new("check")].into_iter();
    let arguments = arguments.chain(files.iter().map(PathBuf::as_path));
    (python("manifests.py", &Vec::from_iter(arguments)), folder)
}

#[test]
fn kustomize_and_helm_render_what_kubernetes_takes_under_restricted_pod_security() {
    let (output, _folder) = checked(&rendered());
    let said = succeeded(output);
    for line in [
        "edge: well: ConfigMap Deployment HorizontalPodAutoscaler Namespace NetworkPolicy PodDisruptionBudget Service",
        "rabbitmq: well: ConfigMap ConfigMap Namespace NetworkPolicy Service StatefulSet",
        "monitoring: well: PodMonitor ServiceMonitor",
        "helm-edge: well: ConfigMap Deployment HorizontalPodAutoscaler NetworkPolicy PodDisruptionBudget PrometheusRule Service ServiceMonitor",
        "helm-sidecar: well: ConfigMap Deployment PodMonitor PrometheusRule",
    ] {
        assert!(said.lines().any(|it| it == line), "{line}\n{said}");
    }
}

/// What would be wrong in the manifests, and what has to be said then.
const SPOILED: &str = "
rabbitmq   | runAsNonRoot: true              | runAsNonRoot: false              | runAsNonRoot
rabbitmq   | type: RuntimeDefault            | type: Unconfined                 | seccompProfile
rabbitmq   | - ALL                           | - CHOWN                          | keeps capabilities
rabbitmq   | allowPrivilegeEscalation: false | allowPrivilegeEscalation: true   | allowPrivilegeEscalation
rabbitmq   | readOnlyRootFilesystem: true    | readOnlyRootFilesystem: false    | root can be written
rabbitmq   | restartPolicy: Always           | terminationMessagePolicy: File   | not a sidecar
rabbitmq   | defaultMode: 288                | defaultMode: 292                 | has mode 444
rabbitmq   | fsGroup: 999                    | supplementalGroups: [ 999 ]      | no fsGroup
rabbitmq   | emptyDir:                       | hostPath:                        | volume tollgate-state
rabbitmq   | automountServiceAccountToken: false | automountServiceAccountToken: true | token of the cluster
rabbitmq   | periodSeconds: 1                | periodSecond: 1                  | periodSecond
rabbitmq   | targetPort: https               | targetPort: http                 | no container has a port http
edge       | - --live                        | - --alive                        | a draining gate would be killed
edge       | averageUtilization: 70          | averageUtilisation: 70           | averageUtilisation
edge       | maxUnavailable: 1               | maxUnavailable: [ 1 ]            | PodDisruptionBudget tollgate
edge       | port: https                     | port: metrics                    | no container has a port metrics
edge       | image: tollgate:0.1.0           | image: tollgate:latest           | version is open
monitoring | scheme: https                   | schema: https                    | /schema is not known
monitoring | key: username                   | key: 7                           | podMetricsEndpoints
helm-edge  | port: https                     | port: http                       | no Service has a port http
";

#[test]
fn what_is_wrong_in_a_manifest_is_found() {
    let whole = rendered();
    let mut spoiled = Vec::new();
    for row in crate::support::rows(SPOILED) {
        let [name, from, to, said] = row[..] else {
            panic!("{row:?}")
        };
        let (_, text) = whole.iter().find(|(it, _)| *it == name).unwrap();
        assert!(text.contains(from), "{name} has no `{from}`");
        spoiled.push((
            format!("{}-{name}", spoiled.len()),
            text.replace(from, to),
            said,
        ));
    }
    let texts = spoiled
        .iter()
        .map(|(name, text, _)| (name.as_str(), text.clone()));
    let (output, _folder) = checked(&Vec::from_iter(texts));
    let all = text(&output);
    for (name, _, said) in &spoiled {
        let is_found = |line: &str| line.starts_with(&format!("{name}: ")) && line.contains(said);
        assert!(all.lines().any(is_found), "{name}: {said}\n{all}");
    }
}

#[test]
fn the_gate_takes_the_configs_as_their_pods_mount_them() {
    for (name, text) in rendered() {
        if name == "monitoring" {
            continue;
        }
        let folder = Folder::new();
        let manifest = folder.write("manifest", text);
        let volume = folder.path().join("volume");
        succeeded(python(
            "manifests.py",
            &[Path::new("lay-out"), &manifest, &volume],
        ));
        let said = checks(&volume.join("tollgate.yaml"));
        assert!(!said.contains("danger"), "{name}: {said}");
        assert!(
            said.contains("admin     http://127.0.0.1:9901"),
            "{name}: {said}"
        );
    }
}

/// What `tollgate check` says of a config that it takes.
fn checks(config: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["check", "--config"])
        .arg(config)
        .output();
    succeeded(output.unwrap())
}

#[test]
fn the_chart_passes_helms_lint_and_its_schema_refuses_mistakes() {
    for example in ["edge", "sidecar"] {
        let values = format!("{CHART}/examples/{example}.yaml");
        succeeded(tool(
            "helm",
            &["lint", "--strict", CHART, "--values", &values],
        ));
    }
    for (example, setting, said) in [
        ("edge", r#"mode="gateway""#, "/mode"),
        ("edge", r#"replicas=3"#, "replicas"),
        ("edge", r#"port=443"#, "/port"),
        ("edge", r#"config.routes=null"#, "routes"),
        (
            "edge",
            r#"config.listeners=[{"address":"0.0.0.0:8080"}]"#,
            "tls",
        ),
        (
            "edge",
            r#"config.admin={"address":"0.0.0.0:9901"}"#,
            "/config/admin/address",
        ),
        (
            "edge",
            r#"config.admin={"danger_public":true}"#,
            "danger_public",
        ),
        (
            "edge",
            r#"resources.limits.memory=null"#,
            "/resources/limits",
        ),
        ("edge", r#"image.digest="latest""#, "/image/digest"),
        (
            "edge",
            r#"secrets.keys.keys=["../k1"]"#,
            "/secrets/keys/keys/0",
        ),
        ("edge", r#"workload={"kind":"Deployment"}"#, "/workload"),
        ("sidecar", r#"workload.kind="Job""#, "/workload/kind"),
        (
            "sidecar",
            r#"workload.spec.template.spec.securityContext=null"#,
            "fsGroup",
        ),
    ] {
        let output = template(example, &[setting]);
        assert!(!output.status.success(), "{setting} is taken");
        let complaint = text(&output);
        assert!(complaint.contains(said), "{setting}: {complaint}");
    }
}

#[test]
fn the_sidecar_of_the_chart_keeps_the_workloads_own_init_containers_and_volumes() {
    let setting = r#"workload.spec.template.spec.initContainers=[{"name":"own","image":"own:1"}]"#;
    let text = succeeded(template("sidecar", &[setting]));
    let place = |what: &str| {
        text.find(what)
            .unwrap_or_else(|| panic!("no {what} in {text}"))
    };
    assert!(place("name: tollgate\n") < place("name: own\n"), "{text}");
    assert!(
        text.contains("- configMap:\n          name: rabbitmq\n        name: config"),
        "{text}"
    );
}

#[test]
fn the_compose_file_is_one_and_the_gate_takes_its_config() {
    let folder = Folder::new();
    let file = Path::new("deploy/compose/compose.yaml");
    succeeded(python("compose.py", &[Path::new("check"), file]));
    succeeded(python("compose.py", &[Path::new("lay-out"), folder.path()]));
    let said = checks(&folder.path().join("tollgate.yaml"));
    assert!(said.contains("admin     http://127.0.0.1:9901"), "{said}");

    let whole = fs::read_to_string(file).unwrap();
    for (from, to) in [
        ("read_only: true", "readonly: true"),
        ("cap_drop: [ ALL ]", "cap_drop: ALL"),
    ] {
        assert!(whole.contains(from), "{from}");
        let spoiled = folder.write("compose.yaml", whole.replace(from, to));
        let output = python("compose.py", &[Path::new("check"), &spoiled]);
        assert!(!output.status.success(), "{to} is taken");
    }
}

#[test]
fn the_systemd_unit_is_one_and_exposes_no_more_than_the_docs_say() {
    let docs = fs::read_to_string("docs/deploy.md").unwrap();
    let quoted = docs
        .split("exposure level is ")
        .nth(1)
        .expect("a score in docs/deploy.md");
    let quoted: String = quoted
        .chars()
        .take_while(|it| it.is_ascii_digit() || *it == '.')
        .collect();
    let quoted = quoted.trim_end_matches('.');
    let security = Command::new("systemd-analyze")
        .args([
            "security",
            "--offline=true",
            "--no-pager",
            "deploy/tollgate.service",
        ])
        .output()
        .expect("systemd-analyze; run tests/install.sh");
    let said = text(&security);
    let verdict = format!("Overall exposure level for tollgate.service: {quoted} ");
    assert!(said.contains(&verdict), "{said}");

    // It looks for the programs that a unit names.
    let folder = Folder::new();
    let unit = fs::read_to_string("deploy/tollgate.service").unwrap();
    let program = env!("CARGO_BIN_EXE_tollgate");
    let unit = unit.replace("/usr/local/bin/tollgate", program);
    for (edit, is_well) in [("", true), ("NoNewPriviledges=yes\n", false)] {
        let unit = unit.replace("[Service]\n", &format!("[Service]\n{edit}"));
        let file = folder.write("tollgate.service", unit);
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&file)
            .output();
        let output = output.unwrap();
        let said = text(&output);
        let mentions = said.lines().any(|line| line.contains("tollgate.service"));
        assert_eq!(!mentions, is_well, "{said}");
    }
}
