"""deploy/s3: each role can do its work and nothing else, on a server that knows who asks; S3's own model of the rest.

Moto enforces actions and resources. It knows no conditions: they are compared with the requests that were sent.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("obstore", reason="pip install -c constraints.txt -e '.[test]'")
pytest.importorskip("moto.server", reason="pip install -c constraints.txt -e '.[test]'")

import boto3
import yaml
from botocore.exceptions import ClientError, ParamValidationError

from tegakari.schemas.errors import ObjectStorageError
from tegakari.store.objects import creation as creation_module
from tegakari.store.objects.bucket import RIGHTS, Bucket, Retry
from tegakari.store.objects.published_runs import abandoned_uploads, delete_published_run, delete_upload, published_runs
from tegakari.store.objects.pull import pull_run
from tegakari.store.objects.push import push_run
from tegakari.store.objects.verify import damaged_objects
from tests.support.object_storage import Proxy, make_plain_run, s3_server

S3 = Path(__file__).parents[2] / "deploy" / "s3"
NAME, URL = "our-bucket", "s3://our-bucket/tegakari"
"""Names of the policies, which are used as they are."""

REGION = "eu-central-1"
ROLES = {
    "reader": ("reading",),
    "publisher": ("reading", "publishing"),
    "deleter": ("reading", "deleting"),
    "nobody": (),
}
"""Role -> its policies, as docs/object-storage.md has them."""

As = Callable[..., AbstractContextManager[Bucket]]


def document(name: str) -> dict[str, Any]:
    return json.loads((S3 / f"{name}.json").read_text(encoding="utf-8"))


def narrowed(statement: dict[str, Any], without: str) -> dict[str, Any]:
    """A statement for moto: without its condition, and without a right."""
    actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
    left = [action for action in actions if action != without or statement["Effect"] == "Deny"]
    return {**statement, "Action": left or ["s3:GetBucketLocation"], "Condition": {}}


def policy_of(statements: list[dict[str, Any]]) -> str:
    nothing = {"Effect": "Allow", "Action": "s3:GetBucketLocation", "Resource": f"arn:aws:s3:::{NAME}"}
    return json.dumps({"Version": "2012-10-17", "Statement": statements or [nothing]})


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    """Before a server with our bucket."""
    with s3_server() as endpoint:
        proxy = Proxy(endpoint)
        client("s3", proxy).create_bucket(Bucket=NAME, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield proxy
        proxy.close()


def client(service: Any, proxy: Proxy) -> Any:
    """Of the account's owner, while the server asks nobody for rights."""
    return boto3.client(
        service, endpoint_url=proxy.address, region_name=REGION, aws_access_key_id="owner", aws_secret_access_key="-"
    )


@pytest.fixture
def acting(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> As:
    """Be a role during a block, with rights that the server enforces."""
    monkeypatch.setattr(creation_module, "CREATION_SECONDS", 0.01)
    iam = client("iam", proxy)

    @contextmanager
    def acting(role: str, *, without: str = "") -> Iterator[Bucket]:
        user = f"{role}-{os.urandom(4).hex()}"
        iam.create_user(UserName=user)
        statements = [statement for name in ROLES[role] for statement in document(name)["Statement"]]
        statements = [narrowed(statement, without) for statement in statements]
        # Moto asks for the right to delete objects at the bucket, and for each object at the policy of the bucket only.
        denied = [{**statement, "Principal": "*"} for statement in statements if statement["Effect"] == "Deny"]
        for statement in statements:
            if statement["Effect"] == "Allow" and "s3:DeleteObject" in statement["Action"]:
                statement["Resource"] = [statement["Resource"], f"arn:aws:s3:::{NAME}"]
        iam.put_user_policy(UserName=user, PolicyName=role, PolicyDocument=policy_of(statements))
        s3 = client("s3", proxy)
        s3.delete_bucket_policy(Bucket=NAME)
        if denied:
            s3.put_bucket_policy(Bucket=NAME, Policy=policy_of(denied))
        key = iam.create_access_key(UserName=user)["AccessKey"]
        variables = {
            "AWS_ENDPOINT_URL": proxy.address,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_SERVER_SIDE_ENCRYPTION": "aws:kms",
        }
        from moto import settings

        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            patch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
            yield Bucket(URL, Retry(seconds=5, attempts=2, wait=0.005, longest_wait=0.02, silence=5))

    return acting


@contextmanager
def refused(action: str) -> Iterator[None]:
    """The block ends with an error that names the right that is missing."""
    with pytest.raises(ObjectStorageError, match=f"no right to {action} {URL}") as caught:
        yield
    assert f"grant {RIGHTS[action]} on arn:aws:s3:::{NAME}" in str(caught.value.fix)


def names(bucket: Bucket) -> list[str]:
    return [run.manifest.run for run in published_runs(bucket)]


def test_each_role_does_its_work_and_nothing_else(acting: As, proxy: Proxy, tmp_path: Path):
    store = tmp_path / "store"
    for name in ("first", "second"):
        make_plain_run(store, name)
    proxy.set_faults()
    with acting("publisher") as bucket:
        push_run(bucket, store, "first")
        assert names(bucket) == ["first"]
        bucket.create("runs/third/lost/file", b"of a publisher that lost a race")
        delete_upload(bucket, "third", "lost")
        assert not list(bucket.objects("runs/third"))
        with refused("delete"):
            delete_published_run(bucket, "first")
        with refused("write"):
            bucket.create("other/file", b"")
    with acting("reader") as bucket:
        assert names(bucket) == ["first"]
        assert damaged_objects(bucket, "first") == []
        pull_run(bucket, "first", tmp_path / "pulled")
        assert list(abandoned_uploads(bucket)) == []
        with refused("write"):
            push_run(bucket, store, "second")
        with refused("delete"):
            delete_published_run(bucket, "first")
    with acting("nobody") as bucket:
        with refused("list"):
            names(bucket)
        with refused("read"):
            pull_run(bucket, "first", tmp_path / "other")
    with acting("deleter") as bucket:
        with refused("write"):
            push_run(bucket, store, "second")
        delete_published_run(bucket, "first")
        assert names(bucket) == []
    check_conditions(proxy)


def check_conditions(proxy: Proxy) -> None:
    """The requests that were sent fulfil the conditions that moto does not know."""
    (listing,) = [statement for statement in document("reading")["Statement"] if "Condition" in statement]
    patterns = listing["Condition"]["StringLike"]["s3:prefix"]
    prefixes, entries, uploads = [], [], []
    for request in proxy.requests:
        address = urlsplit(request.path)
        query = parse_qs(address.query, keep_blank_values=True)
        if request.method == "GET" and address.path.strip("/") == NAME:
            prefixes += query["prefix"]
        if request.method == "PUT" and address.path.startswith(f"/{NAME}/tegakari/"):
            is_entry = re.fullmatch(rf"/{NAME}/tegakari/runs/\w+/run\.json", address.path)
            (entries if is_entry else uploads).append(request)
    assert len(prefixes) > 4
    assert entries
    assert len(uploads) > len(entries)
    for prefix in prefixes:
        assert any(fnmatchcase(prefix, pattern) for pattern in patterns), prefix
    for request in entries:
        assert request.headers["if-none-match"] == "*", "statement RunsAppearOnce"
    for request in [*entries, *uploads]:
        assert request.headers["x-amz-server-side-encryption"] == "aws:kms", "statement NoOtherEncryption"


@pytest.mark.parametrize(
    ("role", "right", "action"),
    [
        ("reader", "s3:ListBucket", "list"),
        ("reader", "s3:GetObject", "read"),
        ("publisher", "s3:PutObject", "write"),
        ("publisher", "s3:DeleteObject", "delete"),
        ("deleter", "s3:DeleteObject", "delete"),
    ],
)
def test_a_role_needs_each_of_its_rights(acting: As, proxy: Proxy, tmp_path: Path, role: str, right: str, action: str):
    run = f"{role}-{action}"
    make_plain_run(tmp_path / "store", run)
    with acting("publisher") as bucket:
        if role != "publisher":
            push_run(bucket, tmp_path / "store", run)
    with acting(role, without=right) as bucket, refused(action):
        match role:
            case "reader":
                published_runs(bucket)
                pull_run(bucket, run, tmp_path / "pulled")
            case "publisher":
                push_run(bucket, tmp_path / "store", run)
                bucket.create("runs/third/lost/file", b"of a publisher that lost a race")
                delete_upload(bucket, "third", "lost")
            case _:
                delete_published_run(bucket, run)


PUT: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "bucket-policy": lambda s3, content: s3.put_bucket_policy(Bucket=NAME, Policy=json.dumps(content)),
    "encryption": lambda s3, content: s3.put_bucket_encryption(Bucket=NAME, ServerSideEncryptionConfiguration=content),
    "lifecycle": lambda s3, content: s3.put_bucket_lifecycle_configuration(Bucket=NAME, LifecycleConfiguration=content),
}


@pytest.mark.parametrize("name", PUT)
def test_s3_accepts_the_settings_of_the_bucket(proxy: Proxy, name: str):
    """Names and types by Amazon's own model of the API."""
    s3 = client("s3", proxy)
    s3.get_waiter("bucket_exists").wait(Bucket=NAME)
    PUT[name](s3, document(name))
    if name != "bucket-policy":
        misspelt = json.loads((S3 / f"{name}.json").read_text(encoding="utf-8").replace("Rules", "Rule"))
        with pytest.raises(ParamValidationError):
            PUT[name](s3, misspelt)
    else:
        s3.delete_bucket_policy(Bucket=NAME)


def test_iam_accepts_the_policies_and_the_role(proxy: Proxy):
    iam = client("iam", proxy)
    for name in ("reading", "publishing", "indexing", "deleting"):
        iam.create_policy(PolicyName=name, PolicyDocument=json.dumps(document(name)))
        mistaken = json.dumps(document(name)).replace('"Effect"', '"Efect"')
        with pytest.raises(ClientError, match="MalformedPolicyDocument"):
            iam.create_policy(PolicyName=f"{name}-mistaken", PolicyDocument=mistaken)
    iam.create_role(RoleName="tegakari-serve", AssumeRolePolicyDocument=json.dumps(document("trust-policy")))


def test_the_role_is_that_of_the_service_account():
    (statement,) = document("trust-policy")["Statement"]
    (account,) = [value for key, value in statement["Condition"]["StringEquals"].items() if key.endswith(":sub")]
    text = (S3.parent / "kubernetes" / "serve" / "service-account.yaml").read_text(encoding="utf-8")
    manifest = yaml.safe_load(text)
    assert account == f"system:serviceaccount:tegakari:{manifest['metadata']['name']}"
    assert manifest["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].endswith(":role/tegakari-serve")
    names = {file.stem for file in S3.glob("*.json")}
    assert names == {*PUT, "reading", "publishing", "indexing", "deleting", "trust-policy"}
