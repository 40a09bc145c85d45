"""Scoring a file: its rows through a model, in batches, so that it can be interrupted.

A ``source`` gives tables of rows; a ``mapping`` makes a model's inputs of their columns; a
``scorer`` sends them, several requests at once, and finds the rows that a model cannot take; a
``journal`` keeps what came back, on disk and in order; a ``sink`` writes it all as one file at the
end. Nothing here knows whether the model is on a server or in this process (``Endpoint``).
"""
