"""Is the image what is promised, and does its gate do its job in the example's pod?

usage: image.py PROGRAM      as root; the program is what deploy/build-static.sh made
       image.py inside …     (what it runs of itself in a network and a file system of its own)

The pod: the image's root, read-only, with what deploy/kubernetes/rabbitmq mounts; the gate as the
manifest starts it, under its user; then a real RabbitMQ with the example's config, beside it.
"""

import base64
import contextlib
import errno
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

import yaml

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")).resolve()
MANIFESTS = pathlib.Path(__file__).with_name("manifests.py")
LARGEST = 20_000_000
DEADLINE = 90
CLEAN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
USER, PASSWORD = "admin", "of-the-secret"


def main():
    if sys.argv[1:2] == ["inside"]:
        return run_pod(*map(pathlib.Path, sys.argv[2:]))
    [program] = sys.argv[1:]
    assert os.geteuid() == 0, "run it as root: it mounts, and changes users"
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        # Others must get in: the gate is not root.
        folder.chmod(0o755)
        archive = folder / "image.tar"
        subprocess.run(["deploy/image.sh", archive, program], check=True)
        image = unpack(archive, folder / "image")
        again = folder / "again.tar"
        subprocess.run(["deploy/image.sh", again, program], check=True)
        assert unpack(again, folder / "again") == image, "the same program gave another image"
        inspect(archive, folder / "image")
        lay_out(folder)
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", sys.executable, __file__, "inside"]
        subprocess.run([*command, folder], check=True)
    print("image: well")


def unpack(archive, folder):
    """Unpacks an OCI archive; its manifest's digest."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder)
    [manifest] = json.loads((folder / "index.json").read_text())["manifests"]
    return manifest["digest"]


def blob(image, descriptor):
    algorithm, digest = descriptor["digest"].split(":")
    path = image / "blobs" / algorithm / digest
    assert path.stat().st_size == descriptor["size"], path
    return path


def inspect(archive, image):
    """What is in it, what it is started with, and that this is all of the promised size."""
    assert json.loads((image / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    [descriptor] = json.loads((image / "index.json").read_text())["manifests"]
    manifest = json.loads(blob(image, descriptor).read_text())
    config = json.loads(blob(image, manifest["config"]).read_text())
    started = config["config"]
    assert started.get("User") == "65532:65532", started
    assert started["Entrypoint"] == ["/tollgate"], started
    assert started["Cmd"] == ["run", "--config", "/etc/tollgate/tollgate.yaml"], started
    assert set(started["ExposedPorts"]) == {"8443/tcp"}, started
    assert started["Labels"]["org.opencontainers.image.version"] == version(), started
    files = {}
    for layer in manifest["layers"]:
        with tarfile.open(blob(image, layer)) as tar:
            files |= {it.name: (it.mode & 0o7777, it.uid, it.gid) for it in tar if not it.isdir()}
            tar.extractall(image.with_name("root"))
    assert files == {"tollgate": (0o555, 0, 0)}, files
    program = image.with_name("root") / "tollgate"
    size = program.stat().st_size
    print(f"image: {size:,} bytes, packed {archive.stat().st_size:,}")
    assert size < LARGEST, f"{size} bytes"
    # Static: nothing is asked of a loader.
    headers = subprocess.run(["readelf", "--program-headers", "--dynamic", "--wide", program], text=True, capture_output=True, check=True)
    assert "INTERP" not in headers.stdout and "(NEEDED)" not in headers.stdout, headers.stdout


def version():
    manifest = pathlib.Path("Cargo.toml").read_text()
    return next(line.split('"')[1] for line in manifest.splitlines() if line.startswith("version"))


def lay_out(folder):
    """Writes the example's manifest and what it mounts."""
    kubectl = TARGET / "tools/kubectl"
    manifest = folder / "manifest.yaml"
    with manifest.open("w") as file:
        subprocess.run([kubectl, "kustomize", "deploy/kubernetes/rabbitmq"], stdout=file, check=True)
    gate = {**os.environ, "TOLLGATE": str(folder / "root/tollgate")}
    subprocess.run([sys.executable, MANIFESTS, "lay-out", manifest, folder / "config"], env=gate, check=True)


def run_pod(folder):
    """In namespaces of our own: ports are all free, and what is mounted goes with us."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with open(folder / "manifest.yaml") as file:
        objects = list(yaml.safe_load_all(file))
    [pod] = [it["spec"]["template"]["spec"] for it in objects if it["kind"] == "StatefulSet"]
    [gate] = [it for it in pod["initContainers"] if it["name"] == "tollgate"]
    root = mount(folder, pod, gate)
    configs = next(it["data"] for it in objects if it["kind"] == "ConfigMap" and it["metadata"]["name"] == "rabbitmq")

    print("pod: the gate starts, and its probes hold before there is a broker")
    with name_server(), started(root, pod, gate, ["run", "--config", "/etc/tollgate/tollgate.yaml"]) as process:
        is_up = lambda: process.poll() is not None or probe(root, pod, gate, "startupProbe") == 0
        wait_for("the startup probe", is_up)
        assert process.poll() is None, "the gate ended"
        assert probe(root, pod, gate, "readinessProbe") == 0
        assert probe(root, pod, gate, "livenessProbe") == 0
        assert listens("127.0.0.2", 8443) and listens("127.0.0.1", 9901)
        assert not listens("127.0.0.2", 9901), "the admin listener can be reached from outside"
        assert call(folder, "GET", "/api/whoami")[0] == 401
        state = root / "var/lib/tollgate/state.redb"
        assert state.stat().st_uid == 65532, "the gate does not run as its user"
        assert not can_write(root / "x") and not can_write(root / "etc/tollgate/x"), "its root can be written"

        print("pod: RabbitMQ starts, and only the gate reaches its management API")
        [broker] = pod["containers"]
        with rabbitmq(folder, configs, broker):
            assert listens("127.0.0.2", 5672), "AMQP cannot be reached from outside"
            assert not listens("127.0.0.2", 15672), "the management API can be reached from outside"
            talk(folder)

        print("pod: the broker's name is looked up")
        resolves(folder, root, pod, gate)

        print("pod: the gate ends last")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0, process.returncode
        assert probe(root, pod, gate, "livenessProbe") == 1


def mount(folder, pod, gate):
    """The container's file system, as a runtime makes it: mount points, volumes, a read-only root."""
    root = folder / "root"
    run = lambda *command: subprocess.run(command, check=True)
    owner = pod["securityContext"]["fsGroup"]
    for name in ("etc/tollgate", "var/lib/tollgate", "proc", "dev"):
        (root / name).mkdir(parents=True)
    for name, text in {"etc/resolv.conf": RESOLVER, "etc/hosts": "127.0.0.1 localhost\n"}.items():
        (root / name).write_text(text)
    assert [it["mountPath"] for it in gate["volumeMounts"]] == ["/etc/tollgate", "/var/lib/tollgate"]
    # fsGroup owns what is mounted, as the kubelet sees to.
    for path in (folder / "config").rglob("*"):
        os.chown(path, 0, owner)
    run("mount", "--bind", root, root)
    run("mount", "--bind", folder / "config", root / "etc/tollgate")
    run("mount", "-t", "tmpfs", "-o", f"mode=2770,gid={owner}", "tmpfs", root / "var/lib/tollgate")
    run("mount", "-o", "remount,bind,ro", root / "etc/tollgate")
    # What every runtime has there, by OCI's runtime-spec (config-linux.md, "Default Devices").
    run("mount", "-t", "proc", "proc", root / "proc")
    run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", root / "dev")
    for device in ("null", "zero", "full", "random", "urandom", "tty"):
        (root / "dev" / device).touch()
        run("mount", "--bind", f"/dev/{device}", root / "dev" / device)
    if gate["securityContext"]["readOnlyRootFilesystem"]:
        run("mount", "-o", "remount,bind,ro", root)
    return root


def command(root, pod, gate, arguments):
    """A process of the gate's container: its user, its pod's group, no privileges, this root."""
    own = gate["securityContext"]
    assert not own["allowPrivilegeEscalation"] and own["capabilities"] == {"drop": ["ALL"]}
    # Who gives up being root gives up its capabilities, and without new privileges never gets any.
    user = f"--userspec={own['runAsUser']}:{own['runAsGroup']}"
    group = f"--groups={pod['securityContext']['fsGroup']}"
    return ["setpriv", "--no-new-privs", "chroot", user, group, str(root), *arguments]


@contextlib.contextmanager
def started(root, pod, gate, arguments):
    with tempfile.TemporaryFile("w+") as said:
        asked = command(root, pod, gate, ["/tollgate", *arguments])
        process = subprocess.Popen(asked, env=CLEAN, stdout=said, stderr=said)
        try:
            yield process
        except BaseException:
            said.seek(0)
            print(said.read())
            raise
        finally:
            process.kill()
            process.wait()


def probe(root, pod, gate, name):
    asked = command(root, pod, gate, gate[name]["exec"]["command"])
    return subprocess.run(asked, env=CLEAN, capture_output=True).returncode


@contextlib.contextmanager
def rabbitmq(folder, configs, container):
    """A real one, with the example's config and nothing of the machine's own."""
    home = folder / "rabbitmq"
    home.mkdir()
    # What the image's entrypoint does with its environment.
    assert [it["name"] for it in container["env"]] == ["RABBITMQ_DEFAULT_USER", "RABBITMQ_DEFAULT_PASS"]
    assert all("secretKeyRef" in it["valueFrom"] for it in container["env"])
    configs["rabbitmq.conf"] += f"default_user = {USER}\ndefault_pass = {PASSWORD}\n"
    for name, text in configs.items():
        (home / name).write_text(text)
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": str(home),
        "RABBITMQ_NODENAME": "pod@localhost", "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"), "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_LOG_BASE": str(home / "log"), "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_CONF_ENV_FILE": str(home / "none"), "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    with (home / "said").open("w") as said:
        server = subprocess.Popen(["/usr/lib/rabbitmq/bin/rabbitmq-server"], cwd=home, env=environment, stdout=said, stderr=said)
    try:
        up = lambda: server.poll() is not None or (listens("127.0.0.1", 15672) and listens("127.0.0.1", 5672))
        wait_for("RabbitMQ", up)
        assert server.poll() is None, (home / "said").read_text()
        yield
    finally:
        server.terminate()
        server.wait()


def talk(folder):
    """A login and what it opens, as a client from outside sees it."""
    login = lambda name, password: call(
        folder, "POST", "/auth/authenticate", {"Content-Type": "application/json"},
        json.dumps({"username": name, "password": password}),
    )
    assert login("guest", "guest")[0] == 401, "guest gets in, since the gate is on loopback"
    status, body = login(USER, PASSWORD)
    assert status == 200, body
    token = {"Authorization": f"Bearer {json.loads(body)['jwt']}"}
    status, body = call(folder, "GET", "/api/whoami", token)
    assert status == 200 and json.loads(body)["name"] == USER, body
    pair = base64.b64encode(b"prometheus:what Prometheus knows").decode()
    status, body = call(folder, "GET", "/metrics", {"Authorization": f"Basic {pair}"})
    assert status == 200 and "tollgate_requests_total" in body, body
    # Metrics are for Prometheus, not for everybody who may log in.
    assert call(folder, "GET", "/metrics", token)[0] == 403
    assert call(folder, "GET", "/metrics")[0] == 401


def call(folder, method, path, headers={}, body=None, port=8443):
    trusted = ssl.create_default_context(cafile=folder / "config/tls/tls.crt")
    trusted.check_hostname = False
    connection = http.client.HTTPSConnection("127.0.0.2", port, timeout=30, context=trusted)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


RESOLVER = "nameserver 127.0.0.3\nsearch messaging.svc.cluster.local svc.cluster.local\noptions ndots:5\n"
KNOWN = {"broker.messaging.svc.cluster.local": "127.0.0.4"}


def resolves(folder, root, pod, gate):
    """A static program must still ask the resolver for an upstream's name, with the search list."""
    config = yaml.safe_load((folder / "config/tollgate.yaml").read_text())
    config["listeners"][0]["address"] = "127.0.0.2:8444"
    config["admin"] = {"address": "127.0.0.1:9902"}
    config["store"] = "memory"
    config["upstreams"]["broker"] = {"endpoints": ["http://broker:8080"], "danger_plaintext": True}
    config["upstreams"]["other"] = {"endpoints": ["http://nobody:8080"], "danger_plaintext": True}
    config["identity"] = config["identity"][:1]
    config["routes"] = [{"path": "/broker", "upstream": "broker", "public": True}, {"path": "/other", "upstream": "other", "public": True}]
    other = root / "var/lib/tollgate"
    for name in ("tls", "keys"):
        shutil.copytree(folder / "config" / name, other / name)
    (other / "tollgate.yaml").write_text(yaml.safe_dump(config))
    for path in other.rglob("*"):
        os.chown(path, 0, pod["securityContext"]["fsGroup"])
        path.chmod(0o750 if path.is_dir() else 0o440)
    with http_server("127.0.0.4", 8080), started(root, pod, gate, ["run", "--config", "/var/lib/tollgate/tollgate.yaml"]):
        wait_for("the second gate", lambda: listens("127.0.0.2", 8444))
        assert call(folder, "GET", "/broker", port=8444) == (200, "here"), "a name in the cluster"
        assert call(folder, "GET", "/other", port=8444)[0] == 502, "a name that nobody has"


@contextlib.contextmanager
def http_server(address, port):
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Here(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"here")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer((address, port), Here) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


@contextlib.contextmanager
def name_server():
    """A resolver that knows what KNOWN holds (RFC 1035 section 4), and says NXDOMAIN to all else."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.3", 53))
        threading.Thread(target=answer_names, args=(server,), daemon=True).start()
        yield


def answer_names(server):
    while True:
        try:
            question, who = server.recvfrom(512)
        except OSError:
            return
        at, labels = 12, []
        while question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]].decode().lower())
            at += 1 + question[at]
        asked = question[12 : at + 5]
        address = KNOWN.get(".".join(labels))
        is_a = question[at + 1 : at + 3] == b"\0\x01"
        record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04" + socket.inet_aton(address) if address and is_a else b""
        flags = b"\x81\x80" if address else b"\x81\x83"
        count = b"\0\x01" if record else b"\0\0"
        server.sendto(question[:2] + flags + b"\0\x01" + count + b"\0\0\0\0" + asked + record, who)


def can_write(path):
    try:
        path.write_text("")
    except OSError as error:
        assert error.errno == errno.EROFS, error
        return False
    return True


def listens(address, port):
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex((address, port)) == 0


def wait_for(what, is_there):
    deadline = time.monotonic() + DEADLINE
    while not is_there():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.05)


if __name__ == "__main__":
    main()
