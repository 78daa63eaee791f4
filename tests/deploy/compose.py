"""Is a compose file one, by the schema of its specification, and what would the gate find mounted?

usage: compose.py check FILE
       compose.py lay-out FOLDER     makes the gate's config folder in FOLDER; $TOLLGATE is the program
"""

import importlib.resources
import json
import pathlib
import shutil
import subprocess
import sys

import jsonschema
import yaml

COMPOSE = pathlib.Path("deploy/compose")


def main():
    what, path = sys.argv[1:]
    path = pathlib.Path(path)
    check(path) if what == "check" else lay_out(path)


def check(file):
    schemas = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text())
    compose = yaml.safe_load(file.read_text())
    jsonschema.validate(compose, schema)
    services = compose["services"]
    assert {"tollgate", "rabbitmq", "redis", "prometheus"} <= set(services), services.keys()
    gate = services["tollgate"]
    assert gate["read_only"] and gate["cap_drop"] == ["ALL"] and gate["user"] == "65532:65532"
    # Else others could reach what listens for the gate alone.
    for inner in ("rabbitmq", "redis"):
        assert services[inner]["network_mode"] == "service:tollgate", inner
        assert "ports" not in services[inner], inner
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            # What secrets.sh makes is not there yet.
            if source.startswith(".") and source not in ("./redis", "./prometheus", "./rabbitmq"):
                assert (COMPOSE / source).exists(), volume


def lay_out(folder):
    made = folder / "made"
    subprocess.run([COMPOSE / "secrets.sh", made.resolve()], check=True)
    shutil.copytree(made / "gate", folder, dirs_exist_ok=True)
    shutil.copy(COMPOSE / "gate/tollgate.yaml", folder)
    for file, owner in {"gate/k1": 65532, "redis/redis.conf": 999, "prometheus/metrics-password": 65534}.items():
        state = (made / file).stat()
        assert (state.st_uid, state.st_mode & 0o777) == (owner, 0o400), file


if __name__ == "__main__":
    main()
