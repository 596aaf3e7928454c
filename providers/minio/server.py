"""How providers reach MinIO: one client for its S3 and admin APIs, and the reading of its errors.

Errors: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; MinIO's own start with XMinio.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from providers.base import Args, Provider
from providers.connection import (
    CredentialsError,
    MinioConnection,
    ResultT,
    Server,
    UnreachableError,
    plain,
    reachable,
)

if TYPE_CHECKING:
    from minio import Minio, MinioAdmin

CONNECT_SECONDS: Final = 3.0
UNKNOWN_CALLER: Final = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})
REFUSED: Final = UNKNOWN_CALLER | {"AccessDenied"}
NOT_READY: Final = frozenset({"XMinioServerNotInitialized", "ServiceUnavailable", "SlowDown", "502", "503", "504"})

MinioArgsT = TypeVar("MinioArgsT", bound=Args[MinioConnection])


class MinioClient:
    """MinIO as one of its users sees it."""

    def __init__(self, connection: MinioConnection, timeout: float) -> None:
        from minio import Minio, MinioAdmin
        from minio.credentials.providers import StaticProvider
        from urllib3 import PoolManager, Timeout

        self._connection = connection
        self._timeout = timeout
        url = urlsplit(reachable(connection["url"], connection.get("via")))
        access_key, secret_key = connection["access_key"], plain(connection["secret_key"])
        secure = url.scheme == "https"
        trusted = ssl.create_default_context()
        if "ca_bundle" in connection:
            trusted.load_verify_locations(connection["ca_bundle"])
        pool = PoolManager(
            timeout=Timeout(connect=min(timeout, CONNECT_SECONDS), read=timeout),
            retries=False,
            maxsize=1,
            ssl_context=trusted,
        )
        self.s3: Minio = Minio(
            endpoint=url.netloc,
            access_key=access_key,
            secret_key=secret_key,
            secure=secure,
            region=connection.get("region"),
            http_client=pool,
        )
        self.admin: MinioAdmin = MinioAdmin(
            endpoint=url.netloc,
            credentials=StaticProvider(access_key, secret_key),
            secure=secure,
            http_client=pool,
        )

    def signed_in(self, access_key: str, secret_key: str) -> MinioClient:
        """Return the same server as another user sees it."""
        connection: MinioConnection = {**self._connection, "access_key": access_key, "secret_key": secret_key}
        return MinioClient(connection, self._timeout)

    def lets_in(self, access_key: str, secret_key: str) -> bool:
        """Return whether the server knows this pair, whatever it may do."""
        from minio.error import S3Error

        try:
            self.signed_in(access_key, secret_key).s3.list_buckets()
        except S3Error as error:
            if code(error) in UNKNOWN_CALLER:
                return False
            if code(error) not in REFUSED:
                raise
        return True


class MinioServer(Server[MinioConnection, MinioClient]):
    """MinIO, or a server that speaks its S3 and admin APIs."""

    title = "MinIO"

    @contextmanager
    def session(self, connection: MinioConnection, timeout: float) -> Iterator[MinioClient]:
        """Yield a client; see Server.session."""
        from minio.error import MinioAdminException, S3Error, ServerError
        from urllib3.exceptions import HTTPError

        try:
            yield MinioClient(connection, timeout)
        except HTTPError as error:
            raise UnreachableError(type(error).__name__) from None
        except (MinioAdminException, S3Error, ServerError) as error:
            if code(error) in NOT_READY:
                raise UnreachableError(code(error)) from None
            if code(error) in REFUSED:
                raise CredentialsError(code(error)) from None
            raise


class MinioProvider(Provider[MinioArgsT, MinioConnection, MinioClient]):
    """The lifecycle of a resource in MinIO."""

    server = MinioServer()


def unless(codes: set[str], call: Callable[[], ResultT]) -> ResultT | None:
    """Return what `call` returns, or None where the server answers with one of the error codes."""
    try:
        return call()
    except Exception as error:
        if code(error) in codes:
            return None
        raise


def code(error: Exception) -> str:
    """Return the code of an S3 (`NoSuchBucket`) or admin error (`XMinioAdminNoSuchUser`), or the status."""
    from minio.error import MinioAdminException, S3Error, ServerError

    if isinstance(error, S3Error):
        return error.code or ""
    if isinstance(error, ServerError):
        return str(error.status_code)
    if isinstance(error, MinioAdminException):
        try:
            return str(json.loads(error._body)["Code"])
        except (ValueError, KeyError, TypeError):
            return str(error._code)
    return ""
