from __future__ import annotations

import mmap
import os
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shm
from calls import add_sub, error_of, outputs, tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from live_server import LiveServer

INVALID = "StatusCode.INVALID_ARGUMENT"
OBJECTS = "/dev/shm"  # noqa: S108  # where the kernel keeps such objects


class Region:
    """A region made by the public client's own library, registered with a server."""

    def __init__(self, client: triton.InferenceServerClient, size: int) -> None:
        self.name = f"region-{uuid.uuid4().hex[:8]}"
        self.key = f"/jt{uuid.uuid4().hex[:12]}"
        self.size = size
        self.handle = shm.create_shared_memory_region(self.name, self.key, size)
        self.client = client

    def register(self, **options: Any) -> None:
        """Tell the server."""
        size = options.pop("size", self.size)
        self.client.register_system_shared_memory(self.name, self.key, size, **options)

    def close(self) -> None:
        """Undo everything."""
        self.client.unregister_system_shared_memory(self.name)
        shm.destroy_shared_memory_region(self.handle)


@pytest.fixture
def regions(client: triton.InferenceServerClient) -> Iterator[Callable[[int], Region]]:
    """Make regions that end with the test."""
    made: list[Region] = []

    def make(size: int) -> Region:
        made.append(Region(client, size))
        return made[-1]

    yield make
    for region in made:
        region.close()


def shared(name: str, region: Region, array: Any, offset: int = 0, **options: Any) -> Any:
    """Return an input whose bytes are in a region."""
    shm.set_shared_memory_region(region.handle, [array], offset=offset)
    given = triton.InferInput(name, list(array.shape), "INT32")
    given.set_shared_memory(region.name, array.nbytes, offset, **options)
    return given


ONES = np.ones((1, 16), np.int32)


def test_inputs(client: triton.InferenceServerClient, regions: Callable[[int], Region]) -> None:
    """Inputs are read from a region."""
    region = regions(128)
    region.register()
    values = np.arange(16, dtype=np.int32)[None]
    inputs = [shared("INPUT0", region, values), shared("INPUT1", region, ONES, 64)]
    np.testing.assert_array_equal(values + 1, client.infer("simple", inputs).as_numpy("OUTPUT0"))


def test_one_input_in_a_region_and_one_not(
    client: triton.InferenceServerClient, regions: Callable[[int], Region]
) -> None:
    """Raw contents are for the others only."""
    region = regions(64)
    region.register()
    inputs = [shared("INPUT0", region, ONES), tensor("INPUT1", ONES * 4)]
    np.testing.assert_array_equal(ONES * -3, client.infer("simple", inputs).as_numpy("OUTPUT1"))


def test_outputs(client: triton.InferenceServerClient, regions: Callable[[int], Region]) -> None:
    """Outputs are written to a region, and the reply has their shape."""
    region = regions(128)
    region.register()
    asked = outputs("OUTPUT0", "OUTPUT1")
    asked[0].set_shared_memory(region.name, 64)
    asked[1].set_shared_memory(region.name, 64, 64)
    result = client.infer("simple", add_sub(), outputs=asked)
    response = result.get_output("OUTPUT1")
    got = shm.get_contents_as_numpy(region.handle, np.int32, list(response.shape), offset=64)
    np.testing.assert_array_equal(np.arange(16, dtype=np.int32)[None] - 1, got)


def test_the_entry_of_such_an_output_is_empty(
    client: triton.InferenceServerClient, regions: Callable[[int], Region]
) -> None:
    """There is an entry for each output, empty where the tensor is elsewhere."""
    region = regions(64)
    region.register()
    asked = outputs("OUTPUT0", "OUTPUT1")
    asked[0].set_shared_memory(region.name, 64)
    response = client.infer("simple", add_sub(), outputs=asked).get_response()
    assert [0, 64] == [len(entry) for entry in response.raw_output_contents]


def test_a_larger_batch(
    client: triton.InferenceServerClient, regions: Callable[[int], Region]
) -> None:
    """Several rows go through one region."""
    region = regions(1024)
    region.register()
    values = np.arange(128, dtype=np.int32).reshape(8, 16)
    inputs = [shared("INPUT0", region, values), shared("INPUT1", region, values, 512)]
    got = client.infer("simple", inputs).as_numpy("OUTPUT0")
    np.testing.assert_array_equal(values * 2, got)


def test_texts(client: triton.InferenceServerClient, regions: Callable[[int], Region]) -> None:
    """BYTES are read from a region in their raw form."""
    from tritonclient.utils import serialize_byte_tensor  # noqa: PLC0415

    texts = np.array([[b"a", b"", b"long"]], object)
    raw = serialize_byte_tensor(texts).item()
    region = regions(len(raw))
    region.register()
    shm.set_shared_memory_region(region.handle, [np.frombuffer(raw, np.uint8)])
    given = triton.InferInput("INPUT0", [1, 3], "BYTES")
    given.set_shared_memory(region.name, len(raw))
    got = client.infer("simple_identity", [given]).as_numpy("OUTPUT0")
    assert [b"a", b"", b"long"] == got.ravel().tolist()


def test_status(client: triton.InferenceServerClient, regions: Callable[[int], Region]) -> None:
    """What is registered is listed."""
    region = regions(256)
    region.register(offset=64, size=128)
    listed = client.get_system_shared_memory_status().regions[region.name]
    assert (region.name, region.key, 64, 128) == (
        listed.name,
        listed.key,
        listed.offset,
        listed.byte_size,
    )


def test_status_of_one(
    client: triton.InferenceServerClient, regions: Callable[[int], Region]
) -> None:
    """One may be asked for by name."""
    first, second = regions(64), regions(64)
    first.register()
    second.register()
    assert [first.name] == list(client.get_system_shared_memory_status(first.name).regions)


def test_status_of_an_unknown_region(client: triton.InferenceServerClient) -> None:
    """It is NOT_FOUND."""
    status, message = error_of(client.get_system_shared_memory_status, "nowhere")
    assert "StatusCode.NOT_FOUND" == status
    assert "Unable to find system shared memory region: 'nowhere'" in message


def test_registered_twice(regions: Callable[[int], Region]) -> None:
    """A name is taken once."""
    region = regions(64)
    region.register()
    status, message = error_of(region.register)
    assert "StatusCode.ALREADY_EXISTS" == status
    assert f"shared memory region '{region.name}' already in manager" in message


def test_unknown_key(client: triton.InferenceServerClient) -> None:
    """An object that is not there is NOT_FOUND here, in Triton's words."""
    status, message = error_of(
        client.register_system_shared_memory, "lost", "/jitney-not-there", 64
    )
    assert "StatusCode.NOT_FOUND" == status
    assert "Unable to open shared memory region: '/jitney-not-there'" in message


@pytest.mark.parametrize(
    "key",
    ["/../etc/passwd", "/a/b", "..", "", "/", "/..", "jt\x00x", "/" + "x" * 300],
    ids=["up", "folder", "dots", "empty", "slash", "slash dots", "nul", "long"],
)
def test_keys_that_are_no_names(client: triton.InferenceServerClient, key: str) -> None:
    """Nothing but a plain name of a shared memory object is opened."""
    status, _ = error_of(client.register_system_shared_memory, "bad", key, 64)
    assert status in {INVALID, "StatusCode.NOT_FOUND"}
    assert "bad" not in client.get_system_shared_memory_status().regions


def test_links_are_not_followed(client: triton.InferenceServerClient, tmp_path: Path) -> None:
    """A link among the shared memory objects leads nowhere."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(64))
    link = f"{OBJECTS}/jt{uuid.uuid4().hex[:8]}"
    os.symlink(secret, link)  # noqa: PTH211
    try:
        status, _ = error_of(
            client.register_system_shared_memory, "link", link.removeprefix(OBJECTS), 64
        )
    finally:
        os.unlink(link)  # noqa: PTH108
    assert status in {INVALID, "StatusCode.NOT_FOUND"}


@pytest.mark.parametrize(("size", "offset"), [(65, 0), (64, 1), (1 << 62, 0), (1, 1 << 62)])
def test_more_than_there_is(regions: Callable[[int], Region], size: int, offset: int) -> None:
    """A region ends where its object does."""
    region = regions(64)
    status, message = error_of(region.register, size=size, offset=offset)
    assert INVALID == status
    assert f"failed to register shared memory region '{region.name}': invalid args" in message


def test_unregister(client: triton.InferenceServerClient, regions: Callable[[int], Region]) -> None:
    """What was unregistered is not listed, and cannot be used."""
    region = regions(128)
    region.register()
    client.unregister_system_shared_memory(region.name)
    assert region.name not in client.get_system_shared_memory_status().regions
    inputs = [shared("INPUT0", region, ONES), tensor("INPUT1", ONES)]
    status, message = error_of(client.infer, "simple", inputs)
    assert "StatusCode.NOT_FOUND" == status
    assert f"Unable to find shared memory region: '{region.name}'" in message


def test_unregister_what_is_not_there(client: triton.InferenceServerClient) -> None:
    """It is no error."""
    client.unregister_system_shared_memory("nowhere")


def test_unregister_all(public_models: Path, start: Callable[..., LiveServer]) -> None:
    """Without a name, all are unregistered."""
    import shutil  # noqa: PLC0415

    few = public_models.parent / f"few-{uuid.uuid4().hex[:6]}"
    shutil.copytree(public_models / "simple", few / "simple")
    live = start(few, "--allow-client-shm", "true")
    with triton.InferenceServerClient(live.address) as client:
        region = Region(client, 64)
        region.register()
        client.unregister_system_shared_memory()
        assert {} == dict(client.get_system_shared_memory_status().regions)
        region.close()


@pytest.mark.parametrize(
    ("offset", "size", "text"),
    [
        (64, 64, "Invalid offset for shared memory region"),
        (32, 64, "Invalid offset + byte size for shared memory region"),
        (1 << 40, 64, "Invalid offset for shared memory region"),
    ],
)
def test_beyond_the_region(
    client: triton.InferenceServerClient,
    regions: Callable[[int], Region],
    offset: int,
    size: int,
    text: str,
) -> None:
    """A request stays within what was registered."""
    region = regions(128)
    region.register(size=64)
    given = triton.InferInput("INPUT0", [1, 16], "INT32")
    given.set_shared_memory(region.name, size, offset)
    status, message = error_of(client.infer, "simple", [given, tensor("INPUT1", ONES)])
    assert (INVALID, True) == (status, f"{text}: '{region.name}'" in message)


def test_too_few_bytes(
    client: triton.InferenceServerClient, regions: Callable[[int], Region]
) -> None:
    """The size that a request gives is that of the tensor."""
    region = regions(64)
    region.register()
    given = triton.InferInput("INPUT0", [1, 16], "INT32")
    given.set_shared_memory(region.name, 60)
    message = error_of(client.infer, "simple", [given, tensor("INPUT1", ONES)])[1]
    assert "Expected 64, got 60" in message


def test_no_room_for_an_output(
    client: triton.InferenceServerClient, regions: Callable[[int], Region]
) -> None:
    """An output that does not fit is an error of that request."""
    region = regions(64)
    region.register()
    asked = outputs("OUTPUT0")
    asked[0].set_shared_memory(region.name, 60)
    status, message = error_of(client.infer, "simple", add_sub(), outputs=asked)
    assert INVALID == status
    assert "OUTPUT0" in message


def test_a_shrunk_object(
    client: triton.InferenceServerClient, regions: Callable[[int], Region]
) -> None:
    """An object that its owner cut off is an error of that request, and the server lives on."""
    region = regions(mmap.PAGESIZE * 2)
    region.register()
    given = triton.InferInput("INPUT0", [1, 16], "INT32")
    given.set_shared_memory(region.name, 64, mmap.PAGESIZE)
    os.truncate(f"{OBJECTS}{region.key}", 0)
    status, _ = error_of(client.infer, "simple", [given, tensor("INPUT1", ONES)])
    assert INVALID == status
    os.truncate(f"{OBJECTS}{region.key}", region.size)
    assert client.is_server_live()


def test_classes_do_not_go_to_a_region(
    client: triton.InferenceServerClient, regions: Callable[[int], Region]
) -> None:
    """The client itself refuses both; so does the server."""
    region = regions(64)
    region.register()
    asked = outputs("OUTPUT0", class_count=1)
    try:
        asked[0].set_shared_memory(region.name, 64)
    except Exception:  # noqa: BLE001  # the client's own
        return
    assert INVALID == error_of(client.infer, "simple", add_sub(), outputs=asked)[0]


def test_a_stream_through_a_region(server: LiveServer, regions: Callable[[int], Region]) -> None:
    """Streams use regions as single calls do."""
    from waiting import Stream  # noqa: PLC0415

    region = regions(128)
    region.register()
    with Stream(server.address) as stream:
        for i in range(10):
            inputs = [shared("INPUT0", region, ONES * i), tensor("INPUT1", ONES)]
            stream.send("simple", inputs)
            assert i + 1 == stream.reply().as_numpy("OUTPUT0")[0, 0]


# -- CUDA regions -------------------------------------------------------------------------------


def test_cuda_regions_are_refused_by_name(client: triton.InferenceServerClient) -> None:
    """The server's process has no CUDA."""
    import base64  # noqa: PLC0415

    handle = base64.b64encode(bytes(64))
    status, message = error_of(client.register_cuda_shared_memory, "gpu", handle, 0, 64)
    assert INVALID == status
    assert "failed to register shared memory region 'gpu': invalid args" in message


def test_cuda_status_is_empty(client: triton.InferenceServerClient) -> None:
    """There never is one."""
    assert {} == dict(client.get_cuda_shared_memory_status().regions)


def test_cuda_unregister(client: triton.InferenceServerClient) -> None:
    """perf_analyzer unregisters both kinds, whatever it uses."""
    client.unregister_cuda_shared_memory()
    client.unregister_cuda_shared_memory("gpu")


# -- switched off -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def closed(
    public_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[triton.InferenceServerClient]:
    """Return a client of a server that takes no shared memory, as is the default."""
    import shutil  # noqa: PLC0415

    from live_server import LiveServer  # noqa: PLC0415

    root = tmp_path_factory.mktemp("closed")
    shutil.copytree(public_models / "simple", root / "simple")
    log = tmp_path_factory.mktemp("log") / "log"
    with LiveServer(root, log) as live, triton.InferenceServerClient(live.address) as client:
        yield client


@pytest.mark.parametrize("kind", ["system", "cuda"])
def test_while_off_nothing_is_registered(closed: triton.InferenceServerClient, kind: str) -> None:
    """Register and unregister are not there; status is empty."""
    arguments = ("r", "/x", 64) if kind == "system" else ("r", b"", 0, 64)
    register = getattr(closed, f"register_{kind}_shared_memory")
    unregister = getattr(closed, f"unregister_{kind}_shared_memory")
    for call, given in ((register, arguments), (unregister, ("r",))):
        status, message = error_of(call, *given)
        assert "StatusCode.UNIMPLEMENTED" == status
        assert "Client shared memory is disabled" in message
    assert {} == dict(getattr(closed, f"get_{kind}_shared_memory_status")().regions)


def test_while_off_requests_cannot_use_it(closed: triton.InferenceServerClient) -> None:
    """Nor can a request."""
    given = triton.InferInput("INPUT0", [1, 16], "INT32")
    given.set_shared_memory("r", 64)
    status, message = error_of(closed.infer, "simple", [given, tensor("INPUT1", ONES)])
    assert status in {"StatusCode.UNIMPLEMENTED", INVALID}
    assert "Client shared memory is disabled" in message
