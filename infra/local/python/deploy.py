"""Deploys template.yaml to the emulator through CloudFormation, as `sam deploy` does on AWS.

Reads one JSON object from standard input, writes one to standard output: the stack's outputs, and how
many packages had to be made. What goes wrong is written to standard error in one piece, with exit
status 1. It starts nothing and seeds nothing.

Input: `endpoint_url`, `region`, `access_key_id`, `secret_access_key`, `stack_name`, `template` (path),
`parameters` {name: value}, `binaries` {package: path of its bootstrap binary}, `package_dir` (zip files,
named by content, kept between runs).
"""

import concurrent.futures
import hashlib
import io
import json
import os
import pathlib
import sys
import tempfile
import time
import zipfile

import boto3
import botocore.exceptions
from botocore.config import Config
from samtranslator.yaml_helper import yaml_parse

ARTIFACT_BUCKET = "holdfast-artifacts"
TEMPLATE_KEY = "template.json"
DEPLOY_LIMIT_SECONDS = 90
STATUS_POLL_SECONDS = 0.05
CONNECT_LIMIT_SECONDS = 5
READ_LIMIT_SECONDS = 60
CALL_ATTEMPTS = 2

# A package not used for this long was made from a binary that has since been built again.
UNUSED_PACKAGE_SECONDS = 3600

# Of an emulated file system's zip file, the mode and the (fixed, for equal content) time of an entry.
BOOTSTRAP_MODE = 0o100755
ENTRY_TIME = (1980, 1, 1, 0, 0, 0)

# A debug build shrinks to a third at the fastest level; slower levels gain little.
COMPRESSION_LEVEL = 1


class DeployError(Exception):
    """Something to tell the user; its text says what to do where that is known."""


def main() -> None:
    order = json.load(sys.stdin)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        packages = dict(
            zip(
                order["binaries"],
                pool.map(
                    lambda path: package(pathlib.Path(path), pathlib.Path(order["package_dir"])),
                    order["binaries"].values(),
                ),
            )
        )
    s3 = client(order, "s3")
    upload([path for path, _made in packages.values()], s3)
    keys = {name: path.name for name, (path, _made) in packages.items()}
    template = point_at_packages(read_template(order["template"]), keys)
    outputs = deploy(order, template, s3)
    remove_unused(pathlib.Path(order["package_dir"]))
    made = sum(made for _path, made in packages.values())
    json.dump({"outputs": outputs, "packages_made": made}, sys.stdout)


def client(order: dict, service: str):
    """A client of the emulator, with every wait limited."""
    config = Config(
        connect_timeout=CONNECT_LIMIT_SECONDS,
        read_timeout=READ_LIMIT_SECONDS,
        retries={"total_max_attempts": CALL_ATTEMPTS},
        s3={"addressing_style": "path"},
    )
    return boto3.client(
        service,
        endpoint_url=order["endpoint_url"],
        region_name=order["region"],
        aws_access_key_id=order["access_key_id"],
        aws_secret_access_key=order["secret_access_key"],
        config=config,
    )


def package(binary: pathlib.Path, directory: pathlib.Path) -> tuple[pathlib.Path, bool]:
    """The zip file with `binary` as its bootstrap, and whether it had to be made."""
    code = binary.read_bytes()
    target = directory / f"{hashlib.sha256(code).hexdigest()[:32]}.zip"
    if target.exists():
        # The time of last use decides what remove_unused takes away.
        target.touch()
        return target, False
    entry = zipfile.ZipInfo("bootstrap", ENTRY_TIME)
    entry.external_attr = BOOTSTRAP_MODE << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr(entry, code, compresslevel=COMPRESSION_LEVEL)
    directory.mkdir(parents=True, exist_ok=True)
    # A name of its own: another stack, or another package with the same content, may be at it too.
    with tempfile.NamedTemporaryFile(dir=directory, suffix=".partial", delete=False) as partial:
        partial.write(body.getvalue())
    os.replace(partial.name, target)
    return target, True


def remove_unused(directory: pathlib.Path) -> None:
    """Keeps the folder of packages from growing with every build."""
    oldest = time.time() - UNUSED_PACKAGE_SECONDS
    for path in directory.iterdir():
        try:
            if path.stat().st_mtime < oldest:
                path.unlink()
        except FileNotFoundError:
            # Another stack of the same clone removed it first.
            continue


def upload(paths: list[pathlib.Path], s3) -> None:
    s3.create_bucket(Bucket=ARTIFACT_BUCKET)
    for path in set(paths):
        s3.put_object(Bucket=ARTIFACT_BUCKET, Key=path.name, Body=path.read_bytes())


def read_template(path: str) -> dict:
    template = yaml_parse(pathlib.Path(path).read_text(encoding="utf-8"))
    if not isinstance(template, dict) or "Resources" not in template:
        raise DeployError(f"{path} is not a CloudFormation template")
    return template


def point_at_packages(template: dict, keys: dict[str, str]) -> dict:
    """Points every function's code at its package, as `sam package` does; nothing else changes."""
    for name, resource in template["Resources"].items():
        if resource.get("Type") != "AWS::Serverless::Function":
            continue
        build = (resource.get("Metadata") or {}).get("BuildProperties") or {}
        code = resource["Properties"].get("CodeUri", "")
        binary = build.get("Binary") or pathlib.PurePosixPath(code).name
        if binary not in keys:
            raise DeployError(
                f"{name} in the template runs the package {binary!r}, which was not built "
                f"(built: {', '.join(sorted(keys))})"
            )
        resource["Properties"]["CodeUri"] = f"s3://{ARTIFACT_BUCKET}/{keys[binary]}"
    return template


def deploy(order: dict, template: dict, s3) -> dict[str, str]:
    """Creates the stack and returns its outputs."""
    cloudformation = client(order, "cloudformation")
    stack = order["stack_name"]
    declared = template.get("Parameters") or {}
    unknown = sorted(set(order["parameters"]) - set(declared))
    if unknown:
        raise DeployError(f"the template does not declare the parameters {', '.join(unknown)}")
    # From a bucket, as `sam deploy` does: a template in the call itself may have 51,200 bytes.
    body = json.dumps(template, separators=(",", ":"), default=str).encode()
    s3.put_object(Bucket=ARTIFACT_BUCKET, Key=TEMPLATE_KEY, Body=body)
    cloudformation.create_stack(
        StackName=stack,
        TemplateURL=f"{order['endpoint_url']}/{ARTIFACT_BUCKET}/{TEMPLATE_KEY}",
        Parameters=[
            {"ParameterKey": name, "ParameterValue": value}
            for name, value in order["parameters"].items()
        ],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    deadline = time.monotonic() + DEPLOY_LIMIT_SECONDS
    while True:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
        status = found["StackStatus"]
        if status == "CREATE_COMPLETE":
            return {
                output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])
            }
        if status != "CREATE_IN_PROGRESS":
            raise DeployError(f"the stack ended in {status}:\n{failures(cloudformation, stack)}")
        if time.monotonic() > deadline:
            raise DeployError(f"the stack was not ready after {DEPLOY_LIMIT_SECONDS} s")
        time.sleep(STATUS_POLL_SECONDS)


def failures(cloudformation, stack: str) -> str:
    """The reasons CloudFormation noted, oldest first."""
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    lines = [
        f"  {event['LogicalResourceId']} ({event.get('ResourceType', '?')}): "
        f"{event['ResourceStatusReason']}"
        for event in reversed(events)
        if event.get("ResourceStatusReason") and "FAILED" in event.get("ResourceStatus", "")
    ]
    return "\n".join(lines) or "  (no reason was noted; see the emulator's log)"


if __name__ == "__main__":
    try:
        main()
    except (DeployError, OSError, botocore.exceptions.BotoCoreError) as error:
        sys.exit(str(error))
    except botocore.exceptions.ClientError as error:
        sys.exit(f"the emulator refused the deployment: {error}")
