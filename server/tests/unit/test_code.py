"""What is found in the code of a TorchScript file by looking at its text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney.repository.code import Argument, Forward, find_cares, read_forward


@pytest.mark.parametrize(
    ("line", "operation"),
    [
        ('torch.from_file("a", False, 4)', "aten::from_file"),
        ('torch.save(x, "a")', "aten::save"),
        ("ops.aten.save(x)", "aten::save"),
        ("torch.rand([1])", "aten::rand"),
        ("torch.randn_like(x)", "aten::randn_like"),
        ("torch.dropout(x, 0.5, True)", "aten::dropout"),
        ("torch.manual_seed(1)", "aten::manual_seed"),
        ("ops.torchvision.nms(x, y, 0.5)", "torchvision::nms"),
        ('torch.device("cuda:0")', "device cuda:0"),
        ("print(x)", "print"),
    ],
)
def test_what_deserves_care_is_found(line: str, operation: str) -> None:
    """Each operation that an operator should know about is found, with the method that has it."""
    code = f"class Net(Module):\n  def forward(self: N) -> Tensor:\n    _0 = {line}\n"
    assert [(operation, "Net.forward")] == [
        (care.operation, care.where) for care in find_cares({"code/zoo.py": code})
    ]


@pytest.mark.parametrize(
    ("lines", "operations"),
    [
        ("    while True:\n      pass\n", ["while"]),
        ("    self.state = _0\n", ["self.state ="]),
        ("  def __setstate__(self: N, s: int) -> NoneType:\n    self.a = s\n", ["__setstate__"]),
        ("    for _1 in range(8):\n      pass\n", []),
        ("    _1 = torch.dropout(x, 0.5, False)\n    _2 = ops.prim.data(x)\n", []),
    ],
)
def test_methods_that_deserve_care_are_found(lines: str, operations: list[str]) -> None:
    """Loops without bound, state and code that runs at load are found; the rest is left alone."""
    code = "class Net(Module):\n  def forward(self: N) -> Tensor:\n" + lines
    assert operations == [care.operation for care in find_cares({"code/zoo.py": code})]


def test_an_operation_is_counted_and_shown_where_it_is_first() -> None:
    """Many occurrences are one line of a report, with their number."""
    method = "  def {}(self: N) -> Tensor:\n    _0 = torch.rand([1])\n    _1 = torch.rand([1])\n"
    code = "class Net(Module):\n" + method.format("first") + method.format("second")
    (care,) = find_cares({"code/zoo.py": code})
    assert ("Net.first", 4) == (care.where, care.times)


def test_forward_is_that_of_the_class() -> None:
    """Other classes of the same file have a ``forward`` of their own."""
    method = "  def forward(self: __torch__.N,\n    {}: Tensor) -> Tensor:\n    pass\n"
    code = "class {}(Module):\n" + method
    source = code.format("A", "x") + code.format("AB", "y") + code.format("B", "z")
    assert Forward((Argument("z", "Tensor", None),), "Tensor") == read_forward(source, "B")


@pytest.mark.parametrize("source", ["", "class A(Module):\n  x : int\n", "class B(Module):\n"])
def test_a_class_without_forward_has_none(source: str) -> None:
    """Where there is no such class, or no ``forward`` in it, there are no arguments to tell."""
    assert read_forward(source, "A") is None


@given(text=st.text("class A(Mo):\n def forw,[]='\"", max_size=80))
def test_any_text_can_be_searched(text: str) -> None:
    """Code that is none raises nothing: it is a report's business only."""
    source = "class A(Module):\n  def forward(self: A" + text
    find_cares({"code/a.py": source})
    assert isinstance(read_forward(source, "A"), Forward)
