"""What an S3 server answers, as the store tells it."""

import errno
import traceback

import pytest

from fedcore import object_store
from fedcore.object_store import NameDenied, StoreUnreachable, explained
from fedcore.store import Store


class Answered(Exception):
    """An answer as botocore has it."""

    def __init__(self, code):
        super().__init__(f"An error occurred ({code})")
        self.response = {"Error": {"Code": code, "Message": "signed with s3cret"}}


class FakeServer:
    """Says one code after the other, then yes."""

    protocol = ("s3", "s3a")

    def __init__(self, *codes):
        self.codes, self.asked = list(codes), []

    def pipe_file(self, path, data, mode, chunksize):
        self.asked.append(mode)
        self._answer()

    def cat_file(self, path, start, end):
        self.asked.append((start, end))
        self._answer()
        return b"data"

    def _answer(self):
        if self.codes:  # as s3fs passes it on
            raise OSError(errno.EIO, "some text") from Answered(self.codes.pop(0))


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("AccessDenied", NameDenied, "credentials do not allow it; docs/mailbox.md"),
        ("403", NameDenied, "credentials do not allow it"),
        ("PreconditionFailed", FileExistsError, "the name is taken"),
        ("412", FileExistsError, "the name is taken"),
        ("SlowDown", StoreUnreachable, r"busy \(SlowDown\); try again later"),
        ("503", StoreUnreachable, r"busy \(503\)"),
        ("InternalError", StoreUnreachable, r"busy \(InternalError\)"),
        ("NoSuchBucket", OSError, "no such bucket; make it, or mend the URL"),
        ("SignatureDoesNotMatch", OSError, "does not accept the credentials .* renew AWS_ACCESS"),
        ("EntityTooLarge", OSError, "the server says EntityTooLarge; see its log"),
        ("<b>s3cret</b>", OSError, r"the server says \?; see its log"),
    ],
)
def test_an_error_says_what_where_and_the_way_out(code, kind, message):
    with (
        pytest.raises(kind, match=f"^cannot read box/a: .*{message}") as raised,
        explained("read", "box/a"),
    ):
        FakeServer(code).cat_file("box/a", 0, 1)
    assert type(raised.value) is kind and "s3cret" not in str(raised.value)


def test_silence_and_missing_credentials_are_told_apart():
    botocore = pytest.importorskip("botocore.exceptions")
    for error, kind, message in (
        (botocore.EndpointConnectionError(endpoint_url="u"), StoreUnreachable, "AWS_ENDPOINT_URL"),
        (botocore.ReadTimeoutError(endpoint_url="u"), StoreUnreachable, "no answer"),
        (TimeoutError(), StoreUnreachable, "no answer"),
        (botocore.NoCredentialsError(), OSError, "no credentials; set AWS_ACCESS_KEY_ID"),
    ):
        with pytest.raises(kind, match=message), explained("read", "box/a"):
            raise error
    with pytest.raises(KeyError), explained("read", "box/a"):
        raise KeyError("a mistake of ours")


def test_a_conflict_is_tried_again_and_a_taken_name_is_not():
    server = FakeServer("ConditionalRequestConflict", "PreconditionFailed", "never asked")
    with pytest.raises(FileExistsError):
        object_store.write(server, "box/a", b"x", exclusive=True)
    assert server.asked == ["create", "create"]


def test_an_empty_object_has_no_first_byte_and_a_missing_one_is_missing():
    assert object_store.read_start(FakeServer("InvalidRange"), "box/a", 9) == b""
    assert object_store.read_start(server := FakeServer(), "box/a", 9) == b"data"
    assert server.asked == [(0, 9)]


def test_a_backend_that_is_not_installed_is_told():
    with pytest.raises(ImportError, match=r"url='gs://box' needs a package .*fedloom\[s3\]"):
        Store("gs://box")


@pytest.mark.slow
@pytest.mark.xdist_group("s3")
def test_no_secret_is_in_an_error(s3, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-of-this-test")
    with pytest.raises(OSError, match="cannot write nowhere/a: there is no such bucket") as raised:
        Store("s3://nowhere").write("a", b"x")
    told = "".join(traceback.format_exception(raised.value))
    assert "s3cret-of-this-test" not in told


@pytest.mark.slow
@pytest.mark.xdist_group("s3")
def test_s3_is_asked_for_no_more_than_the_bound_and_in_one_conditional_put(s3, monkeypatch):
    store, calls = Store(f"{s3}/asked"), []
    call = type(store.fs)._call_s3

    def recorded(self, method, *args, **kwargs):
        calls.append((method, kwargs.get("Range"), kwargs.get("IfNoneMatch")))
        return call(self, method, *args, **kwargs)

    monkeypatch.setattr(type(store.fs), "_call_s3", recorded)
    store.write("a", bytes(101 * 2**20), exclusive=True)  # s3fs sends parts from 100 MB on
    assert store.read_start("a", 10) == bytes(10)
    assert calls == [("put_object", None, "*"), ("get_object", "bytes=0-9", None)]
