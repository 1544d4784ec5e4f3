"""Files of any size to and from the bucket, in parts: never more than a few of them in memory."""

from pathlib import Path
from typing import TYPE_CHECKING

from boto3.exceptions import RetriesExceededError, S3UploadFailedError
from boto3.s3.transfer import TransferConfig

from kaizen.registry.store import Bucket

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["download", "upload"]

PART_BYTES = 16 * 2**20
UNVERSIONED = "null"
"""What S3 calls the version of an object that was written before its bucket kept versions."""
CONFIG = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=2)


def upload(bucket: Bucket, path: Path, key: str) -> None:
    """Write a file's content whatever is there.  Raises BucketError, and OSError where the file cannot be read."""

    def uploaded(client: "S3Client") -> None:
        try:
            client.upload_file(str(path), bucket.settings.name, bucket.settings.key(key), Config=CONFIG)
        except S3UploadFailedError as problem:
            # Its cause is what the bucket's errors are explained by.
            raise (problem.__cause__ or problem.__context__ or problem) from None

    bucket.call(uploaded, key)


def download(bucket: Bucket, key: str, path: Path, version: str | None = None) -> str | None:
    """Write an object's content to a file; returns its version where the bucket keeps versions.

    `version` asks for that one instead of the newest.  Raises BucketError, and OSError where the file cannot be written.
    """

    def downloaded(client: "S3Client") -> str | None:
        name, full = bucket.settings.name, bucket.settings.key(key)
        if version is None:
            head = client.head_object(Bucket=name, Key=full)
        else:
            head = client.head_object(Bucket=name, Key=full, VersionId=version)
        found = head.get("VersionId")
        kept = found if found and found != UNVERSIONED else None
        try:
            client.download_file(name, full, str(path), ExtraArgs={"VersionId": kept} if kept else None, Config=CONFIG)
        except RetriesExceededError as problem:
            raise vars(problem)["last_exception"] from None  # boto3's types do not know it
        return kept

    return bucket.call(downloaded, key)
