"""The protocol's messages, in descriptor pools of their own.

``inference`` is the Open Inference Protocol with Triton's extensions, ``jitney_v1`` our own
services. Both are made at import from descriptors that ``protos/generate.py`` compiled.

Python keeps one default pool per process, and a symbol such as ``inference.DataType`` may be
registered in it only once. Other clients of the protocol register their copy there, so ours stay
out of it: this package can be imported beside any of them, in either order. The price is that
messages of two pools are different classes: bytes travel between them, objects do not.
"""
