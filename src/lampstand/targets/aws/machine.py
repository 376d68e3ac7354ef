"""Runs one machine of a Lampstand site on EC2: fetches its release, starts its containers, tells that it is
well.

Needs Debian's python3-boto3, docker.io and s3fs, nothing else of Lampstand. Every step may be repeated:
systemd runs the whole at each boot. Configuration: /etc/lampstand/machine.json. Nothing secret is written
but to memory (tmpfs).
"""

# pyright: basic
# Runs on the machine, with the boto3 of its distribution, which has no types.
import base64
import json
import os
import pathlib
import pwd
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

import boto3
import botocore.exceptions

CONFIG = json.loads(
    pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "/etc/lampstand/machine.json").read_text()
)
BASE = pathlib.Path("/var/lib/lampstand")
SECRET, VALUE = "__lampstand_secret_%s__", "__lampstand_value_%s__"
POLL = 1.0


class Failed(Exception):  # noqa: N818
    """A step that did not succeed, in one sentence."""


def client(service: str) -> Any:  # noqa: ANN401
    return boto3.client(service, region_name=CONFIG["region"], endpoint_url=CONFIG.get("endpoint"))


def run(*argv: str, text: str | None = None, deadline: float = 600) -> str:
    """Run a program; its last line is the reason when it fails."""
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=deadline, check=False)
    except subprocess.TimeoutExpired:
        raise Failed(f"{argv[0]} took longer than {deadline} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise Failed(f"{' '.join(argv[:2])}: {lines[-1]}")
    return done.stdout


def metadata(path: str) -> str:
    """An answer of the instance metadata service, version 2."""
    base = CONFIG.get("metadata", "http://169.254.169.254")
    ask = urllib.request.Request(f"{base}/latest/api/token", method="PUT")
    ask.add_header("X-aws-ec2-metadata-token-ttl-seconds", "60")
    with urllib.request.urlopen(ask, timeout=5) as answer:
        token = answer.read().decode()
    ask = urllib.request.Request(
        f"{base}/latest/meta-data/{path}", headers={"X-aws-ec2-metadata-token": token}
    )
    with urllib.request.urlopen(ask, timeout=5) as answer:
        return answer.read().decode()


def filled(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def secrets() -> dict[str, str]:
    """Placeholder -> value of every secret and every address."""
    manager, found = client("secretsmanager"), {}
    for name, arn in CONFIG["secrets"].items():
        content = json.loads(manager.get_secret_value(SecretId=arn)["SecretString"])
        if name == "settings":
            found.update({SECRET % f"env.{k}": v for k, v in content.items()})
        else:
            found[SECRET % name] = content["password"]
    return found | {VALUE % k: v for k, v in CONFIG["values"].items()}


def shield_credentials() -> None:
    """Only root may ask for the machine's credentials: an application that fetches URLs for visitors may not."""
    rule = ("OUTPUT", "-d", "169.254.169.254", "-m", "owner", "!", "--uid-owner", "0", "-j", "REJECT")
    try:
        run("iptables", "-C", *rule)
    except Failed:
        run("iptables", "-I", *rule)


def mount_uploads() -> None:
    """The bucket as a folder: a file is in the bucket when close(2) returns; other machines see it within a second."""
    where = BASE / "uploads"
    where.mkdir(parents=True, exist_ok=True)
    if os.path.ismount(where):
        return
    owner = pwd.getpwnam("www-data")
    options = [
        "allow_other",
        f"uid={owner.pw_uid}",
        f"gid={owner.pw_gid}",
        "umask=0027",
        "stat_cache_expire=1",
    ]
    options += ["retries=5", *CONFIG["s3fs"]]
    run(
        "s3fs",
        CONFIG["uploads_bucket"],
        str(where),
        *(part for o in options for part in ("-o", o)),
        deadline=60,
    )
    # It goes into the background before it has spoken to S3, and says nothing when that fails.
    end = time.monotonic() + 30
    while not os.path.ismount(where):
        if time.monotonic() > end:
            raise Failed(f"the bucket {CONFIG['uploads_bucket']} could not be mounted")
        time.sleep(0.1)


def pull(images: set[str]) -> None:
    answer = client("ecr").get_authorization_token()["authorizationData"][0]
    user, _, password = base64.b64decode(answer["authorizationToken"]).decode().partition(":")
    run("docker", "login", "--username", user, "--password-stdin", CONFIG["registry"], text=password)
    for image in sorted(images):
        run("docker", "pull", "--quiet", image)


def copy_release(files: dict[str, str]) -> None:
    """The release's files for nginx, out of the image that has them."""
    target = BASE / "releases" / pathlib.PurePath(files["path"]).name
    if target.exists():
        return
    part = target.with_suffix(".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    run("rm", "-rf", str(part))
    made = run("docker", "create", files["image"], "nothing").strip()
    run("docker", "cp", f"{made}:{files['path']}", str(part))
    run("docker", "rm", made)
    part.rename(target)


def prepare(instance: dict[str, Any], values: dict[str, str]) -> None:
    """Folders and files of an instance; those with passwords lie on a file system in memory."""
    home = BASE / "instances" / instance["name"]
    for folder in [
        *(home / f for f in ("etc", "data", "log", "run")),
        *map(pathlib.Path, instance["folders"]),
    ]:
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, *(pwd.getpwnam(instance["account"])[2:4]))
    if not os.path.ismount(home / "etc"):
        run("mount", "-t", "tmpfs", "-o", "mode=0755,size=16m", "lampstand", str(home / "etc"))
    for path, content, mode in instance["files"]:
        file = pathlib.Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(filled(content, values))
        file.chmod(mode)
        os.chown(file, *(pwd.getpwnam(instance["account"])[2:4]))


def container(
    name: str, process: dict[str, Any], values: dict[str, str], instance: str, *options: str
) -> tuple[list[str], dict[str, str]]:
    """`docker run` of a process: the machine's network and the instance's folders, nothing else of the
    machine."""
    argv = [filled(a, values) for a in process["argv"]]
    home = str(BASE / "instances" / instance)
    command = [
        "docker",
        "run",
        "--name",
        name,
        "--init",
        "--network",
        "host",
        "--read-only",
        "--tmpfs",
        "/tmp",
    ]
    command += ["--security-opt", "no-new-privileges", "--cap-drop", "ALL", "--user", process["account"]]
    command += [part for volume in (f"{home}:{home}", *process["volumes"]) for part in ("--volume", volume)]
    command += ["--workdir", process["cwd"] or "/", "--stop-signal", process["stop_signal"]]
    command += ["--stop-timeout", str(process["stop_seconds"]), *options]
    environment = {k: filled(v, values) for k, v in process["env"]}
    # Names only: values in arguments would show in the list of processes.
    command += [part for k in environment for part in ("--env", k)]
    command += ["--entrypoint", argv[0], process["image"], *argv[1:]]
    return command, environment


def docker_run(command: list[str], environment: dict[str, str], deadline: float) -> None:
    done = subprocess.run(
        command,
        env=dict(os.environ) | environment,
        capture_output=True,
        text=True,
        timeout=deadline,
        check=False,
    )
    if done.returncode:
        raise Failed((done.stderr or done.stdout).strip()[-300:] or f"exit code {done.returncode}")


def release_step(bundle: dict[str, Any], values: dict[str, str]) -> None:
    """Once for each release, whoever is first: a parameter that exists already cannot be made again."""
    step = bundle["step"]
    if step is None:
        return
    store, name = client("ssm"), f"{CONFIG['parameters']}/step/{bundle['release']}"
    try:
        store.put_parameter(Name=name, Type="String", Value="running")
    except store.exceptions.ParameterAlreadyExists:
        end = time.monotonic() + step["timeout"]
        while (state := store.get_parameter(Name=name)["Parameter"]["Value"]) == "running":
            if time.monotonic() > end:
                raise Failed("the release step of another machine did not end") from None
            time.sleep(POLL)
        if state != "done":
            raise Failed(f"the release step failed on another machine: {state}") from None
        return
    command, environment = container("release-step", step, values, "web-1", "--rm")
    state = "failed"
    try:
        docker_run(command, environment, step["timeout"])
        state = "done"
    except (Failed, subprocess.TimeoutExpired) as error:
        state = f"failed: {error}"[:500]
        raise Failed(f"the release step failed: {error}") from None
    finally:
        store.put_parameter(Name=name, Type="String", Value=state, Overwrite=True)


def start(instance: dict[str, Any], values: dict[str, str]) -> None:
    for process in instance["processes"]:
        name = f"{instance['name']}.{process['name']}"
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)
        command, environment = container(
            name,
            process,
            values,
            instance["name"],
            "--detach",
            "--restart",
            "always",
            "--log-driver",
            "local",
        )
        docker_run(command, environment, 60)


def wait_until_well(health: dict[str, Any]) -> None:
    """`checks` good answers in a row."""
    end, good, last = time.monotonic() + health["deadline"], 0, "no answer"
    while good < health["checks"]:
        if time.monotonic() > end:
            raise Failed(f"not well after {health['deadline']:g} s: {last}")
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{health['port']}{health['path']}", timeout=5
            ) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
        except OSError as error:
            status, last = 599, str(error)
        good = good + 1 if status < health["below"] else 0
        last = f"HTTP {status}" if status != 599 else last
        time.sleep(POLL)


def signal(identity: dict[str, str], well: bool, reason: str) -> None:
    """Tell the Auto Scaling group and the stack; either may have gone on without us."""
    result = ("CONTINUE", "SUCCESS") if well else ("ABANDON", "FAILURE")
    print(f"lampstand: {result[1]}: {reason}", flush=True)
    kind = CONFIG["kinds"][identity["kind"]]
    for call in (
        lambda: client("autoscaling").complete_lifecycle_action(
            LifecycleHookName=kind["hook"],
            AutoScalingGroupName=metadata("tags/instance/aws:autoscaling:groupName"),
            InstanceId=identity["id"],
            LifecycleActionResult=result[0],
        ),
        lambda: client("cloudformation").signal_resource(
            StackName=CONFIG["stack"],
            LogicalResourceId=kind["group"],
            UniqueId=identity["id"],
            Status=result[1],
        ),
    ):
        try:
            call()
        except (botocore.exceptions.ClientError, OSError) as error:
            print(f"lampstand: {error}", flush=True)


def ship_logs(identity: dict[str, str]) -> None:
    """Send what the engines write into their log files to CloudWatch, and keep the files short. Does not
    return."""
    logs, positions = client("logs"), {}
    while True:
        for file in sorted(BASE.glob("instances/*/log/*.log")):
            ship(logs, file, positions, f"{identity['id']}/{file.parts[-3]}/{file.stem}")
        time.sleep(5)


def ship(logs: Any, file: pathlib.Path, positions: dict[pathlib.Path, int], stream: str) -> None:  # noqa: ANN401
    with file.open("rb") as content:
        content.seek(positions.get(file, 0))
        data = content.read(900_000)
    data = data[: data.rfind(b"\n") + 1]
    lines = [line for line in data.decode(errors="replace").split("\n") if line]
    now = int(time.time() * 1000)
    for first in range(0, len(lines), 1000):
        events = [{"timestamp": now, "message": line[:8000]} for line in lines[first : first + 1000]]
        for attempt in (1, 2):
            try:
                logs.put_log_events(logGroupName=CONFIG["log_group"], logStreamName=stream, logEvents=events)
                break
            except logs.exceptions.ResourceNotFoundException:
                if attempt == 2:
                    return
                logs.create_log_stream(logGroupName=CONFIG["log_group"], logStreamName=stream)
            except botocore.exceptions.ClientError as error:
                print(f"lampstand: {error}", flush=True)
                return
    positions[file] = positions.get(file, 0) + len(data)
    if positions[file] > 50_000_000:
        os.truncate(file, 0)
        positions[file] = 0


def bring_up(identity: dict[str, str]) -> None:
    body = client("s3").get_object(
        Bucket=CONFIG["releases_bucket"], Key=f"releases/{identity['release']}.json"
    )
    bundle = json.loads(body["Body"].read())
    machine = bundle["machines"][identity["kind"]]
    values = secrets() | {VALUE % "server": identity["id"]}
    shield_credentials()
    mount_uploads()
    pull({p["image"] for i in machine["instances"] for p in i["processes"]})
    copy_release(bundle["files"])
    for instance in machine["instances"]:
        prepare(instance, values)
        # The release step speaks to the database through the gateway.
        if instance["kind"] == "gateway":
            start(instance, values)
    release_step(bundle, values)
    for instance in machine["instances"]:
        if instance["kind"] != "gateway":
            start(instance, values)
    if machine["health"]:
        wait_until_well(machine["health"])


def main() -> None:
    tags = {k: metadata(f"tags/instance/lampstand:{k}") for k in ("kind", "release")}
    identity = {"id": metadata("instance-id"), **tags}
    try:
        bring_up(identity)
    except (Failed, OSError, KeyError, ValueError, botocore.exceptions.BotoCoreError,
            botocore.exceptions.ClientError) as error:  # fmt: skip
        signal(identity, False, f"{type(error).__name__}: {error}")
        sys.exit(1)
    signal(identity, True, f"release {identity['release']}")
    ship_logs(identity)


if __name__ == "__main__":
    main()
