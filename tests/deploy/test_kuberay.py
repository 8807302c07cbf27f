"""The RayJob: fields that KubeRay documents, and what must agree with the rest of crsweep."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import ray
import yaml

from runner.submit.jobs import STOP_SECONDS
from tests.conftest import ROOT
from workers.results.lease import EXPIRES_AFTER

SPEC = {
    "activeDeadlineSeconds", "backoffLimit", "rayClusterSpec", "submitterPodTemplate", "metadata",
    "clusterSelector", "submitterConfig", "managedBy", "deletionStrategy", "entrypoint",
    "runtimeEnvYAML", "jobId", "submissionMode", "entrypointResources", "entrypointNumCpus",
    "entrypointNumGpus", "ttlSecondsAfterFinished", "shutdownAfterJobFinishes", "suspend",
}  # fmt: skip
CLUSTER = {
    "headGroupSpec", "workerGroupSpecs", "rayVersion", "enableInTreeAutoscaling",
    "autoscalerOptions", "headServiceAnnotations", "suspend",
}  # fmt: skip
HEAD = {"serviceType", "headService", "enableIngress", "rayStartParams", "template"}
WORKERS = {
    "groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts", "rayStartParams",
    "template", "scaleStrategy",
}  # fmt: skip
POD = {
    "containers", "volumes", "shareProcessNamespace", "terminationGracePeriodSeconds",
    "securityContext",
}  # fmt: skip
CONTAINER = {"name", "image", "env", "envFrom", "resources", "volumeMounts"}


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "deploy/kuberay/rayjob.yaml").read_text()))


@pytest.fixture(scope="module")
def spec(documents) -> dict[str, Any]:
    job = documents[0]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(job) == {"apiVersion", "kind", "metadata", "spec"}
    return job["spec"]


def groups(spec) -> list[dict[str, Any]]:
    cluster = spec["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def test_all_fields_are_documented_ones(spec):
    cluster = spec["rayClusterSpec"]
    assert set(spec) <= SPEC
    assert set(cluster) <= CLUSTER
    assert set(cluster["headGroupSpec"]) <= HEAD
    assert all(set(group) <= WORKERS for group in cluster["workerGroupSpecs"])
    for group in groups(spec):
        pod = group["template"]["spec"]
        assert set(pod) <= POD
        assert all(set(container) <= CONTAINER for container in pod["containers"])
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_the_version_of_ray_is_the_tested_one(spec):
    assert spec["rayClusterSpec"]["rayVersion"] == ray.__version__


def test_the_driver_is_started_again_and_waits_longer_than_a_lease(spec):
    assert spec["backoffLimit"] >= 1
    words = shlex.split(spec["entrypoint"])
    assert words[:2] == ["crsweep", "run"]
    wait = next(word for word in words if word.startswith("--wait-for-lease="))
    assert float(wait.partition("=")[2]) > EXPIRES_AFTER
    assert {"run.executor=ray", "run.ray_address=auto"} <= set(words)


def test_a_stopped_driver_has_time_to_commit(spec):
    variables = yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]
    assert variables["RAY_JOB_STOP_WAIT_TIME_S"] == str(STOP_SECONDS)
    for group in groups(spec):
        assert group["template"]["spec"]["terminationGracePeriodSeconds"] >= STOP_SECONDS


def test_every_pod_has_a_process_that_reaps_and_the_folders_of_the_sweep(spec):
    words = shlex.split(spec["entrypoint"])
    mounted = ("/sweep", "/results")
    for group in groups(spec):
        pod = group["template"]["spec"]
        assert pod["shareProcessNamespace"] is True
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert {mount["mountPath"] for mount in container["volumeMounts"]} >= set(mounted)
    places = [word.partition("=")[2] for word in words if word.startswith(("out=", "cache.path="))]
    assert places
    assert all(place.startswith(mounted) for place in places)


def test_resources_are_guaranteed_and_keys_come_from_a_secret(spec):
    for group in groups(spec):
        for container in group["template"]["spec"]["containers"]:
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert "env" not in container
            assert [list(source) for source in container["envFrom"]] == [["secretRef"]]


def test_the_claim_can_be_mounted_by_many_nodes(documents):
    claim = documents[1]
    assert claim["kind"] == "PersistentVolumeClaim"
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    pod = documents[0]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    claimed = [v["persistentVolumeClaim"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
    assert [each["claimName"] for each in claimed] == [claim["metadata"]["name"]]
