"""Are these Kubernetes objects what Kubernetes takes, and is the gate safe in them?

usage: manifests.py check FILE...           says what is wrong with the objects of each file, which belong together
       manifests.py lay-out FILE FOLDER     makes the gate's config volume of these objects in FOLDER;
                                            $TOLLGATE is the program
"""

import base64
import copy
import datetime
import os
import secrets
import subprocess
import sys

import kubernetes_validate
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# The oldest release that the manifests are for, and the newest that the validator knows.
RELEASES = ["1.33", kubernetes_validate.latest_version()]
OPERATOR = "monitoring.coreos.com/v1"
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")


def main():
    what, *files = sys.argv[1:]
    if what == "lay-out":
        lay_out(read(files[0]), files[1])
        return
    is_well = True
    for file in files:
        objects = read(file)
        problems = [problem for thing in objects for problem in check(thing, objects)]
        kinds = " ".join(sorted(thing["kind"] for thing in objects))
        for line in problems or [f"well: {kinds}"]:
            print(f"{os.path.basename(file)}: {line}")
        is_well &= bool(objects) and not problems
    sys.exit(not is_well)


def read(file):
    with open(file) as text:
        return [thing for thing in yaml.safe_load_all(text) if thing]


def check(thing, objects):
    name = f"{thing['kind']} {thing['metadata']['name']}"
    problems = invalid(thing)
    if thing["kind"] in WORKLOADS:
        pod = thing["spec"]["template"]
        problems += unrestricted(pod["spec"])
        problems += unsafe_gate(pod["spec"])
        problems += dangling(pod["spec"], objects)
        if not fits(thing["spec"]["selector"], pod["metadata"]):
            problems.append("its selector does not fit its own pods")
    problems += mismatched(thing, objects)
    return [f"{name}: {problem}" for problem in problems]


def invalid(thing):
    """What its schema says against it, and which of its fields no schema knows."""
    if thing["apiVersion"] == OPERATOR:
        # Not before it is needed: it is large.
        from cloudcoil.models.prometheus_operator import v1 as operator

        # The model drops what it does not know; then what comes out is not what went in.
        try:
            known = getattr(operator, thing["kind"]).model_validate(copy.deepcopy(thing))
        except ValueError as error:
            return str(error).splitlines()
        back = known.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return differences(thing, back)
    problems = []
    for release in RELEASES:
        try:
            kubernetes_validate.validate(thing, release, strict=True)
        except kubernetes_validate.ValidationError as error:
            problems.append(f"{release}: {'/'.join(map(str, error.path))}: {error.message}")
    return problems


def differences(left, right, path=""):
    if isinstance(left, dict) and isinstance(right, dict):
        unknown = [f"{path}/{key} is not known" for key in left if key not in right]
        both = [key for key in left if key in right]
        return unknown + [it for key in both for it in differences(left[key], right[key], f"{path}/{key}")]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        pairs = enumerate(zip(left, right))
        return [it for at, (one, other) in pairs for it in differences(one, other, f"{path}/{at}")]
    return [] if left == right else [f"{path} is taken for {right!r}"]


def unrestricted(spec):
    """What the Pod Security Standard `restricted` has against a pod, of all that it lists.
    https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    problems = []
    wrong = lambda condition, text: problems.append(f"not restricted: {text}") if condition else None
    pod = spec.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        wrong(spec.get(key), key)
    wrong(pod.get("sysctls"), "sysctls")
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in spec.get("volumes", []):
        wrong(not set(volume) - {"name"} <= allowed, f"volume {volume['name']}")
    for container in spec.get("initContainers", []) + spec["containers"]:
        own = container.get("securityContext", {})
        either = lambda key: own.get(key, pod.get(key))
        name = container["name"]
        wrong(own.get("privileged"), f"{name} is privileged")
        wrong(own.get("allowPrivilegeEscalation") is not False, f"{name}: allowPrivilegeEscalation")
        wrong("ALL" not in own.get("capabilities", {}).get("drop", []), f"{name} keeps capabilities")
        wrong(not set(own.get("capabilities", {}).get("add", [])) <= {"NET_BIND_SERVICE"}, f"{name} adds capabilities")
        wrong(either("runAsNonRoot") is not True, f"{name}: runAsNonRoot")
        wrong(either("runAsUser") == 0, f"{name} runs as root")
        seccomp = (either("seccompProfile") or {}).get("type")
        wrong(seccomp not in ("RuntimeDefault", "Localhost"), f"{name}: seccompProfile")
        wrong(own.get("procMount", "Default") != "Default", f"{name}: procMount")
        wrong(any("hostPort" in port for port in container.get("ports", [])), f"{name}: hostPort")
    return problems


def gate_of(spec):
    containers = spec.get("initContainers", []) + spec["containers"]
    return next((it for it in containers if it["name"] == "tollgate"), None)


def unsafe_gate(spec):
    """What the gate asks for beyond what is asked of every pod."""
    gate = gate_of(spec)
    if gate is None:
        return ["there is no gate in it"]
    problems = []
    wrong = lambda condition, text: problems.append(text) if condition else None
    wrong(gate["securityContext"].get("readOnlyRootFilesystem") is not True, "the gate's root can be written")
    wrong(spec.get("automountServiceAccountToken") is not False, "the gate gets a token of the cluster")
    wrong("memory" not in gate["resources"]["limits"], "the gate's memory has no limit")
    wrong(gate["image"].endswith(":latest") or ":" not in gate["image"], "the image's version is open")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        command = gate.get(probe, {}).get("exec", {}).get("command", [])
        # The image has no shell, and the admin listener is on loopback.
        wrong(command[:2] != ["/tollgate", "healthcheck"], f"{probe} is not the gate's own")
    wrong("--live" not in gate["livenessProbe"]["exec"]["command"], "a draining gate would be killed")
    wrong("--live" in gate["readinessProbe"]["exec"]["command"], "a draining gate would be ready")
    if gate in spec.get("initContainers", []):
        wrong(gate.get("restartPolicy") != "Always", "the gate is not a sidecar")
        wrong(spec["initContainers"][0] is not gate, "the gate is not the first to start")
    wrong(not isinstance(spec.get("securityContext", {}).get("fsGroup"), int), "no fsGroup reads the secrets")
    for volume in spec.get("volumes", []):
        source = volume.get("projected") or volume.get("secret")
        if source and volume["name"].startswith("tollgate"):
            mode = source.get("defaultMode", 0o644)
            wrong(mode & 0o337, f"volume {volume['name']} has mode {mode:o}")
    return problems


def dangling(spec, objects):
    """What the pod asks for and nobody has."""
    maps = {it["metadata"]["name"] for it in objects if it["kind"] == "ConfigMap"}
    problems = []
    names = {volume["name"] for volume in spec.get("volumes", [])}
    claims = {claim["metadata"]["name"] for it in objects for claim in it.get("spec", {}).get("volumeClaimTemplates", [])}
    for container in spec.get("initContainers", []) + spec["containers"]:
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in names | claims:
                problems.append(f"no volume {mount['name']}")
    sources = [part.get("configMap") for volume in spec.get("volumes", []) for part in volume.get("projected", {}).get("sources", [])]
    for source in filter(None, sources):
        if source["name"] not in maps:
            problems.append(f"no ConfigMap {source['name']}")
    return problems


def fits(selector, metadata):
    labels = metadata.get("labels", {})
    wanted = selector.get("matchLabels", {})
    return bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())


def mismatched(thing, objects):
    """Whether what it selects is there, and has the ports that it names."""
    spec, kind = thing.get("spec", {}), thing["kind"]
    pods = [it["spec"]["template"] for it in objects if it["kind"] in WORKLOADS]
    if kind == "HorizontalPodAutoscaler":
        target = spec["scaleTargetRef"]
        there = [(it["kind"], it["metadata"]["name"]) for it in objects]
        return [] if (target["kind"], target["name"]) in there else ["scales nothing"]
    if kind == "Service":
        chosen = [pod for pod in pods if fits({"matchLabels": spec["selector"]}, pod["metadata"])]
        wanted = [port["targetPort"] for port in spec["ports"]]
    elif kind == "NetworkPolicy":
        chosen = [pod for pod in pods if fits(spec["podSelector"], pod["metadata"])]
        wanted = [port["port"] for rule in spec["ingress"] for port in rule.get("ports", [])]
    elif kind == "PodDisruptionBudget":
        chosen, wanted = [pod for pod in pods if fits(spec["selector"], pod["metadata"])], []
    elif kind == "PodMonitor" and pods:
        chosen = [pod for pod in pods if fits(spec["selector"], pod["metadata"])]
        wanted = [it["port"] for it in spec["podMetricsEndpoints"]]
    elif kind == "ServiceMonitor" and pods:
        services = [it for it in objects if it["kind"] == "Service" and fits(spec["selector"], it["metadata"])]
        ports = {port["name"] for it in services for port in it["spec"]["ports"]}
        return [f"no Service has a port {it['port']}" for it in spec["endpoints"] if it["port"] not in ports]
    else:
        return []
    if not chosen:
        return ["selects no pod"]
    names = {
        port["name"]
        for pod in chosen
        for container in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]
        for port in container.get("ports", [])
    }
    return [f"no container has a port {port}" for port in wanted if port not in names]


def lay_out(objects, folder):
    """The volume that the pod would have, with secrets made up."""
    workload = next(it for it in objects if it["kind"] in WORKLOADS)
    spec = workload["spec"]["template"]["spec"]
    volume = next(it for it in spec["volumes"] if it["name"] == "tollgate-config")
    maps = {it["metadata"]["name"]: it["data"] for it in objects if it["kind"] == "ConfigMap"}
    made = made_up()
    for source in volume["projected"]["sources"]:
        if "configMap" in source:
            files = maps[source["configMap"]["name"]]
        else:
            files = {item["path"]: made[item["key"]] for item in source["secret"]["items"]}
        for path, text in files.items():
            path = os.path.join(folder, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(text)
            os.chmod(path, volume["projected"]["defaultMode"])


def made_up():
    certificate, key = self_signed()
    word = lambda: secrets.token_hex(24)
    gate = os.environ["TOLLGATE"]
    password = "what Prometheus knows"
    hashed = subprocess.run([gate, "hash-password"], input=password, text=True, capture_output=True, check=True)
    account = {"name": "prometheus", "password_hash": hashed.stdout.strip(), "groups": ["monitoring"]}
    return {
        "tls.crt": certificate, "tls.key": key, "ca.crt": certificate,
        "k1": word(), "seal": word(), "redis-password": word(), "app-password": word(),
        "users.yaml": yaml.safe_dump({"users": [account]}),
    }


def self_signed():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gate.example")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=30))
    names = [x509.DNSName(it) for it in ("gate.example", "rabbitmq.example")]
    certificate = builder.add_extension(x509.SubjectAlternativeName(names), False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem).decode(), private.decode()


if __name__ == "__main__":
    main()
