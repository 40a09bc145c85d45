"""Load for a server of the protocol, and what it did under it: what ``jitney bench`` runs.

It measures from outside, as any client does, and knows no part of the server. Load comes from
processes of its own, in an open loop: all send times are drawn before the first call, and a latency
counts from the moment at which the call was to be sent (``docs/load-testing.md`` says why).
"""
