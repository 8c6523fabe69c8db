"""A Kubernetes manifest for pools: `manifest(pools)`.

A pool of one-node servers behind one address is a Deployment; pools apart are StatefulSets, whose pods have names that
the router can be told; servers of several nodes are LeaderWorkerSets. Sources: kubernetes.io (apps/v1),
lws.sigs.k8s.io (leaderworkerset.x-k8s.io/v1, LWS_LEADER_ADDRESS, LWS_WORKER_INDEX), docs.vllm.ai
deployment/frameworks/lws v0.12.0 (2025-12).
"""

import re
from collections.abc import Mapping, Sequence

from simulator.errors import LayoutError
from simulator.planning.launch import DRAFT_MODEL, PORT, Command, Engine, PoolLaunch, written
from simulator.planning.launch_engines import router_command, server_commands
from simulator.planning.yaml_text import yaml_text

IMAGES: Mapping[Engine, str] = {
    "vllm": "vllm/vllm-openai:v0.12.0",
    "sglang": "lmsysorg/sglang:v0.5.5",
    "tensorrt-llm": "nvcr.io/nvidia/tensorrt-llm/release:1.0.0",
}
"""Public images of the versions whose flags are written (2025-09 to 2025-12)."""
ROUTER_IMAGES: Mapping[Engine, str] = {**IMAGES, "vllm": "vllm/vllm-router:latest"}
GPU_LABEL = "nvidia.com/gpu.product"
"""Set by NVIDIA's GPU feature discovery; its values are those of `nvidia-smi -L`, dashes for spaces."""
SHARED_MEMORY = "64Gi"
"""For NCCL and the workers' queues; Docker's 64 MB stop them (docs.vllm.ai deployment/k8s)."""
START_S = 3600
"""Time a server may take to load its weights and compile."""

Object = dict[str, object]


def manifest(pools: Sequence[PoolLaunch], name: str = "llm", images: Mapping[Engine, str] = IMAGES) -> str:
    """YAML of all objects, ready for `kubectl apply -f -`. Users ask the service `name` at port 8000.

    Raises LayoutError for pools that no engine can run together, and for names that Kubernetes does not take.
    """
    for given in (name, *(pool.name for pool in pools)):
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,40}[a-z0-9])?", given):
            raise LayoutError(where="name", given=repr(given), rule="must be lower-case letters, digits and dashes")
    apart = [pool for pool in pools if pool.role != "mixed"]
    if apart and sorted(pool.role for pool in pools) != ["decode", "prefill"]:
        given = ", ".join(pool.role for pool in pools)
        raise LayoutError(where="pools", given=given, rule="pools apart are one of prefill and one of decode")
    objects = [each for pool in pools for each in _pool(pool, name, images[pool.engine], bool(apart))]
    if apart:
        prefill, decode = sorted(pools, key=lambda pool: pool.role == "decode")
        urls = [_urls(pool, name) for pool in (prefill, decode)]
        objects += _router(router_command(prefill, decode, urls), name, ROUTER_IMAGES[prefill.engine])
    else:
        objects.append(_service(name, {"app": name, "serves": "users"}))
    comments = "".join(f"# {line}\n" for line in _remarks(pools))
    return comments + "---\n".join(yaml_text(each) for each in objects)


def _remarks(pools: Sequence[PoolLaunch]) -> list[str]:
    said = []
    if any(pool.nodes > 1 for pool in pools):
        said.append("Needs the LeaderWorkerSet controller: https://lws.sigs.k8s.io/docs/installation/")
    said += [
        f"Pool {p.name}: {p.nodes} nodes under TensorRT-LLM also need an MPI launcher (MPI operator or Slurm)."
        for p in pools
        if p.nodes > 1 and p.engine == "tensorrt-llm"
    ]
    if any(p.drafted_tokens and p.draft_model == DRAFT_MODEL for p in pools):
        said.append("Containers read the draft model from DRAFT_MODEL: add it to their env.")
    said.append(
        "Network devices (rdma/...), a token for gated models and a volume for weights are your cluster's to add."
    )
    return said


def _full(pool: PoolLaunch, name: str) -> str:
    return f"{name}-{pool.name}"


def _urls(pool: PoolLaunch, name: str) -> list[str]:
    """Of the first node of each server: pods of a set are reached as SET-NUMBER.SERVICE."""
    full = _full(pool, name)
    return [f"http://{full}-{i}.{full}:{PORT}" for i in range(pool.replicas)]


def _service(name: str, selector: Object, headless: bool = False) -> Object:
    spec: Object = {"selector": selector, "ports": [{"port": PORT, "targetPort": PORT}]}
    if headless:
        # Ranks find each other before they are ready to serve.
        spec |= {"clusterIP": "None", "publishNotReadyAddresses": True}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def _pool(pool: PoolLaunch, name: str, image: str, apart: bool) -> list[Object]:
    full, commands = _full(pool, name), server_commands(pool)
    labels: Object = {"app": name, "pool": pool.name}
    first = {**labels, "serves": "users" if not apart else pool.role}
    if pool.nodes > 1:
        leader = _pod(pool, image, commands[0], first, front=True)
        worker = _pod(pool, image, commands[-1], labels, front=False)
        template = {
            "size": pool.nodes,
            "restartPolicy": "RecreateGroupOnPodRestart",
            "leaderTemplate": leader,
            "workerTemplate": worker,
        }
        group: Object = {"replicas": pool.replicas, "leaderWorkerTemplate": template}
        return [_workload("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", full, group)]
    spec: Object = {
        "replicas": pool.replicas,
        "selector": {"matchLabels": labels},
        "template": _pod(pool, image, commands[0], first, front=True),
    }
    if not apart:
        return [_workload("apps/v1", "Deployment", full, spec)]
    spec |= {"serviceName": full, "podManagementPolicy": "Parallel"}
    return [_service(full, labels, headless=True), _workload("apps/v1", "StatefulSet", full, spec)]


def _workload(version: str, kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _shell(command: Command) -> str:
    """The command for `sh -c`: files first, then the server in the shell's place."""
    lines = ["set -e", "export LEADER=${LWS_LEADER_ADDRESS:-localhost} NODE=${LWS_WORKER_INDEX:-0}"]
    lines += [written(file, content) for file, content in command.files]
    return (
        "\n".join([*lines, *(f"export {key}={value}" for key, value in command.environment), f"exec {command.line()}"])
        + "\n"
    )


def _pod(pool: PoolLaunch, image: str, command: Command, labels: Object, *, front: bool) -> Object:
    container: Object = {
        "name": "engine",
        "image": image,
        "command": ["sh", "-c"],
        "args": [_shell(command)],
        "resources": {"limits": {"nvidia.com/gpu": pool.gpus_of_node}},
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    }
    if front:
        probe: Object = {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 10}
        container["ports"] = [{"containerPort": PORT}]
        container["readinessProbe"] = probe
        container["startupProbe"] = {**probe, "failureThreshold": START_S // 10}
    spec: Object = {
        "containers": [container],
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": SHARED_MEMORY}}],
    }
    if pool.gpu:
        spec["nodeSelector"] = {GPU_LABEL: pool.gpu}
    return {"metadata": {"labels": labels}, "spec": spec}


def _router(command: Command, name: str, image: str) -> list[Object]:
    labels: Object = {"app": name, "serves": "users"}
    container: Object = {
        "name": "router",
        "image": image,
        "command": ["sh", "-c"],
        "args": [_shell(command)],
        "ports": [{"containerPort": PORT}],
    }
    template: Object = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec: Object = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return [_workload("apps/v1", "Deployment", f"{name}-router", spec), _service(name, labels)]
