"""Sends a tree with boto3 and fetches it again. usage: boto3_tree.py URL SOURCE BACK"""

import hashlib
import io
import pathlib
import sys

import boto3
from boto3.s3.transfer import TransferConfig

BUCKET = "boto3-bucket"
PART = 8 << 20


def etag(path):
    """What the ETag of a file is, sent in parts of that size when it is larger than one."""
    content = path.read_bytes()
    if len(content) < PART:
        return hashlib.md5(content).hexdigest()
    parts = [hashlib.md5(content[at:at + PART]).digest() for at in range(0, len(content), PART)]
    return f"{hashlib.md5(b''.join(parts)).hexdigest()}-{len(parts)}"


def listed(client):
    """The ETag of every object, two keys a page."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 2})
    return {item["Key"]: item["ETag"].strip('"') for page in pages for item in page.get("Contents", [])}


def sync(client, source):
    """Sends what is not there as it is here; how many that were."""
    there, moved = listed(client), 0
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        key = path.relative_to(source).as_posix()
        if there.get(key) != etag(path):
            config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART)
            client.upload_file(str(path), BUCKET, key, Config=config)
            moved += 1
    return moved


def put_one_after_the_other(client):
    """Two objects on one connection, the first an empty one that the server is asked for leave to send."""
    objects = {"empty": b"", "full": b"content"}
    for name, content in objects.items():
        answer = client.put_object(Bucket=BUCKET, Key=name, Body=io.BytesIO(content))
        assert answer["ETag"].strip('"') == hashlib.md5(content).hexdigest(), name
    for name in objects:
        client.delete_object(Bucket=BUCKET, Key=name)


def main():
    url, source, back = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    client = boto3.client("s3", endpoint_url=url)
    client.create_bucket(Bucket=BUCKET)
    put_one_after_the_other(client)
    first, second = sync(client, source), sync(client, source)
    keys = list(listed(client))
    for key in keys:
        (back / key).parent.mkdir(parents=True, exist_ok=True)
        client.download_file(BUCKET, key, str(back / key))
    answer = client.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in keys]})
    client.delete_bucket(Bucket=BUCKET)
    print(f"first moved {first}, second moved {second}, deleted {len(answer['Deleted'])}")


main()
