"""Regions of shared memory: what may be registered, and what goes wrong with them."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import resource
import struct
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jitney.datatypes import DataType
from jitney.errors import (
    InvalidRequest,
    JitneyError,
    NotSupported,
    RegionExists,
    RegionNotFound,
    RegionNotOpened,
)
from jitney.transport.codec import Codec
from jitney.transport.shared_memory import Location, RegionRegistry, Window
from jitney.transport.shared_memory.rpcs import SharedMemoryRpcs
from jitney.types import BatchOutputs, ModelRef, OutputTensor, Placed, Timing
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.types import Request

DISABLED = "Client shared memory is disabled"
TIMING = Timing(0, 0, 0, 0, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder in place of that of shared memory, with an object of 64 bytes."""
    (tmp_path / "object").write_bytes(bytes(range(64)))
    gc.collect()  # or descriptors of tests before are closed while this one counts its own
    return tmp_path


@pytest.fixture
def registry(folder: Path) -> RegionRegistry:
    """Return a registry that has the region ``r``: bytes 8 to 56 of the object."""
    registry = RegionRegistry(enabled=True, folder=folder)
    registry.register("r", "/object", 8, 48)
    return registry


def window(registry: RegionRegistry, offset: int = 0, size: int = 8) -> Window:
    """Return a part of the region."""
    return registry.window(Location("r", offset, size))


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


# -- registering --------------------------------------------------------------------------------


def test_a_region_is_a_part_of_an_object(registry: RegionRegistry) -> None:
    """It begins at its offset, and a window at its own within it."""
    assert bytes(range(8, 56)) == window(registry, 0, 48).read()
    assert bytes(range(18, 22)) == window(registry, 10, 4).read()
    assert ["<Region r /object+8 48 bytes>"] == [repr(r) for r in registry.regions()]
    assert "<RegionRegistry on, 1 regions>" == repr(registry)


def test_a_posix_object_is_a_region() -> None:
    """The default folder is the one of shm_open."""
    name = f"test_{uuid.uuid4().hex}"
    path = Path("/dev/shm") / name  # noqa: S108
    path.write_bytes(b"abcd")
    registry = RegionRegistry(enabled=True)
    try:
        registry.register("r", f"/{name}", 0, 4)
    finally:
        path.unlink()

    assert b"bc" == window(registry, 1, 2).read()


def test_the_leading_slash_may_be_missing(registry: RegionRegistry) -> None:
    """As with the C library's shm_open."""
    registry.register("other", "object", 0, 64)

    assert "object" == registry.regions("other")[0].key


def test_a_name_is_taken_once(registry: RegionRegistry) -> None:
    """A second registration changes nothing."""
    with pytest.raises(RegionExists) as caught:
        registry.register("r", "/object", 0, 1)

    assert "shared memory region 'r' already in manager" == str(caught.value)
    assert 48 == registry.regions("r")[0].size


def test_what_is_not_there_cannot_be_opened(folder: Path) -> None:
    """Missing objects, links, folders and pipes are all the same to a caller."""
    (folder / "link").symlink_to(folder / "object")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    registry = RegionRegistry(enabled=True, folder=folder)
    before = descriptors()
    for key in ("/missing", "/link", "/folder", "/pipe"):
        with pytest.raises(RegionNotOpened) as caught:
            registry.register("r", key, 0, 1)
        assert f"Unable to open shared memory region: '{key}'" == str(caught.value)
    assert before == descriptors()


@pytest.mark.parametrize(
    "key", ["", "/", ".", "/..", "/../object", "/a/b", "/a\0", "/a\n", "/" + "ä" * 128]
)
def test_a_key_is_a_plain_name(registry: RegionRegistry, key: str) -> None:
    """Nothing else is looked up."""
    with pytest.raises(InvalidRequest) as caught:
        registry.register("new", key, 0, 1)

    assert (
        "failed to register shared memory region 'new': invalid args (the key has to be a plain "
        "name such as /my_tensors)"
    ) == str(caught.value)


@pytest.mark.parametrize("key", ["/sem.lock", "/jitney.slot", "/torch_1_2", "/nccl-x"])
def test_what_belongs_to_others_is_not_opened(folder: Path, key: str) -> None:
    """Semaphores and what libraries keep there are no tensors, although they exist."""
    (folder / key[1:]).write_bytes(bytes(8))
    with pytest.raises(InvalidRequest) as caught:
        RegionRegistry(enabled=True, folder=folder).register("r", key, 0, 1)

    assert "keys of that beginning are in use for other things" in str(caught.value)


def test_an_operator_confines_keys(folder: Path) -> None:
    """With a prefix, only what begins with it is opened."""
    (folder / "mine").write_bytes(bytes(8))
    registry = RegionRegistry(enabled=True, prefix="mi", folder=folder)
    registry.register("r", "/mine", 0, 8)
    with pytest.raises(InvalidRequest) as caught:
        registry.register("s", "/object", 0, 8)

    assert "keys have to begin with '/mi' (the server's --client-shm-prefix)" in str(caught.value)


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, 65), (64, 1), (1, 64), (0, 0), (1 << 63, 1 << 63), ((1 << 64) - 1, 2)],
)
def test_a_region_lies_within_its_object(folder: Path, offset: int, size: int) -> None:
    """What reaches beyond it, or is empty, is refused, and no descriptor stays open."""
    registry = RegionRegistry(enabled=True, max_bytes=1 << 70, folder=folder)
    before = descriptors()
    with pytest.raises(InvalidRequest) as caught:
        registry.register("r", "/object", offset, size)

    assert (
        "failed to register shared memory region 'r': invalid args (the object has 64 bytes)"
    ) == str(caught.value)
    assert before == descriptors()


def test_regions_are_limited(folder: Path) -> None:
    """In number, in bytes and in the length of their names."""
    registry = RegionRegistry(enabled=True, max_regions=2, max_bytes=100, folder=folder)
    registry.register("a", "/object", 0, 64)
    for name, size, why in (
        ("b", 37, "all regions together may have 100 bytes"),
        ("", 1, "names have 1 to 255 characters"),
        ("n" * 256, 1, "names have 1 to 255 characters"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            registry.register(name, "/object", 0, size)
        assert why in str(caught.value)
    registry.register("b", "/object", 0, 36)
    with pytest.raises(InvalidRequest) as caught:
        registry.register("c", "/object", 0, 1)
    assert "there are 2 regions (the server's --max-shm-regions)" in str(caught.value)


def test_regions_leave_descriptors_to_others(folder: Path) -> None:
    """Without any left there would be no new connection, and no new worker."""
    registry = RegionRegistry(enabled=True, folder=folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(folder, os.O_RDONLY)
    os.close(free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, ((free + 1) * 4 // 3, hard))
        registry.register("a", "/object", 0, 64)
        with pytest.raises(InvalidRequest) as caught:
            registry.register("b", "/object", 0, 64)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert (
        "failed to register shared memory region 'b': invalid args (the server has too many files "
        "open to open another (ulimit -n))"
    ) == str(caught.value)
    registry.register("b", "/object", 0, 64)
    assert ["a", "b"] == [region.name for region in registry.regions()]


def test_while_off_nothing_happens(folder: Path) -> None:
    """Registering and forgetting are not supported, and the list is empty, whatever is asked."""
    registry = RegionRegistry(folder=folder)
    for call in (lambda: registry.register("r", "/object", 0, 1), registry.unregister):
        with pytest.raises(NotSupported) as caught:
            call()
        assert DISABLED == str(caught.value)
    assert ([], []) == (registry.regions(), registry.regions("r"))


# -- forgetting ---------------------------------------------------------------------------------


def test_forgetting(registry: RegionRegistry) -> None:
    """One, an unknown one, all of them; descriptors are closed."""
    registry.register("s", "/object", 0, 64)
    registry.register("t", "/object", 0, 64)
    before = descriptors()
    registry.unregister("r")
    registry.unregister("nowhere")
    assert (["s", "t"], before - 1) == ([r.name for r in registry.regions()], descriptors())
    registry.unregister("")
    assert ([], before - 3) == (registry.regions(), descriptors())


def test_a_region_in_use_stays_until_its_last_request_ended(registry: RegionRegistry) -> None:
    """It is listed and can be read by who has it; new requests do not get it."""
    used = window(registry)
    registry.unregister()

    assert bytes(range(8, 16)) == used.read()
    assert ["r"] == [region.name for region in registry.regions("r")]
    with pytest.raises(RegionNotFound):
        window(registry)
    before = descriptors()
    del used
    assert ([], before - 1) == (registry.regions(), descriptors())


def test_the_name_of_such_a_region_may_be_given_anew(registry: RegionRegistry) -> None:
    """The new one is listed."""
    used = window(registry)
    registry.unregister("r")
    registry.register("r", "/object", 0, 64)

    assert [64] == [region.size for region in registry.regions()]
    assert bytes(range(8, 16)) == used.read()


# -- windows ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "size", "text"),
    [
        (48, 1, "Invalid offset for shared memory region: 'r'"),
        (1 << 62, 1, "Invalid offset for shared memory region: 'r'"),
        (47, 2, "Invalid offset + byte size for shared memory region: 'r'"),
        (0, 1 << 62, "Invalid offset + byte size for shared memory region: 'r'"),
    ],
)
def test_a_window_lies_within_its_region(
    registry: RegionRegistry, offset: int, size: int, text: str
) -> None:
    """Also where the object goes on."""
    with pytest.raises(InvalidRequest) as caught:
        window(registry, offset, size)

    assert text == str(caught.value)


def test_an_unknown_region_has_no_windows(registry: RegionRegistry) -> None:
    """The text is the one that public clients compare."""
    with pytest.raises(RegionNotFound) as caught:
        registry.window(Location("s", 0, 1))

    assert "Unable to find shared memory region: 's'" == str(caught.value)


def test_a_shrunk_object_reads_as_zeros(registry: RegionRegistry, folder: Path) -> None:
    """What is left is read, zeros follow, nothing raises, and the window knows."""
    some = window(registry)
    os.truncate(folder / "object", 12)
    region = bytearray(b"\xff" * 8)

    some.read_into(memoryview(region))

    assert (b"\x08\x09\x0a\x0b" + bytes(4), True) == (region, some.lost)
    with pytest.raises(InvalidRequest) as caught:
        some.read()
    assert (
        "the shared memory region 'r' became shorter than the 48 bytes that were registered"
    ) == str(caught.value)


def test_a_shrunk_object_is_not_written(registry: RegionRegistry, folder: Path) -> None:
    """Writing would make it longer again, which is not the server's to do."""
    some = window(registry)
    os.truncate(folder / "object", 12)
    with pytest.raises(InvalidRequest):
        some.write(b"12345678")

    assert 12 == (folder / "object").stat().st_size


def test_what_is_written_can_be_read(registry: RegionRegistry, folder: Path) -> None:
    """It stands at the window's place in the object."""
    window(registry, 2, 4).write(b"ABCD")

    assert (bytes(range(10)), b"ABCD", 14) == (
        (data := (folder / "object").read_bytes())[:10],
        data[10:14],
        data[14],
    )


# -- the RPCs -----------------------------------------------------------------------------------


def rpc(registry: RegionRegistry, method: str, **fields: Any) -> Any:
    """Call an RPC."""
    request = pb.METHODS[method].request(**fields)
    call: Any = SharedMemoryRpcs(registry).handlers()[method](request)
    return asyncio.run(call)


def test_regions_over_the_network(registry: RegionRegistry) -> None:
    """Register, list and forget."""
    rpc(registry, "SystemSharedMemoryRegister", name="s", key="/object", offset=1, byte_size=2)
    listed = rpc(registry, "SystemSharedMemoryStatus").regions

    assert {"r": ("r", "/object", 8, 48), "s": ("s", "/object", 1, 2)} == {
        name: (r.name, r.key, r.offset, r.byte_size) for name, r in listed.items()
    }
    assert ["s"] == list(rpc(registry, "SystemSharedMemoryStatus", name="s").regions)
    rpc(registry, "SystemSharedMemoryUnregister", name="s")
    with pytest.raises(RegionNotFound) as caught:
        rpc(registry, "SystemSharedMemoryStatus", name="s")
    assert "Unable to find system shared memory region: 's'" == str(caught.value)
    rpc(registry, "SystemSharedMemoryUnregister")
    assert {} == dict(rpc(registry, "SystemSharedMemoryStatus").regions)


def test_cuda_regions_are_refused_by_name(registry: RegionRegistry) -> None:
    """There never is one, so listing and forgetting find none."""
    with pytest.raises(InvalidRequest) as caught:
        rpc(registry, "CudaSharedMemoryRegister", name="c", raw_handle=bytes(64), byte_size=4)

    assert (
        "failed to register shared memory region 'c': invalid args (CUDA regions are not supported)"
    ) == str(caught.value)
    assert {} == dict(rpc(registry, "CudaSharedMemoryStatus").regions)
    rpc(registry, "CudaSharedMemoryUnregister")
    with pytest.raises(RegionNotFound) as unknown:
        rpc(registry, "CudaSharedMemoryStatus", name="c")
    assert "Unable to find cuda shared memory region: 'c'" == str(unknown.value)


def test_while_off_the_rpcs_are_not_there(folder: Path) -> None:
    """Only the lists are, and they are empty."""
    registry = RegionRegistry(folder=folder)
    for name in ("Register", "Unregister"):
        for kind in ("System", "Cuda"):
            with pytest.raises(NotSupported) as caught:
                rpc(registry, f"{kind}SharedMemory{name}", name="r")
            assert DISABLED == str(caught.value)
    assert {} == dict(rpc(registry, "SystemSharedMemoryStatus", name="r").regions)
    assert {} == dict(rpc(registry, "CudaSharedMemoryStatus", name="r").regions)


# -- requests -----------------------------------------------------------------------------------


def placed_in(size: int, offset: int = 0, region: str = "r") -> dict[str, Any]:
    """Return the parameters of a tensor in a region."""
    given = {
        "shared_memory_region": pb.InferParameter(string_param=region),
        "shared_memory_byte_size": pb.InferParameter(int64_param=size),
    }
    if offset:
        given["shared_memory_offset"] = pb.InferParameter(int64_param=offset)
    return given


def tensor(name: str, datatype: str = "UINT8", shape: Sequence[int] = (1, 4), **fields: Any) -> Any:
    """Return an input."""
    return {"name": name, "datatype": datatype, "shape": shape, **fields}


def message(inputs: Sequence[Any], outputs: Sequence[Any] = (), raw: Sequence[bytes] = ()) -> bytes:
    """Return a serialised request."""
    request = pb.ModelInferRequest(
        model_name="m", id="7", inputs=inputs, outputs=outputs, raw_input_contents=raw
    )
    encoded: bytes = request.SerializeToString()
    return encoded


@pytest.fixture
def codec(registry: RegionRegistry) -> Codec:
    """Return a codec with the region."""
    return Codec(registry, 40)


SHARED = tensor("a", parameters=placed_in(4))


def place(*requests: Request, outputs: Sequence[int] = (0,)) -> list[Placed]:
    """Place requests of one row each."""
    order = range(len(requests[0].header.inputs))
    return [Placed(r, ModelRef("m", 1), i, 1, order, outputs) for i, r in enumerate(requests)]


def reply(codec: Codec, request: Request, *outputs: OutputTensor) -> Any:
    """Return the reply to one request, or its error."""
    placed = place(request, outputs=range(len(outputs)))
    (made,) = codec.reply(placed, BatchOutputs(outputs, 1, batched=True), [TIMING])
    return made if isinstance(made, JitneyError) else pb.ModelInferResponse.FromString(made)


def uint8(name: str, data: bytes) -> OutputTensor:
    """Return an output of one row."""
    return OutputTensor(name, DataType.UINT8, (1, len(data)), memoryview(data), None)


def test_inputs_are_gathered_from_regions_and_messages(codec: Codec) -> None:
    """Raw contents are for the inputs that are not in a region, in their order."""
    inputs = [
        SHARED,
        tensor("b"),
        tensor("c", parameters=placed_in(4, 10)),
        tensor("d"),
    ]
    request = codec.decode(message(inputs, raw=[b"bbbb", b"dddd"]), math.inf)
    plain = codec.decode(message([tensor(n) for n in "abcd"], raw=[b"1234"] * 4), math.inf)
    regions = [bytearray(8) for _ in inputs]

    codec.gather(place(plain, request), [memoryview(region) for region in regions])

    assert [4] * 4 == [len(data) for data in request.data]
    assert [b"1234\x08\x09\x0a\x0b", b"1234bbbb", b"1234\x12\x13\x14\x15", b"1234dddd"] == regions
    assert "7" == request.id


def test_requests_to_the_same_places_share_their_header(codec: Codec, folder: Path) -> None:
    """What is remembered are names; the bytes are read anew for each request."""
    encoded = message([SHARED])
    first = codec.decode(encoded, math.inf)
    (folder / "object").write_bytes(b"x" * 64)
    second = codec.decode(encoded, 1.0)

    assert first.header is second.header
    assert (math.inf, 1.0) == (first.deadline, second.deadline)
    region = bytearray(4)
    codec.gather(place(second), [memoryview(region)])
    assert b"xxxx" == region


def test_a_region_that_was_forgotten_is_not_found(codec: Codec, registry: RegionRegistry) -> None:
    """Remembered or not, a request is looked up every time."""
    codec.decode(message([SHARED]), math.inf)
    registry.unregister()
    with pytest.raises(RegionNotFound):
        codec.decode(message([SHARED]), math.inf)


def test_texts_are_read_at_once(codec: Codec) -> None:
    """Their lengths are checked and then used, so nobody may change them in between."""
    raw = struct.pack("<I", 2) + b"ab"
    codec._regions.window(Location("r", 0, 6)).write(raw)

    request = codec.decode(message([tensor("t", "BYTES", (1, 1), parameters=placed_in(6))]), 1.0)

    assert [raw] == list(request.data)


def test_texts_of_a_region_are_no_larger_than_a_message(codec: Codec) -> None:
    """They are copied before anybody asked whether there is room."""
    with pytest.raises(InvalidRequest) as caught:
        codec.decode(message([tensor("t", "BYTES", parameters=placed_in(41))]), math.inf)

    assert "input 't' for model 'm' has 41 bytes, at most 40 are allowed" == str(caught.value)


def test_all_texts_of_regions_are_no_larger_than_a_message(codec: Codec) -> None:
    """A request of a few bytes may name a region in every input, and each of them is copied."""
    inputs = [tensor(name, "BYTES", parameters=placed_in(20)) for name in ("s", "t", "u")]
    assert 2 == len(codec.decode(message(inputs[:2]), math.inf).data)
    with pytest.raises(InvalidRequest) as caught:
        codec.decode(message(inputs), math.inf)

    assert (
        "the BYTES inputs up to 'u' for model 'm' have 60 bytes, at most 40 are allowed"
    ) == str(caught.value)


def test_outputs_are_written_to_regions(codec: Codec, folder: Path) -> None:
    """The reply has their shape, place and size, and no bytes; others are in it as usual."""
    outputs = [{"name": "x"}, {"name": "y", "parameters": placed_in(8, 4)}]
    request = codec.decode(message([tensor("a")], outputs, [b"aaaa"]), math.inf)

    got = reply(codec, request, uint8("x", b"XX"), uint8("y", b"YYY"))

    expected = pb.ModelInferResponse(
        model_name="m", model_version="1", id="7", raw_output_contents=[b"XX", b""]
    )
    expected.outputs.add(name="x", datatype="UINT8", shape=[1, 2])
    expected.outputs.add(name="y", datatype="UINT8", shape=[1, 3], parameters=placed_in(3, 4))
    assert expected == got
    assert b"\x0bYYY\x0f" == (folder / "object").read_bytes()[11:16]


def test_an_output_that_does_not_fit_is_an_error_of_its_request(codec: Codec) -> None:
    """Others of the batch get their replies."""
    outputs = [{"name": "y", "parameters": placed_in(1)}]
    requests = [
        codec.decode(message([tensor("a")], outputs, [b"aaaa"]), math.inf),
        codec.decode(message([tensor("a")], (), [b"aaaa"]), math.inf),
    ]
    output = OutputTensor("y", DataType.UINT8, (2, 2), memoryview(b"1234"), None)

    error, fine = codec.reply(
        place(*requests), BatchOutputs([output], 2, batched=True), [TIMING] * 2
    )

    assert isinstance(error, InvalidRequest)
    assert (
        "shared memory size specified with the request for output 'y' (1 bytes) should be at least "
        "2 bytes to hold the results"
    ) == str(error)
    assert isinstance(fine, bytes)
    assert [b"34"] == list(pb.ModelInferResponse.FromString(fine).raw_output_contents)


def test_an_input_that_was_lost_is_an_error_of_its_request(codec: Codec, folder: Path) -> None:
    """The batch ran with zeros in its place, and the caller is told instead of answered."""
    request = codec.decode(message([SHARED]), math.inf)
    os.truncate(folder / "object", 0)
    codec.gather(place(request), [memoryview(bytearray(4))])

    assert "became shorter" in str(reply(codec, request, uint8("y", b"y")))


def test_a_call_with_further_data_is_still_in_its_regions(codec: Codec) -> None:
    """Who adds inputs to a request, as sequences do, takes its places along."""
    outputs = [{"name": "y", "parameters": placed_in(1)}]
    request = codec.decode(message([SHARED], outputs), math.inf)
    longer = request.with_data([*request.data, b"cccc"])
    regions = [bytearray(4), bytearray(4)]
    placed = [Placed(longer, ModelRef("m", 1), 0, 1, (0, 1), (0,))]

    codec.gather(placed, [memoryview(region) for region in regions])

    assert [b"\x08\x09\x0a\x0b", b"cccc"] == regions
    assert [b""] == list(reply(codec, longer, uint8("y", b"Y")).raw_output_contents)


def test_a_request_that_ended_lets_go_of_its_regions(
    codec: Codec, registry: RegionRegistry
) -> None:
    """Also while somebody still refers to the request."""
    request = codec.decode(message([SHARED], [{"name": "y", "parameters": placed_in(1)}]), 1.0)
    registry.unregister()
    assert ["r"] == [region.name for region in registry.regions()]

    request.release()

    assert ([], ()) == (registry.regions(), request.data)


REFUSED: dict[str, tuple[bytes, str]] = {
    "contents beside": (
        message([SHARED | {"contents": {}}]),
        "unexpected 'content' provided when using shared memory for input tensor 'a' for model 'm'",
    ),
    "no size": (
        message(
            [tensor("a", parameters={"shared_memory_region": placed_in(1)["shared_memory_region"]})]
        ),
        (
            "input 'a': parameter 'shared_memory_byte_size' must be given along with "
            "'shared_memory_region'"
        ),
    ),
    "no region": (
        message(
            [tensor("a", parameters={"shared_memory_offset": pb.InferParameter(int64_param=1)})]
        ),
        "input 'a': parameter 'shared_memory_offset' needs 'shared_memory_region'",
    ),
    "a region without a name": (
        message([tensor("a", parameters=placed_in(1, region=""))]),
        "input 'a': parameter 'shared_memory_region' must be the name of a region",
    ),
    "a negative offset": (
        message([], [{"name": "y", "parameters": placed_in(1, -1)}]),
        "requested output 'y': parameter 'shared_memory_offset' must be an int64, 0 or more",
    ),
    "a size in words": (
        message(
            [
                tensor(
                    "a",
                    parameters=placed_in(1)
                    | {"shared_memory_byte_size": pb.InferParameter(string_param="1")},
                )
            ]
        ),
        "input 'a': parameter 'shared_memory_byte_size' must be an int64, 0 or more",
    ),
    "raw contents for all": (
        message([SHARED, tensor("b")], raw=[b"aaaa", b"bbbb"]),
        "raw_input_contents has 2 entries for the 1 of the 2 inputs of a request for model 'm'",
    ),
    "raw contents missing": (
        message([SHARED, tensor("b")]),
        "unable to find data for input tensor 'b' for model 'm' in request.",
    ),
    "classes in a region": (
        message(
            [],
            [
                {
                    "name": "y",
                    "parameters": placed_in(1)
                    | {"classification": pb.InferParameter(int64_param=1)},
                }
            ],
        ),
        (
            "requested output 'y': 'classification' and 'shared_memory_region' exclude each other; "
            "the classes come in the reply"
        ),
    ),
}


@pytest.mark.parametrize(("encoded", "text"), REFUSED.values(), ids=REFUSED)
def test_a_request_that_breaks_a_rule_is_refused(codec: Codec, encoded: bytes, text: str) -> None:
    """Every rule of tensors in shared memory has its text."""
    with pytest.raises(InvalidRequest) as caught:
        codec.decode(encoded, math.inf)

    assert text == str(caught.value)


@pytest.mark.parametrize(
    "encoded",
    [message([SHARED]), message([], [{"name": "y", "parameters": placed_in(4)}])],
    ids=["input", "output"],
)
def test_while_off_requests_cannot_use_it(encoded: bytes) -> None:
    """NotSupported, in the words of the other RPCs."""
    with pytest.raises(NotSupported) as caught:
        Codec().decode(encoded, math.inf)

    assert DISABLED == str(caught.value)
