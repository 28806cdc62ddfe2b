"""The two cluster files, through the checks that `ray up` makes before it needs a network."""

import copy
import json
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ray.autoscaler._private.util import fillout_defaults, prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[1]
FILES = ["cluster.yaml", "cluster-onpremise.yaml"]
each_file = pytest.mark.parametrize("name", FILES)


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text())


def prepared(name: str) -> dict[str, Any]:
    return prepare_config(read(name))


def start_command(config: dict[str, Any], kind: str) -> str:
    return next(line for line in config[f"{kind}_start_ray_commands"] if "ray start" in line)


@each_file
def test_ray_takes_the_file_with_its_own_schema_and_defaults(name: str):
    config = prepared(name)
    validate_config(config)
    assert fillout_defaults(read(name))["cluster_name"] == "flopwise"
    schema = json.loads(files("ray.autoscaler").joinpath("ray-schema.json").read_text())
    # Ray's schema knows every word of the file: none is ours, or misspelt.
    assert set(read(name)) <= set(schema["properties"])


@each_file
def test_a_misspelt_or_mistyped_line_is_found_by_the_same_checks(name: str):
    for change in ({"idle_timeout_minuets": 5}, {"setup_commands": "pip install ray"}):
        with pytest.raises((jsonschema.ValidationError, TypeError)):
            validate_config(prepare_config({**read(name), **change}))


@each_file
def test_the_token_travels_with_ray_up_and_is_asked_for_everywhere(name: str):
    config = prepared(name)
    path = "~/.ray/auth_token"
    assert config["file_mounts"][path] == path
    for kind in ("head", "worker"):
        assert any("RAY_AUTH_MODE=token" in line for line in config[f"{kind}_setup_commands"])


@each_file
def test_the_dashboard_listens_on_loopback_alone(name: str):
    assert "--dashboard-host=127.0.0.1" in start_command(prepared(name), "head")


def test_the_head_trains_nothing_and_machines_come_at_spot_prices_from_none():
    types = prepared("cluster.yaml")["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert types["head"]["max_workers"] == 0
    assert types["gpu"]["min_workers"] == 0
    assert types["gpu"]["resources"]["GPU"] > 0
    assert types["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_the_head_on_premise_trains_nothing_and_has_the_autoscaler_that_knows_such_machines():
    config = prepared("cluster-onpremise.yaml")
    command = start_command(config, "head")
    assert "--num-cpus=0 --num-gpus=0" in command
    assert "RAY_enable_autoscaler_v2=0 ray start" in command
    types = config["available_node_types"]["local.cluster.node"]
    assert types["min_workers"] == len(config["provider"]["worker_ips"])


def test_what_amazon_is_asked_for_is_what_its_interface_knows():
    loaders = pytest.importorskip("botocore.loaders")
    model = pytest.importorskip("botocore.model")
    validate = pytest.importorskip("botocore.validate")
    service = model.ServiceModel(loaders.Loader().load_service_model("ec2", "service-2"), "ec2")

    def check(operation: str, asked: dict[str, Any]) -> str:
        shape = service.operation_model(operation).input_shape
        return validate.ParamValidator().validate(asked, shape).generate_report()

    config = prepared("cluster.yaml")
    for node in config["available_node_types"].values():
        asked = {**node["node_config"], "MinCount": 1, "MaxCount": 1}
        assert check("RunInstances", asked) == ""
        misspelt = copy.deepcopy(asked)
        misspelt["BlockDeviceMappings"][0]["Ebs"]["VolumeSise"] = 1
        assert "VolumeSise" in check("RunInstances", misspelt)
    rules = config["provider"]["security_group"]["IpPermissions"]
    assert check("AuthorizeSecurityGroupIngress", {"IpPermissions": rules}) == ""
    assert {(rule["FromPort"], rule["ToPort"]) for rule in rules} == {(22, 22)}


@each_file
def test_every_line_to_choose_says_so_with_a_reason(name: str):
    lines = (ROOT / name).read_text().splitlines()
    chosen = [line for line in lines if re.search(r"# YOURS", line)]
    assert len(chosen) >= 4
    assert all(re.search(r"# YOURS(: \w+|$)", line) for line in chosen)
    keys = r"\s*(region|availability_zone|head_ip|worker_ips|ssh_user|max_workers|InstanceType: g5)"
    assert all("YOURS" in line for line in lines if re.match(keys, line))


def test_what_a_machine_installs_is_pinned_and_fits_what_flopwise_asks_for():
    written = (ROOT / "cluster-requirements.txt").read_text().splitlines()
    pins = [Requirement(line) for line in written if line and not line.startswith("#")]
    versions = {}
    for pin in pins:
        (specifier,) = pin.specifier
        assert specifier.operator == "=="
        versions[canonicalize_name(pin.name)] = specifier.version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
    for requirement in map(Requirement, needed):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), (
            requirement
        )
    assert {"default"} == next(pin.extras for pin in pins if pin.name == "ray")
