"""Attacks: commands on random sound models, damaged and hostile files, full disks, kills and signals.

    python -m tests.attack FOLDER                 # all of it; stops at any time and goes on where it was
    python -m tests.attack FOLDER --minutes 3     # a sample
    python -m tests.attack FOLDER --kind mutated-onnx --count 500

Every case follows from its kind and number alone. The journal in FOLDER has one line for each, and the summary counts
what must not be: tracebacks, crashes, hangs, wrong results, exit code 1 on sound models, lost files, memory above 2 GB.
"""
