"""The conformance files of ``bitstream_spec/conformance``: how they are made, and that adcgs and the reference agree.

    python -m tests.conformance          # writes them all again, the same bytes on every machine
"""
